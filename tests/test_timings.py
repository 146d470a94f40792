"""Measured once on a machine, then the same choice every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from topwork import timings as module
from topwork.timings import Timings


class Clock:
    """Candidates that take fixed times and count how often they were measured."""

    def __init__(self, **seconds: float) -> None:
        self.seconds = seconds
        self.measured: list[str] = []

    @property
    def candidates(self) -> dict[str, Callable[[], float]]:
        def measure(name: str) -> Callable[[], float]:
            return lambda: (self.measured.append(name), self.seconds[name])[1]

        return {name: measure(name) for name in self.seconds}


def test_the_fastest_is_picked_and_what_was_measured_is_told(tmp_path: Path) -> None:
    timings, clock = Timings(tmp_path / "t.json"), Clock(a=3.0, b=0.5, c=0.7)
    assert timings.pick("streams", "k", candidates=clock.candidates) == "b"
    assert timings.used == {"streams": {"picked": "b", "seconds": {"a": 3.0, "b": 0.5, "c": 0.7}}}


def test_a_repeat_measures_nothing_and_picks_the_same_even_if_the_clock_changed(tmp_path: Path) -> None:
    Timings(tmp_path / "t.json").pick("streams", "k", candidates=Clock(a=1.0, b=2.0).candidates)
    for timings in (Timings(tmp_path / "t.json"), Timings(tmp_path / "t.json")):
        clock = Clock(a=9.0, b=2.0)
        assert timings.pick("streams", "k", candidates=clock.candidates) == "a"
        assert clock.measured == []
        assert timings.used["streams"]["picked"] == "a"


def test_another_key_another_choice_and_another_machine_are_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings, clock = Timings(tmp_path / "t.json"), Clock(a=1.0)
    timings.pick("streams", "k", candidates=clock.candidates)
    timings.pick("streams", "k2", candidates=clock.candidates)
    timings.pick("batch", "k", candidates=clock.candidates)
    monkeypatch.setattr(module, "cpu_name", lambda: "another processor")
    timings.pick("streams", "k", candidates=clock.candidates)
    assert clock.measured == ["a"] * 4


def test_a_remembered_choice_that_is_no_candidate_any_more_is_not_used(tmp_path: Path) -> None:
    Timings(tmp_path / "t.json").pick("streams", "k", candidates=Clock(gone=0.1, b=2.0).candidates)
    assert Timings(tmp_path / "t.json").pick("streams", "k", candidates=Clock(b=2.0, c=1.0).candidates) == "c"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_memory_is_measured_anew_and_repaired(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t.json"
    path.write_bytes(content)
    assert Timings(path).pick("streams", "k", candidates=Clock(a=2.0, b=1.0).candidates) == "b"
    clock = Clock(a=1.0, b=2.0)
    assert Timings(path).pick("streams", "k", candidates=clock.candidates) == "b"
    assert clock.measured == []


def test_two_processes_keep_each_others_choices(tmp_path: Path) -> None:
    first, second = Timings(tmp_path / "t.json"), Timings(tmp_path / "t.json")
    first.pick("streams", "k1", candidates=Clock(a=1.0).candidates)
    second.pick("streams", "k2", candidates=Clock(a=1.0).candidates)
    clock = Clock(a=1.0)
    later = Timings(tmp_path / "t.json")
    later.pick("streams", "k1", candidates=clock.candidates)
    later.pick("streams", "k2", candidates=clock.candidates)
    assert clock.measured == []


@pytest.mark.parametrize("damaged", [3, {}, {"picked": 7}, {"picked": ["slow"]}, None])
def test_a_damaged_entry_is_measured_again(tmp_path: Path, damaged: object) -> None:
    path = tmp_path / "timings.json"
    Timings(path).pick("what", "key", candidates={"slow": lambda: 2.0, "fast": lambda: 1.0})
    known = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(dict.fromkeys(known, damaged)), encoding="utf-8")
    assert Timings(path).pick("what", "key", candidates={"slow": lambda: 2.0, "fast": lambda: 1.0}) == "fast"


def test_what_a_run_decided_counts_before_what_the_machine_remembers(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    Timings(path).pick("streams", "k", candidates=Clock(a=1.0, b=2.0).candidates)
    clock = Clock(a=1.0, b=2.0)
    timings = Timings(path, decided={"streams": {"picked": "b", "seconds": {"a": 2.0, "b": 1.0}}})
    assert timings.pick("streams", "k", candidates=clock.candidates) == "b"
    assert clock.measured == []
    assert timings.pick("other", "k", candidates=clock.candidates) == "a"
    assert (
        Timings(path, decided={"streams": {"picked": "gone"}}).pick("streams", "k", candidates=clock.candidates) == "a"
    )


def test_each_choice_is_told_before_the_next_one_and_state_is_settled_once(tmp_path: Path) -> None:
    told: list[dict[str, str]] = []
    timings = Timings(tmp_path / "t.json")
    timings.on_choice = lambda used: told.append({what: entry["picked"] for what, entry in used.items()})
    timings.pick("streams", "k", candidates=Clock(a=1.0).candidates)
    assert timings.settle("views", lambda: "8") == "8"
    assert told == [{"streams": "a"}, {"streams": "a", "views": "8"}]
    later = Timings(tmp_path / "t.json", decided=timings.used)
    assert later.settle("views", lambda: pytest.fail("was decided")) == "8"
    assert Timings(tmp_path / "t.json").settle("views", lambda: "3") == "3"  # no machine remembers it
