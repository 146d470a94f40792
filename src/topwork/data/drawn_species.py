"""The five species, each as coloured quads facing the viewer. Knows nothing about pictures, scenes or masks.

The species share their colours on purpose: white, yellow, orange, pink and red occur in at least three of them each, so
that shape has to tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from topwork.data.drawn_mesh import Floats, Quads, Rays, cup_surface, grid_quads, join, ray_surface

__all__ = ["SPECIES", "build_flower", "tilt_range"]

_Rng = np.random.Generator
_GOLDEN_ANGLE = np.pi * (3.0 - np.sqrt(5.0))

# Petal colours: root, tip (RGB in 0..1).
_COLOURS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "white": ((0.86, 0.88, 0.84), (1.00, 1.00, 0.98)),
    "cream": ((0.93, 0.86, 0.62), (1.00, 0.97, 0.84)),
    "yellow": ((0.93, 0.70, 0.05), (1.00, 0.90, 0.22)),
    "gold": ((0.86, 0.52, 0.03), (1.00, 0.78, 0.10)),
    "orange": ((0.82, 0.30, 0.06), (1.00, 0.58, 0.20)),
    "red": ((0.52, 0.03, 0.06), (0.90, 0.13, 0.14)),
    "bronze": ((0.40, 0.10, 0.05), (0.80, 0.36, 0.10)),
    "pink": ((0.84, 0.36, 0.52), (1.00, 0.72, 0.80)),
    "magenta": ((0.58, 0.06, 0.36), (0.92, 0.30, 0.62)),
    "lilac": ((0.46, 0.30, 0.62), (0.80, 0.68, 0.92)),
}

# How often each species wears each colour.
_WARDROBE: dict[str, dict[str, float]] = {
    "daisy": {
        "white": 5,
        "yellow": 4,
        "pink": 3,
        "gold": 2,
        "orange": 2,
        "cream": 2,
        "lilac": 2,
        "red": 2,
        "magenta": 1,
    },
    "dandelion": {"yellow": 6, "gold": 4, "orange": 3, "cream": 2, "pink": 2, "white": 2},
    "rose": {"red": 4, "pink": 4, "yellow": 4, "white": 3, "orange": 3, "cream": 2, "magenta": 2, "lilac": 1},
    "sunflower": {"yellow": 6, "gold": 4, "orange": 3, "bronze": 2, "cream": 2, "white": 1, "red": 1},
    "tulip": {"red": 4, "yellow": 4, "pink": 3, "orange": 3, "white": 3, "magenta": 2, "lilac": 2, "gold": 1},
}
_GREEN = np.array([0.33, 0.52, 0.20])


@dataclass(frozen=True)
class _Paint:
    root: Floats
    tip: Floats


def _paint(rng: _Rng, species: str) -> _Paint:
    names, weights = zip(*_WARDROBE[species].items(), strict=True)
    root, tip = _COLOURS[names[rng.choice(len(names), p=np.array(weights) / sum(weights))]]
    shift = rng.normal(0.0, 0.035, 3)
    return _Paint(np.clip(np.array(root) + shift, 0, 1), np.clip(np.array(tip) + shift, 0, 1))


def _blend(rng: _Rng, paint: _Paint, *, shape: tuple[int, ...], ease: float = 1.0, uneven: float = 0.05) -> Floats:
    """(P,U,V,3) colours from root to tip; uneven between petals and, as veins, between lanes; edges a little darker."""
    petals, rows, lanes = shape[0], shape[1] - 1, shape[2] - 1
    mix = (np.linspace(0.0, 1.0, rows) ** ease)[None, :, None, None]
    petal = rng.normal(1.0, uneven, (petals, 1, 1, 1))
    vein = rng.normal(1.0, 0.6 * uneven, (petals, 1, lanes, 1))
    edge = 1.0 - 0.16 * np.abs(np.linspace(-1, 1, lanes)) ** 3 if lanes > 1 else np.ones(1)
    return (paint.root + (paint.tip - paint.root) * mix) * petal * vein * edge[:, None]


def _ring(rng: _Rng, count: int, *, root: float, length: float, width: float, rise: tuple[float, float]) -> Rays:
    """Petals evenly around the axis, each a little out of line; `rise` is lift and bend."""

    def around(value: float, spread: float) -> Floats:
        return value + rng.normal(0.0, spread, count)

    azimuth = np.arange(count) * (2 * np.pi / count) + rng.normal(0.0, 0.9 / count, count)
    height = np.where(np.arange(count) % 2 == 0, 0.0, -0.04)  # neighbours overlap like tiles, they do not cut
    return Rays(
        azimuth,
        np.full(count, root),
        around(length, 0.05 * length),
        around(width, 0.07 * width),
        around(rise[0], 0.06),
        around(rise[1], 0.12),
        height,
    )


def _dome(rng: _Rng, radius: float, *, rise: float, colours: Floats, florets: int) -> Quads:
    """The disc: a dome covered with florets in the golden-angle spiral, from `colours[0]` inside to `colours[-1]`."""
    rings, spokes = np.linspace(0.0, 1.0, 4), np.linspace(0.0, 2 * np.pi, 17)
    wide = radius * rings[:, None]
    cap = np.stack(
        [wide * np.cos(spokes), wide * np.sin(spokes), rise * (1 - rings[:, None] ** 2) + 0 * spokes], axis=-1
    )
    base = grid_quads(cap[None], 0.72 * colours[1])
    index = np.arange(florets) + 0.5
    share = np.sqrt(index / florets)
    angle = index * _GOLDEN_ANGLE
    half = 0.85 * radius / np.sqrt(florets) * rng.uniform(0.8, 1.2, florets)
    middle = np.stack([radius * share * np.cos(angle), radius * share * np.sin(angle)], axis=-1)
    out = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    side = np.stack([-out[:, 1], out[:, 0]], axis=-1)
    flat = np.stack([middle + sign * half[:, None] * way for way in (out, side) for sign in (1, -1)], axis=1)
    top = (rise * (1 - share**2) + 0.03)[:, None]
    lean = np.array([-0.02, 0.05, 0.0, 0.0])  # each floret leans outwards and catches the light on its own
    corners = np.concatenate([flat, (top + lean)[:, :, None]], axis=-1)[:, [0, 2, 1, 3]]
    where = share * (len(colours) - 1)
    shade = np.stack([np.interp(where, np.arange(len(colours)), colours[:, c]) for c in range(3)], axis=-1)
    shade = shade * rng.normal(1.0, 0.13, (florets, 1))
    return join(base, Quads(corners, shade, np.ones(florets), np.zeros(florets)))


def _bracts(rng: _Rng, count: int, *, length: float, depth: float, bend: float) -> Quads:
    """Green leaves under the flower; seen from the side and between the petals."""
    rays = _ring(rng, count, root=0.08, length=length, width=1.1 * length / count**0.5, rise=(-0.1, bend))
    rays = Rays(rays.azimuth, rays.root, rays.length, rays.width, rays.lift, rays.bend, rays.height - depth)
    points = ray_surface(rays, np.array([0.6, 1.0, 0.7, 0.05]), lanes=2)
    return grid_quads(points, _blend(rng, _Paint(0.75 * _GREEN, _GREEN), shape=points.shape))


def _daisy(rng: _Rng) -> Quads:
    paint = _paint(rng, "daisy")
    count = int(rng.integers(13, 27))
    disc = rng.uniform(0.20, 0.34)
    cup, bend = rng.uniform(-0.15, 0.45), rng.uniform(-0.7, 0.1)
    outline = np.array([0.45, 0.72, 0.92, 1.0, 0.95, 0.72])
    parts = [_bracts(rng, 10, length=0.35, depth=0.12, bend=0.5)]
    for ring in range(int(rng.integers(1, 3))):
        rays = _ring(
            rng,
            count,
            root=0.8 * disc,
            length=0.80 - 0.1 * ring,
            width=2.1 / count + 0.02,
            rise=(cup + 0.2 * ring, bend),
        )
        points = ray_surface(rays, outline, lanes=4, rounding=0.2, channel=0.25)
        parts.append(grid_quads(points, _blend(rng, paint, shape=points.shape, ease=0.6), nearer=0.06 * ring))
    middle = np.array([[0.80, 0.62, 0.12], [0.96, 0.76, 0.12], [0.86, 0.52, 0.06]])
    if rng.random() < 0.35:
        middle = np.array([[0.30, 0.26, 0.10], [0.42, 0.22, 0.10], [0.66, 0.40, 0.12]])
    parts.append(_dome(rng, disc, rise=rng.uniform(0.06, 0.16), colours=middle * rng.normal(1, 0.06), florets=90))
    return join(*parts)


def _sunflower(rng: _Rng) -> Quads:
    paint = _paint(rng, "sunflower")
    disc = rng.uniform(0.32, 0.52)
    count = int(rng.integers(14, 20))
    outline = np.array([0.5, 0.85, 1.0, 0.86, 0.5, 0.04])
    lift, bend = rng.uniform(-0.1, 0.4), rng.uniform(-0.5, 0.3)
    parts = [_bracts(rng, 14, length=0.72, depth=0.16, bend=-0.1)]
    for ring in range(int(rng.integers(1, 3))):
        rays = _ring(
            rng,
            count,
            root=0.85 * disc,
            length=1.0 - 0.8 * disc - 0.06 * ring,
            width=0.135,
            rise=(lift + 0.2 * ring, bend),
        )
        rays = Rays(rays.azimuth + ring * np.pi / count, *_fields(rays)[1:])
        points = ray_surface(rays, outline, lanes=3, channel=0.35)
        parts.append(
            grid_quads(points, _blend(rng, paint, shape=points.shape, ease=0.8, uneven=0.07), nearer=0.06 * ring)
        )
    dark = np.array([[0.30, 0.24, 0.10], [0.16, 0.09, 0.05], [0.27, 0.14, 0.06], [0.52, 0.31, 0.08]])
    if rng.random() < 0.3:
        dark = np.array([[0.42, 0.46, 0.16], [0.34, 0.26, 0.08], [0.52, 0.36, 0.08], [0.74, 0.52, 0.10]])
    parts.append(_dome(rng, disc, rise=rng.uniform(0.04, 0.12), colours=dark * rng.normal(1, 0.1), florets=190))
    return join(*parts)


def _fields(rays: Rays) -> tuple[Floats, ...]:
    return rays.azimuth, rays.root, rays.length, rays.width, rays.lift, rays.bend, rays.height


def _dandelion(rng: _Rng) -> Quads:
    if rng.random() < 0.15:
        return _clock(rng)
    paint = _paint(rng, "dandelion")
    count = int(rng.integers(190, 250))
    rank = np.arange(count) / (count - 1)  # 0 innermost, 1 outermost
    upright = rng.uniform(0.95, 1.25)
    rays = Rays(
        np.arange(count) * _GOLDEN_ANGLE + rng.normal(0, 0.06, count),
        0.02 + 0.22 * rank,
        (0.26 + 0.52 * rank) * rng.uniform(0.85, 1.08, count),
        (0.034 + 0.024 * rank) * rng.uniform(0.8, 1.25, count),
        upright * (1 - rank) ** 0.8 + rng.normal(0.05, 0.10, count),
        rng.normal(-0.35, 0.2, count) * rank,
        0.10 * (1 - rank),
    )
    points = ray_surface(rays, np.array([0.7, 0.9, 1.0, 0.8]), lanes=1)
    colours = _blend(rng, paint, shape=points.shape, ease=0.7, uneven=0.13)
    colours = colours * (0.88 + 0.12 * rank)[:, None, None, None]
    heart = _dome(rng, 0.42, rise=0.30, colours=np.stack([0.9 * paint.root, paint.root, paint.tip]), florets=60)
    return join(_bracts(rng, 14, length=0.5, depth=0.22, bend=0.9), heart, grid_quads(points, colours))


def _clock(rng: _Rng) -> Quads:
    """The dandelion's ball of seeds: a gauze with a parachute at the end of every filament."""
    count = 120
    up = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.arange(count) * _GOLDEN_ANGLE
    ring = np.sqrt(1 - up**2)
    ways = np.stack([ring * np.cos(angle), ring * np.sin(angle), up], axis=-1)
    first = np.cross(ways, np.array([0.31, 0.52, 0.8]))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(ways, first)
    pale = np.array([0.93, 0.94, 0.92])
    hub = 0.80 * ways * rng.uniform(0.93, 1.05, (count, 1))
    strokes = [(0.12 * ways, hub, 0.008 * first)]
    for turned in np.arange(6) * (np.pi / 3):
        spoke = np.cos(turned) * first + np.sin(turned) * second
        across = 0.011 * (np.cos(turned) * second - np.sin(turned) * first)
        strokes.append((hub, hub + 0.17 * ways + 0.15 * spoke, across))
    corners = np.concatenate([np.stack([a - w, b - w, b + w, a + w], axis=1) for a, b, w in strokes])
    shade = pale * rng.normal(0.95, 0.07, (len(corners), 1))
    slices, spokes = np.linspace(0, np.pi, 9)[:, None], np.linspace(0, 2 * np.pi, 25)
    ball = np.stack(
        [np.sin(slices) * np.cos(spokes), np.sin(slices) * np.sin(spokes), np.cos(slices) + 0 * spokes], axis=-1
    )
    gauze = grid_quads(0.95 * ball[None], np.array([0.84, 0.86, 0.83]), opacity=0.6, nearer=-3.0)
    heart = _dome(rng, 0.14, rise=0.1, colours=np.array([[0.45, 0.36, 0.2], [0.5, 0.4, 0.25]]), florets=30)
    return join(gauze, heart, Quads(corners, shade, np.ones(len(corners)), np.zeros(len(corners))))


def _rose(rng: _Rng) -> Quads:
    paint = _paint(rng, "rose")
    count = int(rng.integers(17, 24))
    rank = (np.arange(count) / (count - 1))[:, None]  # 0 the bud's heart, 1 the outermost petal
    along = np.linspace(0.0, 1.0, 9)
    openness = rng.uniform(0.42, 0.65) if rng.random() < 0.35 else rng.uniform(0.75, 1.05)  # a bud, or open
    rim = 0.10 + 0.88 * openness * rank**0.95
    power = 0.35 + 0.75 * rank
    curl = 0.09 * np.clip((along - 0.7) / 0.3, 0, 1) ** 2 * (0.4 + rank)  # rims roll outwards
    radius = 0.05 + (rim - 0.05) * along**power + curl
    crown = 0.62 - 0.70 * (openness - 0.12) * rank**1.2 + rng.normal(0, 0.02, (count, 1))
    height = -0.38 + (crown + 0.38) * np.sin(0.5 * np.pi * along) ** 0.9 - 0.7 * curl
    taper = np.sqrt(1 - 0.88 * np.clip((along - 0.5) / 0.5, 0, 1) ** 3.5) * np.interp(along, [0, 0.4], [0.55, 1.0])
    azimuth = np.arange(count) * _GOLDEN_ANGLE + rng.normal(0, 0.12, count)
    points = cup_surface(azimuth, radius, height=height, span=(1.35 - 0.45 * rank) * taper, lanes=9)
    wave = rng.uniform(0, 2 * np.pi, (count, 1, 1)) + np.linspace(0, 7, 10)
    points[..., 2] += 0.05 * rank[:, :, None] * np.sin(wave) * (along**3)[:, None]
    colours = _blend(rng, paint, shape=points.shape, ease=1.5, uneven=0.035)
    shadow = 0.46 + 0.54 * np.linspace(0, 1, 8) ** 1.2  # deep between the petals little light arrives
    colours = colours * shadow[None, :, None, None] * (0.84 + 0.16 * rank[:, :, None, None])
    return join(_bracts(rng, 5, length=0.1 + 0.6 * openness, depth=0.36, bend=0.2), grid_quads(points, colours))


def _tulip(rng: _Rng) -> Quads:
    along = np.linspace(0.0, 1.0, 16)
    opening = rng.uniform(-0.12, 0.42)
    profile = 0.55 * np.sin(np.pi * 0.8 * along) ** 0.6
    inner = np.repeat([0.90, 1.04], 3)[:, None]
    loose = opening * rng.uniform(0.85, 1.15, (6, 1)) * np.repeat([0.85, 1.1], 3)[:, None]
    radius = profile * inner + loose * along**2.2
    top = rng.uniform(1.4, 1.8) * rng.normal(1.0, 0.035, (6, 1)) * (1 - 0.25 * max(opening, 0.0))
    height = top * along - 0.75
    outline = np.interp(along, [0, 0.2, 0.45, 0.65, 0.82, 0.93, 1], [0.8, 0.98, 1.0, 0.88, 0.58, 0.3, 0.02])
    azimuth = np.concatenate([np.arange(3) * 2 * np.pi / 3, (np.arange(3) + 0.5) * 2 * np.pi / 3])
    span = np.broadcast_to(0.96 * outline, radius.shape)
    points = cup_surface(azimuth + rng.normal(0, 0.08, 6), radius, height=height, span=span, lanes=12)
    return grid_quads(points, _tulip_colours(rng, points.shape))


def _tulip_colours(rng: _Rng, shape: tuple[int, ...]) -> Floats:
    """Plain or flamed petals, pale at the base, darker along the middle, the inner three in shadow."""
    colours = _blend(rng, _paint(rng, "tulip"), shape=shape, ease=0.8, uneven=0.025)
    along, across = np.linspace(0, 1, shape[1] - 1), np.abs(np.linspace(-1, 1, shape[2] - 1))
    if rng.random() < 0.35:
        edge = _paint(rng, "tulip").tip
        weight = across[:, None] ** 1.5 * np.linspace(0.3, 1, len(along))[:, None, None]
        colours = colours * (1 - weight) + edge * weight
    base = np.clip(1 - 5 * along, 0, 1)[:, None, None] * 0.7
    colours = colours * (1 - base) + np.array([0.62, 0.66, 0.30]) * base
    middle = 1 + 0.10 * np.clip(across - 0.2, 0, 1)[:, None] - 0.14 * (across < 0.12)[:, None]
    shaded: Floats = colours * middle * np.repeat([0.84, 1.0], 3)[:, None, None, None]
    return shaded


_BUILDERS: dict[str, Callable[[_Rng], Quads]] = {
    "daisy": _daisy,
    "dandelion": _dandelion,
    "rose": _rose,
    "sunflower": _sunflower,
    "tulip": _tulip,
}
SPECIES: tuple[str, ...] = tuple(_BUILDERS)


def build_flower(species: str, rng: _Rng) -> Quads:
    """One flower of radius about 1 around the origin, its axis towards the viewer.

    Args:
        species: one of `SPECIES`.
        rng: decides colour, number and pose of the petals.
    """
    return _BUILDERS[species](rng)


def tilt_range(species: str) -> tuple[float, float]:
    """How far this species leans away from the viewer, smallest and largest angle in radians."""
    return {"tulip": (0.35, 1.62), "rose": (0.15, 1.45)}.get(species, (0.0, 1.40))
