"""A quarantine: a list of photos to leave out, kept as CSV where the user wants it, in force for a folder of photos.

`remember` notes in the cache folder which list belongs to which folder, so that every verb that scans photos below it
leaves the same ones out, also where it is given a folder above or inside. No photo is touched; a list that is deleted
is no longer in force.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from topwork.atomic import write_bytes, write_text
from topwork.cachedir import cache_folder
from topwork.data.decode import printable
from topwork.data.finding import Finding
from topwork.data.folders import Candidate
from topwork.digest import digest
from topwork.errors import DataError

__all__ = ["add_to_quarantine", "leave_out", "photos_to_leave_out", "quarantine_of", "read_quarantine", "remember"]

_COLUMNS = ["path", "reason"]
_NOTES = "quarantine"  # the folder of notes in the cache folder
_KEPT_FIRST = ("test", "val", "train", None)  # of one picture in several given parts, who keeps it


def read_quarantine(path: Path) -> dict[str, str]:
    """Paths relative to the photos' root -> why they are left out.

    Raises:
        DataError: if the file is no such list.
    """
    name = printable(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header, *rows = list(csv.reader(stream, strict=True)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"The quarantine {name} must be readable CSV. Got {error}.", fix=_fix(name)) from error
    if header[:1] != ["path"]:
        got = ",".join(header)[:80] or "nothing"
        raise DataError(f"The first line of the quarantine {name} must be path,reason. Got {got}.", fix=_fix(name))
    return {row[0]: row[1] if len(row) > 1 else "" for row in rows if row}


def add_to_quarantine(path: Path, photos: Mapping[str, str]) -> int:
    """Add photos and reasons to a list, which is made if it is not there; lines of the user stay as they are.

    Returns:
        How many photos were added.

    Raises:
        DataError: if the file exists and is no such list.
    """
    known = read_quarantine(path) if path.exists() else {}
    new = {name: reason for name, reason in photos.items() if name not in known}
    if new or not path.exists():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *sorted((known | new).items())])
        write_text(path, text.getvalue())
    return len(new)


def remember(root: Path, path: Path) -> None:
    """Put a list in force for the photos below a root, from now on and for every verb."""
    write_bytes(_note(root), os.fsencode(os.path.abspath(path)))


def quarantine_of(root: Path) -> Path | None:
    """The list in force for a root; None if there is none, or it was deleted."""
    try:
        path = Path(os.fsdecode(_note(root).read_bytes()))
    except OSError:
        return None
    return path if path.is_file() else None


def leave_out(candidates: Sequence[Candidate], root: Path) -> tuple[tuple[Candidate, ...], tuple[Finding, ...]]:
    """Candidates that no list in force names, and a finding (`quarantined`, info) about the others.

    Raises:
        DataError: if the list cannot be read, or names every candidate.
    """
    listed_by = _listed(candidates, root)
    kept = tuple(candidate for candidate in candidates if candidate.path not in listed_by)
    gone = tuple(sorted(candidate.path for candidate in candidates if candidate.path in listed_by))
    if not gone:
        return kept, ()
    lists = " and ".join(sorted({printable(path) for path in listed_by.values()}))
    if not kept:
        what = f"The quarantine {lists} must leave some photos. It names all {len(gone)}."
        raise DataError(what, fix=_fix(lists))
    photos = "1 photo is" if len(gone) == 1 else f"{len(gone)} photos are"
    evidence = f"{photos} left out by the quarantine {lists}."
    remedy = "nothing; to use them again, take them off the list or delete it."
    return kept, (Finding(kind="quarantined", severity="info", files=gone, evidence=evidence, remedy=remedy),)


def _listed(candidates: Sequence[Candidate], root: Path) -> dict[str, Path]:
    """Path of a candidate -> the list that names it, of all lists in force for a folder that the candidate lies in."""
    try:
        notes = set(os.listdir(cache_folder() / _NOTES))
    except OSError:
        return {}
    holding = {candidate.path.rpartition("/")[0] for candidate in candidates}
    inside = {folder for path in holding for folder in (path, *map(str, PurePosixPath(path).parents))}
    folders = {root, *root.parents, *(root / folder for folder in inside)}
    named: dict[str, Path] = {}
    for folder in sorted(folder for folder in folders if _note(folder).name in notes):
        if (path := quarantine_of(folder)) is not None:
            named.update((os.path.normpath(folder / listed), path) for listed in read_quarantine(path))
    at = {candidate.path: os.path.normpath(root / candidate.path) for candidate in candidates} if named else {}
    return {path: named[place] for path, place in at.items() if place in named}


def photos_to_leave_out(findings: Sequence[Finding], split_of: Mapping[str, str | None]) -> dict[str, str]:
    """Photos without which the findings that a machine can decide are gone, each with its reason.

    Unreadable and blank photos; all but one of the same bytes; every photo of a label conflict, since nobody knows
    which label is right; of a picture in several given parts, those in train before those in test.

    Args:
        findings: of an audit.
        split_of: path -> given part, of readable photos.
    """
    chosen: dict[str, str] = {}
    for finding in findings:
        files: Sequence[str] = ()
        if finding.kind in ("unreadable", "blank", "label_conflict"):
            files = finding.files
        elif finding.kind == "exact_duplicate":
            files = finding.files[1:]
        elif finding.kind == "leak" and finding.severity == "error":
            parts = {split_of.get(file) for file in finding.files}
            kept = next(part for part in _KEPT_FIRST if part in parts)
            files = [file for file in finding.files if split_of.get(file) != kept]
        for file in files:
            chosen.setdefault(file, finding.kind)
    return chosen


def _note(root: Path) -> Path:
    return cache_folder() / _NOTES / f"{digest(os.fsencode(root))[:32]}.path"


def _fix(name: str) -> str:
    return f"correct {name}, or name another file: `topwork check DATA --quarantine FILE` writes a new one."
