"""The training loop: visible from top to bottom, no callbacks. Knows neither files nor where batches come from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from topwork.errors import RecipeError
from topwork.measures.calibration import nll_terms
from topwork.recipe import Phase, StopChoice
from topwork.training.checkpoints import Checkpoints
from topwork.training.course import Course
from topwork.training.heap import heap_kept
from topwork.training.history import EpochRecord, score
from topwork.training.mixing import mix
from topwork.training.task import Task

__all__ = ["Pace", "fit_epochs", "gradient_step"]

Pace = Callable[[int, int], int]
"""Asked after every epoch: (epochs done, epochs planned) -> epochs that there shall be in all."""


def fit_epochs(
    task: Task,
    phase: Phase,
    *,
    number: int,
    stop: StopChoice,
    pace: Pace | None = None,
    checkpoints: Checkpoints | None = None,
) -> Iterator[EpochRecord]:
    """Train epoch by epoch; after the last record the module holds the weights that the recipe keeps.

    The consumer may stop early by closing the generator; the weights kept so far are then restored.

    Args:
        task: what is trained.
        phase: how.
        number: 1 or 2, for the records.
        stop: metric, patience, and whether the best or the last epoch is kept.
        pace: may take epochs away; the rest of the schedule is then gone through faster.
        checkpoints: where to begin, and where to save; afterwards their `last` holds the last epoch's weights.

    Raises:
        RecipeError: if the loss is no number any more.
        ResourceError: if a checkpoint cannot be written.
    """
    checkpoints = checkpoints or Checkpoints()
    course = Course(task, phase, number=number, stop=stop)
    if (saved := checkpoints.of(number)) is not None:
        course.take_up(saved)
    try:
        while not course.over:
            started = time.perf_counter()
            with heap_kept():
                _train_epoch(task, phase, course=course, checkpoints=checkpoints)
            seen, loss = course.running.result(task.classes)
            task.module.eval()
            with course.averaged():
                val = task.validate()
                nll = float(nll_terms(val).mean())
                scores = score(val, nll)
                best = course.judged(scores.f1 if stop.metric == "macro_f1" else scores.accuracy, nll)
            record = EpochRecord(
                phase=number,
                epoch=course.epoch,
                lr=float(course.optimizer.param_groups[0]["lr"]),
                seconds=time.perf_counter() - started,
                train=score(seen, loss),
                val=scores,
                kept=best,
            )
            course.end_epoch(pace(course.epoch, course.timeline.epochs) if pace else None)
            checkpoints.save(course.saved(), record)
            yield record
    finally:
        checkpoints.last = course.last
        course.put_kept()


def _train_epoch(task: Task, phase: Phase, *, course: Course, checkpoints: Checkpoints) -> None:
    """The rest of the running epoch; what it saw is in `course.running`."""
    if task.begin is not None:
        task.begin(course.epoch)
    task.train_mode()
    first = course.running.steps
    for step, (inputs, labels) in enumerate(task.feed.epoch(course.epoch, start=first), start=first):
        rate = course.timeline.factor(step)
        for group in course.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        logits, loss = gradient_step(
            task, phase, inputs=inputs, labels=labels, optimizer=course.optimizer, random=course.running.random
        )
        if not math.isfinite(loss):
            raise RecipeError(
                f"The training loss became {loss} in epoch {course.epoch} at learning rate {phase.lr * rate:.2g}.",
                fix="lower the phase's lr or set its clip_norm=1; `topwork lr-find` suggests a rate.",
            )
        course.end_step()
        course.running.saw(logits, labels, loss=loss)
        if checkpoints.due() and step + 1 < task.feed.steps:
            checkpoints.save(course.saved())


def gradient_step(
    task: Task,
    phase: Phase,
    *,
    inputs: torch.Tensor,
    labels: npt.NDArray[np.int64],
    optimizer: torch.optim.Optimizer,
    random: np.random.Generator,
) -> tuple[torch.Tensor, float]:
    """One step of the optimizer at the rates of its groups: mixing, forward, backward, clipping.

    Args:
        task: what is trained.
        phase: gives mixing and clipping.
        inputs: (B,...) of the feed.
        labels: (B,).
        optimizer: of the task's parameters.
        random: chance for mixing.

    Returns:
        Logits (B,K) and the loss before the step.
    """
    targets = F.one_hot(torch.from_numpy(labels), len(task.classes)).float()  # (B,) -> (B,K)
    inputs, targets = mix(inputs, targets, phase=phase, random=random)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=task.bf16):
        logits = task.forward(inputs)
    loss = task.loss(logits, targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    if phase.clip_norm is not None:
        nn.utils.clip_grad_norm_(list(task.trainable().values()), phase.clip_norm)
    optimizer.step()
    return logits, float(loss.detach())
