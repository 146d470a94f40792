"""Two recipes judged on the same photos: McNemar's test, paired intervals, seed noise, Holm. Knows arrays only.

What decides is whether a difference would come back with other photos *and* with other seeds. Photos are paired, so
what is hard for both recipes cancels. Seeds are replicates: with S of them in each of F folds, the variance of a fold's
accuracy over seeds has up to F (S - 1) degrees of freedom. The part of it that single photos explain is in the paired
variance already, and only what is left over is added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from topwork.measures.bootstrap import bootstrap, unit_numbers
from topwork.measures.intervals import Interval, wilson

__all__ = [
    "LEVEL",
    "PairedTest",
    "SeedNoise",
    "Verdict",
    "holm",
    "mcnemar",
    "paired_interval",
    "paired_test",
    "seed_noise",
]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]

Verdict = Literal["better", "worse", "no difference beyond seed noise"]

LEVEL = 0.05
"""Chance of calling equal recipes different, over all comparisons of one family."""


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p value in (0, 1] of equal accuracy on the same photos.

    Of the photos that one recipe alone gets right, each is as likely to be either's: p = 2 P(X <= the smaller count)
    for X ~ Binomial(both counts together, 1/2), at most 1.

    Args:
        only_first, only_second: photos that only this recipe gets right, >= 0.

    Source: Q. McNemar (1947), Psychometrika 12(2).

    Example:
        >>> mcnemar(1, 9)
        0.021484375
    """
    from scipy.special import bdtr

    both = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), both, 0.5))) if both else 1.0


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """p values of one family, adjusted so that rejecting those <= 5 % is wrong anywhere with at most that chance.

    The k-th smallest of m becomes the largest of (m - j + 1) p_(j) for j <= k, at most 1.

    Args:
        p_values: m >= 0 numbers in [0, 1].

    Source: S. Holm (1979), Scandinavian Journal of Statistics 6(2).

    Example:
        >>> holm([0.01, 0.04, 0.03])
        (0.03, 0.06, 0.06)
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [1.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[position]))
        adjusted[position] = highest
    return tuple(adjusted)


@dataclass(frozen=True, kw_only=True)
class SeedNoise:
    """How much a recipe's accuracy moves with the seed.

    Args:
        variance: of the pooled accuracy of one seed, all causes.
        excess: of it, what independent flips of single photos (or groups) do not explain; >= 0.
        freedom: degrees of freedom behind the two, (S - 1) (Σ v)² / Σ v² for the variances v of the folds; 0 where
            there is one seed, and nothing is known.
    """

    variance: float
    excess: float
    freedom: float


def seed_noise(correct: _Flags, folds: _Ints, *, groups: Sequence[str] | None = None) -> SeedNoise:
    """Seed noise of one recipe, measured inside each fold, so that how hard a fold is does not count.

    Args:
        correct: (S,N) whether the model of each seed got each photo right.
        folds: (N,) number of the fold that judged the photo, from 0.
        groups: N names; photos of one name flip together.
    """
    seeds, photos = correct.shape
    if seeds < 2:
        return SeedNoise(variance=0.0, excess=0.0, freedom=0.0)
    sizes = np.bincount(folds)
    right = np.stack([np.bincount(folds, weights=row, minlength=len(sizes)) for row in correct])  # (S,F)
    by_fold = right.var(axis=0, ddof=1) / photos**2  # (F,) (n_f / N)^2 var(right_f / n_f)
    variance, squares = float(by_fold.sum()), float((by_fold**2).sum())
    units = correct if groups is None else np.stack([np.bincount(unit_numbers(groups), weights=row) for row in correct])
    flips = float(units.var(axis=0, ddof=1).sum()) / photos**2
    return SeedNoise(
        variance=variance,
        excess=max(0.0, variance - flips),
        freedom=(seeds - 1) * variance**2 / squares if squares > 0 else float(len(sizes) * (seeds - 1)),
    )


@dataclass(frozen=True, kw_only=True)
class PairedTest:
    """Second recipe against the first, on the same photos.

    Args:
        difference: accuracy of the second minus that of the first, means over seeds, in [-1, 1].
        error: standard error of the difference, over photos (or groups) and seeds.
        seed_error: the part of it that other seeds would move all photos by together.
        freedom: degrees of freedom of `error`.
        only_first, only_second: photos that only this one gets right, for the seed with the median McNemar p.
        mcnemar: exact p value for that seed.
        p: of equal accuracy: the larger one of McNemar's and that of difference / error.
    """

    difference: float
    error: float
    seed_error: float
    freedom: float
    only_first: int
    only_second: int
    mcnemar: float
    p: float

    def verdict(self, p_adjusted: float) -> Verdict:
        """What may be said of the second recipe, given the p value after Holm's correction."""
        if p_adjusted > LEVEL:
            return "no difference beyond seed noise"
        return "better" if self.difference > 0 else "worse"


def paired_test(first: _Flags, second: _Flags, *, folds: _Ints, groups: Sequence[str] | None = None) -> PairedTest:
    """Test whether two recipes are equally accurate.

    Both tests must agree that they are not: McNemar's, which is exact but takes the seeds at hand for granted and
    photos for independent, and a t test of the mean difference, whose error holds groups of photos and seeds. Its
    variance is U/(U-1) Σ_u (Σ_{i in u} (d_i - d))² / N² over U groups u, where d_i is the difference on photo i
    averaged over seeds, plus the excess seed variance of each recipe over its seeds; degrees of freedom as
    Satterthwaite has them. Where it is 0, because every photo shows the same difference, each group is one toss of a
    fair coin, and all fell on one side.

    Args:
        first, second: (S,N) whether each seed's model got each photo right; S may differ, 1 for what has no seed.
        folds: (N,) number of the fold that judged the photo, from 0.
        groups: N names; photos of one name count as one observation; an empty name is a group of its own.

    Source: F. E. Satterthwaite (1946), Biometrics Bulletin 2(6).
    """
    from scipy.special import stdtr

    gap = second.mean(axis=0) - first.mean(axis=0)  # (N,)
    difference = float(gap.mean())
    paired, units = _cluster_variance(gap, groups)
    noises = [
        (noise.excess / len(of), noise.freedom)
        for of in (first, second)
        for noise in [seed_noise(of, folds, groups=groups)]
    ]
    seed_variance = sum(excess for excess, _ in noises)
    variance = paired + seed_variance
    parts = [(paired, units - 1), *noises]
    spread = sum(part**2 / freedom for part, freedom in parts if freedom > 0)
    freedom = variance**2 / spread if spread > 0 else math.inf
    only_first, only_second, exact = _median_mcnemar(first, second)
    if variance > 0 and units > 1:
        p = 2 * float(stdtr(freedom, -abs(difference) / math.sqrt(variance)))
    else:
        p = mcnemar(0, units) if difference else 1.0
    return PairedTest(
        difference=difference,
        error=math.sqrt(variance),
        seed_error=math.sqrt(seed_variance),
        freedom=freedom,
        only_first=only_first,
        only_second=only_second,
        mcnemar=exact,
        p=max(exact, p),
    )


def paired_interval(
    first: Any,
    second: Any,
    *,
    labels: _Ints,
    test: PairedTest | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Interval:
    """95 % interval of a difference of means over photos: BCa bootstrap of the pairs, widened by the seeds' error.

    With bounds l and h of the bootstrap and t the 97.5 % quantile, the bounds are d - √((d - l)² + (t e)²) and
    d + √((h - d)² + (t e)²), as for independent sources of error.

    Args:
        first, second: (N,) what each photo counts for each recipe, in [0, 1]; for accuracy the share of seeds that
            got it right.
        labels: (N,) in [0, K); the photos of each class keep their number.
        test: of the same recipes; gives the error that seeds add, and its degrees of freedom. None adds nothing.
        groups: N names; whole groups are resampled.
        seed: of the bootstrap.
    """
    from scipy.special import stdtrit

    gap = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    summands = np.stack([gap, np.ones(len(gap))], axis=1)
    sampled = bootstrap(
        summands, lambda sums: {"gap": sums[..., 0] / sums[..., 1]}, strata=labels, groups=groups, seed=seed
    )
    value = sampled.values["gap"]
    if sampled.varies("gap"):
        within = sampled.interval("gap")
        low, high = value - within.low, within.high - value
    else:  # resampling shows nothing: as if one photo in n could still differ
        low = high = wilson(0, sampled.effective).high
    shift = test.seed_error * float(stdtrit(max(1.0, test.freedom), 0.975)) if test and test.seed_error else 0.0
    return Interval(
        value=value,
        low=max(-1.0, value - math.hypot(low, shift)),
        high=min(1.0, value + math.hypot(high, shift)),
        n=len(gap),
    )


def _cluster_variance(gap: _Floats, groups: Sequence[str] | None) -> tuple[float, int]:
    """Variance of the mean of (N,) numbers whose groups are independent, and the number of groups."""
    centred = gap - gap.mean()
    sums = centred if groups is None else np.bincount(unit_numbers(groups), weights=centred)
    units = len(sums)
    return (units / (units - 1) * float((sums**2).sum()) / len(gap) ** 2 if units > 1 else 0.0), units


def _median_mcnemar(first: _Flags, second: _Flags) -> tuple[int, int, float]:
    """Discordant counts and p of the seed in the middle, seeds paired in order; the larger one of two in the middle."""
    seeds = max(len(first), len(second))
    tests = []
    for number in range(seeds):
        a, b = first[number % len(first)], second[number % len(second)]
        counts = int(np.count_nonzero(a & ~b)), int(np.count_nonzero(b & ~a))
        tests.append((mcnemar(*counts), counts))
    p, (only_first, only_second) = sorted(tests)[seeds // 2]
    return only_first, only_second, p
