"""`model_readme`: a model's page for people, `README.md` beside its tensors, as Hugging Face's model cards are written.

What programs read about a model is `model.json`, in code `exports.card.ModelCard`; this page repeats nothing of it that
only programs need. Knows nothing about run folders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from topwork.exports.card import CARD_NAME, WEIGHTS_NAME, ModelCard
from topwork.reports.inputs import ReportInputs
from topwork.reports.story import recipe_in_words, verdict
from topwork.reports.wording import bounds, count, duration, number, visible

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData

__all__ = ["model_readme"]

_HUB = "Hugging Face hub "
_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~&@$]|:(?=//)|(?<=www)\.)")  # the last two begin links without brackets
_MEASURES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro-F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_f1": "weighted F1",
    "ece": "calibration error (ECE)",
    "nll": "log loss (NLL)",
    "brier": "Brier score",
}
# Measure -> its name among the hub's metrics, and how to show it.
_HUB_METRICS = {
    "accuracy": ("accuracy", "Accuracy"),
    "macro_f1": ("f1", "Macro F1"),
    "macro_precision": ("precision", "Macro precision"),
    "macro_recall": ("recall", "Macro recall"),
}
_PARTS = {
    "test": "photos of a test part that no choice has seen",
    "cv": "photos that the judging model had not seen, by cross-validation; this model saw most of them",
    "val": "validation photos, which choices have seen, so that the figures flatter",
    "train": "its own training photos, so that the figures flatter",
}
_CONFUSED = 5
_USE = (
    "## How to use it",
    "",
    f"This folder is the model: `{WEIGHTS_NAME}` and `{CARD_NAME}`. Neither is a pickle; both are checked when read.",
    "In the folder above it:",
    "",
    "```console",
    "$ topwork predict model photo.jpg",
    "$ topwork explain model photo.jpg",
    "```",
    "",
    "```python",
    "import topwork",
    "",
    'for answer in topwork.predict("model", ["photo.jpg"]):',
    "    print(answer.predicted, answer.probabilities)",
    "```",
)
_LIMITS = (
    "- It knows no other class. A photo of something else gets one of these names all the same, and the probability",
    "  may be high.",
    "- Photos from other cameras, places or seasons were judged only if they are among the photos below. Measure",
    "  first: `topwork evaluate RUN --data OTHER_PHOTOS`.",
    "- The figures hold for the mix of classes below. Where an error can hurt somebody, a person must decide.",
)


def model_readme(inputs: ReportInputs, card: ModelCard) -> str:
    """Markdown with YAML front matter; no name from the data can become markup.

    Args:
        inputs: the experiment that made the model.
        card: what the model says about itself.
    """
    sections = (
        _head(inputs, card),
        _USE,
        _limits(inputs),
        _numbers(inputs),
        _classes(inputs),
        _data(inputs),
        _training(inputs, card),
        _provenance(inputs, card),
    )
    body = "\n\n".join("\n".join(section) for section in sections)
    return f"---\n{_metadata(inputs, card).to_yaml()}\n---\n\n{body}\n"


def _metadata(inputs: ReportInputs, card: ModelCard) -> ModelCardData:
    """No licence: what the user's photos allow is not known here."""
    from huggingface_hub import EvalResult, ModelCardData

    results = []
    for measure, (kind, name) in _HUB_METRICS.items():
        interval = inputs.scores[measure]
        results.append(
            EvalResult(
                task_type="image-classification",
                task_name="Image classification",
                dataset_type="imagefolder",
                dataset_name=visible(_data_name(inputs)),
                dataset_split=inputs.judged,
                metric_type=kind,
                metric_name=name,
                metric_value=round(float(interval["value"]), 6),
                metric_args={key: interval[key] for key in ("low", "high", "n") if interval.get(key) is not None},
            )
        )
    return ModelCardData(
        library_name="topwork",
        pipeline_tag="image-classification",
        tags=["image-classification", "transfer-learning", "topwork", card.backbone.name],
        base_model=_base_model(card),
        metrics=sorted({kind for kind, _ in _HUB_METRICS.values()}),
        model_name=visible(inputs.name),
        eval_results=results,
    )


def _base_model(card: ModelCard) -> str | list[str] | None:
    """The hub's repositories; weights from elsewhere have none that could be named with certainty."""
    if card.backbone.kind != "hub":
        return None
    sources = card.backbone.source.split(" and ")  # of networks side by side
    named = [source.removeprefix(_HUB) for source in sources if source.startswith(_HUB)]
    return named[0] if len(sources) == 1 else named


def _head(inputs: ReportInputs, card: ModelCard) -> Iterator[str]:
    backbone = card.backbone
    started = "random weights" if backbone.kind == "none" else _text(backbone.source)
    yield f"# {_text(inputs.name)}"
    yield ""
    yield (
        f"An image classifier that tells {_kinds(inputs)} apart, made with topwork {_text(card.topwork)}: "
        f"{_text(backbone.name)} ({started}), photos seen at {card.input.size} x {card.input.size} pixels"
        f"{', each judged together with its mirror image' if card.mirror else ''}."
    )
    yield ""
    yield " ".join(_text(sentence.text) for sentence in verdict(inputs)[:2])  # the third is for who trains


def _limits(inputs: ReportInputs) -> Iterator[str]:
    yield "## What it is for, and what not"
    yield ""
    yield f"- For photos that show one of its {_kinds(inputs)}, taken like those it learnt from."
    yield from _LIMITS
    if inputs.random_weights:
        yield "- The backbone began with random weights: this is a baseline, not a model to rely on."
    for finding in inputs.findings:
        if finding.get("kind") == "shortcut":
            yield f"- It may use a shortcut: {_text(finding.get('evidence', ''))}"


def _numbers(inputs: ReportInputs) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    yield f"On {_PARTS.get(inputs.judged, 'photos of ' + _text(inputs.judged))}. Intervals are 95 %."
    yield ""
    yield "| measure | value | interval | photos |"
    yield "|---|---|---|---|"
    for key, name in _MEASURES.items():
        if interval := inputs.scores.get(key):
            yield f"| {name} | {number(interval['value'])} | {bounds(interval)} | {interval['n']:,} |"
    confused = [row for row in inputs.scores.get("most_confused", ()) if row[2] > 0][:_CONFUSED]
    if confused:
        yield ""
        pairs = [f"{_text(true)} taken for {_text(named)} ({times:,})" for true, named, times in confused]
        yield f"Most often confused: {', '.join(pairs)}."


def _classes(inputs: ReportInputs) -> Iterator[str]:
    yield "## Classes"
    yield ""
    yield "| class | training photos | photos judged | precision | recall | F1 |"
    yield "|---|---|---|---|---|---|"
    trained = _sizes(inputs, "train")
    for name in inputs.classes:
        row = inputs.scores["per_class"][name]
        scores = [f"{number(row[key]['value'])} {bounds(row[key])}" for key in ("precision", "recall", "f1")]
        sizes = [f"{trained.get(name, 0):,}", f"{row['support']:,}"]
        yield f"| {' | '.join([_text(name), *sizes, *scores])} |"


def _data(inputs: ReportInputs) -> Iterator[str]:
    named = {"train": "training", "val": "validation", "test": "test"}
    parts = {name: sum(_sizes(inputs, part).values()) for part, name in named.items()}
    sizes = ", ".join(f"{size:,} {name}" for name, size in parts.items())
    yield "## The photos"
    yield ""
    yield f"“{_text(_data_name(inputs))}”, {count(sum(parts.values()), 'photo')}: {sizes}."
    yield "Duplicates and groups of photos stand on one side of the split."
    severities = [finding.get("severity") for finding in inputs.findings]
    errors, warnings = severities.count("error"), severities.count("warning")
    if errors or warnings:
        yield f"Their check has {count(errors, 'finding')} that must be fixed and {count(warnings, 'warning')}."


def _training(inputs: ReportInputs, card: ModelCard) -> Iterator[str]:
    yield "## How it was trained"
    yield ""
    yield f"- Layers: {_text(card.plan)}."
    for topic, sentence in recipe_in_words(inputs.recipe):
        if topic not in ("Backbone", "Engine"):  # above without the path that a recipe may hold; below as it was
            yield f"- {topic}: {_text(sentence)}"
    engine = inputs.provenance.get("engine", {}).get("name", "an inference engine")
    yield f"- Frozen trunk: run by {_text(engine)} at {card.precision}."
    if card.temperature != 1:
        yield f"- Probabilities: logits divided by {card.temperature:.3g}, fitted on the validation part."
    seconds, machine = inputs.evaluation.get("seconds", {}).get("total"), inputs.provenance.get("hardware", {})
    if seconds and machine:
        cores = count(int(machine["cores"]), "core")
        yield f"- Time of all stages: {duration(seconds)} on {cores} of {_text(machine['cpu'])}."


def _provenance(inputs: ReportInputs, card: ModelCard) -> Iterator[str]:
    yield "## Where it comes from"
    yield ""
    yield f"Licence of the pretrained backbone: {_text(card.backbone.licence or 'not known')}. None is stated for this"
    yield "model, because the terms of its photos are not known here."
    yield ""
    yield "| what | digest or version |"
    yield "|---|---|"
    facts = inputs.provenance
    rows: dict[str, Any] = {
        f"{WEIGHTS_NAME}, SHA-256": card.weights.sha256,
        "pretrained backbone": card.backbone.digest,
        **facts.get("digests", {}),
        "seed": facts.get("seeds", {}).get("data"),
        "finished": facts.get("finished"),
        **facts.get("versions", {}),
    }
    yield from (f"| {_text(name)} | {_text(value)} |" for name, value in rows.items() if value is not None)


def _data_name(inputs: ReportInputs) -> str:
    return str(inputs.provenance.get("data", {}).get("name") or "photos")


def _kinds(inputs: ReportInputs) -> str:
    return count(len(inputs.classes), "class", plural="classes")


def _sizes(inputs: ReportInputs, part: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in inputs.manifest:
        if row.split == part:
            found[row.label] = found.get(row.label, 0) + 1
    return found


def _text(value: object) -> str:
    r"""Words as Markdown shows them unchanged, inside a line.

    Example:
        >>> _text("<b>*rose*|</b>\n# x")
        '\\<b\\>\\*rose\\*\\|\\</b\\>\\\\x0a\\# x'
    """
    return _SPECIAL.sub(r"\\\1", visible(str(value)))
