from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from topwork.measures.metrics import ClassCounts, confusion_matrix, most_confused

LABELLED = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30)


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    labels, predicted = np.array(pairs).T
    return labels, predicted


@given(LABELLED)
def test_every_measure_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = arrays(pairs)
    counts = ClassCounts.of(labels, predicted, classes=4)
    every = oracle.precision_recall_fscore_support(labels, predicted, labels=range(4), zero_division=0)
    for ours, theirs in zip((counts.precision, counts.recall, counts.f1, counts.truths), every, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)
    for how in ("macro", "weighted"):
        theirs = oracle.precision_recall_fscore_support(
            labels, predicted, labels=np.unique(labels), average=how, zero_division=0
        )
        for kind, value in zip(("precision", "recall", "f1"), theirs, strict=False):
            assert float(getattr(counts, f"{how}_{kind}")) == pytest.approx(value, abs=1e-12)
    assert float(counts.accuracy) == pytest.approx(oracle.accuracy_score(labels, predicted))


@given(LABELLED)
def test_balanced_accuracy_is_macro_recall_and_weighted_recall_is_accuracy(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = arrays(pairs)
    counts = ClassCounts.of(labels, predicted, classes=4)
    recalls = [np.mean(predicted[labels == label] == label) for label in np.unique(labels)]
    assert float(counts.balanced_accuracy) == float(counts.macro_recall) == pytest.approx(np.mean(recalls))
    assert float(counts.weighted_recall) == pytest.approx(float(counts.accuracy))


@given(LABELLED, st.permutations(range(4)))
def test_the_order_of_classes_and_photos_does_not_matter(pairs: list[tuple[int, int]], order: list[int]) -> None:
    labels, predicted = arrays(pairs)
    plain = ClassCounts.of(labels, predicted, classes=4)
    renamed = np.array(order)
    other = ClassCounts.of(renamed[labels][::-1], renamed[predicted][::-1], classes=4)
    np.testing.assert_allclose(other.f1[renamed], plain.f1)
    assert float(other.macro_f1) == pytest.approx(float(plain.macro_f1))


def test_a_photo_found_raises_every_average() -> None:
    labels, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    before = ClassCounts.of(labels, predicted, classes=3)
    predicted[1] = 0
    after = ClassCounts.of(labels, predicted, classes=3)
    for name in ("accuracy", "macro_f1", "macro_precision", "macro_recall", "weighted_f1"):
        assert float(getattr(after, name)) > float(getattr(before, name))


def test_a_class_without_photos_does_not_lower_the_average() -> None:
    labels = predicted = np.array([0, 0, 1])
    counts = ClassCounts.of(labels, predicted, classes=5)
    assert float(counts.macro_f1) == float(counts.macro_precision) == float(counts.balanced_accuracy) == 1.0


def test_no_photos_are_zero_and_no_warning() -> None:
    none = np.zeros(0, dtype=np.int64)
    counts = ClassCounts.of(none, none, classes=3)
    assert float(counts.accuracy) == float(counts.macro_f1) == float(counts.weighted_f1) == 0.0


def test_leading_axes_hold_resamples() -> None:
    rng = np.random.default_rng(0)
    drawn = [(rng.integers(0, 3, 20), rng.integers(0, 3, 20)) for _ in range(6)]
    each = [ClassCounts.of(labels, predicted, classes=3) for labels, predicted in drawn]
    stacked = ClassCounts(
        **{
            name: np.stack([getattr(one, name) for one in each]).reshape(2, 3, 3)
            for name in ("hits", "guesses", "truths")
        }
    )
    for name in ("accuracy", "macro_f1", "weighted_precision"):
        np.testing.assert_allclose(getattr(stacked, name).ravel(), [float(getattr(one, name)) for one in each])


@given(LABELLED)
def test_the_confusion_matrix_is_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    labels, predicted = arrays(pairs)
    theirs = oracle.confusion_matrix(labels, predicted, labels=range(4))
    np.testing.assert_array_equal(confusion_matrix(labels, predicted, classes=4), theirs)


def test_the_most_confused_come_first_and_ties_by_name() -> None:
    matrix = np.array([[9, 2, 0], [5, 9, 2], [0, 0, 9]])
    assert most_confused(matrix, ("b", "a", "c")) == [("a", "b", 5), ("a", "c", 2), ("b", "a", 2)]
    assert most_confused(matrix, ("b", "a", "c"), limit=1) == [("a", "b", 5)]
    assert most_confused(np.diag([1, 2]), ("a", "b")) == []
