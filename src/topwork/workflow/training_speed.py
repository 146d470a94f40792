"""How fast a network trains on this machine: a few steps on noise in the shape of the real rows, timed."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from topwork.measures.predictions import Predictions
from topwork.recipe import Phase, Recipe, StopChoice
from topwork.training.course import Course
from topwork.training.heap import heap_kept
from topwork.training.loop import gradient_step
from topwork.training.loss import make_loss
from topwork.training.phases import new_head
from topwork.training.task import Task
from topwork.workflow.prepare import Network

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone
    from topwork.models.freeze import FreezePlan

__all__ = ["activation_shape", "head_seconds", "top_seconds"]

_WARM_STEPS, _TIMED_STEPS = 2, 5  # the first steps allocate, and the optimizer makes its state
_EVALUATIONS = 400  # of the head's objective: what a path of strengths took on flowers, with room
_SCORED_ROW = 2e-5  # seconds of one row: training rows are scored as they come, judged ones go through the head


def activation_shape(backbone: Backbone, plan: FreezePlan) -> tuple[int, ...]:
    """Of one row at the cut: (h,w,C) or (T,C)."""
    size = backbone.spec.size
    with torch.inference_mode():
        value = backbone.eval().trunk(plan.cut)(torch.zeros(1, 3, size, size))
    return tuple((value.permute(0, 2, 3, 1) if value.ndim == 4 else value).shape[1:])


def top_seconds(recipe: Recipe, network: Network, *, shape: Sequence[int], classes: int) -> tuple[float, float]:
    """Seconds a photo of a training step, and of a forward pass; on a copy, so that nothing is learned from noise.

    Args:
        recipe: whose phase 2 is timed, in the faster of both precisions.
        network: with the plan of what trains.
        shape: of one row at the plan's cut.
        classes: how many.
    """
    from topwork.models.classifier import Classifier
    from topwork.models.freeze import apply_freeze, set_training_mode

    plan = network.plan
    assert plan is not None, "what trains is known before it is timed"
    backbone = copy.deepcopy(network.build())
    classifier = Classifier(backbone, new_head(recipe, width=backbone.width, classes=classes))
    apply_freeze(plan, backbone)
    feed = _Noise(shape, batch=recipe.phase2.batch_size, classes=classes)
    task = replace(
        _task(recipe, classifier, feed=feed, classes=classes),
        forward=lambda activation: classifier.from_activation(activation, plan.cut),
        train_mode=lambda: set_training_mode(plan, backbone),
        depths=[[p for p in stage if p.requires_grad] for stage in classifier.parameters_by_depth()],
    )
    fastest = min(
        _step_seconds(replace(task, bf16=bf16), recipe.phase2, number=2, stop=recipe.stop) for bf16 in (False, True)
    )
    return fastest / feed.batch, _forward_seconds(task) / feed.batch


def head_seconds(recipe: Recipe, network: Network, *, photos: int, judged: int, classes: int) -> float:
    """Seconds of solving the head, or of one epoch of training it.

    Args:
        recipe: whose phase 1 is timed.
        network: that gives the features.
        photos: that train.
        judged: rows on which epochs are compared.
        classes: how many.
    """
    width = network.build().width
    if recipe.phase1.optimizer == "lbfgs":
        rows = min(photos, 2048)
        return 0.5 + _EVALUATIONS * _objective_seconds(rows, width, classes=classes) * photos / rows
    head = new_head(recipe, width=width, classes=classes)
    feed = _Noise((width,), batch=recipe.phase1.batch_size, classes=classes)
    task = _task(recipe, head, feed=feed, classes=classes)
    seconds = _step_seconds(task, recipe.phase1, number=1, stop=recipe.stop)
    return seconds * max(1, photos // recipe.phase1.batch_size) + _SCORED_ROW * (photos + judged)


def _step_seconds(task: Task, phase: Phase, *, number: int, stop: StopChoice) -> float:
    """Of one step of training as an epoch makes it: the optimizer and the moving average included, epochs' ends not."""
    seconds = []
    with torch.random.fork_rng(devices=[]), heap_kept():
        course = Course(task, phase, number=number, stop=stop)
        task.train_mode()
        for inputs, labels in task.feed.epoch(1):
            started = time.perf_counter()
            gradient_step(
                task, phase, inputs=inputs, labels=labels, optimizer=course.optimizer, random=course.running.random
            )
            course.end_step()
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[_WARM_STEPS:]))


def _forward_seconds(task: Task) -> float:
    """Of one batch without gradients."""
    seconds = []
    task.module.eval()
    with torch.inference_mode(), heap_kept():
        for inputs, _ in task.feed.epoch(1):
            started = time.perf_counter()
            task.forward(inputs)
            seconds.append(time.perf_counter() - started)
    return float(np.median(seconds[_WARM_STEPS:]))


def _objective_seconds(rows: int, width: int, *, classes: int) -> float:
    """One evaluation of the head's objective: logits, a softmax, and the gradient."""
    features, weight = np.ones((rows, width), np.float32), np.zeros((width, classes), np.float32)
    taken = []
    for _ in range(3):
        started = time.perf_counter()
        logits = (features @ weight).astype(np.float64)
        np.exp(logits).T.astype(np.float32) @ features
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def _task(recipe: Recipe, module: torch.nn.Module, *, feed: _Noise, classes: int) -> Task:
    """All of a module learns from noise, and nobody judges it."""

    def unasked() -> Predictions:
        raise AssertionError("noise is not judged")

    return Task(
        forward=module,
        module=module,
        train_mode=lambda: None,  # as a new module is
        depths=[list(module.parameters())],
        feed=feed,
        loss=make_loss(recipe.loss, np.ones(classes, np.int64)),
        validate=unasked,
        classes=tuple(map(str, range(classes))),
    )


class _Noise:
    """A feed of positive noise in the shape of a row.

    Args:
        shape: of one row.
        batch: rows of a step.
        classes: how many.
    """

    steps = _WARM_STEPS + _TIMED_STEPS

    def __init__(self, shape: Sequence[int], *, batch: int, classes: int) -> None:
        self.batch = batch
        random = np.random.default_rng(0)
        self._rows = torch.from_numpy(random.random((batch, *shape), np.float32))
        self._labels = np.arange(batch) % classes

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """See `Feed`."""
        for _ in range(start, self.steps):
            yield self._rows, self._labels
