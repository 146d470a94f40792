"""Random changes of a training view: draw them, then render the view. Knows nothing about files, labels or torch.

    plan    draw_view(augment, seed=...)      -> View, frozen and printable; a pure function of the seed
    act     render_view(pixels, spec, view=...)   -> uint8 (size, size, 3)

The whole geometry is one warp, so a view is resampled once (twice where the picture must first be reduced), and the
whole colour change is one affine map of RGB, so a view is rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from topwork.data.view import evaluation_view
from topwork.digest import seed_from
from topwork.recipe import Augment
from topwork.spec import InputSpec

__all__ = ["View", "augmented_view", "draw_view", "render_view", "view_seed"]

_Pixels = NDArray[np.uint8]
_Matrix = NDArray[np.float64]

cv2.setNumThreads(1)  # a view stays in its thread: batches run one thread a core, and the trunk has its own

_OVERSIZE = 1.15  # a picture at most this much larger than the view is warped without another antialiased reduction
_GREY = np.array([0.299, 0.587, 0.114])  # luma of ITU-R BT.601, as in Pillow and OpenCV
_ERASED_AREA = (0.02, 0.25)  # share of the view
_ERASED_ASPECT = 3.0  # height / width is drawn log-uniformly from [1/3, 3]
_CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
_REACH = 3.0  # pixels beside a point that a cubic warp reads, and one for rounding
_DRAWS = 19  # uniform numbers of a view; always all are drawn, so that one option never changes what another draws


@dataclass(frozen=True, kw_only=True)
class View:
    """What one augmented view changes; the default changes nothing.

    Args:
        rotate: degrees, clockwise on the screen.
        shift: (right, down) as shares of the view's side.
        zoom: scale, > 0; above 1 enlarges.
        shear: degrees by which vertical lines lean to the right.
        flip: left and right are exchanged, before everything else.
        corners: where the view's corners look, as (x, y) displacements in shares of the side, clockwise from top left.
        brightness, contrast, saturation: factors, >= 0; contrast is about the view's mean grey.
        erase: (left, top, width, height) of a rectangle of noise, in shares of the side; None erases nothing.
        noise: seed of that noise.
    """

    rotate: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    shear: float = 0.0
    flip: bool = False
    corners: tuple[tuple[float, float], ...] = ((0.0, 0.0),) * 4
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    erase: tuple[float, float, float, float] | None = None
    noise: int = 0

    @property
    def resampled(self) -> bool:
        """Whether pixels move off their grid; a flip alone only reorders them."""
        moves = (self.rotate, *self.shift, self.shear, *(part for corner in self.corners for part in corner))
        return self.zoom != 1.0 or any(moves)


def view_seed(sha256: str, view: int, *, seed: int) -> int:
    """Seed of view number `view` of a photo: depends on the photo's bytes, never on its row, its name or the thread."""
    return seed_from(sha256, view, seed)


def augmented_view(pixels: _Pixels, spec: InputSpec, *, augment: Augment, seed: int) -> _Pixels:
    """One random training view of a picture.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        spec: the network's input.
        augment: how large the random changes may be; all zero gives `evaluation_view(pixels, spec)`.
        seed: from `view_seed`; equal seeds give equal bytes.

    Returns:
        (spec.size, spec.size, 3) uint8, C-contiguous.
    """
    return render_view(pixels, spec, view=draw_view(augment, seed=seed))


def draw_view(augment: Augment, *, seed: int) -> View:
    """Draw one view's changes.

    Example:
        >>> draw_view(Augment(rotate=0, shift=0, zoom=0, shear=0, flip=0, brightness=0, contrast=0, saturation=0),
        ...           seed=1) == View()
        True
    """
    random = np.random.Generator(np.random.PCG64(seed))
    share = random.random(_DRAWS).tolist()
    either = [2.0 * value - 1.0 for value in share]
    return View(
        rotate=augment.rotate * either[0],
        shift=(augment.shift * either[1], augment.shift * either[2]),
        zoom=(1.0 + augment.zoom) ** either[3],
        shear=augment.shear * either[4],
        flip=share[5] < augment.flip,
        corners=_tame(np.array(either[6:14]).reshape(4, 2) * augment.perspective) if augment.perspective else _STILL,
        brightness=1.0 + augment.brightness * either[14],
        contrast=1.0 + augment.contrast * either[15],
        saturation=1.0 + augment.saturation * either[16],
        erase=_rectangle(random) if share[17] < augment.erase else None,
        noise=int(share[18] * 2**53) if share[17] < augment.erase else 0,
    )


_STILL = View().corners


def _tame(displaced: _Matrix) -> tuple[tuple[float, float], ...]:
    """Displacements halved until no corner of the view is more than four times as near as another.

    Beyond that lies the view's own horizon, where a warp would mirror the picture at its border without end.
    """
    corners = _CORNERS.astype(np.float32)
    while True:
        matrix = cv2.getPerspectiveTransform(corners, (_CORNERS + displaced).astype(np.float32))
        depth = _CORNERS @ matrix[2, :2] + matrix[2, 2]
        if depth.min() > 0.25 * depth.max():
            return tuple((float(x), float(y)) for x, y in displaced)
        displaced = displaced / 2.0


def _rectangle(random: np.random.Generator) -> tuple[float, float, float, float]:
    """Left, top, width, height in shares of the side. Source: Z. Zhong et al. (2020), Random Erasing, AAAI 34(07)."""
    area = random.uniform(*_ERASED_AREA)
    aspect = _ERASED_ASPECT ** random.uniform(-1.0, 1.0)
    width, height = min(1.0, math.sqrt(area / aspect)), min(1.0, math.sqrt(area * aspect))
    return random.uniform(0.0, 1.0 - width), random.uniform(0.0, 1.0 - height), width, height


def render_view(pixels: _Pixels, spec: InputSpec, *, view: View) -> _Pixels:
    """Apply a view's changes: warp, colour, erasing.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        spec: the network's input.
        view: from `draw_view`.

    Returns:
        (spec.size, spec.size, 3) uint8, C-contiguous; never the caller's own array.
    """
    if view.resampled:
        seen = _warped(pixels, spec, view=view)
    else:
        seen = evaluation_view(pixels, spec)
        seen = np.array(seen[:, ::-1] if view.flip else seen, order="C")
    seen = _coloured(seen, view)
    if view.erase is not None:
        _fill_with_noise(seen, view.erase, seed=view.noise)
    return seen


def _warped(pixels: _Pixels, spec: InputSpec, *, view: View) -> _Pixels:
    """The view's geometry: at most one antialiased reduction to its scale, then one warp."""
    matrix, scale = _view_to_picture(pixels.shape[:2], spec, view=view)
    part, matrix = _visible(pixels, spec, matrix=matrix, scale=1.0 if scale * _OVERSIZE >= 1.0 else scale)
    matrix = _translation(-0.5, -0.5) @ matrix @ _translation(0.5, 0.5)  # pixel edges -> pixel centres
    # Cubic whatever the spec says: at scale 1 a linear warp loses 30 % of the fine detail that the evaluation view has.
    # Only enlarging keeps the spec's own filter, because there the filter, not the shift, makes the look.
    linear = spec.interpolation == "bilinear" and scale > 1.0
    flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if linear else cv2.INTER_CUBIC)
    size, border = (spec.size, spec.size), cv2.BORDER_REFLECT_101
    if view.corners == _STILL:
        warped = cv2.warpAffine(part, matrix[:2], size, flags=flags, borderMode=border)
    else:
        warped = cv2.warpPerspective(part, matrix, size, flags=flags, borderMode=border)
    return np.asarray(warped, dtype=np.uint8)


def _translation(x: float, y: float) -> _Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _view_to_picture(shape: tuple[int, ...], spec: InputSpec, *, view: View) -> tuple[_Matrix, float]:
    """Where each point of the view looks in the picture, (3, 3), and the view's pixels per picture pixel.

    Coordinates are continuous: pixel i covers [i, i + 1). Without changes this is `evaluation_view`'s centre crop.
    """
    height, width = shape
    ratio = spec.resize / min(height, width)
    turn, lean = math.radians(view.rotate), math.tan(math.radians(view.shear))
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
    forward = ratio * view.zoom * rotation @ np.array([[1.0, -lean], [0.0, 1.0]])
    if view.flip:
        forward[:, 0] *= -1.0
    back = np.eye(3)
    back[:2, :2] = np.linalg.inv(forward)
    middle = spec.size / 2.0
    shifted = _translation(-middle - view.shift[0] * spec.size, -middle - view.shift[1] * spec.size)
    matrix = _translation(width / 2.0, height / 2.0) @ back @ shifted
    if view.corners != _STILL:
        square = (_CORNERS * spec.size).astype(np.float32)
        looks = ((_CORNERS + np.array(view.corners)) * spec.size).astype(np.float32)
        matrix = matrix @ cv2.getPerspectiveTransform(square, looks)
    return matrix, ratio * view.zoom


def _visible(pixels: _Pixels, spec: InputSpec, *, matrix: _Matrix, scale: float) -> tuple[_Pixels, _Matrix]:
    """The part of the picture that the view sees, at a scale <= 1, and the matrix from the view to that part.

    The scaled pixels lie on the grid of the evaluation view, so an almost unchanged view is almost equal to it.
    """
    seen = np.hstack([_CORNERS * spec.size, np.ones((4, 1))]) @ matrix.T
    seen = seen[:, :2] / seen[:, 2:]  # the view's corners in the picture, (x, y)
    spans = []
    for axis, side in enumerate(pixels.shape[1::-1]):
        origin = side / 2.0 - spec.size / 2.0 / scale if scale < 1.0 else 0.0
        inside = math.ceil(-origin * scale), math.floor((side - origin) * scale)
        low, high = ((edge - origin) * scale for edge in (seen[:, axis].min(), seen[:, axis].max()))
        first, last = _span((low, high), inside)
        begin, end = max(0.0, origin + first / scale), min(float(side), origin + last / scale)
        spans.append((begin, end, last - first))
    (left, right, columns), (top, bottom, rows) = spans
    if scale < 1.0:
        box = (left, top, right, bottom)
        part = np.asarray(Image.fromarray(pixels).resize((columns, rows), _FILTERS[spec.interpolation], box))
    else:
        part = np.ascontiguousarray(pixels[int(top) : int(bottom), int(left) : int(right)])
    if min(rows, columns) == 1:  # OpenCV mirrors a single row without end
        part = np.pad(part, ((0, rows == 1), (0, columns == 1), (0, 0)), mode="edge")
    return part, np.diag([scale, scale, 1.0]) @ _translation(-left, -top) @ matrix


def _span(seen: tuple[float, float], inside: tuple[int, int]) -> tuple[int, int]:
    """The part of [first, last) that a warp over [low, high] reads, also by reflection at its ends."""
    first, last = inside
    low, high = seen[0] - _REACH, seen[1] + _REACH
    begin, end = min(low, 2.0 * last - high), max(high, 2.0 * first - low)
    return max(first, math.floor(begin)), min(last, math.ceil(end))


def _coloured(seen: _Pixels, view: View) -> _Pixels:
    """One affine map of RGB: saturation about each pixel's grey, contrast about the mean grey, then brightness."""
    if (view.brightness, view.contrast, view.saturation) == (1.0, 1.0, 1.0):
        return seen
    mean_grey = float(_GREY @ np.array(cv2.mean(seen)[:3]))
    mixing = view.saturation * np.eye(3) + (1.0 - view.saturation) * _GREY  # rows: R, G, B of the result
    offset = view.brightness * (1.0 - view.contrast) * mean_grey
    matrix = np.column_stack([view.brightness * view.contrast * mixing, np.full(3, offset)])
    return np.asarray(cv2.transform(seen, matrix), dtype=np.uint8)


def _fill_with_noise(seen: _Pixels, rectangle: tuple[float, float, float, float], *, seed: int) -> None:
    size = seen.shape[0]
    left, top, width, height = (round(share * size) for share in rectangle)
    hole = seen[top : top + max(1, height), left : left + max(1, width)]
    random = np.random.Generator(np.random.PCG64(seed))
    hole[:] = random.integers(0, 256, hole.shape, dtype=np.uint8)
