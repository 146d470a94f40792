"""`series_findings`: photos taken in one go, which a split should keep together. Works on records and features.

Two signs: the camera's clock, and file names whose numbers are neighbours while the pictures are alike.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from statistics import median

import numpy as np
from numpy.typing import NDArray

from topwork.data.duplicates import connect
from topwork.data.finding import Finding
from topwork.data.grouping import BURST_SECONDS, bursts
from topwork.data.scan import ImageRecord

__all__ = ["series_findings"]

_RARE = 100  # a gap between numbers this many times smaller than the folder's usual one is no chance
_RARE_COSINE = 0.75
_NEXT, _NEXT_COSINE = 2, 0.9  # where every number is used, the pictures must tell

_Pair = tuple[int, int]


def series_findings(records: Sequence[ImageRecord], *, units: NDArray[np.float32] | None = None) -> tuple[Finding, ...]:
    """Series of photos, one finding (`series`, info) each.

    On 2,895 flowers, whose names are numbers of a photo site, 76 of 82 series lie inside one known group; tuned there.

    Args:
        records: the photos.
        units: (N,D) features of length 1, row by row; without them only the camera's clock tells.
    """
    folders = defaultdict(list)
    for position, record in enumerate(records):
        folders[record.path.rpartition("/")[0]].append(position)
    named: list[_Pair] = []
    for positions in folders.values():
        if units is not None:
            named += list(_neighbours(records, positions, units=units))
    return tuple(_findings(records, timed=list(bursts(records)), named=named))


def _findings(records: Sequence[ImageRecord], *, timed: list[_Pair], named: list[_Pair]) -> Iterator[Finding]:
    roots = connect(len(records), [*timed, *named])
    members = defaultdict(list)
    for position, root in enumerate(roots):
        members[root].append(position)
    by_clock = {roots[first] for first, _ in timed}
    for root, group in members.items():
        if len(group) > 1 and len({records[position].sha256 for position in group}) > 1:
            burst = root in by_clock
            sign = f"taken within {BURST_SECONDS:.0f} s of one another" if burst else "alike, with neighbouring numbers"
            apart = "nothing, or give them one group in a manifest, so that they stay in one part of the split."
            yield Finding(
                kind="series",
                severity="info",
                files=tuple(sorted(records[position].path for position in group)),
                evidence=f"{len(group)} photos seem to be one series: {sign}.",
                remedy="nothing; they stay in one part of the split." if burst else apart,
            )


def _neighbours(
    records: Sequence[ImageRecord], positions: Sequence[int], *, units: NDArray[np.float32]
) -> Iterator[_Pair]:
    """Photos of a folder with the same name but for a number, where the numbers are close and the pictures alike."""
    numbered = defaultdict(list)
    for position in positions:
        name = records[position].path.rpartition("/")[2]
        if (found := re.search(r"\d+", name)) is not None and len(found.group()) <= 18:
            numbered[name[: found.start()]].append((int(found.group()), position))
    for photos in numbered.values():
        photos.sort()
        gaps = [after - before for (before, _), (after, _) in pairwise(photos)]
        usual = median(gaps) if gaps else 0
        for (before, one), (after, other) in pairwise(photos):
            alike, gap = _cosine(units, (one, other)), after - before
            if (gap * _RARE <= usual and alike >= _RARE_COSINE) or (gap <= _NEXT and alike >= _NEXT_COSINE):
                yield one, other


def _cosine(units: NDArray[np.float32], pair: _Pair) -> float:
    return float(units[pair[0]] @ units[pair[1]])
