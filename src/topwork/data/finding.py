"""`Finding`: one thing wrong with the data, what shows it, and what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Finding", "Severity"]

Severity = Literal["error", "warning", "info"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing wrong.

    Args:
        kind: stable name with underscores, e.g. `unreadable`, `exact_duplicate`, `label_conflict`.
        severity: `error` must be fixed, `warning` should be looked at, `info` is good to know.
        files: POSIX paths relative to the data folder, sorted; may be empty for findings about a class.
        evidence: one sentence with the values that show it.
        remedy: one imperative clause.
    """

    kind: str
    severity: Severity
    files: tuple[str, ...]
    evidence: str
    remedy: str

    def to_json(self) -> dict[str, Any]:
        """Plain values for `findings.json`."""
        return {**asdict(self), "files": list(self.files)}
