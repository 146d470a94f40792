"""Pooled out-of-fold accuracy of a recipe: every photo is judged once, by a model that never saw it or its group.

    python benchmarks/accuracy.py ../shared/data/flowers --groups ../shared/data/flowers_groups.txt
    python benchmarks/accuracy.py ../shared/data/trash --recipe probe --json trash.json

Five folds, split seed 0. Duplicates, and the groups of a file with one group a line, stay on one side. Every choice
(L2 strength, epoch, temperature) is made on a validation part carved out of the training side of its fold.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from topwork.data.scan import Scan, scan
from topwork.data.split import folds
from topwork.evaluation.evaluate import evaluate
from topwork.measures.calibration import nll_terms
from topwork.measures.predictions import Predictions
from topwork.recipe import load_recipe
from topwork.timings import cpu_name
from topwork.workflow.fit import fit_manifest


def scan_with_groups(folder: Path, groups: Path | None) -> Scan:
    """Scan class folders; photos on one line of `groups` get one group."""
    if groups is None:
        return scan(folder)
    group_of = {}
    for number, line in enumerate(groups.read_text(encoding="utf-8").splitlines()):
        if line and not line.startswith("#"):
            group_of.update(dict.fromkeys(line.split("\t"), f"g{number}"))
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "photos.csv"
        with table.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow(["path", "label", "group", "root"])
            for path in sorted(folder.glob("*/*")):
                name = path.relative_to(folder).as_posix()
                writer.writerow([name, path.parent.name, group_of.get(name, ""), str(folder.resolve())])
        return scan(table)


def main() -> None:
    """Run every fold and print one table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--groups", type=Path)
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    recipe = load_recipe(given.recipe, given.settings)
    found = scan_with_groups(given.data, given.groups)
    pooled: list[Predictions] = []
    validated: list[float] = []  # NLL of each validation photo: what recipes may be compared by
    seconds: list[float] = []
    for number, manifest in enumerate(folds(found, k=given.folds, seed=given.seed, val_share=0.1), start=1):
        started = time.perf_counter()
        outcome = fit_manifest(recipe, manifest)
        seconds.append(round(time.perf_counter() - started, 1))
        part = outcome.predictions["test"]
        validated += nll_terms(outcome.predictions["val"]).tolist()
        pooled.append(part)
        print(f"fold {number}: accuracy {part.correct.mean():.4f} n={len(part)} in {seconds[-1]} s", flush=True)
    predictions = Predictions.pooled(pooled)
    evaluation = evaluate({"test": predictions}, seconds={})
    scores = evaluation.splits["test"]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{given.data.name}, recipe {given.recipe} {' '.join(given.settings)}".rstrip())
    for measure in ("accuracy", "macro_f1", "ece"):
        print(f"  {measure:9} {evaluation.interval('test', measure)}")
    print(f"  validation NLL, seen by choices: {np.mean(validated):.4f} n={len(validated)}")
    print(f"  seconds a fold {seconds}, peak memory {memory:.2f} GB, {cpu_name()}")
    if given.json:
        result = {"data": given.data.name, "recipe": given.recipe, "settings": given.settings, "seconds": seconds}
        numbers = {
            measure: evaluation.interval("test", measure).to_json() for measure in ("accuracy", "macro_f1", "ece")
        }
        recalls = {name: row.recall.to_json() for name, row in scores.per_class.items()}
        given.json.write_text(json.dumps(result | numbers | {"recall": recalls, "memory_gb": memory}, indent=2) + "\n")


if __name__ == "__main__":
    main()
