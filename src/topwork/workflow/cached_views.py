"""Which rows of a manifest's photos a recipe needs: clean and augmented views, computed where no cache holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np

from topwork.data.batches import Item
from topwork.data.manifest import PARTS, Manifest, Row
from topwork.errors import RecipeError
from topwork.progress import Progress
from topwork.recipe import Augment, Recipe
from topwork.training.activations import ActivationCache
from topwork.training.extraction import Extractor
from topwork.training.parts import Labelled, Views
from topwork.workflow.prepare import Network

__all__ = [
    "MOST_VIEWS",
    "all_views",
    "clean_items",
    "clean_views",
    "head_first",
    "items_of",
    "labelled",
    "missing_views",
    "most_views",
    "views_that_fit",
]

MOST_VIEWS = 8
"""Cached views a photo gets under `auto`; more epochs see them again."""


def items_of(manifest: Manifest, rows: Sequence[Row], *, views: Sequence[int] = (0,)) -> list[Item]:
    """One item a photo and view; the views of a photo follow each other, so that it is decoded once."""
    paths = manifest.paths(rows)
    return [
        Item(path=path, sha256=row.sha256, view=view) for path, row in zip(paths, rows, strict=True) for view in views
    ]


def clean_items(recipe: Recipe, manifest: Manifest, *, parts: Sequence[str] = PARTS) -> list[Item]:
    """The clean view of every photo of some parts and, where the recipe judges by it too, its mirror image."""
    rows = [row for row in manifest.rows if row.split in parts]
    return items_of(manifest, rows, views=(0, 1) if recipe.data.mirror else (0,))


def labelled(manifest: Manifest, part: str) -> Labelled:
    """Names, labels and paths of one part."""
    number = {name: position for position, name in enumerate(manifest.classes)}
    rows = [row for row in manifest.rows if row.split == part]
    return Labelled(
        names=tuple(row.sha256 for row in rows),
        labels=np.array([number[row.label] for row in rows], dtype=np.int64),
        paths=tuple(row.path for row in rows),
    )


_Both = tuple[Views, Views | None]


def head_first(recipe: Recipe, network: Network) -> bool:
    """Whether phase 1 needs nothing but clean rows while a later phase needs more: its answer can then come early."""
    clean = recipe.phase1.views in ("auto", "clean") and recipe.loss.imbalance != "auto"
    return network.features and bool(network.plans) and clean


def clean_views(recipe: Recipe, extractor: Extractor, *, manifest: Manifest, parts: Sequence[str]) -> _Both:
    """Clean rows of some parts: of pooled features, and of activations if a phase needs them (else None).

    The stores also hold whatever an earlier call has left in them. Where no features are wanted, the first are those of
    the activations.

    Raises:
        ResourceError: if the disk cannot hold them.
    """
    cut = extractor.request.cut
    extractor.facts(clean_items(recipe, manifest))  # named after all photos, whichever of them come first
    items = clean_items(recipe, manifest, parts=parts)
    pooled, activations = extractor.extract(items, augment=None, activations=cut is not None)
    kind, mirrored = None if extractor.features else cut, recipe.data.mirror
    return (
        Views(clean=pooled, mirrored=mirrored, cut=kind),
        None if activations is None else Views(clean=activations, mirrored=mirrored, cut=cut),
    )


def all_views(recipe: Recipe, extractor: Extractor, *, manifest: Manifest, clean: _Both, progress: Progress) -> _Both:
    """The clean rows of every part, with the augmented ones of the training part.

    Args:
        recipe: the choices.
        extractor: of the network.
        manifest: the photos and their parts.
        clean: clean rows of every part.
        progress: told the forecast.

    Raises:
        ResourceError: if the disk cannot hold what the recipe insists on.
        RecipeError: if phase 1 insists on augmented views and none are cached.
    """
    pooled, activations = clean
    # Free disk decides, and a run that is continued must not decide again.
    count = int(
        extractor.timings.settle(
            "views", lambda: str(_view_count(recipe, extractor, manifest=manifest, clean=clean, progress=progress))
        )
    )
    if count == 0:
        if extractor.features and recipe.phase1.views == "augmented":
            raise RecipeError(
                f"phase1.views='augmented' trains on cached views, and data.views={recipe.data.views!r} caches none.",
                fix="set data.views=fixed:4, or phase1.views=clean.",
            )
        return clean
    items = items_of(manifest, manifest.part("train"), views=range(1, count + 1))
    found, more = extractor.extract(items, augment=recipe.data.augment, activations=activations is not None)
    return (
        replace(pooled, augmented=found, count=count),
        None if activations is None else replace(activations, augmented=more, count=count),
    )


def most_views(recipe: Recipe) -> int:
    """How many cached views a recipe asks for, or may take where it leaves that open."""
    views = recipe.data.views
    if views.startswith("fixed:"):
        return int(views.removeprefix("fixed:"))
    return min(recipe.phase2.epochs, MOST_VIEWS) if views == "auto" else 0


def missing_views(
    extractor: Extractor, manifest: Manifest, *, augment: Augment, most: int, activations: bool
) -> tuple[int, ...]:
    """Rows of augmented view 1, 2, ... of the training photos that no cache holds, (most,)."""
    items = items_of(manifest, manifest.part("train"), views=range(1, most + 1))
    lacking = Counter(item.view for item in extractor.missing(items, augment=augment, activations=activations))
    return tuple(lacking[view] for view in range(1, most + 1))


def views_that_fit(missing: Sequence[int], *, row_bytes: int, cache: ActivationCache) -> int:
    """How many of the views, first ones first, the cache can hold with half of its limit left for what comes after."""
    room = min(cache.room(), cache.limit // 2)
    return sum(1 for rows in accumulate(missing) if rows * row_bytes <= room)


def _view_count(recipe: Recipe, extractor: Extractor, *, manifest: Manifest, clean: _Both, progress: Progress) -> int:
    """How many augmented views of each training photo are cached; 0 for none, or for fresh ones."""
    views, photos = recipe.data.views, len(manifest.part("train"))
    if views.startswith("fixed:"):
        return most_views(recipe)
    pooled, activations = clean
    if views == "auto" and activations is None and recipe.phase1.views == "augmented":
        return min(MOST_VIEWS, recipe.phase1.epochs)
    shape = None if activations is None else activations.clean.shape
    if views == "fresh" or shape is None:
        return 0
    if extractor.request.cut == 0:
        progress.say("Everything trains, so views are cheap beside it: new ones are drawn in every epoch.")
        return 0
    row_bytes = 2 * (int(np.prod(shape)) + (int(np.prod(pooled.clean.shape or ())) if extractor.features else 0))
    missing = missing_views(extractor, manifest, augment=recipe.data.augment, most=most_views(recipe), activations=True)
    count = views_that_fit(missing, row_bytes=row_bytes, cache=extractor.cache)
    rows = sum(missing[:count])
    rate = extractor.work.computed / extractor.work.seconds if extractor.work.seconds else None
    if count:
        progress.say(
            f"Forecast: {count} augmented views of {photos} training photos, {rows * row_bytes / 1e9:.2f} GB of cache"
            + (f", about {rows / rate:.0f} s." if rate and rows else "." if rows else ", all cached already.")
        )
    else:
        progress.say("The cache cannot hold augmented views; new ones are computed in every epoch.")
    return count
