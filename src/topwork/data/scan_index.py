"""`ScanIndex`: what earlier scans of a folder learned, so that an unchanged file is not decoded again.

One small JSON file a root, in the cache folder. It is a convenience: whatever is wrong with it, it counts as empty.
"""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL

from topwork.atomic import write_bytes
from topwork.cachedir import cache_folder
from topwork.data.capture import Capture
from topwork.data.decode import DECODE_VERSION
from topwork.data.fingerprint import Fingerprint
from topwork.data.look import Look
from topwork.digest import digest

__all__ = ["ScanIndex"]

_FORMAT = [2, DECODE_VERSION, PIL.__version__]
# A file that changed so recently may change again within the same tick of the file system's clock.
_SETTLED_NS = 2_000_000_000


class ScanIndex:
    """Fingerprints of a root's files, valid while size and times of change stay the same. Safe in threads.

    Args:
        root: absolute path of the folder that the names are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.path = cache_folder() / "scans" / f"{digest(os.fsencode(root))[:32]}.json"
        self._old = _load(self.path)
        self._new: dict[str, list[Any]] = {}
        self._lock = threading.Lock()

    def find(self, name: str, status: os.stat_result) -> Fingerprint | None:
        """What the file was when it last looked like `status`, or None."""
        entry = self._old.get(name)
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] != _stamp(status):
            return None
        known = _restored(entry[1])
        if known is None:
            return None
        with self._lock:
            self._new[name] = entry
        return known

    def add(self, name: str, found: Fingerprint, *, status: os.stat_result) -> None:
        """Remember a file; `status` must be older than the reading of it."""
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) < _SETTLED_NS:
            return
        with self._lock:
            self._new[name] = [_stamp(status), asdict(found)]

    def save(self) -> None:
        """Replace the file by what this scan has seen, if that differs; a full or read-only disk is no error."""
        if self._new == self._old:
            return
        text = json.dumps({"format": _FORMAT, "files": self._new}, separators=(",", ":"))
        try:
            write_bytes(self.path, text.encode("ascii"))
        except OSError:
            return


def _stamp(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _restored(facts: Any) -> Fingerprint | None:
    try:
        capture = Capture(**facts["capture"]) if facts["capture"] is not None else None
        objects = {"warnings": tuple(facts["warnings"]), "look": Look(**facts["look"]), "capture": capture}
        known = Fingerprint(**{**facts, **objects})
    except (TypeError, KeyError):
        return None
    numbers = (known.bytes, known.width, known.height, known.phash)
    taken = known.capture or Capture("", 0.0)
    measured = (known.look.mean, known.look.low, known.look.high, known.look.sharpness, taken.seconds)
    texts = (known.sha256, known.look.mode, taken.camera, *known.warnings)
    intact = all(type(number) is int for number in numbers) and all(isinstance(text, str) for text in texts)
    intact = intact and all(isinstance(value, float) for value in measured)
    return known if intact and len(known.sha256) == 64 else None


def _load(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
        files = content["files"] if content["format"] == _FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return files if isinstance(files, dict) else {}
