"""Both phases of a recipe on prepared rows -> a trained classifier. Knows no run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from topwork.digest import digest
from topwork.measures.predictions import Predictions
from topwork.recipe import Recipe
from topwork.training.activations import Store
from topwork.training.extraction import Extractor
from topwork.training.feeds import CachedFeed, Feed, FreshFeed, Order, read_rows
from topwork.training.history import EpochRecord
from topwork.training.loop import fit_epochs
from topwork.training.loss import sampling_weights
from topwork.training.phases import Parts, Views, bf16_pays, predict_rows, top_task, train_head
from topwork.training.task import Task
from topwork.workflow.pacing import PacedFeed, Pacer
from topwork.workflow.prepare import Network

if TYPE_CHECKING:
    import torch

    from topwork.data.batches import Item
    from topwork.models.classifier import Classifier

_Forward = Callable[["torch.Tensor"], "torch.Tensor"]

__all__ = ["Experiment", "Trained", "train"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """All that training reads.

    Args:
        recipe: the choices.
        network: backbone and plan.
        extractor: for fresh views.
        pooled: rows of pooled features.
        activations: rows at the cut, or None if only the head trains.
        parts: the split, with the class names.
        items: of the training photos, for fresh views.
        pacers: phase -> who takes epochs away from it; empty where there is no hurry.
    """

    recipe: Recipe
    network: Network
    extractor: Extractor
    pooled: Views
    activations: Views | None
    parts: Parts
    items: list[Item]
    pacers: Mapping[int, Pacer] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A classifier and what it says about the clean view of every part."""

    classifier: Classifier
    predictions: Mapping[str, Predictions]


def train(
    experiment: Experiment, *, on_epoch: Callable[[EpochRecord], None], on_phase: Callable[[str], None]
) -> Trained:
    """Phase 1, then phase 2 from its solution; where phase 2 trains, its best epoch is kept."""
    from topwork.models.classifier import Classifier

    recipe = experiment.recipe
    on_phase("phase 1")
    # Where phase 2 follows, phase 1 only has to find a good start, and clean views do that in seconds.
    pooled = experiment.pooled if experiment.activations is None else Views(clean=experiment.pooled.clean)
    pacer = experiment.pacers.get(1)
    hurried = recipe if pacer is None else recipe.model_copy(update={"phase1": pacer.started(recipe.phase1)})
    head = train_head(hurried, pooled, parts=experiment.parts, on_epoch=on_epoch, pace=pacer)
    on_phase("prepare phase 2")
    head.eval()
    classifier = Classifier(experiment.network.build(), head).eval()
    plan, activations = experiment.network.plan, experiment.activations
    if plan is None or activations is None:
        return Trained(classifier=classifier, predictions=_predictions(experiment, head, store=experiment.pooled.clean))
    from topwork.models.freeze import apply_freeze

    apply_freeze(plan, classifier.backbone)
    task = top_task(
        recipe,
        classifier,
        plan=plan,
        feed=_feed(experiment, activations),
        clean=activations.clean,
        parts=experiment.parts,
    )
    task = _with_best_precision(experiment, task)
    on_phase("phase 2")
    _fine_tune(experiment, task, on_epoch=on_epoch)
    on_phase("predict")
    return Trained(classifier=classifier, predictions=_predictions(experiment, task.forward, store=activations.clean))


def _fine_tune(experiment: Experiment, task: Task, *, on_epoch: Callable[[EpochRecord], None]) -> None:
    recipe, pacer = experiment.recipe, experiment.pacers.get(2)
    if pacer is None:
        for record in fit_epochs(task, recipe.phase2, number=2, stop=recipe.stop):
            on_epoch(record)
        return
    task = replace(task, feed=PacedFeed(task.feed, pacer))
    with pacer.cut_short():
        for record in fit_epochs(task, pacer.started(recipe.phase2), number=2, stop=recipe.stop, pace=pacer):
            on_epoch(record)


def _predictions(experiment: Experiment, forward: _Forward, *, store: Store) -> dict[str, Predictions]:
    return {
        name: predict_rows(forward, store, part=part, classes=experiment.parts.classes)
        for name, part in experiment.parts.filled().items()
    }


def _feed(experiment: Experiment, activations: Views) -> Feed:
    recipe, part = experiment.recipe, experiment.parts.train
    draw = sampling_weights(recipe.loss, part.labels)
    order = Order(photos=len(part), batch=recipe.phase2.batch_size, seed=recipe.data.seed, draw=draw)
    if recipe.data.views == "fresh" or (recipe.data.views == "auto" and activations.augmented is None):
        return FreshFeed(
            experiment.extractor, experiment.items, labels=part.labels, augment=recipe.data.augment, order=order
        )
    store, rows = activations.training(part)
    return CachedFeed(store, rows, labels=part.labels, order=order)


def _with_best_precision(experiment: Experiment, task: Task) -> Task:
    """The task in the precision that this machine trains its top fastest in."""
    clean = experiment.activations.clean if experiment.activations else None
    plan = experiment.network.plan
    assert clean is not None
    assert plan is not None
    inputs = read_rows(clean.mapped(), experiment.parts.train.rows(clean)[: experiment.recipe.phase2.batch_size])
    key = digest(experiment.extractor.request.identity, list(plan.parameters), list(inputs.shape))[:32]
    candidates = {
        "f32": lambda: bf16_pays(task, inputs, bf16=False),
        "bf16": lambda: bf16_pays(task, inputs, bf16=True),
    }
    return replace(task, bf16=experiment.extractor.timings.pick("top precision", key, candidates=candidates) == "bf16")
