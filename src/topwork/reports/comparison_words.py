"""What a comparison means, in sentences. Knows numbers and names, nothing about HTML or files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from topwork.evaluation.comparison import Contrast, ModelScores, Ranking
from topwork.measures.intervals import Interval
from topwork.reports.wording import p_value, photos, points

__all__ = [
    "ModelFacts",
    "class_changes",
    "comparison_verdict",
    "generalising",
    "imbalance_costs",
    "mistake_changes",
    "mistakes",
]

_SPACE = "\N{NO-BREAK SPACE}"
_EQUAL_SIZES = 1.5  # largest class over smallest, up to which imbalance is no topic
_MEMORISED = 0.05  # gap between train and unseen photos that is worth a word
_PAIRS = 6
_NAMED = 2  # pairs in a sentence
_MOST_NAMES = 8  # in a sentence; more are counted
_NOTHING = 0.0005  # a difference that one digit of points shows as 0.0


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What one model costs.

    Args:
        kind: `recipe` or `baseline`.
        frozen: whether nothing below the head trains.
        seedless: whether no seed can change it.
        seconds: mean wall time of a fit.
        trunk_seconds: the part of it in which a frozen trunk computed what no cache held.
        train_accuracy: on the photos that were learned from, mean over fits.
        model_mb: size of what must be kept, in 10^6 bytes; None where nothing was kept.
        ms_a_photo: time to predict a photo, reading included, or None.
        choice: what validation chose, may be empty.
    """

    kind: str
    frozen: bool
    seedless: bool
    seconds: float
    trunk_seconds: float
    train_accuracy: float
    model_mb: float | None
    ms_a_photo: float | None
    choice: str


def comparison_verdict(ranking: Ranking, facts: Mapping[str, ModelFacts]) -> list[str]:
    """Who leads, what fine-tuning is worth, and every recipe against the first."""
    leader, scores = ranking.leader, ranking.scores
    tied = ranking.tied
    start = leader if facts[leader].kind == "recipe" else leader[:1].upper() + leader[1:]
    said = [f"{start} has the highest accuracy, {_percent(scores[leader].accuracy.value)}."]
    if tied:
        said.append(f"The tests cannot tell it from {_listed(tied)}.")
    elif len(scores) > 1:
        said.append("It is better than every other model here.")
    alone = [name for name, model in facts.items() if not model.seedless and scores[name].seeds == 1]
    if alone:
        said.append(
            f"Seed noise was not measured ({_listed(alone)} ran with one seed): another seed may reverse a small"
            " difference. Run the same command with --seeds 3."
        )
    said += [_contrast_sentence(each) for each in ranking.contrasts if facts[each.model].kind == "recipe"]
    return said + _fine_tuning(ranking, facts)


def class_changes(contrast: Contrast) -> list[str]:
    """Which classes gain, which lose, and which do neither."""
    gain = [change for change in contrast.classes if change.real and change.recall.value > 0]
    loss = [change for change in reversed(contrast.classes) if change.real and change.recall.value < 0]
    said = []
    for changes, verb in ((gain, "rises"), (loss, "falls")):
        if changes:
            named = [
                f"{change.name} ({points(change.recall.value)} points {_bounds(change.recall)})" for change in changes
            ]
            said.append(f"From {contrast.reference} to {contrast.model}, recall {verb} in {_listed(named)}.")
    same = [change.name for change in contrast.classes if not change.real]
    if same and not said:
        return [f"From {contrast.reference} to {contrast.model}, no class gains or loses recall beyond seed noise."]
    if same:
        said.append(f"No difference beyond seed noise in {_listed(same)}.")
    return said


def mistakes(first: ModelScores, second: ModelScores, *, classes: Sequence[str]) -> list[tuple[str, str, float, float]]:
    """(true, predicted, photos of the first, photos of the second): what changes most, what goes away first."""
    pairs = [
        (true, guess, first.confusion_matrix[i][j], second.confusion_matrix[i][j])
        for i, true in enumerate(classes)
        for j, guess in enumerate(classes)
        if i != j and first.confusion_matrix[i][j] != second.confusion_matrix[i][j]
    ]
    strongest = sorted(pairs, key=lambda pair: (-abs(pair[3] - pair[2]), pair[0], pair[1]))[:_PAIRS]
    return sorted(strongest, key=lambda pair: pair[3] - pair[2])


def mistake_changes(contrast: Contrast, scores: Mapping[str, ModelScores], *, classes: Sequence[str]) -> str:
    """How many mistakes go away from the reference to a model, which ones most, and which ones come instead."""
    first, second = scores[contrast.reference], scores[contrast.model]
    before, after = ((1 - each.accuracy.value) * each.accuracy.n for each in (first, second))
    rows = mistakes(first, second, classes=classes)
    gone = [row for row in rows if row[3] < row[2]][:_NAMED]
    come = [row for row in reversed(rows) if row[3] > row[2]][:_NAMED]
    said = [f"From {contrast.reference} to {contrast.model}, {photos(before)} mistakes become {photos(after)}"]
    for pairs, verb in ((gone, "fewer"), (come, "more")):
        if pairs:
            named = [f"{true} taken for {guess} ({photos(a)} to {photos(b)})" for true, guess, a, b in pairs]
            said.append(f"{verb}: {_listed(named)}")
    noise = "" if contrast.verdict in ("better", "worse") else " In all, that is within noise."
    return "; ".join(said) + "." + noise


def imbalance_costs(name: str, scores: ModelScores) -> str:
    """What unequal classes cost a model: accuracy if every class were equally common, and the rarest class."""
    sizes = {each: row.support for each, row in scores.per_class.items() if row.support}
    rare, common = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
    ratio = sizes[common] / sizes[rare]
    balanced = sum(scores.per_class[each].recall.value for each in sizes) / len(sizes)
    cost = scores.accuracy.value - balanced
    recalls = [
        f"{each} {_percent(scores.per_class[each].recall.value)} (n{_SPACE}={_SPACE}{sizes[each]})"
        for each in (rare, common)
    ]
    start = f"The largest class has {ratio:.1f} times the photos of the smallest"
    if ratio <= _EQUAL_SIZES:
        return f"{start}, so imbalance costs {name} next to nothing."
    found = f"recall is {recalls[0]} against {recalls[1]}"
    if abs(cost) < _NOTHING:
        return f"{start}: {found}. That costs {name} next to nothing."
    verb = "would fall" if cost > 0 else "would rise"
    return (
        f"{start}: {found}. With every class equally common, accuracy of {name} {verb} by {abs(cost) * 100:.1f} points."
    )


def generalising(ranking: Ranking, facts: Mapping[str, ModelFacts]) -> list[str]:
    """How much of what was learned holds on photos that were not learned from."""
    said = []
    for name, model in facts.items():
        if model.kind != "recipe":
            continue
        unseen = ranking.scores[name].accuracy.value
        gap = model.train_accuracy - unseen
        much = "much of it by heart" if gap > _MEMORISED else "nearly all of it holds"
        said.append(
            f"{name} knows {_percent(model.train_accuracy)} of its training photos and {_percent(unseen)} of unseen"
            f" ones, {abs(gap) * 100:.1f} points apart: {much}."
        )
    return said


def _contrast_sentence(contrast: Contrast) -> str:
    return (
        f"{contrast.model} against {contrast.reference}: {points(contrast.accuracy.value)} points"
        f" {_bounds(contrast.accuracy)}, {contrast.verdict} ({p_value(contrast.p, named=True)})."
    )


def _fine_tuning(ranking: Ranking, facts: Mapping[str, ModelFacts]) -> list[str]:
    """Whether any recipe is better than the best model without fine-tuning."""
    fixed = [name for name, model in facts.items() if model.frozen]
    tuned = [name for name, model in facts.items() if not model.frozen]
    if not fixed or not tuned:
        return []
    accuracy = {name: ranking.scores[name].accuracy.value for name in ranking.scores}
    best, rung = max(tuned, key=accuracy.__getitem__), max(fixed, key=accuracy.__getitem__)
    if ranking.beats(best, rung):
        return [f"Training below the head pays: {best} is better than {rung}, the best model without it."]
    if ranking.beats(rung, best):
        return [f"Training below the head does not pay here: {rung}, without it, is better than {best}."]
    return [f"Training below the head is not shown to pay: {best} and {rung} differ by no more than noise."]


def _percent(share: float) -> str:
    return f"{share * 100:.1f}{_SPACE}%"


def _bounds(interval: Interval) -> str:
    return f"[{points(interval.low)}, {points(interval.high)}]"


def _listed(names: Sequence[str]) -> str:
    if len(names) == 1:
        return names[0]
    last = names[-1] if len(names) <= _MOST_NAMES else f"{len(names) - _MOST_NAMES} more"
    return f"{', '.join(names[: min(_MOST_NAMES, len(names) - 1)])} and {last}"
