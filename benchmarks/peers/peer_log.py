"""What a peer writes down, a JSON line an event. Standard library only: it runs in the environment of every peer.

    {"event": "start", "at": T, "peer": name}                                           by the driver, before exec
    {"event": "versions", "at": T, "versions": {package: version}}
    {"event": "epoch", "at": T, "phase": "frozen" | "fine-tuning", "epoch": 1, "val_accuracy": 0.91,
     "images": n, "seconds": s}                                                         the last two may be absent
    {"event": "rate", "at": T, "phase": ..., "images": n, "seconds": s}                 where no epoch tells the rate
    {"event": "test", "at": T, "predicted": {path: label}}
    {"event": "end", "at": T, "exit": 0, "memory": {"resident": bytes, "anonymous": bytes}, "load": l}   by the driver

`at` is wall-clock time in seconds since 1970; seconds of the process are counted from the event `start`.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any


class Log:
    """Appends events to a file, each written at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, event: str, *, at: float | None = None, **facts: Any) -> None:
        """Add an event that happened at a time, by default now."""
        line = {"event": event, "at": time.time() if at is None else at, **facts}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All events; a line that a kill cut short ends them."""
        events: list[dict[str, Any]] = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else ():
            try:
                events.append(json.loads(line))
            except ValueError:
                break
        return events


class Stopwatch:
    """Seconds since it was made or last read."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds


def opened(*packages: str) -> tuple[dict[str, Any], Log]:
    """The plan and the log that the driver named on the command line: `PEER.py PLAN.json LOG.jsonl`.

    Args:
        packages: whose versions are written down.
    """
    plan = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    log = Log(Path(sys.argv[2]))
    log.write("versions", versions={package: metadata.version(package) for package in packages})
    return plan, log
