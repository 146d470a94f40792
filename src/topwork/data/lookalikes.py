"""`look_alikes`: pairs of photos that show the same picture or an edit of it. Owns the rule; opens no file.

Neither sign is enough alone: hashes of different things on one white board agree, and so do features of any two
daisies in the middle of a meadow. A copy that was resized, recompressed, recoloured, turned a little, framed or cropped
by a tenth passes both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from topwork.data.duplicates import NEAR_DISTANCE, near_links, near_pairs
from topwork.data.neighbours import close_pairs, pair_cosines
from topwork.data.scan import ImageRecord

__all__ = ["LookAlike", "least_cosine", "look_alikes"]

_MIRROR = np.uint64(0x5555555555555555)
"""Bits of the hash that turn over when left and right change places: the odd horizontal frequencies."""

_MOST_BITS = 22
_MIRROR_BITS, _MIRROR_COSINE = 8, 0.8
_SAME_COSINE = 0.62  # where the hashes are the same; a copy in shades of grey keeps no more
_FAR_COSINE = 0.775  # least cosine where the hashes do not agree
_SURE_BITS, _SURE_COSINE = 4, 0.9

_Bits = NDArray[np.integer]


@dataclass(frozen=True)
class LookAlike:
    """Two photos that look alike.

    Args:
        first, second: positions, first < second.
        bits: in which the hashes differ; of a mirrored pair, from the mirrored hash.
        cosine: of the features; None where there are none.
        mirrored: whether one is the mirror image of the other.
    """

    first: int
    second: int
    bits: int
    cosine: float | None
    mirrored: bool

    @property
    def sure(self) -> bool:
        """Whether an error may rest on it: one picture, saved twice."""
        return not self.mirrored and self.bits <= _SURE_BITS and (self.cosine or 0.0) >= _SURE_COSINE


def least_cosine(bits: _Bits) -> NDArray[np.float64]:
    """The cosine from which photos whose hashes differ in so many bits count as one picture; 2 for never.

    Tuned on 2,895 flowers, where 17 of 18 confirmed pairs pass and 9 pairs outside known series, and on sixteen kinds
    of edits of photos and drawings. Features: square roots of EfficientNet-Lite0's pooled ones, of length 1. The tests
    hold it on the same photos, so those figures describe the rule rather than prove it.

    Example:
        >>> least_cosine(np.array([0, 8, 12, 16, 18, 23])).round(3).tolist()
        [0.62, 0.75, 0.775, 0.85, 0.9, 2.0]
    """
    near = np.maximum(_SAME_COSINE, 0.59 + 0.02 * bits)
    far = np.clip(0.45 + 0.025 * bits, _FAR_COSINE, 0.92)
    return np.where(bits <= NEAR_DISTANCE, near, np.where(bits <= _MOST_BITS, far, 2.0))


def look_alikes(records: Sequence[ImageRecord], *, units: NDArray[np.float32] | None = None) -> tuple[LookAlike, ...]:
    """Pairs that look alike, sorted; copies byte for byte among them.

    Args:
        records: the photos.
        units: (N,D) features of length 1, row by row; None leaves the hashes alone to decide, within `NEAR_DISTANCE`,
            and of large groups gives only as many pairs as join them.
    """
    hashes = np.array([record.phash for record in records], np.uint64)
    by_hash = (near_links if units is None else near_pairs)(hashes, max_distance=NEAR_DISTANCE)
    if units is None:
        bits = np.bitwise_count(hashes[by_hash[:, 0]] ^ hashes[by_hash[:, 1]])
        return tuple(
            LookAlike(int(i), int(j), int(bit), None, False) for (i, j), bit in zip(by_hash, bits, strict=True)
        )

    def keep(rows: NDArray[np.int64], bound: NDArray[np.float32]) -> NDArray[np.bool_]:
        return _passes(hashes, rows, cosines=bound)

    close = close_pairs(units, least=_FAR_COSINE, keep=keep).rows
    rows = np.unique(np.concatenate([by_hash, close]), axis=0)
    cosines = pair_cosines(units, rows)
    passed = _passes(hashes, rows, cosines=cosines)
    return tuple(
        _look_alike(hashes, pair, cosine=float(cosine))
        for pair, cosine in zip(rows[passed], cosines[passed], strict=True)
    )


def _passes(hashes: NDArray[np.uint64], rows: NDArray[np.int64], *, cosines: NDArray[np.float32]) -> NDArray[np.bool_]:
    apart = hashes[rows[:, 0]] ^ hashes[rows[:, 1]]
    mirrored = (np.bitwise_count(apart ^ _MIRROR) <= _MIRROR_BITS) & (cosines >= _MIRROR_COSINE)
    return np.asarray((cosines >= least_cosine(np.bitwise_count(apart).astype(np.int64))) | mirrored)


def _look_alike(hashes: NDArray[np.uint64], rows: NDArray[np.int64], *, cosine: float) -> LookAlike:
    first, second = map(int, rows)
    apart = hashes[first] ^ hashes[second]
    bits = int(np.bitwise_count(apart))
    mirrored = cosine < float(least_cosine(np.array(bits)))
    if mirrored:
        bits = int(np.bitwise_count(apart ^ _MIRROR))
    return LookAlike(first, second, bits, round(cosine, 4), mirrored)
