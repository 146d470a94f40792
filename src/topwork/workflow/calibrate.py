"""How fast this machine is: a few batches of the real work, timed -> the rates that a plan is made from."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from topwork.data.batches import read_batches
from topwork.data.manifest import Manifest
from topwork.progress import Progress
from topwork.recipe import Recipe
from topwork.training.extraction import Extractor
from topwork.workflow.budget import Rates, Rung
from topwork.workflow.cached_views import (
    MOST_VIEWS,
    clean_items,
    items_of,
    missing_views,
    most_views,
    views_that_fit,
)
from topwork.workflow.prepare import Network, extractor_for, plan_of
from topwork.workflow.training_speed import activation_shape, head_seconds, top_seconds

__all__ = ["Candidate", "calibrate", "candidates_of", "yardstick"]

_TIMED_ROWS = 128  # of the trunk: two batches of real photos
_OPEN_SECONDS = 12.0  # to export, check and tune another trunk on the machine that YARD was measured on
_KERNEL_SECONDS = (
    1e-10  # of one row and one entry of the matrix between landmarks, in float64 on the yardstick's machine
)
_YARD = 0.06  # seconds of the yardstick where the constants in this file were measured


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """One thing that may train: the recipe for it, its network and its trunk.

    Args:
        recipe: with that choice of `phase2.train`.
        network: with the plan of it, sharing one backbone with the other candidates.
        extractor: with the trunk that ends below it.
        depth: how many blocks train.
    """

    recipe: Recipe
    network: Network
    extractor: Extractor
    depth: int


def candidates_of(recipe: Recipe, network: Network, *, progress: Progress) -> list[Candidate]:
    """What a plan may choose from: the recipe's own choice, fewer blocks where it counts blocks, and the head alone."""
    found = []
    for train, depth in _choices(recipe) if network.plan is not None else []:
        phase = recipe.phase2.model_copy(update={"train": train})
        found.append((recipe.model_copy(update={"phase2": phase}), plan_of(network, phase, number=2), depth))
    head_only = recipe.phase2.model_copy(update={"epochs": 0})
    found.append((recipe.model_copy(update={"phase2": head_only}), None, 0))
    candidates = []
    for choice, plan, depth in found:
        mine = replace(network, plan=plan)
        extractor = extractor_for(choice, mine, progress=progress)
        candidates.append(Candidate(recipe=choice, network=mine, extractor=extractor, depth=depth))
    return candidates


def calibrate(candidates: Sequence[Candidate], manifest: Manifest) -> tuple[list[Rung], Rates]:
    """Time a few batches of each stage; rows of the trunk that are computed for it stay in the cache.

    Returns:
        A rung for each candidate, and the rates.
    """
    slow = yardstick() / _YARD
    opened, trunk = _trunk_speed(candidates[0], manifest)
    rungs = []
    for candidate in candidates:
        other = candidate is not candidates[0]
        rungs.append(_rung(candidate, manifest, opening=max(opened, _OPEN_SECONDS * slow) if other else 0.0))
    fresh = _fresh_speed(candidates[0], manifest) if rungs[0].fresh else None
    recipe, network, photos = candidates[0].recipe, candidates[0].network, len(manifest.part("train"))
    views = 2 if recipe.data.mirror else 1
    judged, everything = views * (len(manifest.part("val")) or photos), views * len(manifest.rows)
    solved = recipe.phase1.optimizer == "lbfgs"
    fixed = {
        "evaluate": slow * (0.5 + 4e-4 * everything),
        "pack": slow * 0.5,
        "report": slow * (3.0 + 4e-4 * everything + 0.05 * len(manifest.classes)),
    }
    if recipe.head.kind == "kernel":
        fixed["kernel head"] = slow * (0.5 + _KERNEL_SECONDS * views * photos * min(photos, recipe.head.landmarks) ** 2)
    return rungs, Rates(
        trunk=trunk,
        fresh=fresh,
        photos=photos,
        judged=judged,
        everything=everything,
        head=head_seconds(recipe, network, photos=photos, judged=judged, classes=len(manifest.classes)),
        head_epochs=1 if solved else recipe.phase1.epochs,
        fixed=fixed,
    )


def yardstick() -> float:
    """Seconds of a fixed small piece of work in Python and NumPy, the median of three."""
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        matrix = np.random.default_rng(0).standard_normal((400, 400))
        for _ in range(6):
            matrix @ matrix
        sum(number * number % 7 for number in range(300_000))
        sorted(map(str, range(30_000)))
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def _choices(recipe: Recipe) -> list[tuple[str | tuple[str, ...], int]]:
    train = recipe.phase2.train
    blocks = re.fullmatch(r"top-(\d+) blocks?", train) if isinstance(train, str) else None
    if blocks is None:
        return [(train, 1)]
    most = int(blocks[1])
    return [(f"top-{count} blocks", count) for count in sorted({most, max(1, most // 2), 1}, reverse=True)]


def _trunk_speed(candidate: Candidate, manifest: Manifest) -> tuple[float, float]:
    """Seconds to open the trunk, and rows a second; infinite where every row is cached."""
    extractor, wanted = candidate.extractor, candidate.network.plan is not None
    missing = extractor.missing(clean_items(candidate.recipe, manifest), augment=None, activations=wanted)
    augment = None
    if not missing and wanted and not _fresh(candidate):
        augment = candidate.recipe.data.augment
        views = range(1, len(_views(candidate, manifest)) + 1)
        missing = extractor.missing(
            items_of(manifest, manifest.part("train"), views=views), augment=augment, activations=wanted
        )
    if not missing:
        return 0.0, float("inf")
    started = time.perf_counter()
    extractor.open(missing)
    opened = time.perf_counter() - started
    before = extractor.work.computed, extractor.work.seconds
    step = max(1, len(missing) // _TIMED_ROWS)  # spread over the classes, whose photos may differ in size
    extractor.extract(missing[::step][:_TIMED_ROWS], augment=augment, activations=wanted)
    rows, seconds = extractor.work.computed - before[0], extractor.work.seconds - before[1]
    return opened, max(rows, 1) / max(seconds, 1e-6)


def _fresh(candidate: Candidate) -> bool:
    """Whether every epoch draws its views anew: as asked, or because everything trains and they are cheap beside it."""
    views, plan = candidate.recipe.data.views, candidate.network.plan
    return plan is not None and (views == "fresh" or (views == "auto" and plan.cut == 0))


def _fresh_speed(candidate: Candidate, manifest: Manifest) -> float:
    """Rows a second of views that no cache keeps."""
    extractor, rows = candidate.extractor, manifest.part("train")
    items = items_of(manifest, rows[:: max(1, len(rows) // _TIMED_ROWS)][:_TIMED_ROWS], views=(1,))
    run = extractor.run(items)
    started = time.perf_counter()
    spec, augment = extractor.request.spec, candidate.recipe.data.augment
    reading = read_batches(items, spec, batch=64, workers=extractor.workers, augment=augment, seed=extractor.seed)
    for batch in reading:
        run(batch.images)
    return len(items) / max(time.perf_counter() - started, 1e-6)


def _rung(candidate: Candidate, manifest: Manifest, *, opening: float) -> Rung:
    recipe, extractor, plan = candidate.recipe, candidate.extractor, candidate.network.plan
    clean = len(extractor.missing(clean_items(candidate.recipe, manifest), augment=None, activations=plan is not None))
    if plan is None:
        most = most_views(recipe) if recipe.data.views != "auto" else 0
        if recipe.data.views == "auto" and recipe.phase1.views == "augmented":
            most = min(MOST_VIEWS, recipe.phase1.epochs)
        views = missing_views(extractor, manifest, augment=recipe.data.augment, most=most, activations=False)
        return Rung(train="head", depth=0, open=opening, clean=clean, views=views)
    shape = activation_shape(candidate.network.build(), plan)
    train, judge = top_seconds(candidate.recipe, candidate.network, shape=shape, classes=len(manifest.classes))
    views = _views(candidate, manifest)
    return Rung(
        train=recipe.phase2.train,
        depth=candidate.depth,
        open=opening,
        clean=clean,
        views=views,
        fresh=_fresh(candidate) or (recipe.data.views == "auto" and not views),
        augmented=recipe.data.views != "fixed:0",
        train_seconds=train,
        judge_seconds=judge,
        prepare=10 * recipe.phase2.batch_size * train,  # two precisions are timed on five batches each
        epochs=recipe.phase2.epochs,
    )


def _views(candidate: Candidate, manifest: Manifest) -> tuple[int, ...]:
    """Missing rows of each view that may be cached, as many views as recipe and disk allow."""
    recipe, extractor, plan = candidate.recipe, candidate.extractor, candidate.network.plan
    if plan is None or _fresh(candidate):
        return ()
    augment, most = recipe.data.augment, most_views(recipe)
    missing = missing_views(extractor, manifest, augment=augment, most=most, activations=True)
    if recipe.data.views != "auto":
        return missing
    backbone = candidate.network.build()
    row_bytes = 2 * (int(np.prod(activation_shape(backbone, plan))) + backbone.width)
    return missing[: views_that_fit(missing, row_bytes=row_bytes, cache=extractor.cache)]
