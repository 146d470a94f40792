"""Progress as a person or a log reads it, on stderr. Knows stages and counts, not what they mean."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

from topwork.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

__all__ = ["console_progress", "duration"]

_QUIET_SECONDS = 2.0


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> duration(3.14), duration(59.7), duration(125)
        ('3.1 s', '1 min 0 s', '2 min 5 s')
    """
    if round(seconds, 1) < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s"


@contextmanager
def console_progress(stream: TextIO | None = None) -> Iterator[Progress]:
    """Bars with the remaining time on a terminal, plain lines elsewhere.

    Args:
        stream: where it goes; None is stderr.

    Yields:
        A `Progress` that may be called from any thread.
    """
    target = sys.stderr if stream is None else stream
    if not target.isatty():
        yield _Lines(target)
        return
    bars = _rich_bars(target)
    with bars:
        yield _Bars(bars)


@dataclass
class _Stage:
    """How far one stage is; `started` and `spoken` are seconds of the monotonic clock."""

    started: float
    spoken: float
    first: int
    done: int


@dataclass
class _Lines:
    """One line at the start of a stage, about one for every tenth, and one at its end."""

    stream: TextIO
    stages: dict[str, _Stage] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, stage: str, done: int, total: int) -> None:
        """Print a line where it says something new."""
        with self.lock:
            now = time.monotonic()
            state = self.stages.get(stage)
            if state is None or done < state.done:
                state = self.stages[stage] = _Stage(started=now, spoken=now, first=done, done=done)
                if done < total:
                    self._print(f"{stage}: {total - done} to do")
            elif done == state.done:
                return
            before, state.done = state.done, done
            if done >= total:
                self._print(f"{stage}: {done} of {total} in {duration(now - state.started)}")
            elif done * 10 // total > before * 10 // total and now - state.spoken >= _QUIET_SECONDS:
                state.spoken = now
                left = (now - state.started) / (done - state.first) * (total - done)
                self._print(f"{stage}: {done} of {total}, about {duration(left)} left")

    def say(self, line: str) -> None:
        """Print the sentence."""
        with self.lock:
            self._print(line)

    def _print(self, line: str) -> None:
        with suppress(OSError, ValueError):  # a log that went away must not end the work
            print(line, file=self.stream, flush=True)


@dataclass
class _Bars:
    """One bar a stage, kept with its total time when the stage is over."""

    bars: RichProgress
    tasks: dict[str, TaskID] = field(default_factory=dict)
    reached: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def step(self, stage: str, done: int, total: int) -> None:
        """Move the stage's bar; a stage that begins again gets a new one."""
        with self.lock:
            if done < self.reached.get(stage, done + 1):
                self.tasks[stage] = self.bars.add_task(stage, total=total)
            self.reached[stage] = done
            self.bars.update(self.tasks[stage], completed=done, total=total)

    def say(self, line: str) -> None:
        """Print the sentence above the bars."""
        self.bars.console.print(line, markup=False, highlight=False, soft_wrap=True)


def _rich_bars(stream: TextIO) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    return RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=Console(file=stream),
        redirect_stdout=False,  # data belongs on stdout, whatever stands on the terminal
        redirect_stderr=False,
    )
