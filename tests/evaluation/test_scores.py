from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from topwork.errors import RunError
from topwork.evaluation.evaluate import evaluate
from topwork.evaluation.scores import Evaluation
from topwork.measures.predictions import Predictions

CLASSES = ("daisy", "rose", "tulip")
INTERVALS = {
    *("accuracy", "balanced_accuracy", "macro_f1", "macro_precision", "macro_recall"),
    *("weighted_f1", "weighted_precision", "weighted_recall", "ece", "nll", "brier"),
}


def judged(labels: list[int], predicted: list[int]) -> Predictions:
    logits = np.eye(3)[predicted] * 2.0
    paths = tuple(map(str, range(len(labels))))
    return Predictions(logits=logits, labels=np.array(labels), paths=paths, classes=CLASSES)


@pytest.fixture
def found() -> Evaluation:
    parts = {
        "train": judged([0, 0, 1, 1, 2, 2], [0, 0, 1, 1, 2, 0]),
        "val": judged([0, 1, 2], [0, 1, 2]),
        "test": judged([0, 0, 1, 1, 2], [0, 1, 1, 1, 1]),
    }
    losses = {"phase 1": [0.9, 0.8], "phase 2": [0.9, 0.5, 0.7]}
    return evaluate(parts, seconds={"scan": 1.5, "total": 9.0}, losses=losses)


def test_the_json_has_the_shape_of_the_contract(found: Evaluation) -> None:
    value = found.to_json()
    assert set(value) == {"splits", "gap", "stability", "classes", "seconds"}
    assert value["classes"] == list(CLASSES)
    assert value["seconds"] == {"scan": 1.5, "total": 9.0}
    assert set(value["splits"]) == {"train", "val", "test"}
    for name, split in value["splits"].items():
        others = {"per_class", "confusion_matrix", "most_confused", "reliability", "seen_by_choices"}
        assert set(split) == INTERVALS | others
        assert split["seen_by_choices"] is (name == "val")
        for measure in INTERVALS:
            assert set(split[measure]) == {"value", "low", "high", "n"}
        assert set(split["per_class"]) == set(CLASSES)
        assert set(split["per_class"]["rose"]) == {"precision", "recall", "f1", "support"}
        assert {tuple(sorted(each)) for each in split["reliability"]} == {
            ("accuracy", "confidence", "high", "low", "n")
        }
    test = value["splits"]["test"]
    assert test["confusion_matrix"] == [[1, 1, 0], [0, 2, 0], [0, 1, 0]]
    assert test["most_confused"] == [["daisy", "rose", 1], ["tulip", "rose", 1]]
    assert set(value["gap"]) == {"train_minus_test", "train_minus_val"}
    assert all(set(gap) == {"accuracy", "macro_f1"} for gap in value["gap"].values())
    assert list(value["stability"]) == ["phase 2"]  # two epochs have one change, which has no spread
    assert value["stability"]["phase 2"]["rises"] == 1


def test_an_evaluation_comes_back_from_disk(found: Evaluation) -> None:
    text = json.dumps(found.to_json(), allow_nan=False)
    back = Evaluation.from_json(json.loads(text))
    assert back == found
    assert json.dumps(back.to_json()) == text


def test_an_evaluation_without_train_has_no_gap(found: Evaluation) -> None:
    alone = evaluate({"test": judged([0, 1, 2], [0, 1, 1])}, seconds={})
    assert alone.to_json()["gap"] == {}
    assert Evaluation.from_json(alone.to_json()) == alone


@pytest.mark.parametrize(
    "damage",
    [
        lambda value: value.pop("splits"),
        lambda value: value.pop("gap"),
        lambda value: value["splits"]["test"].pop("nll"),
        lambda value: value["splits"]["test"]["accuracy"].pop("n"),
        lambda value: value["splits"]["test"]["accuracy"].update(low=0.99),
        lambda value: value["splits"]["test"].update(confusion_matrix=3),
        lambda value: value["splits"]["test"].update(most_confused=[["rose", "daisy"]]),
        lambda value: value["splits"]["test"]["per_class"]["rose"].update(f1=None),
        lambda value: value.update(splits=[]),
        lambda value: value.update(seconds={"total": "long"}),
    ],
)
def test_a_damaged_evaluation_is_refused(found: Evaluation, damage: Callable[[dict[str, Any]], object]) -> None:
    value = copy.deepcopy(found.to_json())
    damage(value)
    with pytest.raises(RunError, match="shape"):
        Evaluation.from_json(value)


def test_the_headline_says_number_interval_and_confusion(found: Evaluation) -> None:
    assert found.headline_split == "test"
    assert found.headline() == (
        f"On the test split, accuracy is {found.interval('test', 'accuracy')} and macro-F1 is"
        f" {found.interval('test', 'macro_f1')}; most often daisy is taken for rose (1 of 2)."
    )


def test_the_headline_falls_back_and_says_so() -> None:
    right = judged([0, 1, 2], [0, 1, 2])
    val = evaluate({"train": right, "val": right}, seconds={})
    assert val.headline_split == "val"
    assert "seen by choices" in val.headline()
    assert "no photo is given a wrong class" in val.headline()
    assert evaluate({"fold 3": right}, seconds={}).headline_split == "fold 3"
    folds = evaluate({"val": right, "cv": right}, seconds={})
    assert folds.headline_split == "cv"
    assert folds.headline().startswith("In cross-validation, accuracy is 1.000")
    assert not folds.splits["cv"].seen_by_choices


def test_runs_of_earlier_versions_are_read(found: Evaluation) -> None:
    value = found.to_json()
    del value["stability"], value["gap"]["train_minus_val"]
    back = Evaluation.from_json(value)
    assert (back.stability, back.gap_to_val, back.gap) == ({}, {}, found.gap)


def test_an_unknown_measure_or_split_is_a_key_error(found: Evaluation) -> None:
    assert found.interval("val", "ece") == found.splits["val"].ece
    with pytest.raises(KeyError, match="must be one of"):
        found.interval("test", "per_class")
    with pytest.raises(KeyError):
        found.interval("tset", "accuracy")
