"""`Predictions`: what a model said about labelled photos. The hinge between torch and NumPy; knows neither images nor models."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Predictions", "predictions_csv", "softmax"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def softmax(logits: Floats) -> Floats:
    """Probabilities (N,K) of logits (N,K); each row sums to 1."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Logits beside true labels.

    Args:
        logits: (N,K), finite.
        labels: (N,) integers in [0, K).
        paths: N file names.
        classes: K names.

    Raises:
        ValueError: if shapes disagree, a logit is not finite, or a label is out of range.
    """

    logits: Floats
    labels: Ints
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "logits", np.asarray(self.logits, dtype=np.float64))
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64))
        shape = (len(self.paths), len(self.classes))
        if self.logits.shape != shape or self.labels.shape != shape[:1]:
            raise ValueError(f"The logits of predictions must be {shape}. Got {self.logits.shape}.")
        if not np.isfinite(self.logits).all():
            raise ValueError("The logits of predictions must be finite.")
        if len(self.labels) and not (0 <= self.labels.min() and self.labels.max() < shape[1]):
            raise ValueError(f"The labels of predictions must be in [0, {shape[1]}).")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> Floats:
        """(N,K), each row sums to 1."""
        return softmax(self.logits)

    @property
    def predicted(self) -> Ints:
        """(N,) class of the largest logit; the first one of equals."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the predicted class is the label."""
        return np.asarray(self.predicted == self.labels)

    def at_temperature(self, temperature: float) -> Predictions:
        """The same predictions with logits divided by a temperature > 0; the predicted classes stay."""
        return Predictions(
            logits=self.logits / temperature, labels=self.labels, paths=self.paths, classes=self.classes
        )

    @classmethod
    def pooled(cls, parts: Sequence[Predictions]) -> Predictions:
        """All rows of several predictions over the same classes, e.g. out-of-fold parts.

        Raises:
            ValueError: if the parts have other classes.
        """
        if len({part.classes for part in parts}) != 1:
            raise ValueError("Pooled predictions must have the same classes.")
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            paths=tuple(path for part in parts for path in part.paths),
            classes=parts[0].classes,
        )


def predictions_csv(parts: Mapping[str, Predictions]) -> str:
    """The text of `predictions.csv`: `path,split,label,predicted,p_<class>...`, a photo a row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    classes = next(iter(parts.values())).classes
    writer.writerow(["path", "split", "label", "predicted", *(f"p_{name}" for name in classes)])
    for split, part in parts.items():
        writer.writerows(_rows(split, part))
    return text.getvalue()


def _rows(split: str, part: Predictions) -> Iterable[list[str]]:
    names = part.classes
    for path, label, predicted, row in zip(part.paths, part.labels, part.predicted, part.probabilities, strict=True):
        yield [path, split, names[label], names[predicted], *(f"{p:.6f}" for p in row)]
