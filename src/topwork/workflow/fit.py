"""`fit`: a folder of labelled photos -> a finished run. Calls the stages in order and writes down what they give."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from topwork.atomic import write_text
from topwork.data.audit import audit
from topwork.data.grouping import grouped
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan, scan
from topwork.data.split import split
from topwork.evaluation.evaluate import Evaluation, evaluate
from topwork.evaluation.report_text import classification_report
from topwork.measures.predictions import Predictions, predictions_csv
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe, split_shares
from topwork.reports.inputs import judged_part
from topwork.tracking.trackers import Trackers
from topwork.training.history import epoch_losses
from topwork.workflow.crossval import cross_validated
from topwork.workflow.draft import draft_of, draft_run, next_run_name
from topwork.workflow.explaining import explain_fitted
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.journal import Journal
from topwork.workflow.outcome import Outcome, provenance_of, write_last_model, write_model
from topwork.workflow.pacing import Budget, WatchedProgress
from topwork.workflow.provenance import command_line
from topwork.workflow.report import write_report
from topwork.workflow.rundir import RunDir
from topwork.workflow.stopwatch import Stopwatch

__all__ = ["Run", "fit"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    Args:
        path: its folder.
        evaluation: the numbers.
    """

    path: Path
    evaluation: Evaluation

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """The finished run in a folder.

        Raises:
            RunError: if there is none.
        """
        run = RunDir.open(path)
        return cls(path=run.path, evaluation=Evaluation.from_json(run.evaluation()))

    @property
    def report(self) -> Path:
        """The page to open."""
        return RunDir(self.path).report_file

    @property
    def model(self) -> Path:
        """The bundle to ship."""
        return RunDir(self.path).model_folder


def fit(
    data: str | Path,
    *,
    recipe: str | Path | Recipe = "default",
    to: str | Path | None = None,
    settings: Sequence[str] = (),
    minutes: float | None = None,
    resume: bool = False,
    track: Sequence[str] = (),
    progress: Progress = silent,
) -> Run:
    """Train, measure and pack a classifier.

    Args:
        data: a folder of class folders, a folder of train/val/test folders, a manifest, or a data set's name.
        recipe: a name, a TOML file, or a `Recipe`.
        to: the run's folder; default `runs/NAME-1` and so on. An earlier run there is replaced when this one is done.
        settings: `KEY=VALUE` changes of the recipe.
        minutes: that all of it may take, > 0; blocks, views and epochs are chosen to fit, never more than the recipe
            asks for. None takes what the recipe takes.
        resume: continue what a killed, interrupted or failed fit with the same recipe, photos and minutes left; the
            result has the same bits on the same machine. A finished run is given back as it is.
        track: tools that shall show the run too: `tensorboard`, `mlflow`, `wandb`. TensorBoard's files are written
            wherever it is installed.
        progress: told how far it is.

    Raises:
        TopworkError: if the data, the recipe, the weights, the machine or the minutes do not allow it. Nothing is left
            behind, unless training had begun: then `resume` continues it.
    """
    watch, trackers = Stopwatch(), Trackers.named(track, progress=progress)
    if resume and to is not None and (finished := _finished(Path(to), progress)):
        return finished
    budget = None if minutes is None else Budget(minutes=minutes)
    chosen = _chosen(recipe, settings)
    watch.stage("scan")
    watched = progress if budget is None else WatchedProgress(progress, budget)
    found = grouped(scan(data, progress=watched), by=chosen.data.group_by)
    manifest = split(found, shares=split_shares(chosen.data.split), seed=chosen.data.seed)
    path = Path(to) if to is not None else next_run_name(found.name)
    with draft_run(path, resume=resume, progress=progress) as run, trackers:
        journal = Journal.begin(run, chosen, manifest=manifest, minutes=minutes, trackers=trackers, progress=progress)
        _audit(run, found, manifest=manifest, progress=progress)
        outcome = fit_manifest(chosen, manifest, watch=watch, journal=journal, budget=budget, progress=progress)
        run.write_recipe(outcome.recipe)  # a budget may have changed it
        if "test" not in outcome.trained.predictions and chosen.data.folds:
            seconds = None if "resumed" in journal.facts else sum(watch.seconds.values())
            watch.stage("cross-validation")
            outcome = _with_folds(outcome, found, run=run, seconds=seconds, budget=budget, progress=progress)
        watch.stage("evaluate")
        evaluation = _evaluation(outcome, manifest, history=run.history(), seconds={})
        run.write_evaluation(evaluation.to_json(), classification_report(evaluation, note=_note(outcome)))
        write_text(run.predictions_file, predictions_csv(outcome.predictions))
        facts = {**journal.closing(), "command": command_line(), "recipe_name": _name_of(recipe)}
        provenance = provenance_of(outcome, found, manifest=manifest) | facts
        watch.stage("pack")
        _pack(run, outcome, provenance=provenance)
        watch.stage("explain")
        explain_fitted(run, manifest=manifest, extractor=outcome.extractor, has_time=not budget, progress=progress)
        watch.stage("report")
        write_report(run, name=path.name, root=manifest.root, seconds=watch.seconds)
        evaluation = _evaluation(outcome, manifest, history=run.history(), seconds=watch.finished())
        _write_times(run, outcome, evaluation=evaluation, provenance=provenance)
        _complete(journal, evaluation, path=path)
    _tell_end(outcome, evaluation, progress=progress)
    return Run(path=path, evaluation=evaluation)


def _finished(path: Path, progress: Progress) -> Run | None:
    """The run with that name, unless a newer one of that name is unfinished."""
    if draft_of(path).exists() or not path.exists():
        return None
    run = Run.open(path)
    progress.say(f"The run {path} is finished; there is nothing to continue.")
    return run


def _pack(run: RunDir, outcome: Outcome, *, provenance: Mapping[str, Any]) -> None:
    write_model(run, outcome, provenance=provenance)
    write_last_model(run, outcome, provenance=provenance)
    run.write_provenance(provenance)


def _name_of(recipe: str | Path | Recipe) -> str:
    return "" if isinstance(recipe, Recipe) else str(recipe)


def _chosen(recipe: str | Path | Recipe, settings: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return load_recipe(recipe, settings)


def _audit(run: RunDir, found: Scan, *, manifest: Manifest, progress: Progress) -> None:
    """Write down what is wrong with the photos, and say how many there are."""
    findings = audit(found)
    run.write_findings([finding.to_json() for finding in findings])
    sizes = ", ".join(f"{len(manifest.part(part))} {part}" for part in ("train", "val", "test"))
    progress.say(
        f"{len(found.records)} photos in {len(found.classes)} classes: {sizes}."
        + (f" {len(findings)} findings, see the report." if findings else "")
    )


def _with_folds(
    outcome: Outcome, found: Scan, *, run: RunDir, seconds: float | None, budget: Budget | None, progress: Progress
) -> Outcome:
    """The outcome with what cross-validation says, unless a time budget leaves no room for it."""
    if budget is not None:
        progress.say("There is no test part, and the minutes leave no room for cross-validation: read with care.")
        return outcome
    judge = _judge(outcome.recipe, run)
    said = cross_validated(outcome.recipe, found, judge=judge, seconds=seconds, progress=progress)
    return replace(outcome, folds=said)


def _judge(recipe: Recipe, run: RunDir) -> Callable[[int, Manifest], Predictions]:
    """Trains on a fold and keeps what is said about its test part, which a continued run reads back."""

    def judge(number: int, manifest: Manifest) -> Predictions:
        if run.fold(number) is None:  # what a killed run left is of the same recipe and photos: the journal has looked
            run.write_fold(number, fit_manifest(recipe, manifest).predictions["test"])
        said = run.fold(number)
        assert said is not None, "a fold that was written can be read"
        return said

    return judge


def _note(outcome: Outcome) -> str:
    """What a reader must know before any number."""
    if outcome.trained.classifier.backbone.provenance.kind != "none":
        return ""
    return "Random weights: the backbone began without any training, so read this as a baseline."


def _evaluation(
    outcome: Outcome, manifest: Manifest, *, history: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]
) -> Evaluation:
    group_of = {row.path: row.group for row in manifest.rows}
    predictions = outcome.predictions
    groups = {name: [group_of[path] for path in part.paths] for name, part in predictions.items()}
    return evaluate(predictions, seconds=seconds, groups=groups, losses=epoch_losses(history))


def _write_times(run: RunDir, outcome: Outcome, *, evaluation: Evaluation, provenance: Mapping[str, Any]) -> None:
    """The evaluation again, now with the seconds of all stages, and beside them what was forecast."""
    paced, numbers = outcome.paced, evaluation.to_json()
    if paced is not None:
        numbers["forecast"] = paced.forecast
        run.write_provenance({**provenance, "budget": paced.to_json(numbers["seconds"])})
    run.write_evaluation(numbers, classification_report(evaluation, note=_note(outcome)))


def _complete(journal: Journal, evaluation: Evaluation, *, path: Path) -> None:
    """Tell the trackers; the run will stand at `path`."""
    numbers = evaluation.to_json()
    part = judged_part(numbers)
    journal.complete(part, numbers["splits"][part], model=RunDir(path.absolute()).model_folder)


def _tell_end(outcome: Outcome, evaluation: Evaluation, *, progress: Progress) -> None:
    """Where there were minutes: forecast and actual; then the headline."""
    if outcome.paced is not None:
        for line in outcome.paced.table(evaluation.seconds):
            progress.say(line)
    progress.say(" ".join(filter(None, [evaluation.headline(), _note(outcome)])))
