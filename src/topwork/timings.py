"""`Timings`: choices made by measuring, kept so that a machine measures once and a repeat chooses the same."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from topwork.atomic import write_json
from topwork.cores import CORES
from topwork.digest import digest

__all__ = ["Timings", "cpu_name", "machine_digest"]


@cache
def cpu_name() -> str:
    """The processor's marketing name, or the architecture where the system does not tell."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def machine_digest() -> str:
    """A short name of this machine's speed: processor and number of usable cores."""
    return digest(cpu_name(), CORES)[:16]


class Timings:
    """Measured choices, remembered per machine.

    Args:
        path: the JSON file that remembers; an unreadable one is measured anew.
        decided: choices of an unfinished run, as its `used`; they count, whatever this machine remembers or measures.

    Attributes:
        on_choice: told of `used` after each choice, before the work that rests on it begins.
        used: every choice this object was asked for, by name: `{"picked": ..., "seconds": {candidate: s}}`;
            goes into `provenance.json`.
    """

    def __init__(self, path: Path, *, decided: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self._path = path
        self._known = _read(path)
        self._decided = dict(decided or {})
        self.on_choice: Callable[[Mapping[str, Any]], None] | None = None
        self.used: dict[str, dict[str, Any]] = {}

    def pick(self, what: str, key: str, *, candidates: Mapping[str, Callable[[], float]]) -> str:
        """The fastest candidate: the remembered one, or measured now.

        Args:
            what: name of the choice, e.g. `trunk streams`.
            key: digest of everything the timing depends on besides the machine.
            candidates: name -> function that does the work once and returns seconds, > 0.
        """
        name = f"{machine_digest()}/{what}/{key}"
        entry: Any = self._decided.get(what)
        if not isinstance(entry, Mapping) or entry.get("picked") not in list(candidates):
            entry = self._known.get(name)
        if not isinstance(entry, dict) or entry.get("picked") not in list(candidates):
            seconds = {candidate: round(measure(), 6) for candidate, measure in candidates.items()}
            entry = {"picked": min(seconds, key=lambda candidate: seconds[candidate]), "seconds": seconds}
            self._known = {**_read(self._path), name: entry}  # another process may have measured meanwhile
            write_json(self._path, self._known)
        return self._note(what, dict(entry))

    def settle(self, what: str, choose: Callable[[], str]) -> str:
        """A choice that depends on the machine's state, such as its free disk: the decided one, or made now."""
        entry = self._decided.get(what)
        return self._note(what, {"picked": choose()} if entry is None else dict(entry))

    def _note(self, what: str, entry: dict[str, Any]) -> str:
        self.used[what] = entry
        if self.on_choice is not None:
            self.on_choice(self.used)
        return str(entry["picked"])


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
