from __future__ import annotations

from typing import Any

import pytest

from topwork.reports.belief_words import belief_in_words, shortcuts_in_words


def _judged(*, random: bool, centre: bool, n: int) -> dict[str, Any]:
    return {"faithfulness": {"beats": {"random": random, "centre": centre}, "deletion": {"value": 0.5, "n": n}}}


@pytest.mark.parametrize(
    ("random", "centre", "n", "first", "last"),
    [
        (True, True, 12, "Yes, on 12 photos", "the middle of the photo."),
        (True, False, 12, "In part", "asks more of them."),
        (True, False, 100, "In part", "do not rely on them."),
        (False, False, 12, "Not shown", "asks more of them."),
        (False, True, 100, "No: on 100 photos", "Do not rely on the heatmaps."),
    ],
)
def test_heatmaps_are_believed_only_as_far_as_shown(random: bool, centre: bool, n: int, first: str, last: str) -> None:
    (sentence,) = belief_in_words(_judged(random=random, centre=centre, n=n))
    assert sentence.startswith(first)
    assert sentence.endswith(last)


def test_what_was_not_asked_is_not_said() -> None:
    assert belief_in_words({}) == ()


@pytest.mark.parametrize(("passed", "words"), [(True, "change, as they should"), (False, "hardly change")])
def test_forgetting_is_said_either_way(passed: bool, words: str) -> None:
    said = belief_in_words(_judged(random=True, centre=True, n=60) | {"randomisation": {"passed": passed}})
    assert words in said[-1]


def test_a_shortcut_is_named() -> None:
    calm = {"name": "border", "warns": False}
    loud = {"name": "file", "warns": True}
    assert shortcuts_in_words({"probes": [calm]}).startswith("No sign of it")
    assert "only the file's properties" in shortcuts_in_words({"probes": [calm, loud]})
    assert "heatmaps of roses" in shortcuts_in_words({"probes": [calm], "hot_spots": [{"class": "roses"}]})
    assert shortcuts_in_words({"probes": []}).startswith("Too few photos")
