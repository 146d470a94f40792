"""Overlays: the photo stays where there is no evidence, and colour grows with it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from topwork.explanations.overlay import Panel, contrast_overlay, overlay, panels_png

PICTURE = np.full((32, 32, 3), 100, np.uint8)


def _with_one_place(value: float) -> np.ndarray:
    heatmap = np.zeros((32, 32), np.float32)
    heatmap[4, 20] = value
    return heatmap


def test_only_the_place_with_evidence_is_coloured() -> None:
    seen = overlay(PICTURE, _with_one_place(1.0)).astype(int)
    elsewhere = np.delete(seen.reshape(-1, 3), 4 * 32 + 20, axis=0)
    assert (elsewhere == elsewhere[0]).all()
    assert np.ptp(elsewhere[0]) == 0  # grey stays grey
    assert seen[4, 20].sum() > elsewhere[0].sum()
    assert np.ptp(seen[4, 20]) > 50


def test_brightness_grows_with_the_evidence() -> None:
    ramp = np.linspace(0, 1, 32, dtype=np.float32)[None].repeat(32, 0)
    brightness = overlay(PICTURE, ramp)[0].sum(axis=1).astype(int)
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] - brightness[0] > 200


def test_the_two_sides_of_a_contrast_have_two_hues() -> None:
    positive = contrast_overlay(PICTURE, _with_one_place(1.0))[4, 20].astype(int)
    negative = contrast_overlay(PICTURE, _with_one_place(-1.0))[4, 20].astype(int)
    assert positive[2] > positive[0]  # blue
    assert negative[0] > negative[2]  # orange
    assert (contrast_overlay(PICTURE, np.zeros((32, 32), np.float32)) == PICTURE).all()


def test_panels_become_a_png_whatever_the_names() -> None:
    rows = [
        ("a $5 class", [Panel(pixels=PICTURE, title="one\ntwo"), Panel(pixels=PICTURE)]),
        ("b", [Panel(pixels=PICTURE)]),
        ("b", [Panel(pixels=PICTURE)]),  # two long names may be the same once they are short
        ("花", [Panel(pixels=PICTURE, title="花")]),  # the font lacks it, which is no reason to warn
    ]
    with Image.open(io.BytesIO(panels_png(rows))) as picture:
        assert picture.format == "PNG"
        assert picture.width > 400
        assert picture.height > 800
    assert panels_png(rows) == panels_png(rows)
