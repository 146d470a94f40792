"""`Interval`: a number with its uncertainty and its n; closed forms for shares of photos. Knows counts only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "design_effect", "difference", "f1_interval", "wilson"]

_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value between two bounds.

    Args:
        value: the point estimate.
        low, high: bounds of the confidence interval, low <= value <= high; 95 % unless said otherwise.
        n: photos that the value rests on; with n = 0 nothing is known and the bounds are the whole range.

    Raises:
        ValueError: if the order is broken or a number is not finite.

    Example:
        >>> print(Interval(value=0.943, low=0.924, high=0.958, n=734))
        0.943 [0.924, 0.958] n=734
    """

    value: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.value <= self.high):
            raise ValueError(
                "The bounds of an Interval must be finite and hold its value."
                f" Got {self.low}, {self.value}, {self.high}."
            )

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.n}"

    def to_json(self) -> dict[str, Any]:
        """`{"value", "low", "high", "n"}`."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Interval:
        """The inverse of `to_json`; other keys are refused.

        Raises:
            KeyError, TypeError, ValueError: if the mapping is not what `to_json` writes.
        """
        if set(value) != {"value", "low", "high", "n"}:
            raise KeyError(f"The keys of an Interval must be value, low, high, n. Got {sorted(value)}.")
        bounds = {key: float(value[key]) for key in ("value", "low", "high")}
        return cls(**bounds, n=int(value["n"]))


def wilson(successes: float, trials: float, *, confidence: float = 0.95, effect: float = 1.0) -> Interval:
    """Score interval of a share. Never empty: 10 of 10 gives [0.72, 1].

    With m = trials / effect and p = successes / trials:
    centre (p + z²/2m) / (1 + z²/m), half width z √(p(1-p)/m + z²/4m²) / (1 + z²/m).

    Args:
        successes: in [0, trials].
        trials: predictions made, >= 0; 0 gives value 0 and [0, 1].
        confidence: in (0, 1).
        effect: >= 1, how many predictions count as one because they come in groups; see `design_effect`.

    Raises:
        ValueError: if an argument is out of range.

    Source: E. B. Wilson (1927), JASA 22(158).

    Example:
        >>> print(wilson(9, 10))
        0.900 [0.596, 0.982] n=10
    """
    if not (0 <= successes <= trials and 0 < confidence < 1 and effect >= 1):
        raise ValueError(
            "The arguments of wilson must be 0 <= successes <= trials, 0 < confidence < 1, effect >= 1."
            f" Got {successes}, {trials}, {confidence}, {effect}."
        )
    if trials == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    p, m = successes / trials, trials / effect
    scale = 1 + z * z / m
    centre = (p + z * z / (2 * m)) / scale
    half = z * math.sqrt(p * (1 - p) / m + z * z / (4 * m * m)) / scale
    # Rounding must not push a bound past the value, which sits on it at 0 and at 1.
    return Interval(value=p, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)), n=round(trials))


def f1_interval(hits: float, union: float, *, confidence: float = 0.95, effect: float = 1.0) -> Interval:
    """Interval of one class's F1 from the Wilson interval of a share.

    Of the photos that have the class or were given it, the share J that has both is a proportion, and F1 = 2J / (1 + J)
    rises with J, so bounds of J become bounds of F1.

    Args:
        hits: photos of the class that were given it.
        union: photos that have the class or were given it.
        confidence, effect: as for `wilson`.

    Source: D. J. Hand, P. Christen, N. Kirielle (2021), Machine Learning 110 (F* = J).

    Example:
        >>> print(f1_interval(9, 12))
        0.857 [0.637, 0.953] n=12
    """
    share = wilson(hits, union, confidence=confidence, effect=effect)
    value, low, high = (2 * bound / (1 + bound) for bound in (share.value, share.low, share.high))
    return Interval(value=value, low=low, high=high, n=share.n)


def design_effect(successes: npt.NDArray[np.float64], trials: npt.NDArray[np.float64]) -> float:
    """By how much grouping inflates the variance of the share sum(successes) / sum(trials); >= 1.

    Var = G/(G-1) Σ (s_g - p t_g)² / n², divided by p(1-p)/n. Where p is 0 or 1 it shows nothing, and then each group is
    counted as one observation: n / G.

    Args:
        successes, trials: (G,) of each group, 0 <= successes <= trials; means over seeds may be fractions. Groups
            without trials do not count.

    Source: J. N. K. Rao, A. J. Scott (1992), Biometrics 48(2).

    Example:
        >>> design_effect(np.array([2.0, 0.0, 2.0, 0.0]), np.array([2.0, 2.0, 2.0, 2.0]))  # pairs that agree
        2.6666666666666665
    """
    successes, trials = successes[trials > 0], trials[trials > 0]
    count, n = len(trials), float(trials.sum())
    if (trials == 1).all():
        return 1.0
    p = float(successes.sum()) / n
    if count < 2 or p in (0.0, 1.0):
        return max(1.0, n / count)
    variance = count / (count - 1) * float(((successes - p * trials) ** 2).sum()) / n**2
    return max(1.0, min(n, variance / (p * (1 - p) / n)))


def difference(a: Interval, b: Interval) -> Interval:
    """a - b of two independent values from their own intervals; n is the photos of both.

    low = d - √((a - a_low)² + (b_high - b)²), high = d + √((a_high - a)² + (b - b_low)²).

    Source: R. G. Newcombe (1998), Statistics in Medicine 17(8), method 10, where both are Wilson intervals.

    Example:
        >>> print(difference(wilson(56, 70), wilson(48, 80)))
        0.200 [0.052, 0.334] n=150
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value=value, low=low, high=high, n=a.n + b.n)
