from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from topwork.reports import gallery, thumbnail
from topwork.reports.gallery import make_gallery
from topwork.reports.inputs import ReportInputs
from topwork.reports.thumbnail import make_thumbnail


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


def test_only_shown_photos_are_decoded_and_each_size_once(
    inputs: ReportInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, int]] = []
    real = thumbnail.decode

    def counting(path: Path, *, target: int) -> object:
        read.append((str(path), target))
        return real(path, target=target)

    monkeypatch.setattr(thumbnail, "decode", counting)
    made = make_gallery(inputs)
    assert len(read) == len(set(read))
    shown = {str(Path(str(inputs.root)) / error.row.path) for error in made.errors}
    assert shown <= {path for path, _ in read}
    photos = {path for path, _ in read if ".run" not in path}
    assert len(photos) < len(inputs.manifest)


def test_behind_a_cell_stand_its_own_photos_errors_surest_first(inputs: ReportInputs) -> None:
    cells = make_gallery(inputs).cells
    matrix = inputs.scores["confusion_matrix"]
    names = inputs.classes
    assert {(names[i], names[j]) for i, row in enumerate(matrix) for j, n in enumerate(row) if n} == set(cells)
    for (true, predicted), cell in cells.items():
        rows = [row for row, _ in cell.photos]
        assert {(row.label, row.predicted, row.split) for row in rows} == {(true, predicted, "test")}
        assert cell.n == matrix[names.index(true)][names.index(predicted)]
        assert len(rows) == min(cell.n, 6)
        sure = [row.confidence for row in rows]
        assert sure == sorted(sure, reverse=true != predicted)


def test_many_cells_share_a_limited_number_of_photos(
    inputs_of: Callable[..., ReportInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(figures={})
    monkeypatch.setattr(gallery, "_CELLS", 7)
    cells = make_gallery(inputs).cells
    assert [len(cell.photos) for cell in cells.values()] == [1] * 7
    wrong = {(row.label, row.predicted) for row in inputs.predictions if row.split == "test"} - {
        (name, name) for name in inputs.classes
    }
    assert set(list(cells)[: len(wrong)]) <= wrong  # errors are served first


def test_heatmaps_come_from_the_folder_of_heatmaps_only(inputs: ReportInputs, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.jpg")
    said = [{**row, "heatmap": f"../../{tmp_path}/secret.jpg"} for row in inputs.explanations["photos"]]
    made = make_gallery(replace(inputs, explanations={**inputs.explanations, "photos": said}))
    explained = [error for error in made.errors if error.heatmap]
    assert explained
    assert all(error.heatmap and error.heatmap.source is None for error in explained)
    assert make_gallery(inputs).errors[0].heatmap is not None


def test_findings_stand_by_kind_with_their_photos(inputs: ReportInputs) -> None:
    kinds = make_gallery(inputs).findings
    assert [(kind.kind, kind.severity, kind.total) for kind in kinds] == [
        ("unreadable", "error", 1),
        ("exact_duplicate", "warning", 1),
    ]
    assert kinds[0].shown[0].thumbnails == ()  # there is no picture of what cannot be read
    assert [thumbnail.path for thumbnail in kinds[1].shown[0].thumbnails] == ["daisy/3.png", "daisy/4.png"]


def test_pictures_beyond_the_budget_become_gaps(
    inputs_of: Callable[..., ReportInputs], monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = inputs_of(figures={})
    monkeypatch.setattr(gallery, "_BYTES", 20_000)
    made = make_gallery(inputs)
    sources = re.findall(r"data:image/jpeg;base64,[\w+/=]*", repr(made))
    assert 0 < sum(map(len, sources)) <= 20_000
    assert "source=None" in repr(made)


def test_without_a_folder_no_photo_is_shown_but_errors_are_counted(inputs: ReportInputs) -> None:
    made = make_gallery(replace(inputs, root=None))
    assert (made.samples, made.errors, made.cells, made.looks) == ({}, (), {}, {})
    assert made.errors_in_all == make_gallery(inputs).errors_in_all > 0
