from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from topwork.recipe import Recipe
from topwork.reports.inputs import PredictionRow, ReportInputs
from topwork.reports.story import recipe_in_words, verdict


def _changed(inputs: ReportInputs, **scores: Any) -> ReportInputs:
    evaluation = copy.deepcopy(dict(inputs.evaluation))
    evaluation["splits"]["test"].update(scores)
    evaluation["gap"] = {}
    return replace(inputs, evaluation=evaluation, findings=())


def _last(inputs: ReportInputs) -> tuple[str, str]:
    sentence = verdict(inputs)[-1]
    return sentence.text, sentence.section


def test_the_verdict_is_three_sentences(inputs: ReportInputs) -> None:
    assert len(verdict(inputs)) == 3


def test_what_to_look_at_follows_what_is_wrong(inputs: ReportInputs) -> None:
    good = {"value": 0.95, "low": 0.93, "high": 0.97, "n": 600}
    calm = _changed(inputs, accuracy=good, ece={**good, "value": 0.02})
    assert "error" in _last(calm)[0]
    assert _last(_changed(inputs, accuracy=good, ece={**good, "value": 0.2}))[1] == "calibration"
    assert "only 20 photos" in _last(_changed(inputs, accuracy={**good, "low": 0.6, "n": 20}))[0]
    assert _last(replace(calm, findings=inputs.findings))[1] == "findings"
    assert "random weights" in _last(replace(calm, recipe=Recipe().replace({"backbone.weights": "none"})))[0]
    gap = {"train_minus_test": {"accuracy": {"value": 0.12, "low": 0.08, "high": 0.16, "n": 600}}}
    overfitted = replace(calm, evaluation={**calm.evaluation, "gap": gap})
    assert _last(overfitted) == (
        "Look at the gap: training accuracy lies 12.0 points higher, so more photos or stronger augmentation may help.",
        "gap",
    )


@pytest.mark.parametrize(("photos", "words"), [(3, "; 3 were taken for “tulips”."), (1, "; 1 was taken for “tulips”.")])
def test_the_weakest_class_says_what_it_was_taken_for(inputs: ReportInputs, photos: int, words: str) -> None:
    weakest = min(inputs.scores["per_class"], key=lambda name: inputs.scores["per_class"][name]["recall"]["value"])
    changed = _changed(inputs, most_confused=[[weakest, "tulips", photos]])
    assert verdict(changed)[1].text.endswith(words)


def test_confident_errors_are_counted_on_the_judged_part_only(inputs: ReportInputs) -> None:
    good = {"value": 0.95, "low": 0.93, "high": 0.97, "n": 600}
    rows = [
        PredictionRow(path=f"{i}.jpg", split=split, label="a", predicted="b", probabilities={"b": p})
        for i, (split, p) in enumerate([("test", 0.95), ("test", 0.6), ("val", 0.99)])
    ]
    calm = replace(_changed(inputs, accuracy=good, ece={**good, "value": 0.02}), predictions=rows)
    assert _last(calm)[0].startswith("Look at 1 of its 2 errors")


def test_a_class_without_photos_is_not_called_the_weakest(inputs: ReportInputs) -> None:
    per_class = copy.deepcopy(inputs.scores["per_class"])
    per_class["absent"] = {"recall": {"value": 0.0, "low": 0.0, "high": 1.0, "n": 0}, "support": 0}
    assert not any("absent" in sentence.text for sentence in verdict(_changed(inputs, per_class=per_class)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"phase2.epochs": 0}, "Skipped."),
        ({"phase2.train": "all"}, "Train everything"),
        ({"phase2.mixup": 0.2}, "mixup 0.2"),
        ({"phase1.weight_decay": 0.01}, "L2 penalty 0.01"),
        ({"data.image_size": 192}, "192 \N{MULTIPLICATION SIGN} 192 pixels"),
        ({"data.views": "fixed:0"}, "without augmentation"),
        ({"data.views": "fixed:4"}, "4 of every photo, changed at random: rotate 15°"),
        ({"data.views": "fresh"}, "New ones every epoch"),
        ({"head.kind": "linear", "head.hidden": [256]}, "Hidden layers of 256 units."),
        ({"head.kind": "linear", "head.dropout": 0.2}, "One linear layer on the pooled features; dropout 0.2."),
        ({"backbone.weights": "none"}, "started from random weights"),
        ({"loss.imbalance": "focal"}, "unequal classes met with focal"),
        ({"stop.keep": "last"}, "The last epoch"),
        ({"head.landmarks": 99}, "likeness to at most 99 training photos, solved on the fine-tuned features"),
        ({"phase2.epochs": 0}, "solved on the frozen features. Solve the kernel by ridge regression on clean views"),
        ({"phase2.epochs": 0}, "The photos as they are, without augmentation"),
        ({"engine.precision": "f32"}, "precision f32"),
    ],
)
def test_every_choice_that_matters_is_in_the_words(settings: dict[str, Any], words: str) -> None:
    changed = " ".join(text for _, text in recipe_in_words(Recipe().replace(settings)))
    assert words in changed
    assert words not in " ".join(text for _, text in recipe_in_words(Recipe()))


def test_a_run_with_one_class_of_photos_has_a_verdict(inputs_of: Callable[..., ReportInputs]) -> None:
    assert verdict(inputs_of(parts=("val",), figures={}))[0].text.startswith(
        "On validation photos, which were seen by choices,"
    )
