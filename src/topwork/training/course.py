"""`Course`: all that decides how a phase goes on, so that it can be saved and taken up again to the bit.

Weights, optimizer, moving average, place in the schedule, random states, place in the order of the photos, what the
running epoch has seen, and the best so far. Knows no files.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from topwork.digest import seed_from
from topwork.measures.predictions import Predictions
from topwork.recipe import Phase, StopChoice
from topwork.training.optimizer import MovingAverage, make_optimizer, parameter_groups
from topwork.training.schedule import Timeline
from topwork.training.task import Task, Weights, snapshot

__all__ = ["Better", "Course", "RunningEpoch", "Saved"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Saved:
    """A course as values.

    Args:
        phase: 1 or 2.
        facts: plain values.
        state: tensors by name.
        kept: the weights that the recipe keeps, as of now.
        kept_epoch: which epoch they are of; 0 is the start.
    """

    phase: int
    facts: Mapping[str, Any]
    state: Weights
    kept: Weights
    kept_epoch: int


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

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `take_up`."""
        return {"best": self._best, "waited": self._waited}

    def take_up(self, value: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        best = value["best"]
        self._best, self._waited = None if best is None else (best[0], best[1]), value["waited"]


@dataclass(kw_only=True)
class RunningEpoch:
    """The epoch that is running: what was seen on the way, and its own source of chance.

    Args:
        random: of MixUp and CutMix.
        losses: of the steps that are done.
        logits, labels: of their photos, (B,K) and (B,) each.
    """

    random: np.random.Generator
    losses: list[float] = field(default_factory=list)
    logits: list[npt.NDArray[np.float64]] = field(default_factory=list)
    labels: list[npt.NDArray[np.int64]] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Steps that are done."""
        return len(self.losses)

    def saw(self, logits: torch.Tensor, labels: npt.NDArray[np.int64], *, loss: float) -> None:
        """One more step is done."""
        self.losses.append(loss)
        self.logits.append(logits.detach().double().numpy())
        self.labels.append(labels)

    def result(self, classes: tuple[str, ...]) -> tuple[Predictions, float]:
        """The predictions made on the way, and the mean training loss."""
        labels = np.concatenate(self.labels)
        seen = Predictions(
            logits=np.concatenate(self.logits), labels=labels, paths=("",) * len(labels), classes=classes
        )
        return seen, float(np.mean(self.losses))


class Course:
    """The training of one phase, from wherever it stands.

    Args:
        task: what is trained.
        phase: how.
        number: 1 or 2.
        stop: metric, patience, and whether the best or the last epoch is kept.

    Attributes:
        optimizer: with its state.
        timeline: the place in the schedule.
        running: the epoch that is running.
        last: weights after the last whole epoch, as they were judged; None before the first.
    """

    def __init__(self, task: Task, phase: Phase, *, number: int, stop: StopChoice) -> None:
        self._task = task
        self._number = number
        self._stop = stop
        self.optimizer = make_optimizer(phase, parameter_groups(phase, task.depths))
        self.timeline = Timeline(phase, steps=task.feed.steps)
        self._average = MovingAverage(task.averaged(), phase.ema) if phase.ema > 0 else None
        self._better = Better(stop)
        self._kept, self._kept_epoch = snapshot(task.module), 0
        self.last: Weights | None = None
        self.running = self._next_epoch()
        torch.manual_seed(seed_from("dropout", task.seed, number))

    @property
    def epoch(self) -> int:
        """The running epoch, from 1."""
        return self.timeline.done + 1

    @property
    def over(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        return self.timeline.done >= self.timeline.epochs or self._better.exhausted

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block the module holds the moving average, where the recipe asks for one."""
        return self._average.applied() if self._average else nullcontext()

    def end_step(self) -> None:
        """The optimizer has made a step."""
        if self._average:
            self._average.update()

    def judged(self, metric: float, loss: float) -> bool:
        """Take in the validation result of the weights that the module holds now; whether it is the best so far."""
        best = self._better.improved(metric, loss)
        self.last = snapshot(self._task.module)
        if best or self._stop.keep == "last":
            self._kept, self._kept_epoch = self.last, self.epoch
        return best

    def end_epoch(self, epochs: int | None = None) -> None:
        """The running epoch is over; `epochs` as in `Timeline.end_epoch`."""
        self.timeline.end_epoch(epochs)
        self.running = self._next_epoch()

    def put_kept(self) -> None:
        """Give the module the weights that the recipe keeps."""
        self._task.module.load_state_dict(self._kept, strict=False)  # the rest never changed
        self._task.module.eval()

    def saved(self) -> Saved:
        """Everything, as values that `take_up` continues from."""
        running = self.running
        state = _prefixed("weights", snapshot(self._task.module)) | _optimizer_tensors(self.optimizer)
        state["random"] = torch.get_rng_state()
        if running.steps:
            state["losses"] = torch.tensor(running.losses, dtype=torch.float64)
            state["logits"] = torch.from_numpy(np.concatenate(running.logits))
            state["labels"] = torch.from_numpy(np.concatenate(running.labels))
        facts = {
            "epoch": self.epoch,
            "step": running.steps,
            "timeline": self.timeline.to_json(),
            "better": self._better.to_json(),
            "mix": running.random.bit_generator.state,
        }
        if self._average:
            facts["average steps"] = self._average.steps
            state |= _prefixed("average", self._average.average)
        if self.last is not None:
            state |= _prefixed("last", self.last)
        return Saved(phase=self._number, facts=facts, state=state, kept=self._kept, kept_epoch=self._kept_epoch)

    def take_up(self, saved: Saved) -> None:
        """Go on from there; the next step comes out as if there had been no break."""
        facts, state = saved.facts, saved.state
        self._task.module.load_state_dict(_with_prefix("weights", state), strict=False)
        _load_optimizer(self.optimizer, state)
        self.timeline.take_up(facts["timeline"])
        self._better.take_up(facts["better"])
        self._kept, self._kept_epoch = dict(saved.kept), saved.kept_epoch
        self.last = _with_prefix("last", state) or None
        if self._average:
            self._average.take_up(_with_prefix("average", state), steps=facts["average steps"])
        self.running = self._next_epoch()
        self.running.random.bit_generator.state = facts["mix"]
        if facts["step"]:
            self.running.losses = state["losses"].tolist()
            self.running.logits, self.running.labels = [state["logits"].numpy()], [state["labels"].numpy()]
        torch.set_rng_state(state["random"])

    def _next_epoch(self) -> RunningEpoch:
        return RunningEpoch(random=np.random.default_rng(seed_from("mix", self._task.seed, self.epoch)))


def _prefixed(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Weights:
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def _with_prefix(prefix: str, tensors: Mapping[str, torch.Tensor]) -> Weights:
    start = f"{prefix}/"
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Weights:
    """Momenta and step counts by number of parameter; rates are no state, the schedule gives them anew."""
    return {
        f"optimizer/{number}/{key}": value
        for number, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
        if isinstance(value, torch.Tensor)
    }


def _load_optimizer(optimizer: torch.optim.Optimizer, state: Weights) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]  # numbered as in its state
    entries: dict[int, Weights] = {}
    for name, value in _with_prefix("optimizer", state).items():
        number, _, key = name.partition("/")
        # A fused optimizer walks through memory: a moment must lie there as its weight does, channels last for one.
        like = parameters[int(number)] if value.dim() else value
        entries.setdefault(int(number), {})[key] = torch.empty_like(like, dtype=value.dtype).copy_(value)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": entries})
