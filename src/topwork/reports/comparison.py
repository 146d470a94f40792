"""The page of a comparison: `ComparisonInputs` -> one HTML page. Knows no folders, no networks, nor how folds run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from topwork.evaluation.comparison import Ranking
from topwork.reports import comparison_words as words
from topwork.reports import tables
from topwork.reports.comparison_figures import draw_classes, draw_curves, lowest_classes
from topwork.reports.comparison_words import ModelFacts
from topwork.reports.html import render_page
from topwork.reports.svg import inline_svg
from topwork.reports.thumbnail import Thumbnail, make_thumbnail

__all__ = ["Answer", "ComparisonInputs", "Dispute", "Elsewhere", "render_comparison", "strongest_disputes"]

_MOST_DISPUTES = 24
_SIDE = 224  # pixels of a photo
_WORKERS = 2


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model says of one photo: a class and its probability in [0, 1]."""

    predicted: str
    p: float


@dataclass(frozen=True, kw_only=True)
class Dispute:
    """A photo on which models disagree.

    Args:
        path: below the root of its photos.
        label: the true class, None where nobody knows.
        answers: model -> what it says.
    """

    path: str
    label: str | None
    answers: Mapping[str, Answer]

    @property
    def strength(self) -> float:
        """The probability behind the second strongest of the different answers, in [0, 1]."""
        best: dict[str, float] = {}
        for answer in self.answers.values():
            best[answer.predicted] = max(answer.p, best.get(answer.predicted, 0.0))
        return sorted(best.values())[-2] if len(best) > 1 else 0.0


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Photos that no fold knows.

    Args:
        name, root: of their folder.
        photos: how many were judged.
        unreadable: how many could not be read.
        disputes: those on which the models disagree.
    """

    name: str
    root: Path
    photos: int
    unreadable: int
    disputes: Sequence[Dispute]


@dataclass(frozen=True, kw_only=True)
class ComparisonInputs:
    """Everything the page is made of.

    Args:
        name: of the data.
        root: folder that the photos' paths start from.
        ranking: numbers and tests.
        facts: what each model costs.
        folds, seeds: how often each recipe was trained.
        histories: recipe -> the history of each of its fits.
        disputes: photos on which recipes disagree, out of fold, first seed.
        elsewhere: other photos, if some were given.
        provenance: where the numbers come from, as plain values.
    """

    name: str
    root: Path
    ranking: Ranking
    facts: Mapping[str, ModelFacts]
    folds: int
    seeds: int
    histories: Mapping[str, Sequence[Sequence[Mapping[str, Any]]]]
    disputes: Sequence[Dispute] = ()
    elsewhere: Elsewhere | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recipes(self) -> tuple[str, ...]:
        """The models that are recipes, in order."""
        return tuple(name for name, model in self.facts.items() if model.kind == "recipe")


def strongest_disputes(disputes: Sequence[Dispute]) -> list[Dispute]:
    """The photos on which models disagree, the surest of different answers first."""
    real = [dispute for dispute in disputes if len({answer.predicted for answer in dispute.answers.values()}) > 1]
    return sorted(real, key=lambda dispute: (-dispute.strength, dispute.path))


def render_comparison(inputs: ComparisonInputs) -> str:
    """The comparison as one self-contained HTML page; photos that have vanished become gaps with their names."""
    return render_page("comparison.html.j2", _context(inputs), styles=("report.css", "comparison.css"))


def _context(inputs: ComparisonInputs) -> dict[str, Any]:
    ranking, facts = inputs.ranking, inputs.facts
    scores = ranking.scores
    reference = next(iter(scores))
    judged = next(iter(scores.values()))
    contrasts = [each for each in ranking.contrasts if facts[each.model].kind == "recipe"]
    rival = _rival(inputs, reference)
    disputes, elsewhere = strongest_disputes(inputs.disputes), inputs.elsewhere
    away = strongest_disputes(elsewhere.disputes) if elsewhere else []
    shown = lowest_classes({name: scores[name] for name in inputs.recipes})
    return {
        "page": inputs,
        "reference": reference,
        "rival": rival,
        "photos": judged.accuracy.n,
        "classes": list(judged.per_class),
        "shown": shown,
        "not_shown": sum(row.support > 0 for row in judged.per_class.values()) - len(shown),
        "sentences": words.comparison_verdict(ranking, facts),
        "models": [(name, scores[name].to_json(), facts[name]) for name in scores],
        "contrasts": [(each.to_json(), facts[each.model].kind) for each in ranking.contrasts],
        "gains": [" ".join(words.class_changes(each)) for each in contrasts],
        "changes": [words.mistake_changes(each, scores, classes=list(judged.per_class)) for each in contrasts],
        "mistakes": words.mistakes(scores[reference], scores[rival], classes=list(judged.per_class)) if rival else [],
        "imbalance": words.imbalance_costs(ranking.leader, scores[ranking.leader]),
        "generalising": words.generalising(ranking, facts),
        "figures": _figures(inputs),
        "disputes": _with_photos(disputes[:_MOST_DISPUTES], inputs.root),
        "disputes_in_all": len(disputes),
        "away": _with_photos(away[:_MOST_DISPUTES], elsewhere.root) if elsewhere else [],
        "away_in_all": len(away),
        "provenance": [(group, tables.flat(value)) for group, value in inputs.provenance.items()],
    }


def _rival(inputs: ComparisonInputs, reference: str) -> str | None:
    """The most accurate recipe beside the reference."""
    others = [name for name in inputs.recipes if name != reference]
    accuracy = {name: inputs.ranking.scores[name].accuracy.value for name in others}
    return max(others, key=accuracy.__getitem__) if others else None


def _figures(inputs: ComparisonInputs) -> dict[str, Markup]:
    drawn = {
        "curves": (
            draw_curves(inputs.histories)[0],
            "Validation accuracy and loss of every recipe by step of training, thin lines for fits and thick ones for"
            " means.",
        ),
        "classes": (
            draw_classes({name: inputs.ranking.scores[name] for name in inputs.recipes})[0],
            "Precision, recall and F1 of each class and recipe with 95 % intervals; the table below holds the numbers.",
        ),
    }
    return {name: Markup(inline_svg(text, name=name, label=label)) for name, (text, label) in drawn.items()}


def _with_photos(disputes: Sequence[Dispute], root: Path) -> list[tuple[Dispute, Thumbnail]]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        made = pool.map(lambda dispute: make_thumbnail(root, dispute.path, side=_SIDE), disputes)
        return list(zip(disputes, made, strict=True))
