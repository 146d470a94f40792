"""`Stopwatch`: wall seconds of the stages of a fit. Knows no stage."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

__all__ = ["Stopwatch"]


@dataclass
class Stopwatch:
    """Wall seconds by stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)
    _started: float = field(default_factory=time.perf_counter)
    _stage: str | None = None
    _since: float = 0.0

    def stage(self, name: str | None) -> None:
        """End the running stage and begin another."""
        moment = time.perf_counter()
        if self._stage is not None:
            self.seconds[self._stage] = self.seconds.get(self._stage, 0.0) + moment - self._since
        self._stage, self._since = name, moment

    def finished(self) -> dict[str, float]:
        """Seconds of every stage, rounded, and `total`."""
        self.stage(None)
        total = time.perf_counter() - self._started
        return {name: round(value, 3) for name, value in (self.seconds | {"total": total}).items()}
