"""Time, memory and recall of the search for look-alikes among as many as 100,000 photos.

    python benchmarks/duplicates.py flowers
    python benchmarks/duplicates.py flowers --photos 3000 --exact 3000 --results /tmp/check.md        (a quick check)

The features are those of real photos, made many by mixing two of a class at random, which puts them closer together
than photos are; hashes are random; one photo in a hundred is a planted copy. Laws: 60 s and 2 GB for all of them, and
on the first 10,000 at least 0.99 of the pairs that an exact comparison of all features and hashes finds. Exit code 1
if one is broken.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
from memory import watch_memory
from numpy.typing import NDArray
from photos import named_data
from results import Section, add_results_options, publish

from topwork.data.lookalikes import least_cosine, look_alikes
from topwork.data.neighbours import unit_features
from topwork.data.scan import ImageRecord, scan
from topwork.progress import silent
from topwork.recipe import load_recipe
from topwork.workflow.features import clean_features

SECONDS, BYTES, RECALL = 60.0, 2_000_000_000, 0.99
_COPIES = 100  # one photo in so many is a copy of the one before


def made_many(features: NDArray[np.float32], labels: NDArray[np.int64], count: int) -> NDArray[np.float32]:
    """Features (count,D): mixes of two photos of a class, and planted copies of the row before."""
    rng = np.random.default_rng(0)
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    many = np.empty((count, features.shape[1]), np.float32)
    for row in range(count):
        if row % _COPIES == 1:
            many[row] = many[row - 1] * rng.lognormal(0, 0.2, features.shape[1])
        else:
            one, other = rng.choice(by_class[rng.integers(len(by_class))], 2)
            share = rng.uniform(0.6, 1)
            many[row] = share * features[one] + (1 - share) * features[other]
    return many


def records_for(count: int) -> list[ImageRecord]:
    """Records with random hashes; copies differ in at most four bits."""
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, count, np.uint64)
    for row in range(1, count, _COPIES):
        hashes[row] = hashes[row - 1] ^ np.uint64(1 << int(rng.integers(64))) ^ np.uint64(1 << int(rng.integers(64)))
    common: dict[str, Any] = {"label": "a", "split": None, "group": None, "bytes": 1, "width": 9, "height": 9}
    return [
        ImageRecord(path=f"a/{row}.jpg", sha256=str(row), phash=int(phash), **common)
        for row, phash in enumerate(hashes)
    ]


def exact_pairs(records: list[ImageRecord], units: NDArray[np.float32]) -> set[tuple[int, int]]:
    """Every pair that the rule for plain copies accepts, by comparing all with all at full width."""
    hashes = np.array([record.phash for record in records], np.uint64)
    found: set[tuple[int, int]] = set()
    for top in range(0, len(units), 1000):
        cosines = units[top : top + 1000] @ units.T
        bits = np.bitwise_count(hashes[top : top + 1000, None] ^ hashes[None, :]).astype(np.int64)
        first, second = np.nonzero(cosines >= least_cosine(bits))
        found.update((int(i), int(j)) for i, j in zip(first + top, second, strict=True) if i < j)
    return found


def measured(many: NDArray[np.float32], *, exact: int) -> dict[str, Any]:
    """Seconds and memory of the whole search, and recall on the first `exact` rows."""
    records = records_for(len(many))
    with watch_memory(os.getpid()) as peak:
        started = time.perf_counter()
        pairs = look_alikes(records, units=unit_features(many))
        seconds = time.perf_counter() - started
    units = unit_features(many[:exact])
    expected = exact_pairs(records[:exact], units)
    found = {(pair.first, pair.second) for pair in look_alikes(records[:exact], units=units)}
    return {
        "photos": len(many),
        "seconds": round(seconds, 2),
        "memory": peak.to_json(),
        "pairs": len(pairs),
        "exact_photos": len(units),
        "exact_pairs": len(expected),
        "recall": len(found & expected) / max(1, len(expected)),
    }


def section_of(found: dict[str, Any]) -> tuple[Section, bool]:
    """The table, and whether the laws hold."""
    memory = found["memory"]["anonymous"]
    holds = found["seconds"] <= SECONDS and memory <= BYTES and found["recall"] >= RECALL
    section = Section(
        name="duplicates",
        title="Look-alikes among many photos",
        columns=["photos", "seconds", "peak memory", "pairs", "recall of exact pairs"],
        rows=[
            [
                f"{found['photos']:,}",
                f"{found['seconds']:.1f}",
                f"{memory / 1e9:.2f} GB",
                f"{found['pairs']:,}",
                f"{found['recall']:.4f} (n={found['exact_pairs']:,} pairs of {found['exact_photos']:,} photos)",
            ]
        ],
        notes=[
            f"Laws: at most {SECONDS:.0f} s, at most {BYTES / 1e9:.0f} GB (anonymous pages, the features among "
            f"them), recall at least {RECALL}: {'all hold' if holds else 'NOT all hold'}.",
            "Features: mixes of those of real photos; one photo in a hundred is a planted copy; hashes are random.",
        ],
        data=found,
    )
    return section, holds


def main() -> int:
    """Features of the photos, many of them, the search, the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or a name in TOPWORK_TEST_DATA")
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--exact", type=int, default=10_000, help="photos that are compared exactly too")
    add_results_options(parser)
    given = parser.parse_args()
    source = scan(named_data(given.data))
    features = clean_features(source, recipe=load_recipe("probe"), progress=silent)
    labels = np.array([source.classes.index(str(record.label)) for record in source.records], np.int64)
    section, holds = section_of(measured(made_many(features, labels, given.photos), exact=given.exact))
    publish(section, given)
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
