"""Nearest training photos: what a network finds most alike, by the cosine of features. Knows arrays and names only."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Confuser", "Library", "Neighbour", "confusers", "nearest"]

_Floats = npt.NDArray[np.float32]
_CHUNK = 512  # queries at a time: 512 x 100,000 similarities are 200 MB


@dataclass(frozen=True, kw_only=True, eq=False)
class Library:
    """Photos to look among.

    Args:
        features: (M,D), any scale.
        paths, labels: M of each.
        marks: for each photo what it shares with its copies: digest of its bytes, name of its group.
    """

    features: _Floats
    paths: Sequence[str]
    labels: Sequence[str]
    marks: Sequence[frozenset[str]]


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """One photo of a library, seen from a query.

    Args:
        path, label: as in the library.
        similarity: cosine of the features, in [-1,1].
    """

    path: str
    label: str
    similarity: float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"path": self.path, "label": self.label, "similarity": round(self.similarity, 4)}


@dataclass(frozen=True, kw_only=True)
class Confuser:
    """A training photo that photos of other classes find most alike.

    Args:
        path, label: of the training photo.
        times: queries of another class that have it among their nearest.
        classes: those queries' classes, the most frequent first.
    """

    path: str
    label: str
    times: int
    classes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"path": self.path, "label": self.label, "times": self.times, "classes": list(self.classes)}


def nearest(
    library: Library, queries: _Floats, *, marks: Sequence[frozenset[str]], k: int = 5
) -> list[tuple[Neighbour, ...]]:
    """The k most similar photos of each query, the most similar first; copies are left out.

    A photo that shares a mark with the query is the query again and says nothing. Of photos that share a mark with one
    another only the nearest is kept.

    Args:
        library: M photos.
        queries: (N,D) features.
        marks: for each query, as in the library; empty if nothing is known.
        k: neighbours of each, >= 1; fewer where the library is small.
    """
    rows = _unit(library.features)
    found = []
    for start in range(0, len(queries), _CHUNK):
        similar = _unit(queries[start : start + _CHUNK]) @ rows.T  # (n,M)
        for own, line in zip(marks[start : start + _CHUNK], similar, strict=True):
            found.append(_best(library, line, own=own, k=k))
    return found


def confusers(
    neighbours: Sequence[Sequence[Neighbour]], labels: Sequence[str], *, most: int = 12
) -> tuple[Confuser, ...]:
    """The training photos that most often stand near photos of another class.

    Args:
        neighbours: of each query, from `nearest`.
        labels: true class of each query.
        most: how many are named.
    """
    near: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for mine, label in zip(neighbours, labels, strict=True):
        for other in mine:
            if other.label != label:
                near[other.path, other.label][label] += 1
    ranked = sorted(near.items(), key=lambda pair: (-pair[1].total(), pair[0]))[:most]
    return tuple(
        Confuser(
            path=path,
            label=label,
            times=counts.total(),
            classes=tuple(sorted(counts, key=lambda name: (-counts[name], name))),
        )
        for (path, label), counts in ranked
    )


def _unit(features: _Floats) -> _Floats:
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.asarray(features / np.maximum(length, 1e-12), np.float32)


def _best(library: Library, line: _Floats, *, own: frozenset[str], k: int) -> tuple[Neighbour, ...]:
    taken: set[str] = set(own)
    chosen: list[Neighbour] = []
    for row in np.argsort(-line, kind="stable"):
        if len(chosen) == k:
            break
        if taken & library.marks[row]:
            continue
        taken |= library.marks[row]
        chosen.append(
            Neighbour(path=library.paths[row], label=library.labels[row], similarity=min(1.0, float(line[row])))
        )
    return tuple(chosen)
