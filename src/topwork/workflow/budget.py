"""`Plan`: what a fit does with its minutes. Measured rates in, a printable choice out. Knows no clock and no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from topwork.recipe import Recipe

__all__ = ["Plan", "Rates", "Rung", "choose_plan", "shortest_plan"]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One choice of what trains, with what it costs.

    Args:
        train: as in the recipe's phase 2; `head` where nothing below the head trains.
        depth: how many blocks train; more are preferred where they fit.
        open: seconds until the trunk that ends below them can run; paid only where rows are missing.
        clean: clean rows that no cache holds.
        views: rows of augmented view 1, 2, ... that no cache holds, as many views as recipe and disk allow.
        fresh: new views in every epoch, straight from the trunk; `views` is then empty.
        augmented: whether training takes augmented views; else the clean one.
        train_seconds: of one photo forward and back through what trains.
        judge_seconds: of one photo forward through it.
        prepare: seconds before the first epoch.
        epochs: at most.
    """

    train: str | tuple[str, ...]
    depth: int
    open: float = 0.0
    clean: int = 0
    views: tuple[int, ...] = ()
    fresh: bool = False
    augmented: bool = True
    train_seconds: float = 0.0
    judge_seconds: float = 0.0
    prepare: float = 0.0
    epochs: int = 0


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What this machine does, measured, and how much there is to do.

    Args:
        trunk: rows a second, decoding and augmentation included; > 0.
        fresh: the same of views that are drawn anew in each epoch; None where it is no other.
        photos: that train.
        judged: on which epochs are compared.
        everything: views of all parts that are judged.
        head: seconds of one epoch of phase 1, or of solving the head.
        head_epochs: 1 for a solver.
        fixed: seconds of stages that no choice changes, in their order.
    """

    trunk: float
    fresh: float | None = None
    photos: int
    judged: int
    everything: int
    head: float
    head_epochs: int = 1
    fixed: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a fit is going to do, and how long each stage should take.

    Args:
        train: as in the recipe's phase 2; `head` where nothing below the head trains.
        views: cached augmented views of each photo.
        fresh: new views in every epoch instead.
        epochs: of phase 2.
        head_epochs: of phase 1; 1 for a solver.
        seconds: forecast by stage, in their order.
    """

    train: str | tuple[str, ...]
    views: int
    fresh: bool
    epochs: int
    head_epochs: int
    seconds: Mapping[str, float]

    @property
    def total(self) -> float:
        """Seconds of all stages to come."""
        return sum(self.seconds.values())

    @property
    def epoch_seconds(self) -> float:
        """Of one epoch of phase 2; 0 where there is none."""
        return self.seconds["phase 2"] / self.epochs if self.epochs else 0.0

    @property
    def passes(self) -> int:
        """Views times epochs, the measure of how much training a plan holds."""
        return _passes(self.views, self.epochs, fresh=self.fresh)

    def after(self, stage: str) -> float:
        """Seconds of the stages that follow one."""
        names = list(self.seconds)
        return sum(self.seconds[name] for name in names[names.index(stage) + 1 :])

    def applied(self, recipe: Recipe) -> Recipe:
        """The recipe that carries the plan out, and repeats it without a clock."""
        changes: dict[str, Any] = {"data.views": "fresh" if self.fresh else f"fixed:{self.views}"}
        changes |= {"phase1.replanned": (), "phase2.replanned": ()}
        if recipe.phase1.optimizer != "lbfgs":
            changes["phase1.epochs"] = self.head_epochs
        if recipe.phase2.epochs:
            changes["phase2.epochs"] = self.epochs
        if self.epochs:
            changes["phase2.train"] = self.train
        if not self.views and recipe.phase1.views == "augmented":
            changes["phase1.views"] = "clean"  # there are no others
        return recipe.replace(changes)

    def __str__(self) -> str:
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in self.seconds.items() if seconds >= 0.5)
        if not self.epochs:
            return f"train the head only; {self.total:.0f} s to go ({stages})"
        what = self.train if isinstance(self.train, str) else ", ".join(self.train)
        views = "fresh views" if self.fresh else f"{self.views} views" if self.views else "the clean view"
        return f"{what}, {self.epochs} epochs on {views}; {self.total:.0f} s to go ({stages})"


def choose_plan(rungs: Sequence[Rung], rates: Rates, *, seconds: float) -> Plan | None:
    """The plan that trains most in the time: most views times epochs, then most blocks, then most views.

    What the recipe asks for is the ceiling: more time than it needs is not used. More seconds never give a plan with
    fewer views times epochs, because every plan that fitted still fits.

    Args:
        rungs: what may train; one without blocks is the way out where nothing else fits.
        rates: of this machine.
        seconds: that are left.

    Returns:
        None if not even the shortest plan fits.
    """
    fitting = [(rung, plan) for rung in rungs for plan in _plans(rung, rates) if plan.total <= seconds]
    if fitting:
        return max(fitting, key=lambda pair: (pair[1].passes, pair[0].depth, pair[1].views, -pair[1].total))[1]
    shortest = shortest_plan(rungs, rates)
    if shortest.total > seconds:
        return None
    # The head then trains for fewer epochs, but for as many as fit.
    spare = int((seconds - shortest.total) / max(rates.head, 1e-9))
    head_epochs = min(rates.head_epochs, 1 + spare)
    return replace(shortest, head_epochs=head_epochs, seconds={**shortest.seconds, "phase 1": rates.head * head_epochs})


def shortest_plan(rungs: Sequence[Rung], rates: Rates) -> Plan:
    """The head alone, for one epoch where it is not solved: below this, no budget can be kept."""
    least = min(rungs, key=lambda rung: (rung.depth, rung.clean))
    return _plan(least, replace(rates, head_epochs=1), views=0, epochs=0)


def _plans(rung: Rung, rates: Rates) -> Iterator[Plan]:
    if not rung.depth or not rung.epochs:
        yield from (_plan(rung, rates, views=views, epochs=0) for views in range(len(rung.views) + 1))
        return
    for epochs in range(1, rung.epochs + 1):
        if rung.fresh or not rung.augmented:
            yield _plan(rung, rates, views=0, epochs=epochs)
        else:  # an epoch shows one view of each photo: more views than epochs would never be seen
            for views in range(1, min(len(rung.views), epochs) + 1):
                yield _plan(rung, rates, views=views, epochs=epochs)


def _plan(rung: Rung, rates: Rates, *, views: int, epochs: int) -> Plan:
    rows = rung.clean + sum(rung.views[:views])
    fresh = rung.fresh and epochs > 0
    trunk = rows / rates.trunk + (rung.open if rows or fresh else 0.0)
    epoch = rates.photos * rung.train_seconds + rates.judged * rung.judge_seconds
    epoch += rates.photos / (rates.fresh or rates.trunk) if fresh else 0.0
    shown = 1 if epochs else max(1, views)  # a head on its own learns from every view
    stages = {"trunk": trunk, "phase 1": rates.head * rates.head_epochs * shown}
    if epochs:
        stages["prepare phase 2"] = rung.prepare
        stages["phase 2"] = epochs * epoch
        stages["predict"] = rates.everything * rung.judge_seconds  # or the kernel head's rows, made the same way
    return Plan(
        train=rung.train if epochs else "head",
        views=views,
        fresh=fresh,
        epochs=epochs,
        head_epochs=rates.head_epochs,
        seconds=stages | dict(rates.fixed),
    )


def _passes(views: int, epochs: int, *, fresh: bool) -> int:
    return epochs * (epochs if fresh else max(1, views))
