"""`RunDir`: one experiment on disk. The only code that knows the names of files inside a run folder.

A run is made in a hidden sibling and takes its name in one step when it is finished, so a folder with a run's name is
a finished run. An earlier run of that name stays until then.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from topwork.atomic import write_json, write_text
from topwork.errors import RunError
from topwork.measures.predictions import Predictions, read_predictions_csv
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe
from topwork.reports.inputs import PredictionRow

__all__ = ["RunDir", "draft_of", "draft_run", "next_run_name"]

_CONTINUED = ("checkpoints", "folds", "recipe.toml", "manifest.csv", "provenance.json", "history.jsonl")
_LOCK = "lock"  # held by the process that makes the run; the system releases it whatever ends that process


class RunDir:
    """The files of a run.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """A finished run.

        Raises:
            RunError: if there is none.
        """
        run = cls(Path(path))
        if not run.path.is_dir():
            raise RunError(f"There is no run folder {str(path)!r}.", fix="give the folder that `topwork fit` named.")
        half_made = run.path.name.startswith(".") and run.path.suffix in (".unfinished", ".replaced")
        if half_made or not run.provenance_file.exists():
            raise RunError(
                f"The folder {str(path)!r} holds no finished run.", fix="give the folder that `topwork fit` named."
            )
        return run

    @property
    def name(self) -> str:
        """The run's name, also while it is a draft, and where the path is `.`."""
        path = self.path.resolve()
        return path.name.removeprefix(".").removesuffix(".unfinished") if _is_draft(path) else path.name

    @property
    def manifest_file(self) -> Path:
        """`path,label,split,group,sha256` of every photo that took part."""
        return self.path / "manifest.csv"

    @property
    def predictions_file(self) -> Path:
        """`path,split,label,predicted,p_<class>...`."""
        return self.path / "predictions.csv"

    @property
    def provenance_file(self) -> Path:
        """Written last; says where everything came from."""
        return self.path / "provenance.json"

    @property
    def report_file(self) -> Path:
        """The page."""
        return self.path / "report.html"

    @property
    def figures_folder(self) -> Path:
        """SVG and PNG of every chart."""
        return self.path / "figures"

    @property
    def heatmaps_folder(self) -> Path:
        """A heatmap and a contrast of every photo that `explanations.json` names, as JPEG."""
        return self.figures_folder / "heatmaps"

    @property
    def events_folder(self) -> Path:
        """TensorBoard's event files; absent where it is not installed."""
        return self.path / "tensorboard"

    @property
    def explanations_file(self) -> Path:
        """Heatmaps' facts, whether to believe them, neighbours and shortcuts; absent where nothing was explained."""
        return self.path / "explanations.json"

    @property
    def model_folder(self) -> Path:
        """The bundle of the epoch that the recipe keeps."""
        return self.path / "model"

    @property
    def model_page(self) -> Path:
        """The bundle's page for people, in the format of Hugging Face's model cards; no program reads it."""
        return self.model_folder / "README.md"

    def fold_file(self, number: int) -> Path:
        """What the model of one fold of cross-validation says about the photos that it never saw."""
        return self.path / "folds" / f"{number}.csv"

    @property
    def last_model_folder(self) -> Path:
        """The bundle of the last epoch; only where a phase was trained in epochs."""
        return self.path / "model-last"

    @property
    def checkpoints_folder(self) -> Path:
        """Where training stands or stood."""
        return self.path / "checkpoints"

    def write_recipe(self, recipe: Recipe) -> None:
        """`recipe.toml`."""
        write_text(self.path / "recipe.toml", recipe.to_toml())

    def recipe(self) -> Recipe:
        """The choices of this run."""
        return load_recipe(self.path / "recipe.toml")

    def write_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replace `history.jsonl`."""
        lines = [json.dumps(record, allow_nan=False) + "\n" for record in records]
        write_text(self.path / "history.jsonl", "".join(lines))

    def append_history(self, record: Mapping[str, Any]) -> None:
        """One more line of `history.jsonl`, with the moment `at` which it is written (ISO 8601, UTC)."""
        record = {**record, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All whole lines of `history.jsonl`; a killed process may leave part of one."""
        path = self.path / "history.jsonl"
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def predictions(self) -> dict[str, Predictions]:
        """By split, as `predictions.csv` has them.

        Raises:
            OSError: if there is no such file.
            DataError: if it is no such table.
        """
        # As bytes: universal newlines would turn a carriage return in a file name into a line feed.
        return read_predictions_csv(self.predictions_file.read_bytes().decode("utf-8", errors="surrogateescape"))

    def add_lr_curve(self, phase: int, curve: Mapping[str, Any]) -> dict[str, Any]:
        """Put a phase's curve into `lr_finder.json`, beside those of other phases; all of them."""
        path = self.path / "lr_finder.json"
        try:
            curves = dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            curves = {}
        curves = dict(sorted({**curves, f"phase {phase}": dict(curve)}.items()))
        write_json(path, curves)
        return curves

    def write_findings(self, findings: Sequence[Mapping[str, Any]]) -> None:
        """`findings.json`."""
        write_json(self.path / "findings.json", list(findings))

    def findings(self) -> list[dict[str, Any]]:
        """What was wrong with the data."""
        return list(self._json("findings.json"))

    def write_evaluation(self, evaluation: Mapping[str, Any], text: str) -> None:
        """`evaluation.json` and `classification_report.txt`."""
        write_json(self.path / "evaluation.json", evaluation)
        write_text(self.path / "classification_report.txt", text)

    def evaluation(self) -> dict[str, Any]:
        """The numbers."""
        return dict(self._json("evaluation.json"))

    def explanations(self) -> dict[str, Any]:
        """Why the model says what it says."""
        return dict(self._json("explanations.json"))

    def prediction_rows(self) -> list[PredictionRow]:
        """The lines of `predictions.csv`."""
        with self.predictions_file.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return [PredictionRow.from_fields(fields) for fields in csv.DictReader(stream)]

    def write_provenance(self, provenance: Mapping[str, Any]) -> None:
        """`provenance.json`."""
        write_json(self.provenance_file, provenance)

    def provenance(self) -> dict[str, Any]:
        """Where everything came from."""
        return dict(self._json("provenance.json"))

    def _json(self, name: str) -> Any:
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(
                f"The run {str(self.path)!r} has no readable {name}: {error}.", fix="run `topwork fit` again."
            ) from None


@contextmanager
def draft_run(path: Path, *, resume: bool = False, progress: Progress = silent) -> Iterator[RunDir]:
    """A run in the making: takes the name `path` when the block ends well.

    When it does not, the draft is deleted, unless it holds a checkpoint. What a killed process left is continued
    or replaced.

    Args:
        path: of the finished run.
        resume: give the draft that is there, without the files that are made anew in any case.
        progress: told of a draft that is replaced or stays.

    Raises:
        RunError: if `path` holds something that is not a run, lies below a file, or is being made by another process.
    """
    if path.exists() and not (path / "recipe.toml").exists() and (path.is_file() or any(path.iterdir())):
        raise RunError(
            f"{str(path)!r} exists and is no topwork run, so it is not replaced.",
            fix="choose another folder with --to.",
        )
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{str(path)!r} lies below a file.", fix="choose another folder with --to.") from None
    draft = draft_of(path)
    draft.mkdir(exist_ok=True)
    lock = _locked(draft)
    try:
        _clear(draft, resume=resume, progress=progress)
        yield RunDir(draft)
        (draft / _LOCK).unlink()
        _take_place(draft, path)
    finally:
        lock.release()
        if (draft / "checkpoints" / "checkpoint.json").exists():
            progress.say(f"The unfinished run stays in {draft}; the same command with --resume continues it.")
        else:
            shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds the finished run, or something of somebody else
                parent.rmdir()


def draft_of(path: Path) -> Path:
    """Where the run with that name is made."""
    return path.parent / f".{path.name}.unfinished"


def _is_draft(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(".unfinished")


def _locked(draft: Path) -> FileLock:
    lock = FileLock(draft / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RunError(
            f"Another process is making the run in {str(draft)!r}.",
            fix="wait for it, or choose another folder with --to.",
        ) from None
    return lock


def _clear(draft: Path, *, resume: bool, progress: Progress) -> None:
    """Keep what a resumed run goes on from; delete the rest, also what was half written."""
    kept = {_LOCK, *(_CONTINUED if resume else ())}
    if not resume and (draft / "recipe.toml").exists():
        progress.say(f"An unfinished run in {draft} is replaced; --resume would have continued it.")
    for path in draft.iterdir():
        if path.is_dir() and path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in kept:
            path.unlink(missing_ok=True)


def next_run_name(data_name: str) -> Path:
    """`runs/NAME-1`, or the next number that is free."""
    number = 1
    while (path := Path("runs") / f"{data_name}-{number}").exists():
        number += 1
    return path


def _take_place(draft: Path, path: Path) -> None:
    earlier = path.parent / f".{path.name}.replaced"
    shutil.rmtree(earlier, ignore_errors=True)
    try:
        if path.exists():
            path.rename(earlier)
        draft.rename(path)
    except BaseException:
        if earlier.exists() and not path.exists():
            earlier.rename(path)
        raise
    shutil.rmtree(earlier, ignore_errors=True)
