"""Which rows of a feature matrix point the same way: every pair above a cosine, in bounded memory. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIMENSIONS", "Pairs", "close_pairs", "nearest", "pair_cosines", "sketch", "unit_features"]

DIMENSIONS = 256
"""Width at which many rows are compared; pairs that may be close are compared again at full width."""

_BLOCK = 4096  # rows; one block of products is 64 MB
_SAMPLE = 8192  # rows that the projection is made from; for fewer, finding the axes costs more than it saves
_SLACK = 1e-4  # rounding of products of float32
_CHUNK = 16384  # pairs whose full rows are in memory at once

_Floats = NDArray[np.float32]
_Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pairs:
    """Close pairs.

    Args:
        rows: (P,2) int64, the first of a pair less than the second, sorted.
        cosines: (P,) float32.
    """

    rows: _Indices
    cosines: _Floats


def unit_features(features: NDArray[np.generic]) -> _Floats:
    """Rows of length 1. Features that are never negative (after a ReLU) are put under a square root first.

    The root keeps a few large features from deciding alone; it is the Hellinger kernel. Source: R. Arandjelovic and
    A. Zisserman (2012), Three things everyone should know to improve object retrieval, CVPR.

    Args:
        features: (N,D), finite.

    Returns:
        (N,D) float32; a row of zeros stays zero.
    """
    wide = np.array(features, np.float32)  # the only copy: there may be a hundred thousand rows
    if wide.size and wide.min() >= 0:
        np.sqrt(wide, out=wide)
    length = np.sqrt(np.einsum("nd,nd->n", wide, wide))
    wide /= np.maximum(length, 1e-12)[:, None]
    return wide


def sketch(units: _Floats, *, dimensions: int = DIMENSIONS) -> _Floats:
    """Narrower rows whose products are never less than the cosines of the full ones.

    The rows are projected on their main axes; the length of what is lost becomes the last number. By the inequality
    of Cauchy and Schwarz its product bounds what the lost parts add to a cosine, so no close pair is missed.

    Args:
        units: (N,D) rows of length 1.
        dimensions: of the result, >= 2.

    Returns:
        (N, min(D, dimensions)) float32.
    """
    if units.shape[1] <= dimensions:
        return units
    step = max(1, len(units) // _SAMPLE)
    sample = units[::step].astype(np.float64)
    axes = np.linalg.eigh(sample.T @ sample)[1][:, -(dimensions - 1) :].astype(np.float32)  # (D, dimensions - 1)
    narrow = np.empty((len(units), dimensions), np.float32)
    np.matmul(units, axes, out=narrow[:, :-1])
    kept = np.einsum("nd,nd->n", narrow[:, :-1], narrow[:, :-1])
    whole = np.einsum("nd,nd->n", units, units)
    narrow[:, -1] = np.sqrt(np.maximum(whole - kept, 0.0))
    return narrow


def close_pairs(
    units: _Floats, *, least: float, keep: Callable[[_Indices, _Floats], NDArray[np.bool_]] | None = None
) -> Pairs:
    """Every pair of rows whose cosine is at least `least`.

    Args:
        units: (N,D) rows of length 1.
        least: in (0, 1].
        keep: sees the rows of candidates and an upper bound of their cosines, and tells which may count: a cheap test
            here saves the comparison at full width.
    """
    narrow = sketch(units) if len(units) > _SAMPLE else units
    kept = []
    for candidates, bound in _candidates(narrow, least=least - _SLACK):
        kept.append(candidates if keep is None else candidates[keep(candidates, bound + np.float32(_SLACK))])
    rows = np.concatenate(kept) if kept else np.empty((0, 2), np.int64)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    cosines = pair_cosines(units, rows)
    close = cosines >= least
    return Pairs(rows[close], cosines[close])


def pair_cosines(units: _Floats, rows: _Indices) -> _Floats:
    """Cosines of given pairs of rows, (P,2) -> (P,)."""
    cosines = np.empty(len(rows), np.float32)
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        cosines[start : start + _CHUNK] = np.einsum("pd,pd->p", units[part[:, 0]], units[part[:, 1]])
    return cosines


def _candidates(narrow: _Floats, *, least: float) -> Iterator[tuple[_Indices, _Floats]]:
    """Rows of pairs with a large product, and the products, block by block."""
    for top in range(0, len(narrow), _BLOCK):
        rows = narrow[top : top + _BLOCK]
        for left in range(top, len(narrow), _BLOCK):
            products = rows @ narrow[left : left + _BLOCK].T
            first, second = np.nonzero(products >= least)
            values = products[first, second]
            pairs = np.stack([first + top, second + left], axis=1)
            above = pairs[:, 0] < pairs[:, 1]
            yield pairs[above], values[above]


def nearest(units: _Floats, *, count: int, groups: NDArray[np.int64]) -> tuple[_Indices, _Floats]:
    """The rows most like each row, without those of its own group.

    Args:
        units: (N,D) rows of length 1.
        count: how many, >= 1 and < N.
        groups: (N,) rows with the same number are not compared, nor is a row with itself.

    Returns:
        (N,count) row numbers in no particular order, and their cosines; -1 where a row's group leaves too few.
    """
    narrow = sketch(units) if len(units) > _SAMPLE else units
    found = np.empty((len(units), count), np.int64)
    cosines = np.empty((len(units), count), np.float32)
    for top in range(0, len(narrow), _BLOCK // 8):
        here = slice(top, min(top + _BLOCK // 8, len(narrow)))
        products = narrow[here] @ narrow.T
        products[groups[here, None] == groups[None, :]] = -1.0
        best = np.argpartition(products, -count, axis=1)[:, -count:]
        found[here] = best
        cosines[here] = np.take_along_axis(products, best, axis=1)
    return found, cosines
