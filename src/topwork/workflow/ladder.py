"""`Ladder`: the baselines of a comparison, on the folds of the recipes. Stores its rounds as recipes' are stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.atomic import write_text
from topwork.data.manifest import Manifest
from topwork.measures.calibration import fit_temperature
from topwork.measures.predictions import Predictions, predictions_csv
from topwork.progress import Progress
from topwork.recipe import Phase, Recipe, load_recipe
from topwork.training.baselines import (
    Fitted,
    Labels,
    colour_histograms,
    fit_histogram,
    fit_majority,
    fit_neighbours,
)
from topwork.workflow.cached_views import items_of
from topwork.workflow.draft import draft_run
from topwork.workflow.prepare import extractor_for, network_for
from topwork.workflow.rounds import Entry, RoundPlan

__all__ = ["PROBE", "Ladder", "ladder_entries"]

_Floats = npt.NDArray[np.float64]
_Fit = Callable[[_Floats, Labels], Fitted]

PROBE = "probe"
"""Name of the linear probe, the packaged recipe and the last rung."""

_RUNGS: dict[str, tuple[str, _Fit]] = {
    "majority class": ("nothing", fit_majority),
    "colour histogram": ("colours", fit_histogram),
    "nearest neighbours": ("features", fit_neighbours),
}


def ladder_entries(recipes: Sequence[Entry]) -> list[Entry]:
    """The rungs below the recipes; the linear probe only where no recipe is the same.

    Features are those of the first recipe whose network is pretrained, at its image size.

    Args:
        recipes: at least one.
    """
    of = next((entry.recipe for entry in recipes if entry.recipe.backbone.weights != "none"), recipes[0].recipe)
    probe = load_recipe(PROBE)
    probe = probe.model_copy(update={"backbone": of.backbone, "engine": of.engine})
    data = {f"data.{key}": getattr(of.data, key) for key in ("image_size", "crop", "split", "seed")}
    probe = probe.replace({**data, "data.views": "fixed:0"})
    rungs = [Entry(name=name, recipe=probe, kind="baseline") for name in _RUNGS]
    if any(_is_probe(entry.recipe, probe) for entry in recipes):
        return rungs
    taken = {entry.name for entry in recipes}
    return [*rungs, Entry(name=PROBE if PROBE not in taken else f"{PROBE} (ladder)", recipe=probe)]


def _is_probe(recipe: Recipe, probe: Recipe) -> bool:
    """Whether a recipe solves a linear head on the same features, whatever its smoothing and unused choices."""
    mine, theirs = ((of.backbone, of.data.image_size, of.data.crop, of.data.mirror) for of in (recipe, probe))
    solved: Phase = recipe.phase1
    probes = Entry(name="", recipe=recipe).probes and not recipe.head.hidden
    return mine == theirs and probes and solved.weight_decay is None


class Ladder:
    """Makes the rounds of baselines; what they learn from is computed once, when first needed.

    Args:
        manifest: any fold: all of them hold the same photos in the same order.
        progress: told how far it is.
    """

    def __init__(self, manifest: Manifest, *, progress: Progress) -> None:
        self._manifest = manifest
        self._progress = progress
        self._known: dict[str, _Floats] = {}

    def run_round(self, plan: RoundPlan) -> None:
        """Learn on one fold and store what is said about its test part."""
        what, fit = _RUNGS[plan.entry.name]
        features = self._features(what, plan.entry.recipe)
        manifest = plan.manifest
        number = {name: position for position, name in enumerate(manifest.classes)}
        labels = np.array([number[row.label] for row in manifest.rows], dtype=np.int64)
        parts = np.array([row.split for row in manifest.rows])
        where = {part: np.flatnonzero(parts == part) for part in ("train", "val", "test")}
        started = time.perf_counter()
        known = Labels(train=where["train"], val=where["val"], labels=labels, classes=len(number))
        fitted = fit(features, known)
        seconds = time.perf_counter() - started
        said = {part: _said(fitted.logits, manifest, at=at, labels=labels) for part, at in where.items() if len(at)}
        if "val" in said and what != "nothing":
            temperature = fit_temperature(said["val"])
            said = {part: each.at_temperature(temperature) for part, each in said.items()}
        facts = {
            "key": plan.key,
            "seconds": round(seconds, 2),
            "trunk_seconds": 0.0,
            "train_accuracy": float(said["train"].correct.mean()),
            "choice": fitted.choice,
            "model_mb": round(fitted.numbers * 4 / 1e6, 2),
            "ms_a_photo": None,
        }
        _store(plan, {part: said[part] for part in ("val", "test") if part in said}, facts=facts)

    def _features(self, what: str, recipe: Recipe) -> _Floats:
        if what not in self._known:
            self._known[what] = self._computed(what, recipe)
        return self._known[what]

    def _computed(self, what: str, recipe: Recipe) -> _Floats:
        rows = self._manifest.rows
        if what == "nothing":
            return np.zeros((len(rows), 1))
        if what == "colours":
            return colour_histograms(self._manifest.paths(rows), progress=self._progress)
        extractor = extractor_for(recipe, network_for(recipe), progress=self._progress)
        pooled, _ = extractor.extract(items_of(self._manifest, rows), augment=None, activations=False)
        return pooled.read([(row.sha256, 0) for row in rows]).astype(np.float64)


def _said(
    logits: _Floats, manifest: Manifest, *, at: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]
) -> Predictions:
    paths = tuple(manifest.rows[int(position)].path for position in at)
    return Predictions(logits=logits[at], labels=labels[at], paths=paths, classes=manifest.classes)


def _store(plan: RoundPlan, judged: Mapping[str, Predictions], *, facts: Mapping[str, Any]) -> Path:
    with draft_run(plan.path) as run:
        run.write_recipe(plan.recipe)
        write_text(run.predictions_file, predictions_csv(judged))
        run.write_provenance({"round": dict(facts)})
    return plan.path
