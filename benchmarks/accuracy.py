"""Pooled out-of-fold accuracy of recipes: every photo is judged once a seed, by a model that never saw it or its group.

    python benchmarks/accuracy.py flowers --recipe default --seeds 3
    python benchmarks/accuracy.py trash --recipe probe --recipe default --set phase2.epochs=4
    python benchmarks/accuracy.py flowers --photos-per-class 20 --folds 2 --results /tmp/check.md     (a quick check)

DATA is a folder of class folders, or the name of one in TOPWORK_TEST_DATA. Each seed deals the folds and trains. The
photos on one line of `DATA_groups.txt`, and duplicates, stay on one side. Every choice (L2 strength, epoch,
temperature) is made on a validation part carved out of the training side of its fold. A fold that was measured with the
same photos, recipe, code and package versions is read back from `--folds-file`, so an interrupted run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from photos import named_data, scan_with_groups, thinned
from results import Section, add_results_options, publish

import topwork
from topwork.cachedir import cache_folder
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan
from topwork.data.split import folds
from topwork.digest import digest, file_sha256
from topwork.evaluation.evaluate import evaluate
from topwork.measures.calibration import nll_terms
from topwork.measures.predictions import Predictions
from topwork.recipe import Recipe, load_recipe
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.provenance import versions

MEASURES = ("accuracy", "macro_f1", "ece")


class FoldLog:
    """Measured folds, a JSON line each; a line that a kill cut short is passed over.

    Args:
        path: the file; made on the first write.
        again: forget what is there: every fold is measured anew, and its last line counts.
    """

    def __init__(self, path: Path, *, again: bool = False) -> None:
        self._path = path
        self._known: dict[str, dict[str, Any]] = {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() and not again else ():
            try:
                fold = json.loads(line)
                self._known[fold["key"]] = fold
            except (ValueError, TypeError, KeyError):
                continue

    def get(self, key: str) -> dict[str, Any] | None:
        """The fold of a key, or None if it was not measured."""
        return self._known.get(key)

    def add(self, fold: dict[str, Any]) -> None:
        """Remember a fold; its `key` names it."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        torn = self._path.exists() and self._path.read_bytes()[-1:] not in (b"", b"\n")
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write("\n" * torn + json.dumps(fold, allow_nan=False) + "\n")
        self._known[fold["key"]] = fold


def code_digest() -> str:
    """Of every source file and recipe of the topwork that is imported, and of the packages that decide numbers."""
    folder = Path(topwork.__file__).parent
    files = sorted(path for kind in ("*.py", "*.toml") for path in folder.rglob(kind))
    return digest({path.relative_to(folder).as_posix(): file_sha256(path) for path in files}, versions())


def measure_fold(recipe: Recipe, manifest: Manifest, *, cold: bool) -> dict[str, Any]:
    """Train on one fold -> plain values: test predictions, validation NLL of each photo, seconds, memory."""
    kept = os.environ.get("TOPWORK_CACHE")
    with tempfile.TemporaryDirectory() as empty:
        if cold:
            os.environ["TOPWORK_CACHE"] = empty
        started = time.perf_counter()
        try:
            outcome = fit_manifest(recipe, manifest)
        finally:
            if cold:
                os.environ.pop("TOPWORK_CACHE")
                os.environ.update({"TOPWORK_CACHE": kept} if kept is not None else {})
        seconds = time.perf_counter() - started
    test = outcome.predictions["test"]
    group_of = {row.path: row.group for row in manifest.rows}
    return {
        "paths": list(test.paths),
        "labels": test.labels.tolist(),
        "logits": test.logits.tolist(),
        "classes": list(test.classes),
        "groups": [group_of[path] for path in test.paths],
        "val_nll": nll_terms(outcome.predictions["val"]).tolist(),
        "seconds": round(seconds, 1),
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


@dataclass(frozen=True, kw_only=True)
class Seed:
    """One recipe at one seed: all its folds together."""

    seed: int
    scores: dict[str, Any]
    val_nll: float
    seconds: list[float]
    peak_gb: float

    @classmethod
    def of(cls, seed: int, measured: Sequence[dict[str, Any]]) -> Seed:
        """Pool the folds of a seed."""
        parts = [
            Predictions(
                logits=np.array(fold["logits"]),
                labels=np.array(fold["labels"]),
                paths=tuple(fold["paths"]),
                classes=tuple(fold["classes"]),
            )
            for fold in measured
        ]
        groups = [group for fold in measured for group in fold["groups"]]
        evaluation = evaluate({"test": Predictions.pooled(parts)}, seconds={}, groups={"test": groups})
        return cls(
            seed=seed,
            scores={measure: evaluation.interval("test", measure) for measure in MEASURES},
            val_nll=float(np.mean([value for fold in measured for value in fold["val_nll"]])),
            seconds=[fold["seconds"] for fold in measured],
            peak_gb=max(fold["peak_gb"] for fold in measured),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        scores = {measure: interval.to_json() for measure, interval in self.scores.items()}
        return {
            "seed": self.seed,
            **scores,
            "val_nll": self.val_nll,
            "seconds_a_fold": self.seconds,
            "peak_gb": self.peak_gb,
        }


def measure_recipe(given: argparse.Namespace, name: str, *, found: Scan, log: FoldLog) -> list[Seed]:
    """Every seed and fold of one recipe; folds that are known are not run."""
    code = code_digest()
    seeds = []
    for seed in range(given.seeds):
        recipe = load_recipe(name, given.settings).replace({"data.seed": seed})
        measured = []
        for number, manifest in enumerate(folds(found, k=given.folds, seed=seed, val_share=0.1), start=1):
            rows = [[row.sha256, row.label, row.split] for row in manifest.rows]
            key = digest(rows, recipe.to_toml(), code, given.cold)
            fold = log.get(key)
            if known := fold is not None:
                measured.append(fold)
            else:
                measured.append({"key": key, **measure_fold(recipe, manifest, cold=given.cold)})
                log.add(measured[-1])
            last = measured[-1]
            share = np.mean(np.argmax(last["logits"], axis=1) == np.array(last["labels"]))
            print(
                f"{name}, seed {seed}, fold {number}: accuracy {share:.4f} n={len(last['labels'])} in "
                f"{last['seconds']} s{', measured earlier' if known else ''}",
                flush=True,
            )
        seeds.append(Seed.of(seed, measured))
    return seeds


def rows_of(name: str, seeds: Sequence[Seed]) -> list[list[str]]:
    """A row a seed, and one for the spread over seeds."""
    rows = [
        [
            name,
            str(one.seed),
            *(str(one.scores[measure]) for measure in MEASURES),
            f"{one.val_nll:.4f}",
            f"{statistics.median(one.seconds):.0f} ({min(one.seconds):.0f} to {max(one.seconds):.0f})",
        ]
        for one in seeds
    ]
    if len(seeds) > 1:
        spread = []
        for measure in MEASURES:
            values = [one.scores[measure].value for one in seeds]
            spread.append(f"{statistics.mean(values):.4f}, deviation {statistics.stdev(values):.4f}")
        rows.append([name, "all", *spread, f"{statistics.mean(one.val_nll for one in seeds):.4f}", ""])
    return rows


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or the name of a data set in TOPWORK_TEST_DATA")
    parser.add_argument("--groups", type=Path, help="default: DATA_groups.txt where it exists")
    parser.add_argument("--recipe", dest="recipes", action="append", help="may be given several times")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="seeds 0, 1, ... up to this many")
    parser.add_argument("--photos-per-class", type=int, help="for a quick check")
    parser.add_argument("--cold", action="store_true", help="every fold starts with an empty cache")
    parser.add_argument("--again", action="store_true", help="measure every fold anew")
    parser.add_argument("--folds-file", type=Path, default=cache_folder() / "benchmarks" / "accuracy.jsonl")
    add_results_options(parser)
    return parser.parse_args()


def main() -> None:
    """Run every recipe, seed and fold; print one table."""
    given = options()
    recipes = given.recipes or ["default"]
    folder = named_data(given.data)
    found = thinned(scan_with_groups(folder, given.groups), given.photos_per_class)
    log = FoldLog(given.folds_file, again=given.again)
    measured = {name: measure_recipe(given, name, found=found, log=log) for name in recipes}
    photos = len(found.records)
    peak = max(one.peak_gb for seeds in measured.values() for one in seeds)
    cache = "with an empty cache in every fold" if given.cold else "with what earlier folds and runs left in the cache"
    section = Section(
        name=f"accuracy-{folder.name.lower()}",
        title=f"Accuracy: {folder.name}, {photos} photos, pooled over {given.folds} folds",
        columns=["recipe", "seed", "accuracy", "macro-F1", "ECE", "validation NLL", "seconds a fold"],
        rows=[row for name, seeds in measured.items() for row in rows_of(Path(name).stem, seeds)],
        notes=[
            "Intervals are 95 % (Wilson, or the bootstrap over groups where photos come in groups).",
            "Seconds: median and range over folds, without scanning and reporting, " + cache + ".",
            f"Peak memory of the process {peak:.2f} GB."
            + (f" Settings: {' '.join(given.settings)}." if given.settings else ""),
        ],
        data={
            "data": folder.name,
            "photos": photos,
            "folds": given.folds,
            "settings": given.settings,
            "recipes": {name: [one.to_json() for one in seeds] for name, seeds in measured.items()},
        },
    )
    publish(section, given)


if __name__ == "__main__":
    main()
