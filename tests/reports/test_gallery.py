from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.reports import gallery
from topwork.reports.gallery import make_gallery, make_thumbnail
from topwork.reports.inputs import ReportInputs


def _picture(source: str | None) -> Image.Image:
    assert source is not None
    return Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))


@pytest.mark.parametrize(("width", "height"), [(300, 200), (90, 400), (64, 64), (1, 50)])
def test_a_thumbnail_is_the_central_square(tmp_path: Path, width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 255, dtype=np.uint8)
    short = min(width, height)
    top, left = (height - short) // 2, (width - short) // 2
    pixels[top : top + short, left : left + short] = (200, 30, 30)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    made = np.asarray(_picture(make_thumbnail(tmp_path, "a.png", side=64).source)).astype(int)
    assert made.shape == (64, 64, 3)
    assert np.abs(made - (200, 30, 30)).max() <= 12


def test_a_missing_or_broken_photo_has_no_picture(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    for name in ("text.jpg", "gone.jpg", "odd\udce9.jpg", "nul\0.jpg"):
        assert make_thumbnail(tmp_path, name, side=64).source is None


def test_samples_come_from_training_and_do_not_depend_on_row_order(inputs: ReportInputs) -> None:
    samples = make_gallery(inputs).samples
    splits = {row.path: row.split for row in inputs.manifest}
    assert set(samples) == set(inputs.classes)
    for label, thumbnails in samples.items():
        assert len(thumbnails) == 6
        assert {splits[thumbnail.path] for thumbnail in thumbnails} == {"train"}
        assert all(thumbnail.path.startswith(f"{label}/") for thumbnail in thumbnails)
    assert make_gallery(replace(inputs, manifest=list(inputs.manifest)[::-1])).samples == samples


def test_only_shown_photos_are_decoded(inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = gallery.decode

    def counting(path: Path, **options: int) -> object:
        read.append(str(path))
        return real(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(gallery, "decode", counting)
    made = make_gallery(inputs)
    assert len(read) == len(made.errors) + sum(len(some) for some in made.samples.values()) < len(inputs.manifest)


def test_pictures_beyond_the_budget_become_gaps(
    inputs_of: Callable[..., ReportInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(figures={})
    monkeypatch.setattr(gallery, "_BYTES", 20_000)
    made = make_gallery(inputs)
    sources = [error.thumbnail.source for error in made.errors]
    sources += [thumbnail.source for some in made.samples.values() for thumbnail in some]
    assert 0 < sum(len(source or "") for source in sources) <= 20_000
    assert None in sources


def test_without_a_folder_no_photo_is_shown_but_errors_are_counted(inputs: ReportInputs) -> None:
    made = make_gallery(replace(inputs, root=None))
    assert (made.samples, made.errors) == ({}, ())
    assert made.errors_in_all == make_gallery(inputs).errors_in_all > 0
