"""Drawn flowers: photo-like pictures of five species, each with the exact mask of the flower.

`topwork demo` and the tests run on them. A picture is made of layers, back to front: background and clutter, stems,
flowers, things in front; then the camera (light, blur, noise, JPEG). The layers other than the flowers come from the
seed alone, never from the species, so nothing outside the mask tells the species. Knows nothing of
data set names or caches.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from topwork.data.drawn_mesh import Floats, Pixels, Quads, paint, turn
from topwork.data.drawn_scene import draw_background, draw_clutter, draw_front, draw_stem
from topwork.data.drawn_species import SPECIES, build_flower, tilt_range
from topwork.digest import seed_from
from topwork.errors import DataError
from topwork.progress import Progress, silent

__all__ = [
    "DRAWN_VERSION",
    "SPECIES",
    "Drawn",
    "draw_flower",
    "draw_surroundings",
    "masks_folder",
    "read_mask",
    "write_drawn_flowers",
]

DRAWN_VERSION = 1  # raise it whenever any pixel changes: cached folders and seeds depend on it

_JPEG_QUALITY = 90
_OVERSAMPLE = 2  # flowers are drawn larger and reduced: that is their antialiasing
_COVERAGE = (0.055, 0.39)  # accepted share of the mask; the promise is 0.05 to 0.40
_FLOWERS = (0.55, 0.20, 0.15, 0.10)  # how often 1, 2, 3, 4 flowers
_DETAIL_AREA = 0.75  # share of a flower's convex hull that petals fill, roughly
_WORST_BLUR = 0.016  # sigma, in picture sides
_SMALLEST, _LARGEST = 32, 2048


@dataclass(frozen=True)
class Drawn:
    """One picture.

    Args:
        pixels: (size,size,3) uint8 RGB.
        mask: (size,size) bool, True where the visible flower (petals, disc, bracts; no stem, no leaf) decides.
        species: one of `SPECIES`.
    """

    pixels: Pixels
    mask: NDArray[np.bool_]
    species: str


@dataclass(frozen=True)
class _Place:
    """Where one flower stands: shares of the picture, angles in radians, size relative to the largest flower."""

    x: float
    y: float
    roll: float
    lean: float
    relative: float


@dataclass(frozen=True)
class _Layers:
    """Everything but the flowers."""

    back: Pixels
    front: Pixels
    places: tuple[_Place, ...]
    light: Floats
    coverage: float


def _rng(*parts: object) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed_from("drawn", DRAWN_VERSION, *parts)))


def draw_flower(species: str, *, seed: int, size: int) -> Drawn:
    """Draw one picture; the same arguments give the same pixels in every process.

    Args:
        species: one of `SPECIES`.
        seed: any integer; it decides everything but the species.
        size: side of the square picture, 32 to 2048 pixels.

    Returns:
        Pixels and mask; the mask covers 5 to 40 % of the picture.

    Raises:
        DataError: if the species is unknown or the size out of range.
    """
    if species not in SPECIES:
        raise DataError(
            f"The species of draw_flower must be known. Got {species!r}.", fix=f"use one of {', '.join(SPECIES)}."
        )
    if not _SMALLEST <= size <= _LARGEST:
        raise DataError(
            f"The size of draw_flower must be {_SMALLEST} to {_LARGEST} pixels. Got {size}.",
            fix="choose a size in that range.",
        )
    layers = _surroundings(seed, size)
    flowers, visible = _fitted_flowers(layers, _turned_flowers(layers.places, species=species, seed=seed))
    return Drawn(_camera(_stack(layers, flowers), _rng("camera", seed)), visible, species)


def draw_surroundings(*, seed: int, size: int) -> Pixels:
    """The picture that `draw_flower` draws from a seed, of any species, without its flowers.

    Args:
        seed, size: as for `draw_flower`.

    Returns:
        (size,size,3) uint8 RGB.
    """
    layers = _surroundings(seed, size)
    return _camera(_over(layers.back, layers.front), _rng("camera", seed))


def _surroundings(seed: int, size: int) -> _Layers:
    rng = _rng("layout", seed)
    places = _places(rng)
    light = np.array([rng.uniform(-0.7, 0.7), rng.uniform(0.2, 0.9), rng.uniform(0.5, 0.9)])
    coverage = float(np.exp(rng.uniform(np.log(0.068), np.log(0.31))))  # small flowers are as likely as large ones
    back = draw_background(_rng("background", seed), size)
    draw_clutter(back, _rng("clutter", seed))
    for number, place in enumerate(places):
        width = max(1.0, size * 0.022 * place.relative)
        draw_stem(back, _rng("stem", seed, number), top=(place.x * size, place.y * size), width=width)
    return _Layers(back, draw_front(_rng("front", seed), size), places, light / np.linalg.norm(light), coverage)


def _places(rng: np.random.Generator) -> tuple[_Place, ...]:
    count = 1 + int(rng.choice(len(_FLOWERS), p=_FLOWERS))
    places: list[_Place] = []
    while len(places) < count:
        best, room = (0.5, 0.5), -1.0
        for x, y in rng.uniform(0.16, 0.84, (4, 2)):  # of four candidates the one with most room around it
            free = min((float(np.hypot(x - p.x, y - p.y)) for p in places), default=float(np.hypot(x - 0.5, y - 0.5)))
            if free > room:
                best, room = (float(x), float(y)), free
        relative = 1.0 if not places else rng.uniform(0.5, 0.95)
        places.append(_Place(*best, roll=rng.normal(0.0, 0.35), lean=rng.random(), relative=relative))
    return tuple(sorted(places, key=lambda place: place.relative))  # the largest stands in front


def _fitted_flowers(layers: _Layers, flowers: tuple[Quads, ...]) -> tuple[Pixels, NDArray[np.bool_]]:
    """The flowers' layer and the visible mask, scaled until the mask covers the share that the layout asks for.

    The share grows with the scale, so halving the bracket between "too small" and "too large" always ends.
    """
    scale = float(np.sqrt(layers.coverage / (_DETAIL_AREA * sum(_hull_area(flower) for flower in flowers))))
    low, high = 0.0, np.inf
    while True:
        layer = _flower_layer(layers, flowers, scale=scale)
        hidden = layers.front[:, :, 3].astype(np.uint16)
        visible = layer[:, :, 3].astype(np.uint16) * (255 - hidden) >= 128 * 255
        share = float(visible.mean())
        if _COVERAGE[0] <= share <= _COVERAGE[1]:
            return layer, visible
        low, high = (scale, high) if share < _COVERAGE[0] else (low, scale)
        wanted = scale * float(np.sqrt(layers.coverage / max(share, 0.01)))
        scale = wanted if low < wanted < high else (low + min(high, 4.0 * low + 0.01)) / 2


def _turned_flowers(places: tuple[_Place, ...], *, species: str, seed: int) -> tuple[Quads, ...]:
    """One plant: its flowers share colour and shape but not their pose."""
    nearest, farthest = tilt_range(species)
    turned = []
    for number, place in enumerate(places):
        flower = build_flower(species, _rng("flower", species, seed))
        spin = _rng("spin", seed, number).uniform(0.0, 2 * np.pi)
        pose = turn(flower, spin=spin, tilt=nearest + place.lean * (farthest - nearest), roll=place.roll)
        turned.append(replace(pose, corners=pose.corners * place.relative))
    return tuple(turned)


def _hull_area(flower: Quads) -> float:
    return float(cv2.contourArea(cv2.convexHull(flower.corners[:, :, :2].reshape(-1, 2).astype(np.float32))))


def _flower_layer(layers: _Layers, flowers: tuple[Quads, ...], *, scale: float) -> Pixels:
    """(size,size,4) premultiplied RGBA of the flowers alone; `scale` in picture sides per unit."""
    size = layers.back.shape[0]
    large = size * _OVERSAMPLE
    layer = np.zeros((large, large, 4), np.uint8)
    for place, flower in zip(layers.places, flowers, strict=True):
        paint(layer, flower, centre=(place.x * large, place.y * large), scale=scale * large, light=layers.light)
    return np.asarray(cv2.resize(layer, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _over(back: Pixels, layer: Pixels) -> Pixels:
    """A premultiplied RGBA layer over an RGB picture; where the layer is empty the picture stays exactly as it was."""
    clear = cv2.cvtColor(255 - layer[:, :, 3], cv2.COLOR_GRAY2RGB)
    behind = cv2.multiply(back, clear, scale=1 / 255)
    return np.asarray(cv2.add(behind, np.ascontiguousarray(layer[:, :, :3])), np.uint8)


def _stack(layers: _Layers, flowers: Pixels) -> Pixels:
    return _over(_over(layers.back, flowers), layers.front)


def _camera(scene: Pixels, rng: np.random.Generator) -> Pixels:
    """Light, vignette, blur, noise and JPEG, as a cheap camera would add them."""
    size = scene.shape[0]
    gain = rng.uniform(0.90, 1.15) * (1 + rng.normal(0, 0.035, 3))
    gamma = rng.uniform(0.80, 1.12)
    ramp = np.linspace(0, 1, 256)[:, None] ** gamma * gain * 255
    picture = cv2.LUT(scene, np.clip(ramp, 0, 255).astype(np.uint8)[None])
    if rng.random() < 0.6:
        picture = cv2.GaussianBlur(picture, (0, 0), size * (0.001 + _WORST_BLUR * rng.random() ** 2))
    grain = (0.5 + 5.0 * rng.random() ** 2) * rng.standard_normal((size, size, 1), dtype=np.float32)
    line = np.linspace(-1, 1, size, dtype=np.float32) ** 2
    dark = 1 - np.float32(rng.uniform(0, 0.22)) * (line[:, None] + line[None, :])[:, :, None]
    noisy = np.clip(picture * dark + grain, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 85))]
        noisy = cv2.imdecode(cv2.imencode(".jpg", noisy, quality)[1], cv2.IMREAD_COLOR)
    return np.asarray(noisy, np.uint8)


def masks_folder(folder: Path) -> Path:
    """Where the masks of a folder of drawn flowers lie: beside it, so that no scan takes them for photos."""
    return folder.with_name(f"{folder.name}-masks")


def write_drawn_flowers(
    folder: Path, *, n_per_class: int, size: int, seed: int, masks: bool = True, progress: Progress = silent
) -> Path:
    """Write a folder of class folders with JPEG photos, and their masks as PNG into `masks_folder(folder)`.

    Either the whole folder appears or nothing: files are written beside it and renamed when all are there.

    Args:
        folder: new or empty; its parents are made.
        n_per_class: photos of each species, >= 1.
        size: side of the photos, pixels.
        seed: the same seed, numbers and size give the same files.
        masks: write the masks too.
        progress: told after every photo.

    Returns:
        `folder`.

    Raises:
        DataError: if the folder or its masks folder already holds something, or `n_per_class` is below 1.
    """
    if n_per_class < 1:
        raise DataError(
            f"The n_per_class of drawn flowers must be at least 1. Got {n_per_class}.", fix="ask for 1 or more."
        )
    targets = {"photos": folder, **({"masks": masks_folder(folder)} if masks else {})}
    for target in targets.values():
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise DataError(
                f"The folder of drawn flowers must be new or empty. Got {target}.", fix="name another, or delete it."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder.parent))
    try:
        for number in range(n_per_class * len(SPECIES)):
            species = SPECIES[number // n_per_class]
            stem = Path(species) / f"{species}-{number % n_per_class:05d}"
            drawn = draw_flower(species, seed=seed_from(seed, species, number % n_per_class), size=size)
            _write_photo(partial, drawn, stem=stem, masks=masks)
            progress.step("draw", number + 1, n_per_class * len(SPECIES))
        for part, target in reversed(targets.items()):
            if target.exists():
                target.rmdir()  # empty: checked above
            (partial / part).rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write_photo(root: Path, drawn: Drawn, *, stem: Path, masks: bool) -> None:
    photo, mask = (root / "photos" / stem).with_suffix(".jpg"), (root / "masks" / stem).with_suffix(".png")
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    photo.parent.mkdir(parents=True, exist_ok=True)
    photo.write_bytes(cv2.imencode(".jpg", np.ascontiguousarray(drawn.pixels[:, :, ::-1]), quality)[1].tobytes())
    if masks:
        mask.parent.mkdir(parents=True, exist_ok=True)
        mask.write_bytes(cv2.imencode(".png", drawn.mask.astype(np.uint8) * 255)[1].tobytes())


def read_mask(photo: Path) -> NDArray[np.bool_]:
    """The exact mask of a photo that `write_drawn_flowers` wrote.

    Args:
        photo: `.../FOLDER/SPECIES/NAME.jpg`.

    Returns:
        (size,size) bool.

    Raises:
        DataError: if there is no readable mask for this photo.
    """
    path = masks_folder(photo.parent.parent) / photo.parent.name / f"{photo.stem}.png"
    if path.is_file():
        grey = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
        if grey is not None:
            return np.asarray(grey) >= 128
    raise DataError(
        f"The mask of {photo} must be a PNG file. Got nothing readable at {path}.", fix="draw the flowers again."
    )
