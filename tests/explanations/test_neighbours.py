"""Nearest photos against brute force; copies never appear."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from topwork.explanations.neighbours import Library, confusers, nearest


def _library(count: int = 60, width: int = 8) -> Library:
    rng = np.random.default_rng(1)
    return Library(
        features=rng.normal(size=(count, width)).astype(np.float32)
        * rng.uniform(0.1, 9, (count, 1)).astype(np.float32),
        paths=[f"{row}.jpg" for row in range(count)],
        labels=["ab"[row % 2] for row in range(count)],
        marks=[frozenset({f"sha{row}", f"group{row // 2}"}) for row in range(count)],
    )


def test_without_copies_it_is_scikit_learns() -> None:
    library = _library()
    plain = Library(
        features=library.features,
        paths=library.paths,
        labels=library.labels,
        marks=[frozenset({path}) for path in library.paths],
    )
    queries = np.random.default_rng(2).normal(size=(700, 8)).astype(np.float32)
    oracle = NearestNeighbors(n_neighbors=4, metric="cosine").fit(plain.features)
    distances, rows = oracle.kneighbors(queries)
    found = nearest(plain, queries, marks=[frozenset()] * len(queries), k=4)
    assert [[each.path for each in mine] for mine in found] == [[f"{row}.jpg" for row in line] for line in rows]
    np.testing.assert_allclose([[each.similarity for each in mine] for mine in found], 1 - distances, atol=1e-5)


@given(row=st.integers(0, 59), k=st.integers(1, 40))
def test_neither_the_query_nor_its_group_nor_two_of_one_group(row: int, k: int) -> None:
    library = _library()
    (found,) = nearest(library, library.features[row : row + 1], marks=[library.marks[row]], k=k)
    groups = [int(each.path.split(".")[0]) // 2 for each in found]
    assert row // 2 not in groups
    assert len(set(groups)) == len(groups) == min(k, 29)
    similar = [each.similarity for each in found]
    assert similar == sorted(similar, reverse=True)


def test_confusers_are_counted_by_hand() -> None:
    library = _library(6)
    found = nearest(library, library.features, marks=library.marks, k=2)
    named = confusers(found, library.labels, most=3)
    counts = {
        path: sum(
            each.path == path and each.label != label
            for mine, label in zip(found, library.labels, strict=True)
            for each in mine
        )
        for path in library.paths
    }
    assert [each.times for each in named] == sorted(counts.values(), reverse=True)[: len(named)]
    assert all(counts[each.path] == each.times and each.label not in each.classes for each in named)
