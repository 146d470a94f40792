"""Learning rate over steps: pure functions of the share of training that is done, also where that gets shorter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from topwork.recipe import Phase

__all__ = ["Timeline", "lr_factor"]


def lr_factor(phase: Phase, *, step: float, steps: int) -> float:
    """Factor in (0, 1] on the peak learning rate at `step` of `steps`.

    * `constant`: 1.
    * `one-cycle`: cosine from 1/25 up to 1 over the warm-up share, then cosine down to 1e-4.
      Source: L. N. Smith and N. Topin (2018), arXiv:1708.07120, with cosine legs.
    * `cosine`: linear warm-up in equal steps, then half a cosine that would reach 0 one step after the last; no step
      is taken at rate 0. Source: I. Loshchilov and F. Hutter (2017), arXiv:1608.03983.
    * `step`: a tenth after each third.

    Args:
        phase: gives `schedule` and `warmup`.
        step: from 0 to steps - 1; a schedule that was shortened has steps between whole ones.
        steps: of the whole phase, > step.

    Example:
        >>> lr_factor(Phase(schedule="step"), step=50, steps=100)
        0.1
    """
    share = step / max(1, steps - 1)
    rules: dict[str, Callable[[], float]] = {
        "constant": lambda: 1.0,
        "one-cycle": lambda: _one_cycle(share, phase.warmup),
        "cosine": lambda: _cosine(step, steps, warm=phase.warmup * steps),
        "step": lambda: 0.1 ** min(2, int(3 * step / max(1, steps))),
    }
    return rules[phase.schedule]()


def _one_cycle(share: float, warmup: float) -> float:
    if share < warmup:
        return _leg(1 / 25, 1.0, share=share / warmup)
    return _leg(1.0, 1e-4, share=(share - warmup) / max(1e-12, 1 - warmup))


def _cosine(step: float, steps: int, *, warm: float) -> float:
    if step < warm:
        return (step + 1) / (warm + 1)
    return _leg(1.0, 0.0, share=(step - warm) / (steps - warm))


def _leg(start: float, end: float, *, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2


class Timeline:
    """Which point of its schedule a phase has reached. Epochs may be taken away while it runs.

    The remaining steps then go through the rest of the schedule in longer strides: the rate does not jump, and the last
    step still has the rate that the schedule ends with.

    Args:
        phase: gives epochs, schedule and `replanned`.
        steps: of an epoch, >= 1.

    Attributes:
        epochs: of the phase, as planned now.
        done: epochs that are over.
    """

    def __init__(self, phase: Phase, *, steps: int) -> None:
        self._phase = phase
        self._steps = steps
        self._position = 0.0  # of the next step, in steps of the schedule as it was planned at first
        self._stride = 1.0
        self.epochs = phase.epochs
        self.done = 0
        self._shorten(self._recorded())

    def factor(self, step: int) -> float:
        """The factor on the peak learning rate at a step of the running epoch, counted from 0."""
        return lr_factor(self._phase, step=self._position + step * self._stride, steps=self._whole)

    def end_epoch(self, epochs: int | None = None) -> None:
        """One more epoch is over.

        Args:
            epochs: how many there shall be in all; None for as many as planned. Epochs are never added.
        """
        self._position += self._steps * self._stride
        self.done += 1
        recorded = self._recorded()
        self._shorten(recorded if epochs is None else min(epochs, recorded))

    def to_json(self) -> dict[str, Any]:
        """Plain values, for `take_up`."""
        return {"position": self._position, "stride": self._stride, "epochs": self.epochs, "done": self.done}

    def take_up(self, value: Mapping[str, Any]) -> None:
        """Go on from what `to_json` gave."""
        self._position, self._stride = value["position"], value["stride"]
        self.epochs, self.done = value["epochs"], value["done"]
        self._shorten(self._recorded())  # an epoch that was given up half-way left no other trace

    @property
    def _whole(self) -> int:
        return self._phase.epochs * self._steps

    def _recorded(self) -> int:
        return dict(self._phase.replanned).get(self.done, self.epochs)

    def _shorten(self, epochs: int) -> None:
        if epochs >= self.epochs:
            return
        self.epochs = max(self.done, epochs)
        left = (self.epochs - self.done) * self._steps
        self._stride = (self._whole - 1 - self._position) / max(1, left - 1)
