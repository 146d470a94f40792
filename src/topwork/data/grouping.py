"""Photos that must stay together for other reasons than their look: bursts, folders, capture times, name patterns.

The answer is a scan whose records carry the joined groups, so that `split` and `folds` need to know nothing of this.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from topwork.data.capture import Capture
from topwork.data.decode import printable
from topwork.data.duplicates import connect
from topwork.data.scan import ImageRecord, Scan
from topwork.errors import DataError

__all__ = ["BURST_BITS", "BURST_SECONDS", "SERIES_SECONDS", "bursts", "grouped"]

BURST_SECONDS = 3.0
"""Between two photos of a burst, at most."""

BURST_BITS = 20
"""Of the perceptual hash in which two photos of a burst may differ.

The hashes of two unrelated photos differ in 32 bits, give or take 4. Time alone must not join: somebody who photographs
one object after the other, a second each, would end with a single group.
"""

SERIES_SECONDS = 60.0
"""Between two photos of a series under the rule `time`, unless the rule says otherwise."""

_TIME_RULE = re.compile(r"time(?::(\d+(?:\.\d+)?))?")
_NEIGHBOURS = 16  # of a photo in time; a clock that stands still must not cost the square of the photos

_Bond = tuple[int, int]


def grouped(scan: Scan, *, by: Sequence[str] = ()) -> Scan:
    """The same photos; those that a burst, a rule or the source's own groups join carry one group.

    Bursts are always joined: one camera, at most `BURST_SECONDS` apart, and of similar look. A rule is one of

    - `folder`: photos of one folder below their class folder, such as `rose/plant-7/`;
    - `time` or `time:SECONDS`: photos of one camera, each at most so long after the one before;
    - any other text: a regular expression, searched for in the path relative to the data. Photos with the same
      captured groups (without any: the same match) belong together; photos that do not match stand alone.

    A group's name depends on the content of its photos only.

    Args:
        scan: the photos.
        by: the rules; what several of them join is joined transitively.

    Raises:
        DataError: if a rule joins no photos, which is almost always a slip of the pen.
    """
    records = scan.records
    bonds = [*_same([record.group for record in records]), *bursts(records)]
    for rule in by:
        found = list(_joined_by(rule, records))
        if not found:
            raise _joins_nothing(rule, scan)
        bonds += found
    roots = connect(len(records), bonds)
    members = defaultdict(list)
    for record, root in zip(records, roots, strict=True):
        members[root].append(record.sha256)
    names = {root: min(digests)[:16] for root, digests in members.items() if len(digests) > 1}
    renamed = [
        replace(record, group=names[root]) if root in names else record
        for record, root in zip(records, roots, strict=True)
    ]
    return replace(scan, records=tuple(renamed))


def _joined_by(rule: str, records: Sequence[ImageRecord]) -> Iterator[_Bond]:
    if rule == "folder":
        return _same([_inner_folder(record) for record in records])
    if timed := _TIME_RULE.fullmatch(rule):
        return _series(records, gap=float(timed[1] or SERIES_SECONDS))
    pattern = re.compile(rule)
    matches = [pattern.search(record.path) for record in records]
    return _same([match and (match.groups() or match[0]) for match in matches])


def _same(values: Iterable[Hashable]) -> Iterator[_Bond]:
    """Pairs of positions that hold equal values: each with the first one; None equals nothing."""
    first: dict[Hashable, int] = {}
    for position, value in enumerate(values):
        if value is not None and first.setdefault(value, position) != position:
            yield first[value], position


def _inner_folder(record: ImageRecord) -> str | None:
    """The photo's folder, unless that is the class folder or lies above it: a class is no group."""
    folder = os.path.dirname(record.path)
    steps = [unicodedata.normalize("NFC", step) for step in folder.split("/")]
    return None if not folder or steps[-1] == record.label else folder


def _in_time(records: Sequence[ImageRecord]) -> list[tuple[int, Capture]]:
    """Positions of the photos that have a time: by camera, then time, then content."""
    timed = [(position, record.capture) for position, record in enumerate(records) if record.capture is not None]
    return sorted(timed, key=lambda item: (item[1].camera, item[1].seconds, records[item[0]].sha256))


def _series(records: Sequence[ImageRecord], *, gap: float) -> Iterator[_Bond]:
    timed = _in_time(records)
    for (one, before), (other, after) in pairwise(timed):
        if before.camera == after.camera and after.seconds - before.seconds <= gap:
            yield one, other


def bursts(records: Sequence[ImageRecord]) -> Iterator[_Bond]:
    """Positions of photos of one burst, pair by pair: one camera, `BURST_SECONDS` apart at most, of similar look."""
    timed = _in_time(records)
    for number, (one, before) in enumerate(timed):
        for other, after in timed[number + 1 : number + 1 + _NEIGHBOURS]:
            if before.camera != after.camera or after.seconds - before.seconds > BURST_SECONDS:
                break
            if (records[one].phash ^ records[other].phash).bit_count() <= BURST_BITS:
                yield one, other


def _joins_nothing(rule: str, scan: Scan) -> DataError:
    what = f"The rule group_by={rule} must join photos of {printable(scan.root)}. It joins none of "
    what += f"{len(scan.records)}; the first is {scan.records[0].path}."
    if rule == "folder":
        return DataError(what, fix="make folders inside the class folders, such as rose/plant-7/, or drop the rule.")
    if _TIME_RULE.fullmatch(rule):
        return DataError(what, fix="use a longer time, or another rule where photos carry no EXIF time.")
    return DataError(what, fix="correct the regular expression: it is searched for in the path.")
