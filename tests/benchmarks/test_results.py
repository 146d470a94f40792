"""RESULTS.md: a command rewrites its own section and nothing else."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import pytest
from results import Section, Spread, machine_line, markdown_table, publish, replace_section


def section(name: str, cell: str) -> Section:
    return Section(name=name, title=name.upper(), columns=["figure"], rows=[[cell]], data={"cell": cell})


def given(page: Path) -> argparse.Namespace:
    return argparse.Namespace(results=page, json=None)


def test_each_command_owns_one_section(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    for name, cell in (("scale", "first"), ("accuracy-flowers", "second"), ("throughput", "third")):
        publish(section(name, cell), given(page))
    before = page.read_text(encoding="utf-8")
    publish(section("scale", "again"), given(page))
    after = page.read_text(encoding="utf-8")
    assert re.findall("<!-- begin (.*) -->", after) == ["accuracy-flowers", "scale", "throughput"]
    assert "first" not in after
    assert "again" in after
    outside = re.compile("<!-- begin scale -->.*<!-- end scale -->", re.DOTALL)
    assert outside.sub("", before) == outside.sub("", after)
    written = json.loads((tmp_path / "results/scale.json").read_text(encoding="utf-8"))
    assert written["cell"] == "again"
    assert written["machine"] in after


def test_writing_the_same_section_twice_changes_nothing() -> None:
    text = section("scale", "1").markdown(command="c", machine="m")
    once = replace_section("# Page\n\nBy hand.\n", "scale", text)
    assert replace_section(once, "scale", text) == once
    assert once.startswith("# Page\n\nBy hand.\n")


def test_a_name_that_begins_like_another_is_another() -> None:
    page = replace_section("# P\n", "scale-large", section("scale-large", "L").markdown(command="", machine=""))
    page = replace_section(page, "scale", section("scale", "S").markdown(command="", machine=""))
    assert page.index("begin scale -->") < page.index("begin scale-large -->")
    assert "| L " in page
    assert "| S " in page


def test_a_section_without_end_is_not_guessed_at() -> None:
    with pytest.raises(ValueError, match="does not end it"):
        replace_section("<!-- begin scale -->\nhalf", "scale", "text")


def test_a_cell_cannot_break_its_table() -> None:
    table = markdown_table(["a", "b"], [["x|y", "two\nlines"]])
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in table.splitlines())
    assert len(table.splitlines()) == 3


def test_rows_and_names_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Section(name="a", title="", columns=["x", "y"], rows=[["1"]])
    with pytest.raises(ValueError, match="small letters"):
        Section(name="A b", title="", columns=[], rows=[])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([3.0, 1.0, 2.0], "2.00 (1.00 to 3.00)"),
        ([250.4, 301.0, 276.0], "276 (250 to 301)"),
        ([12.34], "12.3"),
        ([0.001234], "0.00123"),
    ],
)
def test_a_spread_is_median_and_range_with_three_digits(values: list[float], text: str) -> None:
    assert str(Spread.of(values)) == text


def test_the_machine_is_named() -> None:
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC, .+, \d+ cores", machine_line())
