"""Answers on stdout: JSON, CSV and aligned tables. Knows nothing about what they say."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer

__all__ = ["print_csv", "print_json", "print_table"]


def print_json(value: Any) -> None:
    """One value as one line of strict JSON (no NaN)."""
    typer.echo(json.dumps(value, ensure_ascii=True, allow_nan=False))


def print_csv(rows: Iterable[Sequence[Any]]) -> None:
    """Rows as CSV, the header being the first of them; each is printed as soon as it is there."""
    for row in rows:
        line = io.StringIO()
        csv.writer(line, lineterminator="\r\n").writerow(row)  # quotes only what its own line end contains
        typer.echo(line.getvalue().removesuffix("\r\n"))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns aligned by spaces; those whose cells all begin with a digit stand right.

    Args:
        header: one word a column.
        rows: as many cells as the header has.
    """
    columns = list(zip(header, *rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    numeric = [bool(column[1:]) and all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())
