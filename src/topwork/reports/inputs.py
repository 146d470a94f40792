"""`ReportInputs`: everything a report is made of, as values. Knows nothing about HTML, figures or run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from topwork.recipe import Recipe

__all__ = ["SPLITS", "ManifestRow", "PredictionRow", "ReportInputs", "judged_part"]

SPLITS = ("train", "val", "cv", "test")


def judged_part(evaluation: Mapping[str, Any]) -> str:
    """The part whose figures count: `test`, else `cv` (cross-validation), `val`, `train`, or the first there is.

    Raises:
        ValueError: if the evaluation holds no part.

    Example:
        >>> judged_part({"splits": {"train": {}, "val": {}}})
        'val'
    """
    names = list(evaluation["splits"])
    if not names:
        raise ValueError("The splits of an evaluation must hold at least one part. Got none.")
    return next((name for name in reversed(SPLITS) if name in names), names[0])


class ManifestRow(Protocol):
    """One photo of the manifest; `topwork.data.split.Row` is one."""

    @property
    def path(self) -> str:
        """POSIX path relative to the data folder."""

    @property
    def label(self) -> str:
        """Name of the true class."""

    @property
    def split(self) -> str:
        """`train`, `val` or `test`."""

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes; gives photos an order that no name decides."""


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """One line of `predictions.csv`.

    Args:
        path: POSIX path relative to the data folder.
        split: `train`, `val` or `test`.
        label: the true class.
        predicted: the class with the highest probability.
        probabilities: class -> probability in [0, 1].
    """

    path: str
    split: str
    label: str
    predicted: str
    probabilities: Mapping[str, float]

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> PredictionRow:
        """A line of `predictions.csv` as `csv.DictReader` gives it.

        Raises:
            KeyError: if a column is missing.
            ValueError: if a probability is no number.

        Example:
            >>> line = {"path": "a.jpg", "split": "test", "label": "x", "predicted": "y", "p_x": "0.2", "p_y": "0.8"}
            >>> PredictionRow.from_fields(line).confidence
            0.8
        """
        probabilities = {key.removeprefix("p_"): float(text) for key, text in fields.items() if key.startswith("p_")}
        named = {key: fields[key] for key in ("path", "split", "label", "predicted")}
        return cls(**named, probabilities=probabilities)

    @property
    def confidence(self) -> float:
        """Probability of the predicted class, in [0, 1]; 0 where it was not recorded."""
        return float(self.probabilities.get(self.predicted, 0.0))


@dataclass(frozen=True, kw_only=True)
class ReportInputs:
    """One experiment as the report sees it. A section appears when what it shows is here.

    Args:
        name: of the run.
        recipe: the choices that were made.
        evaluation: `evaluation.json` as plain values, of at least one split.
        history: lines of `history.jsonl`, in order.
        manifest: every photo that took part.
        root: the folder that the photos' paths start from; None shows no photos.
        predictions: every photo that was judged.
        findings: `findings.json` as plain values.
        provenance: `provenance.json` as plain values.
        figures: name -> SVG text, as `write_figures` returns them.
        explanations: `explanations.json` as plain values; empty where nothing was explained.
        heatmaps: the folder of the pictures that the explanations name; None shows none.
    """

    name: str
    recipe: Recipe
    evaluation: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = ()
    manifest: Sequence[ManifestRow] = ()
    root: Path | None = None
    predictions: Sequence[PredictionRow] = ()
    findings: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, str] = field(default_factory=dict)
    explanations: Mapping[str, Any] = field(default_factory=dict)
    heatmaps: Path | None = None

    @property
    def judged(self) -> str:
        """The part whose figures count: `test`, or the best there is."""
        return judged_part(self.evaluation)

    @property
    def scores(self) -> Mapping[str, Any]:
        """The evaluation of the judged part."""
        part: Mapping[str, Any] = self.evaluation["splits"][self.judged]
        return part

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the confusion matrix."""
        return tuple(str(name) for name in self.evaluation["classes"])

    @property
    def random_weights(self) -> bool:
        """Whether the backbone started from random weights, by the recipe or by what was in fact loaded."""
        source = self.provenance.get("backbone", {})
        loaded = str(source.get("source", "")) if isinstance(source, Mapping) else str(source)
        return self.recipe.backbone.weights == "none" or loaded.lower() in ("none", "random", "random weights")
