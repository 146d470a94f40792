"""Counts -> accuracy, precision, recall, F1. Every function takes the same three counts, so that resamples cost nothing extra.

`hits`, `guesses` and `truths` are (..., K): photos of a class that were found, photos given that class, photos that have it.
A ratio without a denominator is 0, as in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "class_scores",
    "confusion_matrix",
    "counts",
    "most_confused",
    "averaged",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Kind = Literal["precision", "recall", "f1"]


def confusion_matrix(labels: Ints, predicted: Ints, classes: int) -> Ints:
    """(K,K) photos by true class (row) and predicted class (column)."""
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return np.asarray(flat.reshape(classes, classes), dtype=np.int64)


def counts(matrix: Ints) -> tuple[Floats, Floats, Floats]:
    """Hits, guesses and truths (K,) of a confusion matrix (K,K)."""
    real = matrix.astype(np.float64)
    return np.diagonal(real).copy(), real.sum(axis=0), real.sum(axis=1)


def class_scores(kind: Kind, hits: Floats, guesses: Floats, truths: Floats) -> Floats:
    """Precision hits/guesses, recall hits/truths, or F1 2 hits/(guesses + truths); (..., K)."""
    top, bottom = {
        "precision": (hits, guesses),
        "recall": (hits, truths),
        "f1": (2 * hits, guesses + truths),
    }[kind]
    return np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0)


def averaged(kind: Kind, how: Literal["macro", "weighted"], counted: tuple[Floats, Floats, Floats]) -> Floats:
    """Mean over the classes that occur (as truth or guess), or mean weighted by how often each is the truth; (...)."""
    hits, guesses, truths = counted
    scores = class_scores(kind, hits, guesses, truths)
    weights = truths if how == "weighted" else ((truths + guesses) > 0).astype(np.float64)
    return np.asarray((scores * weights).sum(-1) / np.maximum(weights.sum(-1), 1e-12))


def accuracy(hits: Floats, truths: Floats) -> Floats:
    """Share of photos whose class was found; (...)."""
    return np.asarray(hits.sum(-1) / np.maximum(truths.sum(-1), 1e-12))


def balanced_accuracy(hits: Floats, truths: Floats) -> Floats:
    """Mean recall over the classes that occur; (...)."""
    present = truths > 0
    recall = np.divide(hits, truths, out=np.zeros_like(hits), where=present)
    return np.asarray(recall.sum(-1) / np.maximum(present.sum(-1), 1))


def most_confused(matrix: Ints, classes: tuple[str, ...], *, limit: int = 10) -> list[tuple[str, str, int]]:
    """`(true, predicted, photos)` off the diagonal, most first, then by name."""
    pairs = [
        (classes[i], classes[j], int(matrix[i, j]))
        for i in range(len(classes))
        for j in range(len(classes))
        if i != j and matrix[i, j]
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:limit]
