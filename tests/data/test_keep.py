"""Photos join an earlier split: no old one moves, nothing straddles, and only content decides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.data.keep import extend
from topwork.data.manifest import Manifest
from topwork.data.scan import ImageRecord, Scan
from topwork.data.split import split
from topwork.digest import digest
from topwork.errors import DataError

SHARES = (0.6, 0.2, 0.2)


def photo(number: int, label: str, group: str | None = None) -> ImageRecord:
    sha = digest("photo", number)
    path = f"{label}/{number:04d}.jpg"
    size = {"bytes": 1, "width": 1, "height": 1}
    return ImageRecord(path=path, label=label, split=None, group=group, sha256=sha, phash=int(sha[:16], 16), **size)


def scanned(records: list[ImageRecord]) -> Scan:
    classes = tuple(sorted({record.label for record in records if record.label}))
    return Scan(root=Path("/photos"), name="photos", records=tuple(records), findings=(), classes=classes)


@st.composite
def grown(draw: st.DrawFn) -> tuple[Scan, Scan]:
    """A collection, and the same with more photos, some of which join old or new groups."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=12, max_size=24))
    old = [
        photo(10 * number + member, "ab"[number % 2], f"g{number}")
        for number, size in enumerate(sizes)
        for member in range(size)
    ]
    groups = draw(st.lists(st.integers(0, len(sizes) + 5), max_size=30))
    new = [photo(1000 + number, "ab"[group % 2], f"g{group}") for number, group in enumerate(groups)]
    return scanned(old), scanned(old + new)


@given(both=grown(), seed=st.integers(0, 3))
@settings(deadline=None)
def test_no_old_photo_moves_no_group_straddles_and_nothing_is_lost(both: tuple[Scan, Scan], seed: int) -> None:
    before, after = both
    old = split(before, shares=SHARES, seed=0)
    new, findings = extend(after, old, shares=SHARES, seed=seed)
    part_of = {row.path: row.split for row in new.rows}
    assert {row.path: row.split for row in old.rows}.items() <= part_of.items()
    assert set(part_of) == {record.path for record in after.records}
    sides = defaultdict(set)
    for record in after.records:
        sides[record.group].add(part_of[record.path])
    assert all(len(parts) == 1 for parts in sides.values())
    assert findings == ()


@given(both=grown(), shuffle=st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_neither_order_nor_names_matter(both: tuple[Scan, Scan], shuffle: random.Random) -> None:
    before, after = both
    old = split(before, shares=SHARES, seed=0)
    expected = {row.sha256: (row.split, row.group) for row in extend(after, old, shares=SHARES, seed=1)[0].rows}
    names = [record.path for record in after.records]  # old names too, so that they now mean other photos
    shuffle.shuffle(names)
    renamed = [replace(record, path=name) for record, name in zip(after.records, names, strict=True)]
    shuffle.shuffle(renamed)
    again, findings = extend(scanned(renamed), old, shares=SHARES, seed=1)
    assert {row.sha256: (row.split, row.group) for row in again.rows} == expected
    assert findings == ()


def test_new_photos_go_where_the_shares_lack_most() -> None:
    records = [photo(n, "ab"[n % 2]) for n in range(400)]
    old = split(scanned(records[:100]), shares=(0.9, 0.1, 0.0), seed=0)
    new, _ = extend(scanned(records), old, shares=SHARES, seed=0)
    assert Counter((row.label, row.split) for row in new.rows) == {
        (label, part): count for label in "ab" for part, count in (("train", 120), ("val", 40), ("test", 40))
    }


def _one_of(manifest: Manifest, part: str, scan: Scan) -> ImageRecord:
    chosen = next(row.path for row in manifest.rows if row.split == part)
    return next(record for record in scan.records if record.path == chosen)


def test_a_photo_that_would_join_two_sides_is_left_out_and_reported() -> None:
    before = scanned([photo(n, "ab"[n % 2]) for n in range(60)])
    old = split(before, shares=SHARES, seed=0)
    one, other = _one_of(old, "train", before), _one_of(old, "test", before)
    far = one.phash ^ other.phash
    bits = [1 << bit for bit in range(64) if far >> bit & 1]
    other = replace(other, phash=one.phash ^ sum(bits[:12]))  # 12 bits apart: strangers
    bridge = replace(photo(900, "a"), phash=one.phash ^ sum(bits[:6]))  # 6 bits from both
    follower = replace(photo(901, "a"), phash=photo(901, "a").phash, group="pair")
    bridge = replace(bridge, group="pair")
    records = [other if record.path == other.path else record for record in before.records]
    manifest, findings = extend(scanned([*records, bridge, follower]), old, shares=SHARES, seed=0)
    assert {row.path: row.split for row in manifest.rows} == {row.path: row.split for row in old.rows}
    (finding,) = findings
    assert (finding.kind, finding.severity) == ("joins_parts", "warning")
    assert finding.files == tuple(sorted([bridge.path, follower.path]))
    assert one.path in finding.evidence
    assert other.path in finding.evidence
    groups = {row.path: row.group for row in manifest.rows}
    assert groups[one.path] != groups[other.path]


def test_an_edited_photo_stays_where_it_was_and_a_lost_one_is_named() -> None:
    before = scanned([photo(n, "ab"[n % 2]) for n in range(60)])
    old = split(before, shares=SHARES, seed=0)
    edited, lost = _one_of(old, "test", before), _one_of(old, "val", before)
    records = [
        replace(record, sha256=digest("edited"), phash=0) if record is edited else record
        for record in before.records
        if record is not lost
    ]
    manifest, findings = extend(scanned(records), old, shares=SHARES, seed=0)
    assert next(row.split for row in manifest.rows if row.path == edited.path) == "test"
    assert {finding.kind: finding.files for finding in findings} == {
        "changed_photo": (edited.path,),
        "missing_photo": (lost.path,),
    }


def test_what_was_one_group_stays_one_without_the_rule_that_made_it() -> None:
    """A series found by its name then; today only one of it is recognised, and it brings the others' side along."""
    series = [photo(n, "a", "series") for n in range(3)]
    before = scanned(series + [photo(n, "ab"[n % 2]) for n in range(10, 60)])
    old = split(before, shares=SHARES, seed=0)
    today = [replace(record, group=None) for record in before.records]
    manifest, _ = extend(scanned(today), old, shares=SHARES, seed=0)
    assert len({row.group for row in manifest.rows if row.path in {record.path for record in series}}) == 1


def test_a_manifest_of_other_photos_is_refused() -> None:
    old = split(scanned([photo(n, "ab"[n % 2]) for n in range(60)]), shares=SHARES, seed=0)
    others = [replace(photo(n, "ab"[n % 2]), path=f"other/{n}.jpg") for n in range(100, 160)]
    with pytest.raises(DataError, match="None of its 60"):
        extend(scanned(others), old, shares=SHARES, seed=0)


def test_a_leak_of_the_old_split_is_told_and_not_mended() -> None:
    before = scanned([photo(n, "ab"[n % 2]) for n in range(60)])
    old = split(before, shares=SHARES, seed=0)
    one, other = _one_of(old, "train", before), _one_of(old, "test", before)
    records = [replace(r, phash=one.phash) if r is other else r for r in before.records]
    manifest, findings = extend(scanned(records), old, shares=SHARES, seed=0)
    assert {row.path: row.split for row in manifest.rows} == {row.path: row.split for row in old.rows}
    assert [(f.kind, f.files) for f in findings] == [("leak", tuple(sorted([one.path, other.path])))]
