"""Coloured quadrilaterals in space, how they are lit, and how they become pixels. Knows no species and no scene.

A drawn flower is a bag of `Quads`: petals are grids bent in space, so that turning the flower gives true foreshortening
and side views. Painter's order (far to near) stands in for a depth buffer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "Pixels", "Quads", "Rays", "cup_surface", "grid_quads", "join", "paint", "ray_surface", "turn"]

Floats = NDArray[np.floating]
Pixels = NDArray[np.uint8]

_SUBPIXEL_BITS = 4  # cv2 takes integer coordinates; four bits below the pixel keep small petals smooth


@dataclass(frozen=True)
class Quads:
    """Flat coloured pieces of surfaces.

    Args:
        corners: (N,4,3), x right, y up, z towards the viewer (once turned); the whole flower has radius about 1.
        colours: (N,3) RGB in 0..1 before lighting.
        opacity: (N,) in 0..1; the nearest quad alone decides, quads do not blend with each other.
        nearer: (N,) added to z where only the painter's order is concerned.
    """

    corners: Floats
    colours: Floats
    opacity: Floats
    nearer: Floats


@dataclass(frozen=True)
class Rays:
    """Petals that start on a circle and point outwards; every field is (P,), angles in radians.

    Args:
        azimuth: direction around the flower's axis.
        root: distance from the axis where the petal starts.
        length: along the petal.
        width: half the greatest width.
        lift: elevation above the flower's plane at the root.
        bend: how much the elevation changes up to the tip.
        height: of the root above the flower's plane.
    """

    azimuth: Floats
    root: Floats
    length: Floats
    width: Floats
    lift: Floats
    bend: Floats
    height: Floats


def ray_surface(rays: Rays, outline: Floats, *, lanes: int, rounding: float = 0.0, channel: float = 0.0) -> Floats:
    """Bend each ray into a grid of points.

    Args:
        rays: P petals.
        outline: (U,) relative width from root to tip, in 0..1.
        lanes: strips side by side, >= 1.
        rounding: how much shorter the outer lanes are, in 0..1: a blunt tip becomes a round one.
        channel: how far the edges rise above the middle, in widths.

    Returns:
        (P,U,lanes+1,3) points.
    """
    along = np.linspace(0.0, 1.0, len(outline))
    across = np.linspace(-1.0, 1.0, lanes + 1)
    elevation = rays.lift[:, None] + rays.bend[:, None] * along
    step = rays.length[:, None] / (len(outline) - 1) * (along > 0)
    outward = np.cumsum(np.cos(elevation) * step, axis=1)  # (P,U)
    upward = np.cumsum(np.sin(elevation) * step, axis=1)
    shorter = 1.0 - rounding * across**2 * along[:, None] ** 3  # (U,V)
    half = rays.width[:, None] * outline  # (P,U)
    radial = rays.root[:, None, None] + outward[:, :, None] * shorter
    sideways = half[:, :, None] * across
    rise = rays.height[:, None, None] + upward[:, :, None] * shorter + channel * half[:, :, None] * across**2
    cos, sin = np.cos(rays.azimuth)[:, None, None], np.sin(rays.azimuth)[:, None, None]
    return np.stack([radial * cos - sideways * sin, radial * sin + sideways * cos, rise], axis=-1)


def cup_surface(azimuth: Floats, radius: Floats, *, height: Floats, span: Floats, lanes: int) -> Floats:
    """Petals that wrap around the axis, as in a tulip or a rose.

    Args:
        azimuth: (P,) direction of each petal's middle, radians.
        radius: (P,U) distance from the axis, from base to rim.
        height: (P,U) along the axis.
        span: (P,U) half the angle the petal covers, radians.
        lanes: strips side by side, >= 1.

    Returns:
        (P,U,lanes+1,3) points.
    """
    across = np.linspace(-1.0, 1.0, lanes + 1)
    angle = azimuth[:, None, None] + span[:, :, None] * across
    tuck = 1.0 - 0.05 * across  # one edge over, one under the neighbour, all the way round
    wide = radius[:, :, None] * tuck
    return np.stack([wide * np.cos(angle), wide * np.sin(angle), height[:, :, None] + 0 * across], axis=-1)


def grid_quads(points: Floats, colours: Floats, *, opacity: float = 1.0, nearer: float = 0.0) -> Quads:
    """Cut (P,U,V,3) grids with (P,U-1,V-1,3) colours into quads."""
    corners = np.stack([points[:, :-1, :-1], points[:, 1:, :-1], points[:, 1:, 1:], points[:, :-1, 1:]], axis=3)
    flat = corners.reshape(-1, 4, 3)
    shades = np.broadcast_to(colours, (*corners.shape[:3], 3)).reshape(-1, 3)
    return Quads(flat, shades, np.full(len(flat), opacity), np.full(len(flat), nearer))


def join(*parts: Quads) -> Quads:
    """All quads of all parts."""
    return Quads(
        np.concatenate([part.corners for part in parts]),
        np.concatenate([part.colours for part in parts]),
        np.concatenate([part.opacity for part in parts]),
        np.concatenate([part.nearer for part in parts]),
    )


def turn(quads: Quads, *, spin: float, tilt: float, roll: float) -> Quads:
    """Turn a flower that faces the viewer: around its axis, back until it is seen from the side, then in the picture.

    Args:
        quads: the flower, its axis along z.
        spin: around its own axis, radians.
        tilt: 0 faces the viewer, pi/2 is a side view with the axis upwards.
        roll: anticlockwise in the picture, radians.
    """
    (cs, ss), (ct, st), (cr, sr) = ((np.cos(a), np.sin(a)) for a in (spin, tilt, roll))
    around = np.array([[cs, -ss, 0], [ss, cs, 0], [0, 0, 1]])
    back = np.array([[1, 0, 0], [0, ct, st], [0, -st, ct]])
    level = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return replace(quads, corners=quads.corners @ (level @ back @ around).T)


def _lit(quads: Quads, light: Floats) -> Floats:
    """(N,3) colours under one distant light; petals are thin, so both sides are lit alike."""
    first = quads.corners[:, 2] - quads.corners[:, 0]
    second = quads.corners[:, 3] - quads.corners[:, 1]
    normal = np.cross(first, second)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-9
    normal *= np.where(normal[:, 2:] < 0, -1.0, 1.0)
    lambert = np.clip(normal @ light, 0.0, 1.0)
    return quads.colours * (0.56 + 0.58 * lambert)[:, None]


def paint(layer: Pixels, quads: Quads, *, centre: tuple[float, float], scale: float, light: Floats) -> None:
    """Draw turned quads, far to near, onto a premultiplied RGBA layer.

    Args:
        layer: (H,W,4), changed in place; no antialiasing, so draw larger and reduce.
        quads: already turned towards the viewer.
        centre: x and y of the flower's origin in the layer, pixels.
        scale: pixels per unit.
        light: (3,) unit vector towards the light.
    """
    order = np.argsort(quads.corners[:, :, 2].mean(axis=1) + quads.nearer, kind="stable")
    flat = quads.corners[order, :, :2] * np.array([scale, -scale]) + np.array(centre)
    points = np.rint(flat * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    opacity = quads.opacity[order, None] * 255.0
    lit = np.clip(_lit(quads, light)[order], 0.0, 1.0)
    colours = np.rint(np.hstack([lit * opacity, opacity])).tolist()
    for corners, colour in zip(points, colours, strict=True):
        cv2.fillConvexPoly(layer, corners, colour, cv2.LINE_8, _SUBPIXEL_BITS)
