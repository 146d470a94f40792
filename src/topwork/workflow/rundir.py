"""`RunDir`: one experiment on disk. The only code that knows the names of files inside a run folder.

A run is made in a hidden sibling and takes its name in one step when it is finished, so a folder with a run's name is
a finished run. An earlier run of that name stays until then.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from topwork.atomic import write_json, write_text
from topwork.errors import RunError
from topwork.recipe import Recipe, load_recipe

__all__ = ["RunDir", "draft_run", "next_run_name"]


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
    def explanations_file(self) -> Path:
        """Heatmaps' facts, whether to believe them, neighbours and shortcuts; absent where nothing was explained."""
        return self.path / "explanations.json"

    @property
    def model_folder(self) -> Path:
        """The bundle of the epoch that the recipe keeps."""
        return self.path / "model"

    def write_recipe(self, recipe: Recipe) -> None:
        """`recipe.toml`."""
        write_text(self.path / "recipe.toml", recipe.to_toml())

    def recipe(self) -> Recipe:
        """The choices of this run."""
        return load_recipe(self.path / "recipe.toml")

    def append_history(self, record: Mapping[str, Any]) -> None:
        """One more line of `history.jsonl`, with the moment `at` which it is written (ISO 8601, UTC)."""
        record = {**record, "at": datetime.now(UTC).isoformat(timespec="milliseconds")}
        with (self.path / "history.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(record, allow_nan=False) + "\n")

    def history(self) -> list[dict[str, Any]]:
        """All lines of `history.jsonl`."""
        path = self.path / "history.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []

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
def draft_run(path: Path) -> Iterator[RunDir]:
    """A run in the making: takes the name `path` when the block ends well, and is deleted when it does not.

    Raises:
        RunError: if `path` holds something that is not a run, or lies below a file.
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
    draft = path.parent / f".{path.name}.unfinished"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield RunDir(draft)
        _take_place(draft, path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # it holds the finished run, or something of somebody else
                parent.rmdir()


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
