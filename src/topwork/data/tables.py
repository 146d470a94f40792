"""CSV and Parquet manifests -> files, labels, splits and groups. Opens no photo."""

from __future__ import annotations

import csv
import math
import os
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from topwork.data.decode import printable
from topwork.data.finding import Finding, Severity
from topwork.data.folders import SPLIT_NAMES, Candidate, leaves_folder
from topwork.errors import DataError

__all__ = ["TABLE_ENDINGS", "read_table"]

TABLE_ENDINGS = (".csv", ".parquet", ".pq")
"""File name endings (lower case) of manifests."""

_COLUMNS = "path,label and optionally split, group, root"
_REMEDIES: dict[str, tuple[Severity, str, str]] = {
    "missing": ("warning", "are not there", "restore the files, or delete their rows."),
    "link_refused": ("warning", "lie outside the folder", "copy the photos into it, or set the root column."),
    "no_label": ("warning", "have no label", "fill in the label column."),
    "repeated_row": ("info", "are listed more than once", "delete the repeated rows."),
    "label_conflict": ("error", "are listed with different labels; the first counts", "keep one row a photo."),
}


def read_table(table: Path) -> tuple[Path, list[Candidate], list[Finding]]:
    """A manifest's rows that name a file.

    Columns: `path`, `label`, and optionally `split`, `group` and `root`; others are not looked at. Paths are relative
    to the manifest's folder, or to its `root` column (one value, itself relative to the manifest's folder). Where all
    paths are absolute, the root is the folder they share.

    Returns:
        The root, with links followed; candidates sorted by path; findings about rows left out.

    Raises:
        DataError: if the table cannot be read, lacks a column, has an unknown split, or no row names a file.
    """
    rows = _parquet_rows(table) if table.suffix.lower() != ".csv" else _csv_rows(table)
    _check_columns(table, rows)
    root = _root(table, rows)
    left_out: dict[str, list[str]] = defaultdict(list)
    kept: dict[str, Candidate] = {}
    for number, row in enumerate(rows, start=2):
        candidate = _candidate(row, root, where=f"row {number} of {printable(table)}")
        problem = _problem(candidate, root, kept=kept)
        if problem:
            left_out[problem].append(candidate.path)
        else:
            kept[candidate.path] = candidate
    if not kept:
        files = next(iter(left_out.values()))
        what = f"The paths of {printable(table)} must name files below {printable(root)}. None of {len(rows)} does; "
        raise DataError(what + f"the first is {files[0]}.", fix="write paths relative to the manifest's folder.")
    findings = [_finding(kind, files) for kind, files in sorted(left_out.items())]
    return root, [kept[path] for path in sorted(kept)], findings


def _csv_rows(table: Path) -> list[dict[str, Any]]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as stream:
            return list(csv.DictReader(stream, strict=True))
    except UnicodeDecodeError as error:
        what = f"The text of {printable(table)} must be UTF-8. Got {error.object[error.start : error.start + 1]!r}."
        raise DataError(what, fix="save it as CSV UTF-8.") from error
    except (OSError, csv.Error) as error:
        raise _unreadable(table, error) from error


def _parquet_rows(table: Path) -> list[dict[str, Any]]:
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        what = f"The manifest {printable(table)} must be readable. Parquet needs pyarrow, which is not installed."
        raise DataError(what, fix="pip install pyarrow, or save the table as CSV.") from None
    try:
        rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise _unreadable(table, error) from error
    return rows


def _unreadable(table: Path, error: Exception) -> DataError:
    return DataError(
        f"The manifest {printable(table)} must be a readable table. Got {error}.", fix=f"use columns {_COLUMNS}."
    )


def _check_columns(table: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        raise DataError(f"The manifest {printable(table)} must have rows. It is empty.", fix=f"use columns {_COLUMNS}.")
    columns = [str(column) for column in rows[0]]
    if not {"path", "label"} <= set(columns):
        what = f"The columns of {printable(table)} must include path and label. Got {', '.join(columns)}."
        raise DataError(what, fix=f"use commas, and columns {_COLUMNS}.")


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _root(table: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    base = os.path.realpath(table.parent)
    roots = {_text(row.get("root")) for row in rows} - {""}
    if len(roots) > 1:
        what = f"The root of {printable(table)} must be one folder. Got {', '.join(sorted(roots)[:3])}."
        raise DataError(what, fix="write paths relative to one folder.")
    if roots:
        return Path(os.path.realpath(os.path.join(base, roots.pop())))
    folders = {os.path.dirname(_text(row["path"])) for row in rows}
    if all(os.path.isabs(folder) for folder in folders) and any(leaves_folder(f, Path(base)) for f in folders):
        return Path(os.path.realpath(os.path.commonpath(sorted(folders))))
    return Path(base)


def _candidate(row: Mapping[str, Any], root: Path, *, where: str) -> Candidate:
    path, label, split = _text(row["path"]), _text(row["label"]), _text(row.get("split"))
    if split and split.lower() not in SPLIT_NAMES:
        what = f"The split of {where} must be train, val, test or empty. Got {split!r}."
        raise DataError(what, fix="rename it.")
    if "\\" in path and not (root / path).exists():  # written on Windows
        path = path.replace("\\", "/")
    relative = Path(os.path.relpath(root / path, root)).as_posix()
    return Candidate(
        path=relative,
        label=unicodedata.normalize("NFC", label),
        split=SPLIT_NAMES[split.lower()] if split else None,
        group=_text(row.get("group")) or None,
    )


def _problem(candidate: Candidate, root: Path, *, kept: Mapping[str, Candidate]) -> str | None:
    if candidate.path in kept:
        return "repeated_row" if kept[candidate.path].label == candidate.label else "label_conflict"
    full = root / candidate.path
    if leaves_folder(full, root):
        return "link_refused"
    if not full.is_file():
        return "missing"
    return None if candidate.label else "no_label"


def _finding(kind: str, files: Sequence[str]) -> Finding:
    severity, what, remedy = _REMEDIES[kind]
    evidence = f"{len(files)} rows of the manifest, such as {files[0]}, {what}."
    return Finding(kind=kind, severity=severity, files=tuple(sorted(set(files))), evidence=evidence, remedy=remedy)
