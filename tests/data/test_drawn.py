"""Laws of the drawn flowers: same seed same pixels, exact masks, nothing outside them that tells the species."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from topwork.data import drawn as module
from topwork.data.drawn import (
    SPECIES,
    Drawn,
    draw_flower,
    draw_surroundings,
    masks_folder,
    read_mask,
    write_drawn_flowers,
)
from topwork.errors import DataError

SEEDS = st.integers(min_value=-(2**70), max_value=2**70)


@pytest.fixture(scope="module")
def many() -> list[Drawn]:
    """Forty small pictures of each species, all with different seeds."""
    return [
        draw_flower(species, seed=1000 * row + column, size=64)
        for row, species in enumerate(SPECIES)
        for column in range(40)
    ]


@given(species=st.sampled_from(SPECIES), seed=SEEDS, size=st.integers(32, 144))
@settings(max_examples=60, deadline=None)
def test_mask_covers_5_to_40_percent_of_every_picture(species: str, seed: int, size: int) -> None:
    flower = draw_flower(species, seed=seed, size=size)
    assert flower.pixels.shape == (size, size, 3)
    assert flower.pixels.dtype == np.uint8
    assert flower.mask.shape == (size, size)
    assert flower.mask.dtype == np.bool_
    assert 0.05 <= flower.mask.mean() <= 0.40


@given(species=st.sampled_from(SPECIES), seed=SEEDS, asked=st.sampled_from([0.0005, 0.01, 0.6, 3.0]))
@settings(max_examples=20, deadline=None)
def test_coverage_is_kept_even_where_the_layout_asks_for_nonsense(species: str, seed: int, asked: float) -> None:
    layers = replace(module._surroundings(seed, 48), coverage=asked)
    flowers = module._turned_flowers(layers.places, species=species, seed=seed)
    assert 0.05 <= module._fitted_flowers(layers, flowers)[1].mean() <= 0.40


@given(species=st.sampled_from(SPECIES), seed=SEEDS)
@settings(max_examples=10, deadline=None)
def test_same_arguments_same_pixels(species: str, seed: int) -> None:
    first, second = draw_flower(species, seed=seed, size=72), draw_flower(species, seed=seed, size=72)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.mask, second.mask)


_HASH = """
import hashlib
from topwork.data.drawn import SPECIES, draw_flower
seen = hashlib.sha256()
for number, species in enumerate(SPECIES * 4):
    flower = draw_flower(species, seed=number, size=80)
    seen.update(flower.pixels.tobytes() + flower.mask.tobytes())
print(seen.hexdigest())
"""


def test_another_process_draws_the_same_pixels() -> None:
    seen = hashlib.sha256()
    for number, species in enumerate(SPECIES * 4):
        flower = draw_flower(species, seed=number, size=80)
        seen.update(flower.pixels.tobytes() + flower.mask.tobytes())
    source = str(Path(module.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "3"}
    done = subprocess.run([sys.executable, "-c", _HASH], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == seen.hexdigest()


@pytest.mark.parametrize("species", SPECIES)
def test_mask_is_where_the_flower_decides_the_pixel(species: str) -> None:
    """Oracle: matting by two backgrounds (Smith and Blinn, 1996): opaque is what hides black and white alike."""
    for seed in range(8):
        layers = module._surroundings(seed, 96)
        flowers, mask = module._fitted_flowers(
            layers, module._turned_flowers(layers.places, species=species, seed=seed)
        )
        nothing = np.zeros_like(flowers)

        def clear(content: np.ndarray, layers: module._Layers = layers) -> np.ndarray:
            white, black = (np.full_like(layers.back, grey) for grey in (255, 0))
            shown = [module._stack(replace(layers, back=back), content).astype(float) for back in (white, black)]
            return (shown[0] - shown[1])[:, :, 0] / 255  # share of the background that is seen

        decided = clear(nothing) - clear(flowers)
        unsure = np.abs(decided - 0.5) < 0.02  # rounding of three 8-bit products
        assert np.array_equal(mask[~unsure], decided[~unsure] > 0.5)
        assert np.array_equal(draw_flower(species, seed=seed, size=96).mask, mask)
        bare, full = module._stack(layers, nothing), module._stack(layers, flowers)
        assert np.array_equal(bare[decided == 0], full[decided == 0])
        changed = np.abs(full.astype(int) - bare).max(axis=2) > 8
        assert changed[mask].mean() > 0.85  # the rest: a petal over something of nearly its own colour


def test_nothing_outside_the_mask_tells_the_species() -> None:
    """With one seed, all species have the same surroundings: equal pixels away from the masks and the blur around."""
    equal = []
    for seed in range(10):
        flowers = [draw_flower(species, seed=seed, size=128) for species in SPECIES]
        for one, other in pairwise(flowers):
            near = cv2.dilate((one.mask | other.mask).astype(np.uint8), np.ones((61, 61), np.uint8)) > 0
            if (~near).sum() > 200:
                equal.append(bool(np.array_equal(one.pixels[~near], other.pixels[~near])))
    assert len(equal) >= 12
    assert (
        np.mean(equal) >= 0.9
    )  # the rest: petals that show faintly through blurred leaves in front, far from the mask


def test_flowers_are_not_centred(many: list[Drawn]) -> None:
    centroids = np.array([np.argwhere(flower.mask).mean(axis=0) / 64 - 0.5 for flower in many])
    assert centroids.std(axis=0).min() > 0.12
    assert np.hypot(*centroids.T).mean() > 0.15
    assert np.abs(centroids.mean(axis=0)).max() < 0.1  # spread to all sides


def test_pictures_vary_in_number_size_colour_and_place(many: list[Drawn]) -> None:
    shares = np.array([flower.mask.mean() for flower in many])
    assert np.quantile(shares, 0.9) > 2 * np.quantile(shares, 0.1)
    parts = [
        cv2.connectedComponents(cv2.erode(flower.mask.astype(np.uint8), np.ones((3, 3))))[0] - 1 for flower in many
    ]
    assert {1, 2, 3} <= set(parts)
    assert len({flower.pixels.tobytes() for flower in many}) == len(many)
    backgrounds = np.array([flower.pixels[~flower.mask].mean(axis=0) for flower in many])
    assert backgrounds.std(axis=0).min() > 20


def test_colour_alone_does_not_tell_the_species(many: list[Drawn]) -> None:
    """The nearest neighbour by mean colour inside the mask is right far less often than shape would be."""
    colours = np.array([flower.pixels[flower.mask].mean(axis=0) for flower in many])
    labels = np.array([SPECIES.index(flower.species) for flower in many])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    assert (labels[apart.argmin(axis=1)] == labels).mean() < 0.6


def test_scene_does_not_depend_on_the_size() -> None:
    overlaps = []
    for number, species in enumerate(SPECIES * 3):
        small, large = (draw_flower(species, seed=number, size=size).mask for size in (64, 192))
        reduced = cv2.resize(large.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) > 0.5
        overlaps.append((small & reduced).sum() / (small | reduced).sum())
    assert np.median(overlaps) > 0.9


@pytest.mark.parametrize(("species", "size"), [("orchid", 64), ("rose", 31), ("rose", 2049)])
def test_unknown_species_and_impossible_sizes_are_refused(species: str, size: int) -> None:
    with pytest.raises(DataError, match=r"must be .* Got"):
        draw_flower(species, seed=0, size=size)


def test_written_photos_and_masks_are_the_drawn_ones(tmp_path: Path) -> None:
    folder = write_drawn_flowers(tmp_path / "new" / "flowers", n_per_class=2, size=64, seed=5)
    photos = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))
    assert photos == [f"{species}/{species}-{number:05d}.jpg" for species in SPECIES for number in range(2)]
    assert len(list(masks_folder(folder).rglob("*.png"))) == 10
    photo = folder / "rose" / "rose-00001.jpg"
    flower = draw_flower("rose", seed=module.seed_from(5, "rose", 1), size=64)
    read = cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert np.array_equal(read_mask(photo), flower.mask)
    assert np.abs(read.astype(int) - flower.pixels).mean() < 6
    again = write_drawn_flowers(tmp_path / "again", n_per_class=2, size=64, seed=5, masks=False)
    assert (again / "rose" / "rose-00001.jpg").read_bytes() == photo.read_bytes()
    assert not masks_folder(again).exists()
    with pytest.raises(DataError, match="mask of"):
        read_mask(again / "rose" / "rose-00001.jpg")


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("keep")
    with pytest.raises(DataError, match="new or empty"):
        write_drawn_flowers(tmp_path / "mine", n_per_class=1, size=32, seed=0)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "note.txt"]
    with pytest.raises(DataError, match="at least 1"):
        write_drawn_flowers(tmp_path / "none", n_per_class=0, size=32, seed=0)


class _StopsAt:
    def __init__(self, done: int) -> None:
        self.done = done

    def step(self, stage: str, done: int, total: int) -> None:
        if done == self.done:
            raise KeyboardInterrupt

    def say(self, line: str) -> None:
        pass


def test_an_interrupted_writing_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_drawn_flowers(tmp_path / "flowers", n_per_class=2, size=32, seed=0, progress=_StopsAt(7))
    assert list(tmp_path.iterdir()) == []
    assert len(list(write_drawn_flowers(tmp_path / "flowers", n_per_class=1, size=32, seed=0).rglob("*.jpg"))) == 5


def test_surroundings_are_the_picture_without_its_flower() -> None:
    """Outside a widened mask (the camera blurs) both are the same; inside, the flower is gone."""
    for seed in range(4):
        flower, empty = draw_flower("rose", seed=seed, size=96), draw_surroundings(seed=seed, size=96)
        gap = np.abs(flower.pixels.astype(int) - empty.astype(int)).max(axis=2)
        near = cv2.dilate(flower.mask.astype(np.uint8), np.ones((15, 15), np.uint8)) > 0
        assert np.median(gap[~near]) <= 8
        assert np.median(gap[flower.mask]) > 20
