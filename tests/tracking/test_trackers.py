"""Those that fail are left out, those that are new get all epochs, and a wrong name is refused first."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from topwork.errors import RecipeError
from topwork.tracking.tracker import End, Opened, Start
from topwork.tracking.trackers import Trackers


@dataclass
class Recorder:
    """Remembers what it is told; raises where it is asked to."""

    fails_at: str = ""
    knows_runs: bool = False
    told: list[Any] = field(default_factory=list)

    def _note(self, what: str, value: Any) -> None:
        if what == self.fails_at:
            raise OSError("the disk\nis full")
        self.told.append((what, value))

    def begin(self, start: Start) -> Opened:
        self._note("begin", start.known)
        return Opened(identity=start.known or "new", continued=self.knows_runs and bool(start.known))

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        self._note("log", (step, numbers["progress/epoch"]))

    def finish(self, end: End) -> None:
        self._note("finish", end)

    def stop(self) -> None:
        self._note("stop", None)


@dataclass
class Said:
    lines: list[str] = field(default_factory=list)

    def step(self, stage: str, done: int, total: int) -> None: ...

    def say(self, line: str) -> None:
        self.lines.append(line)


def _whole(trackers: Trackers, start: Start, history: list[dict[str, Any]], end: End) -> None:
    with trackers:
        trackers.begin(start, known={}, history=[])
        for line in history:
            trackers.epoch(line)
        trackers.finish(end)


@pytest.mark.parametrize("moment", ["begin", "log", "finish"])
def test_one_that_fails_gives_one_warning_and_disturbs_nothing(
    moment: str, start: Start, history: list[dict[str, Any]], end: End
) -> None:
    said, good = Said(), Recorder()
    _whole(Trackers({"bad": Recorder(fails_at=moment), "good": good}, progress=said), start, history, end)
    assert said.lines == ["Warning: bad no longer follows this run (OSError: the disk). The fit goes on."]
    assert good.told == [
        ("begin", ""),
        *(("log", each) for each in [(1, 1.0), (2, 2.0), (3, 1.0)]),
        ("finish", end),
    ]


def test_a_run_that_breaks_off_is_stopped(start: Start) -> None:
    tracker = Recorder()

    def broken_off() -> None:
        with Trackers({"a": tracker}) as trackers:
            trackers.begin(start, known={}, history=[])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken_off()
    assert tracker.told[-1] == ("stop", None)


def test_a_continued_run_goes_on_and_a_new_one_gets_the_earlier_epochs(
    start: Start, history: list[dict[str, Any]]
) -> None:
    old, new, forgetful = Recorder(knows_runs=True), Recorder(), Recorder()
    trackers = Trackers({"old": old, "new": new, "forgetful": forgetful})
    known = {"old": "7", "forgetful": "8", "not asked for": "9"}
    assert trackers.begin(start, known=known, history=history[:2]) == {**known, "new": "new"}
    trackers.epoch(history[2])
    assert old.told == [("begin", "7"), ("log", (3, 1.0))]
    everything = [("log", (1, 1.0)), ("log", (2, 2.0)), ("log", (3, 1.0))]
    assert new.told == [("begin", ""), *everything]
    assert forgetful.told == [("begin", "8"), *everything]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"neptune.*\n.*tensorboard, mlflow, wandb"):
        Trackers.named(["neptune"])


def test_what_is_not_installed_is_refused_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb").mkdir()  # the folder that W&B writes its runs into is no package
    with pytest.raises(RecipeError, match=r"pip install wandb$"):
        Trackers.named(["wandb"])


def test_nothing_is_loaded_before_training() -> None:
    sys.modules.pop("topwork.tracking.wandb", None)
    Trackers.named()
    assert "topwork.tracking.wandb" not in sys.modules
