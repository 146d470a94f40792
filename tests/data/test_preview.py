from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from topwork.data.augment import augmented_view, view_seed
from topwork.data.decode import decode
from topwork.data.preview import VIEWS, Sample, pick_samples, preview_sheet
from topwork.data.view import evaluation_view
from topwork.digest import file_sha256
from topwork.errors import DataError
from topwork.recipe import Augment
from topwork.spec import InputSpec

SPEC = InputSpec(size=48)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    draw = np.random.default_rng(0)
    made = []
    for label in ("daisy", "a class whose name is much too long for the margin of the sheet", "caf\udce9 \n 花"):
        path = tmp_path / f"{len(made)}.png"
        Image.fromarray(draw.integers(0, 256, (60, 70, 3), dtype=np.uint8)).save(path)
        made.append(Sample(label, path, file_sha256(path)))
    return made


def tiles(sheet: np.ndarray) -> np.ndarray:
    """The views on a sheet of 48-px tiles: (rows, VIEWS + 1, 48, 48, 3)."""
    step = 52
    rows = (sheet.shape[0] - 24) // step
    return np.stack(
        [
            [sheet[24 + r * step :, 120 + c * step :][:48, :48] for c in range(VIEWS + 1)]
            for r in range(rows)
        ]
    )  # fmt: skip


def test_the_sheet_shows_what_training_sees(samples: list[Sample]) -> None:
    augment = Augment()
    shown = tiles(preview_sheet(samples, SPEC, augment=augment, seed=4))
    assert shown.shape == (3, VIEWS + 1, 48, 48, 3)
    for sample, row in zip(samples, shown, strict=True):
        pixels = decode(sample.path).pixels
        np.testing.assert_array_equal(row[0], evaluation_view(pixels, SPEC))
        for view in range(1, VIEWS + 1):
            seed = view_seed(sample.sha256, view, seed=4)
            np.testing.assert_array_equal(row[view], augmented_view(pixels, SPEC, augment=augment, seed=seed))


def test_labels_are_written_beside_their_row_only(samples: list[Sample]) -> None:
    sheet = preview_sheet(samples, SPEC, augment=Augment(), seed=0)
    margin = sheet[:, : 120 - 4]
    assert (margin[:24] == 255).all()
    for row in range(3):
        assert (margin[24 + row * 52 :][:48] < 128).any()
    assert (margin[:, :4] == 255).all()  # the long name is cut, not clipped by the edge


def test_large_inputs_are_shown_small(samples: list[Sample]) -> None:
    sheet = preview_sheet(samples[:1], InputSpec(size=400), augment=Augment(), seed=0)
    assert sheet.shape == (24 + 164, 120 + 8 * 164, 3)


def test_a_photo_that_is_gone_is_named(samples: list[Sample]) -> None:
    samples[1].path.unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        preview_sheet(samples, SPEC, augment=Augment(), seed=0)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=5), count=st.integers(1, 40), seed=st.integers(0, 99))
def test_every_class_is_shown_before_any_again(sizes: list[int], count: int, seed: int) -> None:
    photos = [
        Sample(f"class {label}", Path(f"{label}-{number}"), f"{label}{number}")
        for label, size in enumerate(sizes)
        for number in range(size)
    ]
    picked = pick_samples(photos, count=count, seed=seed)
    assert len(set(picked)) == len(picked) == min(count, len(photos))
    counts = {label: sum(p.label == f"class {label}" for p in picked) for label in range(len(sizes))}
    most = max(counts.values())
    assert all(counts[label] >= min(size, most - 1) for label, size in enumerate(sizes))
    shuffled = random.Random(seed).sample(photos, len(photos))
    assert pick_samples(shuffled, count=count, seed=seed) == picked
