"""How far probabilities can be believed: ECE, NLL, Brier score, reliability, temperature. Knows `Predictions` only.

ECE, NLL and Brier score are sums over photos divided by N (the ECE after taking absolute values a bin), so each has a
function that gives the summands; a bootstrap resamples those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.measures.bootstrap import Bootstrap
from topwork.measures.intervals import Interval, wilson
from topwork.measures.predictions import Predictions, softmax

__all__ = [
    "BINS",
    "ReliabilityBin",
    "brier",
    "brier_terms",
    "confidence_bins",
    "ece",
    "ece_interval",
    "fit_temperature",
    "gap_terms",
    "nll",
    "nll_terms",
    "reliability",
]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

BINS = 15
"""Equal-width bins of the top probability, [low, high). Source: C. Guo et al. (2017), arXiv:1706.04599."""

_COLDEST, _HOTTEST = 0.05, 20.0


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """The photos whose top probability lies in [low, high); the last bin includes 1.

    Args:
        low, high: edges of the bin in [0, 1].
        confidence: mean top probability of its photos.
        accuracy: share of them that is right; a perfectly calibrated model has `accuracy` = `confidence`.
    """

    low: float
    high: float
    confidence: float
    accuracy: Interval

    def to_json(self) -> dict[str, Any]:
        """`{"low", "high", "confidence", "accuracy", "n"}`, plain numbers; n and accuracy give the interval back."""
        return {
            "low": self.low,
            "high": self.high,
            "confidence": self.confidence,
            "accuracy": self.accuracy.value,
            "n": self.accuracy.n,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ReliabilityBin:
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: if the mapping is not what `to_json` writes.
        """
        low, high, confidence = (float(value[key]) for key in ("low", "high", "confidence"))
        n = int(value["n"])
        return cls(low=low, high=high, confidence=confidence, accuracy=wilson(round(value["accuracy"] * n), n))


def nll_terms(predictions: Predictions) -> _Floats:
    """(N,) negative log likelihood of each label in nats, >= 0; computed from logits, so finite however small p is."""
    logits = predictions.logits
    top = logits.max(axis=1)
    log_total = np.log(np.exp(logits - top[:, None]).sum(axis=1))
    chosen = logits[np.arange(len(predictions)), predictions.labels] - top
    return np.asarray(np.maximum(log_total - chosen, 0.0))


def nll(predictions: Predictions) -> float:
    """Mean negative log likelihood in nats, >= 0; 0 without photos."""
    return _mean(nll_terms(predictions))


def brier_terms(predictions: Predictions) -> _Floats:
    """(N,) squared distance of the probabilities from the truth, summed over classes, in [0, 2].

    Source: G. W. Brier (1950), Monthly Weather Review 78(1).
    """
    distance = predictions.probabilities  # (N,K)
    distance[np.arange(len(predictions)), predictions.labels] -= 1.0
    return np.asarray((distance**2).sum(axis=1))


def brier(predictions: Predictions) -> float:
    """Mean Brier score in [0, 2]; 0 without photos."""
    return _mean(brier_terms(predictions))


def confidence_bins(predictions: Predictions) -> tuple[_Floats, _Ints]:
    """Top probability (N,) and the number (N,) of its bin, 0 to BINS - 1."""
    confidence = predictions.probabilities.max(axis=1)
    inner_edges = np.linspace(0.0, 1.0, BINS + 1)[1:-1]
    return confidence, np.asarray(np.searchsorted(inner_edges, confidence, side="right"), dtype=np.int64)


def gap_terms(predictions: Predictions) -> tuple[_Floats, _Ints]:
    """Confidence minus correctness (N,) of each photo, and its bin (N,).

    ECE = sum over bins of |sum of gaps in the bin| / N.
    """
    confidence, bins = confidence_bins(predictions)
    return np.asarray(confidence - predictions.correct), bins


def ece(predictions: Predictions) -> float:
    """Expected calibration error of the top label, in [0, 1]; 0 without photos.

    Sum over BINS bins of (photos in bin / N) |mean confidence - accuracy|.

    Source: C. Guo et al. (2017), arXiv:1706.04599.
    """
    gaps, bins = gap_terms(predictions)
    return float(np.abs(np.bincount(bins, weights=gaps, minlength=BINS)).sum() / max(1, len(predictions)))


def ece_interval(sampled: Bootstrap, *, confidence: float = 0.95) -> Interval:
    """Interval of the ECE from its resamples, which need care: noise in a bin can only raise an absolute value.

    The ECE of n photos is therefore too high, that of a resample twice so, and BCa bounds miss the truth: in simulated
    samples of a calibrated model they never held it, at 290 to 2,300 photos. These hold it in 94 to 97 % of samples, at
    true values from 0 to 0.1.

    * low is 0 if noise alone explains the value: value <= quantile of the noise Σ_bins |resampled - original sum| / n;
      else value - (quantile of the resamples - value), the reverse percentile, which undoes the rise once;
    * high is value + z standard deviations of the resamples.

    Args:
        sampled: a bootstrap of the measures `ece` and `ece_noise`.
        confidence: in (0, 1).

    Source of the first rule: J. Bröcker, L. A. Smith (2007), Weather and Forecasting 22(3).
    """
    value, draws = sampled.values["ece"], sampled.draws["ece"]
    if not sampled.varies("ece"):
        return sampled.interval("ece", confidence=confidence)
    tail = (1 + confidence) / 2
    noise, upper = float(np.quantile(sampled.draws["ece_noise"], tail)), float(np.quantile(draws, tail))
    low = 0.0 if value <= noise else min(value, max(0.0, 2 * value - upper))
    high = min(1.0, value + NormalDist().inv_cdf(tail) * float(draws.std()))
    return Interval(value=value, low=low, high=high, n=sampled.photos)


def reliability(predictions: Predictions) -> tuple[ReliabilityBin, ...]:
    """The bins that hold photos, lowest first; accuracies with Wilson intervals."""
    confidence, bins = confidence_bins(predictions)
    photos = np.bincount(bins, minlength=BINS)
    right = np.bincount(bins, weights=predictions.correct, minlength=BINS)
    sums = np.bincount(bins, weights=confidence, minlength=BINS)
    return tuple(
        ReliabilityBin(
            low=number / BINS,
            high=(number + 1) / BINS,
            confidence=float(sums[number] / photos[number]),
            accuracy=wilson(int(right[number]), int(photos[number])),
        )
        for number in map(int, np.flatnonzero(photos))
    )


def fit_temperature(predictions: Predictions) -> float:
    """The temperature T in [0.05, 20] that minimises the NLL of logits / T.

    The NLL is convex in b = 1/T with slope mean(sum_k p_k z_k - z_label), so the sign of that
    slope is bisected on log T.

    Args:
        predictions: of the validation part, never of the test part.

    Returns:
        T; 1 if every photo is predicted right or there is none: a colder T always looks better then, and that says
        nothing.

    Source: C. Guo et al. (2017), arXiv:1706.04599.
    """
    if predictions.correct.all():
        return 1.0
    z = predictions.logits - predictions.logits.max(axis=1, keepdims=True)
    chosen = z[np.arange(len(predictions)), predictions.labels]
    low, high = math.log(_COLDEST), math.log(_HOTTEST)
    for _ in range(50):
        middle = (low + high) / 2
        slope = float(((softmax(z / math.exp(middle)) * z).sum(axis=1) - chosen).mean())  # d NLL / d b
        low, high = (middle, high) if slope > 0 else (low, middle)  # NLL falls as b falls, so a hotter T is better
    return math.exp((low + high) / 2)


def _mean(terms: _Floats) -> float:
    return float(terms.mean()) if len(terms) else 0.0
