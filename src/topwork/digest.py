"""Content digests: the names of everything that is cached, and the seeds of everything random."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["digest", "file_sha256", "seed_from"]


def _canonical(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, bytes):
        return {"bytes": hashlib.sha256(value).hexdigest()}
    if isinstance(value, Mapping):
        return {"map": sorted([str(key), _canonical(item)] for key, item in value.items())}
    if isinstance(value, Sequence):
        return [_canonical(item) for item in value]
    raise TypeError(f"The parts of a digest must be plain values. Got {type(value).__name__}.")


def digest(*parts: Any) -> str:
    """SHA-256 of plain values, independent of process, platform and mapping order.

    Args:
        parts: None, bool, int, float, str, bytes, and sequences or mappings of them. Sequence order counts.

    Returns:
        64 lower-case hexadecimal digits.

    Example:
        >>> digest("a", 1) == digest("a", 1) != digest("a", 1.0)
        True
    """
    text = json.dumps([_canonical(part) for part in parts], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def seed_from(*parts: Any) -> int:
    """A seed in [0, 2**63) that depends on the parts only; never on row order or thread.

    Example:
        >>> seed_from("photo", 3) == seed_from("photo", 3)
        True
    """
    return int(digest(*parts)[:16], 16) >> 1


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces.

    Raises:
        OSError: if the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
