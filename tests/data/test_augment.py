from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from topwork.data.augment import View, augmented_view, draw_view, render_view, view_seed
from topwork.data.view import evaluation_view
from topwork.recipe import Augment
from topwork.spec import InputSpec

STILL = Augment(rotate=0, shift=0, zoom=0, shear=0, flip=0, brightness=0, contrast=0, saturation=0)
EVERYTHING = Augment(
    rotate=180, shift=1, zoom=3, shear=45, perspective=0.4, brightness=1, contrast=1, saturation=1, erase=1
)
SHAPES = [(96, 96), (256, 341), (341, 256), (200, 601), (70, 48), (523, 700), (1000, 300)]


def photo(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs with fine texture on top: what antialiasing and interpolation can be seen in."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC), dtype=np.float64)
    return np.clip(smooth + random.normal(0, 6, (height, width, 3)), 0, 255).astype(np.uint8)


def wave(height: int, width: int) -> np.ndarray:
    """A picture that is a smooth function of its continuous coordinates, so that any view of it can be computed."""
    rows, columns = np.mgrid[0:height, 0:width] + 0.5
    return at_points(np.stack([columns / height, rows / height], axis=-1))


def at_points(points: np.ndarray) -> np.ndarray:
    x, y = points[..., 0], points[..., 1]
    channels = [np.sin(5 * x + 2 * y), np.cos(4 * y - x), np.sin(3 * x * y)]
    return np.round(127.5 + 100 * np.stack(channels, axis=-1)).astype(np.uint8)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.abs(first.astype(int) - second.astype(int))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", [InputSpec(size=64), InputSpec(size=96, crop=1.0, interpolation="bilinear")])
def test_identity_is_the_evaluation_view(shape: tuple[int, int], spec: InputSpec) -> None:
    pixels = photo(*shape)
    np.testing.assert_array_equal(augmented_view(pixels, spec, augment=STILL, seed=7), evaluation_view(pixels, spec))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [48, 64, 192, 224])
def test_almost_identity_is_almost_the_evaluation_view(shape: tuple[int, int], size: int) -> None:
    pixels, spec = photo(*shape), InputSpec(size=size)
    nearly = View(shift=(1e-5, -1e-5), rotate=1e-5, zoom=1 + 1e-6)
    assert difference(render_view(pixels, spec, view=nearly), evaluation_view(pixels, spec)).mean() < 3


@pytest.mark.parametrize("shape", [(300, 300), (256, 341), (640, 500), (40, 64)])
@pytest.mark.parametrize(
    "view",
    [
        View(rotate=30.0, zoom=1.2),
        View(shift=(0.1, -0.05), zoom=0.9),
        View(shear=20.0),
        View(rotate=-12.0, shear=8.0, zoom=1.1, shift=(-0.07, 0.04), flip=True),
        View(corners=((0.1, 0.05), (-0.08, 0.02), (-0.03, -0.1), (0.02, -0.04)), rotate=10.0),
    ],
)
def test_the_warp_shows_the_points_that_its_definition_says(shape: tuple[int, int], view: View) -> None:
    height, width = shape
    spec = InputSpec(size=120, crop=0.8)
    rows, columns = np.mgrid[0 : spec.size, 0 : spec.size] + 0.5
    seen = np.stack([columns, rows], axis=-1) / spec.size
    seen = looks_through(view.corners, seen) - 0.5 - np.array(view.shift)
    turn = math.radians(view.rotate)
    seen = seen @ np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]]).T / view.zoom
    seen[..., 0] += seen[..., 1] * math.tan(math.radians(view.shear))
    if view.flip:
        seen[..., 0] *= -1
    points = seen * spec.size / spec.resize * min(shape) + np.array([width / 2, height / 2])
    inside = ((points > 2) & (points < np.array([width, height]) - 2)).all(axis=-1)
    assert inside.mean() > 0.5
    shown = render_view(wave(height, width), spec, view=view)
    assert difference(shown, at_points(points / height))[inside].max() <= 4


def looks_through(corners: tuple[tuple[float, float], ...], points: np.ndarray) -> np.ndarray:
    """The homography of the unit square to its displaced corners, solved as eight linear equations."""
    square = [(0, 0), (1, 0), (1, 1), (0, 1)]
    rows, goal = [], []
    for (x, y), (dx, dy) in zip(square, corners, strict=True):
        u, v = x + dx, y + dy
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        goal += [u, v]
    matrix = np.append(np.linalg.solve(np.array(rows, float), np.array(goal, float)), 1).reshape(3, 3)
    mapped = np.concatenate([points, np.ones((*points.shape[:-1], 1))], axis=-1) @ matrix.T
    return mapped[..., :2] / mapped[..., 2:]


def test_a_right_angle_only_moves_pixels() -> None:
    pixels, spec = photo(64, 64), InputSpec(size=64, crop=1.0)
    turned = render_view(pixels, spec, view=View(rotate=90.0))
    assert difference(turned, np.rot90(pixels, k=-1)).max() <= 1


def test_a_flip_is_exact() -> None:
    pixels, spec = photo(200, 260), InputSpec(size=64)
    np.testing.assert_array_equal(
        render_view(pixels, spec, view=View(flip=True)), evaluation_view(pixels, spec)[:, ::-1]
    )


def test_beyond_the_border_the_picture_is_mirrored() -> None:
    pixels, spec = photo(64, 64), InputSpec(size=64, crop=1.0)
    shown = render_view(pixels, spec, view=View(shift=(0.25, 0.0)))
    np.testing.assert_array_equal(shown[:, 16:], pixels[:, :48])
    np.testing.assert_array_equal(shown[:, :16], pixels[:, 16:0:-1])


def test_zooming_out_is_antialiased() -> None:
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    shown = render_view(stripes, InputSpec(size=100), view=View(rotate=7.0))
    assert shown.std() < 3
    assert abs(shown.mean() - 127.5) < 2


@pytest.mark.parametrize("view", [View(brightness=1.3), View(contrast=0.6), View(saturation=1.7), View(saturation=0.0),
                                  View(brightness=0.8, contrast=1.3, saturation=0.5)])  # fmt: skip
def test_colour_is_rounded_once(view: View) -> None:
    pixels = photo(64, 64)
    spec = InputSpec(size=64, crop=1.0)
    weights = np.array([0.299, 0.587, 0.114])
    value = pixels.astype(np.float64)
    grey = (value @ weights)[..., None]
    value = grey + view.saturation * (value - grey)
    value = view.brightness * (grey.mean() + view.contrast * (value - grey.mean()))
    expected = np.clip(np.round(value), 0, 255)
    assert difference(render_view(pixels, spec, view=view), expected).max() <= 1


def test_erasing_changes_a_rectangle_and_nothing_else() -> None:
    pixels, spec = photo(64, 64), InputSpec(size=64, crop=1.0)
    for seed in range(30):
        view = draw_view(STILL.model_copy(update={"erase": 1.0}), seed=seed)
        changed = difference(render_view(pixels, spec, view=view), pixels).any(axis=-1)
        rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
        box = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert 0.01 <= box.size / changed.size <= 0.28
        assert box.mean() > 0.95


def test_rendering_leaves_the_picture_alone() -> None:
    pixels = photo(64, 64)
    pixels.flags.writeable = False
    before = pixels.copy()
    for augment in (STILL, STILL.model_copy(update={"erase": 1.0}), EVERYTHING):
        shown = augmented_view(pixels, InputSpec(size=64, crop=1.0), augment=augment, seed=3)
        assert shown.flags.writeable
        assert shown.flags.c_contiguous
        assert not np.shares_memory(shown, pixels)
    np.testing.assert_array_equal(pixels, before)


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    pixels, spec = photo(100, 120), InputSpec(size=64)
    first, again, other = (augmented_view(pixels, spec, augment=Augment(erase=0.5), seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert difference(first, other).mean() > 1


def test_the_seed_of_a_view_depends_on_all_three_parts() -> None:
    seeds = {view_seed(sha, view, seed=seed) for sha in ("a" * 64, "b" * 64) for view in (1, 2) for seed in (0, 1)}
    assert len(seeds) == 8


@given(seed=st.integers(0, 2**63 - 1))
def test_one_option_never_changes_what_another_draws(seed: int) -> None:
    alone = draw_view(STILL.model_copy(update={"rotate": 20.0}), seed=seed)
    together = draw_view(EVERYTHING.model_copy(update={"rotate": 20.0}), seed=seed)
    assert alone.rotate == together.rotate
    assert alone == View(rotate=alone.rotate)


@given(seed=st.integers(0, 2**63 - 1))
def test_draws_stay_in_range(seed: int) -> None:
    augment = Augment(perspective=0.4, erase=1.0)
    view = draw_view(augment, seed=seed)
    assert abs(view.rotate) <= augment.rotate
    assert max(map(abs, view.shift)) <= augment.shift
    assert 1 / (1 + augment.zoom) <= view.zoom <= 1 + augment.zoom
    assert abs(view.shear) <= augment.shear
    for factor, most in zip(
        (view.brightness, view.contrast, view.saturation),
        (augment.brightness, augment.contrast, augment.saturation),
        strict=True,
    ):
        assert abs(factor - 1) <= most
    assert view.erase is not None
    left, top, width, height = view.erase
    assert min(left, top) >= 0
    assert max(left + width, top + height) <= 1
    assert max(abs(part) for corner in view.corners for part in corner) <= 0.4


def test_draws_are_even() -> None:
    views = [draw_view(Augment(), seed=view_seed("c" * 64, view, seed=0)) for view in range(2000)]
    assert abs(np.mean([view.flip for view in views]) - 0.5) < 4 * 0.5 / math.sqrt(2000)
    for values, spread in (
        ([v.rotate / 15 for v in views], 1),
        ([math.log(v.zoom) / math.log(1.25) for v in views], 1),
    ):
        assert abs(np.mean(values)) < 4 * spread / math.sqrt(3 * 2000)
        assert np.var(values) == pytest.approx(1 / 3, rel=0.1)


@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    size=st.integers(16, 80),
    seed=st.integers(0, 2**63 - 1),
    crop=st.sampled_from([0.3, 0.875, 1.0]),
)
def test_any_picture_and_any_change_give_a_view(height: int, width: int, size: int, seed: int, crop: float) -> None:
    pixels = np.full((height, width, 3), 90, np.uint8)
    spec = InputSpec(size=size, crop=crop)
    shown = augmented_view(pixels, spec, augment=EVERYTHING, seed=seed)
    assert shown.shape == (size, size, 3)
    assert shown.dtype == np.uint8
    still_colours = augmented_view(pixels, spec, augment=EVERYTHING.model_copy(
        update={"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "erase": 0.0}), seed=seed)  # fmt: skip
    assert (still_colours == 90).all()  # a plain picture stays plain: nothing from outside it is ever shown


def test_a_panorama_beyond_opencvs_width_has_views() -> None:
    strip = np.full((4, 70_000, 3), 33, np.uint8)
    shown = augmented_view(strip, InputSpec(size=32), augment=Augment(brightness=0, contrast=0, saturation=0), seed=1)
    assert (shown == 33).all()


@pytest.mark.slow
def test_real_photos_almost_unchanged_look_as_in_evaluation(flowers: object) -> None:
    from pathlib import Path

    paths = sorted(Path(str(flowers)).glob("*/*"))[::100]
    for size in (128, 192, 224, 288):
        spec = InputSpec(size=size)
        gaps = []
        for path in paths:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            gaps.append(
                difference(render_view(pixels, spec, view=View(shift=(1e-5, 0))), evaluation_view(pixels, spec)).mean()
            )
        assert len(gaps) >= 20
        assert np.mean(gaps) < 1
        assert max(gaps) < 3


@given(
    shape=st.sampled_from([(60, 60), (50, 130), (200, 90), (16, 400)]),
    size=st.sampled_from([24, 60, 100]),
    seed=st.integers(0, 2**63 - 1),
)
def test_looking_at_a_part_of_the_picture_changes_nothing(shape: tuple[int, int], size: int, seed: int) -> None:
    pixels, spec = photo(*shape), InputSpec(size=size)
    augment = EVERYTHING.model_copy(update={"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "erase": 0.0})
    part = augmented_view(pixels, spec, augment=augment, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("topwork.data.augment._REACH", 1e6)
        whole = augmented_view(pixels, spec, augment=augment, seed=seed)
    assert difference(part, whole).max() <= 2
