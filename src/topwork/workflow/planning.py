"""`Paced`: a fit that keeps to its minutes. It calibrates, plans, fills the cache in steps, and compares at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from topwork.data.manifest import Manifest
from topwork.errors import RecipeError
from topwork.progress import Progress
from topwork.recipe import Recipe
from topwork.workflow.budget import Plan, Rates, Rung, choose_plan, shortest_plan
from topwork.workflow.cached_views import clean_items, items_of
from topwork.workflow.calibrate import Candidate, calibrate, candidates_of
from topwork.workflow.pacing import Budget, OutOfTime, Pacer, WatchedProgress
from topwork.workflow.prepare import Network

if TYPE_CHECKING:
    from topwork.training.extraction import Extractor

__all__ = ["Paced", "plan_fit"]

_VIEWS_AT_ONCE = 2  # each photo is decoded once for them; between them the plan is made again


@dataclass(kw_only=True, eq=False)
class Paced:
    """What is going to be done in the time, changed as the clock goes.

    Args:
        budget: the limit.
        candidates: what may train; the last one is the head alone.
        rungs: what each candidate costs.
        rates: of this machine.
        first: the plan made before any of it.
        plan: the plan now.
    """

    budget: Budget
    candidates: list[Candidate]
    rungs: list[Rung]
    rates: Rates
    first: Plan
    plan: Plan
    pacers: dict[int, Pacer] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The choices as they stand; with the epochs that were taken away, once training is over."""
        recipe = self.plan.applied(self._chosen.recipe)
        phases = {f"phase{number}.replanned": pacer.replanned for number, pacer in self.pacers.items()}
        return recipe.replace(phases)

    @property
    def network(self) -> Network:
        """Of the candidate that was chosen."""
        return self._chosen.network

    @property
    def extractor(self) -> Extractor:
        """Of the candidate that was chosen."""
        return self._chosen.extractor

    def tell(self, on_change: Callable[[], None]) -> None:
        """Call this whenever epochs are given up: who continues a stopped run must know."""
        for pacer in self.pacers.values():
            pacer.on_change = on_change

    def fill(self, manifest: Manifest, *, progress: Progress) -> None:
        """Compute the rows that the plan needs; after every few views the rest is planned again.

        Raises:
            OutOfTime: if not even the clean rows can be had in time.
        """
        watched = WatchedProgress(progress, self.budget)
        watched.reserve = shortest_plan(self.rungs, self.rates).after("trunk")
        extractor, wanted = self.extractor, self.network.plan is not None
        extractor.progress = watched
        extractor.extract(clean_items(self._chosen.recipe, manifest), augment=None, activations=wanted)
        watched.reserve += self.plan.epoch_seconds
        done, augment = 0, self.recipe.data.augment
        self._replan(done)
        while done < self.plan.views:
            upto = min(done + _VIEWS_AT_ONCE, self.plan.views)
            items = items_of(manifest, manifest.part("train"), views=range(done + 1, upto + 1))
            try:
                extractor.extract(items, augment=augment, activations=wanted)
            except OutOfTime:
                self._replan(done, most=done)
                break
            done = upto
            self._replan(done)
        extractor.progress = progress
        self._set_pacers()

    def _replan(self, done: int, *, most: int | None = None) -> None:
        """Plan what is left, with so many views cached, at the speed that the trunk really has."""
        work = self.extractor.work
        if work.computed and work.seconds > 0:
            self.rates = replace(self.rates, trunk=work.computed / work.seconds)
        rungs = []
        for rung, candidate in zip(self.rungs, self.candidates, strict=True):
            views = tuple(0 if view < done else missing for view, missing in enumerate(rung.views[:most]))
            if candidate is self._chosen:
                rungs.append(replace(rung, clean=0, open=0.0, views=views))
            elif not rung.depth:  # its features came with the activations
                rungs.append(replace(rung, clean=0, open=0.0, views=()))
        left = self.budget.limit - self.budget.elapsed
        plan = choose_plan(rungs, self.rates, seconds=left) or shortest_plan(rungs, self.rates)
        if plan.epochs or not self._chosen.depth:
            self.plan = plan
            return
        head, rung = self.candidates[-1], next(rung for rung in rungs if not rung.depth)
        head.extractor.work = work
        self.candidates, self.rungs, self.plan = [head], [rung], plan

    @property
    def _chosen(self) -> Candidate:
        for rung, candidate in zip(self.rungs, self.candidates, strict=True):
            if rung.train == self.plan.train and bool(rung.depth) == bool(self.plan.epochs):
                return candidate
        return self.candidates[-1]

    def _set_pacers(self) -> None:
        plan, phase1 = self.plan, self.candidates[0].recipe.phase1
        if phase1.optimizer != "lbfgs":
            self.pacers[1] = Pacer(self.budget, epoch=self.rates.head, reserve=plan.after("phase 1"))
        if plan.epochs:
            self.pacers[2] = Pacer(self.budget, epoch=plan.epoch_seconds, reserve=plan.after("phase 2"))

    def table(self, actual: Mapping[str, float]) -> list[str]:
        """Forecast against actual, a line a stage."""
        lines = [f"{'stage':<16} forecast   actual"]
        for stage, seconds in actual.items():
            forecast = self.forecast.get(stage)
            lines.append(f"{stage:<16} {'' if forecast is None else f'{forecast:.1f} s':>8} {f'{seconds:.1f} s':>8}")
        return lines

    @property
    def forecast(self) -> dict[str, float]:
        """Seconds by stage as planned at first; what was over by then has none."""
        return {stage: round(seconds, 3) for stage, seconds in self.first.seconds.items()}

    def to_json(self, actual: Mapping[str, float]) -> dict[str, Any]:
        """For `provenance.json`."""
        trunk = self.rates.trunk
        return {
            "minutes": self.budget.minutes,
            "plan": str(self.first),
            "changed": {f"phase {number}": pacer.replanned for number, pacer in self.pacers.items()},
            "rates": {
                "trunk images/s": None if trunk == float("inf") else round(trunk, 1),
                "top images/s": {
                    str(rung.train): round(1 / rung.train_seconds, 1) for rung in self.rungs if rung.train_seconds
                },
                "head seconds": round(self.rates.head * self.rates.head_epochs, 3),
            },
            "forecast": self.forecast,
            "actual": dict(actual),
        }


def plan_fit(recipe: Recipe, network: Network, *, manifest: Manifest, budget: Budget, progress: Progress) -> Paced:
    """Time a few batches and choose what to do with the rest of the time.

    Raises:
        OutOfTime: if not even the head alone can be trained in it.
        RecipeError: if phase 1 does not train the head on cached features, which is what a plan falls back to.
    """
    if not network.features:
        raise RecipeError(
            "A time budget needs a phase 1 that trains the head on cached features; this recipe has none.",
            fix="leave --minutes out and set the epochs, or set phase1.train=head.",
        )
    candidates = candidates_of(recipe, network, progress=WatchedProgress(progress, budget))
    rungs, rates = calibrate(candidates, manifest)
    plan = choose_plan(rungs, rates, seconds=budget.to_plan)
    if plan is None:
        least = budget.elapsed + shortest_plan(rungs, rates).total
        raise budget.refusal(f"Even training the head alone on these {len(manifest.rows)} photos", seconds=least)
    for candidate in candidates:
        candidate.extractor.progress = progress
    paced = Paced(budget=budget, candidates=candidates, rungs=rungs, rates=rates, first=plan, plan=plan)
    progress.say(f"Budget of {budget.minutes:g} minutes, {budget.elapsed:.0f} s used: {plan}.")
    return paced
