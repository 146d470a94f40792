"""From a recipe to what training needs of a network: the backbone, the plan, the extractor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topwork.cachedir import cache_folder
from topwork.errors import RecipeError
from topwork.models.probe import backbone_identity, probe_spec
from topwork.models.trunk import TrunkRequest
from topwork.progress import Progress
from topwork.recipe import BackboneChoice, DataChoice, Phase, Recipe
from topwork.timings import Timings
from topwork.training.activations import ActivationCache
from topwork.training.extraction import Extractor
from topwork.training.kernel import check_kernel
from topwork.training.phases import check_solver

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone
    from topwork.models.freeze import FreezePlan

__all__ = ["Network", "extractor_for", "network_for", "plan_of"]


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
        """The backbone that trains; the same object every time."""
        self._built = self._built or self._pretrained()
        return self._built

    def _pretrained(self) -> Backbone:
        from topwork.models.backbone import create_backbone

        return create_backbone(
            self.choice.name,
            weights=self.choice.weights,
            image_size=self.data.image_size,
            crop=self.data.crop,
            seed=self.data.seed,
        )

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
            build=self._pretrained,  # a new one: training changes the other, and an engine may move it to a device
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
