"""A sign in the corner of one class's photos: the probe and the heatmaps of an ordinary `fit` both point at it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import topwork
from topwork.data.drawn import write_drawn_flowers
from topwork.workflow.rundir import RunDir

MARKED = "rose"
CORNER = 0.75  # share of the side from which on the sign lies


def _sign(photo: Path) -> None:
    """A chequered sign in the lower right corner, half of it inside the centre crop."""
    with Image.open(photo) as opened:
        picture = opened.convert("RGB")
    for number in range(24):
        left, top = 108 + 8 * (number % 6), 126 + 8 * (number // 6)
        colour = (230, 20, 30) if (number + number // 6) % 2 else (255, 250, 60)
        picture.paste(colour, (left, top, left + 8, top + 8))
    picture.save(photo, quality=90)


@pytest.mark.slow
def test_a_watermark_is_caught_by_probe_and_heatmap_and_a_clean_set_raises_nothing(tmp_path: Path) -> None:
    clean = write_drawn_flowers(tmp_path / "clean", n_per_class=40, size=160, seed=77, masks=False)
    marked = tmp_path / "marked"
    shutil.copytree(clean, marked)
    for photo in clean.rglob("*.jpg"):  # both sets are saved once more, so that the file gives nothing away
        with Image.open(photo) as picture:
            picture.convert("RGB").save(photo, quality=90)
    for photo in marked.rglob("*.jpg"):
        if photo.parent.name == MARKED:
            _sign(photo)
        else:
            shutil.copy(clean / photo.parent.name / photo.name, photo)

    settings = ["data.split=60/20/20"]
    found = {}
    for name, folder in (("clean", clean), ("marked", marked)):
        run = topwork.fit(folder, recipe="probe", to=tmp_path / f"run-{name}", settings=settings)
        found[name] = RunDir.open(run.path)

    assert not [each for each in found["clean"].findings() if each["kind"] == "shortcut"]
    shortcuts = [each["evidence"] for each in found["marked"].findings() if each["kind"] == "shortcut"]
    assert any("only the photo's border" in evidence and MARKED in evidence for evidence in shortcuts)
    assert any(f"heatmaps of {MARKED}" in evidence and "lower right" in evidence for evidence in shortcuts)
    peaks = {
        name: [
            photo["peak"] for photo in run.explanations()["photos"] if photo["predicted"] == MARKED and photo["peak"]
        ]
        for name, run in found.items()
    }
    in_corner = {name: sum(min(peak) > CORNER for peak in mine) / len(mine) for name, mine in peaks.items()}
    assert in_corner["marked"] >= 0.8
    assert in_corner["clean"] <= 0.3
