"""A corrected manifest: a scan's photos with some labels changed, as CSV that every verb reads. Touches no photo."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from topwork.atomic import write_text
from topwork.data.scan import Scan
from topwork.errors import DataError

__all__ = ["write_corrected"]

_COLUMNS = ["path", "label", "split", "group", "root", "was"]


def write_corrected(path: Path, scan: Scan, *, labels: Mapping[str, str]) -> None:
    """Replace `path` by a manifest of all readable photos.

    Columns: `path` relative to `root`, the photos' folder; `label`, corrected; `split` and `group` as the source gives
    them; `was`, the label before, only where it changed.

    Args:
        path: of the CSV file; not the manifest that was scanned, which is kept.
        scan: the photos.
        labels: path -> new label, of those that change.

    Raises:
        DataError: if `path` is a folder or one of the photos.
    """
    if path.is_dir() or any(path.resolve() == scan.root / record.path for record in scan.records):
        raise DataError(f"The corrected manifest {path} must be a new CSV file.", fix="name one, e.g. corrected.csv.")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(_COLUMNS)
    for record in scan.records:
        label = labels.get(record.path, record.label)
        was = record.label if label != record.label else ""
        rows.writerow([record.path, label, record.split or "", record.group or "", scan.root, was])
    write_text(path, text.getvalue())
