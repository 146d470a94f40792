from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from topwork.reports.inputs import ReportInputs
from topwork.reports.model_card import model_card

yaml = pytest.importorskip("yaml")


def _parted(card: str) -> tuple[dict[str, Any], str]:
    nothing, head, text = card.split("---\n", 2)
    assert nothing == ""
    return yaml.safe_load(head), text


def test_the_head_is_what_the_hub_reads(inputs: ReportInputs) -> None:
    head, _ = _parted(model_card(inputs))
    assert head["pipeline_tag"] == "image-classification"
    (model,) = head["model-index"]
    (result,) = model["results"]
    measured = {each["type"]: each["value"] for each in result["metrics"]}
    assert measured["accuracy"] == pytest.approx(inputs.scores["accuracy"]["value"], abs=1e-4)
    assert result["dataset"] == {"type": "imagefolder", "name": "flowers", "split": "test"}
    assert "license" not in head  # the photos' licence is not ours to state


def test_the_text_has_every_class_with_intervals_and_the_limits(inputs: ReportInputs) -> None:
    _, text = _parted(model_card(inputs))
    for name, row in inputs.scores["per_class"].items():
        recall = row["recall"]
        assert f"| {name} |" in text
        assert f"{recall['value']:.3f} \\[{recall['low']:.3f}, {recall['high']:.3f}\\]" in text
    assert "## Limits" in text
    assert "say it here before you share the model" in text
    assert "Limits" not in model_card(
        replace(inputs, explanations={}, evaluation=_without_confusions(inputs.evaluation))
    )


def _without_confusions(evaluation: Any) -> dict[str, Any]:
    splits = {part: {**scores, "most_confused": []} for part, scores in evaluation["splits"].items()}
    return {**evaluation, "splits": splits}


def test_names_are_no_markup(inputs_of: Callable[..., ReportInputs]) -> None:
    names = ("a|b", "<script>alert(1)</script>", "---\nlicense: mit", "[x](http://evil.example)")
    card = model_card(inputs_of(classes=names, name="---\nlicense: mit", each=12, figures={}))
    head, text = _parted(card)
    assert "license" not in head
    assert "<script" not in text
    assert "a\\|b" in text
    assert "\\[x\\](http" in text  # escaped, so it is no link
    assert "[x](http" not in text


def test_without_a_test_part_the_card_says_so(inputs_of: Callable[..., ReportInputs]) -> None:
    assert "no test part" in model_card(inputs_of(parts=("train", "val"), figures={}))
