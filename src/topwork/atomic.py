"""Writes that either happened or did not: a reader never meets half a file."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["atomic_path", "draft_folder", "write_bytes", "write_json", "write_text"]


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary sibling that replaces `path` when the block ends well, and vanishes when it does not.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "numbers.txt"
        >>> with atomic_path(target) as draft:
        ...     _ = draft.write_text("42")
        >>> target.read_text()
        '42'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=f".tmp{path.suffix}")
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with draft.open("rb") as stream:
            os.fsync(stream.fileno())  # the rename must not become durable before the bytes are
        draft.chmod(0o644)  # mkstemp makes files that only the owner can read
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` that takes its name when the block ends well, and vanishes when it does not.

    Raises:
        OSError: if `path` is anything but missing or an empty folder when the block ends.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".making-", dir=path.parent))
    try:
        yield draft
        draft.chmod(0o755)  # mkdtemp makes folders that only the owner can enter
        if path.is_dir():
            path.rmdir()  # refuses a folder that holds something
        draft.rename(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content` in one step."""
    with atomic_path(path) as draft:
        draft.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 text in one step; odd file names inside it survive."""
    write_bytes(path, text.encode("utf-8", errors="surrogateescape"))


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by indented JSON; NaN and infinity are refused.

    Raises:
        ValueError: if a number is not finite.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=True, allow_nan=False) + "\n")
