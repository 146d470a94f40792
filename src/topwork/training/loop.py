"""The training loop: visible from top to bottom, no callbacks. Knows neither files nor where batches come from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from topwork.digest import seed_from
from topwork.measures.calibration import nll_terms
from topwork.measures.predictions import Predictions
from topwork.recipe import Phase, StopChoice
from topwork.training.feeds import Feed
from topwork.training.history import EpochRecord, score
from topwork.training.loss import Loss
from topwork.training.mixing import mix
from topwork.training.optimizer import MovingAverage, make_optimizer, parameter_groups
from topwork.training.schedule import Timeline

__all__ = ["Better", "Pace", "Task", "fit_epochs"]

Pace = Callable[[int, int], int]
"""Asked after every epoch: (epochs done, epochs planned) -> epochs that there shall be in all."""

_Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is trained, on what, and how it is judged.

    Args:
        forward: inputs of the feed (B,...) -> logits (B,K).
        module: owns the weights; put in training mode by `train_mode`.
        train_mode: puts what learns in training mode and leaves the rest in evaluation mode.
        depths: trainable parameters of the head, of the block below it, and so on.
        feed: batches of an epoch.
        loss: of logits and target probabilities.
        validate: predictions on the clean validation view at this moment.
        classes: names.
        bf16: whether forward and backward passes run in bfloat16 where torch deems that safe.
        seed: of mixing and dropout.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    module: nn.Module
    train_mode: Callable[[], None]
    depths: Sequence[Sequence[nn.Parameter]]
    feed: Feed
    loss: Loss
    validate: Callable[[], Predictions]
    classes: tuple[str, ...]
    bf16: bool = False
    seed: int = 0

    def trainable(self) -> Mapping[str, nn.Parameter]:
        """Name -> parameter, of those that learn."""
        return {name: p for name, p in self.module.named_parameters() if p.requires_grad}


class Better:
    """Remembers the best validation result: higher metric, ties by lower NLL.

    Args:
        stop: gives the metric and the patience.
    """

    def __init__(self, stop: StopChoice) -> None:
        self._stop = stop
        self._best: tuple[float, float] | None = None
        self._waited = 0

    def improved(self, metric: float, loss: float) -> bool:
        """Whether this is the best so far."""
        found = (round(metric, 9), -loss)
        if self._best is None or found > self._best:
            self._best, self._waited = found, 0
            return True
        self._waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether patience is at its end."""
        return self._waited >= self._stop.patience


def fit_epochs(
    task: Task, phase: Phase, *, number: int, stop: StopChoice, pace: Pace | None = None
) -> Iterator[EpochRecord]:
    """Train epoch by epoch; after the last record the module holds the weights that the recipe keeps.

    The consumer may stop early by closing the generator; the weights kept so far are then restored.

    Args:
        task: what is trained.
        phase: how.
        number: 1 or 2, for the records.
        stop: metric, patience, and whether the best or the last epoch is kept.
        pace: may take epochs away; the rest of the schedule is then gone through faster.
    """
    optimizer = make_optimizer(phase, parameter_groups(phase, task.depths))
    average = MovingAverage(task.trainable(), phase.ema) if phase.ema > 0 else None
    timeline = Timeline(phase, steps=task.feed.steps)
    better = Better(stop)
    kept = _snapshot(task.module)
    torch.manual_seed(seed_from("dropout", task.seed, number))
    try:
        while timeline.done < timeline.epochs:
            started = time.perf_counter()
            epoch = timeline.done + 1
            train = _train_epoch(task, phase, epoch=epoch, optimizer=optimizer, average=average, rate=timeline.factor)
            task.module.eval()
            with average.applied() if average else nullcontext():
                val = task.validate()
                nll = float(nll_terms(val).mean())
                scores = score(val, nll)
                metric = scores.f1 if stop.metric == "macro_f1" else scores.accuracy
                best = better.improved(metric, nll)
                if best or stop.keep == "last":
                    kept = _snapshot(task.module)
            yield EpochRecord(
                phase=number,
                epoch=epoch,
                lr=float(optimizer.param_groups[0]["lr"]),
                seconds=time.perf_counter() - started,
                train=score(*train),
                val=scores,
                kept=best,
            )
            if better.exhausted:
                return
            timeline.end_epoch(pace(epoch, timeline.epochs) if pace else None)
    finally:
        task.module.load_state_dict(kept)
        task.module.eval()


def _train_epoch(
    task: Task,
    phase: Phase,
    *,
    epoch: int,
    optimizer: torch.optim.Optimizer,
    average: MovingAverage | None,
    rate: Callable[[int], float],
) -> tuple[Predictions, float]:
    """One pass over the feed -> the predictions made on the way, and the mean training loss."""
    random = np.random.default_rng(seed_from("mix", task.seed, epoch))
    trainable = list(task.trainable().values())
    losses: list[float] = []
    logits_seen: list[npt.NDArray[np.float64]] = []
    labels_seen: list[npt.NDArray[np.int64]] = []
    task.train_mode()
    for step, (inputs, labels) in enumerate(task.feed.epoch(epoch)):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * rate(step)
        targets = F.one_hot(torch.from_numpy(labels), len(task.classes)).float()  # (B,) -> (B,K)
        inputs, targets = mix(inputs, targets, phase=phase, random=random)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=task.bf16):
            logits = task.forward(inputs)
        loss = task.loss(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if phase.clip_norm is not None:
            nn.utils.clip_grad_norm_(trainable, phase.clip_norm)
        optimizer.step()
        if average:
            average.update()
        losses.append(float(loss.detach()))
        logits_seen.append(logits.detach().double().numpy())
        labels_seen.append(labels)
    paths = ("",) * sum(len(labels) for labels in labels_seen)
    seen = Predictions(
        logits=np.concatenate(logits_seen), labels=np.concatenate(labels_seen), paths=paths, classes=task.classes
    )
    return seen, float(np.mean(losses))


def _snapshot(module: nn.Module) -> _Weights:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}
