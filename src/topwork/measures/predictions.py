"""`Predictions`: what a model said about labelled photos. The hinge between torch and NumPy; knows neither."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from topwork.errors import DataError

__all__ = ["Predictions", "predictions_csv", "read_predictions_csv", "softmax"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

_SMALLEST = float(
    np.finfo(np.float64).tiny
)  # stands in for a probability that has become 0, whose logarithm is not finite
_FIXED = ("path", "split", "label", "predicted")
_TIE = 1e-9  # two probabilities this close may both be called the largest


def softmax(logits: _Floats) -> _Floats:
    """Probabilities (N,K) of logits (N,K); each row sums to 1.

    The row's largest logit is subtracted first, so that no finite logit overflows.

    Example:
        >>> softmax(np.array([[1000.0, 1000.0]])).tolist()
        [[0.5, 0.5]]
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """Logits beside true labels; arrays are copied, converted and made read-only.

    Args:
        logits: (N,K), finite.
        labels: (N,) integers in [0, K).
        paths: N file names, as the manifest has them.
        classes: K >= 1 different names.

    Raises:
        DataError: if shapes disagree, a logit is not finite, a label is no integer or out of range, or classes repeat.
    """

    logits: _Floats
    labels: _Ints
    paths: tuple[str, ...]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        logits, labels = np.array(self.logits, dtype=np.float64), np.asarray(self.labels)
        _check(logits, labels, paths=self.paths, classes=self.classes)
        fields = {"logits": logits, "labels": labels.astype(np.int64)}
        for name, array in fields.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "paths", tuple(self.paths))
        object.__setattr__(self, "classes", tuple(self.classes))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> _Floats:
        """(N,K), each row sums to 1."""
        return softmax(self.logits)

    @property
    def predicted(self) -> _Ints:
        """(N,) class of the largest logit; the first one of equals."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64)

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """(N,) whether the predicted class is the label."""
        return np.asarray(self.predicted == self.labels)

    def at_temperature(self, temperature: float) -> Predictions:
        """The same predictions with logits divided by a temperature; above 1 it lowers every confidence.

        Args:
            temperature: finite and > 0; the predicted classes do not depend on it.

        Raises:
            DataError: if it is not.
        """
        if not (np.isfinite(temperature) and temperature > 0):
            raise DataError(
                f"The temperature of Predictions must be finite and above 0. Got {temperature}.",
                fix="use the temperature that fit_temperature returns, or 1.",
            )
        return replace(self, logits=self.logits / temperature)

    @classmethod
    def pooled(cls, parts: Sequence[Predictions]) -> Predictions:
        """All rows of several predictions over the same classes, e.g. the out-of-fold parts of a cross-validation.

        Raises:
            DataError: without parts, if their classes differ, or if a photo occurs twice: it would count as two
                independent observations and make every interval too narrow.
        """
        if len({part.classes for part in parts}) != 1:
            raise DataError(
                f"The classes of pooled Predictions must be the same. Got {[part.classes for part in parts]}.",
                fix="pool the folds of one data set.",
            )
        paths = tuple(path for part in parts for path in part.paths)
        if len(set(paths)) != len(paths):
            raise DataError(
                f"The photos of pooled Predictions must differ. Got {len(paths)} rows of {len(set(paths))} photos.",
                fix="pool parts that share no photo, such as the test parts of one set of folds.",
            )
        return cls(
            logits=np.concatenate([part.logits for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            paths=paths,
            classes=parts[0].classes,
        )


def predictions_csv(parts: Mapping[str, Predictions]) -> str:
    """The text of `predictions.csv`: `path,split,label,predicted,p_<class>...`, a photo a row.

    Probabilities have as many digits as they need to be read back exactly.

    Args:
        parts: split -> predictions, at least one, all over the same classes.

    Raises:
        DataError: if their classes differ.
    """
    if len({part.classes for part in parts.values()}) != 1:
        raise DataError(
            f"The parts of predictions.csv must share their classes. Got {[part.classes for part in parts.values()]}.",
            fix="write the parts of one run.",
        )
    text = io.StringIO()
    plain = csv.writer(text, lineterminator="\n")
    quoted = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    classes = next(iter(parts.values())).classes
    rows = [row for split, part in parts.items() for row in _rows(split, part)]
    for row in [[*_FIXED, *(f"p_{name}" for name in classes)], *rows]:
        returns = any("\r" in cell for cell in row)  # Python before 3.13 leaves it bare, and readers end the row there
        (quoted if returns else plain).writerow(row)
    return text.getvalue()


def read_predictions_csv(text: str) -> dict[str, Predictions]:
    """The inverse of `predictions_csv`; logits come back as log probabilities, which differ by a constant a row.

    Raises:
        DataError: if the text is no such table; it names the row.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    classes = tuple(name.removeprefix("p_") for name in header[len(_FIXED) :])
    if tuple(header[: len(_FIXED)]) != _FIXED or header[len(_FIXED) :] != [f"p_{name}" for name in classes]:
        raise _unreadable(f"The header of predictions.csv must be {','.join(_FIXED)},p_<class>... Got {header[:6]}.")
    rows: dict[str, list[tuple[str, int, _Floats]]] = {}
    for number, row in enumerate(reader, start=2):
        split, parsed = _parsed(row, classes, number=number)
        rows.setdefault(split, []).append(parsed)
    return {
        split: Predictions(
            logits=np.log(np.maximum([p for _, _, p in found], _SMALLEST)),
            labels=np.array([label for _, label, _ in found]),
            paths=tuple(path for path, _, _ in found),
            classes=classes,
        )
        for split, found in rows.items()
    }


def _rows(split: str, part: Predictions) -> Iterator[list[str]]:
    names, probabilities = part.classes, part.probabilities.tolist()
    for path, label, predicted, row in zip(part.paths, part.labels, part.predicted, probabilities, strict=True):
        yield [path, split, names[label], names[predicted], *map(repr, row)]


def _parsed(row: list[str], classes: tuple[str, ...], *, number: int) -> tuple[str, tuple[str, int, _Floats]]:
    try:
        path, split, label, predicted, *numbers = row
        p = np.array([float(cell) for cell in numbers])
        truth, guess = classes.index(label), classes.index(predicted)
    except ValueError as problem:
        raise _unreadable(f"Row {number} of predictions.csv cannot be read: {problem}.") from problem
    if len(p) != len(classes) or not (np.isfinite(p).all() and p.min() >= 0 and abs(p.sum() - 1) < 1e-6):
        raise _unreadable(
            f"The p columns of row {number} of predictions.csv must be {len(classes)} shares that sum to 1."
        )
    if p[guess] < p.max() - _TIE:
        raise _unreadable(f"The predicted class of row {number} of predictions.csv must have the largest p.")
    return split, (path, truth, p)


def _unreadable(what: str) -> DataError:
    return DataError(what, fix="write the file again with `topwork evaluate RUN`.")


def _check(logits: _Floats, labels: npt.NDArray[np.generic], *, paths: Sequence[str], classes: Sequence[str]) -> None:
    shape = (len(paths), len(classes))
    if logits.shape != shape or labels.shape != shape[:1]:
        raise DataError(
            f"The logits and labels of Predictions must be {shape} and {shape[:1]} for {shape[0]} paths and {shape[1]}"
            f" classes. Got {logits.shape} and {labels.shape}.",
            fix="give one row of logits, one label and one path for each photo.",
        )
    if not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"The classes of Predictions must be different names, at least one. Got {tuple(classes)}.",
            fix="name every class once.",
        )
    if bad := int((~np.isfinite(logits)).any(axis=1).sum()):
        raise DataError(
            f"The logits of Predictions must be finite. Got NaN or infinity for {bad} of {len(paths)} photos.",
            fix="train with a lower learning rate, or at precision f32.",
        )
    if len(labels) and not (np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < shape[1]):
        raise DataError(
            f"The labels of Predictions must be integers in [0, {shape[1]}). Got {labels.dtype} from {labels.min()} to"
            f" {labels.max()}.",
            fix="number the classes from 0 in their order.",
        )
