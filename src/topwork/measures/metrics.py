"""`ClassCounts` -> accuracy, precision, recall, F1. Knows counts only: neither probabilities nor intervals.

Every measure here depends on three counts a class, whatever the number of classes, so a bootstrap resamples 3 K sums
instead of a K x K matrix. A ratio without a denominator is 0, as in scikit-learn with `zero_division=0`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ClassCounts", "confusion_matrix", "most_confused"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]


def confusion_matrix(labels: _Ints, predicted: _Ints, *, classes: int) -> _Ints:
    """(K,K) photos by true class (row) and predicted class (column).

    Args:
        labels, predicted: (N,) integers in [0, classes).
        classes: K >= 1.

    Example:
        >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return np.asarray(flat.reshape(classes, classes), dtype=np.int64)


def most_confused(matrix: _Ints, classes: tuple[str, ...], *, limit: int = 10) -> list[tuple[str, str, int]]:
    """`(true, predicted, photos)` off the diagonal of a confusion matrix (K,K), most first, then by name."""
    rows, columns = np.nonzero(matrix)
    pairs = [(classes[i], classes[j], int(matrix[i, j])) for i, j in zip(rows, columns, strict=True) if i != j]
    return sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:limit]


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassCounts:
    """What precision, recall and F1 are made of. Leading axes (...) hold resamples.

    Macro averages run over the classes that have photos: a class without any has no recall, and would punish a split
    for what is not in it. Then macro recall is balanced accuracy, and weighted recall is accuracy.

    Args:
        hits: (...,K) photos of a class that were given that class.
        guesses: (...,K) photos that were given a class.
        truths: (...,K) photos that have it.

    Example:
        >>> counts = ClassCounts.of(np.array([0, 0, 1]), np.array([0, 1, 1]), classes=2)
        >>> counts.precision.tolist(), counts.recall.tolist(), round(float(counts.macro_f1), 3)
        ([1.0, 0.5], [0.5, 1.0], 0.667)
    """

    hits: _Floats
    guesses: _Floats
    truths: _Floats

    @classmethod
    def of(cls, labels: _Ints, predicted: _Ints, *, classes: int) -> ClassCounts:
        """Counts (K,) of labels (N,) and predicted classes (N,), both in [0, classes)."""
        return cls(
            hits=_histogram(labels[labels == predicted], classes),
            guesses=_histogram(predicted, classes),
            truths=_histogram(labels, classes),
        )

    @property
    def accuracy(self) -> _Floats:
        """(...) share of photos whose class was found."""
        return _ratio(self.hits.sum(-1), self.truths.sum(-1))

    @property
    def balanced_accuracy(self) -> _Floats:
        """(...) mean recall of the classes that have photos; the same as `macro_recall`."""
        return self.macro_recall

    @property
    def precision(self) -> _Floats:
        """(...,K) hits / guesses."""
        return _ratio(self.hits, self.guesses)

    @property
    def recall(self) -> _Floats:
        """(...,K) hits / truths."""
        return _ratio(self.hits, self.truths)

    @property
    def f1(self) -> _Floats:
        """(...,K) 2 hits / (guesses + truths), the harmonic mean of precision and recall."""
        return _ratio(2 * self.hits, self.guesses + self.truths)

    @property
    def macro_precision(self) -> _Floats:
        """(...) mean precision of the classes that have photos."""
        return self._macro(self.precision)

    @property
    def macro_recall(self) -> _Floats:
        """(...) mean recall of the classes that have photos."""
        return self._macro(self.recall)

    @property
    def macro_f1(self) -> _Floats:
        """(...) mean F1 of the classes that have photos."""
        return self._macro(self.f1)

    @property
    def weighted_precision(self) -> _Floats:
        """(...) mean precision, classes weighted by their photos."""
        return self._weighted(self.precision)

    @property
    def weighted_recall(self) -> _Floats:
        """(...) mean recall, classes weighted by their photos; the same as `accuracy`."""
        return self._weighted(self.recall)

    @property
    def weighted_f1(self) -> _Floats:
        """(...) mean F1, classes weighted by their photos."""
        return self._weighted(self.f1)

    def _macro(self, scores: _Floats) -> _Floats:
        present = (self.truths > 0).astype(np.float64)
        return _ratio((scores * present).sum(-1), present.sum(-1))

    def _weighted(self, scores: _Floats) -> _Floats:
        return _ratio((scores * self.truths).sum(-1), self.truths.sum(-1))


def _histogram(classes_seen: _Ints, classes: int) -> _Floats:
    return np.asarray(np.bincount(classes_seen, minlength=classes), dtype=np.float64)


def _ratio(top: _Floats, bottom: _Floats) -> _Floats:
    return np.asarray(np.divide(top, bottom, out=np.zeros_like(top), where=bottom > 0))
