"""Names of data sets -> folders. Knows where they are kept and who makes them, not how to read photos.

Data sets of others are there once they were fetched; our own is made on first use. Each has a folder of its own under
`cache_folder()/datasets`, whose name holds all that decides its content: a newer topwork never serves older files.
"""

from __future__ import annotations

import difflib
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from topwork.cachedir import cache_folder
from topwork.data.known import known_sets
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["KnownDataset", "fetched_folder", "is_known", "known_names", "resolve"]

_DRAWN_PER_CLASS, _DRAWN_SIZE, _DRAWN_SEED = 150, 256, 0
_STALE_SECONDS = 86_400.0  # a half-made folder this old belongs to a run that was killed


@dataclass(frozen=True)
class KnownDataset:
    """One name that `resolve` understands.

    Args:
        name: what users type.
        summary: one line for lists.
        version: names everything that decides the content; part of the folder's name. A function, as it may import.
        make: writes the data set into the given folder, which does not exist yet.
    """

    name: str
    summary: str
    version: Callable[[], str]
    make: Callable[[Path, Progress], None]


def _drawn_version() -> str:
    from topwork.data.drawn import DRAWN_VERSION

    return f"v{DRAWN_VERSION}-n{_DRAWN_PER_CLASS}-px{_DRAWN_SIZE}-seed{_DRAWN_SEED}"


def _make_drawn(folder: Path, progress: Progress) -> None:
    from topwork.data.drawn import write_drawn_flowers

    write_drawn_flowers(folder, n_per_class=_DRAWN_PER_CLASS, size=_DRAWN_SIZE, seed=_DRAWN_SEED, progress=progress)


_KNOWN = {
    known.name: known
    for known in (
        KnownDataset(
            "drawn-flowers",
            "five species of drawn flowers with exact masks; needs no download",
            _drawn_version,
            _make_drawn,
        ),
    )
}


def known_names() -> tuple[str, ...]:
    """All names, sorted."""
    return tuple(sorted({*_KNOWN, *known_sets()}))


def is_known(name: str) -> bool:
    """Whether `resolve` understands the name.

    Example:
        >>> is_known("drawn-flowers"), is_known("photos/")
        (True, False)
    """
    return name in _KNOWN or name in known_sets()


def fetched_folder(name: str) -> Path:
    """Where `topwork fetch` keeps a data set of others; exists only when it is complete."""
    return cache_folder() / "datasets" / f"{name}-{known_sets()[name].version}" / name


def resolve(name: str, *, progress: Progress = silent) -> Path:
    """The folder of a known data set; our own is made on first use, others must have been fetched.

    Args:
        name: one of `known_names()`.
        progress: told while the data set is made.

    Returns:
        An existing folder whose own name is the data set's name.

    Raises:
        DataError: if the name is not known, the data set was not fetched, or the cache folder cannot be written.
    """
    if name in known_sets():
        if (folder := fetched_folder(name)).is_dir():
            return folder
        what = f"The data set {name} must be on this machine. It is not at {folder}."
        raise DataError(what, fix=f"run `topwork fetch {name}` first.")
    if name not in _KNOWN:
        near = difflib.get_close_matches(name, known_names(), n=1) or list(known_names())
        raise DataError(
            f"The name of a data set must be known. Got {name!r}.", fix=f"use {near[0]!r}, or name a folder."
        )
    known = _KNOWN[name]
    home = cache_folder() / "datasets" / f"{name}-{known.version()}"
    if not home.is_dir():
        try:
            _make(known, home, progress=progress)
        except OSError as error:
            raise DataError(
                f"The cache folder must be writable to make {name}. Got {error}.",
                fix="set TOPWORK_CACHE to another folder.",
            ) from error
    return home / name


def _make(known: KnownDataset, home: Path, *, progress: Progress) -> None:
    """Fill a folder beside `home`, then rename it: `home` is complete from the moment it exists."""
    home.parent.mkdir(parents=True, exist_ok=True)
    for left in home.parent.glob(".making-*"):
        if time.time() - left.stat().st_mtime > _STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)
    making = Path(tempfile.mkdtemp(prefix=".making-", dir=home.parent))
    try:
        progress.say(f"making {known.name} in {home}")
        known.make(making / known.name, progress)
        try:
            making.rename(home)
        except OSError:
            if not home.is_dir():  # else another process was faster; its files are the same
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
