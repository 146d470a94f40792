"""Answers on stdout can be read back."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.cli.output import print_csv, print_json, print_table


def test_json_is_one_line_and_comes_back(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"path": "a\nb \udc80 é.jpg", "p": {"rose": 0.25}}
    print_json(value)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == value


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        print_json({"p": float("nan")})


CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1)


@given(st.lists(st.tuples(CELL, CELL), min_size=1))
def test_csv_comes_back(rows: list[tuple[str, str]]) -> None:
    lines = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("topwork.cli.output.typer.echo", lambda line: lines.write(line + "\n"))
        print_csv(rows)
    assert [tuple(row) for row in csv.reader(io.StringIO(lines.getvalue()))] == rows


def test_tables_align_words_left_and_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "photos"), [("daisy", "7"), ("sunflower", "1200")])
    assert capsys.readouterr().out.splitlines() == ["name       photos", "daisy           7", "sunflower    1200"]


def test_an_empty_table_is_its_header(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "photos"), [])
    assert capsys.readouterr().out == "name  photos\n"
