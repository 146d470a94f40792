"""`Budget`: a limit in minutes and the clock it is held against; `Pacer`: how epochs keep to it. Knows no plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from topwork.errors import ResourceError
from topwork.progress import Progress
from topwork.recipe import Phase

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from topwork.training.feeds import Feed

__all__ = ["Budget", "OutOfTime", "PacedFeed", "Pacer", "WatchedProgress"]

_AIM = 0.95  # plans fill this share; the rest is for what no forecast sees
_BROKEN = 1.06  # work that would end beyond this share is broken off
_TRUSTED = 0.1  # share of a stage after which its speed says when it ends
_MOST_SLOWDOWN = 4.0


class OutOfTime(ResourceError):
    """A stage would not end in time and was broken off; what it computed is kept where it can be."""


@dataclass(kw_only=True)
class Budget:
    """Minutes that a fit may take, counted from the moment this is made.

    Args:
        minutes: > 0.
        clock: seconds of a clock that never goes back.

    Raises:
        ResourceError: if the minutes are no positive number.
    """

    minutes: float
    clock: Callable[[], float] = time.perf_counter
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.minutes) and self.minutes > 0):
            raise ResourceError(
                f"The minutes of a fit must be a positive number. Got {self.minutes:g}.",
                fix="give e.g. --minutes 5, or leave it out.",
            )
        self._start = self.clock()

    @property
    def limit(self) -> float:
        """Seconds in all."""
        return 60.0 * self.minutes

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.clock() - self._start

    @property
    def to_plan(self) -> float:
        """Seconds that a plan may still fill; may be negative."""
        return _AIM * self.limit - self.elapsed

    def broken(self, seconds: float) -> bool:
        """Whether so many more seconds would break the budget."""
        return self.elapsed + seconds > _BROKEN * self.limit

    def refusal(self, what: str, *, seconds: float) -> OutOfTime:
        """The error for work that needs so many seconds from the start; the sentence begins with `what`."""
        enough = max(0.1, math.ceil(seconds / _AIM / 60 * 10 + 0.5) / 10)
        return OutOfTime(
            f"{what} takes about {seconds / 60:.1f} minutes on this machine; the budget is {self.minutes:g}.",
            fix=f"give --minutes {enough:g}; what was computed already is kept, so that a second run needs less.",
        )


class WatchedProgress:
    """Passes progress on, and breaks a stage off that cannot end in time.

    Args:
        inner: who is told.
        budget: the limit.

    Attributes:
        reserve: seconds that must be left after the running stage.
    """

    def __init__(self, inner: Progress, budget: Budget) -> None:
        self._inner = inner
        self._budget = budget
        self._begun: tuple[str, int, float] = ("", 0, 0.0)
        self.reserve = 0.0

    def step(self, stage: str, done: int, total: int) -> None:
        """See `Progress`; the one implementation that may raise.

        Raises:
            OutOfTime: if at its speed so far the stage would end too late, or it has not begun when time is over.
        """
        self._inner.step(stage, done, total)
        name, first, since = self._begun
        if stage != name or done <= first:
            self._begun = (stage, done, self._budget.elapsed)
            if done < total and self._budget.broken(self.reserve):
                raise OutOfTime(
                    f"The {self._budget.minutes:g} minutes were over before this could begin: {stage}.",
                    fix="run it again; what was computed already is kept, so that it needs less.",
                )
            return
        took, share = self._budget.elapsed - since, (done - first) / max(1, total - first)
        to_come = took * (1 - share) / share
        if share >= _TRUSTED and self._budget.broken(to_come + self.reserve):
            whole = self._budget.elapsed + to_come + self.reserve
            raise self._budget.refusal(f"This fit (slowest now: {stage}, {total} photos)", seconds=whole)

    def say(self, line: str) -> None:
        """See `Progress`."""
        self._inner.say(line)


class Pacer:
    """Takes epochs away where they turn out slower than forecast; may be given to `fit_epochs` as its pace.

    Args:
        budget: the limit.
        epoch: forecast seconds of one epoch, > 0.
        reserve: forecast seconds of all that follows the phase.

    Attributes:
        replanned: (epochs done, epochs in all) of every change, for the recipe.
        on_change: called after each of them.
        done: epochs that are over.
    """

    def __init__(self, budget: Budget, *, epoch: float, reserve: float) -> None:
        self._budget = budget
        self._forecast = max(1e-6, epoch)
        self._reserve = reserve
        self._since = budget.elapsed
        self._took: list[float] = []
        self.replanned: list[tuple[int, int]] = []
        self.on_change: Callable[[], None] = lambda: None
        self.done = 0

    def begin(self, planned: int) -> int:
        """Epochs that there shall be, asked before the first; at least one is tried."""
        self._since = self._budget.elapsed
        return self._planned(planned, epoch=self._forecast, slowdown=1.0, least=1)

    def started(self, phase: Phase) -> Phase:
        """The phase as it begins now, perhaps with fewer epochs than were planned."""
        self.begin(phase.epochs)
        return phase.model_copy(update={"replanned": tuple(self.replanned)})

    def __call__(self, done: int, planned: int) -> int:
        """Epochs that there shall be in all, asked after each."""
        now = self._budget.elapsed
        self._took.append(now - self._since)
        self._since, self.done = now, done
        epoch = max(self._took[-1], sum(self._took) / len(self._took))
        return self._planned(planned, epoch=epoch, slowdown=self._took[-1] / self._forecast, least=0)

    def check(self, share: float) -> None:
        """Look at the clock in the middle of an epoch, of which `share` is done.

        Raises:
            OutOfTime: if the epoch cannot end in time; the epochs before it count.
        """
        if share < _TRUSTED:
            return
        took = self._budget.elapsed - self._since
        slowdown = min(_MOST_SLOWDOWN, max(1.0, took / (share * self._forecast)))
        to_come = took * (1 - share) / share + self._reserve * slowdown
        if self._budget.broken(to_come):
            self._note(self.done)
            raise self._budget.refusal("This epoch", seconds=self._budget.elapsed + to_come)

    def _planned(self, planned: int, *, epoch: float, slowdown: float, least: int) -> int:
        reserve = self._reserve * min(_MOST_SLOWDOWN, max(1.0, slowdown))
        room = self._budget.limit - self._budget.elapsed - reserve
        total = min(planned, self.done + max(least, int(room / max(epoch, 1e-9))))
        if total < planned:
            self._note(total)
        return total

    def _note(self, total: int) -> None:
        self.replanned.append((self.done, total))
        self.on_change()

    @contextmanager
    def cut_short(self) -> Iterator[None]:
        """An epoch that runs out of time in the block ends the phase, and nothing else."""
        try:
            yield
        except OutOfTime:
            return


class PacedFeed:
    """A feed that looks at the clock before every batch.

    Args:
        feed: the batches.
        pacer: who looks.
    """

    def __init__(self, feed: Feed, pacer: Pacer) -> None:
        self._feed = feed
        self._pacer = pacer
        self.steps = feed.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """See `Feed`."""
        for step, batch in enumerate(self._feed.epoch(number, start=start), start=start):
            self._pacer.check(step / self.steps)
            yield batch
