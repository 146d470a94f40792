"""`RunDir`: one experiment on disk. Knows the names of files inside a run folder, and nobody else but `draft` does.

A folder with a run's name is a finished run: until then it is made in a hidden sibling, see `draft`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from topwork.atomic import write_json, write_text
from topwork.errors import RunError
from topwork.measures.predictions import Predictions, predictions_csv, read_predictions_csv
from topwork.recipe import Recipe, load_recipe
from topwork.reports.inputs import PredictionRow

__all__ = ["RunDir"]


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
        name = self.path.resolve().name
        is_draft = name.startswith(".") and name.endswith(".unfinished")
        return name.removeprefix(".").removesuffix(".unfinished") if is_draft else name

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
        return _read_predictions(self.predictions_file)

    def write_fold(self, number: int, said: Predictions) -> None:
        """What the model of one fold of cross-validation says about the photos that it never saw."""
        file = self._fold_file(number)
        file.parent.mkdir(exist_ok=True)
        write_text(file, predictions_csv({"test": said}))

    def fold(self, number: int) -> Predictions | None:
        """The same as it is read back; None if that fold was not judged."""
        file = self._fold_file(number)
        return _read_predictions(file)["test"] if file.exists() else None

    def _fold_file(self, number: int) -> Path:
        return self.path / "folds" / f"{number}.csv"

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


def _read_predictions(file: Path) -> dict[str, Predictions]:
    # As bytes: universal newlines would turn a carriage return in a file name into a line feed.
    return read_predictions_csv(file.read_bytes().decode("utf-8", errors="surrogateescape"))
