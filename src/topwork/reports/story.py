"""The story of an experiment in words: the verdict, and what was asked. Knows nothing about HTML."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from topwork.recipe import Augment, Phase, Recipe
from topwork.reports.inputs import ReportInputs
from topwork.reports.wording import count, percent, percent_bounds

__all__ = ["Sentence", "recipe_in_words", "verdict"]


@dataclass(frozen=True, kw_only=True)
class Sentence:
    """One sentence, and the section that shows more.

    Args:
        text: plain words; may hold names from the data.
        section: id of a section of the report, or empty.
    """

    text: str
    section: str = ""


def verdict(inputs: ReportInputs) -> tuple[Sentence, ...]:
    """About three sentences: how good, where weakest, what to look at."""
    return tuple(
        sentence for sentence in (_how_good(inputs), _weakest(inputs), _look_at(inputs)) if sentence is not None
    )


def _how_good(inputs: ReportInputs) -> Sentence:
    accuracy = inputs.scores["accuracy"]
    names = count(len(inputs.classes), "class", plural="classes")
    if inputs.judged == "cv":
        how = "In cross-validation, where a model judges only photos that it has not seen, the right one of"
        return Sentence(
            text=f"{how} {names} is named in {percent(accuracy['value'])} of cases ({percent_bounds(accuracy)})."
        )
    photos = {
        "test": "photos that no choice has seen",
        "val": "validation photos, which were seen by choices,",
        "train": "its own training photos",
    }.get(inputs.judged, f"photos of “{inputs.judged}”")
    text = f"On {photos} the model names the right one of {names} "
    return Sentence(text=f"{text}in {percent(accuracy['value'])} of cases ({percent_bounds(accuracy)}).")


def _weakest(inputs: ReportInputs) -> Sentence | None:
    known = {name: row for name, row in inputs.scores["per_class"].items() if row["support"] > 0}
    if len(known) < 2:
        return None
    name = min(known, key=lambda key: (known[key]["recall"]["value"], key))
    recall = known[name]["recall"]
    text = f"Weakest is “{name}”: {percent(recall['value'])} of its photos are recognised ({percent_bounds(recall)})"
    mistaken = [row for row in inputs.scores.get("most_confused", ()) if row[0] == name and row[2] > 0]
    if mistaken:
        text += f"; {mistaken[0][2]:,} {'was' if mistaken[0][2] == 1 else 'were'} taken for “{mistaken[0][1]}”"
    return Sentence(text=text + ".", section="classes")


def _look_at(inputs: ReportInputs) -> Sentence | None:
    checks: tuple[Callable[[ReportInputs], Sentence | None], ...] = (
        _started_random,
        _data_must_be_fixed,
        _shortcut,
        _no_test_part,
        _overfitted,
        _too_few_photos,
        _ill_calibrated,
        _confident_errors,
    )
    return next((found for check in checks if (found := check(inputs)) is not None), None)


def _started_random(inputs: ReportInputs) -> Sentence | None:
    if not inputs.random_weights:
        return None
    return Sentence(text="The backbone started from random weights: read this as a baseline.", section="asked")


def _data_must_be_fixed(inputs: ReportInputs) -> Sentence | None:
    errors = [finding for finding in inputs.findings if finding.get("severity") == "error"]
    if not errors:
        return None
    text = f"First mend the data: {count(len(errors), 'finding')} of the check must be fixed."
    return Sentence(text=text, section="findings")


def _shortcut(inputs: ReportInputs) -> Sentence | None:
    if not any(finding.get("kind") == "shortcut" for finding in inputs.findings):
        return None
    text = "Do not rely on it yet: something other than the objects tells the classes apart."
    return Sentence(text=text, section="shortcuts" if inputs.explanations.get("shortcuts") else "findings")


def _no_test_part(inputs: ReportInputs) -> Sentence | None:
    if inputs.judged not in ("val", "train"):
        return None
    return Sentence(text="Set photos aside for a test part before you rely on these figures.", section="data")


def _overfitted(inputs: ReportInputs) -> Sentence | None:
    gap = inputs.evaluation.get("gap", {}).get("train_minus_test", {}).get("accuracy")
    if not gap or (gap.get("low") or 0.0) < 0.05:
        return None
    points = f"{gap['value'] * 100:.1f} points"
    text = f"Look at the gap: training accuracy lies {points} higher, so more photos or stronger augmentation may help."
    return Sentence(text=text, section="gap")


def _too_few_photos(inputs: ReportInputs) -> Sentence | None:
    accuracy = inputs.scores["accuracy"]
    low, high = accuracy.get("low"), accuracy.get("high")
    if low is None or high is None or high - low < 0.15:
        return None
    text = f"The interval is wide because only {count(int(accuracy['n']), 'photo')} were judged; label more to be sure."
    return Sentence(text=text, section="classes")


def _ill_calibrated(inputs: ReportInputs) -> Sentence | None:
    ece = inputs.scores.get("ece", {}).get("value")
    if ece is None or ece < 0.1:
        return None
    text = f"Do not take its probabilities at face value: they are off by {percent(ece)} on average."
    return Sentence(text=text, section="calibration")


def _confident_errors(inputs: ReportInputs) -> Sentence | None:
    errors = [row for row in inputs.predictions if row.split == inputs.judged and row.label != row.predicted]
    sure = sum(row.confidence >= 0.9 for row in errors)
    if not errors:
        return None
    if sure == 0:
        return Sentence(
            text=f"Look at its {count(len(errors), 'error')}; none was made with confidence.", section="errors"
        )
    text = f"Look at {sure:,} of its {count(len(errors), 'error')}, made at 90 % confidence or more"
    return Sentence(text=f"{text}: such photos are often wrongly labelled or show two things.", section="errors")


def recipe_in_words(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """What was asked: (topic, sentence) pairs that name every choice that matters."""
    rows = [
        ("Photos", _photos(recipe)),
        ("Backbone", _backbone(recipe)),
        ("Head", _head(recipe)),
        ("Phase 1", _first_phase(recipe)),
        ("Phase 2", _phase(recipe.phase2)),
        ("Training views", _views(_views_used(recipe), recipe.data.augment)),
        ("Loss", _loss(recipe)),
        ("Keeping", _keeping(recipe)),
        ("Engine", f"Trunk on {_chosen(recipe.engine.trunk)}, precision {_chosen(recipe.engine.precision)}."),
    ]
    return tuple(rows)


def _chosen(value: str) -> str:
    return "whatever is fastest here (auto)" if value == "auto" else value


def _photos(recipe: Recipe) -> str:
    size = recipe.data.image_size
    side = f"{size} × {size} pixels" if size else "the backbone's own input size"  # noqa: RUF001
    return (
        f"Split {recipe.data.split} % into training, validation and test with seed {recipe.data.seed}; seen at {side}"
        f"{', judged together with their mirror images' if recipe.data.mirror else ''}."
    )


def _backbone(recipe: Recipe) -> str:
    weights = {
        "packaged": "packaged weights",
        "hub": "weights from the Hugging Face hub",
        "none": "random weights",
    }.get(recipe.backbone.weights, f"weights from {recipe.backbone.weights}")
    return f"{recipe.backbone.name}, started from {weights}."


def _head(recipe: Recipe) -> str:
    head = recipe.head
    if head.kind == "kernel":
        solved = "solved on the fine-tuned features" if recipe.phase2.epochs else "solved on the frozen features"
        return f"A kernel: likeness to at most {head.landmarks:,} training photos, {solved}."
    hidden = " and ".join(str(width) for width in head.hidden)
    parts = [f"hidden layers of {hidden} units" if hidden else "one linear layer on the pooled features"]
    parts += [f"dropout {head.dropout:g}"] if head.dropout else []
    parts += ["batch normalisation"] if head.batchnorm else []
    return _sentence(parts)


def _trained(phase: Phase) -> str:
    if phase.train == "gradual":
        every = "epoch" if phase.unfreeze_every == 1 else f"{phase.unfreeze_every} epochs"
        return f"the top block and the head, with one more block below every {every},"
    names = phase.train if isinstance(phase.train, str) else ", ".join(phase.train)
    return {"all": "everything", "head": "the head"}.get(names, names)


def _first_phase(recipe: Recipe) -> str:
    if recipe.head.kind == "kernel" and not recipe.phase2.epochs:
        strength = recipe.phase1.weight_decay
        chosen = "chosen on the validation part" if strength is None else f"{strength:g}"
        return f"Solve the kernel by ridge regression on clean views; strength {chosen}."
    return _phase(recipe.phase1)


def _phase(phase: Phase) -> str:
    if phase.epochs == 0 or phase.train == "none":
        return "Skipped."
    parts = [f"train {_trained(phase)} for at most {count(phase.epochs, 'epoch')}"]
    if phase.optimizer == "lbfgs":
        decay = "chosen on the validation part" if phase.weight_decay is None else f"{phase.weight_decay:g}"
        return _sentence([*parts, "L-BFGS to convergence on cached features", f"L2 penalty {decay}"])
    optimizer = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}[phase.optimizer]
    parts.append(f"{optimizer}, {phase.schedule} learning rate up to {phase.lr:g}, batches of {phase.batch_size}")
    parts += [f"weight decay {phase.weight_decay:g}"] if phase.weight_decay else []
    parts += [f"gradients clipped at {phase.clip_norm:g}"] if phase.clip_norm else []
    parts += [f"layer decay {phase.layer_decay:g}"] if phase.layer_decay < 1 else []
    parts += [f"averaged weights (EMA {phase.ema:g})"] if phase.ema else []
    parts += [f"mixup {phase.mixup:g}"] if phase.mixup else []
    parts += [f"cutmix {phase.cutmix:g}"] if phase.cutmix else []
    return _sentence([*parts, f"BatchNorm statistics {'frozen' if phase.batchnorm == 'frozen' else 'updated'}"])


def _views_used(recipe: Recipe) -> str:
    """`auto` without a second phase caches no augmented views."""
    return "fixed:0" if recipe.data.views == "auto" and not recipe.phase2.epochs else recipe.data.views


def _views(views: str, augment: Augment) -> str:
    how = {"auto": "As many as time allows", "fresh": "New ones every epoch"}.get(views)
    if views == "fixed:0":
        return "The photos as they are, without augmentation."
    how = how or f"{views.removeprefix('fixed:')} of every photo"
    settings: Mapping[str, Any] = augment.model_dump()
    changes = [
        f"{name} {value:g}°" if name in ("rotate", "shear") else f"{name} {value * 100:g} %"
        for name, value in settings.items()
        if value
    ]
    return f"{how}, changed at random: {', '.join(changes)}." if changes else f"{how}, not changed."


def _loss(recipe: Recipe) -> str:
    smoothing, imbalance = recipe.loss.label_smoothing, recipe.loss.imbalance
    parts = ["cross-entropy"]
    parts += [f"labels smoothed by {smoothing:g}"] if smoothing else []
    parts.append("classes as they are" if imbalance == "none" else f"unequal classes met with {imbalance}")
    return _sentence(parts)


def _keeping(recipe: Recipe) -> str:
    metric = {"macro_f1": "macro-F1", "accuracy": "accuracy"}[recipe.stop.metric]
    kept = f"the best epoch by validation {metric}" if recipe.stop.keep == "best" else "the last epoch"
    return _sentence([kept, f"stop after {count(recipe.stop.patience, 'epoch')} without improvement"])


def _sentence(parts: list[str]) -> str:
    text = "; ".join(parts) + "."
    return text[:1].upper() + text[1:]
