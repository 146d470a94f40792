from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from topwork.errors import DataError
from topwork.evaluation.evaluate import evaluate
from topwork.measures.calibration import brier, ece, nll
from topwork.measures.intervals import Interval, difference, wilson
from topwork.measures.predictions import Predictions

CLASSES = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def judged(n: int, *, seed: int = 0, skill: float = 2.2, classes: tuple[str, ...] = CLASSES) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), n)
    logits = rng.normal(size=(n, len(classes)))
    logits[np.arange(n), labels] += skill
    paths = tuple(f"{seed}/{number}.jpg" for number in range(n))
    return Predictions(logits=logits, labels=labels, paths=paths, classes=classes)


def test_every_number_is_what_its_oracle_says() -> None:
    part = judged(300)
    scores = evaluate({"test": part}, seconds={}).splits["test"]
    y, g = part.labels, part.predicted
    assert scores.accuracy == wilson(int((y == g).sum()), 300)
    assert scores.balanced_accuracy.value == pytest.approx(oracle.balanced_accuracy_score(y, g))
    for how in ("macro", "weighted"):
        theirs = oracle.precision_recall_fscore_support(y, g, average=how, zero_division=0)
        for kind, value in zip(("precision", "recall", "f1"), theirs, strict=False):
            assert getattr(scores, f"{how}_{kind}").value == pytest.approx(value)
    each = oracle.precision_recall_fscore_support(y, g, zero_division=0)
    for name, p, r, f, support in zip(CLASSES, *each, strict=True):
        row = scores.per_class[name]
        assert (row.precision.value, row.recall.value, row.f1.value) == pytest.approx((p, r, f))
        assert row.support == row.recall.n == support
        assert row.precision.n == (g == CLASSES.index(name)).sum()
    assert scores.confusion_matrix == tuple(map(tuple, oracle.confusion_matrix(y, g).tolist()))
    assert scores.ece.value == pytest.approx(ece(part))
    assert scores.nll.value == pytest.approx(nll(part))
    assert scores.brier.value == pytest.approx(brier(part))


@settings(max_examples=40)
@given(st.data())
def test_any_predictions_can_be_measured(data: st.DataObject) -> None:
    """One photo, one class, all right, all wrong, classes without photos, groups: bounds are in order and in range."""
    k = data.draw(st.integers(1, 4))
    n = data.draw(st.integers(1, 12))
    labels = data.draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    logits = [[data.draw(st.sampled_from([-800.0, -1.0, 0.0, 2.0, 800.0])) for _ in range(k)] for _ in range(n)]
    groups = data.draw(st.none() | st.lists(st.sampled_from(["", "a", "b"]), min_size=n, max_size=n))
    part = Predictions(
        logits=np.array(logits), labels=np.array(labels), paths=tuple(map(str, range(n))), classes=CLASSES[:k]
    )
    given_groups = None if groups is None else {"test": groups}
    scores = evaluate({"test": part}, seconds={}, groups=given_groups).splits["test"]
    rows = [kind for row in scores.per_class.values() for kind in (row.precision, row.recall, row.f1)]
    shares = [scores.accuracy, scores.balanced_accuracy, scores.macro_f1, scores.weighted_precision, scores.ece, *rows]
    for interval in shares:
        assert 0 <= interval.low <= interval.value <= interval.high <= 1
        assert interval.high - interval.low > 0 or interval.n > 1
    assert 0 <= scores.brier.low <= scores.brier.value <= scores.brier.high <= 2
    assert 0 <= scores.nll.low <= scores.nll.value <= scores.nll.high


def test_perfect_predictions_are_not_certain() -> None:
    part = judged(60, skill=200.0)
    scores = evaluate({"test": part}, seconds={}).splits["test"]
    for interval in (scores.accuracy, scores.macro_f1, scores.balanced_accuracy, scores.weighted_f1):
        assert interval.value == interval.high == 1
        assert 0.9 < interval.low < 0.96
    assert scores.nll.high > scores.nll.value == pytest.approx(0)
    assert scores.most_confused == ()


def test_a_class_without_photos_is_unknown_not_bad() -> None:
    part = judged(80, classes=CLASSES[:3], skill=9.0)
    padded = Predictions(
        logits=np.column_stack([part.logits, np.full((80, 2), -50.0)]),
        labels=part.labels,
        paths=part.paths,
        classes=CLASSES,
    )
    scores = evaluate({"test": padded}, seconds={}).splits["test"]
    assert scores.macro_f1.value == 1
    assert scores.per_class["tulip"].recall == Interval(value=0.0, low=0.0, high=1.0, n=0)
    assert scores.per_class["tulip"].support == 0


def test_numbers_that_are_the_same_have_the_same_interval() -> None:
    scores = evaluate({"test": judged(200)}, seconds={}).splits["test"]
    assert scores.macro_recall == scores.balanced_accuracy
    assert scores.weighted_recall == scores.accuracy


def test_the_order_of_classes_changes_no_value() -> None:
    part = judged(200)
    order = np.array([3, 1, 4, 0, 2])
    turned = Predictions(
        logits=part.logits[:, order],
        labels=np.argsort(order)[part.labels],
        paths=part.paths,
        classes=tuple(CLASSES[number] for number in order),
    )
    first, second = (evaluate({"test": each}, seconds={}) for each in (part, turned))
    for measure in ("accuracy", "macro_f1", "weighted_precision", "ece", "nll", "brier"):
        a, b = first.interval("test", measure), second.interval("test", measure)
        assert a.value == pytest.approx(b.value)
        assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.012)
    assert first.splits["test"].per_class["rose"] == second.splits["test"].per_class["rose"]


def test_copies_in_groups_do_not_narrow_any_interval() -> None:
    part = judged(150)
    copies = Predictions(
        logits=np.repeat(part.logits, 3, axis=0),
        labels=np.repeat(part.labels, 3),
        paths=tuple(map(str, range(450))),
        classes=CLASSES,
    )
    groups = {"test": [str(number) for number in np.repeat(np.arange(150), 3)]}
    alone = evaluate({"test": part}, seconds={}).splits["test"]
    grouped = evaluate({"test": copies}, seconds={}, groups=groups).splits["test"]
    naive = evaluate({"test": copies}, seconds={}).splits["test"]
    for measure in ("accuracy", "macro_f1", "brier", "nll", "ece"):
        a, b, c = (getattr(each, measure) for each in (alone, grouped, naive))
        assert b.high - b.low == pytest.approx(a.high - a.low, rel=0.15)
        if measure != "ece":
            assert c.high - c.low < 0.75 * (b.high - b.low)
    for name in CLASSES:
        a, b = alone.per_class[name].f1, grouped.per_class[name].f1
        assert (b.low, b.high) == pytest.approx((a.low, a.high), abs=0.02)


def test_groups_of_one_photo_are_no_groups() -> None:
    part = judged(100)
    for groups in ([""] * 100, [str(number) for number in range(100)]):
        assert evaluate({"test": part}, seconds={}, groups={"test": groups}) == evaluate({"test": part}, seconds={})


def test_the_gap_is_train_minus_test() -> None:
    train, test = judged(800, skill=4.0), judged(200, seed=1, skill=1.5)
    found = evaluate({"train": train, "val": judged(50), "test": test}, seconds={})
    splits = found.splits
    assert found.gap["accuracy"] == difference(splits["train"].accuracy, splits["test"].accuracy)
    macro = found.gap["macro_f1"]
    assert macro.value == pytest.approx(splits["train"].macro_f1.value - splits["test"].macro_f1.value)
    square_and_add = difference(splits["train"].macro_f1, splits["test"].macro_f1)  # an independent approximation
    assert (macro.low, macro.high) == pytest.approx((square_and_add.low, square_and_add.high), abs=0.01)
    assert macro.n == 1000
    assert macro.low > 0
    assert found.gap_to_val["accuracy"] == difference(splits["train"].accuracy, splits["val"].accuracy)


def test_no_gap_without_both_and_an_honest_one_where_nothing_varies() -> None:
    assert evaluate({"val": judged(50), "test": judged(50)}, seconds={}).gap == {}
    perfect = evaluate({"train": judged(90, skill=99.0), "test": judged(30, skill=99.0)}, seconds={}).gap["macro_f1"]
    assert perfect.value == 0
    assert perfect.low < 0 < perfect.high


def test_a_split_is_measured_the_same_whatever_stands_beside_it() -> None:
    test = judged(120)
    alone = evaluate({"test": test}, seconds={}, seed=3)
    beside = evaluate({"train": judged(300, seed=1), "test": test}, seconds={}, seed=3)
    assert alone.splits["test"] == beside.splits["test"]
    assert alone.splits["test"] != evaluate({"test": test}, seconds={}, seed=4).splits["test"]


def test_only_val_has_been_seen_by_choices() -> None:
    found = evaluate({name: judged(30) for name in ("train", "val", "test")}, seconds={})
    assert [name for name, scores in found.splits.items() if scores.seen_by_choices] == ["val"]


def test_a_split_without_photos_is_left_out() -> None:
    empty = Predictions(logits=np.zeros((0, 5)), labels=np.zeros(0, dtype=int), paths=(), classes=CLASSES)
    assert set(evaluate({"val": empty, "test": judged(20)}, seconds={}).splits) == {"test"}
    with pytest.raises(DataError, match="0 parts with photos"):
        evaluate({"test": empty}, seconds={})


def test_what_does_not_belong_together_is_refused() -> None:
    with pytest.raises(DataError, match="same classes"):
        evaluate({"val": judged(9), "test": judged(9, classes=CLASSES[:3])}, seconds={})
    with pytest.raises(DataError, match="groups of test"):
        evaluate({"test": judged(9)}, seconds={}, groups={"test": ["a"]})


def test_an_evaluation_is_fast() -> None:
    parts = {"train": judged(2300), "val": judged(290, seed=1), "test": judged(290, seed=2)}
    evaluate({"test": judged(9)}, seconds={})  # SciPy is loaded
    started = time.process_time()
    evaluate(parts, seconds={})
    assert time.process_time() - started < 2.0
