"""A fold is measured once: the log of folds survives a kill and keeps photos, recipe and code apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accuracy import FoldLog, Seed, rows_of
from photos import scan_with_groups, thinned


def fold(key: str, *, first: int = 0, right: int = 8) -> dict[str, Any]:
    labels = [0, 1] * 5
    guesses = [label if row < right else 1 - label for row, label in enumerate(labels)]
    return {
        "key": key,
        "paths": [f"{first + row}.jpg" for row in range(10)],
        "labels": labels,
        "logits": (3.0 * np.eye(2)[guesses]).tolist(),
        "classes": ["a", "b"],
        "groups": [f"{first + row}" for row in range(10)],
        "val_nll": [0.5],
        "seconds": 10.0,
        "peak_gb": 1.0,
    }


def test_a_fold_comes_back_as_it_was_written(tmp_path: Path) -> None:
    log = FoldLog(tmp_path / "folds.jsonl")
    assert log.get("one") is None
    log.add(fold("one"))
    log.add(fold("two"))
    assert FoldLog(tmp_path / "folds.jsonl").get("one") == fold("one")
    assert FoldLog(tmp_path / "folds.jsonl", again=True).get("one") is None


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_killed_write_loses_that_fold_only(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "folds.jsonl"
    log = FoldLog(path)
    log.add(fold("one"))
    log.add(fold("two"))
    path.write_bytes(path.read_bytes()[:-cut])
    survivor = FoldLog(path)
    survivor.add(fold("three"))
    found = FoldLog(path)
    assert found.get("one") == fold("one")
    assert found.get("three") == fold("three")
    assert (found.get("two") == fold("two")) is (cut == 1)  # only the line's end was lost


def test_folds_are_pooled_and_seeds_spread() -> None:
    seeds = [Seed.of(seed, [fold("a", right=right), fold("b", first=10)]) for seed, right in ((0, 8), (1, 10))]
    assert [one.scores["accuracy"].value for one in seeds] == [0.8, 0.9]
    assert seeds[0].scores["accuracy"].n == 20
    rows = rows_of("probe", seeds)
    assert [row[1] for row in rows] == ["0", "1", "all"]
    assert rows[-1][2] == "0.8500, deviation 0.0707"


def test_thinning_does_not_depend_on_file_names(drawn_photos: Path) -> None:
    found = scan_with_groups(drawn_photos, None)
    few = thinned(found, 3)
    assert len(few.records) == 3 * len(found.classes)
    assert thinned(found, None) is found
    assert {record.label for record in few.records} == set(found.classes)
    kept = sorted(record.sha256 for record in few.records if record.label == found.classes[0])
    assert kept == sorted(record.sha256 for record in found.records if record.label == found.classes[0])[:3]
