"""No group straddles, classes keep their shares to within one group, and only content decides."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from topwork.data.manifest import PARTS, Manifest
from topwork.data.scan import ImageRecord, Scan
from topwork.data.split import folds, split
from topwork.digest import digest
from topwork.errors import DataError

SHARES = (0.8, 0.1, 0.1)
PINNED = ["a/0004.jpg", "a/0036.jpg", "b/0007.jpg", "b/0029.jpg"]


def photo(number: int, label: str, group: str | None = None, part: str | None = None) -> ImageRecord:
    sha = digest("photo", number)
    return ImageRecord(
        path=f"{label}/{number:04d}.jpg",
        label=label,
        split=part,
        group=group,
        sha256=sha,
        bytes=1,
        width=1,
        height=1,
        phash=int(sha[:16], 16),  # random hashes are far apart
    )


def scanned(records: list[ImageRecord]) -> Scan:
    classes = tuple(sorted({record.label for record in records if record.label}))
    return Scan(root=Path("/photos"), name="photos", records=tuple(records), findings=(), classes=classes)


@st.composite
def scans(draw: st.DrawFn, *, smallest: int = 3) -> Scan:
    records: list[ImageRecord] = []
    for label in "abc"[: draw(st.integers(2, 3))]:
        for number, size in enumerate(draw(st.lists(st.integers(1, 6), min_size=smallest, max_size=25))):
            records += [photo(len(records) + i, label, f"{label}{number}") for i in range(size)]
    mixed = draw(st.integers(0, 3))  # groups across classes: conflicting labels of one series
    for number in range(mixed):
        records += [photo(len(records) + i, label, f"mixed{number}") for i, label in enumerate("ab")]
    return scanned(records)


def parts_of_groups(scan: Scan, manifest: Manifest) -> dict[str, set[str]]:
    part_of = {row.path: row.split for row in manifest.rows}
    found = defaultdict(set)
    for record in scan.records:
        found[record.group or record.path].add(part_of[record.path])
    return found


@given(scan=scans(), seed=st.integers(0, 5))
@settings(deadline=None)
def test_no_group_straddles_and_nothing_is_lost(scan: Scan, seed: int) -> None:
    manifest = split(scan, shares=SHARES, seed=seed)
    assert all(len(parts) == 1 for parts in parts_of_groups(scan, manifest).values())
    assert [row.path for row in manifest.rows] == sorted(record.path for record in scan.records)
    assert manifest.classes == scan.classes
    by_group = defaultdict(set)
    for row in manifest.rows:
        by_group[row.group].add(row.split)
    assert all(len(parts) == 1 for parts in by_group.values())
    assert len(by_group) == len({record.group for record in scan.records})


@given(
    sizes=st.lists(st.lists(st.integers(1, 8), min_size=30, max_size=90), min_size=2, max_size=3),
    seed=st.integers(0, 3),
    shares=st.sampled_from([(0.8, 0.1, 0.1), (0.6, 0.2, 0.2), (0.5, 0.25, 0.25), (0.7, 0.0, 0.3)]),
)
@settings(deadline=None, max_examples=40)
def test_stratified_to_within_one_group(sizes: list[list[int]], seed: int, shares: tuple[float, float, float]) -> None:
    records: list[ImageRecord] = []
    for label, groups in zip("abc", sizes, strict=False):
        for number, size in enumerate(groups):
            records += [photo(len(records) + i, label, f"{label}{number}") for i in range(size)]
    manifest = split(scanned(records), shares=shares, seed=seed)
    counts = Counter((row.label, row.split) for row in manifest.rows)
    for label, groups in zip("abc", sizes, strict=False):
        for part, share in zip(PARTS, shares, strict=True):
            assert abs(counts[label, part] - share * sum(groups)) <= max(groups)


@given(scan=scans(), seed=st.integers(0, 3), shuffle=st.randoms(use_true_random=False))
@settings(deadline=None)
def test_neither_order_nor_names_matter(scan: Scan, seed: int, shuffle: random.Random) -> None:
    expected = {row.sha256: (row.split, row.group) for row in split(scan, shares=SHARES, seed=seed).rows}
    names = [f"{number}.jpg" for number in range(len(scan.records))]
    shuffle.shuffle(names)
    groups = dict(zip([record.group for record in scan.records], names, strict=True))
    renamed = [
        replace(record, path=name, group=groups[record.group]) for record, name in zip(scan.records, names, strict=True)
    ]
    shuffle.shuffle(renamed)
    again = split(scanned(renamed), shares=SHARES, seed=seed)
    assert {row.sha256: (row.split, row.group) for row in again.rows} == expected


def test_the_seed_matters() -> None:
    scan = scanned([photo(n, "ab"[n % 2]) for n in range(200)])
    one, other = (split(scan, shares=SHARES, seed=seed).part("test") for seed in (0, 1))
    assert len(one) == len(other) == 20
    assert len({row.path for row in one} & {row.path for row in other}) < 10


def test_the_split_is_pinned() -> None:
    """A split that moves silently makes every earlier result incomparable: change this only with a changelog line."""
    scan = scanned([photo(n, "ab"[n % 2]) for n in range(40)])
    manifest = split(scan, shares=SHARES, seed=0)
    assert [row.path for row in manifest.part("test")] == PINNED


@pytest.mark.parametrize(
    ("groups", "expected"), [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "val"])]
)
def test_tiny_classes_serve_train_then_test_then_val(groups: int, expected: list[str]) -> None:
    records = [photo(n, "large") for n in range(60)] + [photo(100 + n, "tiny") for n in range(groups)]
    manifest = split(scanned(records), shares=SHARES, seed=0)
    assert sorted(row.split for row in manifest.rows if row.label == "tiny") == expected


def test_duplicates_and_given_groups_join_transitively() -> None:
    records = [photo(n, "ab"[n % 2]) for n in range(300)]
    records[10] = replace(records[10], group="g")
    records[20] = replace(records[20], group="g", sha256=records[30].sha256)
    records[40] = replace(records[40], phash=records[30].phash ^ 0b101)
    together = {records[n].path for n in (10, 20, 30, 40)}
    for seed in range(20):
        manifest = split(scanned(records), shares=(0.5, 0.25, 0.25), seed=seed)
        rows = [row for row in manifest.rows if row.path in together]
        assert len({row.split for row in rows}) == len({row.group for row in rows}) == 1
        least = min(records[n].sha256 for n in (10, 20, 30, 40))
        assert rows[0].group == least[:16]


# --- given splits --------------------------------------------------------------------------------------------------


def given_scan(**counts: int) -> Scan:
    records = []
    for part, count in counts.items():
        records += [photo(len(records) + n, "ab"[n % 2], part=None if part == "none" else part) for n in range(count)]
    return scanned(records)


def counted(manifest: Manifest) -> dict[str, int]:
    return dict(Counter(row.split for row in manifest.rows))


def test_a_given_split_is_kept_even_if_it_leaks() -> None:
    scan = given_scan(train=40, val=10, test=10)
    leaking = replace(scan.records[0], sha256=scan.records[-1].sha256)
    scan = scanned([leaking, *scan.records[1:]])
    kept = {row.path: row.split for row in split(scan, shares=SHARES, seed=0).rows}
    assert kept == {record.path: record.split for record in scan.records}


def test_missing_val_is_carved_from_train() -> None:
    scan = given_scan(train=90, test=30)
    manifest = split(scan, shares=(0.8, 0.1, 0.1), seed=0)
    assert counted(manifest) == {"train": 80, "val": 10, "test": 30}
    assert {row.path for row in manifest.part("test")} == {r.path for r in scan.records if r.split == "test"}


def test_missing_test_stays_missing() -> None:
    assert counted(split(given_scan(train=40, val=10), shares=SHARES, seed=0)) == {"train": 40, "val": 10}


def test_train_alone_is_no_split() -> None:
    assert counted(split(given_scan(train=100), shares=SHARES, seed=0)) == {"train": 80, "val": 10, "test": 10}


def test_rows_without_a_split_count_as_train() -> None:
    manifest = split(given_scan(train=20, none=20, val=6, test=6), shares=SHARES, seed=0)
    assert counted(manifest) == {"train": 40, "val": 6, "test": 6}


def test_parts_that_would_stay_empty_are_refused() -> None:
    for scan in (given_scan(val=10, test=10), scanned([photo(n, "ab"[n % 2]) for n in range(4)])):
        with pytest.raises(DataError, match="must each hold a photo"):
            split(scan, shares=SHARES, seed=0)
    one_class = scanned([photo(n, "a", part="train") for n in range(5)] + [photo(9, "b", part="val")])
    with pytest.raises(DataError, match="two classes"):
        split(one_class, shares=SHARES, seed=0)
    nameless = scanned([replace(photo(n, "a"), label=None) for n in range(5)])
    with pytest.raises(DataError, match="must have a label"):
        split(nameless, shares=SHARES, seed=0)


def test_a_share_of_zero_leaves_a_part_out() -> None:
    scan = scanned([photo(n, "ab"[n % 2]) for n in range(40)])
    assert counted(split(scan, shares=(0.5, 0.0, 0.5), seed=0)) == {"train": 20, "test": 20}


# --- folds ---------------------------------------------------------------------------------------------------------


@given(scan=scans(smallest=8), k=st.integers(2, 5), seed=st.integers(0, 3))
@settings(deadline=None, max_examples=40)
def test_folds_partition_the_photos(scan: Scan, k: int, seed: int) -> None:
    try:
        manifests = folds(scan, k=k, seed=seed, val_share=0.2)
    except DataError:
        assume(False)
    tested = sorted(row.path for manifest in manifests for row in manifest.part("test"))
    assert tested == sorted(record.path for record in scan.records)
    for manifest in manifests:
        assert all(len(parts) == 1 for parts in parts_of_groups(scan, manifest).values())
        assert manifest.part("val")


def test_folds_are_stratified_and_balanced() -> None:
    records = [photo(n, label) for n, label in enumerate("a" * 101 + "b" * 53 + "c" * 22)]
    manifests = folds(scanned(records), k=5, seed=0, val_share=0.1)
    for manifest in manifests:
        counts = Counter(row.label for row in manifest.part("test"))
        assert all(abs(counts[label] - total / 5) <= 1 for label, total in (("a", 101), ("b", 53), ("c", 22)))
        assert {row.label for row in manifest.part("val")} == {"a", "b", "c"}
        assert abs(len(manifest.part("val")) - 14) <= 2


@pytest.mark.parametrize("k", [0, 1, 7])
def test_a_number_of_folds_that_does_not_fit(k: int) -> None:
    scan = scanned([photo(n, "ab"[n % 2]) for n in range(6)])
    with pytest.raises(DataError, match="2 to 6"):
        folds(scan, k=k, seed=0, val_share=0.1)
