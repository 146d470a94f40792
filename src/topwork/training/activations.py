"""`ActivationCache`: what a frozen trunk gave for a picture, kept on disk and memory-mapped.

One store holds rows of one array (pooled features, or the activation at one cut) computed by one network, input,
augmentation, engine and precision. A row's name is the digest of the picture's bytes and the number of the view. The
data are flushed before a row's name is appended to the index, so a killed process leaves only rows that are whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout

from topwork.atomic import write_json
from topwork.cachedir import cache_folder
from topwork.digest import digest
from topwork.errors import ResourceError
from topwork.progress import Progress, silent

__all__ = ["ActivationCache", "RowName", "Store", "StoreKey", "StoreSummary", "default_limit"]

RowName = tuple[str, int]
"""SHA-256 of a photo's bytes, and the number of the view (0 is the clean one)."""

_INDEX = np.dtype([("sha256", "S64"), ("view", "<i4")])
_FLOAT16_SAFE = 16384.0  # a quarter of the largest float16: room for pictures not yet seen


def default_limit() -> int:
    """Bytes that the cache may hold: `TOPWORK_CACHE_GB` or 20 GB."""
    return int(float(os.environ.get("TOPWORK_CACHE_GB", "20")) * 1e9)


@dataclass(frozen=True, kw_only=True)
class StoreKey:
    """All that the values depend on besides picture and view.

    Args:
        what: `pooled`, or the cut as text.
        parts: name -> plain value: decode version, input, augmentation, network, engine, precision.
    """

    what: str
    parts: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """The folder's name."""
        return digest(self.what, dict(self.parts))[:32]


@dataclass(frozen=True, kw_only=True)
class StoreSummary:
    """One line of `topwork cache list`."""

    name: str
    what: str
    rows: int
    bytes: int
    used: float
    parts: Mapping[str, Any]


class Store:
    """Rows of one array on disk; made by `ActivationCache.open`.

    One process writes at a time; any number read. Values are float16 where the first batch fits well inside its
    range, else bfloat16 bits in uint16 (NumPy has no bfloat16); pictures stay uint8.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self._folder = folder
        self._key = key
        self._meta = _read_meta(folder)
        self._rows: dict[RowName, int] = {}
        self._read_bytes = 0
        self.refresh()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one row, or None before the first one."""
        return tuple(self._meta["shape"]) if self._meta else None

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Learn of the rows that were completed since the last look."""
        self._meta = self._meta or _read_meta(self._folder)
        if self._meta is None or not self._index_path.exists():
            return
        with self._index_path.open("rb") as stream:
            stream.seek(self._read_bytes)
            text = stream.read()
        first = self._read_bytes // _INDEX.itemsize
        # A kill may leave part of a name; a damaged disk, names without their data.
        count = max(0, min(len(text) // _INDEX.itemsize, _size(self._data_path) // self._row_bytes - first))
        for number, name in enumerate(np.frombuffer(text, _INDEX, count=count), start=first):
            self._rows[name["sha256"].decode("ascii"), int(name["view"])] = number
        self._read_bytes += count * _INDEX.itemsize

    def missing(self, names: Sequence[RowName]) -> list[int]:
        """Positions in `names` that the store does not hold."""
        return [position for position, name in enumerate(names) if name not in self._rows]

    def rows(self, names: Sequence[RowName]) -> npt.NDArray[np.int64]:
        """Row numbers of names that the store holds, (n,).

        Raises:
            KeyError: if a name is not there.
        """
        return np.array([self._rows[name] for name in names], dtype=np.int64)

    def mapped(self) -> npt.NDArray[Any]:
        """All rows, memory-mapped and read-only: float16, bfloat16 bits as uint16, or uint8; (rows, *shape)."""
        assert self._meta is not None, "an empty store has no rows to read"
        shape = (len(self._rows), *self._meta["shape"])
        return np.memmap(self._data_path, dtype=self._meta["dtype"], mode="r", shape=shape)

    def read(self, names: Sequence[RowName]) -> npt.NDArray[np.float32]:
        """The values of the names, (n, *shape) float32, in order."""
        return _widen(self.mapped()[self.rows(names)])

    @contextmanager
    def writing(self, progress: Progress = silent) -> Iterator[None]:
        """Be the one process that writes; waits for another one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say("Another process fills the same cache; waiting for it.")
            lock.acquire()
        try:
            self.refresh()
            self._drop_torn_rows()
            yield
        finally:
            lock.release()

    def append(self, names: Sequence[RowName], values: npt.NDArray[np.float32] | npt.NDArray[np.uint8]) -> None:
        """Add rows; call inside `writing`. The rows count once this returns.

        Args:
            names: n names that are not there yet.
            values: (n, *shape) float32, finite; or uint8, always.

        Raises:
            ResourceError: if the disk is full; rows that were complete stay complete.
        """
        if self._meta is None:
            self._meta = self._start(values)
        narrow = _narrow(values, self._meta["dtype"])
        records = np.array([(sha.encode("ascii"), view) for sha, view in names], dtype=_INDEX)
        try:
            _append(self._data_path, narrow.tobytes())
            _append(self._index_path, records.tobytes())
        except OSError as error:
            raise ResourceError(
                f"The activation cache in {self._folder.parent} cannot be written: {error.strerror}.",
                fix="free disk space, run `topwork cache clear`, or set TOPWORK_CACHE to another disk.",
            ) from None
        for name in names:
            self._rows[name] = len(self._rows)
        self._read_bytes += records.nbytes

    @property
    def _data_path(self) -> Path:
        return self._folder / "rows.bin"

    @property
    def _index_path(self) -> Path:
        return self._folder / "index.bin"

    @property
    def _row_bytes(self) -> int:
        assert self._meta is not None, "an empty store has no rows"
        return int(np.prod(self._meta["shape"]) * np.dtype(self._meta["dtype"]).itemsize)

    def _start(self, values: npt.NDArray[Any]) -> dict[str, Any]:
        wide = "float16" if float(np.abs(values).max(initial=0)) < _FLOAT16_SAFE else "uint16"
        meta = {
            "what": self._key.what,
            "parts": dict(self._key.parts),
            "shape": list(values.shape[1:]),
            "dtype": "uint8" if values.dtype == np.uint8 else wide,
        }
        self._index_path.unlink(missing_ok=True)
        self._data_path.unlink(missing_ok=True)
        write_json(self._folder / "meta.json", meta)
        return meta

    def _drop_torn_rows(self) -> None:
        """Cut off data without a name, and half a name: what a kill leaves behind."""
        if self._meta is None:
            return
        for path, size in ((self._data_path, len(self._rows) * self._row_bytes), (self._index_path, self._read_bytes)):
            if _size(path) > size:
                os.truncate(path, size)


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
        if meta.exists():
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

        Raises:
            ResourceError: if they cannot fit.
        """
        stores = sorted(self.summaries(), key=lambda summary: summary.used)
        total = sum(summary.bytes for summary in stores)
        for summary in stores:
            if total + needed <= self.limit and needed < self.free_bytes():
                return
            if summary.name not in self._in_use:
                self.remove(summary.name)
                total -= summary.bytes
        if total + needed > self.limit or needed >= self.free_bytes():
            room = max(0, min(self.limit - total, self.free_bytes()))
            raise ResourceError(
                f"The activations need {needed / 1e9:.1f} GB; {self.folder} has room for {room / 1e9:.1f} GB.",
                fix="set data.views=fresh or fixed:1, raise TOPWORK_CACHE_GB, or point TOPWORK_CACHE to a larger disk.",
            )

    def free_bytes(self) -> int:
        """Bytes that can be written to the disk while 1 GB stays free."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free - 1_000_000_000

    def summaries(self) -> list[StoreSummary]:
        """Every store, sorted by name; folders that are no store are passed over."""
        found = []
        for folder in sorted(self.folder.glob("*")) if self.folder.exists() else ():
            meta = _read_meta(folder)
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
                    rows=sizes.get("index.bin", 0) // _INDEX.itemsize,
                    bytes=sum(sizes.values()),
                    used=used,
                    parts=meta["parts"],
                )
            )
        return found

    def remove(self, name: str) -> None:
        """Delete a store; processes that have it mapped keep reading what they mapped."""
        folder = self.folder / name
        (folder / "meta.json").unlink(missing_ok=True)  # first: without it the rest is not trusted
        shutil.rmtree(folder, ignore_errors=True)


def _read_meta(folder: Path) -> dict[str, Any] | None:
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _narrow(values: npt.NDArray[Any], dtype: str) -> npt.NDArray[Any]:
    if dtype == "uint8":
        return values
    if dtype == "float16":
        half: npt.NDArray[np.float16] = np.clip(values, -65504.0, 65504.0).astype(np.float16)
        return half
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)  # round to nearest even on the upper 16 bits
    narrow: npt.NDArray[np.uint16] = (rounded >> 16).astype(np.uint16)
    return narrow


def _widen(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if values.dtype == np.uint16:
        values = (values.astype(np.uint32) << 16).view(np.float32)
    wide: npt.NDArray[np.float32] = values.astype(np.float32)
    return wide
