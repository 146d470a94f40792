"""How far probabilities can be believed: ECE, NLL, Brier score, temperature."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from topwork.measures.predictions import Predictions, softmax

__all__ = ["BINS", "brier_terms", "ece", "fit_temperature", "gap_terms", "nll_terms", "reliability"]

Floats = npt.NDArray[np.float64]

BINS = 15
"""Equal-width bins of the top probability. Source: C. Guo et al. (2017), arXiv:1706.04599."""


def nll_terms(predictions: Predictions) -> Floats:
    """(N,) negative log likelihood of each label in nats, >= 0; its mean is the NLL."""
    chosen = predictions.probabilities[np.arange(len(predictions)), predictions.labels]
    return np.asarray(-np.log(np.maximum(chosen, 1e-300)))


def brier_terms(predictions: Predictions) -> Floats:
    """(N,) squared distance of the probabilities from the truth, in [0, 2]; its mean is the Brier score."""
    truth = np.eye(len(predictions.classes))[predictions.labels]
    return np.asarray(((predictions.probabilities - truth) ** 2).sum(axis=1))


def gap_terms(predictions: Predictions) -> Floats:
    """(N,BINS) confidence minus correctness of each photo in the bin of its confidence, 0 in the others.

    Summed over photos, the ECE is the sum of absolute values over bins, divided by N.
    """
    confidence = predictions.probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)  # bins are (low, high]
    terms = np.zeros((len(predictions), BINS))
    terms[np.arange(len(predictions)), bins] = confidence - predictions.correct
    return terms


def ece(predictions: Predictions) -> float:
    """Expected calibration error of the top label, in [0, 1]: sum over bins of |confidence - accuracy| times its share."""
    return float(np.abs(gap_terms(predictions).sum(axis=0)).sum() / max(1, len(predictions)))


def reliability(predictions: Predictions) -> list[dict[str, float]]:
    """For each bin that holds photos: `{"low", "high", "confidence", "accuracy", "n"}`."""
    confidence = predictions.probabilities.max(axis=1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    found = []
    for number in np.unique(bins):
        inside = bins == number
        found.append(
            {
                "low": float(number / BINS),
                "high": float((number + 1) / BINS),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(predictions.correct[inside].mean()),
                "n": int(inside.sum()),
            }
        )
    return found


def fit_temperature(predictions: Predictions) -> float:
    """The temperature T in [0.05, 20] that minimises the NLL of logits / T; 1 without photos.

    Golden-section search on log T: the NLL is convex in 1/T, so it has one valley.
    Source: C. Guo et al. (2017), arXiv:1706.04599.
    """
    if len(predictions) == 0:
        return 1.0
    rows = np.arange(len(predictions))

    def loss(log_t: float) -> float:
        p = softmax(predictions.logits / np.exp(log_t))[rows, predictions.labels]
        return float(-np.log(np.maximum(p, 1e-300)).mean())

    low, high, ratio = np.log(0.05), np.log(20.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        a, b = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    return float(np.exp((low + high) / 2))
