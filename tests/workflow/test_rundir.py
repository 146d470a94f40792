"""A folder with a run's name is a finished run: nothing else ever takes that name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from topwork.errors import RunError
from topwork.recipe import Recipe
from topwork.workflow.draft import draft_run, next_run_name
from topwork.workflow.rundir import RunDir


def _marks(path: Path) -> list[str]:
    return [line["mark"] for line in RunDir.open(path).history()]


def _finish(path: Path, mark: str) -> None:
    with draft_run(path) as run:
        run.write_recipe(Recipe())
        run.append_history({"mark": mark})
        run.write_provenance({"mark": mark})


def _fail(path: Path, error: BaseException) -> None:
    with draft_run(path) as run:
        run.write_provenance({"mark": "failed"})
        raise error


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_run_takes_its_name_only_when_it_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run"
    with draft_run(path) as run:
        run.write_provenance({})
        assert not path.exists()
        with pytest.raises(RunError):
            RunDir.open(path)
    assert RunDir.open(path).provenance() == {}
    assert _names(path.parent) == {"run"}


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_draft_vanishes_on_error(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        _fail(tmp_path / "run", error)
    assert _names(tmp_path) == set()


def test_folders_made_for_a_failed_run_vanish_too_and_others_stay(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ValueError, match="broken"), draft_run(tmp_path / "mine" / "a" / "b" / "run"):
        raise ValueError("broken")
    assert _names(tmp_path) == {"mine"}
    assert _names(tmp_path / "mine") == set()


def test_an_earlier_run_survives_a_failed_new_one_and_is_replaced_by_a_good_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    _finish(path, "first")
    with pytest.raises(ValueError, match="broken"):
        _fail(path, ValueError("broken"))
    assert RunDir.open(path).provenance() == {"mark": "first"}
    _finish(path, "third")
    assert RunDir.open(path).provenance() == {"mark": "third"}
    assert _marks(path) == ["third"]
    assert _names(tmp_path) == {"run"}


def test_an_earlier_run_comes_back_if_the_last_step_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _finish(tmp_path / "run", "first")
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name.endswith(".unfinished"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        _finish(tmp_path / "run", "second")
    assert RunDir.open(tmp_path / "run").provenance() == {"mark": "first"}
    assert _names(tmp_path) == {"run"}


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "run", tmp_path / "file" / "deep" / "run"):
        with pytest.raises(RunError, match="below a file"), draft_run(path):
            pytest.fail("must not begin")


def _killed(path: Path) -> RunDir:
    """What `kill -9` leaves: a draft with a checkpoint and half a write; the lock went with the process."""
    draft = RunDir(path.parent / f".{path.name}.unfinished")
    draft.write_recipe(Recipe())
    draft.append_history({"mark": "killed"})
    draft.checkpoints_folder.mkdir()
    (draft.checkpoints_folder / "checkpoint.json").write_text("{}")
    (draft.path / ".predictions.csv.abc.tmp.csv").write_text("half")
    (draft.path / "lock").touch()
    return draft


@dataclass
class _Said:
    lines: list[str] = field(default_factory=list)

    def step(self, stage: str, done: int, total: int) -> None:
        """Counts are of no interest here."""

    def say(self, line: str) -> None:
        self.lines.append(line)


def test_the_remains_of_a_killed_run_are_named_and_replaced(tmp_path: Path) -> None:
    _killed(tmp_path / "run")
    with pytest.raises(RunError):
        RunDir.open(tmp_path / "run")
    _finish(tmp_path / "run", "new")
    assert _marks(tmp_path / "run") == ["new"]
    assert _names(tmp_path) == {"run"}
    assert _names(tmp_path / "run") == {"recipe.toml", "history.jsonl", "provenance.json"}


def test_the_remains_of_a_killed_run_are_continued_where_that_is_asked_for(tmp_path: Path) -> None:
    _killed(tmp_path / "run")
    said = _Said()
    with draft_run(tmp_path / "run", resume=True, progress=said) as run:
        assert [line["mark"] for line in run.history()] == ["killed"]
        assert _names(run.path) == {"recipe.toml", "history.jsonl", "checkpoints", "lock"}
        run.write_provenance({})
    assert said.lines == []
    assert _names(tmp_path / "run") == {"recipe.toml", "history.jsonl", "checkpoints", "provenance.json"}


def test_a_draft_with_a_checkpoint_stays_when_it_fails(tmp_path: Path) -> None:
    _killed(tmp_path / "run")
    said = _Said()

    def full() -> None:
        with draft_run(tmp_path / "run", resume=True, progress=said):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        full()
    assert _names(tmp_path) == {".run.unfinished"}
    assert "--resume" in said.lines[-1]


def test_two_processes_do_not_make_the_same_run(tmp_path: Path) -> None:
    with draft_run(tmp_path / "run") as run:
        for resume in (False, True):
            with pytest.raises(RunError, match="Another process"), draft_run(tmp_path / "run", resume=resume):
                pytest.fail("must not begin")
        run.write_provenance({})
    assert RunDir.open(tmp_path / "run").provenance() == {}


def test_half_a_line_of_history_is_no_line(tmp_path: Path) -> None:
    run = _killed(tmp_path / "run")
    with (run.path / "history.jsonl").open("a") as stream:
        stream.write('{"mark": "ha')
    assert [line["mark"] for line in run.history()] == ["killed"]


def test_a_foreign_folder_or_file_is_refused_and_untouched(tmp_path: Path) -> None:
    folder, file = tmp_path / "thesis", tmp_path / "thesis.txt"
    folder.mkdir()
    (folder / "chapter.txt").write_text("years of work")
    file.write_text("more work")
    for path in (folder, file):
        with pytest.raises(RunError, match="is no topwork run") as caught, draft_run(path):
            pytest.fail("must not begin")
        assert "--to" in caught.value.fix
    assert (folder / "chapter.txt").read_text() == "years of work"
    assert file.read_text() == "more work"
    assert _names(tmp_path) == {"thesis", "thesis.txt"}


def test_an_empty_folder_may_become_a_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    _finish(tmp_path / "run", "here")
    assert RunDir.open(tmp_path / "run").provenance() == {"mark": "here"}


def test_only_a_finished_run_opens(tmp_path: Path) -> None:
    half = tmp_path / "half"
    half.mkdir()
    RunDir(half).write_recipe(Recipe())
    for path, words in ((tmp_path / "absent", "There is no run folder"), (half, "no finished run")):
        with pytest.raises(RunError, match=words):
            RunDir.open(path)


def test_a_run_has_a_name_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos-1" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "photos-1" / "model")
    assert RunDir(Path("..")).name == RunDir(tmp_path / "photos-1").name == "photos-1"
    (tmp_path / ".photos-2.unfinished").mkdir()
    monkeypatch.chdir(tmp_path / ".photos-2.unfinished")
    assert RunDir(Path(".")).name == "photos-2"


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    _finish(tmp_path / "run", "x")
    run = RunDir.open(tmp_path / "run")
    run.provenance_file.write_text('{"mark": ')
    with pytest.raises(RunError, match=r"no readable provenance\.json"):
        run.provenance()
    with pytest.raises(RunError, match=r"no readable evaluation\.json"):
        run.evaluation()


def test_history_lines_are_strict_json(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.append_history({"loss": 0.5})
    with pytest.raises(ValueError, match="JSON"):
        run.append_history({"loss": float("nan")})
    (line,) = (tmp_path / "history.jsonl").read_text().splitlines()
    assert json.loads(line)["loss"] == 0.5


def test_the_next_name_is_the_first_free_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert next_run_name("flowers") == Path("runs/flowers-1")
    Path("runs/flowers-1").mkdir(parents=True)
    assert next_run_name("flowers") == Path("runs/flowers-2")
    assert next_run_name("trash") == Path("runs/trash-1")
