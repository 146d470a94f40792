"""`Progress`: how a stage says how far it is. The command line decides how that looks."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives what a stage does; must return quickly and never raise."""

    def step(self, stage: str, done: int, total: int) -> None:
        """`done` of `total` units of `stage` are finished; the first call of a stage may have done = 0."""

    def say(self, line: str) -> None:
        """One plain sentence for the user."""


class _Silent:
    def step(self, stage: str, done: int, total: int) -> None:
        """Say nothing."""

    def say(self, line: str) -> None:
        """Say nothing."""


silent: Progress = _Silent()
