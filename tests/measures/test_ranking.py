from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from topwork.measures.predictions import Predictions
from topwork.measures.ranking import LEVELS, auroc, auroc_interval


def drawn(n: int, *, classes: int = 3, sharp: float = 1.0, seed: int = 0, digits: int | None = None) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, n - classes)])
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += sharp
    logits = logits if digits is None else np.round(logits, digits)
    return Predictions(
        logits=logits, labels=labels, paths=tuple(map(str, range(n))), classes=tuple("abcdefgh"[:classes])
    )


@pytest.mark.parametrize("digits", [None, 0])  # 0: many ties
@pytest.mark.parametrize("classes", [2, 3, 5])
def test_auroc_is_scikit_learns(classes: int, digits: int | None) -> None:
    predictions = drawn(300, classes=classes, digits=digits)
    p = predictions.probabilities
    theirs = np.mean([roc_auc_score(predictions.labels == k, np.round(p[:, k], 12)) for k in range(classes)])
    assert auroc(predictions) == pytest.approx(theirs, abs=1e-12)


def test_beyond_the_levels_it_is_close() -> None:
    predictions = drawn(6 * LEVELS)
    theirs = roc_auc_score(predictions.labels, predictions.probabilities, multi_class="ovr", average="macro")
    assert auroc(predictions) == pytest.approx(theirs, abs=2e-4)


def test_known_values() -> None:
    perfect = drawn(60, sharp=100.0)
    assert auroc(perfect) == 1
    flat = Predictions(logits=np.zeros((4, 2)), labels=np.array([0, 1, 1, 0]), paths=tuple("abcd"), classes=("x", "y"))
    assert auroc(flat) == 0.5
    one_class = Predictions(logits=np.zeros((2, 2)), labels=np.array([0, 0]), paths=tuple("ab"), classes=("x", "y"))
    assert auroc(one_class) == 0.5


def test_a_perfect_ranking_is_not_certain() -> None:
    interval = auroc_interval(drawn(60, sharp=100.0))
    assert interval.value == interval.high == 1
    assert 0.85 < interval.low < 1


def test_the_interval_is_scipys_bca() -> None:
    predictions = drawn(160, classes=2, sharp=1.2)
    scores = predictions.probabilities[:, 1]
    own, other = scores[predictions.labels == 1], scores[predictions.labels == 0]

    def area(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        a, b = np.moveaxis(a, axis, -1), np.moveaxis(b, axis, -1)
        return (a[..., :, None] > b[..., None, :]).mean((-1, -2)) + (a[..., :, None] == b[..., None, :]).mean(
            (-1, -2)
        ) / 2

    theirs = stats.bootstrap(
        (own, other), area, n_resamples=9000, method="BCa", rng=np.random.default_rng(0), batch=200
    ).confidence_interval
    ours = auroc_interval(predictions)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.006)


def test_copies_in_groups_do_not_narrow_the_interval() -> None:
    one = drawn(120)
    copied = Predictions(
        logits=np.repeat(one.logits, 3, axis=0),
        labels=np.repeat(one.labels, 3),
        paths=tuple(map(str, range(360))),
        classes=one.classes,
    )
    groups = [str(number) for number in np.repeat(np.arange(120), 3)]
    alone, together = auroc_interval(one), auroc_interval(copied, groups=groups)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    assert together.value == pytest.approx(alone.value)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "sharp"), [(200, 1.0), (400, 2.0)])
def test_the_interval_holds_the_truth_in_95_of_100_samples(n: int, sharp: float) -> None:
    truth = auroc(drawn(60_000, sharp=sharp, seed=10**6))
    found = [auroc_interval(drawn(n, sharp=sharp, seed=seed)) for seed in range(1000)]
    held = sum(interval.low <= truth <= interval.high for interval in found)
    assert 0.93 * 1000 <= held <= 0.97 * 1000
