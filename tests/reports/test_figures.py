from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from topwork.reports.figures import draw_figures, write_figures
from topwork.reports.inputs import ReportInputs
from topwork.reports.svg import inline_svg

NAMES = {"training_curves", "confusion_matrix", "reliability", "per_class"}
SVG = "{http://www.w3.org/2000/svg}"


def _texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_every_figure_is_written_twice_and_returned(inputs: ReportInputs, tmp_path: Path) -> None:
    drawn = write_figures(tmp_path / "figures", inputs.evaluation, history=inputs.history)
    assert set(drawn) == NAMES
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    for name, svg in drawn.items():
        assert (tmp_path / "figures" / f"{name}.svg").read_text(encoding="utf-8") == svg
        with Image.open(tmp_path / "figures" / f"{name}.png") as picture:
            assert 600 <= picture.width <= 800


def test_same_numbers_same_bytes_also_in_another_process(inputs: ReportInputs, tmp_path: Path) -> None:
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps({"evaluation": inputs.evaluation, "history": inputs.history}), encoding="utf-8")
    code = (
        "import json, pathlib, sys; from topwork.reports.figures import write_figures;"
        "n = json.loads(pathlib.Path(sys.argv[1]).read_text());"
        "write_figures(pathlib.Path(sys.argv[2]), n['evaluation'], history=n['history']);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, numbers, tmp_path / "there"], check=True)
    write_figures(tmp_path / "here", inputs.evaluation, history=inputs.history)
    for file in (tmp_path / "here").iterdir():
        assert file.read_bytes() == (tmp_path / "there" / file.name).read_bytes(), file.name


def test_no_global_state_is_left_behind(inputs: ReportInputs) -> None:
    import matplotlib as mpl

    before = mpl.rcParams.copy()
    draw_figures(inputs.evaluation, history=inputs.history)
    assert mpl.rcParams.copy() == before


def test_the_matrix_shows_every_count_as_text(inputs: ReportInputs) -> None:
    svg, _ = draw_figures(inputs.evaluation)["confusion_matrix"]
    counts = sorted(int(text) for text in _texts(svg) if text.isdigit())
    assert counts == sorted(n for row in inputs.scores["confusion_matrix"] for n in row)


def test_without_history_or_bins_their_figures_are_left_out(inputs: ReportInputs) -> None:
    scores = {key: value for key, value in inputs.scores.items() if key != "reliability"}
    bare = {**inputs.evaluation, "splits": {"test": scores}}
    assert set(draw_figures(bare)) == NAMES - {"training_curves", "reliability"}


@pytest.mark.parametrize("name", ["$x_1$", "_hidden", "a <b> & c", "caf\udce9", "花", "x" * 200, "\x01", ""])
def test_any_class_name_is_drawn_as_it_is_written(inputs: ReportInputs, name: str) -> None:
    classes = [name, *inputs.classes[1:]]
    per_class = {name: inputs.scores["per_class"][inputs.classes[0]]}
    evaluation = {"classes": classes, "splits": {"test": {**inputs.scores, "per_class": per_class}}}
    for svg, png in draw_figures(evaluation).values():
        ElementTree.fromstring(svg)
        Image.open(io.BytesIO(png)).verify()
    if len(name) < 20 and name.isprintable():
        assert name in _texts(draw_figures(evaluation)["confusion_matrix"][0]) or not name


def test_many_classes_and_missing_numbers_still_make_figures(inputs: ReportInputs) -> None:
    classes = [f"c{i}" for i in range(60)]
    nothing = {"value": None, "low": None, "high": None, "n": 0}
    row = {"precision": nothing, "recall": nothing, "f1": nothing, "support": 0}
    matrix = [[0] * 60 for _ in range(60)]
    scores = {**inputs.scores, "per_class": dict.fromkeys(classes, row), "confusion_matrix": matrix}
    history = [{"phase": 1, "epoch": 1, "train": None, "val": None}]
    drawn = draw_figures({"classes": classes, "splits": {"val": scores}}, history=history)
    assert set(drawn) == NAMES
    assert len(drawn["confusion_matrix"][0]) < 200_000


def test_an_inline_figure_keeps_its_words_and_its_own_ids(inputs: ReportInputs) -> None:
    svg, _ = draw_figures(inputs.evaluation)["per_class"]
    inline = ElementTree.fromstring(inline_svg(svg, name="per_class", label="Scores"))
    assert [element.text for element in inline.iter("text")] == _texts(svg)
    assert inline.attrib["role"] == "img"
    ids = {element.attrib["id"] for element in inline.iter() if "id" in element.attrib}
    assert all(name.startswith("per_class-") for name in ids)
    for element in inline.iter("use"):
        assert element.attrib["href"][1:] in ids
    assert "#1f7a5a" not in ElementTree.tostring(inline, encoding="unicode")  # the page's own colours apply


@pytest.mark.parametrize("text", ["", "no svg", "<html/>", "<svg"])
def test_what_is_not_svg_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^The figure 'a' must be SVG\. Got "):
        inline_svg(text, name="a", label="b")


def test_the_report_uses_the_figures_it_is_given(inputs: ReportInputs) -> None:
    assert set(inputs.figures) == NAMES
    assert replace(inputs, figures={}).figures == {}
