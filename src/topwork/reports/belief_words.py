"""What explanations amount to, in words: whether heatmaps can be believed, whether there are shortcuts. No HTML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topwork.reports.wording import percent

__all__ = ["SEEN_BY", "belief_in_words", "shortcuts_in_words"]

SEEN_BY = {"border": "only the border", "colours": "only 8 × 8 colours", "file": "only the file's properties"}  # noqa: RUF001
"""What each probe of `topwork.explanations.shortcuts` looks at."""


def belief_in_words(explanations: Mapping[str, Any]) -> tuple[str, ...]:
    """Sentences: better than chance or not, what hiding places does, what forgetting does; empty if nothing was asked.

    Args:
        explanations: `explanations.json` as plain values.
    """
    judged = explanations.get("faithfulness")
    if not judged:
        return ()
    sentences = [_better(judged, could_judge=explanations.get("could_judge", 0))]
    if hidden := explanations.get("hidden"):
        intact, background, object_ = (hidden[name] for name in ("intact", "background blurred", "object blurred"))
        sentences.append(
            "With all blurred but the quarter of each photo that its heatmap marks most, accuracy is "
            f"{percent(background['value'])}; with only that quarter blurred, {percent(object_['value'])}; "
            f"with nothing blurred, {percent(intact['value'])} (n = {int(intact['n'])}; intervals in the table)."
        )
    if forgot := explanations.get("randomisation"):
        sentences.append(
            "When the model is made to forget what it learnt, its heatmaps change, as they should."
            if forgot["passed"]
            else "Heatmaps hardly change when the model forgets what it learnt: they show the photo, not the model."
        )
    return tuple(sentences)


def _better(judged: Mapping[str, Any], *, could_judge: int) -> str:
    beats, n = judged["beats"], int(judged["deletion"]["n"])
    if all(beats.values()):
        return (
            f"Yes, on {n} photos: bright places matter to the answer more than places drawn at random, and more than "
            "the middle of the photo."
        )
    few = not judged.get("enough")  # older runs do not say; most of them asked few
    more = _more(n, could_judge) if few else "."
    if beats.get("random"):
        rest = (
            f"That they also tell more than “look at the middle” is not shown by {n} photos"
            if few
            else f"On {n} photos they do not tell more than “look at the middle”, so do not rely on them"
        )
        return f"In part: bright places matter to the answer more than places drawn at random. {rest}{more}"
    others = "places drawn at random" if beats.get("centre") else "places drawn at random or the middle of the photo"
    if few:
        return f"Not shown: {n} photos are too few to tell bright places from {others}{more}"
    return f"No: on {n} photos bright places matter no more than {others}. Do not rely on the heatmaps."


def _more(n: int, could_judge: int) -> str:
    """What can be done about too few photos: the part that is judged has more of them or not."""
    if could_judge > n:
        return "; “topwork explain RUN” asks more of them."
    return "; the part that is judged has no more." if could_judge else "."


def shortcuts_in_words(shortcuts: Mapping[str, Any]) -> str:
    """One sentence: whether something other than the objects tells the classes apart.

    Args:
        shortcuts: of `explanations.json`.
    """
    probes = shortcuts.get("probes") or ()
    warned = [SEEN_BY.get(each["name"], each["name"]) for each in probes if each["warns"]]
    spots = [each["class"] for each in shortcuts.get("hot_spots") or ()]
    words = []
    if warned:
        words.append(f"a classifier that sees {' or '.join(warned)} tells the classes apart")
    if spots:
        words.append(f"the heatmaps of {', '.join(spots)} mostly point at one and the same place at the edge")
    if words:
        return f"Careful: {'; and '.join(words)}. The model may have learnt that instead of the objects."
    if not probes:
        calm = "" if shortcuts.get("coarse") else ", but heatmaps point at no fixed place at the edge"
        return f"Too few photos to look for shortcuts{calm}."
    return "No sign of it: border, colours or file alone do not tell the classes apart well enough to worry."
