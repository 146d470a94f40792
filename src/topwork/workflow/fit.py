"""`fit`: a folder of labelled photos -> a finished run. Calls the stages in order and writes down what they give."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topwork.atomic import write_text
from topwork.data.audit import audit
from topwork.data.grouping import grouped
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan, scan
from topwork.data.split import split
from topwork.digest import digest
from topwork.evaluation.evaluate import Evaluation, evaluate
from topwork.evaluation.report_text import classification_report
from topwork.measures.calibration import fit_temperature
from topwork.measures.predictions import Predictions, predictions_csv
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe, split_shares
from topwork.training.history import KERNEL_PHASE, epoch_losses
from topwork.training.imbalance import ImbalanceChoice, choose_imbalance
from topwork.training.phases import Parts
from topwork.workflow.crossval import cross_validated
from topwork.workflow.explaining import explain_fitted
from topwork.workflow.pacing import Budget, WatchedProgress
from topwork.workflow.planning import Paced, plan_fit
from topwork.workflow.prepare import Network, activation_views, extractor_for, items_of, labelled, network_for
from topwork.workflow.provenance import command_line, hardware, now, versions
from topwork.workflow.report import write_report
from topwork.workflow.rundir import RunDir, draft_run, next_run_name
from topwork.workflow.training import Experiment, Trained, train

if TYPE_CHECKING:
    from topwork.training.extraction import Extractor
    from topwork.training.history import EpochRecord

__all__ = ["Outcome", "Run", "fit", "fit_manifest", "provenance_of", "write_model"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run.

    Args:
        path: its folder.
        evaluation: the numbers.
    """

    path: Path
    evaluation: Evaluation

    @property
    def report(self) -> Path:
        """The page to open."""
        return RunDir(self.path).report_file

    @property
    def model(self) -> Path:
        """The bundle to ship."""
        return RunDir(self.path).model_folder


@dataclass
class _Stopwatch:
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What training on one manifest gives, before anything is written; `recipe` is what was carried out."""

    recipe: Recipe
    trained: Trained
    temperature: float
    extractor: Extractor
    network: Network
    paced: Paced | None = None
    weighed: ImbalanceChoice | None = None
    folds: Predictions | None = None

    @property
    def predictions(self) -> dict[str, Predictions]:
        """By part, with the temperature applied; `cv` is cross-validation, each fold at its own temperature."""
        own = {name: part.at_temperature(self.temperature) for name, part in self.trained.predictions.items()}
        return own if self.folds is None else own | {"cv": self.folds}


def fit(
    data: str | Path,
    *,
    recipe: str | Path | Recipe = "default",
    to: str | Path | None = None,
    settings: Sequence[str] = (),
    minutes: float | None = None,
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
        progress: told how far it is.

    Raises:
        TopworkError: if the data, the recipe, the weights, the machine or the minutes do not allow it; nothing is left
            behind.
    """
    watch, started = _Stopwatch(), now()
    budget = None if minutes is None else Budget(minutes=minutes)
    chosen = _chosen(recipe, settings)
    watch.stage("scan")
    watched = progress if budget is None else WatchedProgress(progress, budget)
    found = grouped(scan(data, progress=watched), by=chosen.data.group_by)
    manifest = split(found, shares=split_shares(chosen.data.split), seed=chosen.data.seed)
    path = Path(to) if to is not None else next_run_name(found.name)
    with draft_run(path) as run:
        run.write_recipe(chosen)
        manifest.write_csv(run.manifest_file)
        findings = audit(found)
        run.write_findings([finding.to_json() for finding in findings])
        _tell(found, manifest, findings=len(findings), progress=progress)
        outcome = fit_manifest(chosen, manifest, watch=watch, run=run, budget=budget, progress=progress)
        run.write_recipe(outcome.recipe)  # a budget may have changed it
        if "test" not in outcome.trained.predictions and chosen.data.folds:
            seconds = None if budget else sum(watch.seconds.values())
            watch.stage("cross-validation")
            said = cross_validated(chosen, found, judge=_judge(chosen), seconds=seconds, progress=progress)
            outcome = replace(outcome, folds=said)
        watch.stage("evaluate")
        evaluation = _evaluation(outcome, manifest, history=run.history(), seconds={})
        run.write_evaluation(evaluation.to_json(), classification_report(evaluation, note=_note(outcome)))
        write_text(run.predictions_file, predictions_csv(outcome.predictions))
        name = "" if isinstance(recipe, Recipe) else str(recipe)
        facts = {"started": started, "command": command_line(), "recipe_name": name, "finished": now()}
        provenance = provenance_of(outcome, found, manifest=manifest) | facts
        watch.stage("pack")
        write_model(run, outcome, provenance=provenance)
        run.write_provenance(provenance)
        watch.stage("explain")
        explain_fitted(run, manifest=manifest, extractor=outcome.extractor, brief=not budget, progress=progress)
        watch.stage("report")
        write_report(run, name=path.name, root=manifest.root, seconds=watch.seconds)
        evaluation = _evaluation(outcome, manifest, history=run.history(), seconds=watch.finished())
        _write_times(run, outcome, evaluation=evaluation, provenance=provenance)
    _tell_times(outcome, evaluation, progress=progress)
    progress.say(" ".join(filter(None, [evaluation.headline(), _note(outcome)])))
    return Run(path=path, evaluation=evaluation)


def fit_manifest(
    recipe: Recipe,
    manifest: Manifest,
    *,
    watch: Any = None,
    run: RunDir | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Train on one split; used by `fit` and by cross-validation.

    Args:
        recipe: the choices.
        manifest: the photos and their parts.
        watch: gets the stages' times.
        run: gets `history.jsonl` as it grows.
        budget: time that is left; None takes what the recipe takes.
        progress: told how far it is.
    """
    watch = watch or _Stopwatch()
    paced = None
    if budget is None:
        watch.stage("network")
        network = network_for(recipe)
        extractor = extractor_for(recipe, network, progress=progress)
        watch.stage("trunk")
    else:
        paced = _paced(recipe, manifest, watch=watch, budget=budget, progress=progress)
        recipe, network, extractor = paced.recipe, paced.network, paced.extractor
    for number, plan in network.plans.items():
        progress.say(f"Phase {number}: {plan}.")
    experiment = _experiment(recipe, manifest, network=network, extractor=extractor, paced=paced, progress=progress)
    weighed = None
    if recipe.loss.imbalance == "auto":
        weighed = choose_imbalance(recipe, experiment.pooled, parts=experiment.parts)
        progress.say(f"{weighed}.")
        experiment = replace(experiment, recipe=recipe.replace({"loss.imbalance": weighed.chosen.imbalance}))
    trained = train(experiment, on_epoch=_epoch_log(recipe, run, progress=progress), on_phase=watch.stage)
    val = trained.predictions.get("val")
    temperature = fit_temperature(val) if val is not None else 1.0
    return Outcome(
        recipe=paced.recipe if paced else recipe,
        trained=trained,
        temperature=temperature,
        extractor=extractor,
        network=network,
        paced=paced,
        weighed=weighed,
    )


def _experiment(
    recipe: Recipe,
    manifest: Manifest,
    *,
    network: Network,
    extractor: Extractor,
    paced: Paced | None,
    progress: Progress,
) -> Experiment:
    """Everything that training reads; computes the rows that no cache holds."""
    pooled, activations = activation_views(recipe, extractor, manifest=manifest, progress=progress)
    extractor.close()  # what it needs is memory that training can use
    progress.say(
        f"Trunk: {extractor.work.computed} views computed in {extractor.work.seconds:.1f} s, "
        f"{extractor.work.cached} from the cache{'' if extractor.work.computed else '; no trunk work'}."
    )
    return Experiment(
        recipe=recipe,
        network=network,
        extractor=extractor,
        pooled=pooled,
        activations=activations,
        parts=Parts(
            train=labelled(manifest, "train"),
            val=labelled(manifest, "val"),
            test=labelled(manifest, "test"),
            classes=manifest.classes,
        ),
        items=items_of(manifest, manifest.part("train")),
        pacers=paced.pacers if paced else {},
    )


def _paced(recipe: Recipe, manifest: Manifest, *, watch: Any, budget: Budget, progress: Progress) -> Paced:
    """A plan for the minutes, with the rows that it needs in the cache."""
    watch.stage("network")
    network = network_for(recipe)
    watch.stage("calibrate")
    paced = plan_fit(recipe, network, manifest=manifest, budget=budget, progress=progress)
    watch.stage("trunk")
    paced.fill(manifest, progress=progress)
    return paced


def _epoch_log(recipe: Recipe, run: RunDir | None, *, progress: Progress) -> Callable[[EpochRecord], None]:
    """What happens to each epoch's record: a line of `history.jsonl`, and a line for the user."""
    most = {1: recipe.phase1.epochs, 2: recipe.phase2.epochs}

    def on_epoch(record: EpochRecord) -> None:
        if run is not None:
            run.append_history(record.to_json())
        if not record.note:  # steps of a solver's path are no epochs
            progress.step(f"phase {record.phase}", record.epoch, most[record.phase])
        stage = "kernel head" if record.phase == KERNEL_PHASE else f"phase {record.phase}"
        progress.say(
            f"{stage}, {record.note or f'epoch {record.epoch}'}: loss {record.train.loss:.3f}, "
            f"validation accuracy {record.val.accuracy:.3f}, macro-F1 {record.val.f1:.3f}{' *' if record.kept else ''}"
        )

    return on_epoch


def _chosen(recipe: str | Path | Recipe, settings: Sequence[str]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipe
    return load_recipe(recipe, settings)


def _tell(found: Scan, manifest: Manifest, *, findings: int, progress: Progress) -> None:
    sizes = ", ".join(f"{len(manifest.part(part))} {part}" for part in ("train", "val", "test"))
    progress.say(
        f"{len(found.records)} photos in {len(found.classes)} classes: {sizes}."
        + (f" {findings} findings, see the report." if findings else "")
    )


def _judge(recipe: Recipe) -> Callable[[Manifest], Predictions]:
    return lambda manifest: fit_manifest(recipe, manifest).predictions["test"]


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


def _tell_times(outcome: Outcome, evaluation: Evaluation, *, progress: Progress) -> None:
    if outcome.paced is not None:
        for line in outcome.paced.table(evaluation.seconds):
            progress.say(line)


def write_model(run: RunDir, outcome: Outcome, *, provenance: Mapping[str, Any]) -> None:
    """Write the bundle of an outcome into a run.

    Args:
        run: whose model it becomes.
        outcome: what training gave.
        provenance: from `provenance_of`, with `finished` and `recipe_name`.
    """
    from topwork.exports.bundle import BundleFacts, write_bundle

    recipe = outcome.recipe
    facts = BundleFacts(
        classes=tuple(provenance["data"]["classes"]),
        head=recipe.head,
        temperature=outcome.temperature,
        precision=provenance["engine"]["precision"],
        plan=provenance["plan"],
        recipe=recipe.model_dump(mode="json"),
        provenance={key: provenance[key] for key in ("versions", "digests", "finished", "recipe_name")},
    )
    write_bundle(run.model_folder, outcome.trained.classifier, facts=facts)


def provenance_of(outcome: Outcome, found: Scan, *, manifest: Manifest) -> dict[str, Any]:
    """Where the numbers of an outcome come from: the content of `provenance.json` but for times and names."""
    recipe, extractor = outcome.recipe, outcome.extractor
    facts = extractor.facts([])
    backbone = outcome.trained.classifier.backbone
    return {
        "versions": versions(),
        "hardware": hardware(),
        "seeds": {"data": recipe.data.seed},
        "data": {
            "name": found.name,
            "root": str(found.root),
            "photos": len(manifest.rows),
            "classes": list(manifest.classes),
        },
        "backbone": {"name": backbone.name, **backbone.provenance.to_json()},
        "engine": {
            "name": facts.engine,
            "precision": facts.precision,
            "version": facts.version,
            "parity": facts.parity,
            "measured choices": extractor.timings.used,
        },
        "cache": {"computed": extractor.work.computed, "cached": extractor.work.cached},
        "plan": "; then ".join(map(str, outcome.network.plans.values())) or "train the head",
        "temperature": outcome.temperature,
        **({"imbalance": outcome.weighed.to_json()} if outcome.weighed else {}),
        "digests": {
            "manifest": digest([[row.sha256, row.label, row.split] for row in manifest.rows]),
            "recipe": digest(recipe.to_toml()),
        },
    }
