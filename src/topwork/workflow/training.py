"""Both phases of a recipe on prepared rows -> a trained classifier. Knows no run folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from topwork.digest import digest, seed_from
from topwork.errors import RecipeError
from topwork.measures.predictions import Predictions
from topwork.recipe import Phase, Recipe
from topwork.training.checkpoints import Checkpoints
from topwork.training.extraction import Extractor
from topwork.training.feeds import CachedFeed, Feed, FreshFeed, Order, read_rows
from topwork.training.history import KERNEL_PHASE, EpochRecord
from topwork.training.kernel import pooled_views, train_kernel
from topwork.training.loop import fit_epochs
from topwork.training.loss import sampling_weights
from topwork.training.parts import Parts, Views
from topwork.training.phases import head_task, new_head, predict_rows, seconds_of_a_pass, top_task, train_head
from topwork.training.task import Task, Weights, holding
from topwork.workflow.pacing import PacedFeed, Pacer
from topwork.workflow.prepare import Network

if TYPE_CHECKING:
    import torch
    from torch import nn

    from topwork.data.batches import Item
    from topwork.models.classifier import Classifier

_Forward = Callable[["torch.Tensor"], "torch.Tensor"]

__all__ = ["Experiment", "LastEpoch", "Trained", "phase_task", "train"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Experiment:
    """All that training reads.

    Args:
        recipe: the choices.
        network: backbone and plans.
        extractor: for fresh views.
        pooled: rows of pooled features; of pictures, where none are wanted.
        activations: rows at the cut, or None if only the head trains.
        rest: computes what is not there yet, test photos and augmented views, and gives both of the above with all
            rows; None if all rows are there.
        parts: the split, with the class names.
        items: of the training photos, for fresh views.
        pacers: phase -> who takes epochs away from it; empty where there is no hurry.
        checkpoints: where training begins and is saved.
    """

    recipe: Recipe
    network: Network
    extractor: Extractor
    pooled: Views
    activations: Views | None
    parts: Parts
    items: list[Item]
    pacers: Mapping[int, Pacer] = field(default_factory=dict)
    checkpoints: Checkpoints = field(default_factory=Checkpoints)
    rest: Callable[[], tuple[Views, Views | None]] | None = None

    def completed(self) -> Experiment:
        """The experiment with all rows."""
        if self.rest is None:
            return self
        pooled, activations = self.rest()
        return replace(self, pooled=pooled, activations=activations, rest=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class LastEpoch:
    """The weights after the last epoch, whichever epoch is kept.

    Args:
        head: what the weights' head is; linear also where the kept epoch got a kernel.
        weights: of the classifier with that head; what is not there is as in the kept epoch.
        val: predictions on the clean view of the validation part; None without one.
    """

    head: nn.Module
    weights: Weights
    val: Predictions | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """A classifier and what it says about the clean view of every part.

    Args:
        classifier: with the weights that the recipe keeps.
        predictions: by part.
        last: the last epoch; None where the last phase was not trained in epochs.
    """

    classifier: Classifier
    predictions: Mapping[str, Predictions]
    last: LastEpoch | None = None


def train(
    experiment: Experiment, *, on_epoch: Callable[[EpochRecord], None], on_phase: Callable[[str], None]
) -> Trained:
    """Phase 1, then phase 2 from its solution; of each phase that trains the best epoch is kept."""
    recipe, network = experiment.recipe, experiment.network
    kernel = recipe.head.kind == "kernel"
    on_phase("phase 1")
    classifier = _with_head(experiment, on_epoch=on_epoch)
    if experiment.rest is not None:
        on_phase("trunk")
        experiment = experiment.completed()
    forward: _Forward = classifier.head
    views = experiment.activations or experiment.pooled
    for number in network.plans:
        on_phase(f"prepare phase {number}")
        task = _top_task(experiment, classifier, number=number)
        on_phase(f"phase {number}")
        _fine_tune(experiment, task, number=number, on_epoch=on_epoch)
        forward = task.forward
    if kernel and network.plans:
        on_phase("kernel head")
        last = _last(experiment, classifier, forward=forward)
        with pooled_views(classifier, views, parts=experiment.parts) as fresh:
            head = train_kernel(recipe, fresh, parts=experiment.parts, phase=KERNEL_PHASE, on_epoch=on_epoch)
            classifier.head = head
            on_phase("predict")
            found = _predictions(experiment, head, views=fresh)
            return Trained(classifier=classifier, predictions=found, last=last)
    on_phase("predict")
    return _trained(experiment, classifier, forward=forward)


def phase_task(experiment: Experiment, number: int, *, on_epoch: Callable[[EpochRecord], None]) -> Task:
    """The task of a phase as it begins; for phase 2, phase 1 is carried out first.

    Args:
        experiment: what training reads.
        number: 1 or 2.
        on_epoch: told of the epochs of phase 1 that are needed.

    Raises:
        RecipeError: if the phase has no learning rate, or trains nothing.
    """
    plans, features = experiment.network.plans, experiment.network.features
    if number == 1 and experiment.recipe.head.kind == "kernel" and not plans:
        raise RecipeError("A kernel head is solved; it has no learning rate.", fix="look at a recipe with --phase 2.")
    if number == 1 and features:
        return head_task(experiment.recipe, _head_views(experiment), parts=experiment.parts)
    if number not in plans:
        raise RecipeError(
            f"Phase {number} of this recipe trains nothing.",
            fix=f"set phase{number}.epochs and phase{number}.train, or look at the other phase.",
        )
    classifier = _with_head(experiment, on_epoch=on_epoch)
    if number == 2 and 1 in plans:
        _fine_tune(experiment, _top_task(experiment, classifier, number=1), number=1, on_epoch=on_epoch)
    return _top_task(experiment, classifier, number=number)


def _with_head(experiment: Experiment, *, on_epoch: Callable[[EpochRecord], None]) -> Classifier:
    """The classifier with the head that phase 1 trains on features, or a new one."""
    import torch

    from topwork.models.classifier import Classifier

    recipe, network, pacer = experiment.recipe, experiment.network, experiment.pacers.get(1)
    head: nn.Module
    if recipe.head.kind == "kernel" and not network.plans:
        head = train_kernel(recipe, experiment.pooled, parts=experiment.parts, phase=1, on_epoch=on_epoch)
    elif network.features:
        head = train_head(
            recipe if pacer is None else recipe.model_copy(update={"phase1": pacer.started(recipe.phase1)}),
            _head_views(experiment),
            parts=experiment.parts,
            on_epoch=on_epoch,
            pace=pacer,
            checkpoints=experiment.checkpoints,
        )
    else:
        head = new_head(recipe, width=network.build().width, classes=len(experiment.parts.classes))
    head.eval()
    classifier = Classifier(network.build(), head, mirror=recipe.data.mirror).eval()
    # One layout, whatever else this process did with the weights: sums depend on it.
    classifier.to(memory_format=torch.channels_last)
    return classifier


def _trained(experiment: Experiment, classifier: Classifier, *, forward: _Forward) -> Trained:
    """What the kept weights say about every part."""
    found = _predictions(experiment, forward, views=experiment.activations or experiment.pooled)
    return Trained(classifier=classifier, predictions=found, last=_last(experiment, classifier, forward=forward))


def _last(experiment: Experiment, classifier: Classifier, *, forward: _Forward) -> LastEpoch | None:
    """The last weights and what they say about the validation part."""
    weights = experiment.checkpoints.last
    if weights is None:
        return None
    if forward is classifier.head:
        weights = {f"head.{name}": value for name, value in weights.items()}
    parts, val = experiment.parts, None
    if len(parts.val):
        views = experiment.activations or experiment.pooled
        with holding(classifier, weights):
            val = predict_rows(forward, views, part=parts.val, classes=parts.classes)
    return LastEpoch(head=classifier.head, weights=weights, val=val)


def _head_views(experiment: Experiment) -> Views:
    """What phase 1 trains the head on."""
    asked = experiment.recipe.phase1.views
    # Where phase 2 follows, phase 1 only has to find a good start, and clean views do that in seconds.
    clean = asked == "clean" or (asked == "auto" and experiment.activations is not None)
    return Views(clean=experiment.pooled.clean) if clean else experiment.pooled


def _phase(recipe: Recipe, number: int) -> Phase:
    return recipe.phase1 if number == 1 else recipe.phase2


def _top_task(experiment: Experiment, classifier: Classifier, *, number: int) -> Task:
    """The task of a phase that trains blocks, in the precision that is fastest here; the plan is applied."""
    from topwork.models.freeze import apply_freeze

    plan, views = experiment.network.plans[number], experiment.activations
    assert views is not None, "a plan has a cut, and activations are extracted at it"
    apply_freeze(plan, classifier.backbone)
    feed = _feed(experiment, views, number=number)
    task = top_task(experiment.recipe, classifier, plan=plan, feed=feed, views=views, parts=experiment.parts)
    return _with_best_precision(experiment, task, number=number)


def _fine_tune(experiment: Experiment, task: Task, *, number: int, on_epoch: Callable[[EpochRecord], None]) -> None:
    recipe, pacer, saved = experiment.recipe, experiment.pacers.get(number), experiment.checkpoints
    phase = _phase(recipe, number)
    if saved.phase > number and saved.earlier is not None:
        task.module.load_state_dict(saved.earlier, strict=False)  # this phase was over
        return
    if pacer is None:
        for record in fit_epochs(task, phase, number=number, stop=recipe.stop, checkpoints=saved):
            on_epoch(record)
        return
    task, phase = replace(task, feed=PacedFeed(task.feed, pacer)), pacer.started(phase)
    with pacer.cut_short():
        for record in fit_epochs(task, phase, number=number, stop=recipe.stop, pace=pacer, checkpoints=saved):
            on_epoch(record)


def _predictions(experiment: Experiment, forward: _Forward, *, views: Views) -> dict[str, Predictions]:
    return {
        name: predict_rows(forward, views, part=part, classes=experiment.parts.classes)
        for name, part in experiment.parts.filled().items()
    }


def _feed(experiment: Experiment, activations: Views, *, number: int) -> Feed:
    recipe, part = experiment.recipe, experiment.parts.train
    draw = sampling_weights(recipe.loss, part.labels)
    # The second phase must not see the first one's order again.
    seed = recipe.data.seed if number == 2 else seed_from("first phase", recipe.data.seed)
    order = Order(photos=len(part), batch=_phase(recipe, number).batch_size, seed=seed, draw=draw)
    if recipe.data.views == "fresh" or (recipe.data.views == "auto" and activations.augmented is None):
        seen = recipe.phase1.epochs if number == 2 and 1 in experiment.network.plans else 0
        items, augment = experiment.items, recipe.data.augment
        return FreshFeed(experiment.extractor, items, labels=part.labels, augment=augment, order=order, seen=seen)
    store, rows = activations.training(part)
    return CachedFeed(store, rows, labels=part.labels, order=order)


def _with_best_precision(experiment: Experiment, task: Task, *, number: int) -> Task:
    """The task in the precision that this machine trains its top fastest in."""
    clean = experiment.activations.clean if experiment.activations else None
    assert clean is not None
    batch = _phase(experiment.recipe, number).batch_size
    inputs = read_rows(clean.mapped(), experiment.parts.train.rows(clean)[:batch])
    parameters = list(experiment.network.plans[number].parameters)
    key = digest(experiment.extractor.request.identity, parameters, list(inputs.shape))[:32]
    what = f"top precision, phase {number}"
    candidates = {
        "f32": lambda: seconds_of_a_pass(task, inputs, bf16=False),
        "bf16": lambda: seconds_of_a_pass(task, inputs, bf16=True),
    }
    return replace(task, bf16=experiment.extractor.timings.pick(what, key, candidates=candidates) == "bf16")
