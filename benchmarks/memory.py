"""`PeakMemory`: how much memory a process and its children took together. Linux's own accounts where there are any."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

__all__ = ["PeakMemory", "watch_memory"]

_INTERVAL = 0.25  # seconds between two looks


@dataclass
class PeakMemory:
    """Largest sums over a process tree, in bytes; pages that processes share are counted once.

    Args:
        resident: pages in memory (PSS); cached pages of mapped files are among them.
        anonymous: of these, what cannot be dropped and read again from a file; shared memory is among them.
    """

    resident: int = 0
    anonymous: int = 0

    def to_json(self) -> dict[str, int]:
        """`{"resident", "anonymous"}`."""
        return asdict(self)


@contextmanager
def watch_memory(pid: int) -> Iterator[PeakMemory]:
    """Look at a process tree four times a second while the block runs."""
    peak = PeakMemory()
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(pid, peak, over), daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        over.set()
        watcher.join()


def _watch(pid: int, peak: PeakMemory, over: threading.Event) -> None:
    while True:
        found = [_memory(each) for each in _tree(pid)]
        peak.resident = max(peak.resident, sum(resident for resident, _ in found))
        peak.anonymous = max(peak.anonymous, sum(anonymous for _, anonymous in found))
        if over.wait(_INTERVAL):
            return


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _memory(process: psutil.Process) -> tuple[int, int]:
    """Resident and anonymous bytes; nothing of a process that is gone."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        try:
            resident = int(process.memory_info().rss)
        except psutil.Error:
            return 0, 0
        return resident, resident
    found = {name: 1024 * int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    own = found.get("Pss_Anon", found.get("Anonymous", 0)) + found.get("Pss_Shmem", 0)
    return found.get("Pss", 0), own
