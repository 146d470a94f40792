"""`DATA` on the command line -> files that may be photos, with labels. Decodes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from topwork.data.decode import printable
from topwork.data.finding import Finding
from topwork.data.folders import Candidate, label_by_folder, walk_files
from topwork.data.tables import TABLE_ENDINGS, read_table
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["Listing", "list_source"]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Files that may be photos.

    Args:
        root: absolute, links followed.
        name: of the data, for people.
        candidates: sorted by path.
        findings: what was left out so far.
        by_table: whether someone listed the files one by one, so that none may be passed over in silence.
    """

    root: Path
    name: str
    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    by_table: bool


def list_source(source: str | Path, *, progress: Progress = silent) -> Listing:
    """Find the files of a folder, a manifest, or a known data set (a path wins over a name).

    Raises:
        DataError: if there is no such thing, or it holds nothing to learn from.
    """
    path, name = Path(source), None
    if not os.path.lexists(path) and isinstance(source, str):
        path, name = _known(source, progress=progress), source
    path = Path(os.path.realpath(path))
    if path.is_dir():
        files = walk_files(path)
        if files.unnamed:  # a whole class would be gone, and a model would be called after what is left
            what = f"The name of the folder {files.unnamed[0]} must be UTF-8, since folders name the classes."
            raise DataError(what, fix="rename it.")
        candidates, findings = label_by_folder(path, files.paths)
        found = (*files.findings, *findings)
        title = name or printable(path.name) or "photos"
        return Listing(root=path, name=title, candidates=tuple(candidates), findings=found, by_table=False)
    if path.suffix.lower() in TABLE_ENDINGS and path.is_file():
        root, candidates, findings = read_table(path)
        title = name or printable(path.stem)
        return Listing(root=root, name=title, candidates=tuple(candidates), findings=tuple(findings), by_table=True)
    if path.exists():
        what = f"The data {printable(source)} must be a folder of photos or a manifest. Got a file."
        raise DataError(what, fix="name the folder that holds the class folders, or a .csv manifest.")
    raise _missing(source)


def _known(name: str, *, progress: Progress) -> Path:
    from topwork.data import datasets

    if not datasets.is_known(name):
        raise _missing(name)
    return datasets.resolve(name, progress=progress)


def _missing(source: str | Path) -> DataError:
    what = f"The data {printable(source)} must exist. There is no such file, folder or known data set."
    return DataError(what, fix="check the spelling, or try `topwork demo` for drawn flowers.")
