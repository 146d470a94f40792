"""Several models' predictions of the same photos -> numbers side by side, paired tests, who leads. Knows no files.

Every photo is judged once per seed, by a model that did not see it. Intervals of a model's own numbers are about
photos; tests between models are about photos and seeds, see `topwork.measures.compare`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from topwork.digest import seed_from
from topwork.errors import DataError
from topwork.evaluation.scores import ClassScores
from topwork.measures.bootstrap import Bootstrap, bootstrap, unit_numbers
from topwork.measures.calibration import BINS, ece_interval, gap_terms
from topwork.measures.compare import LEVEL, PairedTest, holm, paired_interval, paired_test, seed_noise
from topwork.measures.intervals import Interval, design_effect, f1_interval, wilson
from topwork.measures.metrics import ClassCounts, confusion_matrix
from topwork.measures.predictions import Predictions
from topwork.measures.ranking import auroc_interval

__all__ = ["ClassChange", "Contrast", "ModelScores", "Ranking", "compare_predictions"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]
_Runs = Sequence[Predictions]


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """One model's numbers, means over its seeds; intervals are about photos.

    Args:
        accuracy, macro_f1, ece, auroc: in [0, 1].
        worst_class: the class with the lowest recall, and that recall.
        per_class: by class name.
        confusion_matrix: (K,K) photos, means over seeds, a row for each true class.
        seeds: how many; 1 where there is nothing that a seed could change.
        seed_deviation: standard deviation of the pooled accuracy over seeds; None with one seed.
    """

    accuracy: Interval
    macro_f1: Interval
    worst_class: tuple[str, Interval]
    ece: Interval
    auroc: Interval
    per_class: Mapping[str, ClassScores]
    confusion_matrix: tuple[tuple[float, ...], ...]
    seeds: int
    seed_deviation: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain values; every number with its interval is `{"value", "low", "high", "n"}`."""
        numbers = {name: getattr(self, name).to_json() for name in ("accuracy", "macro_f1", "ece", "auroc")}
        kinds = ("precision", "recall", "f1")
        return {
            **numbers,
            "worst_class": {"class": self.worst_class[0], "recall": self.worst_class[1].to_json()},
            "per_class": {
                name: {**{kind: getattr(each, kind).to_json() for kind in kinds}, "support": each.support}
                for name, each in self.per_class.items()
            },
            "confusion_matrix": [list(row) for row in self.confusion_matrix],
            "seeds": self.seeds,
            "seed_deviation": self.seed_deviation,
        }


@dataclass(frozen=True, kw_only=True)
class ClassChange:
    """What happens to one class's recall from one model to another.

    Args:
        name: of the class.
        recall: difference of the recalls, over photos and seeds.
        p: of no difference, after Holm's correction over the classes.
    """

    name: str
    recall: Interval
    p: float

    @property
    def real(self) -> bool:
        """Whether the difference is beyond noise."""
        return self.p <= LEVEL

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"class": self.name, "recall": self.recall.to_json(), "p": self.p}


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """One model against the reference.

    Args:
        model, reference: names.
        accuracy, macro_f1: the model's minus the reference's; the interval of accuracy is over photos and seeds, that
            of macro-F1 over photos.
        test: of equal accuracy.
        p: its p value after Holm's correction over all models that are compared with the reference.
        verdict: "better", "worse" or "no difference beyond seed noise".
        classes: what happens to each class, the largest gain first.
    """

    model: str
    reference: str
    accuracy: Interval
    macro_f1: Interval
    test: PairedTest
    p: float
    verdict: str
    classes: tuple[ClassChange, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "model": self.model,
            "reference": self.reference,
            "accuracy": self.accuracy.to_json(),
            "macro_f1": self.macro_f1.to_json(),
            "only_reference_right": self.test.only_first,
            "only_model_right": self.test.only_second,
            "p_mcnemar": self.test.mcnemar,
            "p": self.test.p,
            "p_holm": self.p,
            "verdict": self.verdict,
            "classes": [change.to_json() for change in self.classes],
        }


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All models on the same photos.

    Args:
        scores: name -> numbers, in the order given.
        contrasts: every model but the first against the first.
        leader: the model with the highest accuracy.
        pairs: (a, b) -> accuracy of b minus that of a, and p of no difference after Holm's correction over all pairs.
    """

    scores: Mapping[str, ModelScores]
    contrasts: tuple[Contrast, ...]
    leader: str
    pairs: Mapping[tuple[str, str], tuple[float, float]]

    def beats(self, model: str, other: str) -> bool:
        """Whether a model is better than another, counting that any two of all might have been looked at."""
        sign = 1 if (other, model) in self.pairs else -1
        difference, p = self.pairs[(other, model) if sign == 1 else (model, other)]
        return p <= LEVEL and sign * difference > 0

    @property
    def tied(self) -> tuple[str, ...]:
        """The models that no test tells from the leader."""
        return tuple(name for name in self.scores if name != self.leader and not self.beats(self.leader, name))


def compare_predictions(
    models: Mapping[str, _Runs], *, folds: _Ints, groups: Sequence[str] | None = None, seed: int = 0
) -> Ranking:
    """Measure every model, and each against the first.

    Args:
        models: name -> predictions of each seed, all of the same photos in the same order; at least one model.
        folds: (N,) number of the fold that judged the photo, from 0.
        groups: N names; photos of one name are one observation.
        seed: of the bootstrap.

    Raises:
        DataError: if the models did not judge the same photos.
    """
    first = next(iter(models.values()))[0]
    if any(run.paths != first.paths or run.classes != first.classes for runs in models.values() for run in runs):
        raise DataError(
            f"The models of a comparison must judge the same photos. Got others than the {len(first)} of the first.",
            fix="compare in a new folder: --to DIR.",
        )
    named = [group for group in groups or () if group]
    groups = groups if len(set(named)) < len(named) else None  # groups of one photo are no groups
    scores = {name: _scores(runs, groups, seed=seed_from("comparison", seed, name)) for name, runs in models.items()}
    right = {name: np.stack([run.correct for run in runs]) for name, runs in models.items()}
    tests = {(a, b): paired_test(right[a], right[b], folds=folds, groups=groups) for a, b in combinations(models, 2)}
    every = holm([test.p for test in tests.values()])
    against = [pair for pair in tests if pair[0] == next(iter(models))]
    corrected = holm([tests[pair].p for pair in against])
    contrasts = tuple(
        _contrast(pair, models, test=tests[pair], p=p, at=(folds, groups))
        for pair, p in zip(against, corrected, strict=True)
    )
    return Ranking(
        scores=scores,
        contrasts=contrasts,
        leader=max(scores, key=lambda name: scores[name].accuracy.value),
        pairs={pair: (test.difference, p) for (pair, test), p in zip(tests.items(), every, strict=True)},
    )


def _contrast(
    pair: tuple[str, str],
    models: Mapping[str, _Runs],
    *,
    test: PairedTest,
    p: float,
    at: tuple[_Ints, Sequence[str] | None],
) -> Contrast:
    first, second = (models[name] for name in pair)
    shares = [np.mean([run.correct for run in runs], axis=0) for runs in (first, second)]
    labels, groups = first[0].labels, at[1]
    return Contrast(
        model=pair[1],
        reference=pair[0],
        accuracy=paired_interval(*shares, labels=labels, test=test, groups=groups),
        macro_f1=_f1_difference(first, second, groups=groups),
        test=test,
        p=p,
        verdict=test.verdict(p),
        classes=_class_changes(first, second, folds=at[0], groups=groups),
    )


def _class_changes(
    first: _Runs, second: _Runs, *, folds: _Ints, groups: Sequence[str] | None
) -> tuple[ClassChange, ...]:
    labels = first[0].labels
    found: list[tuple[str, Interval, float]] = []
    for number, name in enumerate(first[0].classes):
        chosen = np.flatnonzero(labels == number)
        if not len(chosen):
            continue
        a, b = (np.stack([run.correct[chosen] for run in runs]) for runs in (first, second))
        mine = None if groups is None else [groups[int(position)] for position in chosen]
        test = paired_test(a, b, folds=folds[chosen], groups=mine)
        recall = paired_interval(a.mean(axis=0), b.mean(axis=0), labels=labels[chosen], test=test, groups=mine)
        found.append((name, recall, test.p))
    adjusted = holm([p for _, _, p in found])
    changes = [ClassChange(name=name, recall=recall, p=p) for (name, recall, _), p in zip(found, adjusted, strict=True)]
    return tuple(sorted(changes, key=lambda change: -change.recall.value))


def _scores(runs: _Runs, groups: Sequence[str] | None, *, seed: int) -> ModelScores:
    labels, classes = runs[0].labels, runs[0].classes
    sampled = _resampled(runs, groups, seed=seed)
    right = np.stack([run.correct for run in runs])  # (S,N)
    accuracy = sampled.interval("accuracy")
    if groups is None:
        accuracy = wilson(float(right.sum()) / len(runs), len(labels))
    matrix = np.mean([confusion_matrix(labels, run.predicted, classes=len(classes)) for run in runs], axis=0)
    unit_of = None if groups is None else unit_numbers(groups)
    per_class = {name: _class_scores(runs, number, unit_of=unit_of) for number, name in enumerate(classes)}
    seen = {name: each for name, each in per_class.items() if each.support}
    worst = min(seen, key=lambda name: seen[name].recall.value)
    noise = seed_noise(right, np.zeros(len(labels), dtype=np.int64))
    return ModelScores(
        accuracy=accuracy,
        macro_f1=sampled.interval("macro_f1"),
        worst_class=(worst, seen[worst].recall),
        ece=ece_interval(sampled),
        auroc=auroc_interval(*runs, groups=groups, seed=seed),
        per_class=per_class,
        confusion_matrix=tuple(tuple(float(n) for n in row) for row in matrix),
        seeds=len(runs),
        seed_deviation=None if len(runs) < 2 else float(np.sqrt(noise.variance)),
    )


def _class_scores(runs: _Runs, number: int, *, unit_of: _Ints | None) -> ClassScores:
    """Counts are means over seeds, so they may be fractions."""
    truth = (runs[0].labels == number).astype(np.float64)
    guess = np.mean([run.predicted == number for run in runs], axis=0)
    hit = truth * guess
    either = np.maximum(truth, guess)

    def effect(trials: _Floats) -> float:
        if unit_of is None:
            return 1.0
        sums = [np.asarray(np.bincount(unit_of, weights=of), dtype=np.float64) for of in (hit, trials)]
        return design_effect(*sums)

    hits = float(hit.sum())
    return ClassScores(
        precision=wilson(hits, max(hits, float(guess.sum())), effect=effect(guess)),
        recall=wilson(hits, float(truth.sum()), effect=effect(truth)),
        f1=f1_interval(hits, max(hits, float(either.sum())), effect=effect(either)),
        support=int(truth.sum()),
    )


def _resampled(runs: _Runs, groups: Sequence[str] | None, *, seed: int) -> Bootstrap:
    """Accuracy, macro-F1, ECE and its noise, each the mean over seeds, on resampled photos."""
    summands = np.concatenate([_summands(run) for run in runs], axis=1)  # (N, S * (3K + BINS))
    width = summands.shape[1] // len(runs)
    whole = summands.sum(axis=0).reshape(len(runs), width)

    def statistics(sums: _Floats) -> dict[str, _Floats]:
        each = sums.reshape(*sums.shape[:-1], len(runs), width)
        counts, gaps = _counts(each), each[..., width - BINS :]
        photos = np.maximum(counts.truths.sum(-1), 1.0)
        found = {
            "accuracy": counts.accuracy,
            "macro_f1": counts.macro_f1,
            "ece": np.abs(gaps).sum(-1) / photos,
            "ece_noise": np.abs(gaps - whole[:, width - BINS :]).sum(-1) / photos,
        }
        return {name: value.mean(-1) for name, value in found.items()}

    return bootstrap(summands, statistics, strata=runs[0].labels, groups=groups, seed=seed)


def _f1_difference(first: _Runs, second: _Runs, *, groups: Sequence[str] | None) -> Interval:
    """Macro-F1 of the second minus that of the first, means over seeds, photos resampled in pairs."""
    runs = [*first, *second]
    summands = np.concatenate([_summands(run) for run in runs], axis=1)
    width = summands.shape[1] // len(runs)

    def statistics(sums: _Floats) -> dict[str, _Floats]:
        f1 = _counts(sums.reshape(*sums.shape[:-1], len(runs), width)).macro_f1  # (...,S)
        return {"gap": f1[..., len(first) :].mean(-1) - f1[..., : len(first)].mean(-1)}

    sampled = bootstrap(summands, statistics, strata=first[0].labels, groups=groups)
    if sampled.varies("gap"):
        return sampled.interval("gap")
    value, room = sampled.values["gap"], wilson(0, sampled.effective).high
    return Interval(value=value, low=value - room, high=value + room, n=sampled.photos)


def _counts(sums: _Floats) -> ClassCounts:
    k = (sums.shape[-1] - BINS) // 3
    return ClassCounts(hits=sums[..., :k], guesses=sums[..., k : 2 * k], truths=sums[..., 2 * k : 3 * k])


def _summands(run: Predictions) -> _Floats:
    """(N, 3K + BINS): hit, guess and truth of each class, gap of each bin."""
    one_hot = np.eye(len(run.classes))
    gaps, bins = gap_terms(run)
    truth = one_hot[run.labels]
    return np.concatenate(
        [truth * run.correct[:, None], one_hot[run.predicted], truth, np.eye(BINS)[bins] * gaps[:, None]], axis=1
    )
