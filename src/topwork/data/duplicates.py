"""Which photos are copies of one another, and what is wrong with that. Works on records; opens no file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from topwork.data.finding import Finding, Severity
from topwork.data.scan import ImageRecord
from topwork.errors import DataError

__all__ = ["NEAR_DISTANCE", "connect", "duplicate_findings", "group_duplicates", "near_pairs"]

NEAR_DISTANCE = 8
"""Bits of the perceptual hash in which near duplicates may differ.

Measured on 2,895 flowers with 18 pairs confirmed by eye, and on 2,012 photos of waste on one white board:

    bits                          0   2   4   6   8  10  12   14
    confirmed pairs found         2   4  10  14  16  16  17   17  of 18
    pairs outside known series    0   0   0   0   1   7  59  248
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
    pairs = [*near_pairs(hashes, max_distance=max_distance).tolist(), *_same([record.sha256 for record in records])]
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
    if not 0 <= max_distance <= 63:
        what = f"The distance of near duplicates must be 0 to 63 bits. Got {max_distance}."
        raise DataError(what, fix=f"use {NEAR_DISTANCE}.")
    unique, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    copies = np.flatnonzero(first[inverse] != np.arange(len(hashes)))
    found = [np.stack([first[inverse[copies]], copies], axis=1)]
    edges = np.linspace(0, 64, max_distance + 2).astype(np.uint64)
    for low, high in pairwise(edges):
        piece = (unique >> low) & np.uint64((1 << int(high - low)) - 1)
        found.extend(first[pair] for pair in _close_in_piece(unique, piece, max_distance=max_distance))
    pairs = np.sort(np.concatenate(found).astype(np.int64).reshape(-1, 2), axis=1)
    return np.unique(pairs, axis=0)


def _close_in_piece(
    hashes: NDArray[np.uint64], piece: NDArray[np.uint64], *, max_distance: int
) -> Iterator[NDArray[np.int64]]:
    """Close pairs among hashes whose piece is equal: sorted by piece, each against the next, the one after, and on."""
    order = np.argsort(piece, kind="stable")
    piece, hashes = piece[order], hashes[order]
    here = np.arange(len(piece))
    for step in range(1, len(piece)):
        here = here[here < len(piece) - step]
        here = here[piece[here] == piece[here + step]]  # who has no neighbour at this step has none further on
        if not len(here):
            return
        close = here[np.bitwise_count(hashes[here] ^ hashes[here + step]) <= max_distance]
        yield np.stack([order[close], order[close + step]], axis=1)


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


def duplicate_findings(records: Sequence[ImageRecord], *, max_distance: int = NEAR_DISTANCE) -> tuple[Finding, ...]:
    """What is wrong with copies.

    `label_conflict` (error): the same bytes under two labels. `leak` (error): the same bytes, or one group of the
    manifest, in two given splits; a warning where photos only look alike. `exact_duplicate` (warning): the same bytes,
    and neither of those. `near_duplicate` (info): photos that look alike.
    """
    findings: list[Finding] = []
    for copies in _by(records, "sha256"):
        findings += _about_copies(copies)
    for members in _by(records, "group"):
        findings += _leak(members, "error", what=f"group {members[0].group}")
    for group in group_duplicates(records, max_distance=max_distance):
        if len({record.sha256 for record in group}) > 1:
            findings.append(_near(group))
            if not any(_leak(copies, "error", what="") for copies in _by(group, "sha256")):
                findings += _leak(group, "warning", what="look-alikes")
    return tuple(findings)


def _by(records: Sequence[ImageRecord], field: str) -> list[list[ImageRecord]]:
    members = defaultdict(list)
    for record in sorted(records, key=lambda record: record.path):
        members[getattr(record, field)].append(record)
    return [group for key, group in members.items() if key is not None and len(group) > 1]


def _paths(group: Sequence[ImageRecord]) -> tuple[str, ...]:
    return tuple(record.path for record in group)


def _about_copies(copies: Sequence[ImageRecord]) -> list[Finding]:
    labels = sorted({record.label for record in copies if record.label})
    found = _leak(copies, "error", what="the same picture")
    if len(labels) > 1:
        evidence = f"the same picture stands under {' and '.join(labels)}."
        remedy = "keep it under the right label, delete the others."
        conflict = Finding(
            kind="label_conflict", severity="error", files=_paths(copies), evidence=evidence, remedy=remedy
        )
        return [conflict, *found]
    if found:
        return found
    evidence = f"{len(copies)} files hold the same picture, byte for byte."
    return [
        Finding(
            kind="exact_duplicate",
            severity="warning",
            files=_paths(copies),
            evidence=evidence,
            remedy="keep one of them; until then they stay in one part of the split.",
        )
    ]


def _leak(group: Sequence[ImageRecord], severity: Severity, *, what: str) -> list[Finding]:
    parts = [part for part in ("train", "val", "test") if any(record.split == part for record in group)]
    if len(parts) < 2:
        return []
    evidence = f"{what} in {' and '.join(parts)}: the given split is not independent."
    remedy = "move them to one part, or let topwork split."
    return [Finding(kind="leak", severity=severity, files=_paths(group), evidence=evidence, remedy=remedy)]


def _near(group: Sequence[ImageRecord]) -> Finding:
    hashes = np.array([record.phash for record in group], np.uint64)
    widest = int(np.bitwise_count(hashes[:, None] ^ hashes[None, :]).max())
    labels = sorted({record.label for record in group if record.label})
    under = f", under {' and '.join(labels)}" if len(labels) > 1 else ""
    return Finding(
        kind="near_duplicate",
        severity="info",
        files=_paths(group),
        evidence=f"{len(group)} photos look alike{under}: their hashes differ in at most {widest} of 64 bits.",
        remedy="nothing; they stay in one part of the split.",
    )
