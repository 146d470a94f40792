"""The table of known systems: every shipped system has its row, and pairs are tested on the same photos."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from systems import NOT_MEASURED, PAIRS, SYSTEMS, Measured, blocks_or_layers, has_weights, pooled, recipe_of

from topwork.recipe import packaged_recipes

NAMES = {system.name: system for system in SYSTEMS}


def fold(right: int, *, first: int = 0) -> dict[str, Any]:
    labels = [0, 1] * 10
    guesses = [label if row < right else 1 - label for row, label in enumerate(labels)]
    return {
        "paths": [f"{first + row}.jpg" for row in range(20)],
        "labels": labels,
        "logits": (3.0 * np.eye(2)[guesses]).tolist(),
        "classes": ["a", "b"],
        "groups": [f"{first + row}" for row in range(20)],
        "seconds": 2.5,
    }


def test_every_known_system_has_a_row_and_every_row_a_recipe() -> None:
    assert set(packaged_recipes()) - {"default", "probe", "kernel", "best"} == {system.recipe for system in SYSTEMS}
    assert len(NAMES) == len(SYSTEMS)
    assert {name for pair in PAIRS for name in pair} <= set(NAMES)
    for system in SYSTEMS:
        recipe_of(system, [])


def test_folds_are_pooled_with_the_weakest_class() -> None:
    one = pooled(NAMES["baseline-cnn"], [fold(20), fold(11, first=20)])
    assert one.seconds == 5.0
    assert one.evaluation is not None
    assert one.evaluation.splits["test"].accuracy.value == pytest.approx(31 / 40)
    cells = one.row()
    assert cells[:2] == ["baseline-cnn", "0.68 at 224 px"]
    assert cells[2].startswith("0.775 [")
    assert cells[4].startswith("b 0.750 [")


def test_a_row_without_weights_has_no_figure() -> None:
    assert Measured(system=NAMES["flowers-resnet50-256"], seconds=3).row()[2:4] == [NOT_MEASURED, ""]


def test_blocks_or_layers_is_decided_by_the_photos_that_only_one_gets_right() -> None:
    blocks, layers = PAIRS[0]
    close = {blocks: pooled(NAMES[blocks], [fold(20)]), layers: pooled(NAMES[layers], [fold(18)])}
    (sentence,) = blocks_or_layers(close)
    assert "2 photos right by blocks alone, 0 by layers alone, layers minus blocks -10.0 points" in sentence
    assert "exact McNemar p = 0.500" in sentence
    assert ", n = 20: no difference shown." in sentence
    far = {blocks: pooled(NAMES[blocks], [fold(6)]), layers: pooled(NAMES[layers], [fold(20)])}
    assert ", n = 20: layers are better." in blocks_or_layers(far)[0]
    assert blocks_or_layers({blocks: close[blocks]}) == []
    series = {name: dataclasses.replace(one, group_of=dict.fromkeys(one.right, "a")) for name, one in far.items()}
    assert "no difference shown" in blocks_or_layers(series)[0]  # photos of one series are one observation


def test_missing_weights_are_noticed_without_a_download(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOPWORK_WEIGHTS", raising=False)
    assert not has_weights(recipe_of(NAMES["flowers-resnet34-onecycle"], []))
    assert has_weights(recipe_of(NAMES["resnet9-scratch"], []))
    assert has_weights(recipe_of(NAMES["flowers-resnet50-256, on Lite0"], []))
