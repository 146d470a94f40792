"""`RESULTS.md` and the figures in it: tables, medians with their spread, and one marked section for each benchmark.

A section belongs to the command that made it; the next run of that command replaces it and nothing else. Knows files
and numbers only, neither topwork's stages nor their peers.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from topwork.atomic import write_json, write_text
from topwork.timings import cpu_name

__all__ = ["RESULTS", "Section", "Spread", "add_results_options", "machine_line", "markdown_table", "publish"]

RESULTS = Path(__file__).parent / "RESULTS.md"

_INTRODUCTION = """# Measured results

Made by the commands in this folder; do not edit. Each section names its command, date and machine, and the next run of
that command replaces it. [How to read and repeat them](../docs/guides/benchmarks.md).
"""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Repeated measurements of one figure.

    Args:
        median: of the repeats.
        low, high: the smallest and the largest repeat.
        repeats: how many, >= 1.

    Example:
        >>> print(Spread.of([5.0, 4.0, 9.0]))
        5.00 (4.00 to 9.00)
    """

    median: float
    low: float
    high: float
    repeats: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value.

        Raises:
            ValueError: without a value.
        """
        if not values:
            raise ValueError("A Spread needs at least one value.")
        return cls(median=statistics.median(values), low=min(values), high=max(values), repeats=len(values))

    def __str__(self) -> str:
        middle, low, high = (_short(value) for value in (self.median, self.low, self.high))
        return middle if self.repeats == 1 else f"{middle} ({low} to {high})"

    def to_json(self) -> dict[str, float]:
        """`{"median", "low", "high", "repeats"}`."""
        return asdict(self)


def _short(value: float) -> str:
    """Three digits that count, without an exponent."""
    magnitude = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, 2 - magnitude)}f}"


@dataclass(frozen=True, kw_only=True)
class Section:
    """What one command measured.

    Args:
        name: key of the section and name of its JSON file: small letters, digits and hyphens.
        title: for people.
        columns: header of the table.
        rows: its cells, each as long as the header.
        notes: sentences below the table: what was compared, and what could not be.
        data: the same figures for programs.
    """

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    data: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.name):
            raise ValueError(f"A section's name must be small letters, digits and hyphens. Got {self.name!r}.")
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"Every row must have {len(self.columns)} cells. Got {wrong[0]}.")

    def markdown(self, *, command: str, machine: str) -> str:
        """The section between its marks."""
        notes = "".join(f"- {note}\n" for note in self.notes) + "\n" * bool(self.notes)
        return (
            f"<!-- begin {self.name} -->\n## {self.title}\n\n`{command}`  \n{machine}\n\n"
            f"{markdown_table(self.columns, self.rows)}\n{notes}<!-- end {self.name} -->\n"
        )


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table that reads well as text too: cells padded to equal width.

    Example:
        >>> print(markdown_table(["stage", "images/s"], [["decode", "620"]]), end="")
        | stage  | images/s |
        | ------ | -------- |
        | decode | 620      |
    """
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(line[i]) for line in lines)) for i in range(len(columns))]
    header, *body = (
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |" for line in lines
    )
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return "\n".join([header, rule, *body]) + "\n"


def machine_line() -> str:
    """Date, processor, cores and how busy the machine was: a figure from a loaded machine must show it."""
    load = f", load {os.getloadavg()[0]:.1f} at the end" if hasattr(os, "getloadavg") else ""
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {cpu_name()}, {os.cpu_count() or 1} cores{load}"


def add_results_options(parser: argparse.ArgumentParser) -> None:
    """`--results` and `--json`, the same for every benchmark."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="the page whose section is rewritten")
    parser.add_argument("--json", type=Path, help="default: results/SECTION.json beside the page")


def publish(section: Section, given: argparse.Namespace) -> None:
    """Print the table, write the JSON, and rewrite the section of the page.

    Args:
        section: what was measured.
        given: the options of `add_results_options`.
    """
    machine = machine_line()
    command = command_line()
    print(f"\n{section.title}\n{machine}\n\n{markdown_table(section.columns, section.rows)}", end="")
    print("".join(f"- {note}\n" for note in section.notes), flush=True)
    results: Path = given.results
    path: Path = given.json or results.parent / "results" / f"{section.name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"title": section.title, "command": command, "machine": machine}
    write_json(path, {**facts, **section.data, "notes": list(section.notes)})
    page = results.read_text(encoding="utf-8") if results.exists() else _INTRODUCTION
    results.parent.mkdir(parents=True, exist_ok=True)
    write_text(results, replace_section(page, section.name, section.markdown(command=command, machine=machine)))
    print(f"Wrote {results} and {path}.")


def command_line() -> str:
    """What the user typed, without folders of this machine in the script's name, and without where results go."""
    script, *options = sys.argv
    name = Path(script).parent if Path(script).name == "__main__.py" else Path(script)
    kept = [
        option
        for before, option in zip(["", *options], options, strict=False)
        if not {before, option} & {"--results", "--json"}
    ]
    return shlex.join(["python", f"benchmarks/{name.name}", *kept]).replace("`", "'")


def replace_section(page: str, name: str, text: str) -> str:
    """The page with one section exchanged, or added in alphabetical order; all else stays as it is.

    Raises:
        ValueError: if the page opens the section and does not close it.
    """
    begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->\n"
    start = page.find(begin)
    if start >= 0:
        stop = page.find(end, start)
        if stop < 0:
            raise ValueError(f"The page begins the section {name!r} and does not end it.")
        return page[:start] + text + page[stop + len(end) :]
    for later in re.finditer(r"^<!-- begin ([a-z0-9-]+) -->\n", page, re.MULTILINE):
        if later[1] > name:
            return page[: later.start()] + text + "\n" + page[later.start() :]
    return page.rstrip("\n") + "\n\n" + text
