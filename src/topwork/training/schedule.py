"""Learning rate over steps: pure functions of the share of training that is done."""

from __future__ import annotations

import math
from collections.abc import Callable

from topwork.recipe import Phase

__all__ = ["lr_factor"]


def lr_factor(phase: Phase, *, step: int, steps: int) -> float:
    """Factor in [0, 1] on the peak learning rate at `step` of `steps`.

    * `constant`: 1.
    * `one-cycle`: cosine from 1/25 up to 1 over the warm-up share, then cosine down to 1e-4.
      Source: L. N. Smith and N. Topin (2018), arXiv:1708.07120, with cosine legs.
    * `cosine`: linear warm-up, then half a cosine to 0. Source: I. Loshchilov and F. Hutter (2017), arXiv:1608.03983.
    * `step`: a tenth after each third.

    Args:
        phase: gives `schedule` and `warmup`.
        step: from 0 to steps - 1.
        steps: of the whole phase, >= 1.

    Example:
        >>> lr_factor(Phase(schedule="step"), step=50, steps=100)
        0.1
    """
    share = step / max(1, steps - 1)
    rules: dict[str, Callable[[], float]] = {
        "constant": lambda: 1.0,
        "one-cycle": lambda: _one_cycle(share, phase.warmup),
        "cosine": lambda: _cosine(share, phase.warmup),
        "step": lambda: 0.1 ** min(2, int(3 * step / max(1, steps))),
    }
    return rules[phase.schedule]()


def _one_cycle(share: float, warmup: float) -> float:
    if share < warmup:
        return _leg(1 / 25, 1.0, share=share / warmup)
    return _leg(1.0, 1e-4, share=(share - warmup) / max(1e-12, 1 - warmup))


def _cosine(share: float, warmup: float) -> float:
    if share < warmup:
        return share / warmup
    return _leg(1.0, 0.0, share=(share - warmup) / max(1e-12, 1 - warmup))


def _leg(start: float, end: float, *, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, share))) / 2
