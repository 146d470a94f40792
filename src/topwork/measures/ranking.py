"""AUROC: how well a class's probability puts its photos before the others. Knows `Predictions` only.

Scores are counted in levels, photos of the class and others apart, so a resample costs a sum over levels and no sort.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.measures.bootstrap import bootstrap
from topwork.measures.intervals import Interval
from topwork.measures.predictions import Predictions

__all__ = ["LEVELS", "auroc", "auroc_interval"]

_Floats = npt.NDArray[np.float64]

LEVELS = 1024
"""Scores of a class are told apart exactly up to so many different ones; beyond, by quantiles as many."""


def auroc(predictions: Predictions) -> float:
    """Area under the ROC curve, each class against the rest, mean over the classes; in [0, 1], 0.5 says nothing.

    Of a class it is the chance that a photo of the class gets a higher probability for it than a photo of another
    class; equal ones count half. Classes without photos, or without photos of others, are left out; 0.5 if none is
    left.

    Source: J. A. Hanley, B. J. McNeil (1982), Radiology 143(1).
    """
    if not len(predictions):
        return 0.5
    summands, levels = _summands(predictions)
    return float(_macro(np.asarray(summands.sum(axis=0)).ravel(), classes=len(predictions.classes), levels=levels))


def auroc_interval(*runs: Predictions, groups: Sequence[str] | None = None, seed: int = 0) -> Interval:
    """AUROC with the BCa bootstrap interval, stratified by class.

    Args:
        runs: predictions of one model, or of one recipe's models by seed on the same photos, whose mean is taken; at
            least one photo.
        groups: N names; whole groups are resampled.
        seed: of the bootstrap.
    """
    summands, levels = _summands(*runs)
    classes = len(runs) * len(runs[0].classes)
    sampled = bootstrap(
        summands,
        lambda sums: {"auroc": _macro(sums, classes=classes, levels=levels)},
        strata=runs[0].labels,
        groups=groups,
        seed=seed,
    )
    return sampled.interval("auroc")


def _summands(*runs: Predictions) -> tuple[Any, int]:
    """(N, 2 S K levels) sparse: for each class the photo's level, in one half for its own class, else in the other."""
    from scipy import sparse

    labels, k = runs[0].labels, len(runs[0].classes)
    ranks = np.stack([_levels(scores) for run in runs for scores in _log_odds(run.logits).T])  # (SK,N)
    levels = int(ranks.max()) + 1
    classes = np.arange(len(ranks))[:, None]
    own = labels[None, :] == classes % k  # (SK,N)
    columns = (2 * classes + ~own) * levels + ranks
    rows = np.broadcast_to(np.arange(len(labels)), ranks.shape)
    shape = (len(labels), 2 * len(ranks) * levels)
    return sparse.csr_array((np.ones(ranks.size), (rows.ravel(), columns.ravel())), shape=shape), levels


def _log_odds(logits: _Floats) -> _Floats:
    """(N,K) log p / (1 - p): ranks as p does, but stays apart near 0 and 1; rounded, so that equal scores are equal."""
    odds = np.empty_like(logits)
    for k in range(logits.shape[1]):
        others = np.delete(logits, k, axis=1)
        top = others.max(axis=1, initial=-np.inf, keepdims=True) if others.size else np.zeros((len(logits), 1))
        rest = top[:, 0] + np.log(np.exp(others - top).sum(axis=1)) if others.size else 0.0
        odds[:, k] = logits[:, k] - rest
    return np.round(odds, 9)


def _levels(scores: _Floats) -> npt.NDArray[np.int64]:
    different, ranks = np.unique(scores, return_inverse=True)
    if len(different) > LEVELS:
        edges = np.quantile(scores, np.arange(1, LEVELS) / LEVELS)
        ranks = np.searchsorted(edges, scores, side="right")
    return np.asarray(ranks, dtype=np.int64)


def _macro(sums: _Floats, *, classes: int, levels: int) -> _Floats:
    counts = sums.reshape(*sums.shape[:-1], classes, 2, levels)
    own, other = counts[..., 0, :], counts[..., 1, :]
    below = np.cumsum(other, axis=-1) - other / 2  # others at lower levels, and half of those at the same
    pairs = own.sum(-1) * other.sum(-1)
    areas = np.divide((own * below).sum(-1), pairs, out=np.zeros_like(pairs), where=pairs > 0)  # (...,K)
    known = (pairs > 0).sum(-1)
    return np.asarray(np.where(known > 0, areas.sum(-1) / np.maximum(known, 1), 0.5))
