"""`Store`: rows of one array on disk, memory-mapped.

A row's name is the digest of a picture's bytes and the number of the view. The data are flushed before a row's name is
appended to the index, so a killed process leaves only rows that are whole. A store stays open for as long as a process
has it, and is read through that handle: what another process removes or makes anew under the same name cannot change
the rows behind it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from filelock import Timeout

from topwork.atomic import write_json
from topwork.cachedir import cache_folder
from topwork.digest import digest
from topwork.errors import ResourceError
from topwork.progress import Progress, silent
from topwork.training.claims import DATA, opened_rows, store_lock, wait_for
from topwork.training.narrow import narrowed, widened

__all__ = [
    "NAME_BYTES",
    "NAME_LENGTH",
    "PASSING",
    "RowName",
    "Store",
    "StoreKey",
    "passing_store",
    "read_meta",
]

RowName = tuple[str, int]
"""SHA-256 of a photo's bytes, and the number of the view (0 is the clean one)."""

NAME_LENGTH = 32
"""Hexadecimal digits of a store's folder."""

PASSING = "passing-"
"""How folders of passing stores begin."""

_INDEX = np.dtype([("sha256", "S64"), ("view", "<i4")])
NAME_BYTES = _INDEX.itemsize
"""Bytes of one row's name in `index.bin`."""

_FLOAT16_SAFE = 16384.0  # a quarter of the largest float16: room for pictures not yet seen


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
        return digest(self.what, dict(self.parts))[:NAME_LENGTH]


class Store:
    """Rows of one array on disk; usually made by `ActivationCache.open`.

    One process writes at a time; any number read. Values are float16 where the first batch fits well inside its
    range, else bfloat16 bits in uint16 (NumPy has no bfloat16); pictures stay uint8.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self._folder = folder
        self._key = key
        self._meta: dict[str, Any] | None = None
        self._data: BinaryIO | None = None  # opened with the first row, and kept open
        self._rows: dict[RowName, int] = {}
        self._read_bytes = 0
        self.refresh()

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; nothing can be read afterwards."""
        if self._data is not None:
            self._data.close()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Shape of one row, or None before the first one."""
        return tuple(self._meta["shape"]) if self._meta else None

    def __len__(self) -> int:
        return len(self._rows)

    def refresh(self) -> None:
        """Learn of the rows that were completed since the last look."""
        if self._data is None:
            self._data = opened_rows(self._data_path)  # before its facts: what is made anew meanwhile has others
            self._meta = read_meta(self._folder)
        try:
            stream = self._index_path.open("rb")
        except FileNotFoundError:
            return
        with stream:
            if self._meta is None or self._data is None or self._replaced:
                return
            stream.seek(self._read_bytes)
            text = stream.read()
        first = self._read_bytes // NAME_BYTES
        # A kill may leave part of a name; a damaged disk, names without their data.
        whole = os.fstat(self._data.fileno()).st_size // self._row_bytes
        count = max(0, min(len(text) // NAME_BYTES, whole - first))
        for number, name in enumerate(np.frombuffer(text, _INDEX, count=count), start=first):
            self._rows[name["sha256"].decode("ascii"), int(name["view"])] = number
        self._read_bytes += count * NAME_BYTES

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
        assert self._data is not None, "an empty store has no rows to read"
        shape = (len(self._rows), *self._meta["shape"])
        return np.memmap(self._data, dtype=self._meta["dtype"], mode="r", shape=shape)

    def read(self, names: Sequence[RowName]) -> npt.NDArray[np.float32]:
        """The values of the names, (n, *shape) float32, in order."""
        return widened(self.mapped()[self.rows(names)])

    @contextmanager
    def writing(self, progress: Progress = silent) -> Iterator[None]:
        """Be the one process that writes; waits for another one, and meanwhile makes a step now and then.

        Raises:
            ResourceError: if the store was removed while this process had it open.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        lock = store_lock(self._folder)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            progress.say("Another process fills the same cache; waiting for it.")
            wait_for(lock, progress)
        try:
            if self._data is not None and self._replaced:
                raise ResourceError(
                    f"The cached activations in {self._folder} were removed while this run used them.",
                    fix="run the command again (fit with --resume), and clear the cache when nothing runs.",
                )
            self._folder.mkdir(exist_ok=True)
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
        narrow = narrowed(values, self._meta["dtype"])
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
        self._data = self._data or opened_rows(self._data_path)

    @property
    def _replaced(self) -> bool:
        """Whether the open file is no longer the one with its name."""
        assert self._data is not None, "only what was opened can be replaced"
        try:
            return not os.path.samestat(os.fstat(self._data.fileno()), self._data_path.stat())
        except FileNotFoundError:
            return True

    @property
    def _data_path(self) -> Path:
        return self._folder / DATA

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


@contextmanager
def passing_store(key: StoreKey) -> Iterator[Store]:
    """A store that is gone after the block: in the cache's folder, because the system's own may be in memory."""
    home = cache_folder() / "activations"
    home.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=PASSING, dir=home, ignore_cleanup_errors=True) as folder:
        store = Store(Path(folder) / key.what, key)
        try:
            yield store
        finally:
            store.close()


def read_meta(folder: Path) -> dict[str, Any] | None:
    """The facts of a store, or None if there are none that can be read."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return meta if isinstance(meta, dict) and {"what", "parts", "shape", "dtype"} <= meta.keys() else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
