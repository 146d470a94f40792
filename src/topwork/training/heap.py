"""Memory between steps of training: what one step frees, the next one takes up again. Knows glibc's `malloc` only."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["heap_kept"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's malloc.h
_KEPT = 1 << 30  # bytes; larger than any array of a step
_USUAL = 32 << 20  # where glibc's own rule for its threshold ends


@contextmanager
def heap_kept() -> Iterator[None]:
    """Inside the block, freed memory stays with the process.

    Every step of training allocates the same arrays of 10 to 200 MB. glibc gives arrays of that size back to the system
    when they are freed, and the system clears each page when it hands it out again: a third of a small network's time.
    Numbers do not change. After the block, what is free goes back. Elsewhere than on glibc it does nothing.

    Source: mallopt(3), Linux man-pages 6.9.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, _KEPT)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    try:
        yield
    finally:
        library.mallopt(_MMAP_THRESHOLD, _USUAL)
        library.mallopt(_TRIM_THRESHOLD, 2 * _USUAL)
        library.malloc_trim(0)


def _glibc() -> Any:
    """The C library, where it is one that can be told; else None."""
    try:
        library = ctypes.CDLL(None)
        return library if library.mallopt and library.malloc_trim and library.gnu_get_libc_version else None
    except (AttributeError, OSError, TypeError):  # musl and macOS lack the names, Windows the library
        return None
