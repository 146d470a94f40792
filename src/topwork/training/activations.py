"""`ActivationCache`: what frozen trunks gave for pictures, kept on disk between runs.

One store holds rows of one array (pooled features, or the activation at one cut) computed by one network, input,
augmentation, engine and precision. Knows nothing of how a store keeps its rows.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from topwork.cachedir import cache_folder
from topwork.errors import ResourceError
from topwork.training.claims import DATA, in_use, locked, store_lock
from topwork.training.store import NAME_BYTES, NAME_LENGTH, PASSING, Store, StoreKey, read_meta

__all__ = ["ActivationCache", "StoreSummary", "default_limit"]


def default_limit() -> int:
    """Bytes that the cache may hold: `TOPWORK_CACHE_GB` or 20 GB.

    Raises:
        ResourceError: if the variable holds no number of gigabytes.
    """
    text = os.environ.get("TOPWORK_CACHE_GB") or "20"
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise ResourceError(
            f"TOPWORK_CACHE_GB must be a number of gigabytes. Got {text!r}.", fix="set it to e.g. 20, or leave it out."
        )
    return int(limit * 1e9)


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """One line of `topwork cache list`."""

    name: str
    what: str
    rows: int
    bytes: int
    used: float
    parts: Mapping[str, Any]


class ActivationCache:
    """All stores of this user, with a size limit.

    Args:
        folder: default `activations` in topwork's cache folder.
        limit: bytes; the stores used longest ago go first.
    """

    def __init__(self, folder: Path | None = None, *, limit: int | None = None) -> None:
        self.folder = folder or cache_folder() / "activations"
        self.limit = default_limit() if limit is None else limit
        self._in_use: set[str] = set()

    def open(self, key: StoreKey) -> Store:
        """The store of a key; an empty one is made on the first write."""
        folder = self.folder / key.digest
        self._in_use.add(key.digest)
        meta = folder / "meta.json"
        with suppress(FileNotFoundError):
            os.utime(meta)  # its time is the time of last use
        return Store(folder, key)

    def earlier_cuts(self, key: StoreKey) -> list[StoreKey]:
        """Keys of stores of the same network and input at an earlier cut, latest cut first."""
        found = []
        for summary in self.summaries():
            if summary.what.isdigit() and summary.parts == dict(key.parts) and int(summary.what) < int(key.what):
                found.append(StoreKey(what=summary.what, parts=summary.parts))
        return sorted(found, key=lambda other: -int(other.what))

    def make_room(self, needed: int) -> None:
        """Evict what was used longest ago until `needed` bytes fit under the limit and on the disk.

        What any process has open is never evicted.

        Raises:
            ResourceError: if they cannot fit; if that was to be seen before, nothing was evicted.
        """
        if needed <= self.room():
            for summary in sorted(self.summaries(), key=lambda summary: summary.used):
                if self._fits(needed):
                    return
                if summary.name not in self._in_use:
                    self.remove(summary.name)
            if self._fits(needed):
                return
        used = sum(summary.bytes for summary in self.summaries() if not self._evictable(summary))
        raise ResourceError(
            f"The activations need {needed / 1e9:.1f} GB; {self.folder} has room for {self.room() / 1e9:.1f} GB"
            f"{f' beside the {used / 1e9:.1f} GB in use' if used else ''}.",
            fix="set data.views=fresh or fixed:1, run `topwork cache clear`, raise TOPWORK_CACHE_GB, or point "
            "TOPWORK_CACHE to a larger disk.",
        )

    def room(self) -> int:
        """Bytes that can be written if all is evicted that nobody uses, >= 0."""
        stores = self.summaries()
        others = sum(summary.bytes for summary in stores if self._evictable(summary))
        used = sum(summary.bytes for summary in stores) - others
        return max(0, min(self.limit - used, self.free_bytes() + others))

    def _fits(self, needed: int) -> bool:
        total = sum(summary.bytes for summary in self.summaries())
        return total + needed <= self.limit and needed <= self.free_bytes()

    def _evictable(self, summary: StoreSummary) -> bool:
        folder = self.folder / summary.name
        return summary.name not in self._in_use and not in_use(folder) and not locked(folder)

    def free_bytes(self) -> int:
        """Bytes that can be written to the disk while 1 GB stays free; may be negative."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free - 1_000_000_000

    def summaries(self) -> list[StoreSummary]:
        """Every store, sorted by name; folders that are no store are passed over."""
        found = []
        for folder in sorted(self.folder.glob("*")) if self.folder.exists() else ():
            meta = read_meta(folder)
            if meta is None:
                continue
            try:
                sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
                used = (folder / "meta.json").stat().st_mtime
            except OSError:
                continue  # removed meanwhile
            found.append(
                StoreSummary(
                    name=folder.name,
                    what=meta["what"],
                    rows=sizes.get("index.bin", 0) // NAME_BYTES,
                    bytes=sum(sizes.values()),
                    used=used,
                    parts=meta["parts"],
                )
            )
        return found

    def clear(self) -> tuple[list[StoreSummary], list[StoreSummary]]:
        """Delete every store that nobody uses, and what killed processes left.

        Returns:
            Those that are gone, and those that are in use.
        """
        gone: list[StoreSummary] = []
        used: list[StoreSummary] = []
        for summary in self.summaries():
            (gone if self.remove(summary.name) else used).append(summary)
        names = {summary.name for summary in used}
        for folder in self.folder.glob("[0-9a-f]" * NAME_LENGTH):
            if folder.name not in names:
                self.remove(folder.name)
        for folder in self.folder.glob(f"{PASSING}*"):
            if not any(in_use(inside) for inside in folder.glob("*")):
                shutil.rmtree(folder, ignore_errors=True)
        return gone, used

    def remove(self, name: str) -> bool:
        """Delete a store that no process is using.

        Returns:
            Whether it is gone.
        """
        folder = self.folder / name
        lock = store_lock(folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        try:
            if in_use(folder):
                return False
            # The rows first: what a kill leaves then is a store without any.
            (folder / DATA).unlink(missing_ok=True)
            (folder / "meta.json").unlink(missing_ok=True)
            shutil.rmtree(folder)
        except OSError:  # on Windows, a file that is open
            return not folder.exists()
        finally:
            lock.release()
        return True
