"""`compare`: several recipes and the baseline ladder on the same folds -> one table, paired tests, one page.

Every photo is judged once a seed by a model that saw neither it nor its group. Folds do not depend on the seed, so
predictions stay paired; the seed moves what chance decides in training. What is done is stored and not done again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from topwork.atomic import write_json, write_text
from topwork.data.grouping import grouped
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan, scan
from topwork.data.split import folds as fold_manifests
from topwork.errors import RecipeError, RunError
from topwork.evaluation.comparison import Ranking, compare_predictions
from topwork.measures.predictions import Predictions
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe
from topwork.reports.comparison import ComparisonInputs, render_comparison
from topwork.reports.comparison_words import ModelFacts, comparison_verdict
from topwork.reports.wording import count
from topwork.workflow.disputes import disputes_elsewhere, disputes_out_of_fold, photos_below
from topwork.workflow.ladder import Ladder, ladder_entries
from topwork.workflow.provenance import hardware, now, versions
from topwork.workflow.rounds import Entry, Round, RoundPlan, read_round, run_round

__all__ = ["PAGE", "Comparison", "Rounds", "compare"]

PAGE = "comparison.html"
"""Name of the page in a comparison's folder."""

_VAL_SHARE = 0.1  # of the photos outside the test part of a fold; choices are made on it


class Rounds(TypedDict, total=False):
    """How often every recipe is trained.

    Args:
        folds: >= 2; each photo is judged by the model that did not see its fold. Default 5.
        seeds: >= 1; with one, seed noise stays unknown. Default 3.
    """

    folds: int
    seeds: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A finished comparison.

    Args:
        path: its folder.
        ranking: numbers and tests.
        facts: what each model costs, by name.
        summary: the content of `comparison.json`.
    """

    path: Path
    ranking: Ranking
    facts: Mapping[str, ModelFacts]
    summary: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page to open."""
        return self.path / PAGE

    @property
    def verdict(self) -> tuple[str, ...]:
        """The outcome in sentences."""
        return tuple(self.summary["verdict"])


def compare(
    data: str | Path,
    recipes: Sequence[str | Path | Recipe],
    *,
    to: str | Path | None = None,
    photos: str | Path | None = None,
    progress: Progress = silent,
    **rounds: Unpack[Rounds],
) -> Comparison:
    """Compare recipes with each other and with the baseline ladder.

    The first recipe is the reference of the tests. Majority class, colour histogram, nearest neighbours and a linear
    probe always stand beside the recipes.

    Args:
        data: a folder of class folders, a manifest, or a data set's name; a split that it gives is not looked at.
        recipes: names of packaged recipes, TOML files, or `Recipe`s; at least one.
        to: folder of the comparison, default `runs/compare-NAME`; what it holds of the same rounds is not run again.
        photos: a folder of other photos, without labels: the page shows on which the recipes disagree.
        progress: told how far it is.
        rounds: `folds` and `seeds`.

    Raises:
        TopworkError: if the data, a recipe, the weights or the machine do not allow it. What recipes and weights do
            not allow is refused before any work where it can be known; finished rounds stay.
    """
    k, seeds = rounds.get("folds", 5), rounds.get("seeds", 3)
    asked = _entries(recipes)
    if seeds < 1:
        raise RecipeError(f"The number of seeds of a comparison must be at least 1. Got {seeds}.", fix="use 3.")
    if photos is not None:
        photos_below(photos)  # before hours of work
    for entry in asked:  # the ladder is made of their networks
        entry.check()
    rules = sorted({rule for entry in asked for rule in entry.recipe.data.group_by})  # one division for all
    found = grouped(scan(data, progress=progress), by=rules)
    path = Path(to) if to is not None else Path("runs") / f"compare-{found.name}"
    if path.is_file():
        raise RunError(f"{str(path)!r} is a file.", fix="choose another folder with --to.")
    manifests = fold_manifests(found, k=k, seed=asked[0].recipe.data.seed, val_share=_VAL_SHARE)
    entries = [*asked, *ladder_entries(asked)]
    plans = _plans(entries, manifests, seeds=seeds, folder=path)
    done = _carried_out(plans, found, progress=progress)
    ranking = _ranking(done, manifests)
    most = _most_learned(manifests)
    facts = {entry.name: _facts(entry, done[entry.name], photos=most) for entry in entries}
    summary = _summary(ranking, facts, found=found, counts=(k, seeds))
    write_json(path / "comparison.json", summary)
    elsewhere = None if photos is None else disputes_elsewhere(photos, _shipped(plans), progress=progress)
    page = _page_inputs(found, summary, done=done, ranking=ranking, facts=facts)
    write_text(path / PAGE, render_comparison(replace(page, elsewhere=elsewhere)))
    return Comparison(path=path, ranking=ranking, facts=facts, summary=summary)


_Done = Mapping[str, Mapping[int, Sequence[Round]]]
"""Name -> seed -> the rounds of every fold, in order."""


def _entries(recipes: Sequence[str | Path | Recipe]) -> list[Entry]:
    if not recipes:
        raise RecipeError("A comparison needs at least one recipe. Got none.", fix="name one, e.g. default.")
    entries: list[Entry] = []
    for given in recipes:
        recipe = given if isinstance(given, Recipe) else load_recipe(given)
        name = recipe.backbone.name if isinstance(given, Recipe) else Path(given).stem
        name = re.sub(r"[^\w.+-]+", "-", name).strip(".-") or "recipe"
        taken = {entry.name for entry in entries}
        unique = next(
            each for n in range(1, len(entries) + 2) if (each := name if n == 1 else f"{name}-{n}") not in taken
        )
        entries.append(Entry(name=unique, recipe=recipe))
    return entries


def _plans(entries: Sequence[Entry], manifests: Sequence[Manifest], *, seeds: int, folder: Path) -> list[RoundPlan]:
    """All rounds, the first seed of everything first: what is stopped early has compared something."""
    most = _most_learned(manifests)
    return [
        RoundPlan(entry=entry, manifest=manifest, fold=fold, seed=seed, folder=folder)
        for seed in range(seeds)
        for entry in entries
        for fold, manifest in enumerate(manifests)
        if seed == 0 or not entry.seedless(most)
    ]


def _most_learned(manifests: Sequence[Manifest]) -> int:
    """Training photos of the fold that has most: a recipe is seedless on all folds or on none."""
    return max(len(manifest.part("train")) for manifest in manifests)


def _carried_out(plans: Sequence[RoundPlan], found: Scan, *, progress: Progress) -> _Done:
    rounds = _stored(plans, progress=progress)
    ladder = Ladder(plans[0].manifest, progress=progress)
    done: dict[str, dict[int, list[Round]]] = {}
    for number, plan in enumerate(plans):
        progress.step("rounds", number, len(plans))
        if number not in rounds:
            try:
                rounds[number] = _made(plan, found, ladder=ladder, progress=progress)
            except BaseException:  # Ctrl-C too: whoever stops hours of work wants to know what is left of them
                if rounds:
                    kept = f"{len(rounds)} of {count(len(plans), 'round')} are kept in {plan.folder}"
                    progress.say(f"{kept}; the same command goes on from them.")
                raise
        done.setdefault(plan.entry.name, {}).setdefault(plan.seed, []).append(rounds[number])
    progress.step("rounds", len(plans), len(plans))
    return done


def _stored(plans: Sequence[RoundPlan], *, progress: Progress) -> dict[int, Round]:
    """Place among the plans -> the round that need not be run again."""
    stored = {number: kept for number, plan in enumerate(plans) if (kept := read_round(plan)) is not None}
    if stored:
        progress.say(f"{len(stored)} of {count(len(plans), 'round')} are there already.")
    if foreign := sum(plan.path.exists() for number, plan in enumerate(plans) if number not in stored):
        progress.say(
            f"{count(foreign, 'stored round')} cannot be used (other photos, folds or choices, or damaged) and will be"
            " replaced; another folder with --to would keep what is there."
        )
    return stored


def _made(plan: RoundPlan, found: Scan, *, ladder: Ladder, progress: Progress) -> Round:
    if plan.entry.kind == "baseline":
        ladder.run_round(plan)
    else:
        run_round(plan, found, progress=_Steps(progress))
    made = read_round(plan)
    assert made is not None, "a round that was stored can be read"
    share = float(made.predictions.correct.mean())
    progress.say(
        f"{plan.entry.name}, fold {plan.fold + 1}, seed {plan.seed}: accuracy {share:.3f}"
        f" n={len(made.predictions)} in {made.facts['seconds']:.0f} s"
    )
    return made


@dataclass(frozen=True)
class _Steps:
    """Passes on how far a stage is, but not every epoch of every round."""

    progress: Progress

    def step(self, stage: str, done: int, total: int) -> None:
        """Pass on."""
        self.progress.step(stage, done, total)

    def say(self, line: str) -> None:
        """Keep to oneself."""


def _page_inputs(
    found: Scan,
    summary: Mapping[str, Any],
    *,
    done: _Done,
    ranking: Ranking,
    facts: Mapping[str, ModelFacts],
) -> ComparisonInputs:
    recipes = [name for name, model in facts.items() if model.kind == "recipe"]
    return ComparisonInputs(
        name=found.name,
        root=found.root,
        ranking=ranking,
        facts=facts,
        folds=summary["folds"],
        seeds=summary["seeds"],
        histories={name: _histories(done[name]) for name in recipes},
        disputes=disputes_out_of_fold({name: _pooled(done[name][0]) for name in recipes}),
        provenance={key: summary[key] for key in ("versions", "hardware")},
    )


def _pooled(rounds: Sequence[Round]) -> Predictions:
    return Predictions.pooled([each.predictions for each in rounds])


def _histories(by_seed: Mapping[int, Sequence[Round]]) -> list[Sequence[Mapping[str, Any]]]:
    return [each.history for rounds in by_seed.values() for each in rounds]


def _shipped(plans: Sequence[RoundPlan]) -> dict[str, Path]:
    return {plan.entry.name: plan.path for plan in plans if plan.ships}


def _ranking(done: _Done, manifests: Sequence[Manifest]) -> Ranking:
    models = {name: [_pooled(rounds) for rounds in by_seed.values()] for name, by_seed in done.items()}
    paths = next(iter(models.values()))[0].paths
    fold_of = {row.path: number for number, fold in enumerate(manifests) for row in fold.part("test")}
    group_of = {row.path: row.group for row in manifests[0].rows}
    folds = np.array([fold_of[path] for path in paths], dtype=np.int64)
    return compare_predictions(models, folds=folds, groups=[group_of[path] for path in paths])


def _facts(entry: Entry, by_seed: Mapping[int, Sequence[Round]], *, photos: int) -> ModelFacts:
    rounds = [each.facts for of_seed in by_seed.values() for each in of_seed]
    kept = rounds[0]
    return ModelFacts(
        kind=entry.kind,
        frozen=entry.kind == "baseline" or entry.frozen,
        seedless=entry.seedless(photos),
        seconds=float(np.mean([each["seconds"] for each in rounds])),
        trunk_seconds=float(np.mean([each["trunk_seconds"] for each in rounds])),
        train_accuracy=float(np.mean([each["train_accuracy"] for each in rounds])),
        model_mb=kept.get("model_mb"),
        ms_a_photo=kept.get("ms_a_photo"),
        choice=" or ".join(sorted({each["choice"] for each in rounds if each["choice"]})),
    )


def _summary(
    ranking: Ranking, facts: Mapping[str, ModelFacts], *, found: Scan, counts: tuple[int, int]
) -> dict[str, Any]:
    return {
        "data": {"name": found.name, "photos": len(found.records), "classes": list(found.classes)},
        "folds": counts[0],
        "seeds": counts[1],
        "reference": next(iter(ranking.scores)),
        "leader": ranking.leader,
        "tied_with_leader": list(ranking.tied),
        "verdict": comparison_verdict(ranking, facts),
        "models": {name: {**vars(facts[name]), **scores.to_json()} for name, scores in ranking.scores.items()},
        "contrasts": [contrast.to_json() for contrast in ranking.contrasts],
        "pairs": [
            {"models": list(pair), "difference": difference, "p_holm": p}
            for pair, (difference, p) in ranking.pairs.items()
        ],
        "versions": versions(),
        "hardware": hardware(),
        "finished": now(),
    }
