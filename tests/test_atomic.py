"""A write happened whole or not at all, whatever goes wrong in between."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.atomic import atomic_path, write_bytes, write_json, write_text


class Interrupted(BaseException):
    """Like KeyboardInterrupt: no handler of Exception sees it."""


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_path(target) as draft:
            draft.write_bytes(b"half of the ne")
            raise Interrupted

    with pytest.raises(Interrupted):
        interrupted()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_new_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.npz"
    with atomic_path(target) as draft:
        assert draft.suffix == target.suffix
        assert draft.parent == target.parent
        draft.write_bytes(b"new")
        assert not target.exists()
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["a.npz"]


def test_a_failed_replacement_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("topwork.atomic.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(tmp_path / "a", b"x")
    assert os.listdir(tmp_path) == []


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o044 == 0o044


def test_names_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path) -> None:
    target = tmp_path / ("n" * 250 + ".json")
    write_bytes(target, b"x")
    assert target.read_bytes() == b"x"


@given(content=st.binary(max_size=200))
def test_bytes_and_odd_file_names_come_back(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    target = tmp_path_factory.getbasetemp() / "atomic" / "bytes"
    write_bytes(target, content)
    assert target.read_bytes() == content
    text = os.fsdecode(content)  # what os.listdir makes of any file name
    write_text(target, text)
    assert target.read_bytes() == content


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(value=_plain)
def test_plain_values_come_back_from_json(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    target = tmp_path_factory.getbasetemp() / "atomic" / "value.json"
    write_json(target, value)
    assert json.loads(target.read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused_and_the_old_file_stays(tmp_path: Path, number: float) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(target, {"loss": number})
    assert json.loads(target.read_text(encoding="utf-8")) == {"loss": 1.0}
