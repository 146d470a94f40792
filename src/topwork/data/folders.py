"""Folders -> files and their labels. Knows which names to skip and which links to refuse; opens no file."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from topwork.data.decode import printable
from topwork.data.finding import Finding
from topwork.data.sniff import EXTENSIONS
from topwork.errors import DataError

__all__ = ["SPLIT_NAMES", "Candidate", "Files", "label_by_folder", "leaves_folder", "walk_files"]

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Folder names and manifest values (lower case) that name a part -> the part."""

_NOT_DATA = {"thumbs.db", "desktop.ini", "__macosx", "icon\r", "ehthumbs.db"}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that may be a photo.

    Args:
        path: POSIX, relative to the root.
        label: the class, NFC.
        split: `train`, `val`, `test` or None.
        group: a name of things that must stay together, or None.
    """

    path: str
    label: str
    split: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class Files:
    """What lies below a folder: POSIX paths relative to it, sorted, and what was left out.

    `unnamed` are folders that were left out for a name that is not UTF-8, printable.
    """

    paths: tuple[str, ...]
    findings: tuple[Finding, ...]
    unnamed: tuple[str, ...] = ()


def walk_files(root: Path) -> Files:
    """Every regular file below a folder, hidden ones apart; links to folders are not followed.

    A folder is entered whatever its name ends in. Links that point to nothing, to a folder or out of the root, and
    names that are not UTF-8 are left out with a finding.

    Raises:
        DataError: if the root itself cannot be listed.
    """
    root = Path(os.path.realpath(root))
    paths: list[str] = []
    refused: dict[str, list[str]] = defaultdict(list)
    unnamed: list[str] = []
    pending = [""]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(root / folder))
        except OSError as error:
            if not folder:
                raise _cannot_list(root, error) from error
            refused[f"cannot be listed ({error.strerror})"].append(folder)
            continue
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name.lower() in _NOT_DATA:
                continue
            if why := _why_refused(entry, root):
                refused[why].append(printable(path))
                if why == _BAD_NAME and entry.is_dir():
                    unnamed.append(printable(path))
            elif entry.is_dir():
                pending.append(path)
            elif entry.is_file():
                paths.append(path)
    return Files(tuple(sorted(paths)), tuple(_refusals(refused)), tuple(sorted(unnamed)))


def leaves_folder(path: Path | str, root: Path) -> bool:
    """Whether a path, its links followed, lies outside the root (whose links must already be followed)."""
    real = os.path.realpath(path)
    return os.path.commonpath([real, root]) != str(root)


def _why_refused(entry: os.DirEntry[str], root: Path) -> str | None:
    try:
        entry.name.encode("utf-8")
    except UnicodeEncodeError:
        return _BAD_NAME
    if not entry.is_symlink():
        return None
    if not os.path.exists(entry.path):
        return "is a link that points to nothing"
    if leaves_folder(entry.path, root):
        return "is a link that leaves the folder"
    return "is a link to a folder" if entry.is_dir() else None


_BAD_NAME = "has a name that is not UTF-8"


def _refusals(refused: dict[str, list[str]]) -> Iterator[Finding]:
    for why, files in sorted(refused.items()):
        kind, remedy = "link_refused", "copy the photos into the folder."
        if why == _BAD_NAME:
            kind, remedy = "unusable_name", "rename the file; manifests and reports are UTF-8."
        elif why.startswith("cannot"):
            kind, remedy = "unreadable", "check the folder's permissions."
        first = min(files)
        rest = f" and {len(files) - 1} more" if len(files) > 1 else ""
        evidence = f"{first}{rest}: {why}; left out."
        yield Finding(kind=kind, severity="warning", files=tuple(sorted(files)), evidence=evidence, remedy=remedy)


def _cannot_list(root: Path, error: OSError) -> DataError:
    what = f"The folder {printable(root)} must be readable. Got {error.strerror}."
    return DataError(what, fix="check its permissions.")


def label_by_folder(root: Path, paths: tuple[str, ...]) -> tuple[list[Candidate], list[Finding]]:
    """Labels from folder names: `class/...`, or `train/class/...` where there are parts.

    Parts are recognised by a train folder that holds folders, beside a validation or test folder or alone; a train
    folder alone names no split. Class names are NFC, so that names from macOS and Linux agree.

    Raises:
        DataError: if there is no file, or photos but no class folder.
    """
    if not paths:
        raise DataError(f"The folder {printable(root)} must hold class folders of photos. It is empty.", fix=_LAYOUT)
    parts = _parts(paths)
    depth = 1 if parts else 0
    candidates, homeless, outside = [], [], []
    for path in paths:
        steps = path.split("/")
        if parts and steps[0] not in parts:
            outside.append(path)
        elif len(steps) < depth + 2:
            homeless.append(path)
        else:
            label = unicodedata.normalize("NFC", steps[depth])
            split = parts[steps[0]] if len(set(parts.values())) > 1 else None
            candidates.append(Candidate(path=path, label=label, split=split))
    homeless = [path for path in homeless if os.path.splitext(path)[1].lower() in EXTENSIONS]
    outside = [path for path in outside if os.path.splitext(path)[1].lower() in EXTENSIONS]
    if not candidates:
        raise _no_classes(root, other=paths[0], loose=len(homeless))
    return candidates, [*_left_out("no_class", homeless), *_left_out("outside_parts", outside)]


_LAYOUT = "make one folder a class, such as photos/rose and photos/tulip, and name the folder above them."


def _parts(paths: tuple[str, ...]) -> dict[str, str]:
    """Top folders that are parts -> the part; empty for plain class folders."""
    tops = {path.split("/", 1)[0] for path in paths if "/" in path}
    parts = {top: SPLIT_NAMES[top.lower()] for top in tops if top.lower() in SPLIT_NAMES}
    train = {top for top, part in parts.items() if part == "train"}
    holds_folders = any(path.count("/") >= 2 and path.split("/", 1)[0] in train for path in paths)
    alone = set(parts) == tops
    return parts if holds_folders and (alone or len(set(parts.values())) > 1) else {}


def _no_classes(root: Path, *, other: str, loose: int) -> DataError:
    if loose:
        what = f"The photos of {printable(root)} must lie in class folders. Got {loose} directly in it."
    else:
        what = f"The folder {printable(root)} must hold class folders of photos. Got other files, such as {other}."
    return DataError(what, fix=_LAYOUT)


def _left_out(kind: str, files: list[str]) -> Iterator[Finding]:
    if files:
        where = "lie in no class folder" if kind == "no_class" else "lie beside the train, validation and test folders"
        evidence = f"{len(files)} photos, such as {files[0]}, {where}; left out."
        remedy = "move them into class folders."
        yield Finding(kind=kind, severity="warning", files=tuple(files), evidence=evidence, remedy=remedy)
