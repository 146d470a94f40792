"""W&B against a module that stands in for it, with the signatures of wandb 0.31. No server has seen this."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from topwork.tracking.tracker import End, Start
from topwork.tracking.trackers import Trackers, epoch_numbers
from topwork.tracking.wandb import WandbTracker


class Run:
    """What `wandb.init` gives: these members, and `log` as W&B does it, which takes no step twice."""

    def __init__(self, given: dict[str, Any], *, resumed: bool) -> None:
        self.given = given
        self.id = given.get("id") or "abc123"
        self.resumed = resumed
        self.url = None
        self.dir = "wandb/offline-run-abc123/files"
        self.summary: dict[str, Any] = {}
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.exit_code: int | None = None

    def log(self, data: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        self.rows.append((step, data))

    def finish(self, exit_code: int | None = None) -> None:
        self.exit_code = exit_code


class Image:
    def __init__(self, data_or_path: Any, mode: str | None = None, caption: str | None = None) -> None:
        assert Path(data_or_path).is_file()
        self.path = Path(data_or_path)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that are begun."""
    found: list[Run] = []

    def init(
        entity: Any = None,
        project: str | None = None,
        dir: Any = None,
        id: str | None = None,
        name: str | None = None,
        notes: str | None = None,
        tags: Any = None,
        config: dict[str, Any] | str | None = None,
        mode: Any = None,
        reinit: Any = None,
        resume: Any = None,
    ) -> Run:
        given = {"project": project, "id": id, "name": name, "config": config, "mode": mode, "resume": resume}
        found.append(Run(given, resumed=id == "online"))
        return found[-1]

    module = ModuleType("wandb")
    module.__spec__ = ModuleSpec("wandb", loader=None, origin="a test")
    vars(module).update(init=init, Image=Image)
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return found


def test_config_rows_summary_and_pictures(
    start: Start, history: list[dict[str, Any]], end: End, runs: list[Run]
) -> None:
    tracker = WandbTracker()
    opened = tracker.begin(start)
    for step, line in enumerate(history, start=1):
        tracker.log(step, epoch_numbers(line))
    tracker.finish(end)
    (run,) = runs
    assert run.given == {
        "project": "topwork",
        "id": None,
        "name": "run-1",
        "config": dict(start.parameters),
        "mode": None,  # the user's own
        "resume": "allow",
    }
    assert (opened.identity, opened.continued, opened.where) == ("abc123", False, run.dir)
    assert [step for step, _ in run.rows] == [1, 2, 3, None]
    assert run.rows[1][1]["val/loss"] == 0.5
    assert run.rows[-1][1]["figures/confusion_matrix"].path == end.figures[0]
    assert run.summary == {**end.numbers, "model": str(end.model)}
    assert run.exit_code == 0


def test_it_is_continued_only_if_wandb_says_so(start: Start, runs: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "thesis")
    for known, continued in (("online", True), ("offline", False)):
        tracker = WandbTracker()
        opened = tracker.begin(Start(name="a", folder=start.folder, parameters={}, known=known))
        assert (opened.identity, opened.continued) == (known, continued)
        assert runs[-1].given["project"] == "thesis"
        tracker.stop()
        assert runs[-1].exit_code == 1


def test_it_is_found_by_its_name(start: Start, runs: list[Run]) -> None:
    with Trackers.named(["wandb"]) as trackers:
        assert trackers.begin(start, known={}, history=[])["wandb"] == "abc123"
    assert runs[0].exit_code == 1
