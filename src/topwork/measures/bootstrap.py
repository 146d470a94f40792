"""Stratified BCa bootstrap of anything that is a function of sums over photos. Knows no measure by name.

Only sums are resampled: with C summands a photo, a resample costs one sparse product whatever the measures are, and all
measures share the resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.measures.intervals import Interval, wilson

__all__ = ["Bootstrap", "bootstrap", "unit_numbers"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Statistics = Callable[[_Floats], Mapping[str, _Floats]]
"""Sums (..., C) -> measures (...) by name."""

_RESAMPLES = 2000
_MOST_UNITS = 20_000  # more are merged at random, which bounds the time and keeps the variance of sums
_NUMBERS = 4_000_000  # float64 numbers held at once: 32 MB
_NORMAL = NormalDist()


@dataclass(frozen=True, kw_only=True, eq=False)
class Bootstrap:
    """Measures with their resampled values.

    Args:
        values: name -> value on all photos.
        draws: name -> (B,) values on resamples.
        influence: name -> (U,) what each unit adds to the value, relative to its stratum; gives the acceleration.
        photos: behind every value.
        effective: units that an average over strata rests on, K² / Σ 1/u_k for u_k units in stratum k.
    """

    values: Mapping[str, float]
    draws: Mapping[str, _Floats]
    influence: Mapping[str, _Floats]
    photos: int
    effective: float

    def interval(self, name: str, *, confidence: float = 0.95, ceiling: float = 1.0) -> Interval:
        """Bias-corrected and accelerated interval of one measure; it always holds the value.

        Bounds are the quantiles Φ(z + (z + z_t) / (1 - a (z + z_t))) of the draws at tails t, with z = Φ⁻¹(share of
        draws below the value) and a = Σ I³ / (6 (Σ I²)^1.5) over influences I.

        If no draw differs from the value (every photo right, say), resampling shows nothing; then the value counts as a
        share of its ceiling among the effective units, with a Wilson interval.

        Args:
            name: of the measure.
            confidence: in (0, 1).
            ceiling: largest value that the measure can take; its smallest is 0.

        Source: B. Efron (1987), JASA 82(397); strata: A. C. Davison, D. V. Hinkley (1997), Bootstrap Methods, 5.3.2.
        """
        value, draws = self.values[name], self.draws[name]
        if not self.varies(name):
            ceiling = max(ceiling, value)
            share = wilson(value / ceiling * self.effective, self.effective, confidence=confidence)
            low, high = share.low * ceiling, share.high * ceiling
        else:
            low, high = _bca(value, draws, influence=self.influence[name], confidence=confidence)
        return Interval(value=value, low=min(low, value), high=max(high, value), n=self.photos)

    def varies(self, name: str) -> bool:
        """Whether any draw of a measure differs from its value by more than rounding."""
        return not np.allclose(self.draws[name], self.values[name], rtol=1e-12, atol=1e-15)

    def minus(self, other: Bootstrap) -> Bootstrap:
        """The differences of the measures of two independent samples with equally many resamples."""
        names = self.values.keys() & other.values.keys()
        return Bootstrap(
            values={name: self.values[name] - other.values[name] for name in names},
            draws={name: self.draws[name] - other.draws[name] for name in names},
            influence={name: np.concatenate([self.influence[name], -other.influence[name]]) for name in names},
            photos=self.photos + other.photos,
            effective=min(self.effective, other.effective),
        )


def bootstrap(
    summands: Any,
    statistics: _Statistics,
    *,
    strata: _Ints,
    groups: Sequence[str] | None = None,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Bootstrap:
    """Resample photos, or whole groups of photos, within strata.

    A group belongs to the stratum that most of its photos have. Beyond 20,000 units, random units of a stratum are
    merged: the sums keep their variance, and the time stays bounded.

    Args:
        summands: (N,C) array or SciPy sparse array, N >= 1; what each photo adds to each sum.
        statistics: sums (...,C) -> measures (...) by name.
        strata: (N,) integers >= 0, such as labels; the number of units from each stays as it is.
        groups: N names; photos with the same name stay together, an empty name is a group of its own.
        resamples: B >= 1.
        seed: of the resampling; the same seed gives the same numbers.
    """
    from scipy import sparse

    rng = np.random.default_rng(seed)
    unit_of, strata_of = _units(strata, groups)
    unit_of, strata_of = _merged(unit_of, strata_of, rng=rng)
    photos, units = len(strata), len(strata_of)
    together = sparse.csr_array((np.ones(photos), (unit_of, np.arange(photos))), shape=(units, photos))
    sums = together @ sparse.csr_array(summands)  # (U,C)
    whole = np.asarray(sums.sum(axis=0)).ravel()
    sizes = np.bincount(strata_of)
    left_out = _left_out(sums, whole, statistics=statistics)
    return Bootstrap(
        values={name: float(value) for name, value in statistics(whole).items()},
        draws=_draws(sums, statistics, sizes=sizes, resamples=resamples, rng=rng),
        influence={name: _influence(values, strata_of, sizes=sizes) for name, values in left_out.items()},
        photos=photos,
        effective=float(np.count_nonzero(sizes) ** 2 / (1 / sizes[sizes > 0]).sum()),
    )


def unit_numbers(groups: Sequence[str]) -> _Ints:
    """Numbers (N,) from 0, equal where the names of N photos' groups are; an empty name is a group of its own."""
    names = [f"g{group}" if group else f"p{position}" for position, group in enumerate(groups)]
    return np.asarray(np.unique(names, return_inverse=True)[1], dtype=np.int64)


def _bca(value: float, draws: _Floats, *, influence: _Floats, confidence: float) -> tuple[float, float]:
    below = (np.count_nonzero(draws < value) + np.count_nonzero(draws <= value)) / (2 * len(draws))
    bias = _NORMAL.inv_cdf(float(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws))))
    scale = float((influence**2).sum()) ** 1.5
    acceleration = float((influence**3).sum()) / (6 * scale) if scale > 0 else 0.0
    shares = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + _NORMAL.inv_cdf(tail)
        room = max(1e-9, 1 - acceleration * z)  # beyond it the formula would turn round
        shares.append(_NORMAL.cdf(bias + z / room))
    low, high = np.quantile(draws, shares)
    return float(low), float(high)


def _units(strata: _Ints, groups: Sequence[str] | None) -> tuple[_Ints, _Ints]:
    """The unit (N,) of each photo and the stratum (U,) of each unit; units are ordered by stratum."""
    unit_of = np.arange(len(strata)) if groups is None else unit_numbers(groups)
    pairs, photos_of = np.unique(np.stack([unit_of, strata]), axis=1, return_counts=True)  # (2,P): unit, stratum
    order = np.lexsort((pairs[1], -photos_of, pairs[0]))  # in each unit, the stratum with most photos comes first
    units, first = np.unique(pairs[0][order], return_index=True)
    strata_of = pairs[1][order][first]
    place = np.empty(len(units), dtype=np.int64)
    by_stratum = np.argsort(strata_of, kind="stable")
    place[by_stratum] = np.arange(len(units))
    return place[unit_of], np.asarray(strata_of[by_stratum], dtype=np.int64)


def _merged(unit_of: _Ints, strata_of: _Ints, *, rng: np.random.Generator) -> tuple[_Ints, _Ints]:
    """At most about 20,000 units; the share of each stratum stays, and small strata are not merged below 20 units."""
    if len(strata_of) <= _MOST_UNITS:
        return unit_of, strata_of
    sizes = np.bincount(strata_of)
    wanted = np.minimum(sizes, np.maximum(20, np.ceil(sizes * (_MOST_UNITS / len(strata_of))).astype(np.int64)))
    starts = np.cumsum(wanted) - wanted
    shuffled = np.lexsort((rng.random(len(strata_of)), strata_of))  # random order within each stratum
    rank = np.empty(len(strata_of), dtype=np.int64)
    rank[shuffled] = np.arange(len(strata_of)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    block = starts[strata_of] + rank * wanted[strata_of] // sizes[strata_of]  # equal blocks, +-1 unit
    return block[unit_of], np.repeat(np.arange(len(sizes)), wanted)


def _draws(
    sums: Any, statistics: _Statistics, *, sizes: _Ints, resamples: int, rng: np.random.Generator
) -> dict[str, _Floats]:
    units, columns = sums.shape
    starts, size_of = np.repeat(np.cumsum(sizes) - sizes, sizes), np.repeat(sizes, sizes)
    step = max(1, _NUMBERS // max(units, columns))
    parts = []
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        chosen = starts + (rng.random((rows, units)) * size_of).astype(np.int64)  # one of the unit's own stratum
        flat = (chosen + units * np.arange(rows)[:, None]).ravel()
        times = np.bincount(flat, minlength=rows * units).reshape(rows, units).astype(np.float64)
        parts.append(statistics(times @ sums))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _left_out(sums: Any, whole: _Floats, *, statistics: _Statistics) -> dict[str, _Floats]:
    units, columns = sums.shape
    step = max(1, _NUMBERS // columns)
    parts = [statistics(whole - sums[first : first + step].toarray()) for first in range(0, units, step)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _influence(left_out: _Floats, strata_of: _Ints, *, sizes: _Ints) -> _Floats:
    """(n-1)/n (mean - value without the unit) within each stratum of n units; 0 where the unit is alone."""
    means = np.bincount(strata_of, weights=left_out) / np.maximum(sizes, 1)
    n = sizes[strata_of]
    return np.asarray((n - 1) / n * (means[strata_of] - left_out))
