"""`Download`: a chart as a file that the page carries inside itself, as SVG or CSV. Knows nothing about HTML.

A data link works without a network and without a server, and a page's own policy does not forbid to save one.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from topwork.reports.inputs import ReportInputs
from topwork.reports.svg import standalone_svg
from topwork.reports.tables import class_counts, history_rows, stage_seconds
from topwork.reports.wording import visible

__all__ = ["Download", "downloads"]

_Row = Sequence[Any]
_SCORES = ("loss", "accuracy", "precision", "recall", "f1")
_BOUNDS = ("value", "low", "high")


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file.

    Args:
        file: the name that a browser saves it under.
        kind: `SVG` or `CSV`.
        href: all of it, as a data link.
    """

    file: str
    kind: str
    href: str


def downloads(inputs: ReportInputs) -> dict[str, tuple[Download, ...]]:
    """What each chart and table can be taken away as: name of the chart -> its files, the drawing first.

    Raises:
        ValueError: if a figure is not SVG.
    """
    tables: dict[str, list[_Row]] = {
        "counts": _counts(inputs),
        "training_curves": _history(inputs),
        "per_class": _per_class(inputs),
        "confusion_matrix": _confusion(inputs),
        "reliability": _reliability(inputs),
        "measures": _measures(inputs),
        "heatmaps": _faithfulness(inputs),
        "shortcuts": _shortcuts(inputs),
        "time": [("stage", "seconds"), *((name, seconds) for name, seconds, _ in stage_seconds(inputs.evaluation))],
    }
    found: dict[str, tuple[Download, ...]] = {}
    for name, rows in tables.items():
        files = [_csv(name, rows)] if len(rows) > 1 else []
        if text := inputs.figures.get(name):
            files.insert(0, _file(f"{name}.svg", media="image/svg+xml", text=standalone_svg(text, name=name)))
        if files:
            found[name] = tuple(files)
    return found


def _csv(name: str, rows: Iterable[_Row]) -> Download:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\r\n").writerows([_text(value) for value in row] for row in rows)
    return _file(f"{name}.csv", media="text/csv;charset=utf-8", text=stream.getvalue())


def _text(value: Any) -> Any:
    return visible(value) if isinstance(value, str) else value


def _file(name: str, *, media: str, text: str) -> Download:
    content = base64.b64encode(text.encode("utf-8")).decode("ascii")
    return Download(file=name, kind=name.rpartition(".")[2].upper(), href=f"data:{media};base64,{content}")


def _counts(inputs: ReportInputs) -> list[_Row]:
    parts, rows = class_counts(inputs.manifest)
    return [("class", *parts, "all"), *((row.name, *row.counts, row.total) for row in rows)]


def _history(inputs: ReportInputs) -> list[_Row]:
    heads = [f"{part}_{score}" for part in ("train", "val") for score in _SCORES]
    lines = []
    for row in history_rows(inputs.history):
        scores = [values.get(score) for values in (row.train, row.val) for score in _SCORES]
        lines.append((row.phase, row.epoch, row.note, row.lr, row.seconds, row.kept, *scores))
    return [("phase", "epoch", "note", "lr", "seconds", "kept", *heads), *lines]


def _per_class(inputs: ReportInputs) -> list[_Row]:
    measures = ("precision", "recall", "f1")
    heads = [f"{measure}_{bound}" for measure in measures for bound in _BOUNDS]
    return [
        ("class", *heads, "photos"),
        *(
            (name, *(row[measure].get(bound) for measure in measures for bound in _BOUNDS), row["support"])
            for name, row in inputs.scores["per_class"].items()
        ),
    ]


def _confusion(inputs: ReportInputs) -> list[_Row]:
    """Only cells that hold photos: a matrix of a thousand classes has a million others."""
    names, matrix = inputs.classes, inputs.scores["confusion_matrix"]
    cells = [
        (names[true], names[predicted], n) for true, row in enumerate(matrix) for predicted, n in enumerate(row) if n
    ]
    return [("true", "predicted", "photos"), *cells]


def _reliability(inputs: ReportInputs) -> list[_Row]:
    heads = ("low", "high", "confidence", "accuracy", "n")
    return [heads, *(tuple(each[head] for head in heads) for each in inputs.scores.get("reliability") or ())]


def _measures(inputs: ReportInputs) -> list[_Row]:
    return [
        ("part", "measure", *_BOUNDS, "n"),
        *(
            (part, key, *(interval.get(bound) for bound in (*_BOUNDS, "n")))
            for part, scores in inputs.evaluation["splits"].items()
            for key, interval in scores.items()
            if isinstance(interval, Mapping) and "value" in interval
        ),
    ]


def _faithfulness(inputs: ReportInputs) -> list[_Row]:
    judged = inputs.explanations.get("faithfulness")
    if not judged:
        return []
    rows = [("heatmaps", area, judged[area]) for area in ("deletion", "insertion")]
    rows += [(f"minus {other}", area, each[area]) for other, each in judged["against"].items() for area in each]
    hidden = inputs.explanations.get("hidden") or {}
    rows += [(name, "accuracy", each) for name, each in hidden.items() if isinstance(each, Mapping)]
    return [("what", "measure", *_BOUNDS, "n"), *((what, key, *_ends(each)) for what, key, each in rows)]


def _shortcuts(inputs: ReportInputs) -> list[_Row]:
    probes = (inputs.explanations.get("shortcuts") or {}).get("probes") or ()
    rows = [(each["name"], "all", "accuracy", *_ends(each["accuracy"])) for each in probes]
    rows += [(each["name"], name, "AUROC", *_ends(area)) for each in probes for name, area in each["by_class"].items()]
    return [("sees", "class", "measure", *_BOUNDS, "n"), *rows]


def _ends(interval: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(interval.get(bound) for bound in (*_BOUNDS, "n"))
