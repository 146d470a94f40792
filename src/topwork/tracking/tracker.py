"""`Tracker`: what a tool that shows runs is told. Knows no such tool, no run folder and no training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["End", "Opened", "Scalar", "Start", "Tracker"]

Scalar = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is known before the first epoch.

    Args:
        name: of the run.
        folder: for a tracker that keeps files with the run; made by the tracker.
        parameters: of the recipe, e.g. `phase2.lr`.
        known: the identity that the same tracker gave when this run began; empty for a new run.
    """

    name: str
    folder: Path
    parameters: Mapping[str, Scalar]
    known: str = ""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """How a tracker calls the run.

    Args:
        identity: by which a later process finds it again.
        continued: whether it has the earlier epochs already.
        where: to look at it, for people; empty where that goes without saying.
    """

    identity: str
    continued: bool
    where: str = ""


@dataclass(frozen=True, kw_only=True)
class End:
    """What is known at the end.

    Args:
        numbers: of the part that counts, e.g. `test/accuracy`, `test/accuracy_low`, `test/accuracy_high`.
        figures: PNG files, readable until `finish` returns.
        model: the folder that the bundle will have.
    """

    numbers: Mapping[str, float]
    figures: Sequence[Path]
    model: Path


class Tracker(Protocol):
    """One tool. Any method may raise anything; nothing is called after that."""

    def begin(self, start: Start) -> Opened:
        """Open a run, or go on with the known one."""

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One line of the history; steps count from 1 through all phases."""

    def finish(self, end: End) -> None:
        """The run is complete."""

    def stop(self) -> None:
        """The run was broken off; `begin` was called, `finish` was not."""
