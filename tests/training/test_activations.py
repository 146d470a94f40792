"""A row that can be read is exactly the row that was written, whatever happened to the files or the process."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.errors import ResourceError
from topwork.training import activations, claims
from topwork.training import store as module
from topwork.training.activations import ActivationCache, default_limit
from topwork.training.store import RowName, Store, StoreKey

PARTS = {"decode": 1, "network": "n", "engine": "torch", "input": {"size": 224, "mean": [0.5, 0.5, 0.5]}}
KEY = StoreKey(what="pooled", parts=PARTS)
ROW = 12  # bytes of one row of six float16


def names(count: int, *, first: int = 0) -> list[RowName]:
    return [(hashlib.sha256(str(i // 2).encode()).hexdigest(), i % 2) for i in range(first, first + count)]


def values(count: int, *, first: int = 0) -> np.ndarray:
    """Row i holds numbers that only row i holds, all exact in float16."""
    return (np.arange(first, first + count)[:, None, None] * 8 + np.arange(6).reshape(2, 3)).astype(np.float32)


def filled(cache: ActivationCache, count: int, *, key: StoreKey = KEY) -> Store:
    store = cache.open(key)
    with store.writing():
        store.append(names(count), values(count))
    return store


@pytest.fixture
def cache(tmp_path: Path) -> ActivationCache:
    return ActivationCache(tmp_path / "cache", limit=10**9)


@pytest.fixture(scope="module")
def five_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("five")
    filled(ActivationCache(folder, limit=10**9), 5)
    return folder


def damaged(five_rows: Path, *, file: str, size: int) -> ActivationCache:
    folder = five_rows.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(five_rows, folder)
    os.truncate(folder / KEY.digest / file, size)
    return ActivationCache(folder, limit=10**9)


def test_rows_come_back_in_the_order_asked_for(cache: ActivationCache) -> None:
    store = filled(cache, 7)
    order = [6, 0, 3, 3]
    np.testing.assert_array_equal(store.read([names(7)[i] for i in order]), values(7)[order])
    np.testing.assert_array_equal(cache.open(KEY).read(names(7)), values(7))
    assert store.missing([*names(2, first=6), *names(1)]) == [1]
    with pytest.raises(KeyError):
        store.rows(names(1, first=7))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_gives_exact_rows_or_none_and_can_be_filled_again(
    five_rows: Path, data: st.DataObject
) -> None:
    file, full = data.draw(st.sampled_from([("rows.bin", 5 * ROW), ("index.bin", 5 * module._INDEX.itemsize)]))
    size = data.draw(st.integers(0, full))
    cache = damaged(five_rows, file=file, size=size)
    store = cache.open(KEY)
    whole = size * 5 // full
    assert len(store) == whole  # nothing that is whole is lost
    assert store.missing(names(5)) == list(range(whole, 5))
    if whole:
        np.testing.assert_array_equal(store.read(names(whole)), values(whole))
    with store.writing():
        lacking = store.missing(names(6))
        store.append([names(6)[i] for i in lacking], values(6)[lacking])
    for reader in (store, cache.open(KEY)):
        np.testing.assert_array_equal(reader.read(names(6)), values(6))


@settings(max_examples=20, deadline=None)
@given(tail=st.binary(min_size=1, max_size=2 * ROW))
def test_data_without_a_name_do_not_shift_later_rows(five_rows: Path, tail: bytes) -> None:
    cache = damaged(five_rows, file="rows.bin", size=5 * ROW)
    with (cache.folder / KEY.digest / "rows.bin").open("ab") as stream:
        stream.write(tail)  # what a kill between data and index leaves
    store = cache.open(KEY)
    with store.writing():
        store.append(names(1, first=5), values(1, first=5))
    np.testing.assert_array_equal(cache.open(KEY).read(names(6)), values(6))


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"{}"])
def test_rows_without_readable_facts_are_not_trusted(five_rows: Path, content: bytes) -> None:
    cache = damaged(five_rows, file="meta.json", size=0)
    (cache.folder / KEY.digest / "meta.json").write_bytes(content)
    store = cache.open(KEY)
    assert len(store) == 0
    assert store.shape is None
    assert cache.summaries() == []
    with store.writing():
        store.append(names(2), values(2) + 1)
    np.testing.assert_array_equal(cache.open(KEY).read(names(2)), values(2) + 1)


def test_a_full_disk_is_one_error_and_what_was_complete_stays(
    cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, append = filled(cache, 3), module._append

    def half(path: Path, content: bytes) -> None:
        append(path, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with store.writing():
        monkeypatch.setattr(module, "_append", half)
        with pytest.raises(ResourceError, match="No space left") as caught:
            store.append(names(1, first=3), values(1, first=3))
        assert "topwork cache clear" in caught.value.fix
        monkeypatch.setattr(module, "_append", append)
    assert cache.open(KEY).missing(names(4)) == [3]
    with store.writing():
        store.append(names(1, first=3), values(1, first=3))
    np.testing.assert_array_equal(cache.open(KEY).read(names(4)), values(4))


@given(row=st.lists(st.floats(-16000, 16000, width=32), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_small_values_keep_float16_precision(tmp_path_factory: pytest.TempPathFactory, row: list[float]) -> None:
    given_values = np.array(row, np.float32).reshape(1, 2, 3)
    cache = ActivationCache(tmp_path_factory.mktemp("f16"), limit=10**9)
    store = cache.open(KEY)
    with store.writing():
        store.append(names(1), given_values)
    assert store.mapped().dtype == np.float16
    np.testing.assert_allclose(store.read(names(1)), given_values, rtol=2**-11, atol=2**-25)


@given(row=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=6, max_size=6))
@settings(max_examples=30, deadline=None)
def test_large_values_are_the_nearest_bfloat16(tmp_path_factory: pytest.TempPathFactory, row: list[float]) -> None:
    import torch

    given_values = np.array([1e6, *row[1:]], np.float32).reshape(1, 2, 3)
    store = ActivationCache(tmp_path_factory.mktemp("bf16"), limit=10**9).open(KEY)
    with store.writing():
        store.append(names(1), given_values)
    expected = torch.from_numpy(given_values).bfloat16().float().numpy()
    np.testing.assert_array_equal(store.read(names(1)), expected)


def test_later_values_beyond_float16_stay_finite(cache: ActivationCache) -> None:
    store = filled(cache, 1)
    with store.writing():
        store.append(names(1, first=1), np.full((1, 2, 3), -1e9, np.float32))
    np.testing.assert_array_equal(store.read(names(1, first=1)), np.full((1, 2, 3), -65504.0))


def test_a_reader_learns_of_new_rows_only_when_it_looks(cache: ActivationCache) -> None:
    reader, writer = cache.open(KEY), cache.open(KEY)
    for first in (0, 3, 6):
        with writer.writing():
            writer.append(names(3, first=first), values(3, first=first))
        assert len(reader) == first
        reader.refresh()
        reader.refresh()
        np.testing.assert_array_equal(reader.read(names(first + 3)), values(first + 3))


def test_a_second_writer_waits_and_then_knows_the_rows_of_the_first(cache: ActivationCache) -> None:
    first, second = cache.open(KEY), cache.open(KEY)
    said: list[str] = []
    waiting = threading.Event()
    lacking: list[int] = []

    def say(text: str) -> None:
        said.append(text)
        waiting.set()

    def write() -> None:
        with second.writing(SimpleNamespace(say=say, step=lambda *_: None)):
            lacking.extend(second.missing(names(4)))
            second.append([names(4)[i] for i in lacking], values(4)[lacking])

    with first.writing():
        thread = threading.Thread(target=write)
        thread.start()
        assert waiting.wait(20)
        first.append(names(2), values(2))
        assert lacking == []
    thread.join(20)
    assert len(said) == 1
    assert lacking == [2, 3]
    np.testing.assert_array_equal(cache.open(KEY).read(names(4)), values(4))


@pytest.mark.parametrize(
    "other",
    [
        StoreKey(what="3", parts=PARTS),
        *(StoreKey(what="pooled", parts={**PARTS, name: "other"}) for name in PARTS),
        StoreKey(what="pooled", parts={**PARTS, "input": {"size": 224, "mean": [0.5, 0.5, 0.4]}}),
        StoreKey(what="pooled", parts={**PARTS, "more": None}),
    ],
)
def test_any_other_part_is_another_store(cache: ActivationCache, other: StoreKey) -> None:
    filled(cache, 2)
    assert other.digest != KEY.digest
    assert len(cache.open(other)) == 0
    assert StoreKey(what="pooled", parts=dict(reversed(PARTS.items()))).digest == KEY.digest


def test_earlier_cuts_are_those_of_the_same_network_latest_first(cache: ActivationCache) -> None:
    others = {**PARTS, "network": "m"}
    for what, parts in [("2", PARTS), ("10", PARTS), ("9", PARTS), ("5", others), ("pooled", PARTS), ("11", PARTS)]:
        filled(cache, 1, key=StoreKey(what=what, parts=parts))
    found = cache.earlier_cuts(StoreKey(what="10", parts=PARTS))
    assert [key.what for key in found] == ["9", "2"]
    assert all(len(cache.open(key)) == 1 for key in found)  # the keys lead to the stores


def used_at(cache: ActivationCache, what: str, *, time: int) -> StoreKey:
    key = StoreKey(what=what, parts=PARTS)
    filled(cache, 1, key=key)
    os.utime(cache.folder / key.digest / "meta.json", (time, time))
    return key


def test_what_was_used_longest_ago_goes_first_and_no_more_than_needed(tmp_path: Path) -> None:
    for what, time in (("1", 300), ("2", 100), ("3", 200)):
        used_at(ActivationCache(tmp_path, limit=10**9), what, time=time)
    total = sum(summary.bytes for summary in ActivationCache(tmp_path, limit=0).summaries())
    cache = ActivationCache(tmp_path, limit=total)
    cache.make_room(0)
    assert len(cache.summaries()) == 3
    cache.make_room(1)
    assert {summary.what for summary in cache.summaries()} == {"1", "3"}


def test_opening_a_store_is_using_it(tmp_path: Path) -> None:
    keys = [used_at(ActivationCache(tmp_path, limit=10**9), what, time=time) for what, time in (("1", 1), ("2", 2))]
    ActivationCache(tmp_path, limit=10**9).open(keys[0])
    cache = ActivationCache(tmp_path, limit=10**9)
    cache.limit = sum(summary.bytes for summary in cache.summaries())
    cache.make_room(1)
    assert [summary.what for summary in cache.summaries()] == ["1"]


def test_stores_in_use_are_never_evicted_so_the_limit_is_an_error(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, limit=2000)
    store = filled(cache, 3)
    with pytest.raises(ResourceError, match="room for") as caught:
        cache.make_room(10**6)
    assert "TOPWORK_CACHE_GB" in caught.value.fix
    np.testing.assert_array_equal(store.read(names(3)), values(3))


def test_a_full_disk_is_foreseen(cache: ActivationCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1_000_000_500))
    cache.make_room(500)
    with pytest.raises(ResourceError):
        cache.make_room(501)


def test_what_cannot_fit_evicts_nothing(tmp_path: Path) -> None:
    used_at(ActivationCache(tmp_path, limit=10**9), "1", time=1)
    cache = ActivationCache(tmp_path, limit=10**4)
    assert cache.room() == 10**4
    filled(cache, 3)
    assert cache.room() < 10**4
    with pytest.raises(ResourceError, match="in use"):
        cache.make_room(10**4)
    assert {summary.what for summary in cache.summaries()} == {"1", "pooled"}


def test_there_is_no_room_on_a_disk_that_is_nearly_full(
    cache: ActivationCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert cache.free_bytes() < 0
    assert cache.room() == 0


def test_what_anybody_reads_is_neither_evicted_nor_cleared(tmp_path: Path) -> None:
    key = used_at(ActivationCache(tmp_path, limit=10**9), "1", time=1)
    reader = ActivationCache(tmp_path, limit=10**9).open(key)
    other = ActivationCache(tmp_path, limit=10**9)
    other.limit = sum(summary.bytes for summary in other.summaries()) + 10
    assert other.room() == 10
    with pytest.raises(ResourceError, match="in use"):
        other.make_room(11)
    assert [summary.what for summary in other.clear()[1]] == ["1"]
    np.testing.assert_array_equal(reader.read(names(1)), values(1))
    reader.close()
    other.make_room(11)
    assert other.summaries() == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses to delete open files by itself")
def test_who_opens_a_store_while_another_looks_is_seen_by_the_next(cache: ActivationCache) -> None:
    import fcntl

    filled(cache, 1).close()
    folder, opened = cache.folder / KEY.digest, []
    assert not claims.in_use(folder)
    with (folder / "rows.bin").open("rb") as looking:
        fcntl.flock(looking, fcntl.LOCK_EX)
        thread = threading.Thread(target=lambda: opened.append(cache.open(KEY)))
        thread.start()
        thread.join(0.2)
    thread.join(20)
    assert len(opened[0]) == 1
    assert claims.in_use(folder)


def test_rows_are_read_from_the_file_that_was_opened_whatever_has_its_name_now(cache: ActivationCache) -> None:
    reader = filled(cache, 3)
    shutil.rmtree(cache.folder / KEY.digest)
    store = cache.open(KEY)
    with store.writing():
        store.append(names(5)[::-1], values(5) + 4)  # the same names at other places
    reader.refresh()
    np.testing.assert_array_equal(reader.read(names(3)), values(3))
    with pytest.raises(ResourceError, match="removed while") as caught, reader.writing():
        pass
    assert "--resume" in caught.value.fix
    np.testing.assert_array_equal(cache.open(KEY).read(names(5)[::-1]), values(5) + 4)


def test_a_passing_store_is_gone_after_its_block_and_cleared_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    cache = ActivationCache(limit=10**9)
    with module.passing_store(KEY) as store:
        with store.writing():
            store.append(names(2), values(2))
        cache.clear()
        np.testing.assert_array_equal(store.read(names(2)), values(2))
    assert list(cache.folder.iterdir()) == []
    left = cache.folder / f"{module.PASSING}left" / "pooled"
    left.mkdir(parents=True)
    (left / "rows.bin").write_bytes(b"x")
    cache.clear()
    assert list(cache.folder.iterdir()) == []


def test_a_store_that_is_being_filled_is_not_removed(cache: ActivationCache) -> None:
    store = filled(cache, 1)
    with store.writing():
        assert not cache.remove(KEY.digest)
        assert [summary.name for summary in cache.clear()[1]] == [KEY.digest]
        store.append(names(1, first=1), values(1, first=1))
    np.testing.assert_array_equal(cache.open(KEY).read(names(2)), values(2))
    store.close()
    assert [summary.name for summary in cache.clear()[0]] == [KEY.digest]
    assert cache.summaries() == []


def test_clearing_takes_what_is_left_of_damaged_stores_and_nothing_else(cache: ActivationCache) -> None:
    filled(cache, 2)
    (cache.folder / KEY.digest / "meta.json").write_text("{")
    (cache.folder / "stranger").mkdir()
    assert cache.clear() == ([], [])
    assert {path.name for path in cache.folder.iterdir() if path.is_dir()} == {"stranger"}


def test_who_waits_for_another_process_can_give_up(cache: ActivationCache) -> None:
    def step(*_: object) -> None:
        raise ResourceError("out of time", fix="wait")

    waiting = cache.open(KEY).writing(SimpleNamespace(say=lambda _: None, step=step))
    with cache.open(KEY).writing(), pytest.raises(ResourceError, match="out of time"), waiting:
        pass
    assert len(filled(cache, 2)) == 2


def test_summaries_count_rows_and_pass_over_what_is_no_store(cache: ActivationCache) -> None:
    filled(cache, 4)
    (cache.folder / "stranger").mkdir()
    (cache.folder / "a file").write_bytes(b"x")
    (summary,) = cache.summaries()
    assert (summary.name, summary.what, summary.rows, dict(summary.parts)) == (KEY.digest, "pooled", 4, PARTS)
    assert summary.bytes >= 4 * ROW
    cache.remove(summary.name)
    assert cache.summaries() == []
    assert len(cache.open(KEY)) == 0


def test_the_limit_is_20_gb_or_what_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_CACHE_GB", raising=False)
    assert default_limit() == 20 * 10**9
    monkeypatch.setenv("TOPWORK_CACHE_GB", "0.5")
    assert default_limit() == 5 * 10**8


@pytest.mark.parametrize("text", ["20GB", "nan", "-1", "inf"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("TOPWORK_CACHE_GB", text)
    with pytest.raises(ResourceError, match="number of gigabytes"):
        default_limit()
