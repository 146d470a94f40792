"""Files -> uint8 batches, decoded and augmented in threads ahead of their consumer. Knows nothing about networks.

Memory is bounded: at most `AHEAD` batches wait beside the one that is consumed. Work is bounded too: closing the
generator (or any exception in the loop over it) cancels what has not begun, so at most one photo a thread is finished.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from topwork.data.augment import augmented_view, view_seed
from topwork.data.decode import decode_bytes, printable, read_file
from topwork.data.view import evaluation_view
from topwork.errors import DataError, DecodeError
from topwork.recipe import Augment
from topwork.spec import InputSpec

__all__ = ["AHEAD", "Batch", "Item", "read_batches", "run_ahead"]

AHEAD = 3  # batches; with the one that is consumed, four are in memory

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")
_Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Item:
    """One row to read.

    Args:
        path: the file.
        sha256: of the file's bytes when it was scanned; other bytes are refused.
        view: 0 is the clean evaluation view; 1 and up are augmented, or without augmentation 1 is the mirror image.
    """

    path: Path
    sha256: str
    view: int = 0


@dataclass(frozen=True)
class Batch:
    """Consecutive rows.

    Args:
        images: (n, size, size, 3) uint8, owned by the receiver.
        rows: their positions in the items, `len(rows) == n`.
    """

    images: _Pixels
    rows: range


@dataclass(frozen=True)
class _Photo:
    """Consecutive items of one file, and where in a batch their pictures go."""

    items: Sequence[Item]
    images: _Pixels  # of the whole batch
    first: int  # row of the first item


def run_ahead(
    function: Callable[[_Job], _Result], groups: Iterable[Sequence[_Job]], *, workers: int, ahead: int = AHEAD
) -> Generator[list[_Result], None, None]:
    """Map a function over groups of jobs in threads: results in order, a bounded number of groups ahead.

    Groups are taken from the iterable in the consumer's thread, and only as results are consumed. Closing the generator
    cancels every job that has not begun and waits for none.

    Args:
        function: called in a thread; its exception reaches the consumer when the job's group is due.
        groups: any iterable, also an endless one.
        workers: threads, >= 1.
        ahead: groups in work or waiting beyond the one the consumer holds, >= 1.

    Example:
        >>> list(run_ahead(len, [["a", "bc"], ["def"]], workers=2))
        [[1, 2], [3]]
    """
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="topwork-read")
    waiting: deque[list[Future[_Result]]] = deque()
    remaining = iter(groups)
    try:
        for group in islice(remaining, ahead):
            waiting.append([pool.submit(function, job) for job in group])
        while waiting:
            waiting.extend([pool.submit(function, job) for job in group] for group in islice(remaining, 1))
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def read_batches(
    items: Sequence[Item], spec: InputSpec, *, batch: int, workers: int, augment: Augment | None, seed: int
) -> Generator[Batch, None, None]:
    """Decode, view and batch the items, in their order.

    A photo whose views follow one another is decoded once a batch. The pixels do not depend on the number of workers,
    on the size of the batches or on the other items. Use `contextlib.closing` where the loop may be left early.

    Args:
        items: rows to read; keep the views of a photo together.
        spec: the network's input.
        batch: rows of a batch, >= 1; the last batch may be shorter.
        workers: threads, >= 1.
        augment: how views from 1 up are changed; None gives the clean view's mirror image.
        seed: of the augmentation.

    Raises:
        DataError: if a file is gone, unreadable, or has other bytes than when it was scanned.
    """

    def read(photo: _Photo) -> _Pixels:
        _read_photo(photo, spec, augment=augment, seed=seed)
        return photo.images

    starts = range(0, len(items), batch)
    groups = (_photos(items[start : start + batch], spec.size) for start in starts)
    for start, parts in zip(starts, run_ahead(read, groups, workers=workers), strict=True):
        images = parts[0]
        yield Batch(images=images, rows=range(start, start + len(images)))


def _photos(items: Sequence[Item], size: int) -> list[_Photo]:
    """The items by file, with one new array for all of them."""
    images = np.empty((len(items), size, size, 3), np.uint8)
    photos, first = [], 0
    for _, group in groupby(items, key=lambda item: item.path):
        photos.append(_Photo(tuple(group), images, first))
        first += len(photos[-1].items)
    return photos


def _read_photo(photo: _Photo, spec: InputSpec, *, augment: Augment | None, seed: int) -> None:
    """Fill the photo's rows of its batch."""
    path, sha256 = photo.items[0].path, photo.items[0].sha256
    try:
        data = read_file(path, name=printable(path))
        found = hashlib.sha256(data).hexdigest()  # of the bytes that are decoded: the file may change in between
        pixels = decode_bytes(data, name=printable(path), target=spec.resize).pixels
    except DecodeError as error:
        raise DataError(
            f"The photo {str(path)!r} was readable when the data was scanned and is not now: {error.what}", fix=_AGAIN
        ) from error
    if found != sha256:
        raise DataError(
            f"The photo {str(path)!r} has changed since the data was scanned: its SHA-256 must begin with "
            f"{sha256[:12]}. Got {found[:12]}.",
            fix=_AGAIN,
        )
    for item, image in zip(photo.items, photo.images[photo.first :], strict=False):
        if item.view == 0:
            image[:] = evaluation_view(pixels, spec)
        elif augment is None:
            image[:] = evaluation_view(pixels, spec)[:, ::-1]
        else:
            image[:] = augmented_view(pixels, spec, augment=augment, seed=view_seed(sha256, item.view, seed=seed))


_AGAIN = "put the file back as it was, or run the command again so that the data is scanned anew."
