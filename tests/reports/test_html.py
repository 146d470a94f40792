from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from topwork.recipe import Recipe
from topwork.reports.html import render_report
from topwork.reports.inputs import PredictionRow, ReportInputs
from topwork.reports.wording import points

HOSTILE = ("<script>alert(1)</script>", '" onload="alert(1)', "caf\udce9 \u202egnp", "$x_1$ & Söhne", "花")


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and text outside of style and script."""

    void = frozenset({"meta", "img", "link", "br", "hr", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.unclosed: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.void:
            self._inside.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()
        else:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        if not {"style", "script"} & set(self._inside):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def section_ids(self) -> set[str]:
        return {str(attributes["id"]) for attributes in self.all("section") if "id" in attributes}


@pytest.fixture(scope="module")
def page(inputs: ReportInputs) -> Page:
    return Page(render_report(inputs))


def test_every_section_is_there_and_the_navigation_lists_them(page: Page) -> None:
    expected = {
        *("asked", "data", "findings", "training", "classes", "confusion"),
        *("errors", "calibration", "gap", "time", "provenance", "why", "shortcuts", "labels"),
    }
    assert page.section_ids == expected
    assert {f"#{name}" for name in expected} <= {attributes.get("href") for attributes in page.all("a")}


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"history": (), "figures": {}}, {"training"}),
        ({"findings": ()}, {"findings"}),
        ({"predictions": ()}, {"errors"}),
        ({"provenance": {}}, {"provenance"}),
        ({"manifest": ()}, {"data"}),
        ({"explanations": {}, "heatmaps": None}, {"why", "shortcuts", "labels"}),
    ],
)
def test_a_section_is_absent_without_what_it_shows(
    inputs: ReportInputs, page: Page, changes: dict[str, Any], gone: set[str]
) -> None:
    without = Page(render_report(replace(inputs, **changes)))
    assert without.section_ids == page.section_ids - gone
    anchors = {str(attributes.get("href")) for attributes in without.all("a")}
    assert not anchors & {f"#{name}" for name in gone}


def test_without_seconds_there_is_no_section_about_time(inputs: ReportInputs, page: Page) -> None:
    untimed = {**inputs.evaluation, "seconds": {}}
    assert Page(render_report(replace(inputs, evaluation=untimed))).section_ids == page.section_ids - {"time"}


def test_the_page_loads_nothing(inputs: ReportInputs) -> None:
    text = render_report(inputs)
    for tag, attributes in Page(text).elements:
        assert tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "data", "action", "poster", "srcset"):
            value = attributes.get(name)
            own = ("data:text/csv;", "data:image/svg+xml;") if "download" in attributes else ("#", "data:image/jpeg;")
            assert value is None or value.startswith(own), (tag, name, value)
        assert "url(" not in (attributes.get("style") or "").replace("url(#", "")
    for style in re.findall(r"<style>(.*?)</style>", text, re.DOTALL):
        assert "url(" not in style
        assert "@import" not in style
    assert re.search(r"default-src &#39;none&#39;|default-src 'none'", text)


def test_elements_close_and_ids_are_unique(page: Page) -> None:
    assert page.unclosed == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        if named := attributes.get("aria-labelledby"):
            assert named in ids


def test_tables_and_pictures_can_be_read_aloud(page: Page) -> None:
    assert all(attributes.get("alt") for attributes in page.all("img"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("aria-label") for attributes in page.all("svg"))
    assert len(page.all("h1")) == len(page.all("main")) == 1


def test_the_verdict_names_accuracy_with_interval_and_n_and_the_weakest_class(inputs: ReportInputs, page: Page) -> None:
    accuracy = inputs.scores["accuracy"]
    assert f"{accuracy['value'] * 100:.1f} % of cases" in page.text
    assert f"interval {accuracy['low'] * 100:.1f} to {accuracy['high'] * 100:.1f} %, n = {accuracy['n']}" in page.text
    weakest = min(inputs.scores["per_class"].items(), key=lambda item: item[1]["recall"]["value"])[0]
    assert f"Weakest is “{weakest}”" in page.text


def test_the_gap_is_in_points_with_its_interval(inputs: ReportInputs, page: Page) -> None:
    gap = inputs.evaluation["gap"]["train_minus_test"]["accuracy"]
    value, low, high = (points(gap[bound]) for bound in ("value", "low", "high"))
    assert f"Train \N{MINUS SIGN} test {value} points, [{low}, {high}]" in page.text


def test_what_findings_of_a_kind_ask_for_is_said_once_or_at_each(inputs: ReportInputs) -> None:
    asked = ("crop the border.", "look at the upper left.", "look at the lower right.")
    found = [
        {"kind": "shortcut", "severity": "warning", "files": [], "evidence": f"number {n}.", "remedy": remedy}
        for n, remedy in enumerate(asked)
    ]
    for many in (found[:2], found):
        text = render_report(replace(inputs, findings=many)).casefold()
        assert [text.count(remedy) for remedy in asked[: len(many)]] == [1] * len(many)
    alike = [{**each, "remedy": asked[0]} for each in found]
    for number in (1, 2, 3):
        assert render_report(replace(inputs, findings=alike[:number])).casefold().count(asked[0]) == 1


def test_probes_count_the_photos_that_they_judged(inputs: ReportInputs) -> None:
    probe = {**inputs.explanations["shortcuts"]["probes"][0]}
    probe["accuracy"] = {**probe["accuracy"], "n": 97}  # of 120, the others are of classes that are too small
    shortcuts = {**inputs.explanations["shortcuts"], "probes": [probe]}
    text = Page(render_report(replace(inputs, explanations={**inputs.explanations, "shortcuts": shortcuts}))).text
    assert "cross-validated on 97 photos" in text


def test_confusion_cells_are_the_matrix(inputs: ReportInputs) -> None:
    table = re.search(r'<table class="matrix.*?</table>', render_report(inputs), re.DOTALL)
    assert table is not None
    cells = [
        int(re.sub(r"<[^>]*>", "", cell))
        for cell in re.findall(r'<td class="(?:right|wrong|zero).*?</td>', table.group())
    ]
    assert cells == [n for row in inputs.scores["confusion_matrix"] for n in row]


def test_every_cell_that_holds_photos_opens_them(inputs: ReportInputs, page: Page) -> None:
    filled = sum(n > 0 for row in inputs.scores["confusion_matrix"] for n in row)
    opened = {str(a["id"]) for a in page.all("div") if "popover" in a}
    buttons = [a for a in page.all("button") if str(a.get("aria-label", "")).endswith(": show")]
    assert {str(a["popovertarget"]) for a in buttons} == opened
    assert len(buttons) == len(opened) == filled > 5


def test_each_chart_has_a_table_and_can_be_taken_away(page: Page) -> None:
    files = {str(a["download"]) for a in page.all("a") if "download" in a}
    charts = ("training_curves", "per_class", "confusion_matrix", "reliability")
    assert {f"{chart}.{kind}" for chart in charts for kind in ("svg", "csv")} <= files
    assert {"counts.csv", "measures.csv", "time.csv", "heatmaps.csv", "shortcuts.csv"} <= files


def test_an_explained_error_shows_heatmap_contrast_and_nearest_training_photos(inputs: ReportInputs) -> None:
    text = render_report(inputs)
    explained = re.findall(r'<li class="explained">.*?\n</li>', text, re.DOTALL)
    named = {row["path"] for row in inputs.explanations["photos"] if row["label"] != row["predicted"]}
    assert len(explained) == len(named) == 2
    for item in explained:
        assert item.count("<img") == 3 + 4
        assert "where it looks like" in item
        assert "Nearest training photos: 5 " in item


def test_in_cross_validation_the_heatmap_says_whose_answer_it_explains(inputs: ReportInputs) -> None:
    said = [{**row, "target": "sunflowers"} for row in inputs.explanations["photos"]]
    text = Page(render_report(replace(inputs, explanations={**inputs.explanations, "photos": said}))).text
    assert "the heatmap is of the final model, which says sunflowers" in text


def test_a_shortcut_is_said_on_top(inputs: ReportInputs) -> None:
    found = {"kind": "shortcut", "severity": "warning", "files": [], "evidence": "border", "remedy": "crop."}
    probe = {**inputs.explanations["shortcuts"]["probes"][0], "warns": True, "given_away": ["daisy"]}
    explanations = {**inputs.explanations, "shortcuts": {"photos": 120, "probes": [probe], "hot_spots": []}}
    text = Page(render_report(replace(inputs, findings=(found,), explanations=explanations))).text
    assert "Do not rely on it yet: something other than the objects tells the classes apart. Does it cheat?" in text
    assert "Careful: a classifier that sees only the border tells the classes apart." in text
    assert "too good" in text
    assert "too good" not in Page(render_report(inputs)).text


def test_errors_are_shown_most_confident_first(inputs: ReportInputs) -> None:
    gallery = render_report(inputs).split('<ol class="errors">')[1].split("</ol>")[0]
    shown = [float(p) for p in re.findall(r'class="p">([\d.]+)', gallery)]
    wrong = [row for row in inputs.predictions if row.split == "test" and row.label != row.predicted]
    assert len(shown) == min(len(wrong), 24) > 1
    assert shown == sorted(shown, reverse=True)


@pytest.fixture(scope="module")
def hostile(inputs_of: Callable[..., ReportInputs]) -> ReportInputs:
    return inputs_of(classes=HOSTILE, each=12)


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_text(hostile: ReportInputs, name: str) -> None:
    first = hostile.manifest[0].path
    finding = {"kind": name, "severity": name, "files": [first], "evidence": name, "remedy": name}
    provenance = {name: {name: name}, "command": name, "finished": name}
    text = render_report(replace(hostile, name=name, findings=(finding,), provenance=provenance))
    page = Page(text)
    text.encode("utf-8")  # no lone surrogate is left
    assert page.unclosed == []
    assert len(page.all("script")) == 1
    assert not any(attribute.startswith("on") for _, attributes in page.elements for attribute in attributes)
    assert "\u202e" not in text


def test_a_right_to_left_override_cannot_hide_an_extension(inputs: ReportInputs) -> None:
    assert "photo\\u202egpj.exe" in Page(render_report(replace(inputs, name="photo\u202egpj.exe"))).text


def test_a_vanished_photo_leaves_a_gap_with_its_name(inputs_of: Callable[..., ReportInputs]) -> None:
    inputs = inputs_of(figures={})
    assert inputs.root is not None
    wrong = next(row for row in inputs.predictions if row.split == "test" and row.label != row.predicted)
    (inputs.root / wrong.path).unlink()
    page = Page(render_report(inputs))
    gaps = [attributes for attributes in page.all("span") if attributes.get("class") == "missing"]
    assert len(gaps) == 2  # among the errors, and behind its cell of the matrix
    assert all(str(gap["aria-label"]).endswith("picture not available") for gap in gaps)
    assert Path(wrong.path).name in page.text


def test_same_inputs_same_bytes(inputs: ReportInputs) -> None:
    assert render_report(inputs) == render_report(inputs)


def test_random_weights_are_labelled(inputs: ReportInputs, page: Page) -> None:
    assert "random weights" not in page.text
    by_recipe = replace(inputs, recipe=Recipe().replace({"backbone.weights": "none"}))
    by_fact = replace(inputs, provenance={"backbone": {"source": "none"}})
    for random in (by_recipe, by_fact):
        labels = [a for a in Page(render_report(random)).all("li") if "label-random" in str(a.get("class"))]
        assert len(labels) == 1


def test_without_a_test_part_the_validation_figures_are_marked(inputs_of: Callable[..., ReportInputs]) -> None:
    text = Page(render_report(inputs_of(parts=("train", "val"), figures={}))).text
    assert "validation figures, seen by choices" in text
    assert "no choice has seen" not in text
    assert "Train \N{MINUS SIGN} test" not in text


def test_a_part_with_a_name_of_its_own_is_judged_too(inputs: ReportInputs) -> None:
    evaluation = {**inputs.evaluation, "splits": {"garden": inputs.scores}, "gap": {}}
    text = Page(render_report(replace(inputs, evaluation=evaluation))).text
    assert "On photos of “garden” the model" in text
    assert "no test part" not in text
    with pytest.raises(ValueError, match="at least one part"):
        render_report(replace(inputs, evaluation={**evaluation, "splits": {}}))


def test_a_thousand_classes_stay_below_three_megabytes(inputs_of: Callable[..., ReportInputs]) -> None:
    inputs = inputs_of(classes=("one", "two"), figures={})
    classes = [f"class number {i}" for i in range(1000)]
    share = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 3}
    row = {"precision": share, "recall": share, "f1": share, "support": 3}
    matrix = [[3 if i == j else 0 for j in range(1000)] for i in range(1000)]
    scores = {
        **inputs.scores,
        "per_class": dict.fromkeys(classes, row),
        "confusion_matrix": matrix,
        "most_confused": [],
    }
    evaluation = {"classes": classes, "splits": {"test": scores}, "seconds": {}}
    manifest = [replace(photo, label=classes[i % 1000]) for i, photo in enumerate(inputs.manifest * 50)]  # type: ignore[operator, type-var]
    predictions = [
        PredictionRow(path=photo.path, split="test", label="a", predicted="b", probabilities={"b": 0.9})
        for photo in inputs.manifest
    ]
    text = render_report(replace(inputs, evaluation=evaluation, manifest=manifest, predictions=predictions, figures={}))
    assert len(text.encode("utf-8")) < 3_000_000
    assert "970 more are not shown" in text


def test_figures_of_others_bring_no_script(inputs: ReportInputs) -> None:
    bad = (
        '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script>'
        '<g style="fill: url(http://evil.example/x)"><a href="http://evil.example"><text>t</text></a></g></svg>'
    )
    text = render_report(replace(inputs, figures={"reliability": bad}))
    assert "evil.example" not in text
    assert "alert(1)" not in text
