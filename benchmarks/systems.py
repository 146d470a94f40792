"""Known systems and the strategies behind them, in one table: what was reported, what topwork reaches, in how long.

    TOPWORK_WEIGHTS=../shared/weights python benchmarks/systems.py
    TOPWORK_WEIGHTS=../shared/weights python benchmarks/systems.py --only flowers-mobilenetv2-160 --only baseline-cnn
    python benchmarks/systems.py --photos-per-class 12 --folds 2 --set phase2.epochs=1 --results /tmp/check.md

Figures are pooled over folds, photos that belong together on one side, every choice made on a validation part inside
the training side. A fold that was measured with the same photos, recipe, code and package versions is read back from
`--folds-file`: a run that was interrupted, or limited by `--only`, goes on where it stopped.

A network whose weights are not on this machine runs its recipe in full on drawn flowers from random weights, and its
row says so instead of a figure; its strategy is measured on MobileNetV2 and EfficientNet-Lite0. "Blocks or layers?" is
answered by the paired tests of `topwork compare`, on the same photos.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import FoldLog, code_digest, measure_fold
from photos import named_data, scan_with_groups, thinned
from results import Section, add_results_options, publish

from topwork.cachedir import cache_folder
from topwork.data.drawn import write_drawn_flowers
from topwork.data.scan import Scan, scan
from topwork.data.split import folds, split
from topwork.digest import digest
from topwork.errors import WeightsError
from topwork.evaluation.evaluate import evaluate
from topwork.evaluation.scores import Evaluation
from topwork.measures.compare import LEVEL, PairedTest, holm, paired_test
from topwork.measures.predictions import Predictions
from topwork.models.backbone import locate
from topwork.models.weights import find_weights
from topwork.recipe import Recipe, load_recipe, split_shares
from topwork.workflow.fit_manifest import fit_manifest

V2 = ("backbone.name=mobilenetv2_100",)
LITE0 = ("backbone.name=efficientnet_lite0", "backbone.weights=packaged")
NOT_MEASURED = "not measured: weights"


@dataclass(frozen=True, kw_only=True)
class System:
    """One row.

    Args:
        name: of the row.
        recipe: that ships with topwork.
        data: name of a folder of photos.
        reported: what its authors said.
        settings: that differ from the recipe.
    """

    name: str
    recipe: str
    reported: str
    data: str = "flowers"
    settings: tuple[str, ...] = ()


def on_other_networks(recipe: str, what: str) -> list[System]:
    """The strategy of a recipe whose weights may be missing, on the two networks that are there."""
    named = {"MobileNetV2": V2, "Lite0": LITE0}
    return [
        System(name=f"{recipe}, on {network}", recipe=recipe, reported=f"strategy: {what}", settings=settings)
        for network, settings in named.items()
    ]


SYSTEMS = (
    System(name="flowers-resnet50-layers", recipe="flowers-resnet50-layers", reported="0.90"),
    System(name="flowers-resnet50-blocks", recipe="flowers-resnet50-blocks", reported="0.88, unstable"),
    System(name="flowers-resnet50-256", recipe="flowers-resnet50-256", reported="above 0.68"),
    System(name="flowers-resnet34-onecycle", recipe="flowers-resnet34-onecycle", reported="0.947, validation"),
    *on_other_networks("flowers-resnet50-layers", "layers"),
    *on_other_networks("flowers-resnet50-blocks", "blocks"),
    *on_other_networks("flowers-resnet50-256", "top 50 layers"),
    *on_other_networks("flowers-resnet34-onecycle", "all, one-cycle"),
    System(name="flowers-mobilenetv2-layers", recipe="flowers-mobilenetv2-layers", reported="0.70"),
    System(name="flowers-mobilenetv2-blocks", recipe="flowers-mobilenetv2-blocks", reported="0.70"),
    System(name="flowers-mobilenetv2-160", recipe="flowers-mobilenetv2-160", reported="0.70"),
    System(name="baseline-cnn", recipe="baseline-cnn", reported="0.68 at 224 px", settings=("data.image_size=64",)),
    System(name="resnet9-scratch", recipe="resnet9-scratch", reported="0.82"),
    System(name="own-photos-mobilenet", recipe="own-photos-mobilenet", reported="0.74", data="trash"),
    System(
        name="own photos, baseline-cnn",
        recipe="baseline-cnn",
        reported="0.65",
        data="trash",
        settings=("data.image_size=64",),
    ),
)

PAIRS = (
    ("flowers-mobilenetv2-blocks", "flowers-mobilenetv2-layers"),
    ("flowers-resnet50-blocks, on MobileNetV2", "flowers-resnet50-layers, on MobileNetV2"),
    ("flowers-resnet50-blocks, on Lite0", "flowers-resnet50-layers, on Lite0"),
)
"""Blocks, layers."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Measured:
    """A row's result, or only the seconds of a run that shows that it runs.

    Args:
        system: the row.
        seconds: all folds together.
        evaluation: of the pooled predictions.
        right: path -> whether the model that never saw the photo named its class.
        fold_of: path -> the fold that judged it, from 0.
        group_of: path -> what belongs together.
    """

    system: System
    seconds: float
    evaluation: Evaluation | None = None
    right: Mapping[str, bool] = field(default_factory=dict)
    fold_of: Mapping[str, int] = field(default_factory=dict)
    group_of: Mapping[str, str] = field(default_factory=dict)

    def row(self) -> list[str]:
        """Cells of the table."""
        if self.evaluation is None:
            figure, f1, weakest = NOT_MEASURED, "", "ran on drawn flowers, random weights"
        else:
            scores = self.evaluation.splits["test"]
            name = min(scores.per_class, key=lambda label: scores.per_class[label].recall.value)
            figure, f1 = str(scores.accuracy), f"{scores.macro_f1.value:.3f}"
            weakest = f"{name} {scores.per_class[name].recall}"
        return [self.system.name, self.system.reported, figure, f1, weakest, f"{self.seconds:.0f}"]


def recipe_of(system: System, settings: Sequence[str]) -> Recipe:
    """The row's recipe; `settings` come last."""
    return load_recipe(system.recipe, [*system.settings, *settings])


def has_weights(recipe: Recipe) -> bool:
    """Whether a run could begin without a download; random weights on purpose count."""
    try:
        source = find_weights(recipe.backbone.name, recipe.backbone.weights)
        if source.kind == "hub":
            locate(find_weights(recipe.backbone.name, "packaged"))  # which never downloads
    except WeightsError:
        return False
    return True


def shown_to_run(system: System, recipe: Recipe, *, per_class: int) -> Measured:
    """The whole recipe on drawn flowers, from random weights."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_drawn_flowers(Path(temporary) / "flowers", n_per_class=per_class, size=256, seed=0, masks=False)
        found = scan(folder)
        plain = recipe.replace({"backbone.weights": "none"})
        outcome = fit_manifest(plain, split(found, shares=split_shares(recipe.data.split), seed=0))
    assert outcome.trained.classifier.backbone.provenance.kind == "none"
    return Measured(system=system, seconds=time.perf_counter() - started)


def measure(system: System, recipe: Recipe, *, found: Scan, k: int, log: FoldLog) -> Measured:
    """Every fold of a row; those that are known are not run."""
    code, measured = code_digest(), []
    train, val, _ = split_shares(recipe.data.split)
    for number, manifest in enumerate(folds(found, k=k, seed=0, val_share=val / (train + val)), start=1):
        key = digest([[row.sha256, row.label, row.split] for row in manifest.rows], recipe.to_toml(), code)
        fold = log.get(key)
        if fold is None:
            fold = {"key": key, "system": system.name, **measure_fold(recipe, manifest, cold=False)}
            log.add(fold)
        measured.append(fold)
        right = np.mean(np.argmax(fold["logits"], axis=1) == np.array(fold["labels"]))
        print(f"{system.name}, fold {number}: accuracy {right:.4f} in {fold['seconds']} s", flush=True)
    return pooled(system, measured)


def pooled(system: System, measured: Sequence[dict[str, Any]]) -> Measured:
    """All folds of a row as one set of predictions."""
    predictions = Predictions.pooled(
        [
            Predictions(
                logits=np.array(fold["logits"]),
                labels=np.array(fold["labels"]),
                paths=tuple(fold["paths"]),
                classes=tuple(fold["classes"]),
            )
            for fold in measured
        ]
    )
    groups = [group for fold in measured for group in fold["groups"]]
    return Measured(
        system=system,
        seconds=sum(fold["seconds"] for fold in measured),
        evaluation=evaluate({"test": predictions}, seconds={}, groups={"test": groups}),
        right=dict(zip(predictions.paths, predictions.correct.tolist(), strict=True)),
        fold_of={path: number for number, fold in enumerate(measured) for path in fold["paths"]},
        group_of=dict(zip(predictions.paths, groups, strict=True)),
    )


def blocks_or_layers(measured: Mapping[str, Measured]) -> list[str]:
    """A sentence for each pair that was measured on the same photos; p values are Holm's, over all pairs."""
    pairs = [pair for pair in PAIRS if all(name in measured and measured[name].right for name in pair)]
    tests = [compared(*(measured[name] for name in pair)) for pair in pairs]
    sentences = []
    for (blocks, layers), test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True):
        better = "no difference shown" if p > LEVEL else f"{'layers' if test.difference > 0 else 'blocks'} are better"
        sentences.append(
            f"Blocks or layers? {blocks} against {layers}: {test.only_first} photos right by blocks alone, "
            f"{test.only_second} by layers alone, layers minus blocks {100 * test.difference:+.1f} points, exact "
            f"McNemar p = {test.mcnemar:.3f}, with photos in groups and Holm's correction p = {p:.3f}, "
            f"n = {len(measured[blocks].right)}: {better}. One seed each, so seed noise is not in it."
        )
    return sentences


def compared(first: Measured, second: Measured) -> PairedTest:
    """The paired test of `topwork compare`, on photos that both judged."""
    paths = sorted(first.right)
    flags = [np.array([[one.right[path] for path in paths]]) for one in (first, second)]
    folds_of = np.array([first.fold_of[path] for path in paths])
    return paired_test(*flags, folds=folds_of, groups=[first.group_of[path] for path in paths])


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--only", action="append", choices=names, metavar="NAME", help=f"of {'; '.join(names)}")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE", help="of every row")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--photos-per-class", type=int, help="for a quick check")
    parser.add_argument("--drawn-per-class", type=int, default=20, help="photos of runs without weights")
    parser.add_argument("--again", action="store_true", help="measure every fold anew")
    parser.add_argument("--folds-file", type=Path, default=cache_folder() / "benchmarks" / "systems.jsonl")
    add_results_options(parser)
    return parser.parse_args()


def main() -> None:
    """Measure every row, print one table."""
    given = options()
    log = FoldLog(given.folds_file, again=given.again)
    scans: dict[str, Scan] = {}
    measured: dict[str, Measured] = {}
    for system in SYSTEMS:
        if given.only and system.name not in given.only:
            continue
        recipe = recipe_of(system, given.settings)
        if not has_weights(recipe):
            measured[system.name] = shown_to_run(system, recipe, per_class=given.drawn_per_class)
            print(f"{system.name}: {NOT_MEASURED}; ran in {measured[system.name].seconds:.0f} s", flush=True)
            continue
        if system.data not in scans:
            scans[system.data] = thinned(scan_with_groups(named_data(system.data), None), given.photos_per_class)
        measured[system.name] = measure(system, recipe, found=scans[system.data], k=given.folds, log=log)
    rows = [one.row() for one in measured.values()]
    section = Section(
        name="systems",
        title=f"Known systems, pooled over {given.folds} folds",
        columns=["recipe", "reported", "accuracy", "macro-F1", "weakest class, its recall", "seconds in all"],
        rows=rows,
        notes=[
            *blocks_or_layers(measured),
            "Reported figures are of other splits, some of them seen by choices. Seconds: all folds together, with "
            "what earlier rows left in the cache.",
            *([f"Settings: {' '.join(given.settings)}."] if given.settings else []),
        ],
        data={"systems": {name: one.row() for name, one in measured.items()}, "settings": given.settings},
    )
    publish(section, given)


if __name__ == "__main__":
    main()
