"""Downloaded archives -> a folder of class folders, or of `train/ val/ test/` with class folders inside."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from topwork.data.known import KnownSet
from topwork.data.sniff import EXTENSIONS
from topwork.data.unpack import unpack
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = ["arrange"]

_TEXTS = re.compile(r"(licen[cs]e|readme|citation|attribution|authors)[\w.-]*", re.IGNORECASE)
_OXFORD_PARTS = {"trnid": "train", "valid": "val", "tstid": "test"}
_OXFORD_PHOTO = re.compile(r"image_(\d{5})\.jpg")


def arrange(known: KnownSet, files: Sequence[Path], *, into: Path, progress: Progress = silent) -> int:
    """Unpack a data set's photos, each into the folder of its class; texts about licences come along.

    Args:
        known: what the files are.
        files: in the order of `known.files`; or the one archive that the user brought.
        into: an existing empty folder.
        progress: told about every file.

    Returns:
        The number of photos.

    Raises:
        DataError: if an archive is damaged or hostile, or a class has no photo.
    """
    if known.layout == "oxford":
        unpack(files[0], into, place=_oxford_place(known, labels=files[1], parts=files[2]), progress=progress)
    else:
        for number, path in enumerate(files):
            part = known.files[number].part if known.files else None
            unpack(path, into, place=_folder_place(known, part=part), progress=progress)
    photos = [path.relative_to(into).parts for path in into.rglob("*") if path.suffix.lower() in EXTENSIONS]
    missing = sorted(set(known.classes) - {steps[-2] for steps in photos if len(steps) > 1})
    if missing:
        what = f"The files of {known.name} must hold photos of {len(known.classes)} classes. Got none of {missing[0]}"
        raise DataError(f"{what} and {len(missing) - 1} more.", fix=f"get them again from {known.homepage}.")
    return len(photos)


def _folder_place(known: KnownSet, *, part: str | None) -> Callable[[PurePosixPath], str | None]:
    """A photo's class is the name of the folder it lies in, however deep."""
    texts: set[str] = set()

    def place(path: PurePosixPath) -> str | None:
        if any(step.startswith(".") or step == "__MACOSX" for step in path.parts):
            return None
        if path.suffix.lower() in EXTENSIONS and path.parent.name in known.classes:
            return "/".join(filter(None, (part, path.parent.name, path.name)))
        if _TEXTS.fullmatch(path.name) and path.suffix.lower() in ("", ".txt", ".md") and path.name not in texts:
            texts.add(path.name)
            return f"{part}-{path.name}" if part else path.name
        return None

    return place


def _oxford_place(known: KnownSet, *, labels: Path, parts: Path) -> Callable[[PurePosixPath], str | None]:
    """`image_00001.jpg` is photo 1: one table has its class, counted from 1, the other the numbers of every part."""
    label_of = dict(enumerate(_numbers(labels, "labels"), start=1))
    part_of: Mapping[int, str] = {
        number: part for key, part in _OXFORD_PARTS.items() for number in _numbers(parts, key)
    }
    if set(label_of) != set(part_of) or not set(label_of.values()) <= set(range(1, len(known.classes) + 1)):
        what = (
            f"The tables {labels.name} and {parts.name} must describe the same photos of {len(known.classes)} classes."
        )
        raise DataError(f"{what} They do not.", fix=f"get them again from {known.homepage}.")

    def place(path: PurePosixPath) -> str | None:
        photo = _OXFORD_PHOTO.fullmatch(path.name)
        number = int(photo[1]) if photo else 0
        if number not in label_of:
            return None
        return f"{part_of[number]}/{known.classes[label_of[number] - 1]}/{path.name}"

    return place


def _numbers(table: Path, key: str) -> list[int]:
    from scipy.io import loadmat

    try:
        return [int(value) for value in loadmat(table)[key].ravel()]
    except (ValueError, TypeError, KeyError, OSError) as error:
        what = f"The table {table.name} must hold the numbers {key}. Got {type(error).__name__}."
        raise DataError(what, fix="download it again.") from error
