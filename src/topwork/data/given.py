"""Photos given as Python values: files in a list, array or Series, or pictures in arrays -> a `Scan`.

Pictures become PNG files in a folder of the caller's, so that everything behind a scan has one kind of photo, and the
activation cache, which is named by bytes, knows them again. Knows nothing about networks.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from topwork.cores import CORES
from topwork.data.batches import run_ahead
from topwork.data.decode import decode, printable
from topwork.data.fingerprint import Fingerprint, fingerprint
from topwork.data.scan import ImageRecord, Scan
from topwork.data.view import evaluation_view
from topwork.errors import InputError
from topwork.spec import InputSpec

__all__ = ["Picture", "evaluation_views", "pictures_of", "scan_given"]

_Pixels = npt.NDArray[np.uint8]

Picture = Path | _Pixels
"""A file, or a picture (H,W,3) uint8 RGB."""

_FIX = "give a list, array or Series of file names, or of uint8 RGB pictures, each (height, width, 3)."
_REMEMBERED = 2**16  # fingerprints, about 1 kB each: cross-validation asks for the same files again and again


def pictures_of(values: Any) -> list[Picture]:
    """What a caller gives as X, one element a photo.

    Args:
        values: a list, array or pandas Series of file names; an array (N,H,W,3) uint8; a list of arrays (H,W,3) uint8;
            a column (N,1) of file names, as a table with one column gives it.

    Raises:
        InputError: if it is none of these, or empty.
    """
    if isinstance(values, str | bytes | os.PathLike) or not hasattr(values, "__len__"):
        raise InputError(f"The photos X must be many. Got one {type(values).__name__}.", fix=_FIX)
    if hasattr(values, "to_numpy"):  # pandas, polars
        values = values.to_numpy()
    if isinstance(values, np.ndarray):
        is_column = values.ndim == 2 and values.shape[1] == 1 and values.dtype.kind in "OUT"
        values = values[:, 0] if is_column else values
        if values.ndim == 0 or (values.ndim != 4 and values.dtype.kind not in "OUT"):
            what = f"The photos X must be file names or pictures. Got an array of shape {values.shape}, {values.dtype}."
            raise InputError(what, fix=_FIX)
    pictures = [_picture(value, number) for number, value in enumerate(values)]
    if not pictures:
        raise InputError("The photos X must be at least one. Got 0 sample(s).", fix=_FIX)
    return pictures


def _picture(value: Any, number: int) -> Picture:
    if isinstance(value, str | os.PathLike):
        return Path(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3:
        height, width, channels = value.shape
        if channels == 3 and height and width:
            return value
    got = f"an array of shape {value.shape}, {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__
    is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    fix = "for pictures in [0, 1], give (255 * X).round().astype('uint8')." if is_float else _FIX
    raise InputError(
        f"Photo {number} of X must be a file name or a (height, width, 3) uint8 array. Got {got}.", fix=fix
    )


def scan_given(pictures: Sequence[Picture], labels: Sequence[str], *, folder: Path) -> Scan:
    """Photos and their labels as the scan of a folder would give them; a file that is named twice counts once.

    Args:
        pictures: from `pictures_of`.
        labels: as many.
        folder: gets the pictures that are no files yet, named by content; it must live as long as the scan is used.

    Raises:
        InputError: if a file is named with two labels.
        DecodeError: if a photo cannot be read: nobody but the caller can say whether to do without it.
    """
    label_of: dict[str, str] = {}
    for path, label in zip(_files(pictures, folder), labels, strict=True):
        if label_of.setdefault(path, label) != label:
            what = f"The photo {printable(path)} must have one label. Got {label_of[path]!r} and {label!r}."
            raise InputError(what, fix="keep the label that is right.")
    root = Path(os.path.commonpath([os.path.dirname(path) for path in label_of]))
    prints = chain.from_iterable(run_ahead(_fingerprint, ([path] for path in label_of), workers=CORES))
    records = [
        ImageRecord(
            path=Path(path).relative_to(root).as_posix(),
            label=label,
            split=None,
            group=None,
            **{name: value for name, value in vars(found).items() if name != "warnings"},
        )
        for (path, label), found in zip(label_of.items(), prints, strict=True)
    ]
    records.sort(key=lambda record: record.path)
    classes = tuple(sorted(set(label_of.values())))
    return Scan(root=root, name="given photos", records=tuple(records), findings=(), classes=classes)


def evaluation_views(
    pictures: Sequence[Picture], spec: InputSpec, *, batch: int = 32, workers: int = CORES
) -> Iterator[_Pixels]:
    """What a network sees of the photos, in order: uint8 (n,size,size,3), n <= batch; read ahead in threads.

    Raises:
        DecodeError: if a photo cannot be read.
    """

    def view(picture: Picture) -> _Pixels:
        pixels = decode(picture, target=spec.resize).pixels if isinstance(picture, Path) else picture
        return evaluation_view(pixels, spec)

    groups = (pictures[start : start + batch] for start in range(0, len(pictures), batch))
    return (np.stack(views) for views in run_ahead(view, groups, workers=workers))


def _files(pictures: Iterable[Picture], folder: Path) -> list[str]:
    """Absolute paths; a picture that comes twice becomes two files, since two photos may look the same."""
    seen: Counter[str] = Counter()
    files = []
    for picture in pictures:
        if isinstance(picture, Path):
            files.append(os.path.abspath(picture))
            continue
        name = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()[:32]
        path = folder / f"{name}-{seen[name]}.png"
        seen[name] += 1
        Image.fromarray(np.ascontiguousarray(picture)).save(path, compress_level=1)
        files.append(os.path.abspath(path))
    return files


def _fingerprint(path: str) -> Fingerprint:
    try:
        status = os.stat(path)
    except OSError:
        return fingerprint(path, name=printable(path))  # says what is wrong with the file
    return _remembered((path, status.st_mtime_ns, status.st_size))


@functools.lru_cache(maxsize=_REMEMBERED)
def _remembered(version: tuple[str, int, int]) -> Fingerprint:
    """Of a file that is named with its time and size: one that was changed is looked at again."""
    return fingerprint(version[0], name=printable(version[0]))
