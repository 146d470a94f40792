"""`materialize`: a manifest -> `train/ val/ test/` folders of class folders. Knows nothing of how parts were dealt."""

from __future__ import annotations

import errno
import os
import shutil
import unicodedata
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Literal

from topwork.data.decode import printable
from topwork.data.manifest import Manifest, Row
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["HOWS", "How", "folder_name_problem", "materialize"]

How = Literal["copy", "link"]
HOWS: tuple[How, ...] = ("copy", "link")
"""Files of their own, or hard links: a second name of the same file, which costs no space."""

_TAKEN = {"thumbs.db", "desktop.ini", "__macosx"}  # a scan passes them over
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES}


def materialize(manifest: Manifest, folder: Path, *, how: How, progress: Progress = silent) -> Manifest:
    """Write every photo of a manifest as `PART/CLASS/NAME` below a folder.

    Photos of one class and part that have the same name (letter case aside) get the first digits of their digest in
    it, so that names depend on content and not on order. Symbolic links are never made: a scan refuses those that
    leave the folder.

    Args:
        manifest: whose files exist.
        folder: an existing folder; nothing in it is replaced.
        how: `copy` or `link`.
        progress: told about every photo, as stage `write`.

    Returns:
        The manifest of the written photos, with `folder` as its root.

    Raises:
        DataError: if a class cannot name a folder, or the disk cannot link.
    """
    for label in manifest.classes:
        if problem := folder_name_problem(label):
            what = f"The class {printable(label)!r} must be able to name a folder. It {problem}."
            raise DataError(what, fix="rename the class, or leave out --materialize.")
    names = _names(manifest)
    for done, (row, name) in enumerate(zip(manifest.rows, names, strict=True), start=1):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(manifest.root / row.path, target, how=how)
        progress.step("write", done, len(names))
    rows = [replace(row, path=name) for row, name in zip(manifest.rows, names, strict=True)]
    return Manifest(folder, tuple(sorted(rows, key=lambda row: row.path)))


def folder_name_problem(label: str) -> str | None:
    """Why a class cannot name a folder that a scan would find again, or None.

    Example:
        >>> folder_name_problem("rose"), folder_name_problem("../rose")
        (None, "holds '/'")
    """
    for letter in ("/", "\\", "\0"):
        if letter in label:
            return f"holds {letter!r}"
    if label.startswith(".") or label.lower() in _TAKEN:
        return "is a name that scans pass over"
    return "is too long" if len(label.encode("utf-8", errors="surrogateescape")) > 200 else None


def _names(manifest: Manifest) -> list[str]:
    """POSIX paths below the new folder, all different even where letter case does not count."""

    def plain(row: Row) -> str:
        return f"{row.split}/{row.label}/{os.path.basename(row.path)}"

    def folded(name: str) -> str:
        return unicodedata.normalize("NFC", name).casefold()

    often = Counter(folded(plain(row)) for row in manifest.rows)
    used: set[str] = set(often)
    names = []
    for row in manifest.rows:
        name = plain(row)
        if often[folded(name)] > 1:
            stem, ending = os.path.splitext(name)
            name, number = f"{stem}-{row.sha256[:8]}{ending}", 2
            while folded(name) in used:  # the same bytes twice under one name
                name, number = f"{stem}-{row.sha256[:8]}-{number}{ending}", number + 1
            used.add(folded(name))
        names.append(name)
    return names


def _place(source: Path, target: Path, *, how: How) -> None:
    if how == "copy":
        shutil.copyfile(source, target)
        return
    try:
        os.link(os.path.realpath(source), target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        what = f"The photo {printable(source)} must be linkable from {printable(target.parent.parent.parent)}. "
        raise DataError(what + f"Got {error.strerror}.", fix="use --materialize copy.") from error
