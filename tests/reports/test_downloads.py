from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from topwork.reports.downloads import Download, downloads
from topwork.reports.inputs import ReportInputs
from topwork.reports.svg import inline_svg, standalone_svg


def _text(download: Download) -> str:
    return base64.b64decode(download.href.partition(";base64,")[2]).decode("utf-8")


def _rows(inputs: ReportInputs, name: str) -> list[dict[str, str]]:
    (file,) = [file for file in downloads(inputs)[name] if file.kind == "CSV"]
    return list(csv.DictReader(io.StringIO(_text(file))))


def test_the_tables_hold_the_numbers_of_the_run(inputs: ReportInputs) -> None:
    matrix, names = inputs.scores["confusion_matrix"], inputs.classes
    cells = {(row["true"], row["predicted"]): int(row["photos"]) for row in _rows(inputs, "confusion_matrix")}
    assert cells == {(names[i], names[j]): n for i, row in enumerate(matrix) for j, n in enumerate(row) if n}
    for row in _rows(inputs, "per_class"):
        assert float(row["recall_low"]) == inputs.scores["per_class"][row["class"]]["recall"]["low"]
    history = _rows(inputs, "training_curves")
    assert [float(row["val_loss"]) for row in history] == [row["val"]["loss"] for row in inputs.history]
    assert sum(int(row["all"]) for row in _rows(inputs, "counts")) == len(inputs.manifest)
    measured = {(row["part"], row["measure"]): float(row["value"]) for row in _rows(inputs, "measures")}
    assert measured["test", "accuracy"] == inputs.scores["accuracy"]["value"]
    assert [float(row["accuracy"]) for row in _rows(inputs, "reliability")] == [
        each["accuracy"] for each in inputs.scores["reliability"]
    ]


def test_what_is_not_there_cannot_be_taken_away(inputs: ReportInputs) -> None:
    without = downloads(replace(inputs, explanations={}, figures={}, history=()))
    assert not {"heatmaps", "shortcuts", "training_curves"} & set(without)
    assert [file.kind for file in without["per_class"]] == ["CSV"]


def test_odd_names_stay_in_their_cell(inputs_of: Callable[..., ReportInputs]) -> None:
    names = ("a,b", 'say "so"', "two\nlines", "caf\udce9")
    rows = _rows(inputs_of(classes=names, each=12, figures={}), "counts")
    assert {row["class"] for row in rows} == {"a,b", 'say "so"', "two\\x0alines", "caf\\xe9"}


@pytest.mark.parametrize("name", ["training_curves", "per_class", "confusion_matrix", "reliability"])
def test_a_drawing_is_a_whole_file(inputs: ReportInputs, name: str) -> None:
    file = next(file for file in downloads(inputs)[name] if file.kind == "SVG")
    assert file.file == f"{name}.svg"
    root = ElementTree.fromstring(_text(file))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"width", "height", "viewBox"} <= set(root.attrib)
    assert "var(--" not in _text(file)  # only inside the page are there such colours
    assert "var(--" in inline_svg(inputs.figures[name], name=name, label="a chart")


def test_a_drawing_of_somebody_else_brings_no_script() -> None:
    bad = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script>'
        '<g style="fill: url(http://evil.example/x)"><text>t</text></g><foreignObject/></svg>'
    )
    clean = standalone_svg(bad, name="bad")
    assert "alert" not in clean
    assert "evil" not in clean
    assert "foreignObject" not in clean
    with pytest.raises(ValueError, match="must be SVG"):
        standalone_svg("<p>no</p>", name="bad")
