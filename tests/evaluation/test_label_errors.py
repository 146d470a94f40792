"""Planted wrong labels come first, and confident learning counts what cleanlab counts."""

from __future__ import annotations

import numpy as np
import pytest

from topwork.evaluation.label_errors import confident_issues, label_suspects, out_of_fold

CLASSES, EACH, WIDTH = 4, 60, 24


def blobs(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features of four classes that overlap a little, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), EACH)
    centres = rng.gamma(0.4, size=(CLASSES, WIDTH))
    features = centres[labels] * rng.uniform(0.3, 1.7, (len(labels), WIDTH)) + rng.gamma(0.2, size=(len(labels), WIDTH))
    return features.astype(np.float32), labels


def flipped(labels: np.ndarray, share: float = 0.05, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Labels of which a share is another, and the rows of these."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(labels), round(share * len(labels)), replace=False)
    wrong = labels.copy()
    wrong[rows] = (labels[rows] + rng.integers(1, CLASSES, len(rows))) % CLASSES
    return wrong, rows


def test_planted_flips_come_first_with_the_label_that_was_right() -> None:
    features, labels = blobs()
    wrong, rows = flipped(labels)
    suspects = label_suspects(features, wrong, groups=np.arange(len(labels)))
    assert sorted(suspect.row for suspect in suspects) == list(range(len(labels)))
    assert [suspect.score for suspect in suspects] == sorted(suspect.score for suspect in suspects)
    first = suspects[: len(rows)]
    assert np.mean(np.isin([suspect.row for suspect in first], rows)) >= 0.9
    assert all(suspect.suggested == labels[suspect.row] for suspect in first if suspect.row in set(rows))
    certain = [suspect.row for suspect in suspects if suspect.wrong]
    assert len(certain) >= len(rows) / 2
    assert set(certain) <= set(rows.tolist())


def test_right_labels_are_not_called_wrong() -> None:
    features, labels = blobs()
    assert not [s for s in label_suspects(features, labels, groups=np.arange(len(labels))) if s.wrong]


def test_the_seed_decides_the_folds_and_nothing_else_does() -> None:
    features, labels = blobs()
    wrong, _ = flipped(labels)
    once = label_suspects(features, wrong, groups=np.arange(len(labels)), seed=3)
    assert once == label_suspects(features, wrong, groups=np.arange(len(labels)), seed=3)
    assert once != label_suspects(features, wrong, groups=np.arange(len(labels)), seed=4)


def test_no_copy_judges_a_copy() -> None:
    """Four copies with one wrong label vouch for each other, unless they are known to be copies."""
    features, labels = blobs()
    features, wrong = np.vstack([features, features[:1].repeat(4, 0)]), np.append(labels, [2] * 4)
    alone, together = np.arange(len(wrong)), np.append(np.arange(len(labels)), [0] * 4)
    seen = out_of_fold(features / np.linalg.norm(features, axis=1, keepdims=True), wrong, groups=alone)
    unseen = out_of_fold(features / np.linalg.norm(features, axis=1, keepdims=True), wrong, groups=together)
    assert unseen[-1, 2] < 0.1 < seen[-1, 2]


def test_probabilities_are_probabilities() -> None:
    features, labels = blobs()
    found = out_of_fold(features, labels, groups=np.zeros(len(labels), np.int64) + np.arange(len(labels)) // 7)
    assert found.shape == (len(labels), CLASSES)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert (found >= 0).all()


@pytest.mark.parametrize("seed", range(5))
def test_confident_learning_agrees_with_cleanlab(seed: int) -> None:
    count = pytest.importorskip("cleanlab.count", reason="needs cleanlab, of the dev extra")
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, 300)
    logits = rng.normal(size=(300, CLASSES)) + 2.5 * np.eye(CLASSES)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wrong, _ = flipped(labels, 0.1, seed)
    _, rows = count.compute_confident_joint(wrong, probabilities, return_indices_of_off_diagonals=True, calibrate=False)
    assert np.flatnonzero(confident_issues(probabilities, wrong)).tolist() == sorted(rows)
    assert len(rows) > 10


def test_a_class_of_no_photo_is_never_the_right_one() -> None:
    probabilities = np.array([[0.1, 0.9, 0.0], [0.8, 0.2, 0.0], [0.05, 0.05, 0.9]])
    assert confident_issues(probabilities, np.array([0, 0, 1])).tolist() == [True, False, False]
