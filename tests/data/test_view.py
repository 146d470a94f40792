"""The evaluation view is: resize the short side with antialiasing, cut out the centre."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from topwork.data.view import evaluation_view
from topwork.spec import InputSpec


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def reference(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Resize the whole picture, then crop: what the one resampling must equal."""
    height, width = pixels.shape[:2]
    scale = spec.resize / min(height, width)
    size = (round(width * scale), round(height * scale))
    resample = Image.Resampling.BICUBIC if spec.interpolation == "bicubic" else Image.Resampling.BILINEAR
    whole = np.asarray(Image.fromarray(pixels).resize(size, resample))
    top, left = (size[1] - spec.size) // 2, (size[0] - spec.size) // 2
    return whole[top : top + spec.size, left : left + spec.size]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(128, 192), (256, 128), (512, 768), (64, 96), (640, 640)])
def test_one_resampling_equals_resize_then_crop(height: int, width: int, interpolation: str) -> None:
    spec = InputSpec(size=56, crop=0.875, interpolation=interpolation)  # resize 64: all offsets are whole pixels
    view = evaluation_view(noise(height, width), spec)
    difference = np.abs(view.astype(int) - reference(noise(height, width), spec))
    assert difference.mean() < 0.3  # Pillow rounds between its two passes, and picks their order by the sizes
    assert difference.max() <= 4


@given(height=st.integers(1, 80), width=st.integers(1, 80), size=st.integers(16, 40), crop=st.floats(0.2, 1.0))
@settings(deadline=None)
def test_any_picture_becomes_a_square(height: int, width: int, size: int, crop: float) -> None:
    view = evaluation_view(np.full((height, width, 3), 77, np.uint8), InputSpec(size=size, crop=crop))
    assert view.shape == (size, size, 3)
    assert (view == 77).all()


@pytest.mark.parametrize("shape", [(4, 3000), (3000, 4), (1, 1), (1, 5000)])
def test_extreme_aspects_are_safe(shape: tuple[int, int]) -> None:
    view = evaluation_view(noise(*shape), InputSpec())
    assert view.shape == (224, 224, 3)
    assert view.flags.writeable


def test_the_whole_picture_at_its_own_size_is_unchanged() -> None:
    pixels = noise(64, 64)
    np.testing.assert_array_equal(evaluation_view(pixels, InputSpec(size=64, crop=1.0)), pixels)


@given(st.integers(20, 90), st.integers(20, 90))
@settings(deadline=None)
def test_mirroring_commutes_with_the_view(height: int, width: int) -> None:
    pixels, spec = noise(height, width), InputSpec(size=32)
    view, mirrored = evaluation_view(pixels, spec), evaluation_view(pixels[:, ::-1], spec)
    assert np.abs(view[:, ::-1].astype(int) - mirrored).max() <= 1


def test_fine_stripes_become_grey_not_moire() -> None:
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert evaluation_view(stripes, InputSpec(size=64, crop=1.0)).std() < 4
