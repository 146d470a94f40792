"""From a recipe and a scan to everything training needs: the split, the plan, the activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.cachedir import cache_folder
from topwork.data.batches import Item
from topwork.data.manifest import Manifest, Row
from topwork.errors import RecipeError
from topwork.models.probe import backbone_identity, probe_spec
from topwork.models.trunk import TrunkRequest
from topwork.progress import Progress
from topwork.recipe import BackboneChoice, DataChoice, Phase, Recipe
from topwork.timings import Timings
from topwork.training.activations import ActivationCache, Store
from topwork.training.extraction import Extractor
from topwork.training.kernel import check_kernel
from topwork.training.parts import Labelled, Views
from topwork.training.phases import check_solver

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone
    from topwork.models.freeze import FreezePlan

__all__ = [
    "MOST_VIEWS",
    "Network",
    "activation_views",
    "clean_items",
    "extractor_for",
    "items_of",
    "labelled",
    "network_for",
    "plan_of",
]

MOST_VIEWS = 8
"""Cached views a photo gets under `auto`; more epochs see them again."""


@dataclass
class Network:
    """The backbone, built when it is first needed, and the plan of phase 2.

    Args:
        choice: which network and weights.
        data: gives image size and crop, and the seed of random weights.
        plan: what trains in phase 2, or None if only the head does.
        first_plan: the same of phase 1.
        features: whether phase 1 trains a head on pooled features.
    """

    choice: BackboneChoice
    data: DataChoice
    plan: FreezePlan | None = None
    first_plan: FreezePlan | None = None
    features: bool = True
    _built: Backbone | None = None

    def build(self) -> Backbone:
        """The backbone; the same object every time."""
        if self._built is None:
            from topwork.models.backbone import create_backbone

            self._built = create_backbone(
                self.choice.name,
                weights=self.choice.weights,
                image_size=self.data.image_size,
                crop=self.data.crop,
                seed=self.data.seed,
            )
        return self._built

    @property
    def plans(self) -> dict[int, FreezePlan]:
        """Phase -> its plan, of the phases that train more than the head."""
        plans = {1: self.first_plan, 2: self.plan}
        return {number: plan for number, plan in plans.items() if plan is not None}

    @property
    def cut(self) -> int | None:
        """The earliest cut of all phases, which serves the later ones too; None if only the head trains."""
        return min((plan.cut for plan in self.plans.values()), default=None)

    def request(self) -> TrunkRequest:
        """What the engine must know; builds nothing."""
        name, weights = self.choice.name, self.choice.weights
        given: Any = {"image_size": self.data.image_size, "crop": self.data.crop}
        return TrunkRequest(
            identity=backbone_identity(name, weights, seed=self.data.seed, **given),
            build=self.build,
            cut=self.cut,
            spec=probe_spec(name, weights, **given),
        )


def network_for(recipe: Recipe) -> Network:
    """The network of a recipe, with the plan of each phase that trains anything below the head.

    Raises:
        RecipeError: if a plan does not fit the network, no phase trains anything, or the head cannot be trained so.
    """
    network = Network(recipe.backbone, recipe.data)
    network.first_plan = plan_of(network, recipe.phase1, number=1)
    network.plan = plan_of(network, recipe.phase2, number=2)
    network.features = network.first_plan is None and recipe.phase1.epochs > 0 and recipe.phase1.train != "none"
    if not network.features and not network.plans:
        raise RecipeError(
            "This recipe trains nothing: phase 1 is skipped, and phase 2 trains no block.",
            fix="set phase1.train=head and phase1.epochs, or phase2.train=all.",
        )
    kernel, alone = recipe.head.kind == "kernel", not network.plans
    if kernel:
        check_kernel(recipe, alone=alone)
    if network.features and not (kernel and alone):
        check_solver(recipe)
    return network


def plan_of(network: Network, phase: Phase, *, number: int) -> FreezePlan | None:
    """What phase 1 or 2 trains below the head; None if nothing.

    Raises:
        RecipeError: if the plan does not fit the network or holds nothing to train, or the optimizer cannot follow it.
    """
    if not phase.epochs or phase.train in ("head", "none"):
        return None
    if phase.optimizer == "lbfgs":
        raise RecipeError(
            f"phase{number}.optimizer='lbfgs' solves a linear head; phase{number}.train={phase.train!r} trains layers "
            "below it.",
            fix=f"add --set phase{number}.optimizer=adamw.",
        )
    from topwork.models.freeze import plan_freeze
    from topwork.models.layers import list_layers

    plan = plan_freeze(
        phase.train,
        list_layers(network.build()),
        batchnorm=phase.batchnorm,
        epochs=phase.epochs,
        every=phase.unfreeze_every,
    )
    if plan.head_only:
        raise RecipeError(
            f"phase{number}.train={phase.train!r} names only activations and pooling, which have nothing to train.",
            fix=f"name more layers (`topwork backbones {network.choice.name} --layers` lists them), or "
            f"set phase{number}.train=head.",
        )
    return plan


def extractor_for(
    recipe: Recipe, network: Network, *, progress: Progress, choices: Callable[[Path], Timings] = Timings
) -> Extractor:
    """The extractor of a recipe, on this user's cache; `choices` opens the file of measured choices."""
    folder = cache_folder()
    return Extractor(
        request=network.request(),
        engine=recipe.engine,
        cache=ActivationCache(),
        timings=choices(folder / "timings.json"),
        folder=folder / "engine",
        features=network.features,
        seed=recipe.data.seed,
        progress=progress,
    )


def items_of(manifest: Manifest, rows: Sequence[Row], *, views: Sequence[int] = (0,)) -> list[Item]:
    """One item a photo and view; the views of a photo follow each other, so that it is decoded once."""
    paths = manifest.paths(rows)
    return [
        Item(path=path, sha256=row.sha256, view=view) for path, row in zip(paths, rows, strict=True) for view in views
    ]


def clean_items(recipe: Recipe, manifest: Manifest) -> list[Item]:
    """The clean view of every photo and, where the recipe judges by it too, its mirror image."""
    return items_of(manifest, manifest.rows, views=(0, 1) if recipe.data.mirror else (0,))


def labelled(manifest: Manifest, part: str) -> Labelled:
    """Names, labels and paths of one part."""
    number = {name: position for position, name in enumerate(manifest.classes)}
    rows = [row for row in manifest.rows if row.split == part]
    return Labelled(
        names=tuple(row.sha256 for row in rows),
        labels=np.array([number[row.label] for row in rows], dtype=np.int64),
        paths=tuple(row.path for row in rows),
    )


def activation_views(
    recipe: Recipe, extractor: Extractor, *, manifest: Manifest, progress: Progress
) -> tuple[Views, Views | None]:
    """Clean and augmented rows: of pooled features, and of activations if a phase needs them (else None).

    Where no features are wanted, the first are those of the activations.

    Raises:
        ResourceError: if the disk cannot hold what the recipe insists on.
        RecipeError: if phase 1 insists on augmented views and none are cached.
    """
    cut = extractor.request.cut
    wanted, kind = cut is not None, None if extractor.features else cut
    mirrored = recipe.data.mirror
    clean_pooled, clean = extractor.extract(clean_items(recipe, manifest), augment=None, activations=wanted)
    photos = len(manifest.part("train"))
    # Free disk decides, and a run that is continued must not decide again.
    count = int(
        extractor.timings.settle(
            "views", lambda: str(_view_count(recipe, extractor, clean=clean, photos=photos, progress=progress))
        )
    )
    if count == 0:
        if extractor.features and recipe.phase1.views == "augmented":
            raise RecipeError(
                f"phase1.views='augmented' trains on cached views, and data.views={recipe.data.views!r} caches none.",
                fix="set data.views=fixed:4, or phase1.views=clean.",
            )
        unaugmented = None if clean is None else Views(clean=clean, mirrored=mirrored, cut=cut)
        return Views(clean=clean_pooled, mirrored=mirrored, cut=kind), unaugmented
    items = items_of(manifest, manifest.part("train"), views=range(1, count + 1))
    pooled, activations = extractor.extract(items, augment=recipe.data.augment, activations=wanted)
    shared: Any = {"count": count, "mirrored": mirrored}
    features = Views(clean=clean_pooled, augmented=pooled, cut=kind, **shared)
    return features, None if clean is None else Views(clean=clean, augmented=activations, cut=cut, **shared)


def _view_count(recipe: Recipe, extractor: Extractor, *, clean: Store | None, photos: int, progress: Progress) -> int:
    """How many augmented views of each training photo are cached; 0 for none, or for fresh ones."""
    views = recipe.data.views
    if views.startswith("fixed:"):
        return int(views.removeprefix("fixed:"))
    if views == "auto" and clean is None and recipe.phase1.views == "augmented":
        return min(MOST_VIEWS, recipe.phase1.epochs)
    if views == "fresh" or clean is None or clean.shape is None:
        return 0
    if extractor.request.cut == 0:
        progress.say("Everything trains, so views are cheap beside it: new ones are drawn in every epoch.")
        return 0
    row_bytes = 2 * int(np.prod(clean.shape))
    room = min(extractor.cache.free_bytes(), extractor.cache.limit // 2)
    count = min(recipe.phase2.epochs, MOST_VIEWS, room // max(1, row_bytes * photos))
    rate = extractor.work.computed / extractor.work.seconds if extractor.work.seconds else None
    duration = f", about {count * photos / rate:.0f} s" if rate else ""
    if count:
        progress.say(
            f"Forecast: {count} augmented views of {photos} training photos, "
            f"{count * photos * row_bytes / 1e9:.2f} GB of cache{duration} unless cached already."
        )
    else:
        progress.say("The disk cannot hold cached views; new ones are computed in every epoch.")
    return int(count)
