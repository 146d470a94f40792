"""`Manifest`: which photo has which label and lies in which part; a CSV file in and out. Knows nothing about pixels."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

from topwork.atomic import write_text
from topwork.data.decode import printable
from topwork.errors import DataError

__all__ = ["PARTS", "Manifest", "Part", "Row"]

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = ("train", "val", "test")
"""The parts of a split, in the order of the shares."""


@dataclass(frozen=True)
class Row:
    """One photo.

    Args:
        path: POSIX, relative to the manifest's root.
        label: the class.
        split: the part.
        group: photos with the same group stay in one part; 16 hexadecimal digits that depend on content only.
        sha256: of the file's bytes.
    """

    path: str
    label: str
    split: str
    group: str
    sha256: str


_COLUMNS = [field.name for field in fields(Row)]


@dataclass(frozen=True)
class Manifest:
    """All rows of a split.

    Args:
        root: absolute folder that the paths are relative to; not part of the CSV file.
        rows: sorted by path.
    """

    root: Path
    rows: tuple[Row, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """All labels, sorted: class k of a network is `classes[k]`."""
        return tuple(sorted({row.label for row in self.rows}))

    def part(self, name: Part) -> tuple[Row, ...]:
        """The rows of one part, in order; empty if there is no such part."""
        return tuple(row for row in self.rows if row.split == name)

    def paths(self, rows: Iterable[Row]) -> tuple[Path, ...]:
        """Absolute paths of rows."""
        return tuple(self.root / row.path for row in rows)

    def write_csv(self, path: Path, *, name_root: bool = False) -> None:
        """Replace `path` by columns `path,label,split,group,sha256`, UTF-8, in one step.

        Args:
            path: of the file.
            name_root: adds a column `root`, relative to the file's folder, by which `fit` finds photos elsewhere.
        """
        root = [Path(os.path.relpath(self.root, os.path.realpath(path.parent))).as_posix()] if name_root else []
        header = [*_COLUMNS, "root"] if name_root else _COLUMNS
        lines = [header, *([*astuple(row), *root] for row in self.rows)]
        write_text(path, "".join(_csv_line(line) for line in lines))

    @classmethod
    def read_csv(cls, path: Path, *, root: Path) -> Manifest:
        """The inverse of `write_csv`; a column `root` is passed over.

        Raises:
            DataError: if the file is missing or is not such a manifest.
        """
        fix = "make it again with `topwork split` or `topwork fit`."
        name = printable(path)
        try:
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
                header, *lines = list(csv.reader(stream, strict=True)) or [[]]
        except (OSError, csv.Error) as error:
            raise DataError(f"The manifest {name} must be readable. Got {error}.", fix=fix) from error
        if header == [*_COLUMNS, "root"]:
            header, lines = _COLUMNS, [line[:-1] for line in lines]
        if header != _COLUMNS:
            what = f"The columns of {name} must be {','.join(_COLUMNS)}. Got {','.join(header)[:80] or 'nothing'}."
            raise DataError(what, fix=fix)
        for number, line in enumerate(lines, start=2):
            if len(line) != len(_COLUMNS) or line[2] not in PARTS:
                what = f"Row {number} of {name} must have {len(_COLUMNS)} values and a split of {', '.join(PARTS)}."
                raise DataError(f"{what} Got {','.join(line)[:80]}.", fix=fix)
        return cls(root, tuple(Row(*line) for line in lines))


def _csv_line(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(values)  # quotes only what its own line end contains
    return text.getvalue().removesuffix("\r\n") + "\n"
