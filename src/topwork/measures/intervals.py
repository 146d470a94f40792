"""`Interval`: a number with its uncertainty and its n. Wilson for shares, the BCa bootstrap for everything else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Interval", "bca_interval", "resampled_totals", "wilson", "wilson_difference"]

Floats = npt.NDArray[np.float64]
_NORMAL = NormalDist()
_CELLS = 4_000_000  # resampling weights held at once: 32 MB


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A value with a 95 % confidence interval.

    Args:
        value: the point estimate.
        low, high: bounds, low <= value <= high.
        n: independent observations behind it.

    Example:
        >>> print(Interval(value=0.943, low=0.924, high=0.958, n=734))
        0.943 [0.924, 0.958] n=734
    """

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] n={self.n}"

    def to_json(self) -> dict[str, Any]:
        """`{"value", "low", "high", "n"}`."""
        return asdict(self)


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Interval:
    """Score interval of a share.

    Centre (p + z^2/2n) / (1 + z^2/n), half width z sqrt(p(1-p)/n + z^2/4n^2) / (1 + z^2/n).

    Args:
        successes: in [0, trials].
        trials: >= 0; without trials the interval is [0, 1].
        confidence: in (0, 1).

    Source: E. B. Wilson (1927), JASA 22(158).

    Example:
        >>> print(wilson(9, 10))
        0.900 [0.596, 0.982] n=10
    """
    if trials == 0:
        return Interval(value=0.0, low=0.0, high=1.0, n=0)
    z = _NORMAL.inv_cdf((1 + confidence) / 2)
    p = successes / trials
    scale = 1 + z * z / trials
    centre = (p + z * z / (2 * trials)) / scale
    half = z * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / scale
    return Interval(value=p, low=min(p, max(0.0, centre - half)), high=max(p, min(1.0, centre + half)), n=trials)


def wilson_difference(a: Interval, b: Interval) -> Interval:
    """Difference a - b of two independent values from their own intervals.

    Source: R. G. Newcombe (1998), Statistics in Medicine 17, method 10, for shares; the square-and-add rule for others.
    """
    value = a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value=value, low=low, high=high, n=min(a.n, b.n))


def resampled_totals(
    units: Floats, strata: npt.NDArray[np.int64], *, resamples: int = 1000, seed: int = 0
) -> Floats:
    """Bootstrap totals of additive quantities, resampling units with replacement inside each stratum.

    Args:
        units: (m,d), one row a photo, or a group of photos that must stay together.
        strata: (m,) the stratum of each unit.
        resamples: number of bootstrap samples, >= 1.
        seed: of the resampling.

    Returns:
        (resamples, d) sums over the resampled units.
    """
    random = np.random.default_rng(seed)
    totals = np.zeros((resamples, units.shape[1]))
    for stratum in np.unique(strata):
        members = units[strata == stratum]
        count = len(members)
        step = max(1, _CELLS // count)
        for start in range(0, resamples, step):
            rows = min(step, resamples - start)
            weights = random.multinomial(count, np.full(count, 1 / count), size=rows)
            totals[start : start + rows] += weights @ members
    return totals


def bca_interval(
    statistic: Callable[[Floats], Floats], units: Floats, totals: Floats, *, n: int, confidence: float = 0.95
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of a statistic of totals.

    Args:
        statistic: totals (..., d) -> values (...).
        units: (m,d) additive quantities of each unit; their leave-one-out values give the acceleration.
        totals: (B,d) from `resampled_totals`.
        n: photos behind the value.
        confidence: in (0, 1).

    Source: B. Efron (1987), JASA 82(397).
    """
    whole = units.sum(axis=0)
    value = float(statistic(whole))
    replicates = np.sort(statistic(totals))
    if len(units) < 2 or replicates[0] == replicates[-1]:
        return Interval(value=value, low=min(value, float(replicates[0])), high=max(value, float(replicates[-1])), n=n)
    below = (np.sum(replicates < value) + 0.5 * np.sum(replicates == value)) / len(replicates)
    bias = _NORMAL.inv_cdf(float(np.clip(below, 1e-6, 1 - 1e-6)))
    left_out = statistic(whole - units)
    spread = left_out.mean() - left_out
    scale = float((spread**2).sum()) ** 1.5
    acceleration = float((spread**3).sum()) / (6 * scale) if scale > 0 else 0.0
    ends = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + z / max(1e-9, 1 - acceleration * z)))
    low, high = (float(end) for end in np.quantile(replicates, ends))
    return Interval(value=value, low=min(low, value), high=max(high, value), n=n)
