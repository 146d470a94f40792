"""Could the classes be told apart without looking at the objects? Probes that see only what should not matter.

Three small classifiers, judged by cross-validation that keeps groups together: one sees the border of the photo, one
its 8 x 8 colours, one only the file. And a look at the heatmaps: whether those of a class all point at one edge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from topwork.data.container import Limits, open_picture
from topwork.data.decode import decode_bytes, printable, read_file
from topwork.data.finding import Finding
from topwork.data.sniff import HEAD_BYTES, picture_format
from topwork.measures.intervals import Interval, wilson

__all__ = ["COARSEST", "PROBES", "HotSpot", "Probe", "Sights", "hot_spots", "look", "probe", "shortcut_findings"]

_Floats = npt.NDArray[np.float32]
_Ints = npt.NDArray[np.int64]

PROBES = ("border", "colours", "file")
"""What the classifiers see: a frame of 3/32 of the side; the mean colours of 8 x 8 fields; the file's properties."""

COARSEST = 5
"""Cells a side below which no hot spot is looked for: there most cells lie at the edge, also those of any object."""

_SIDE, _FRAME = 32, 3
_FOLDS = 5
_FEWEST = 10  # photos of a class below which nothing is said about it
_TREES = 40
# The share of what is left above the majority that a probe may gain before it is a warning. Surroundings tell something
# about most objects (n = 1,000 real flowers: border 0.22, colours 0.36, file 0.16), and colours of the objects
# themselves are honest evidence, so colours alone must nearly solve the task.
_ALLOWED = {"border": 0.4, "colours": 0.75, "file": 0.4}
_ONE_CLASS = 0.9  # AUROC of one class against the rest, border and file
_SEEN_BY = {
    "border": "only the photo's border",
    "colours": "only 8 x 8 colours",
    "file": "only properties of the file",
}
_ROWS, _COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")


@dataclass(frozen=True, kw_only=True, eq=False)
class Sights:
    """What a probe sees of one photo: name of the probe -> (F,) numbers."""

    numbers: Mapping[str, _Floats]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well classes are told apart without the objects.

    Args:
        name: one of `PROBES`.
        accuracy: of predictions on photos that the probe did not see.
        majority: accuracy of always naming the largest class.
        by_class: class -> AUROC against the rest, with Hanley and McNeil's interval at 99.5 %.
    """

    name: str
    accuracy: Interval
    majority: float
    by_class: Mapping[str, Interval]

    @property
    def gain(self) -> float:
        """Lower bound of (accuracy - majority) / (1 - majority)."""
        return (self.accuracy.low - self.majority) / max(1e-9, 1 - self.majority)

    @property
    def given_away(self) -> tuple[str, ...]:
        """Classes that the border or the file alone tells apart."""
        if self.name == "colours":
            return ()
        return tuple(name for name, each in self.by_class.items() if each.low >= _ONE_CLASS)

    @property
    def warns(self) -> bool:
        """Whether a classifier may have learnt this instead of the objects."""
        return self.gain >= _ALLOWED[self.name] or bool(self.given_away)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "accuracy": self.accuracy.to_json(),
            "majority": self.majority,
            "warns": self.warns,
            "given_away": list(self.given_away),
            "by_class": {name: each.to_json() for name, each in self.by_class.items()},
        }


@dataclass(frozen=True, kw_only=True)
class HotSpot:
    """Heatmaps of one class that peak in one and the same cell at the edge.

    Args:
        label: the class.
        row, column: the cell, from the upper left one.
        place: the same in words, by thirds: `upper left`, `middle right`, ...
        share: of the class's heatmaps that peak there.
    """

    label: str
    row: int
    column: int
    place: str
    share: Interval

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "class": self.label,
            "row": self.row,
            "column": self.column,
            "place": self.place,
            "share": self.share.to_json(),
        }


def look(path: Path) -> Sights:
    """What the probes see of one photo.

    Raises:
        DecodeError: if it cannot be read.
    """
    data = read_file(path, name=printable(path))
    decoded = decode_bytes(data, name=printable(path), target=_SIDE)
    small = np.asarray(cv2.resize(decoded.pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.float32) / 255
    frame = np.ones((_SIDE, _SIDE), bool)
    frame[_FRAME:-_FRAME, _FRAME:-_FRAME] = False
    fields = small.reshape(8, _SIDE // 8, 8, _SIDE // 8, 3).mean(axis=(1, 3))
    numbers = {
        "border": small[frame].ravel(),
        "colours": fields.ravel(),
        "file": _file_numbers(data, width=decoded.width, height=decoded.height),
    }
    return Sights(numbers=numbers)


def probe(
    name: str, sights: Sequence[Sights], *, labels: Sequence[str], groups: Sequence[str], seed: int = 0
) -> Probe | None:
    """Cross-validate one probe; None if fewer than two classes have ten photos in five groups.

    Args:
        name: one of `PROBES`.
        sights, labels, groups: of N photos; whole groups are left out together.
        seed: of the folds and the trees.
    """
    kept = _enough(labels, groups)
    classes = sorted({labels[row] for row in kept})
    if len(classes) < 2:
        return None
    numbers = np.stack([sights[row].numbers[name] for row in kept])
    truth = np.array([classes.index(labels[row]) for row in kept])
    chances = _cross_validated(numbers, truth, groups=[groups[row] for row in kept], seed=seed)
    right = int((chances.argmax(1) == truth).sum())
    majority = float(np.bincount(truth).max() / len(truth))
    by_class = {label: _auroc(chances[:, number], truth == number) for number, label in enumerate(classes)}
    return Probe(name=name, accuracy=wilson(right, len(truth)), majority=majority, by_class=by_class)


def hot_spots(raw: _Floats, labels: Sequence[str]) -> tuple[HotSpot, ...]:
    """Classes whose heatmaps (N,h,w) mostly peak in one cell at the edge: at least half of them, beyond the interval.

    An object may lie anywhere, and mostly in the middle; a watermark or a frame never moves. In a corner all cells that
    lie in the outer quarter both ways count: a sign there is often seen best one cell further in, where no padding is.
    Of maps with fewer than `COARSEST` cells a side nothing is said.
    """
    rows, columns = raw.shape[1:]
    found: list[HotSpot] = []
    if min(rows, columns) < COARSEST:
        return ()
    for label in sorted(set(labels)):
        mine = raw[[each == label for each in labels]]
        peaks = mine.reshape(len(mine), -1).argmax(1)[mine.any(axis=(1, 2))]
        counts = np.bincount(peaks, minlength=rows * columns)
        row, column = divmod(int(counts.argmax()), columns)
        share = wilson(int(counts.max()), len(mine))
        aside = [abs((row + 0.5) / rows - 0.5), abs((column + 0.5) / columns - 0.5)]  # from the middle, in sides
        is_outermost = row in (0, rows - 1) or column in (0, columns - 1)
        if share.low >= 0.5 and (is_outermost or min(aside) > 0.25):
            place = f"{_ROWS[3 * row // rows]} {_COLUMNS[3 * column // columns]}"
            found.append(HotSpot(label=label, row=row, column=column, place=place, share=share))
    return tuple(found)


def shortcut_findings(probes: Sequence[Probe], spots: Sequence[HotSpot] = ()) -> tuple[Finding, ...]:
    """What a person should look at, as findings of severity warning; none for data without shortcuts."""
    findings = []
    for each in probes:
        if each.warns:
            who = f"; it gives away {', '.join(each.given_away)}" if each.given_away else ""
            evidence = (
                f"a classifier that sees {_SEEN_BY[each.name]} names the right class for a share of {each.accuracy};"
                f" always naming the largest class would for {each.majority:.3f}{who}."
            )
            remedy = "make photos of all classes in the same way, or crop and save them alike; then fit again."
            findings.append(Finding(kind="shortcut", severity="warning", files=(), evidence=evidence, remedy=remedy))
    for spot in spots:
        where = f"one and the same place at the edge ({spot.place})"
        evidence = f"of the heatmaps of {spot.label}, {spot.share} peak at {where}."
        remedy = f"look there ({spot.place}) for a watermark, a date or a frame; remove it, then fit again."
        findings.append(Finding(kind="shortcut", severity="warning", files=(), evidence=evidence, remedy=remedy))
    return tuple(findings)


def _file_numbers(data: bytes, *, width: int, height: int) -> _Floats:
    """Size, shape, bytes, format, EXIF, colour profile and JPEG quality: nothing of the picture."""
    container = picture_format(data[:HEAD_BYTES]) or ""
    image, _ = open_picture(data, container, limits=Limits(), target=_SIDE)  # the header, as `decode_bytes` read it
    tables = getattr(image, "quantization", {})
    coarse = float(np.mean(next(iter(tables.values())))) if tables else 0.0
    facts = [
        *(width, height, width / height, len(data), len(data) / (width * height), coarse, len(tables)),
        *(len(image.info.get("exif") or b""), "icc_profile" in image.info, "progressive" in image.info),
        *(container == known for known in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")),
        *(image.mode == known for known in ("RGB", "L", "P", "RGBA", "CMYK")),
        float("dpi" in image.info),
    ]
    return np.array(facts, np.float32)


def _enough(labels: Sequence[str], groups: Sequence[str]) -> list[int]:
    """Rows of classes that can be judged: ten photos, and one group for each fold."""
    judged = set()
    for label in set(labels):
        mine = [row for row, each in enumerate(labels) if each == label]
        if len(mine) >= _FEWEST and len({groups[row] or row for row in mine}) >= _FOLDS:
            judged.add(label)
    return [row for row, label in enumerate(labels) if label in judged]


def _cross_validated(numbers: _Floats, truth: _Ints, *, groups: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """Out-of-fold probabilities (N,K)."""
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    names = np.unique([group or f"alone {row}" for row, group in enumerate(groups)], return_inverse=True)[1]
    chances = np.zeros((len(truth), int(truth.max()) + 1))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(numbers, truth, names):
        model = ExtraTreesClassifier(_TREES, min_samples_leaf=3, random_state=seed, n_jobs=2)
        model.fit(numbers[train], truth[train])
        chances[np.ix_(test, model.classes_)] = model.predict_proba(numbers[test])
    return chances


def _auroc(scores: npt.NDArray[np.float64], is_class: npt.NDArray[np.bool_]) -> Interval:
    """Source: J. A. Hanley, B. J. McNeil (1982), Radiology 143(1)."""
    from scipy.stats import rankdata

    n, m = int(is_class.sum()), int((~is_class).sum())
    area = float((rankdata(scores)[is_class].sum() - n * (n + 1) / 2) / (n * m))
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + (n - 1) * (one - area**2) + (m - 1) * (two - area**2)) / (n * m)
    half = 2.807 * max(0.0, variance) ** 0.5
    return Interval(value=area, low=max(0.0, area - half), high=min(1.0, area + half), n=n + m)
