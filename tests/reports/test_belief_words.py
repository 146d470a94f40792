from __future__ import annotations

from typing import Any

import pytest

from topwork.reports.belief_words import belief_in_words, shortcuts_in_words


def _judged(*, random: bool, centre: bool, n: int, could_judge: int = 290) -> dict[str, Any]:
    beats, deletion = {"random": random, "centre": centre}, {"value": 0.5, "n": n}
    return {"faithfulness": {"beats": beats, "deletion": deletion, "enough": n >= 50}, "could_judge": could_judge}


@pytest.mark.parametrize(
    ("random", "centre", "n", "first", "last"),
    [
        (True, True, 12, "Yes, on 12 photos", "the middle of the photo."),
        (True, False, 12, "In part", "asks more of them."),
        (True, False, 100, "In part", "do not rely on them."),
        (False, False, 12, "Not shown", "asks more of them."),
        (False, True, 100, "No: on 100 photos", "places drawn at random. Do not rely on the heatmaps."),
        (False, False, 100, "No: on 100 photos", "or the middle of the photo. Do not rely on the heatmaps."),
    ],
)
def test_heatmaps_are_believed_only_as_far_as_shown(random: bool, centre: bool, n: int, first: str, last: str) -> None:
    (sentence,) = belief_in_words(_judged(random=random, centre=centre, n=n))
    assert sentence.startswith(first)
    assert sentence.endswith(last)


@pytest.mark.parametrize("random", [True, False])
def test_more_photos_are_promised_only_where_there_are_more(random: bool) -> None:
    (sentence,) = belief_in_words(_judged(random=random, centre=False, n=30, could_judge=30))
    assert "asks more" not in sentence
    assert sentence.endswith("; the part that is judged has no more.")
    (sentence,) = belief_in_words(_judged(random=random, centre=False, n=30, could_judge=0))  # it is not known
    assert "more." not in sentence


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
    assert "no fixed place" in shortcuts_in_words({"probes": []})
    assert "no fixed place" not in shortcuts_in_words({"probes": [], "coarse": True})  # nobody looked
