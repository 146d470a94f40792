"""`fit_manifest`: one split -> a trained classifier and what it says of every part. Knows no run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from topwork.data.manifest import PARTS, Manifest
from topwork.progress import Progress, silent
from topwork.recipe import Recipe
from topwork.training.history import KERNEL_PHASE
from topwork.training.imbalance import ImbalanceChoice, choose_imbalance
from topwork.training.parts import Parts, Views
from topwork.workflow.cached_views import all_views, clean_views, head_first, items_of, labelled
from topwork.workflow.journal import Journal
from topwork.workflow.outcome import Outcome, temperature_of
from topwork.workflow.pacing import Budget
from topwork.workflow.planning import Paced, plan_fit
from topwork.workflow.prepare import Network, extractor_for, network_for
from topwork.workflow.stopwatch import Stopwatch
from topwork.workflow.training import Experiment, train

if TYPE_CHECKING:
    from topwork.training.extraction import Extractor
    from topwork.training.history import EpochRecord

__all__ = ["experiment_for", "fit_manifest", "weighed_experiment"]


def fit_manifest(
    recipe: Recipe,
    manifest: Manifest,
    *,
    watch: Stopwatch | None = None,
    journal: Journal | None = None,
    budget: Budget | None = None,
    progress: Progress = silent,
) -> Outcome:
    """Train on one split; used by `fit` and by cross-validation.

    Args:
        recipe: the choices.
        manifest: the photos and their parts.
        watch: gets the stages' times.
        journal: what it writes down, and goes on from.
        budget: time that is left; None takes what the recipe takes.
        progress: told how far it is.
    """
    watch, journal, paced = watch or Stopwatch(), journal or Journal(), None
    recipe = journal.planned or recipe
    if budget is None or journal.planned is not None:
        watch.stage("network")
        network = network_for(recipe)
        extractor = extractor_for(recipe, network, progress=progress, choices=journal.timings)
        watch.stage("trunk")
    else:
        paced = _paced(recipe, manifest, watch=watch, budget=budget, progress=progress)
        recipe, network, extractor = paced.recipe, paced.network, paced.extractor
        journal.plan(recipe, extractor.timings)
        paced.tell(lambda: journal.replan(paced.recipe))
    for number, plan in network.plans.items():
        progress.say(f"Phase {number}: {plan}.")
    experiment = experiment_for(recipe, manifest, network=network, extractor=extractor, paced=paced, progress=progress)
    if not len(experiment.parts.val):
        progress.say("There is no validation part: epochs are compared on training photos, which favours overfitting.")
    experiment, weighed = weighed_experiment(replace(experiment, checkpoints=journal.checkpoints), progress=progress)
    journal.follow(paced.recipe if paced else recipe)
    judged = "validation" if len(experiment.parts.val) else "training"
    on_epoch = _epoch_log(recipe, journal, judged=judged, progress=progress)
    trained = train(experiment, on_epoch=on_epoch, on_phase=watch.stage)
    return Outcome(
        recipe=paced.recipe if paced else recipe,
        trained=trained,
        temperature=temperature_of(trained.predictions.get("val")),
        extractor=extractor,
        network=network,
        paced=paced,
        weighed=weighed,
    )


def weighed_experiment(experiment: Experiment, *, progress: Progress) -> tuple[Experiment, ImbalanceChoice | None]:
    """The experiment with what is done about unequal classes, where the recipe leaves that open."""
    if experiment.recipe.loss.imbalance != "auto":
        return experiment, None
    weighed = choose_imbalance(experiment.recipe, experiment.pooled, parts=experiment.parts)
    progress.say(f"{weighed}.")
    recipe = experiment.recipe.replace({"loss.imbalance": weighed.chosen.imbalance})
    return replace(experiment, recipe=recipe), weighed


def experiment_for(
    recipe: Recipe,
    manifest: Manifest,
    *,
    network: Network,
    extractor: Extractor,
    paced: Paced | None = None,
    progress: Progress = silent,
) -> Experiment:
    """Everything that training reads; computes the rows that no cache holds, or those that phase 1 needs.

    Args:
        recipe: the choices.
        manifest: the photos and their parts.
        network: with the plan of phase 2.
        extractor: of that network.
        paced: how a time budget is kept.
        progress: told how far it is.
    """
    first = ("train", "val") if head_first(recipe, network) else ()
    others = tuple(part for part in PARTS if part not in first)

    def rest() -> tuple[Views, Views | None]:
        clean = clean_views(recipe, extractor, manifest=manifest, parts=others)  # in the stores of the first ones
        found = all_views(recipe, extractor, manifest=manifest, clean=clean, progress=progress)
        extractor.close()  # what it needs is memory that training can use
        progress.say(
            f"Trunk: {extractor.work.computed} views computed in {extractor.work.seconds:.1f} s, "
            f"{extractor.work.cached} from the cache{'' if extractor.work.computed else '; no trunk work'}."
        )
        return found

    pooled, activations = clean_views(recipe, extractor, manifest=manifest, parts=first) if first else rest()
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
        rest=rest if first else None,
    )


def _paced(recipe: Recipe, manifest: Manifest, *, watch: Stopwatch, budget: Budget, progress: Progress) -> Paced:
    """A plan for the minutes, with the rows that it needs in the cache."""
    watch.stage("network")
    network = network_for(recipe)
    watch.stage("calibrate")
    paced = plan_fit(recipe, network, manifest=manifest, budget=budget, progress=progress)
    watch.stage("trunk")
    paced.fill(manifest, progress=progress)
    return paced


def _epoch_log(recipe: Recipe, journal: Journal, *, judged: str, progress: Progress) -> Callable[[EpochRecord], None]:
    """What happens to each epoch's record: a line of `history.jsonl`, and a line for the user.

    Args:
        recipe: the choices.
        journal: gets the record.
        judged: the photos that epochs are compared on, `validation` or `training`.
        progress: gets the line.
    """
    most = {1: recipe.phase1.epochs, 2: recipe.phase2.epochs}

    def on_epoch(record: EpochRecord) -> None:
        journal.epoch(record)
        if not record.note:  # steps of a solver's path are no epochs
            progress.step(f"phase {record.phase}", record.epoch, most[record.phase])
        stage = "kernel head" if record.phase == KERNEL_PHASE else f"phase {record.phase}"
        progress.say(
            f"{stage}, {record.note or f'epoch {record.epoch}'}: training loss {record.train.loss:.3f}, {judged} "
            f"accuracy {record.val.accuracy:.3f}, macro-F1 {record.val.f1:.3f}{', best so far' if record.kept else ''}"
        )

    return on_epoch
