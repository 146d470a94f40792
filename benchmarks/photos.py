"""The photos of a benchmark: scanned, grouped, thinned where a quick check is enough. Knows nothing about networks."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from topwork.data.scan import ImageRecord, Scan, scan

__all__ = ["named_data", "scan_with_groups", "thinned", "write_table"]


def named_data(name: str) -> Path:
    """A folder as given, or that name in the folder of test photos (`TOPWORK_TEST_DATA`, else `../shared/data`)."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    beside = Path(os.environ.get("TOPWORK_TEST_DATA", shared)) / name
    return Path(name) if Path(name).exists() or not beside.is_dir() else beside


def scan_with_groups(folder: Path, groups: Path | None) -> Scan:
    """Scan class folders; photos on one line of `groups` (tab-separated paths) get one group.

    Args:
        folder: class folders.
        groups: default `FOLDER_groups.txt` beside the folder, where there is one.
    """
    beside = folder.with_name(f"{folder.name}_groups.txt")
    groups = groups or (beside if beside.is_file() else None)
    if groups is None:
        return scan(folder)
    group_of = {}
    for number, line in enumerate(groups.read_text(encoding="utf-8").splitlines()):
        if line and not line.startswith("#"):
            group_of.update(dict.fromkeys(line.split("\t"), f"g{number}"))
    names = sorted(path.relative_to(folder).as_posix() for path in folder.glob("*/*"))
    with tempfile.TemporaryDirectory() as temporary:
        table = Path(temporary) / "photos.csv"
        rows = [(name, Path(name).parent.name, group_of.get(name, ""), str(folder.resolve())) for name in names]
        write_table(table, ["path", "label", "group", "root"], rows)
        return scan(table)


def thinned(found: Scan, per_class: int | None) -> Scan:
    """The same data with at most so many photos of each class, chosen by their digests; None keeps all."""
    if per_class is None:
        return found
    by_class: dict[str, list[ImageRecord]] = defaultdict(list)
    for record in sorted(found.records, key=lambda record: record.sha256):
        by_class[record.label or ""].append(record)
    kept = {record.path for records in by_class.values() for record in records[:per_class]}
    return replace(found, records=tuple(record for record in found.records if record.path in kept))


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A CSV file that `topwork fit` reads."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *rows])
