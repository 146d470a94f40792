"""`fetch`: the name of a data set of others -> its photos on this machine, complete and checked, or nothing."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.atomic import draft_folder, write_json, write_text
from topwork.cachedir import cache_folder
from topwork.data.arrange import arrange
from topwork.data.datasets import fetched_folder, known_names
from topwork.data.download import Unavailable, download
from topwork.data.known import KnownFile, KnownSet, known_sets
from topwork.digest import file_sha256
from topwork.errors import DataError, ResourceError
from topwork.progress import Progress, silent

__all__ = ["Fetched", "fetch"]

_UNPACKED = 1.1  # bytes of a folder of photos for one of its archive: photos hardly shrink
_FACTS = "dataset.json"


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A data set on this machine.

    Args:
        name: of the data set.
        path: the folder to give to `fit`.
        photos: how many it has.
        classes: in its publisher's order.
        licence: in words.
        attribution: whom to name.
        new: whether this call brought it.
    """

    name: str
    path: Path
    photos: int
    classes: tuple[str, ...]
    licence: str
    attribution: str
    new: bool


def fetch(
    name: str, *, to: str | Path | None = None, given: str | Path | None = None, progress: Progress = silent
) -> Fetched:
    """Download a known data set; if it is there already, do nothing.

    Files come from `TOPWORK_DATA_MIRROR` (a folder or an address, holding `NAME/FILE`) if that is set, then from the
    official addresses. An interrupted download goes on where it stopped. The folder appears when it is complete, with
    `dataset.json` (classes, licence, checksums) and `ABOUT.txt` in it.

    Args:
        name: one of the known names.
        to: the folder, which must be new or empty; default: the user's cache, where `topwork fit NAME` finds it.
        given: the file that was downloaded by hand, or a folder that holds the files.
        progress: told how far it is.

    Raises:
        DataError: if there is no such data set, it cannot be had, or what came is not what was published.
        ResourceError: if the disk cannot hold it.
    """
    known = known_sets().get(name)
    if known is None:
        if name not in known_names():
            raise DataError(f"The name of a data set must be known. Got {name!r}.", fix=_names_fix(name))
        what = f"The data set {name} is drawn by topwork and needs no download."
        raise DataError(what, fix=f"use it: `topwork fit {name}`.")
    folder = Path(to) if to is not None else fetched_folder(name)
    if (facts := _facts(folder, known)) is not None:
        return _fetched(known, folder, photos=facts["photos"], new=False)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        what = f"The folder {str(folder)!r} must be new or empty. It holds something else than this {name}."
        raise DataError(what, fix="choose another folder with --to.")
    with _files(known, folder, given=given, progress=progress) as files, draft_folder(folder) as draft:
        photos = arrange(known, files, into=draft, progress=progress)
        _write_facts(known, draft, files=files, photos=photos)
    return _fetched(known, folder, photos=photos, new=True)


def _names_fix(name: str) -> str:
    near = difflib.get_close_matches(name, known_sets(), n=1)
    return f"use {near[0]!r}." if near else f"use one of {', '.join(known_sets())}."


def _facts(folder: Path, known: KnownSet) -> dict[str, Any] | None:
    """What an earlier fetch wrote into the folder, if it was this data set."""
    try:
        facts = json.loads((folder / _FACTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    same = isinstance(facts, dict) and facts.get("name") == known.name and facts.get("version") == known.version
    return facts if same and isinstance(facts.get("photos"), int) else None


def _fetched(known: KnownSet, folder: Path, *, photos: int, new: bool) -> Fetched:
    return Fetched(
        name=known.name,
        path=folder,
        photos=photos,
        classes=known.classes,
        licence=known.licence,
        attribution=known.attribution,
        new=new,
    )


@contextmanager
def _files(known: KnownSet, folder: Path, *, given: str | Path | None, progress: Progress) -> Iterator[list[Path]]:
    """The data set's files, checked; downloaded ones are deleted when the block ends well."""
    if given is not None:
        files = _given_files(known, Path(given))
        _check_room([(folder, int(_UNPACKED * sum(path.stat().st_size for path in files)))])
        yield files
        return
    if not known.files:
        what = f"The data set {known.name} must be downloaded by yourself: Kaggle gives it to its members only."
        fix = f"press Download on {known.homepage}, then `topwork fetch {known.name} --from {known.archive}`."
        raise DataError(what, fix=fix)
    store = cache_folder() / "downloads"
    _check_room([(store, known.bytes), (folder, int(_UNPACKED * known.bytes))])
    files = []
    for file in known.files:
        try:
            files.append(download(file, store, urls=_addresses(known, file), progress=progress))
        except Unavailable as error:
            raise Unavailable(error.what, fix=_way_round(known), reasons=error.reasons) from None
    yield files
    for path in files:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            path.with_name(f"{path.name}.lock").unlink()


def _addresses(known: KnownSet, file: KnownFile) -> list[str]:
    mirror = os.environ.get("TOPWORK_DATA_MIRROR", "")
    if not mirror:
        return list(file.urls)
    if urllib.parse.urlsplit(mirror).scheme in ("http", "https"):
        return [f"{mirror.rstrip('/')}/{known.name}/{urllib.parse.quote(file.name)}", *file.urls]
    return [str(Path(mirror).expanduser() / known.name / file.name), *file.urls]


def _way_round(known: KnownSet) -> str:
    urls = " and ".join(file.urls[0] for file in known.files)
    place = "FILE" if len(known.files) == 1 else "FOLDER"
    return (
        f"run it again later; or download {urls} elsewhere, then `topwork fetch {known.name} --from {place}`; "
        "or let TOPWORK_DATA_MIRROR name a folder or server that has them."
    )


def _given_files(known: KnownSet, given: Path) -> list[Path]:
    """What the user brought, if it is what was published."""
    names = [file.name for file in known.files] or [known.archive]
    if len(names) > 1 and not given.is_dir():
        what = f"The files of {known.name} are {len(names)}. Got {str(given)!r}."
        raise DataError(what, fix=f"name a folder that holds {', '.join(names)}.")
    files = [given / name for name in names] if given.is_dir() else [given]
    for path in files:
        if not path.is_file():
            raise DataError(f"The file {str(path)!r} must exist. It does not.", fix=f"get it from {known.homepage}.")
    for path, file in zip(files, known.files, strict=bool(known.files)):
        if path.stat().st_size != file.bytes or file_sha256(path) != file.sha256:
            what = f"The file {str(path)!r} must be the published {file.name} of {file.bytes:,} bytes. It is not."
            raise DataError(what, fix=f"download it again from {file.urls[0]}.")
    return files


def _check_room(needs: Sequence[tuple[Path, int]]) -> None:
    """Refuse before any work what a disk cannot hold; several needs may meet on one disk."""
    wanted: dict[int, int] = {}
    for folder, size in needs:
        place = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        disk = place.stat().st_dev
        wanted[disk] = wanted.get(disk, 0) + size
        free = shutil.disk_usage(place).free
        if wanted[disk] > free:
            what = f"The disk of {str(place)!r} must have {wanted[disk] / 1e9:.2f} GB free. It has {free / 1e9:.2f}."
            raise ResourceError(what, fix="free some space, or let TOPWORK_CACHE and --to name a larger disk.")


def _write_facts(known: KnownSet, folder: Path, *, files: Sequence[Path], photos: int) -> None:
    names = [file.name for file in known.files] or [path.name for path in files]
    sums = [file.sha256 for file in known.files] or [file_sha256(path) for path in files]
    facts = {
        "name": known.name,
        "version": known.version,
        "homepage": known.homepage,
        "licence": known.licence,
        "attribution": known.attribution,
        "classes": list(known.classes),
        "photos": photos,
        "files": [{"name": name, "sha256": checksum} for name, checksum in zip(names, sums, strict=True)],
    }
    write_json(folder / _FACTS, facts)
    text = f"{known.name}: {known.summary}.\n\nSource: {known.homepage}\nLicence: {known.licence}\n"
    write_text(folder / "ABOUT.txt", f"{text}Attribution: {known.attribution}\n")
