"""A model card: `ReportInputs` -> Markdown with the head that Hugging Face's hub reads. Knows no run folders, no HTML.

It says what the model is, how well it does with intervals, where it fails, and how far its reasons can be believed.
What topwork cannot know, the licence of the photos above all, is left for the model's author to say.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from topwork.reports.belief_words import belief_in_words, shortcuts_in_words
from topwork.reports.inputs import ReportInputs
from topwork.reports.story import recipe_in_words, verdict
from topwork.reports.wording import bounds, count, number, visible

__all__ = ["model_card"]

_MEASURES = {"accuracy": "Accuracy", "macro_f1": "Macro-F1", "ece": "Calibration error (ECE)", "nll": "NLL (nats)"}
_HUB_MEASURES = {"accuracy": ("accuracy", "Accuracy"), "macro_f1": ("f1", "Macro-F1")}
_MOST_CLASSES = 200  # rows of the table; a thousand make no card


def model_card(inputs: ReportInputs) -> str:
    """The card as Markdown: YAML between two lines of dashes, then sections.

    Args:
        inputs: of the run; names from the data are escaped.
    """
    parts = [
        f"# {_plain(inputs.name)}",
        " ".join(_plain(sentence.text) for sentence in verdict(inputs)),
        "## Use",
        f"```console\n$ topwork predict {_bare(inputs.name)} photo.jpg\n```",
        f"It names one of {count(len(inputs.classes), 'class', plural='classes')} for every photo, also for a photo of "
        "none of them. Its probabilities hold for photos made as those it was measured on.",
        "## How well it does",
        _scores(inputs),
        _classes(inputs),
        "## How it was made",
        _table(("choice", ""), recipe_in_words(inputs.recipe)),
        *_limits(inputs),
        "## Origin",
        _table(("", ""), _origin(inputs.provenance)),
    ]
    return f"---\n{_head(inputs)}---\n\n" + "\n\n".join(part for part in parts if part) + "\n"


def _head(inputs: ReportInputs) -> str:
    """What the hub reads; a JSON text is a YAML text, so that no name can leave its place."""
    name = visible(inputs.name)
    measured = [
        {"type": kind, "name": title, "value": round(float(inputs.scores[key]["value"]), 4)}
        for key, (kind, title) in _HUB_MEASURES.items()
        if inputs.scores.get(key, {}).get("value") is not None
    ]
    data = {"type": "imagefolder", "name": visible(str(_part(inputs.provenance, "data").get("name", name)))}
    task = {"type": "image-classification"}
    result = {"task": task, "dataset": {**data, "split": inputs.judged}, "metrics": measured}
    lines = {
        "library_name": "topwork",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "transfer-learning", visible(inputs.recipe.backbone.name)],
        "metrics": [each["type"] for each in measured],
        "model-index": [{"name": name, "results": [result]}],
    }
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in lines.items())


def _scores(inputs: ReportInputs) -> str:
    splits = inputs.evaluation["splits"]
    rows = [(title, *(_estimate(scores.get(key)) for scores in splits.values())) for key, title in _MEASURES.items()]
    heads = [f"{part} (n={scores['accuracy']['n']})" for part, scores in splits.items()]
    note = "" if inputs.judged in ("test", "cv") else "\n\nThere was no test part: these photos were seen by choices."
    return f"With 95 % intervals:\n\n{_table(('measure', *heads), rows)}{note}"


def _classes(inputs: ReportInputs) -> str:
    per_class = list(inputs.scores["per_class"].items())
    rows = [
        (name, _estimate(row["precision"]), _estimate(row["recall"]), _estimate(row["f1"]), row["support"])
        for name, row in per_class[:_MOST_CLASSES]
    ]
    left = len(per_class) - len(rows)
    more = f"\n\n{count(left, 'more class', plural='more classes')} in `evaluation.json` of the run." if left else ""
    return _table((f"class ({inputs.judged})", "precision", "recall", "F1", "photos"), rows) + more


def _limits(inputs: ReportInputs) -> list[str]:
    words = [*belief_in_words(inputs.explanations)]
    if shortcuts := inputs.explanations.get("shortcuts"):
        words.append(shortcuts_in_words(shortcuts))
    pairs = [row for row in inputs.scores.get("most_confused", ()) if row[2] > 0][:5]
    words += [f"{n} of the class {true} were taken for {predicted}." for true, predicted, n in pairs]
    return ["## Limits", "\n".join(f"- {_plain(each)}" for each in words)] if words else []


def _origin(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    backbone, data = _part(provenance, "backbone"), _part(provenance, "data")
    rows = [
        ("backbone", " ".join(str(backbone.get(key) or "") for key in ("name", "source", "digest")).strip()),
        ("licence of the backbone's weights", str(backbone.get("licence") or "not stated")),
        ("licence of the photos", "not known to topwork: say it here before you share the model"),
        ("photos", f"{data.get('photos', '?')} of {data.get('name', '?')}"),
        ("made", f"{provenance.get('finished', '?')} by topwork {_part(provenance, 'versions').get('topwork', '?')}"),
    ]
    return rows


def _part(provenance: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = provenance.get(key)
    return found if isinstance(found, Mapping) else {}


def _estimate(interval: Mapping[str, Any] | None) -> str:
    return f"{number(interval.get('value'))} {bounds(interval)}".strip() if interval else number(None)


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(_plain(str(cell)) for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Text that is no markup, whatever a class or a file is called."""
    marked = "".join(f"\\{character}" if character in "\\`*_[]|#~" else character for character in visible(text))
    return marked.replace("<", "&lt;")


def _bare(name: str) -> str:
    """A name inside a block of code."""
    return visible(name).replace("`", "'")
