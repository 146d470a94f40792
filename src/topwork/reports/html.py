"""The report as one HTML page: `ReportInputs` -> text. The only module that knows jinja2; knows nothing of run folders.

Everything is inside the page: styles, script, drawings and photos. A content-security policy in the page itself forbids
every request and every script but its own, whatever a file name may hold. Same inputs, same bytes.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from topwork.reports import tables, wording
from topwork.reports.belief_words import SEEN_BY, belief_in_words, shortcuts_in_words
from topwork.reports.downloads import downloads
from topwork.reports.gallery import Gallery, make_gallery
from topwork.reports.inputs import SPLITS, ReportInputs
from topwork.reports.story import recipe_in_words, verdict
from topwork.reports.svg import inline_svg
from topwork.reports.training_words import imbalance_in_words, training_in_words

__all__ = ["render_page", "render_report"]

_TEMPLATES = Path(__file__).parent / "templates"
_FIGURES = {
    "training_curves": "Loss, accuracy and learning rate by epoch in each phase; the table below holds them.",
    "confusion_matrix": "Confusion matrix with true classes as rows; the table above holds the numbers.",
    "per_class": "Precision, recall and F1 of each class with 95 % intervals; the table above holds the numbers.",
    "reliability": "Share of right predictions against their probability; the table below holds the numbers.",
}
_MEASURES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "macro_precision": "Macro precision",
    "macro_recall": "Macro recall",
    "weighted_f1": "Weighted F1",
    "ece": "Calibration error (ECE)",
    "nll": "Negative log likelihood",
    "brier": "Brier score",
}
_METHODS = {"gradcam": "Grad-CAM", "gradcam++": "Grad-CAM++", "layercam": "LayerCAM", "eigencam": "EigenCAM"}
_PART_TITLES = {"test": "Test", "cv": "Cross-validation", "val": "Validation", "train": "Training"}


def render_report(inputs: ReportInputs) -> str:
    """The report as one self-contained HTML page, at most 3 MB for up to a thousand classes.

    Args:
        inputs: a section appears when what it shows is there. Photos are read below `inputs.root`; one that has
            vanished becomes a gap with its name.

    Raises:
        ValueError: if a figure is not SVG, or the evaluation holds no part.
    """
    return render_page("report.html.j2", _context(inputs, make_gallery(inputs)))


def render_page(template: str, context: Mapping[str, Any], *, styles: Sequence[str] = ("report.css",)) -> str:
    """A self-contained page from one of our templates; text of the context is escaped.

    Args:
        template: its file name.
        context: what it needs beside `style`, `script` and `script_digest`, which are added.
        styles: file names of the style sheets, in their order.
    """
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    around = {
        "style": Markup("".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in styles)),
        "script": Markup(script),
        "script_digest": base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii"),
    }
    return _environment().get_template(template).render({**context, **around}) + "\n"


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    for name in ("bounds", "count", "duration", "number", "p_value", "percent", "photos", "points", "shortened"):
        environment.filters[name] = getattr(wording, name)
    return environment


def _finalized(value: Any) -> Any:
    """Odd characters of names, made visible before they are escaped; markup of our own passes."""
    return wording.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _context(inputs: ReportInputs, gallery: Gallery) -> dict[str, Any]:
    parts, counts = tables.class_counts(inputs.manifest)
    context: dict[str, Any] = {
        "run": inputs,
        "part_titles": {part: part.capitalize() for part in inputs.evaluation["splits"]} | _PART_TITLES,
        "verdict": verdict(inputs),
        "asked": (*recipe_in_words(inputs.recipe), *imbalance_in_words(inputs.provenance)),
        "went": training_in_words(inputs),
        "toml": inputs.recipe.to_toml().splitlines(),
        "finished": str(inputs.provenance.get("finished") or "")[:16].replace("T", " "),
        "version": (inputs.provenance.get("versions") or {}).get("topwork", ""),
        "command": str(inputs.provenance.get("command") or ""),
        "parts": parts,
        "counts": counts,
        "gallery": gallery,
        "downloads": downloads(inputs),
        "believed": belief_in_words(inputs.explanations),
        "shortcuts": inputs.explanations.get("shortcuts") or {},
        "shortcut_words": shortcuts_in_words(inputs.explanations.get("shortcuts") or {}),
        "seen_by": SEEN_BY,
        "methods": _METHODS,
        "cell_limit": max((len(cell.photos) for cell in gallery.cells.values()), default=0),
        "shown_findings": sum(len(kind.shown) for kind in gallery.findings),
        "history": tables.history_rows(inputs.history),
        "confusion": tables.confusion(inputs),
        "measures": _measures(inputs),
        "stages": tables.stage_seconds(inputs.evaluation),
        "total_seconds": (inputs.evaluation.get("seconds") or {}).get("total"),
        "figures": _drawings(inputs.figures),
        "provenance": _provenance(inputs.provenance),
    }
    sections = _sections(context)
    judged = context["part_titles"][inputs.judged].lower()
    return {**context, "sections": sections, "titles": dict(sections), "judged": judged}


def _sections(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(id, title) of the sections that exist, in their order."""
    run, gallery = context["run"], context["gallery"]
    why = bool(gallery.looks or context["believed"])
    every = [
        ("classes", "Class by class", True),
        ("confusion", "Who is taken for whom", True),
        ("errors", "Worst errors", bool(gallery.errors)),
        ("why", "What it looks at", why),
        ("shortcuts", "Does it cheat?", bool(context["shortcuts"])),
        ("calibration", "Are its probabilities right?", bool(run.scores.get("reliability") or run.scores.get("ece"))),
        ("labels", "Labels to look at", bool(gallery.suspects or gallery.confusers)),
        ("data", "The photos", bool(context["counts"] or gallery.samples)),
        ("findings", "Findings", bool(gallery.findings)),
        ("training", "Training", bool(context["history"])),
        ("gap", "All measures", True),
        ("asked", "What was asked", True),
        ("time", "Time", bool(context["stages"])),
        ("provenance", "Provenance", bool(context["provenance"])),
    ]
    return [(name, title) for name, title, exists in every if exists]


def _measures(inputs: ReportInputs) -> dict[str, Any]:
    """Parts with the judged one first, and each measure in every part, with the gap where there is one."""
    splits = inputs.evaluation["splits"]
    parts = [part for part in reversed(SPLITS) if part in splits] + [part for part in splits if part not in SPLITS]
    gap = (inputs.evaluation.get("gap") or {}).get("train_minus_test", {})
    rows = [
        (title, [splits[part].get(key) for part in parts], gap.get(key))
        for key, title in _MEASURES.items()
        if key in inputs.scores
    ]
    return {"parts": parts, "rows": rows, "has_gap": bool(gap), "gap": gap}


def _drawings(figures: Mapping[str, str]) -> dict[str, Markup]:
    return {
        name: Markup(inline_svg(text, name=name, label=_FIGURES[name]))
        for name, text in figures.items()
        if name in _FIGURES
    }


def _provenance(provenance: Mapping[str, Any]) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    """(group, (key, text) pairs); single values come first, under the run itself."""
    single = {key: value for key, value in provenance.items() if not isinstance(value, Mapping) and key != "command"}
    groups = [("run", tables.flat(single))] if single else []
    groups += [(key, tables.flat(value)) for key, value in provenance.items() if isinstance(value, Mapping) and value]
    return [(group.replace("_", " "), pairs) for group, pairs in groups]
