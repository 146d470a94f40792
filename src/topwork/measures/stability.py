"""`Stability`: how much the validation loss jumps from epoch to epoch, as numbers. Knows losses only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from topwork.measures.intervals import Interval

__all__ = ["Stability", "deviation"]

_JUMP = 0.2


@dataclass(frozen=True, kw_only=True)
class Stability:
    """The changes of the validation loss between successive epochs of one phase.

    Args:
        spread: their standard deviation in nats, with n changes; 0 where the loss falls by equal steps.
        largest_rise: in nats, >= 0.
        rises: how many changes are rises.
        lowest: the lowest loss of all epochs, in nats.
    """

    spread: Interval
    largest_rise: float
    rises: int
    lowest: float

    @property
    def unsteady(self) -> bool:
        """Whether the loss has risen by more than a fifth of its lowest value between two epochs."""
        return self.largest_rise > _JUMP * self.lowest

    @classmethod
    def of(cls, losses: Sequence[float]) -> Stability | None:
        """From the validation losses of all epochs in order; None for fewer than three epochs.

        Example:
            >>> found = Stability.of([1.0, 0.8, 0.6, 0.7])
            >>> round(found.spread.value, 3), round(found.largest_rise, 3), found.rises
            (0.173, 0.1, 1)
        """
        if len(losses) < 3:
            return None
        changes = np.diff(np.asarray(losses, dtype=np.float64))
        return cls(
            spread=deviation(changes),
            largest_rise=max(0.0, float(changes.max())),
            rises=int((changes > 0).sum()),
            lowest=float(min(losses)),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "spread": self.spread.to_json(),
            "largest_rise": self.largest_rise,
            "rises": self.rises,
            "lowest": self.lowest,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Stability:
        """The inverse of `to_json`."""
        return cls(
            spread=Interval.from_json(value["spread"]),
            largest_rise=float(value["largest_rise"]),
            rises=int(value["rises"]),
            lowest=float(value["lowest"]),
        )


def deviation(values: Sequence[float] | np.ndarray[Any, np.dtype[np.float64]], *, confidence: float = 0.95) -> Interval:
    """Standard deviation of at least two values, with the chi-square interval of normal ones.

    sqrt((n - 1) s² / chi²), with the upper and the lower quantile of chi² at n - 1 degrees of freedom.

    Args:
        values: n >= 2 numbers.
        confidence: in (0, 1).

    Example:
        >>> print(deviation([1.0, 2.0, 3.0, 4.0, 5.0]))
        1.581 [0.947, 4.543] n=5
    """
    from scipy.special import gammaincinv

    n = len(values)
    if n < 2:
        raise ValueError(f"A deviation needs at least two values. Got {n}.")
    half, tail = (n - 1) / 2, (1 - confidence) / 2
    squares = float(np.var(values) * n)
    low, high = (math.sqrt(squares / (2 * float(gammaincinv(half, share)))) for share in (1 - tail, tail))
    return Interval(value=math.sqrt(squares / (n - 1)), low=low, high=high, n=n)
