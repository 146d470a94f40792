"""`Journal`: what a fit writes down while it works, so that a process that was killed can be continued.

History, checkpoints, and `provenance.json` as it grows: when the run began, from what, and every choice that was made
by measuring. What it writes down as history it also tells the trackers. Knows not how any of it comes about.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from topwork.data.manifest import Manifest
from topwork.digest import digest
from topwork.errors import RunError
from topwork.progress import Progress, silent
from topwork.recipe import Recipe
from topwork.timings import Timings
from topwork.tracking.tracker import End, Scalar, Start
from topwork.tracking.trackers import Trackers, final_numbers
from topwork.training.checkpoints import Checkpoints
from topwork.training.history import EpochRecord
from topwork.workflow.provenance import now, versions
from topwork.workflow.rundir import RunDir

__all__ = ["Journal", "digests"]

_CHOICES, _TRACKED = "measured choices", "tracked"


def digests(recipe: Recipe, manifest: Manifest) -> dict[str, str]:
    """What a run rests on."""
    return {
        "manifest": digest([[row.sha256, row.label, row.split] for row in manifest.rows]),
        "recipe": digest(recipe.to_toml()),
    }


class Journal:
    """The notes of one fit.

    Args:
        run: where they go; None writes nothing.
        checkpoints: where training stands; None keeps it in memory.
        facts: of `provenance.json` so far.
        trackers: that are told of it.

    Attributes:
        checkpoints: to train with.
        facts: of `provenance.json` so far.
    """

    def __init__(
        self,
        run: RunDir | None = None,
        *,
        checkpoints: Checkpoints | None = None,
        facts: Mapping[str, Any] | None = None,
        trackers: Trackers | None = None,
    ) -> None:
        self._run = run
        self._trackers = trackers or Trackers()
        self.checkpoints = checkpoints or Checkpoints()
        self.facts: dict[str, Any] = {"started": now(), **(facts or {})}

    @classmethod
    def begin(
        cls,
        run: RunDir,
        recipe: Recipe,
        *,
        manifest: Manifest,
        minutes: float | None,
        trackers: Trackers | None = None,
        progress: Progress = silent,
    ) -> Journal:
        """The journal of a draft: a new one, or the one that a killed process left.

        Raises:
            RunError: if the draft was begun with another recipe, other photos or other minutes, or its checkpoint is
                damaged.
        """
        rests_on: dict[str, Any] = {**digests(recipe, manifest), "minutes": minutes}
        if not run.provenance_file.exists():
            run.write_recipe(recipe)
            manifest.write_csv(run.manifest_file)
            journal = cls(run, checkpoints=Checkpoints(run.checkpoints_folder), trackers=trackers)
            journal._write({"versions": versions(), "rests on": rests_on})
            return journal
        facts = run.provenance()
        if facts["rests on"] != rests_on:
            raise _disagreement(run, recipe, manifest=manifest, minutes=minutes)
        journal = cls(run, checkpoints=Checkpoints(run.checkpoints_folder), facts=facts, trackers=trackers)
        journal._write({"resumed": [*facts.get("resumed", []), now()]})
        epochs = journal.checkpoints.history  # what was written down after the last checkpoint comes again
        written = run.history()[: len(epochs)]
        run.write_history([*written, *epochs[len(written) :]])
        journal._tell(progress)
        return journal

    def closing(self) -> dict[str, Any]:
        """What the finished `provenance.json` keeps of it, and this moment."""
        return {key: value for key, value in self.facts.items() if key != _CHOICES} | {"finished": now()}

    @property
    def planned(self) -> Recipe | None:
        """The recipe that a time budget left, if an earlier process got that far."""
        planned = self.facts.get("planned")
        return None if planned is None else Recipe.model_validate(planned)

    def plan(self, recipe: Recipe, timings: Timings) -> None:
        """Note what a time budget left of the recipe, and follow the choices measured from now on."""
        self.replan(recipe)
        timings.on_choice = self._choices
        self._choices(timings.used)

    def replan(self, recipe: Recipe) -> None:
        """Note what the time has changed of the planned recipe since."""
        self._write({"planned": recipe.model_dump(mode="json", exclude_none=True)})

    def timings(self, path: Path) -> Timings:
        """Measured choices: those of this run first, then those that the machine remembers in a file."""
        timings = Timings(path, decided=self._decided)
        timings.on_choice = self._choices
        return timings

    def follow(self, recipe: Recipe) -> None:
        """Training begins, with this recipe: the trackers open the run, or go on with the one that they have."""
        if self._run is not None:
            start = Start(name=self._run.name, folder=self._run.events_folder, parameters=_parameters(recipe))
            known = self.facts.get(_TRACKED, {})
            if tracked := self._trackers.begin(start, known=known, history=self._run.history()):
                self._write({_TRACKED: tracked})

    def epoch(self, record: EpochRecord) -> None:
        """One more line of `history.jsonl`."""
        if self._run is not None:
            self._run.append_history(record.to_json())
            self._trackers.epoch(record.to_json())

    def complete(self, part: str, scores: Mapping[str, Any], *, model: Path) -> None:
        """Tell the trackers how it ended.

        Args:
            part: whose figures count.
            scores: of that part, as in `evaluation.json`.
            model: where the bundle will be.
        """
        if self._run is not None:
            figures = sorted(self._run.figures_folder.glob("*.png"))
            self._trackers.finish(End(numbers=final_numbers(part, scores), figures=figures, model=model))

    def _choices(self, used: Mapping[str, Any]) -> None:
        self._write({_CHOICES: {**self._decided, **used}})

    @property
    def _decided(self) -> dict[str, Any]:
        # A run that was killed in its last second has them where finished runs do.
        found = self.facts.get(_CHOICES) or self.facts.get("engine", {}).get(_CHOICES)
        return dict(found or {})

    def _write(self, facts: Mapping[str, Any]) -> None:
        self.facts |= facts
        if self._run is not None:
            self._run.write_provenance(self.facts)

    def _tell(self, progress: Progress) -> None:
        done = self.checkpoints.history[-1:]
        where = f"after phase {done[0]['phase']}, epoch {done[0]['epoch']}" if done else "before the first epoch"
        progress.say(f"Continuing the run of {self.facts['started']}, {where}.")
        began, found = self.facts["versions"], versions()
        for name in [name for name in found if began.get(name) != found[name]]:
            progress.say(f"{name} was {began.get(name)} when it began and is {found[name]} now; numbers may differ.")


def _disagreement(run: RunDir, recipe: Recipe, *, manifest: Manifest, minutes: float | None) -> RunError:
    """What differs between the draft and what is asked for now, in one sentence."""
    began = _flat(run.recipe().model_dump()) | {"minutes": run.provenance()["rests on"]["minutes"]}
    asked = _flat(recipe.model_dump()) | {"minutes": minutes}
    for key in [key for key in asked if began.get(key) != asked[key]]:
        return RunError(
            f"The unfinished run in {run.path} began with {key}={began.get(key)!r}; now it is {asked[key]!r}.",
            fix="give the same recipe and settings, or leave --resume out to start again.",
        )
    earlier = {(row.path, row.label, row.split, row.sha256) for row in _rows(run)}
    now_there = {(row.path, row.label, row.split, row.sha256) for row in manifest.rows}
    return RunError(
        f"The photos are not those that the unfinished run in {run.path} began with: "
        f"{len(now_there - earlier)} are new or moved, {len(earlier - now_there)} are gone.",
        fix="put them back as they were, or leave --resume out to start again.",
    )


def _rows(run: RunDir) -> tuple[Any, ...]:
    return Manifest.read_csv(run.manifest_file, root=run.path).rows


def _parameters(recipe: Recipe) -> dict[str, Scalar]:
    """Every choice by its dotted name; lists as text, what is left open is left out."""
    flat = _flat(recipe.model_dump(mode="json", exclude_none=True))
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in flat.items()}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
