"""`lr_find` end to end with a tiny network: curve, figure and JSON agree, phases stay beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import topwork
from topwork.cli.app import run
from topwork.errors import RecipeError
from topwork.training.lr_finder import RangeTest

SHORT = RangeTest(low=1e-5, high=1.0, steps=20)


def test_both_phases_stand_in_one_file_and_one_figure(
    tiny_run: topwork.Run, drawn_photos: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    second = topwork.lr_find(drawn_photos, settings=tiny, to=tmp_path, test=SHORT)
    first = topwork.lr_find(drawn_photos, phase=1, settings=[*tiny, "phase1.optimizer=adamw"], to=tmp_path, test=SHORT)
    curves = json.loads((tmp_path / "lr_finder.json").read_text())
    assert list(curves) == ["phase 1", "phase 2"]
    for name, search in (("phase 1", first), ("phase 2", second)):
        curve = curves[name]
        assert curve["rates"] == list(search.curve.rates)
        assert curve["suggestions"] == {"steepest": search.curve.steepest, "valley": search.curve.valley}
        assert len(curve["losses"]) == len(curve["smoothed"]) == len(curve["rates"]) <= SHORT.steps
        assert curve["rates"][0] == SHORT.low
    svg = second.figure.read_text()
    assert "Phase 1" in svg
    assert "Phase 2" in svg
    assert f"valley: {second.curve.valley:.1e}" in svg
    assert second.figure.with_suffix(".png").stat().st_size > 1000
    assert topwork.lr_find(drawn_photos, settings=tiny, to=tmp_path, test=SHORT).curve == second.curve


def test_a_phase_without_a_rate_is_refused(drawn_photos: Path, tiny: tuple[str, ...], tmp_path: Path) -> None:
    for phase, recipe, word in (
        (1, "default", "lbfgs"),
        (2, "probe", "trains nothing"),
        (3, "default", "phases 1 and 2"),
    ):
        with pytest.raises(RecipeError, match=word):
            topwork.lr_find(drawn_photos, phase=phase, recipe=recipe, settings=tiny, to=tmp_path / "lr")
    assert not (tmp_path / "lr").exists()


def test_the_command_prints_what_to_set(
    drawn_photos: Path, tiny: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word for setting in tiny for word in ("--set", setting)]
    command = ["lr-find", str(drawn_photos), *words, "--to", str(tmp_path), "--steps", "20", "--high", "1"]
    assert run(command) == 0
    out = capsys.readouterr().out
    assert "--set phase2.lr=" in out
    assert str(tmp_path / "figures" / "lr_finder.svg") in out
    assert run([*command, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)["suggestions"]) == {"steepest", "valley"}
    assert run([*command, "--low", "2"]) == 2
    assert "--low" in capsys.readouterr().err.splitlines()[-1]
