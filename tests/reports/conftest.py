"""One plausible experiment as values: a stand-in for a run, with its numbers from the real evaluation."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.evaluation.evaluate import evaluate
from topwork.measures.predictions import Predictions
from topwork.recipe import Recipe
from topwork.reports.figures import draw_figures
from topwork.reports.inputs import PredictionRow, ReportInputs

CLASSES = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
PROVENANCE = {
    "topwork": "0.1.0",
    "command": "topwork fit flowers --to runs/first",
    "recipe_name": "default",
    "started": "2026-11-23T09:00:00",
    "finished": "2026-11-23T09:03:12",
    "versions": {"python": "3.11.9", "torch": "2.14.1", "openvino": "2026.4.0"},
    "hardware": {"cpu": "AMD EPYC 9R14", "cores": 2, "memory_gb": 15.6},
    "seeds": {"split": 0, "training": 0},
    "backbone": {"name": "efficientnet_lite0", "source": "packaged", "digest": "ab" * 32},
    "engine": {"trunk": "openvino", "precision": "bf16", "timings": {"bf16": 0.11, "f32": 0.24}},
    "cache": {"hits": 0, "rows": 14475},
    "digests": {"manifest": "cd" * 32},
    "data": {"name": "flowers", "root": "/photos/flowers", "photos": 120, "classes": 5},
}
FINDINGS = (
    {
        "kind": "exact_duplicate",
        "severity": "warning",
        "files": ["daisy/3.png", "daisy/4.png"],
        "evidence": "2 files have the same bytes.",
        "remedy": "keep one of them.",
    },
    {
        "kind": "unreadable",
        "severity": "error",
        "files": ["roses/broken.jpg"],
        "evidence": "The file ends in the middle of the picture.",
        "remedy": "restore it from its source.",
    },
)


@dataclass(frozen=True, kw_only=True)
class Photo:
    path: str
    label: str
    split: str
    sha256: str
    group: str = ""


def _drawn(path: Path, *, hue: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ramp = np.linspace(60, 230, 48).astype(np.uint8)
    channels = (np.broadcast_to(ramp, (40, 48)), np.full((40, 48), hue), np.full((40, 48), 255 - hue))
    Image.fromarray(np.stack(channels, axis=2).astype(np.uint8)).save(path)


def _photos(root: Path | None, classes: tuple[str, ...], each: int) -> list[Photo]:
    photos = []
    for number, label in enumerate(classes):
        for index in range(each):
            path = f"{label}/{index}.png"
            if root is not None:
                _drawn(root / path, hue=(40 * number + index) % 256)
            split = "test" if index % 6 == 0 else "val" if index % 6 == 1 else "train"
            sha256 = hashlib.sha256(path.encode("utf-8", "surrogateescape")).hexdigest()
            photos.append(Photo(path=path, label=label, split=split, sha256=sha256))
    return photos


def _judged(photos: list[Photo], split: str, classes: tuple[str, ...], *, sharpness: float) -> Predictions:
    mine = [photo for photo in photos if photo.split == split]
    labels = np.array([classes.index(photo.label) for photo in mine])
    # A seed of the part's own: one part must not depend on which others were asked for.
    noise = np.random.default_rng(len(split)).normal(size=(len(mine), len(classes)))
    logits = noise + sharpness * np.eye(len(classes))[labels]
    return Predictions(logits=2 * logits, labels=labels, paths=tuple(photo.path for photo in mine), classes=classes)


def _rows(split: str, part: Predictions) -> list[PredictionRow]:
    return [
        PredictionRow(
            path=path,
            split=split,
            label=part.classes[label],
            predicted=part.classes[predicted],
            probabilities=dict(zip(part.classes, p.tolist(), strict=True)),
        )
        for path, label, predicted, p in zip(part.paths, part.labels, part.predicted, part.probabilities, strict=True)
    ]


def make_history() -> list[dict[str, Any]]:
    def scores(value: float, loss: float) -> dict[str, float]:
        return {
            "loss": loss,
            "accuracy": value,
            "precision": value - 0.004,
            "recall": value - 0.006,
            "f1": value - 0.005,
        }

    history = [
        {
            "phase": 1,
            "epoch": 1,
            "lr": 1e-3,
            "seconds": 1.2,
            "train": scores(0.95, 0.21),
            "val": scores(0.93, 0.24),
            "kept": False,
        }
    ]
    for epoch in range(1, 9):
        gain = 1 - 0.6**epoch
        history.append(
            {
                "phase": 2,
                "epoch": epoch,
                "lr": 3e-4 * (1 - epoch / 9),
                "seconds": 11.5,
                "train": scores(0.93 + 0.055 * gain, 0.45 - 0.15 * gain),
                "val": scores(0.93 + 0.02 * gain - 0.003 * (epoch > 6), 0.24 - 0.06 * gain + 0.01 * (epoch > 6)),
                "kept": epoch == 6,
            }
        )
    return history


def _ends(value: float, half: float, n: int) -> dict[str, Any]:
    return {"value": value, "low": value - half, "high": value + half, "n": n}


def _explained(row: PredictionRow, number: int, *, near: list[Photo]) -> dict[str, Any]:
    ranked = sorted(row.probabilities, key=lambda name: -row.probabilities[name])
    return {
        "path": row.path,
        "label": row.label,
        "predicted": row.predicted,
        "target": row.predicted,
        "against": ranked[1],
        "p": dict(row.probabilities),
        "peak": [0.5, 0.5],
        "heatmap": f"figures/heatmaps/{number:03d}-heatmap.jpg",
        "contrast": f"figures/heatmaps/{number:03d}-contrast.jpg",
        "neighbours": [{"path": photo.path, "label": photo.label, "similarity": 0.9} for photo in near],
    }


def make_explanations(heatmaps: Path, rows: list[PredictionRow], *, photos: list[Photo]) -> dict[str, Any]:
    """What `explaining` would write about some of the rows, with pictures of the heatmaps."""
    train = [photo for photo in photos if photo.split == "train"]
    classes = sorted({photo.label for photo in photos})
    for number in range(len(rows)):
        for kind in ("heatmap", "contrast"):
            _drawn(heatmaps / f"{number:03d}-{kind}.jpg", hue=200)
    probe = {
        "name": "border",
        "accuracy": _ends(0.35, 0.04, 120),
        "majority": 0.2,
        "warns": False,
        "given_away": [],
        "by_class": {name: _ends(0.6, 0.1, 120) for name in classes},
    }
    difference = {"deletion": _ends(-0.1, 0.05, 60), "insertion": _ends(0.1, 0.05, 60)}
    return {
        "part": "test",
        "method": "gradcam",
        "layer": "conv_head",
        "photos": [_explained(row, number, near=train[number : number + 5]) for number, row in enumerate(rows)],
        "confusers": [{"path": train[0].path, "label": train[0].label, "times": 3, "classes": classes[:2]}],
        "label_suspects": [
            {
                "path": train[1].path,
                "label": train[1].label,
                "suggested": classes[-1],
                "p_label": 0.01,
                "p_suggested": 0.97,
                "confident": True,
            }
        ],
        "shortcuts": {"photos": 120, "probes": [probe], "hot_spots": []},
        "faithfulness": {
            "deletion": _ends(0.5, 0.05, 60),
            "insertion": _ends(0.75, 0.05, 60),
            "against": {"random": difference, "centre": difference},
            "beats": {"random": True, "centre": True},
            "verdict": "The heatmaps mark what the model uses.",
            "steps": 4,
        },
        "hidden": {
            "intact": _ends(0.9, 0.05, 60),
            "background blurred": _ends(0.8, 0.05, 60),
            "object blurred": _ends(0.4, 0.05, 60),
            "note": "a quarter",
        },
    }


def _judged_rows(rows: list[PredictionRow], part: str) -> list[PredictionRow]:
    """Some photos of the part: errors and others."""
    mine = [row for row in rows if row.split == part]
    wrong = [row for row in mine if row.label != row.predicted][:3]
    return [*[row for row in mine if row not in wrong][:10], *wrong]


def make_inputs(
    root: Path | None,
    *,
    classes: tuple[str, ...] = CLASSES,
    parts: tuple[str, ...] = ("train", "val", "test"),
    each: int = 24,
    **changes: Any,
) -> ReportInputs:
    photos = _photos(root, classes, each)
    sharpness = {"train": 3.2, "val": 2.6, "test": 2.5}
    judged = {part: _judged(photos, part, classes, sharpness=sharpness[part]) for part in parts}
    seconds = {"scan": 2.1, "trunk": 14.8, "phase 1": 1.2, "phase 2": 92.0, "evaluation": 3.9, "total": 114.0}
    evaluation = evaluate(judged, seconds=seconds).to_json()
    history = make_history()
    if "figures" not in changes:
        changes["figures"] = {name: svg for name, (svg, _) in draw_figures(evaluation, history=history).items()}
    rows = [row for part, predictions in judged.items() for row in _rows(part, predictions)]
    if root is not None and "explanations" not in changes:
        heatmaps = root / ".run" / "figures" / "heatmaps"
        explanations = make_explanations(heatmaps, _judged_rows(rows, parts[-1]), photos=photos)
        changes |= {"heatmaps": heatmaps, "explanations": explanations}
    values: dict[str, Any] = {
        "name": "first",
        "recipe": Recipe(),
        "evaluation": evaluation,
        "history": history,
        "manifest": photos,
        "root": root,
        "predictions": rows,
        "findings": FINDINGS,
        "provenance": PROVENANCE,
    }
    return ReportInputs(**{**values, **changes})


@pytest.fixture(scope="session")
def inputs_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ReportInputs]:
    """Makes inputs in a folder of their own; keywords change single fields."""

    def make(**changes: Any) -> ReportInputs:
        return make_inputs(tmp_path_factory.mktemp("photos"), **changes)

    return make


@pytest.fixture(scope="session")
def inputs(inputs_of: Callable[..., ReportInputs]) -> ReportInputs:
    return inputs_of()


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def serious() -> Callable[[Any], list[str]]:
    """What is seriously wrong with a page for people who cannot see it well or use no mouse.

    axe-core judges, as a package of PyPI ships it.
    """
    if importlib.util.find_spec("axe_playwright_python") is None:
        if os.environ.get("CI"):
            pytest.fail("CI needs axe-core: the extra `dev` installs axe-playwright-python")
        pytest.skip("needs axe-playwright-python, which the extra `dev` brings")
    from axe_playwright_python.sync_playwright import Axe

    axe = Axe()

    def judge(page: Any) -> list[str]:
        return [
            f"{each['id']}: {each['help']}: {node['html'][:160]}"
            for each in axe.run(page).response["violations"]
            if each["impact"] in ("serious", "critical")
            for node in each["nodes"][:3]
        ]

    return judge
