"""`Entry`, `Round`: one model of a comparison on one fold with one seed, stored as a run so that it is made only once.

A round's folder is a run folder: recipe, history, predictions and provenance, and a bundle for the first fold and seed.
It appears whole or not at all; its provenance holds a key, the digest of all that decides its numbers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from topwork.atomic import write_text
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan
from topwork.digest import digest
from topwork.errors import RecipeError, TopworkError, WeightsError
from topwork.measures.predictions import Predictions, predictions_csv
from topwork.models.probe import backbone_identity
from topwork.progress import Progress
from topwork.recipe import Recipe
from topwork.workflow.draft import draft_run
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.journal import Journal
from topwork.workflow.outcome import provenance_of, write_model
from topwork.workflow.prepare import network_for
from topwork.workflow.provenance import now
from topwork.workflow.rundir import RunDir

__all__ = ["Entry", "Round", "RoundPlan", "read_round", "run_round"]

_VERSION = 1  # bump when the same recipe and photos would give other predictions
_TIMED = 24  # photos that a model is timed on, after as many that warm it up


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model of a comparison.

    Args:
        name: unique; a file name too.
        recipe: the choices; for a baseline those of the network whose features it may use.
        kind: a baseline that is no recipe is made by `topwork.workflow.ladder`.
    """

    name: str
    recipe: Recipe
    kind: Literal["recipe", "baseline"] = "recipe"

    @property
    def frozen(self) -> bool:
        """Whether nothing below the head trains."""
        phases = (self.recipe.phase1, self.recipe.phase2)
        return all(not phase.epochs or phase.train in ("head", "none") for phase in phases)

    @property
    def probes(self) -> bool:
        """Whether it solves a linear head, a convex problem, on clean views of frozen features."""
        first, views = self.recipe.phase1, self.recipe.data.views
        cached = views.startswith("fixed:") and views != "fixed:0"
        drawn = first.views == "augmented" or (first.views == "auto" and cached)
        return self.frozen and self.recipe.head.kind == "linear" and first.optimizer == "lbfgs" and not drawn

    def seedless(self, photos: int) -> bool:
        """Whether no seed can change its predictions: a problem with one solution, on features that are not random.

        Args:
            photos: that a round learns from, at most; of more than its landmarks a kernel head draws some.
        """
        head = self.recipe.head
        stores_all = self.frozen and head.kind == "kernel" and photos <= head.landmarks
        solved = self.probes or stores_all
        return self.kind == "baseline" or (solved and self.recipe.backbone.weights != "none")

    def check(self) -> None:
        """Refuse what its first round would refuse, before the hours of others. Trains nothing.

        Raises:
            RecipeError, WeightsError: if the recipe cannot be carried out; they name it.
        """
        try:
            network_for(self.recipe).request()  # which finds the weights
        except (RecipeError, WeightsError) as error:
            raise type(error)(f"Recipe {self.name}: {error.what}", fix=error.fix) from None


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """Which round, and where it is kept.

    Args:
        entry: the model.
        manifest: the fold: its test part is judged.
        fold, seed: from 0; the seed is added to the recipe's, and the split does not depend on it.
        folder: of the comparison.
    """

    entry: Entry
    manifest: Manifest
    fold: int
    seed: int
    folder: Path

    @property
    def path(self) -> Path:
        """The round's folder."""
        return self.folder / "results" / self.entry.name / f"fold-{self.fold + 1}-seed-{self.seed}"

    @property
    def recipe(self) -> Recipe:
        """The recipe with this round's seed: of random weights, order of photos, augmentation, dropout and mixing."""
        return self.entry.recipe.replace({"data.seed": self.entry.recipe.data.seed + self.seed})

    @cached_property
    def key(self) -> str:
        """Digest of all that decides the round's numbers."""
        recipe = self.recipe
        of, data = recipe.backbone, recipe.data
        rows = [[row.sha256, row.label, row.split] for row in self.manifest.rows]
        name = self.entry.name if self.entry.kind == "baseline" else ""
        # A recipe only names its weights; a file of that name may hold others by now.
        network = backbone_identity(of.name, of.weights, image_size=data.image_size, crop=data.crop, seed=data.seed)
        return digest(_VERSION, name, recipe.to_toml(), network, rows)

    @property
    def ships(self) -> bool:
        """Whether its model is kept: one of each recipe, for its size, its speed and photos from elsewhere."""
        return self.fold == 0 and self.seed == 0 and self.entry.kind == "recipe"


@dataclass(frozen=True, kw_only=True, eq=False)
class Round:
    """A finished round.

    Args:
        path: its folder.
        predictions: of the fold's test part, temperature applied.
        history: lines of `history.jsonl`.
        facts: `seconds`, `trunk_seconds`, `train_accuracy`, `choice`, and for the shipped one `model_mb`, `ms_a_photo`.
    """

    path: Path
    predictions: Predictions
    history: Sequence[Mapping[str, Any]]
    facts: Mapping[str, Any]


def read_round(plan: RoundPlan) -> Round | None:
    """The stored round; None if there is none, it is damaged, or photos, their names or choices were others then."""
    run = RunDir(plan.path)
    try:
        facts = run.provenance()["round"]
        if facts["key"] != plan.key:
            return None
        predictions, history = run.predictions()["test"], run.history()
    except (TopworkError, OSError, KeyError, TypeError, ValueError):
        return None
    if predictions.paths != tuple(row.path for row in plan.manifest.part("test")):
        return None
    return Round(path=plan.path, predictions=predictions, history=history, facts=facts)


def run_round(plan: RoundPlan, found: Scan, *, progress: Progress) -> None:
    """Train a recipe on a fold and store what it says about the test part.

    Args:
        plan: a recipe's round.
        found: the photos.
        progress: told how far it is.

    Raises:
        TopworkError: if the recipe, the weights or the machine do not allow it; nothing is left behind.
    """
    recipe, manifest = plan.recipe, plan.manifest
    started = time.perf_counter()
    with draft_run(plan.path) as run:
        run.write_recipe(recipe)
        manifest.write_csv(run.manifest_file)
        outcome = fit_manifest(recipe, manifest, journal=Journal(run), progress=progress)
        predictions = outcome.predictions
        facts: dict[str, Any] = {
            "key": plan.key,
            "seconds": round(time.perf_counter() - started, 2),
            "trunk_seconds": round(outcome.extractor.work.seconds, 2),
            "train_accuracy": float(predictions["train"].correct.mean()),
            "choice": "",
        }
        judged = {part: said for part, said in predictions.items() if part != "train"}
        write_text(run.predictions_file, predictions_csv(judged))
        provenance = provenance_of(outcome, found, manifest=manifest)
        provenance |= {"finished": now(), "recipe_name": plan.entry.name}
        if plan.ships:
            write_model(run, outcome, provenance=provenance)
            facts |= _measured(run, manifest)
        run.write_provenance(provenance | {"round": facts})


def _measured(run: RunDir, manifest: Manifest) -> dict[str, float]:
    """Size of the bundle, and milliseconds a photo as `predict` takes them, reading included."""
    from topwork.exports.predictor import Predictor

    paths = manifest.paths(manifest.part("test"))[: 2 * _TIMED]
    predictor = Predictor.load(run.model_folder, photos=len(paths))
    half = max(1, len(paths) // 2)
    list(predictor.predict(paths[:half]))
    started = time.perf_counter()
    list(predictor.predict(paths[-half:]))
    milliseconds = (time.perf_counter() - started) / half * 1000
    size = sum(path.stat().st_size for path in run.model_folder.iterdir())
    return {"model_mb": round(size / 1e6, 2), "ms_a_photo": round(milliseconds, 2)}
