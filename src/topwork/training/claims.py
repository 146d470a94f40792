"""Who uses a store's files: a lock for whoever writes or removes, a mark on what is open. Knows no rows."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from topwork.progress import Progress

if sys.platform != "win32":
    import fcntl

__all__ = ["DATA", "in_use", "locked", "opened_rows", "store_lock", "wait_for"]

DATA = "rows.bin"
"""The file of a store that holds its rows."""


def store_lock(folder: Path) -> FileLock:
    """Held by whoever writes or removes a store; beside its folder, so that it outlives that."""
    return FileLock(folder.with_suffix(".lock"))


def locked(folder: Path) -> bool:
    """Whether a process is filling a store."""
    lock = store_lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def wait_for(lock: FileLock, progress: Progress) -> None:
    """Until it is free. Each step lets a watched progress say that there is no time left."""
    while True:
        progress.step("waiting for another process", 0, 1)
        try:
            lock.acquire(timeout=1)
        except Timeout:
            continue
        return


def in_use(folder: Path) -> bool:
    """Whether any process, this one included, has the rows of a store open. (Windows refuses to delete them then.)"""
    if sys.platform == "win32":
        return False
    try:
        with (folder / DATA).open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there are none, or the file system knows no locks
        return False
    return False


def opened_rows(path: Path) -> BinaryIO | None:
    """The rows, marked as used for as long as they are open; None if there are none."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        return None
    if sys.platform != "win32":
        with suppress(OSError):  # a file system without locks
            fcntl.flock(stream, fcntl.LOCK_SH)  # waits for the moment in which `in_use` looks, and for nothing else
    return stream
