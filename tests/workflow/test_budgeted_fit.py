"""`fit` with minutes, end to end on drawn flowers with a tiny network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import topwork
from topwork.cli.app import run as command
from topwork.errors import RecipeError, ResourceError
from topwork.workflow import planning
from topwork.workflow.budget import Plan, choose_plan
from topwork.workflow.rundir import RunDir

SETTINGS = (
    *("backbone.name=test_efficientnet", "backbone.weights=none", "data.image_size=64"),
    *("data.split=60/20/20", "engine.precision=f32", "phase2.epochs=4", "stop.patience=99", "data.seed=11"),
)


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text()))


def test_plenty_of_minutes_train_what_the_recipe_asks_for_and_the_run_says_both(
    drawn_photos: Path, tmp_path: Path, lines: Any
) -> None:
    run = topwork.fit(drawn_photos, to=tmp_path / "run", settings=SETTINGS, minutes=10, progress=lines)
    recipe = RunDir.open(run.path).recipe()
    assert (recipe.phase2.train, recipe.phase2.epochs, recipe.data.views) == ("top-3 blocks", 4, "fixed:4")
    budget = _json(run.path / "provenance.json")["budget"]
    numbers = _json(run.path / "evaluation.json")
    assert budget["minutes"] == 10
    assert budget["actual"] == numbers["seconds"]
    assert budget["forecast"] == numbers["forecast"]
    assert set(budget["forecast"]) <= set(numbers["seconds"])
    assert numbers["seconds"]["total"] < 600
    assert budget["rates"]["top images/s"]["top-1 blocks"] > 0
    assert any(line.startswith("Budget of 10 minutes") for line in lines.said)
    table = [line.split() for line in lines.said[-len(numbers["seconds"]) - 2 : -1]]
    assert table[0] == ["stage", "forecast", "actual"]
    assert [row[0] for row in table[1:]] == [stage.split()[0] for stage in numbers["seconds"]]


def test_what_the_clock_decided_is_repeated_from_the_recipe(
    drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan that is forced to be small, and then shortened while it runs, gives the same model without minutes."""

    def small(*arguments: Any, **named: Any) -> Plan | None:
        rungs, rates = arguments
        some = [r for r in rungs if r.depth == 1] or rungs
        return choose_plan(some, rates, seconds=1e9) if named else None

    monkeypatch.setattr(planning, "choose_plan", small)
    monkeypatch.setattr("topwork.workflow.pacing.Pacer._planned", _three_epochs)
    first = topwork.fit(drawn_photos, to=tmp_path / "first", settings=SETTINGS, minutes=10)
    recipe = RunDir.open(first.path).recipe()
    assert recipe.phase2.train == "top-1 blocks"
    assert recipe.phase2.replanned == ((1, 3),)
    again = topwork.fit(drawn_photos, to=tmp_path / "again", recipe=first.path / "recipe.toml")
    histories = [RunDir.open(run.path).history() for run in (first, again)]
    assert [line["epoch"] for line in histories[0] if line["phase"] == 2] == [1, 2, 3]
    for one, two in zip(*histories, strict=True):
        assert one["lr"] == two["lr"]
        assert one["val"] == pytest.approx(two["val"], abs=1e-6)
    assert (first.path / "recipe.toml").read_text() == (again.path / "recipe.toml").read_text()


def _three_epochs(self: Any, planned: int, **_: Any) -> int:
    if self.done and planned > 3:
        self.replanned.append((self.done, 3))
    return min(planned, 3) if self.done else planned


def test_where_nothing_else_fits_the_head_alone_is_trained(
    drawn_photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def least(rungs: Any, rates: Any, *, seconds: float) -> Plan | None:
        return choose_plan([rung for rung in rungs if not rung.depth], rates, seconds=1e9)

    monkeypatch.setattr(planning, "choose_plan", least)
    run = topwork.fit(drawn_photos, to=tmp_path / "run", settings=SETTINGS, minutes=10)
    assert RunDir.open(run.path).recipe().phase2.epochs == 0
    assert "train the head only" in _json(run.path / "provenance.json")["budget"]["plan"]
    assert {line["phase"] for line in RunDir.open(run.path).history()} == {1}


def test_a_head_trained_by_steps_has_a_budget_too(drawn_photos: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "phase1.optimizer=adamw", "phase1.epochs=3", "head.hidden=[8]"]
    run = topwork.fit(
        drawn_photos, to=tmp_path / "run", recipe="probe", settings=[*settings, "phase2.epochs=0"], minutes=5
    )
    history = RunDir.open(run.path).history()
    assert [(line["phase"], line["epoch"]) for line in history] == [(1, 1), (1, 2), (1, 3)]


def test_minutes_that_cannot_do_are_refused_and_leave_nothing(drawn_photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"takes about .* minutes on this machine; the budget is 0.001") as caught:
        topwork.fit(drawn_photos, to=tmp_path / "run", settings=SETTINGS, minutes=0.001)
    assert "--minutes" in caught.value.fix
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("minutes", ["0", "-2", "nan", "soon"])
def test_nonsense_minutes_on_the_command_line(
    minutes: str, drawn_photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["fit", str(drawn_photos), "--to", str(tmp_path / "run"), f"--minutes={minutes}"]) == 2
    said = capsys.readouterr().err
    assert "\nfix: " in said
    assert "inutes" in said.splitlines()[0]
    assert "Traceback" not in said


def test_a_recipe_whose_first_phase_trains_blocks_has_no_way_out_and_is_refused(
    drawn_photos: Path, tmp_path: Path
) -> None:
    settings = [*SETTINGS, "phase1.train=top-1 blocks", "phase1.optimizer=adamw", "phase1.epochs=1"]
    with pytest.raises(RecipeError, match="needs a phase 1 that trains the head"):
        topwork.fit(drawn_photos, to=tmp_path / "run", settings=settings, minutes=10)


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["phase2.train=all", "data.views=fresh", "phase2.train=gradual"])
def test_any_second_phase_can_be_planned(setting: str, drawn_photos: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "phase2.epochs=2", setting]
    run = topwork.fit(drawn_photos, to=tmp_path / "run", settings=settings, minutes=10)
    recipe = RunDir.open(run.path).recipe()
    assert recipe.phase2.epochs == 2
    assert (recipe.data.views == "fresh") == (setting != "phase2.train=gradual")
    assert _json(run.path / "provenance.json")["budget"]["forecast"]["phase 2"] > 0
