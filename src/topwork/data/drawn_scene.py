"""Where drawn flowers stand: backgrounds, stems, clutter, things in front. Knows no species.

Nothing here may depend on the species: with the same seed all five have the same surroundings, pixel for pixel, so that
only the flower itself can tell a classifier what it is.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from topwork.data.drawn_mesh import Floats, Pixels

__all__ = ["draw_background", "draw_clutter", "draw_front", "draw_stem"]

_Rng = np.random.Generator
_BITS = 4  # subpixel bits of cv2's coordinates
_LEAF = np.linspace(0.0, 1.0, 9)
_LEAF_WIDTH = np.sin(np.pi * _LEAF**0.8)
_GAY = np.array(  # colours of petals, for blobs and fallen petals that must not give a species away
    [
        [250, 250, 244],
        [252, 226, 70],
        [250, 190, 40],
        [244, 140, 60],
        [214, 44, 48],
        [244, 150, 176],
        [190, 60, 150],
        [190, 160, 226],
    ],
    dtype=np.float64,
)


def _points(xy: Floats) -> NDArray[np.int32]:
    return np.rint(xy * (1 << _BITS)).astype(np.int32)


def _poly(canvas: Pixels, xy: Floats, *, colour: Floats) -> None:
    """Fill an antialiased polygon; on an RGBA layer the colour is (r,g,b,255) and the result is premultiplied."""
    shades = np.clip(colour, 0, 255).tolist()
    if canvas.shape[2] == 4:
        shades = [*shades[:3], 255]
    cv2.fillPoly(canvas, [_points(xy)], shades, cv2.LINE_AA, _BITS)


def _noise(rng: _Rng, size: int, *, cells: int) -> NDArray[np.float32]:
    """(size,size) smooth values about 0..1."""
    grid = rng.random((cells, cells), dtype=np.float32)
    return np.asarray(cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _mix(low: Floats, high: Floats, *, share: Floats) -> Pixels:
    """(H,W,3) uint8 between two colours."""
    low32, high32 = np.float32(low), np.float32(high)
    table = np.clip(low32 + (high32 - low32) * np.linspace(0, 1, 256, dtype=np.float32)[:, None], 0, 255)
    index = cv2.convertScaleAbs(np.maximum(share, 0), alpha=255)
    return np.asarray(table.astype(np.uint8)[index])


def _green(rng: _Rng, light: float) -> Floats:
    """A leaf's green, 0..255; `light` in 0..1."""
    base = np.array([[70, 112, 44], [46, 98, 56], [104, 132, 58], [84, 120, 84]])[rng.integers(4)]
    return np.clip(base * (0.35 + 1.05 * light) + rng.normal(0, 9, 3), 0, 255)  # type: ignore[no-any-return]


def _blur(picture: Pixels, sigma: float) -> Pixels:
    if sigma < 0.3:
        return picture
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma), np.uint8)


def _leaf(canvas: Pixels, *, foot: Floats, angle: float, shape: tuple[float, float, float], colour: Floats) -> None:
    """One pointed leaf with a bright and a dark half; `shape` is length, half width (pixels), bend (radians)."""
    length, half, bend = shape
    way = angle + bend * _LEAF
    spine = foot + np.cumsum(np.stack([np.cos(way), np.sin(way)], axis=-1), axis=0) * (length / len(_LEAF))
    side = np.stack([-np.sin(way), np.cos(way)], axis=-1) * (half * _LEAF_WIDTH)[:, None]
    _poly(canvas, np.concatenate([spine, (spine + side)[::-1]]), colour=colour)
    _poly(canvas, np.concatenate([spine, (spine - side)[::-1]]), colour=0.78 * colour)
    vein = [*np.clip(1.18 * colour, 0, 255).tolist(), 255][: canvas.shape[2]]
    cv2.polylines(canvas, [_points(spine)], False, vein, max(1, round(half / 9)), cv2.LINE_AA, _BITS)


def _blades(canvas: Pixels, rng: _Rng, *, count: int, foot: float, length: float) -> None:
    """Grass: `count` blades whose feet stand around `foot` (share of the height), back to front."""
    size = canvas.shape[0]
    feet = np.stack([rng.uniform(-0.05, 1.05, count), np.sort(foot + rng.uniform(-0.15, 0.45, count))], axis=-1)
    for place in feet:
        angle = -np.pi / 2 + rng.normal(0, 0.28)
        shape = (length * size * rng.uniform(0.5, 1.2), size * rng.uniform(0.005, 0.013), rng.normal(0, 0.6))
        _leaf(canvas, foot=place * size, angle=angle, shape=shape, colour=_green(rng, rng.uniform(0.3, 1.0)))


def _bokeh(rng: _Rng, size: int) -> Pixels:
    low, high = _green(rng, rng.uniform(0.0, 0.5)), _green(rng, rng.uniform(0.6, 1.1))
    picture = _mix(low, high, share=_noise(rng, size, cells=4))
    for _ in range(int(rng.integers(6, 16))):
        place = tuple(_points(rng.uniform(0, 1, 2) * size).tolist())
        radius = size * rng.uniform(0.03, 0.11)
        gay = _GAY[rng.integers(len(_GAY))] if rng.random() < 0.5 else 1.3 * high
        under = picture[min(size - 1, place[1] >> _BITS), min(size - 1, place[0] >> _BITS)].astype(np.float64)
        colour = under + (gay - under) * rng.uniform(0.25, 0.7)
        cv2.circle(picture, place, int(radius * (1 << _BITS)), colour.tolist(), -1, cv2.LINE_AA, _BITS)
    return _blur(picture, size * rng.uniform(0.006, 0.025))


def _meadow(rng: _Rng, size: int) -> Pixels:
    slope = np.linspace(0, 1, size, dtype=np.float32)[:, None] * 0.8 + 0.3 * _noise(rng, size, cells=6)
    picture = _mix(_green(rng, 1.05), _green(rng, 0.35), share=slope)
    _blades(picture, rng, count=int(rng.integers(35, 70)), foot=0.5, length=0.35)
    return _blur(picture, size * rng.uniform(0.002, 0.014))


def _sky(rng: _Rng, size: int) -> Pixels:
    top = np.array([[62, 122, 196], [96, 150, 206], [150, 170, 190], [196, 150, 150]])[rng.integers(4)]
    low = top + (np.array([236, 240, 244]) - top) * rng.uniform(0.5, 0.9)
    picture = _mix(top, low, share=np.broadcast_to(np.linspace(0, 1, size, dtype=np.float32)[:, None], (size, size)))
    depth = 0.65 * _noise(rng, size, cells=4) + 0.35 * _noise(rng, size, cells=9)
    cloud = 2.2 * np.clip(depth - rng.uniform(0.4, 0.65), 0, 1)
    white = _mix(np.zeros(3), np.full(3, 120.0), share=cloud)
    picture = np.asarray(cv2.addWeighted(picture, 1.0, white, 0.8, 0.0), np.uint8)
    if rng.random() < 0.7:
        hill = size * (rng.uniform(0.6, 0.95) + 0.12 * (_noise(rng, size, cells=4)[0] - 0.5))
        edge = np.concatenate([np.stack([np.arange(size), hill], axis=-1), [[size, size], [0, size]]])
        _poly(picture, edge, colour=_green(rng, rng.uniform(0.4, 0.9)))
        _blades(picture, rng, count=14, foot=0.95, length=0.25)
    return _blur(picture, size * rng.uniform(0.003, 0.014))


def _soil(rng: _Rng, size: int) -> Pixels:
    grain = 0.45 * _noise(rng, size, cells=6) + 0.30 * _noise(rng, size, cells=24) + 0.25 * _noise(rng, size, cells=56)
    brown = np.array([[112, 82, 58], [132, 112, 88], [92, 74, 62]])[rng.integers(3)]
    picture = _mix(0.35 * brown, 1.35 * brown, share=grain)
    for _ in range(int(rng.integers(8, 24))):
        _stone(picture, rng, radius=size * rng.uniform(0.01, 0.05))
    return _blur(picture, size * rng.uniform(0.001, 0.008))


def _stone(canvas: Pixels, rng: _Rng, *, radius: float) -> None:
    place = rng.uniform(0, 1, 2) * canvas.shape[0]
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), 0.7 * np.sin(turn)], axis=-1) * radius * rng.uniform(0.85, 1.15, (12, 1))
    grey = rng.uniform(90, 190) * np.array([1.0, 0.97, 0.92])
    _poly(canvas, place + ring + 0.2 * radius, colour=0.35 * grey)
    _poly(canvas, place + ring, colour=0.8 * grey)
    _poly(canvas, place + 0.65 * ring - 0.12 * radius, colour=grey)


def _foliage(rng: _Rng, size: int) -> Pixels:
    picture = _mix(_green(rng, 0.0), _green(rng, 0.35), share=_noise(rng, size, cells=5))
    count = int(rng.integers(36, 64))
    for depth in np.linspace(0.1, 1.0, count):
        shape = (size * rng.uniform(0.14, 0.30), size * rng.uniform(0.03, 0.075), rng.normal(0, 0.4))
        colour = _green(rng, depth * rng.uniform(0.45, 0.95))
        _leaf(
            picture, foot=rng.uniform(-0.1, 1.1, 2) * size, angle=rng.uniform(0, 2 * np.pi), shape=shape, colour=colour
        )
    return _blur(picture, size * rng.uniform(0.002, 0.016))


def _room(rng: _Rng, size: int) -> Pixels:
    wall = np.array([[214, 206, 192], [150, 164, 172], [188, 150, 134], [84, 92, 104], [206, 196, 150]])[
        rng.integers(5)
    ]
    slope = np.linspace(0, 1, size, dtype=np.float32)
    side = slope[None, :] if rng.random() < 0.5 else slope[None, ::-1]
    picture = _mix(
        1.08 * wall, 0.6 * wall, share=0.55 * side + 0.3 * slope[:, None] + 0.15 * _noise(rng, size, cells=5)
    )
    if rng.random() < 0.4:  # a window's light on the wall
        corner = rng.uniform(0.0, 0.6, 2) * size
        pane = corner + np.array([[0, 0], [0.3, 0.05], [0.3, 0.5], [0, 0.42]]) * size
        _poly(picture, pane, colour=1.2 * wall + 12)
    picture = _blur(picture, 0.02 * size)
    edge = round(size * rng.uniform(0.62, 0.95))
    wood = np.array([[128, 88, 56], [172, 138, 100], [84, 60, 46], [196, 196, 190]])[rng.integers(4)]
    grain = cv2.resize(rng.random((40, 3), dtype=np.float32), (size, size), interpolation=cv2.INTER_LINEAR).astype(
        np.float32
    )
    picture[edge:] = _mix(0.7 * wood, 1.15 * wood, share=grain)[edge:]
    return _blur(picture, size * rng.uniform(0.001, 0.010))


_PLACES: tuple[Callable[[_Rng, int], Pixels], ...] = (_bokeh, _meadow, _sky, _soil, _foliage, _room)


def draw_background(rng: _Rng, size: int) -> Pixels:
    """(size,size,3) RGB of one of six places: bokeh, meadow, sky, soil, foliage, room."""
    return _PLACES[rng.integers(len(_PLACES))](rng, size)


def draw_clutter(canvas: Pixels, rng: _Rng) -> None:
    """Put sharp leaves, stones, fallen petals and blobs in petal colours behind the flowers, in place."""
    size = canvas.shape[0]
    for _ in range(int(rng.integers(0, 4))):
        _blob(canvas, rng)
    for _ in range(int(rng.integers(0, 4))):
        foot = rng.uniform([0.0, 0.92], [1.0, 1.12]) * size
        for _ in range(int(rng.integers(2, 6))):  # a tuft
            shape = (size * rng.uniform(0.15, 0.5), size * rng.uniform(0.012, 0.05), rng.normal(0, 0.6))
            _leaf(
                canvas,
                foot=foot,
                angle=-np.pi / 2 + rng.normal(0, 0.6),
                shape=shape,
                colour=_green(rng, rng.uniform(0.4, 1.0)),
            )
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 6))):
            shape = (size * rng.uniform(0.05, 0.11), size * rng.uniform(0.012, 0.026), rng.normal(0, 0.5))
            petal = _GAY[rng.integers(len(_GAY))] * rng.uniform(0.7, 1.0)
            _leaf(
                canvas,
                foot=rng.uniform([0, 0.72], [1, 1]) * size,
                angle=rng.uniform(0, 2 * np.pi),
                shape=shape,
                colour=petal,
            )


def _blob(canvas: Pixels, rng: _Rng) -> None:
    """A round thing out of focus in a petal's colour, as another flower far behind would look."""
    size = canvas.shape[0]
    radius = size * rng.uniform(0.03, 0.09)
    x, y = rng.uniform(0, 1, 2) * size
    left, top = max(0, int(x - 2 * radius)), max(0, int(y - 2 * radius))
    part = canvas[top : int(y + 2 * radius), left : int(x + 2 * radius)]
    patch = np.ascontiguousarray(part)
    colour = _GAY[rng.integers(len(_GAY))] * rng.uniform(0.6, 0.95)
    centre = tuple(_points(np.array([x - left, y - top])).tolist())
    cv2.circle(patch, centre, int(radius * (1 << _BITS)), colour.tolist(), -1, cv2.LINE_AA, _BITS)
    inner = tuple(_points(np.array([x - left, y - top]) - 0.2 * radius).tolist())
    cv2.circle(patch, inner, int(0.5 * radius * (1 << _BITS)), (1.08 * colour).tolist(), -1, cv2.LINE_AA, _BITS)
    part[:] = _blur(patch, 0.28 * radius)


def draw_stem(canvas: Pixels, rng: _Rng, *, top: tuple[float, float], width: float) -> None:
    """A stem from the flower's place (`top`, pixels) down and out of the picture, with up to two leaves, in place."""
    size = canvas.shape[0]
    start = np.array(top)
    foot = np.array([start[0] + rng.normal(0, 0.18) * size, 1.1 * size])
    knee = 0.5 * (start + foot) + np.array([rng.normal(0, 0.07) * size, 0.0])
    share = np.linspace(0, 1, 12)[:, None]
    line = (1 - share) ** 2 * start + 2 * share * (1 - share) * knee + share**2 * foot
    colour = _green(rng, rng.uniform(0.5, 0.9))
    for thick, shade, shift in ((1.0, 0.72, 0.0), (0.55, 1.05, -0.18)):
        bright = np.clip(shade * colour, 0, 255).tolist()
        points = _points(line + np.array([shift * width, 0.0]))
        cv2.polylines(canvas, [points], False, bright, max(1, round(thick * width)), cv2.LINE_AA, _BITS)
    for _ in range(int(rng.integers(0, 3))):
        where = line[rng.integers(3, 9)]
        angle = rng.choice([-1.0, 1.0]) * rng.uniform(0.2, 1.0) - np.pi / 2
        shape = (size * rng.uniform(0.12, 0.3), size * rng.uniform(0.015, 0.05), rng.normal(0, 0.6))
        _leaf(canvas, foot=where, angle=angle, shape=shape, colour=colour * rng.uniform(0.85, 1.15))


def draw_front(rng: _Rng, size: int) -> Pixels:
    """(size,size,4) premultiplied RGBA of what hides part of the flowers: grass and leaves, often out of focus."""
    layer = np.zeros((size, size, 4), np.uint8)
    if rng.random() < 0.45:
        return layer
    if rng.random() < 0.5:
        for _ in range(int(rng.integers(3, 12))):
            shape = (size * rng.uniform(0.4, 0.9), size * rng.uniform(0.006, 0.018), rng.normal(0, 0.5))
            foot = np.array([rng.uniform(-0.1, 1.1), 1.1]) * size
            _leaf(
                layer,
                foot=foot,
                angle=-np.pi / 2 + rng.normal(0, 0.3),
                shape=shape,
                colour=_green(rng, rng.uniform(0.4, 1.1)),
            )
    else:
        for _ in range(int(rng.integers(1, 4))):
            around = rng.uniform(0, 2 * np.pi)
            foot = (0.5 + 0.68 * np.array([np.cos(around), np.sin(around)])) * size
            shape = (size * rng.uniform(0.3, 0.55), size * rng.uniform(0.04, 0.09), rng.normal(0, 0.4))
            _leaf(
                layer,
                foot=foot,
                angle=around + np.pi + rng.normal(0, 0.5),
                shape=shape,
                colour=_green(rng, rng.uniform(0.3, 0.9)),
            )
    return _blur(layer, size * rng.choice([0.0, 0.004, 0.012]))
