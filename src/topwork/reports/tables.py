"""The tables of a report: evaluation, history and manifest -> rows that a page can print. Knows nothing about HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topwork.reports.inputs import SPLITS, ManifestRow, ReportInputs

__all__ = [
    "Cell",
    "ClassCounts",
    "Confusion",
    "HistoryRow",
    "class_counts",
    "confusion",
    "flat",
    "history_rows",
    "stage_seconds",
]

_MOST_CLASSES = 30
_PAIRS = 8
_LONGEST_VALUE = 600


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Photos of one class: by part, in all, and in all as a share of the largest class."""

    name: str
    counts: tuple[int, ...]
    total: int
    share: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the confusion matrix; `heat` in [0, 1] is how strongly it is shaded."""

    n: int
    right: bool
    heat: float


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """The confusion matrix as rows, and the pairs that are mistaken most.

    Args:
        classes: the classes that are shown; all, or the ones with most errors.
        rows: (true class, its cells in the order of `classes`, photos of the class in all).
        left_out: how many classes are not shown.
        pairs: (true, predicted, photos, share of the true class or None).
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Cell, ...], int], ...]
    left_out: int
    pairs: tuple[tuple[str, str, int, float | None], ...]


@dataclass(frozen=True, kw_only=True)
class HistoryRow:
    """One epoch of one phase; `train` and `val` hold loss, accuracy, precision, recall and f1 where measured.

    A `note` marks a step of a solver, which is no epoch.
    """

    phase: int
    epoch: int
    kept: bool
    lr: float | None
    seconds: float | None
    train: Mapping[str, Any]
    val: Mapping[str, Any]
    note: str = ""


def class_counts(manifest: Sequence[ManifestRow]) -> tuple[tuple[str, ...], tuple[ClassCounts, ...]]:
    """The parts that hold photos, and every class's photos in each."""
    parts = tuple(part for part in SPLITS if any(row.split == part for row in manifest))
    counted = Counter((row.label, row.split) for row in manifest)
    names = sorted({row.label for row in manifest})
    totals = {name: sum(counted[name, part] for part in parts) for name in names}
    largest = max(totals.values(), default=0) or 1
    rows = tuple(
        ClassCounts(
            name=name,
            counts=tuple(counted[name, part] for part in parts),
            total=totals[name],
            share=totals[name] / largest,
        )
        for name in names
    )
    return parts, rows


def confusion(inputs: ReportInputs) -> Confusion:
    """The judged part's matrix; of very many classes only those with most errors."""
    matrix = inputs.scores["confusion_matrix"]
    classes = inputs.classes
    totals = [sum(row) for row in matrix]
    shown = list(range(len(classes)))
    if len(classes) > _MOST_CLASSES:
        wrong = [totals[i] + sum(row[i] for row in matrix) - 2 * matrix[i][i] for i in shown]
        shown = sorted(sorted(shown, key=lambda i: (-wrong[i], i))[:_MOST_CLASSES])
    rows = tuple(
        (classes[i], tuple(_cell(matrix[i][j], totals[i], right=i == j) for j in shown), totals[i]) for i in shown
    )
    support = dict(zip(classes, totals, strict=True))
    pairs = tuple(
        (true, predicted, n, n / support[true] if support.get(true) else None)
        for true, predicted, n in inputs.scores.get("most_confused", ())[:_PAIRS]
        if n > 0
    )
    return Confusion(
        classes=tuple(classes[i] for i in shown), rows=rows, left_out=len(classes) - len(shown), pairs=pairs
    )


def _cell(n: int, total: int, *, right: bool) -> Cell:
    share = n / total if total else 0.0
    return Cell(n=n, right=right, heat=round(share if right else share ** (1 / 3), 3))  # rare errors must be seen


def history_rows(history: Sequence[Mapping[str, Any]]) -> tuple[HistoryRow, ...]:
    """Every epoch, in order."""
    return tuple(
        HistoryRow(
            phase=row["phase"],
            epoch=row["epoch"],
            kept=bool(row.get("kept")),
            lr=row.get("lr"),
            seconds=row.get("seconds"),
            train=row.get("train") or {},
            val=row.get("val") or {},
            note=str(row.get("note") or ""),
        )
        for row in history
    )


def stage_seconds(evaluation: Mapping[str, Any]) -> tuple[tuple[str, float, float], ...]:
    """(stage, seconds, share of the total in [0, 1]) in the order they ran; the total itself is left out."""
    seconds = evaluation.get("seconds") or {}
    stages = {name: float(value) for name, value in seconds.items() if name != "total"}
    total = float(seconds.get("total") or sum(stages.values())) or 1.0
    return tuple((name, value, min(1.0, value / total)) for name, value in stages.items())


def flat(value: Any, prefix: str = "") -> tuple[tuple[str, str], ...]:
    """Nested plain values as (dotted key, text) pairs; long texts are cut.

    Example:
        >>> flat({"seeds": {"split": 0}, "ok": True, "cores": [1, 2]})
        (('seeds.split', '0'), ('ok', 'yes'), ('cores', '1, 2'))
    """
    if isinstance(value, Mapping):
        pairs = [flat(item, f"{prefix}.{key}" if prefix else str(key)) for key, item in value.items()]
        return tuple(pair for group in pairs for pair in group)
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return flat({str(index): item for index, item in enumerate(value)}, prefix)
    return ((prefix, _text(value)),)


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = ", ".join(_text(item) for item in value)
    elif value is None or value == "":
        text = "none"
    elif isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + " …"
