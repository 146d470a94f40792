"""The ladder below fine-tuning: majority class, colour histogram, nearest neighbours. Knows arrays and photos only.

Each rung is what the next one must beat: knowing only how common classes are, only the colours, only which training
photos look alike to a pretrained network. The linear probe, the last rung, is a recipe like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topwork.cores import CORES
from topwork.data.batches import run_ahead
from topwork.data.decode import decode
from topwork.progress import Progress, silent

__all__ = ["Fitted", "Labels", "colour_histograms", "fit_histogram", "fit_majority", "fit_neighbours"]

_Floats = npt.NDArray[np.float64]
_Ints = npt.NDArray[np.int64]

_LEVELS = 6  # a channel: 216 colours, coarse enough that a few hundred photos teach something
_SIDE = 96  # pixels; colours need no detail
_STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # C of the logistic regression: weak to strong trust in the photos
_NEIGHBOURS = (1, 3, 5, 10, 20, 50)
_SMALLEST = 1e-6  # share of a class that no training photo has


@dataclass(frozen=True, kw_only=True, eq=False)
class Labels:
    """What a baseline may learn from.

    Args:
        train, val: positions of photos, (n,) and (m,); `val` chooses k and C, and may be empty.
        labels: (N,) in [0, classes), of all photos.
        classes: K.
    """

    train: _Ints
    val: _Ints
    labels: _Ints
    classes: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Fitted:
    """A baseline that has learned.

    Args:
        logits: (N,K) of all photos.
        choice: what validation chose, in words; may be empty.
        numbers: float32 numbers that must be kept to answer for a new photo.
    """

    logits: _Floats
    choice: str
    numbers: int


def fit_majority(features: _Floats, known: Labels) -> Fitted:
    """Every photo gets the classes' shares of the training part, hence its most common class.

    Args:
        features: (N,...); only their number counts.
        known: what may be learned from.
    """
    shares = np.bincount(known.labels[known.train], minlength=known.classes) / len(known.train)
    logits = np.tile(np.log(np.maximum(shares, _SMALLEST)), (len(features), 1))
    return Fitted(logits=logits, choice="", numbers=known.classes)


def colour_histograms(paths: Sequence[Path], *, workers: int = CORES, progress: Progress = silent) -> _Floats:
    """Square roots of the shares of 216 colours in each photo, (N,216); rows have length 1.

    The root makes distances those of Hellinger, under which rare colours count.

    Args:
        paths: photos, read as everything here reads them.
        workers: reading threads, >= 1.
        progress: told how far it is.

    Raises:
        DecodeError: if a photo cannot be read.
    """
    step = 64
    groups = (paths[start : start + step] for start in range(0, len(paths), step))
    rows: list[_Floats] = []
    for found in run_ahead(_histogram, groups, workers=workers):
        rows += found
        progress.step("colour histograms", len(rows), len(paths))
    return np.stack(rows)


def fit_histogram(features: _Floats, known: Labels) -> Fitted:
    """Multinomial logistic regression on colour histograms (N,216); its strength C is chosen on validation NLL."""
    from sklearn.linear_model import LogisticRegression

    train, judged = known.train, known.val if len(known.val) else known.train
    best: tuple[float, float, _Floats] | None = None
    for strength in _STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(features[train], known.labels[train])
        logits = np.full((len(features), known.classes), np.log(_SMALLEST))
        logits[:, model.classes_] = model.predict_log_proba(features)
        loss = _nll(logits[judged], known.labels[judged])
        if best is None or loss < best[0]:
            best = (loss, strength, logits)
    assert best is not None, "there are strengths to try"
    _, strength, logits = best
    return Fitted(logits=logits, choice=f"C = {strength:g}", numbers=(features.shape[1] + 1) * known.classes)


def fit_neighbours(features: _Floats, known: Labels) -> Fitted:
    """The classes of the k training photos with the most similar features, k chosen on validation accuracy.

    Similarity is the cosine. p of class c is (votes of c + 1/K) / (k + 1); of equal votes, the nearer ones win. The
    smallest k of those that are right most often is taken, ties by NLL.

    Args:
        features: (N,D) of a frozen network.
        known: what may be learned from.

    Source: T. Cover, P. Hart (1967), IEEE Transactions on Information Theory 13(1).
    """
    from sklearn.neighbors import NearestNeighbors

    train, judged = known.train, known.val if len(known.val) else known.train
    most = min(max(_NEIGHBOURS), len(train) - 1) or 1
    finder = NearestNeighbors(n_neighbors=most, metric="cosine", algorithm="brute").fit(features[train])
    votes = known.labels[train][finder.kneighbors(features, return_distance=False)]  # (N,most) nearest first
    best: tuple[tuple[float, float], int, _Floats] | None = None
    for k in [k for k in _NEIGHBOURS if k <= most] or [most]:
        logits = _votes(votes[:, :k], known.classes)
        right = float((logits[judged].argmax(axis=1) == known.labels[judged]).mean())
        rank = (-right, _nll(logits[judged], known.labels[judged]))
        if best is None or rank < best[0]:
            best = (rank, k, logits)
    assert best is not None, "there are numbers of neighbours to try"
    _, k, logits = best
    return Fitted(logits=logits, choice=f"k = {k}", numbers=len(train) * features.shape[1])


def _votes(neighbours: _Ints, classes: int) -> _Floats:
    """Logs (N,K) of smoothed shares of votes (N,k), nearest first."""
    k = neighbours.shape[1]
    weights = 1 + 1e-6 * np.arange(k, 0, -1)  # decides between equal votes only
    counts = np.stack([(weights * (neighbours == number)).sum(axis=1) for number in range(classes)], axis=1)
    return np.asarray(np.log((counts + 1 / classes) / (k + 1)))


def _nll(logits: _Floats, labels: _Ints) -> float:
    top = logits.max(axis=1, keepdims=True)
    log_p = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return float(-log_p[np.arange(len(labels)), labels].mean())


def _histogram(path: Path) -> _Floats:
    pixels = decode(path, target=_SIDE).pixels.reshape(-1, 3)  # (H*W,3) uint8
    red, green, blue = (pixels.astype(np.int64) * _LEVELS // 256).T
    counts = np.bincount((red * _LEVELS + green) * _LEVELS + blue, minlength=_LEVELS**3)
    return np.asarray(np.sqrt(counts / counts.sum()))
