"""Which photos are copies of one another by their bytes and hashes alone. Works on records; opens no file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from topwork.data.scan import ImageRecord
from topwork.errors import DataError

__all__ = ["NEAR_DISTANCE", "connect", "group_duplicates", "near_links", "near_pairs"]

NEAR_DISTANCE = 8
"""Bits of the perceptual hash in which near duplicates may differ.

Measured on 2,895 flowers with 18 pairs confirmed by eye, and on 2,012 photos of waste on one white board:

    bits                          0   2   4   6   8  10  12   14
    confirmed pairs found         2   5  11  14  16  16  17   17  of 18
    pairs outside known series    0   0   0   0   1   7  59  241
    pairs on the white board      2  10  20  28  55 107 290  846

Above 8, chance decides. On the white board even 8 pairs some different objects: to keep a few too many photos together
costs a split nothing, but no error may rest on this hash alone.
"""


def group_duplicates(
    records: Sequence[ImageRecord], *, max_distance: int = NEAR_DISTANCE
) -> tuple[tuple[ImageRecord, ...], ...]:
    """Photos with the same bytes or nearly the same look, transitively joined.

    Args:
        records: in any order.
        max_distance: bits in which the perceptual hashes of two near duplicates may differ, 0 to 63.

    Returns:
        Groups of two or more, each sorted by path; groups sorted by their first path.
    """
    hashes = np.array([record.phash for record in records], np.uint64)
    links = near_links(hashes, max_distance=max_distance).tolist()
    pairs = [*links, *_same([record.sha256 for record in records])]
    members = defaultdict(list)
    for record, root in zip(records, connect(len(records), pairs), strict=True):
        members[root].append(record)
    groups = (tuple(sorted(group, key=lambda record: record.path)) for group in members.values() if len(group) > 1)
    return tuple(sorted(groups, key=lambda group: group[0].path))


def _same(values: Sequence[Hashable]) -> Iterator[tuple[int, int]]:
    """Pairs of positions that hold equal values: each with the first one; None equals nothing."""
    first: dict[Hashable, int] = {}
    for position, value in enumerate(values):
        if value is not None and first.setdefault(value, position) != position:
            yield first[value], position


def near_links(hashes: NDArray[np.uint64], *, max_distance: int) -> NDArray[np.int64]:
    """As many of `near_pairs` as it takes to join the same groups; their number grows with N and not with its square.

    Of a thousand frames of one film there would be half a million pairs. What is joined already is not compared again.

    Args:
        hashes: (N,) uint64.
        max_distance: 0 to 63.

    Returns:
        (P,2) int64 positions, the first of a pair less than the second, sorted, without repeats.

    Raises:
        DataError: if the distance is out of range.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    joined = np.arange(len(unique))
    found = [_copies(first, inverse)]
    for piece in _pieces(unique, max_distance):
        for pairs in _close_in_piece(unique, piece, max_distance=max_distance, joined=joined):
            new = pairs[joined[pairs[:, 0]] != joined[pairs[:, 1]]]
            found.append(first[new])
            joined[:] = _join(joined, new)  # in place: the search looks at it
    return _sorted_pairs(found)


def _copies(first: NDArray[np.int64], inverse: NDArray[np.int64]) -> NDArray[np.int64]:
    """Equal hashes: each with the first one."""
    copies = np.flatnonzero(first[inverse] != np.arange(len(inverse)))
    return np.stack([first[inverse[copies]], copies], axis=1)


def _sorted_pairs(found: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    pairs = np.sort(np.concatenate(found).astype(np.int64).reshape(-1, 2), axis=1)
    return np.asarray(np.unique(pairs, axis=0), np.int64)


def _join(joined: NDArray[np.int64], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """`joined` after these pairs (P,2) too: each position's value is the least of its group."""
    while True:
        ends = joined[pairs]
        ends = ends[ends[:, 0] != ends[:, 1]]
        if not len(ends):
            return joined
        above = np.arange(len(joined))
        np.minimum.at(above, ends.max(axis=1), ends.min(axis=1))
        while not np.array_equal(above, above[above]):
            above = above[above]
        joined = above[joined]


def near_pairs(hashes: NDArray[np.uint64], *, max_distance: int) -> NDArray[np.int64]:
    """Pairs of hashes that differ in few bits; of equal hashes, each with the first one only.

    If two hashes differ in d bits, then of d + 1 pieces at least one is equal in both, so only hashes that share a
    piece are compared. Source: M. Norouzi, A. Punjani, D. Fleet (2012), Fast Search in Hamming Space with Multi-Index
    Hashing, CVPR.

    Args:
        hashes: (N,) uint64.
        max_distance: 0 to 63.

    Returns:
        (P,2) int64 positions, the first of a pair less than the second, sorted, without repeats.

    Raises:
        DataError: if the distance is out of range.
    """
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    found = [_copies(first, inverse)]
    for piece in _pieces(unique, max_distance):
        found += [first[pairs] for pairs in _close_in_piece(unique, piece, max_distance=max_distance)]
    return _sorted_pairs(found)


def _pieces(hashes: NDArray[np.uint64], max_distance: int) -> Iterator[NDArray[np.uint64]]:
    if not 0 <= max_distance <= 63:
        what = f"The distance of near duplicates must be 0 to 63 bits. Got {max_distance}."
        raise DataError(what, fix=f"use {NEAR_DISTANCE}.")
    for low, high in pairwise(np.linspace(0, 64, max_distance + 2).astype(np.uint64)):
        yield (hashes >> low) & np.uint64((1 << int(high - low)) - 1)


def _close_in_piece(
    hashes: NDArray[np.uint64],
    piece: NDArray[np.uint64],
    *,
    max_distance: int,
    joined: NDArray[np.int64] | None = None,
) -> Iterator[NDArray[np.int64]]:
    """Close pairs among hashes whose piece is equal: sorted by piece, each against the next, the one after, and on.

    Where `joined` tells the group of each hash, and is kept up to date meanwhile, pieces that are one group are left.
    """
    order = np.argsort(piece, kind="stable")
    piece, hashes = piece[order], hashes[order]
    starts = np.flatnonzero(np.r_[True, piece[1:] != piece[:-1]]) if len(piece) else np.zeros(0, np.int64)
    here = np.arange(len(piece))
    for step in range(1, len(piece)):
        here = here[here < len(piece) - step]
        here = here[piece[here] == piece[here + step]]  # who has no neighbour at this step has none further on
        if not len(here):
            return
        close = here[np.bitwise_count(hashes[here] ^ hashes[here + step]) <= max_distance]
        yield np.stack([order[close], order[close + step]], axis=1)
        if joined is not None:
            here = here[~_settled(joined[order], starts)[here]]


def _settled(joined: NDArray[np.int64], starts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """For each position whether all of its piece, which begins at one of the starts, is one group."""
    lengths = np.diff(np.r_[starts, len(joined)])
    return np.repeat(np.minimum.reduceat(joined, starts) == np.maximum.reduceat(joined, starts), lengths)


def connect(count: int, pairs: Iterable[Sequence[int]]) -> list[int]:
    """For each of `count` things, the least of those that the pairs join it with, directly or not.

    Example:
        >>> connect(5, [(3, 1), (4, 3)])
        [0, 1, 2, 1, 1]
    """
    above = list(range(count))

    def root(thing: int) -> int:
        while above[thing] != thing:
            above[thing] = above[above[thing]]
            thing = above[thing]
        return thing

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        above[high] = low
    return [root(thing) for thing in range(count)]
