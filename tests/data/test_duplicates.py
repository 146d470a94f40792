"""Copies are found whatever their order, and named for what is wrong with them."""

from __future__ import annotations

import itertools
import random
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from topwork.data.copies import copy_findings
from topwork.data.duplicates import NEAR_DISTANCE, connect, group_duplicates, near_links, near_pairs
from topwork.data.scan import ImageRecord, scan
from topwork.errors import DataError


def record(path: str, *, sha: str = "", phash: int = 0, label: str = "a", split: str | None = None) -> ImageRecord:
    return ImageRecord(
        path=path,
        label=label,
        split=split,
        group=None,
        sha256=sha or path,
        bytes=1,
        width=1,
        height=1,
        phash=phash,
    )


FAR = [0x0123456789ABCDEF, 0xFEDCBA9876543210, 0x5555555555555555, 0x00000000FFFFFFFF]


@given(
    hashes=hnp.arrays(np.uint64, st.integers(0, 40), elements=st.integers(0, 2**64 - 1)),
    flips=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 2**64 - 1)), max_size=20),
    distance=st.integers(0, 63),
)
@settings(deadline=None)
def test_near_pairs_are_those_of_brute_force(hashes: np.ndarray, flips: list[tuple[int, int]], distance: int) -> None:
    near = [int(hashes[at % len(hashes)]) ^ (bits & bits >> 1 & bits >> 2) for at, bits in flips if len(hashes)]
    values = np.unique(np.array([*hashes.tolist(), *near], np.uint64))
    expected = [
        [i, j]
        for i, j in itertools.combinations(range(len(values)), 2)
        if (int(values[i]) ^ int(values[j])).bit_count() <= distance
    ]
    assert near_pairs(values, max_distance=distance).tolist() == expected


@given(
    bases=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4),
    flips=st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 63), max_size=7)), max_size=60),
    distance=st.integers(0, 20),
)
@settings(deadline=None)
def test_links_are_near_pairs_and_join_the_same_groups(
    bases: list[int], flips: list[tuple[int, set[int]]], distance: int
) -> None:
    near = [bases[at % len(bases)] ^ sum(1 << bit for bit in bits) for at, bits in flips]
    hashes = np.array([*bases, *near], np.uint64)
    pairs = near_pairs(hashes, max_distance=distance).tolist()
    links = near_links(hashes, max_distance=distance).tolist()
    assert connect(len(hashes), links) == connect(len(hashes), pairs)
    distinct = hashes[np.array(links, np.int64).reshape(-1, 2)]
    assert all((int(one) ^ int(other)).bit_count() <= distance for one, other in distinct)


def test_films_of_many_frames_cost_memory_by_the_frame_and_not_by_the_pair() -> None:
    rng = np.random.default_rng(0)
    scenes = np.repeat(rng.integers(0, 2**64, 4, np.uint64), 2500)
    noise = np.bitwise_or.reduce(np.uint64(1) << rng.integers(0, 64, (3, len(scenes)), np.uint64), axis=0)
    hashes = scenes ^ noise  # frames of a scene differ in at most 6 bits: 10 million pairs and more
    tracemalloc.start()
    try:
        links = near_links(hashes, max_distance=NEAR_DISTANCE)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(links) < 3 * len(hashes)
    found = np.array(connect(len(hashes), links.tolist()))
    assert len(np.unique(found)) == 4
    assert all(len(np.unique(found[scenes == scene])) == 1 for scene in np.unique(scenes))
    assert peak < 600 * len(hashes)


def test_equal_hashes_are_paired_with_the_first() -> None:
    assert near_pairs(np.array([7, 2**63, 7, 7], np.uint64), max_distance=0).tolist() == [[0, 2], [0, 3]]


@pytest.mark.parametrize("distance", [-1, 64])
def test_distance_out_of_range(distance: int) -> None:
    for search in (near_pairs, near_links):
        with pytest.raises(DataError, match="0 to 63"):
            search(np.zeros(2, np.uint64), max_distance=distance)


def test_the_search_is_fast_and_exact_on_many() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 20_000, np.uint64)
    hashes[1::100] = hashes[::100] ^ np.uint64(0b10110)
    start = time.process_time()
    pairs = near_pairs(hashes, max_distance=NEAR_DISTANCE)
    assert time.process_time() - start < 20
    assert len(pairs) == 200  # among random hashes none is that close by chance


@given(count=st.integers(1, 20), data=st.data())
def test_connect_gives_the_least_of_each_component(count: int, data: st.DataObject) -> None:
    index = st.integers(0, count - 1)
    pairs = data.draw(st.lists(st.tuples(index, index), max_size=30))
    expected = list(range(count))
    for _ in range(count):  # relax until nothing moves
        for one, other in pairs:
            expected[one] = expected[other] = min(expected[one], expected[other])
    assert connect(count, pairs) == expected


def test_groups_are_transitive_and_independent_of_order() -> None:
    chain = [record(f"c{n}", phash=FAR[0] ^ ((1 << 6 * n) - 1)) for n in range(5)]
    copies = [record(f"d{n}", sha="same", phash=FAR[2] ^ (n * 0x0F0F0F0F0F0F)) for n in range(2)]
    alone = [record("z", phash=FAR[3])]
    everything = [*chain, *copies, *alone]
    expected = (tuple(chain), tuple(copies))
    for seed in range(5):
        random.Random(seed).shuffle(everything)
        assert group_duplicates(everything, max_distance=6) == expected
    assert group_duplicates([], max_distance=6) == ()


def kinds(*records: ImageRecord) -> list[tuple[str, str]]:
    return [(finding.kind, finding.severity) for finding in copy_findings(records)]


def test_each_fault_has_its_name() -> None:
    one, copy = record("1", sha="s", phash=FAR[0]), record("2", sha="s", phash=FAR[0])
    assert kinds(one, copy) == [("exact_duplicate", "warning")]
    tulip = record("3", sha="s", phash=FAR[0], label="b")
    assert kinds(one, tulip) == [("label_conflict", "error"), ("near_duplicate", "warning")]
    assert kinds(record("1", phash=FAR[0]), record("2", phash=FAR[0] ^ 7)) == [("near_duplicate", "info")]
    assert kinds(record("1", phash=FAR[0]), record("2", phash=FAR[1])) == []


def test_leaks() -> None:
    train = record("1", sha="s", phash=FAR[0], split="train")
    assert kinds(train, record("2", sha="s", phash=FAR[0], split="test")) == [("leak", "error")]
    similar = record("2", phash=FAR[0] ^ 3, split="val")
    assert kinds(train, similar) == [("near_duplicate", "info"), ("leak", "warning")]
    assert kinds(train, record("2", sha="s", phash=FAR[0], split=None)) == [("exact_duplicate", "warning")]


def test_a_given_group_in_two_parts_leaks() -> None:
    from dataclasses import replace

    one = replace(record("1", phash=FAR[0], split="train"), group="site 3")
    other = replace(record("2", phash=FAR[1], split="test"), group="site 3")
    (finding,) = copy_findings([other, one])
    assert (finding.kind, finding.severity, finding.files) == ("leak", "error", ("1", "2"))
    assert "site 3" in finding.evidence


@pytest.mark.slow
def test_flowers(flowers: Path) -> None:
    """The figures that the docstring of NEAR_DISTANCE quotes."""
    records = scan(flowers).records
    lines = (flowers.parent / "flowers_near_duplicates.txt").read_text(encoding="utf-8").splitlines()
    confirmed = {tuple(sorted(line.split("\t")[:2])) for line in lines if not line.startswith("#")}
    lines = (flowers.parent / "flowers_groups.txt").read_text(encoding="utf-8").splitlines()
    series = [set(line.split("\t")) for line in lines if not line.startswith("#")]
    pairs = near_pairs(np.array([r.phash for r in records], np.uint64), max_distance=NEAR_DISTANCE)
    found = {tuple(sorted((records[i].path, records[j].path))) for i, j in pairs}
    assert len(found & confirmed) >= 16
    outside = [pair for pair in found - confirmed if not any(set(pair) <= group for group in series)]
    assert len(outside) <= 2
    errors = [finding for finding in copy_findings(records) if finding.severity == "error"]
    assert [(error.kind, error.files) for error in errors] == [
        ("label_conflict", ("roses/15922772266_1167a06620.jpg", "tulips/15922772266_1167a06620.jpg"))
    ]
    assert "roses and tulips" in errors[0].evidence
