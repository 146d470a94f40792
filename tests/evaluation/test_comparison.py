from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import f1_score, recall_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from topwork.errors import DataError
from topwork.evaluation.comparison import Ranking, compare_predictions
from topwork.evaluation.evaluate import evaluate
from topwork.measures.predictions import Predictions

CLASSES = ("daisy", "rose", "tulip")
N = 600


def said(skill: float, *, seed: int, labels: np.ndarray, hard: np.ndarray) -> Predictions:
    logits = np.random.default_rng(seed).normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += skill - hard
    return Predictions(logits=logits, labels=labels, paths=tuple(map(str, range(len(labels)))), classes=CLASSES)


def drawn() -> dict[str, list[Predictions]]:
    rng = np.random.default_rng(0)
    labels, hard = rng.integers(0, 3, N), rng.normal(size=N)
    make = {"labels": labels, "hard": hard}
    return {
        "probe": [said(2.0, seed=1, **make)],
        "tuned": [said(3.2, seed=seed, **make) for seed in (2, 3, 4)],
        "same": [said(2.0, seed=seed, **make) for seed in (5, 6, 7)],
        "poor": [said(0.3, seed=8, **make)],
    }


@pytest.fixture(scope="module")
def models() -> dict[str, list[Predictions]]:
    return drawn()


@pytest.fixture(scope="module")
def ranking(models: dict[str, list[Predictions]]) -> Ranking:
    return compare_predictions(models, folds=np.arange(N) % 5)


def test_the_verdicts_are_what_was_put_in(ranking: Ranking) -> None:
    found = {contrast.model: contrast.verdict for contrast in ranking.contrasts}
    assert found == {"tuned": "better", "same": "no difference beyond seed noise", "poor": "worse"}
    assert (ranking.leader, ranking.tied) == ("tuned", ())
    assert ranking.beats("tuned", "poor")
    assert ranking.beats("probe", "poor")
    assert not ranking.beats("poor", "tuned")
    assert not ranking.beats("same", "probe")


def test_numbers_are_means_over_seeds_of_the_oracles(ranking: Ranking, models: dict[str, list[Predictions]]) -> None:
    runs, scores = models["tuned"], ranking.scores["tuned"]
    labels = runs[0].labels
    assert scores.accuracy.value == pytest.approx(np.mean([run.correct.mean() for run in runs]))
    f1 = [f1_score(labels, run.predicted, average="macro") for run in runs]
    assert scores.macro_f1.value == pytest.approx(np.mean(f1))
    recalls = np.mean([recall_score(labels, run.predicted, average=None) for run in runs], axis=0)
    assert [each.recall.value for each in scores.per_class.values()] == pytest.approx(recalls)
    assert scores.worst_class[0] == CLASSES[recalls.argmin()]
    assert scores.seed_deviation == pytest.approx(np.std([run.correct.mean() for run in runs], ddof=1))
    assert np.sum(scores.confusion_matrix) == pytest.approx(N)


def test_one_seed_gives_the_numbers_of_evaluate(ranking: Ranking, models: dict[str, list[Predictions]]) -> None:
    theirs = evaluate({"test": models["probe"][0]}, seconds={}).splits["test"]
    ours = ranking.scores["probe"]
    assert ours.accuracy == theirs.accuracy
    assert ours.seed_deviation is None
    assert ours.per_class == theirs.per_class
    for name in ("macro_f1", "ece"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine.value, mine.low, mine.high) == pytest.approx((other.value, other.low, other.high), abs=0.004)


def test_p_values_are_those_of_statsmodels(ranking: Ranking, models: dict[str, list[Predictions]]) -> None:
    poor = next(contrast for contrast in ranking.contrasts if contrast.model == "poor")
    a, b = models["probe"][0].correct, models["poor"][0].correct
    table = [[int((a & b).sum()), int((a & ~b).sum())], [int((~a & b).sum()), int((~a & ~b).sum())]]
    assert (poor.test.only_first, poor.test.only_second) == (table[0][1], table[1][0])
    assert poor.test.mcnemar == pytest.approx(mcnemar(table, exact=True).pvalue)
    raw = [contrast.test.p for contrast in ranking.contrasts]
    assert [contrast.p for contrast in ranking.contrasts] == pytest.approx(multipletests(raw, method="holm")[1])


def test_every_class_is_compared_and_the_largest_gain_comes_first(ranking: Ranking) -> None:
    for contrast in ranking.contrasts:
        values = [change.recall.value for change in contrast.classes]
        assert values == sorted(values, reverse=True)
        assert {change.name for change in contrast.classes} == set(CLASSES)
    tuned = ranking.contrasts[0]
    weighted = sum(change.recall.value * change.recall.n for change in tuned.classes) / N
    assert weighted == pytest.approx(tuned.accuracy.value)


def test_copies_in_groups_are_one_observation(models: dict[str, list[Predictions]]) -> None:
    def copied(run: Predictions) -> Predictions:
        return Predictions(
            logits=np.repeat(run.logits, 4, axis=0),
            labels=np.repeat(run.labels, 4),
            paths=tuple(map(str, range(4 * N))),
            classes=CLASSES,
        )

    two = {name: models[name] for name in ("probe", "same")}
    alone = compare_predictions(two, folds=np.arange(N) % 5)
    fourfold = {name: [copied(run) for run in runs] for name, runs in two.items()}
    folds, groups = np.repeat(np.arange(N) % 5, 4), [f"g{number}" for number in np.repeat(np.arange(N), 4)]
    together = compare_predictions(fourfold, folds=folds, groups=groups)
    first, second = alone.contrasts[0], together.contrasts[0]
    assert second.test.error == pytest.approx(first.test.error, rel=0.05)
    assert second.accuracy.low == pytest.approx(first.accuracy.low, abs=0.006)
    for measure in ("accuracy", "macro_f1", "auroc"):
        one, four = getattr(alone.scores["probe"], measure), getattr(together.scores["probe"], measure)
        assert four.high - four.low == pytest.approx(one.high - one.low, rel=0.15)


def test_a_class_that_single_seeds_find_in_groups_has_an_interval() -> None:
    """Two of three seeds find one photo of a pair each, and nobody errs: less than one photo in each group."""
    labels = np.repeat([0, 1, 2], 4)
    runs = []
    for found in (0, 2, None):
        guess = np.where(labels == 0, 1, labels)
        if found is not None:
            guess[found] = 0
        paths = tuple(map(str, range(12)))
        runs.append(Predictions(logits=5 * np.eye(3)[guess], labels=labels, paths=paths, classes=CLASSES))
    groups = [f"pair {number // 2}" for number in range(12)]
    found_ranking = compare_predictions({"a": runs, "b": runs[:1]}, folds=np.arange(12) % 2, groups=groups)
    precision = found_ranking.scores["a"].per_class["daisy"].precision
    assert precision.value == pytest.approx(1)
    assert precision.low < 0.5


def test_other_photos_are_refused(models: dict[str, list[Predictions]]) -> None:
    run = models["probe"][0]
    other = Predictions(logits=run.logits, labels=run.labels, paths=tuple(reversed(run.paths)), classes=CLASSES)
    with pytest.raises(DataError, match="same photos"):
        compare_predictions({"a": [run], "b": [other]}, folds=np.zeros(N, dtype=np.int64))


def test_all_of_it_is_plain_values(ranking: Ranking) -> None:
    import json

    text = json.dumps([contrast.to_json() for contrast in ranking.contrasts], allow_nan=False)
    text += json.dumps({name: scores.to_json() for name, scores in ranking.scores.items()}, allow_nan=False)
    assert "p_holm" in text
