from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier

from topwork.training.baselines import Labels, colour_histograms, fit_histogram, fit_majority, fit_neighbours


def clouds(n: int = 240, *, classes: int = 3, apart: float = 1.5) -> tuple[np.ndarray, Labels]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, classes, n)
    features = rng.normal(size=(n, 8)) + apart * np.eye(8)[labels]
    order = rng.permutation(n)
    return features, Labels(train=order[:150], val=order[150:190], labels=labels, classes=classes)


def test_the_majority_is_scikit_learns() -> None:
    features, known = clouds()
    theirs = DummyClassifier(strategy="prior").fit(features[known.train], known.labels[known.train])
    np.testing.assert_allclose(np.exp(fit_majority(features, known).logits), theirs.predict_proba(features))


def test_neighbours_vote_as_scikit_learns_do() -> None:
    features, known = clouds()
    found = fit_neighbours(features, known)
    k = int(found.choice.removeprefix("k = "))
    theirs = KNeighborsClassifier(k, metric="cosine").fit(features[known.train], known.labels[known.train])
    shares = (np.exp(found.logits) * (k + 1) - 1 / 3) / k
    np.testing.assert_allclose(shares, theirs.predict_proba(features), atol=1e-4)


def test_k_is_the_best_on_validation_and_no_other_photo_is_looked_at() -> None:
    features, known = clouds()
    found = fit_neighbours(features, known)
    right = {
        k: KNeighborsClassifier(k, metric="cosine")
        .fit(features[known.train], known.labels[known.train])
        .score(features[known.val], known.labels[known.val])
        for k in (1, 3, 5, 10, 20, 50)
    }
    assert right[int(found.choice.removeprefix("k = "))] >= max(right.values()) - 1 / 40  # ties in votes
    hidden = np.setdiff1d(np.arange(240), np.concatenate([known.train, known.val]))
    labels = known.labels.copy()
    labels[hidden] = 0
    other = Labels(train=known.train, val=known.val, labels=labels, classes=3)
    for fit in (fit_majority, fit_neighbours, fit_histogram):
        np.testing.assert_array_equal(fit(features, known).logits, fit(features, other).logits)


def test_a_class_without_training_photos_is_unlikely_and_finite() -> None:
    features, known = clouds()
    known = Labels(train=known.train[known.labels[known.train] != 2], val=known.val, labels=known.labels, classes=3)
    for fit in (fit_majority, fit_neighbours, fit_histogram):
        logits = fit(features, known).logits
        assert np.isfinite(logits).all()
        assert (logits.argmax(axis=1) != 2).all()


def test_few_photos_are_enough() -> None:
    features = np.eye(4)
    known = Labels(train=np.array([0, 1]), val=np.array([], dtype=np.int64), labels=np.array([0, 1, 0, 1]), classes=2)
    for fit in (fit_majority, fit_neighbours, fit_histogram):
        assert fit(features, known).logits.shape == (4, 2)


def test_histograms_count_colours(tmp_path: Path) -> None:
    half = np.zeros((64, 64, 3), dtype=np.uint8)
    half[:32] = (255, 0, 0)
    for name, pixels in (("half", half), ("flipped", half[::-1]), ("blue", np.full_like(half, (0, 0, 255)))):
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    rows = colour_histograms([tmp_path / f"{name}.png" for name in ("half", "flipped", "blue")])
    assert rows.shape == (3, 216)
    assert sorted(rows[0][rows[0] > 0]) == pytest.approx([np.sqrt(0.5)] * 2)
    np.testing.assert_array_equal(rows[0], rows[1])  # where a colour stands does not count
    assert rows[0] @ rows[2] == 0


def test_colours_tell_classes_of_colours_apart(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    paths = [tmp_path / f"{number}.png" for number in range(60)]
    for path, label in zip(paths, labels, strict=True):
        share = 0.2 + 0.15 * (np.arange(3) == label)  # of the pixels that are bright in each channel
        Image.fromarray((rng.random((64, 64, 3)) < share).astype(np.uint8) * 255).save(path)
    known = Labels(train=np.arange(30), val=np.arange(30, 40), labels=labels, classes=3)
    found = fit_histogram(colour_histograms(paths), known)
    assert (found.logits[40:].argmax(1) == labels[40:]).all()
