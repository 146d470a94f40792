"""`Gallery`: the photos a report shows, and beside each what is said about it. Knows nothing about HTML or networks.

Photos are chosen by their content, by what was predicted, or by what a finding names; never by how they are called.
Only photos that are shown are decoded.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.reports.inputs import SPLITS, ManifestRow, PredictionRow, ReportInputs
from topwork.reports.remedies import WITHOUT_PICTURE, common_remedy
from topwork.reports.tables import confusion
from topwork.reports.thumbnail import Take, Thumbnail, Wanted, hung, make_thumbnail
from topwork.reports.wording import count

__all__ = [
    "CellPhotos",
    "ErrorPhoto",
    "FindingKind",
    "Gallery",
    "Look",
    "NearPhoto",
    "ShownFinding",
    "Thumbnail",
    "make_gallery",
    "make_thumbnail",
]

_BYTES = 2_000_000  # of all data URIs; the rest of the page stays below 1 MB
_ERRORS = 24
_SAMPLES_A_CLASS, _SAMPLES = 6, 96
_LOOKS_A_CLASS, _LOOKED_AT = 5, 12  # heatmaps of a class; classes
_FIRST = 6  # classes in the row below the verdict
_CELL, _CELLS = 6, 150  # photos of a cell; of all cells
_NEAR = 4
_FINDINGS_A_KIND, _PHOTOS_A_FINDING, _FOUND = 12, 6, 60
_SUSPECTS = 12
_SEVERITIES = ("error", "warning", "info")


@dataclass(frozen=True, kw_only=True)
class NearPhoto:
    """A training photo that a network finds like another; `note` says how it comes to be here."""

    thumbnail: Thumbnail
    label: str
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Look:
    """A photo's heatmap, of the predicted class, and what was predicted with which probability."""

    thumbnail: Thumbnail
    label: str
    predicted: str
    p: float


@dataclass(frozen=True, kw_only=True)
class ErrorPhoto:
    """A photo that was taken for another class.

    Args:
        row: what was predicted.
        thumbnail: the photo.
        heatmap: where the predicted class was seen; None where it was not explained.
        contrast: what speaks for the predicted class and what for `against`.
        explained_as: the class that both explain; the final model's word, which cross-validation need not share.
        against: the class that was next.
        near: the training photos that are most alike.
        near_labels: class -> how many of the nearest training photos, the most frequent first.
    """

    row: PredictionRow
    thumbnail: Thumbnail
    heatmap: Thumbnail | None = None
    contrast: Thumbnail | None = None
    explained_as: str = ""
    against: str = ""
    near: tuple[NearPhoto, ...] = ()
    near_labels: Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class CellPhotos:
    """Photos behind a cell of the confusion matrix: the surest errors, or the least sure right answers."""

    true: str
    predicted: str
    n: int
    photos: tuple[tuple[PredictionRow, Thumbnail], ...]


@dataclass(frozen=True, kw_only=True)
class ShownFinding:
    """A finding and some of its photos."""

    finding: Mapping[str, Any]
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True, kw_only=True)
class FindingKind:
    """All findings of a kind.

    Args:
        kind, severity: of all of them.
        total: counts those that are not shown too.
        remedy: what all of them ask for, if they are several and it is the same.
        shown: the first ones.
    """

    kind: str
    severity: str
    total: int
    remedy: str | None
    shown: tuple[ShownFinding, ...]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """What the report shows.

    Args:
        errors: wrong predictions of the judged part, the most confident first.
        errors_in_all: how many wrong predictions there are.
        first: one heatmap a class, of a few classes.
        looks: class -> heatmaps of photos that nobody chose by hand.
        cells: (true, predicted) -> photos behind that cell.
        samples: class -> a few of its photos, of the training part where it has some.
        findings: by kind, errors first.
        suspects: photos whose label may be wrong, and what their label and their looks say.
        confusers: training photos that stand near photos of other classes.
    """

    errors: tuple[ErrorPhoto, ...] = ()
    errors_in_all: int = 0
    first: tuple[Look, ...] = ()
    looks: Mapping[str, tuple[Look, ...]]
    cells: Mapping[tuple[str, str], CellPhotos]
    samples: Mapping[str, tuple[Thumbnail, ...]]
    findings: tuple[FindingKind, ...] = ()
    suspects: tuple[tuple[Mapping[str, Any], Thumbnail], ...] = ()
    confusers: tuple[NearPhoto, ...] = ()


def make_gallery(inputs: ReportInputs) -> Gallery:
    """Choose the photos and make them small enough for one page; without a root only words remain."""
    return hung(lambda take: _Hanging(inputs, take).gallery(), budget=_BYTES)


class _Hanging:
    """Lays the gallery out; what is asked for first has the best chance to fit into the page."""

    def __init__(self, inputs: ReportInputs, take: Take) -> None:
        self._inputs, self._take = inputs, take
        self._root = inputs.root or Path()
        self._explained = {row["path"]: row for row in inputs.explanations.get("photos") or ()}
        mine = [row for row in inputs.predictions if row.split == inputs.judged]
        self._judged = sorted(mine, key=lambda row: (-row.confidence, row.path))
        self._wrong = [row for row in self._judged if row.label != row.predicted]

    def gallery(self) -> Gallery:
        if self._inputs.root is None:
            nothing: dict[Any, Any] = {}
            findings = self._findings(photos=0)
            return Gallery(
                errors_in_all=len(self._wrong), findings=findings, looks=nothing, cells=nothing, samples=nothing
            )
        return Gallery(
            first=self._first(),
            errors=tuple(self._error(row) for row in self._wrong[:_ERRORS]),
            errors_in_all=len(self._wrong),
            cells=self._cells(),
            looks=self._looks(),
            findings=self._findings(photos=_FOUND),
            suspects=self._suspects(),
            samples=self._samples(),
            confusers=self._confusers(),
        )

    def _photo(self, path: str, side: int) -> Thumbnail:
        return self._take(Wanted(root=self._root, path=path, side=side))

    def _heatmap(self, row: Mapping[str, Any], kind: str, *, side: int) -> Thumbnail | None:
        if self._inputs.heatmaps is None or not row.get(kind):
            return None
        # The last part only: what a file says must not lead out of the run's folder.
        return self._take(Wanted(root=self._inputs.heatmaps, path=Path(str(row[kind])).name, side=side))

    def _error(self, row: PredictionRow) -> ErrorPhoto:
        said = self._explained.get(row.path) or {}
        near = said.get("neighbours") or ()
        labels = Counter(str(each["label"]) for each in near)
        return ErrorPhoto(
            row=row,
            thumbnail=self._photo(row.path, 224),
            heatmap=self._heatmap(said, "heatmap", side=224),
            contrast=self._heatmap(said, "contrast", side=224),
            explained_as=str(said.get("target", "")),
            against=str(said.get("against", "")),
            near=tuple(
                NearPhoto(thumbnail=self._photo(each["path"], 112), label=str(each["label"])) for each in near[:_NEAR]
            ),
            near_labels=dict(labels.most_common()),
        )

    def _rows_looked_at(self) -> dict[str, list[Mapping[str, Any]]]:
        rows: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in self._explained.values():
            if len(rows[row["label"]]) < _LOOKS_A_CLASS:
                rows[row["label"]].append(row)
        return rows if self._inputs.heatmaps is not None else {}

    def _look(self, row: Mapping[str, Any], side: int) -> Look:
        picture = self._heatmap(row, "heatmap", side=side) or Thumbnail(path=row["path"], source=None)
        p = float(row["p"].get(row["predicted"], 0.0))
        return Look(thumbnail=picture, label=row["label"], predicted=row["predicted"], p=p)

    def _first(self) -> tuple[Look, ...]:
        """Of each class the photo that the model is surest of, where it is right."""
        chosen = []
        for label, rows in self._rows_looked_at().items():
            right = [row for row in rows if row["predicted"] == label]
            chosen += [max(right, key=lambda row: (row["p"][row["predicted"]], row["path"]))] if right else []
        return tuple(self._look(row, 224) for row in chosen[:_FIRST])

    def _looks(self) -> dict[str, tuple[Look, ...]]:
        rows = list(self._rows_looked_at().items())[:_LOOKED_AT]
        return {label: tuple(self._look(row, 144) for row in mine) for label, mine in rows}

    def _cells(self) -> dict[tuple[str, str], CellPhotos]:
        """Photos of the cells that the matrix shows, errors first; as many of each as all cells can have."""
        shown = confusion(self._inputs)
        names = set(shown.classes)
        rows: dict[tuple[str, str], list[PredictionRow]] = defaultdict(list)
        for row in [*self._wrong, *(row for row in reversed(self._judged) if row.label == row.predicted)]:
            if row.label in names and row.predicted in names:
                rows[row.label, row.predicted].append(row)
        most = max(1, min(_CELL, _CELLS // max(1, len(rows))))
        chosen = [(cell, mine[:most], len(mine)) for cell, mine in rows.items()][: _CELLS // most]
        return {
            cell: CellPhotos(
                true=cell[0],
                predicted=cell[1],
                n=n,
                photos=tuple((row, self._photo(row.path, 128)) for row in mine),
            )
            for cell, mine, n in chosen
        }

    def _samples(self) -> dict[str, tuple[Thumbnail, ...]]:
        chosen = _sample_rows(self._inputs.manifest, self._inputs.classes)
        return {name: tuple(self._photo(row.path, 144) for row in rows) for name, rows in chosen.items()}

    def _findings(self, *, photos: int) -> tuple[FindingKind, ...]:
        kinds: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
        for finding in sorted(self._inputs.findings, key=lambda finding: _severity(finding["severity"])):
            kinds[finding["kind"], finding["severity"]].append(finding)
        groups = []
        for (kind, severity), found in kinds.items():
            shown = []
            for finding in found[:_FINDINGS_A_KIND]:
                files = () if kind in WITHOUT_PICTURE else finding["files"][: min(_PHOTOS_A_FINDING, photos)]
                photos -= len(files)
                pictures = tuple(self._photo(file, 112) for file in files)
                shown.append(ShownFinding(finding=finding, thumbnails=pictures))
            remedy = common_remedy(finding["remedy"] for finding in found)
            groups.append(
                FindingKind(kind=kind, severity=severity, total=len(found), remedy=remedy, shown=tuple(shown))
            )
        return tuple(groups)

    def _suspects(self) -> tuple[tuple[Mapping[str, Any], Thumbnail], ...]:
        rows = (self._inputs.explanations.get("label_suspects") or ())[:_SUSPECTS]
        return tuple((row, self._photo(row["path"], 144)) for row in rows)

    def _confusers(self) -> tuple[NearPhoto, ...]:
        rows = (self._inputs.explanations.get("confusers") or ())[:_SUSPECTS]
        return tuple(
            NearPhoto(
                thumbnail=self._photo(row["path"], 144),
                label=row["label"],
                note=f"near {count(row['times'], 'photo')} of {' and '.join(row['classes'][:2])}",
            )
            for row in rows
        )


def _severity(name: str) -> int:
    return _SEVERITIES.index(name) if name in _SEVERITIES else len(_SEVERITIES)


def _sample_rows(manifest: Sequence[ManifestRow], classes: Sequence[str]) -> dict[str, list[ManifestRow]]:
    each = max(1, min(_SAMPLES_A_CLASS, _SAMPLES // max(len(classes), 1)))
    rows: dict[str, list[ManifestRow]] = {name: [] for name in classes[:_SAMPLES]}
    # Digests put photos in an order that is the same everywhere and has nothing to do with names.
    for row in sorted(manifest, key=lambda row: (_rank(row.split), row.sha256, row.path)):
        mine = rows.get(row.label)
        if mine is not None and len(mine) < each:
            mine.append(row)
    return {name: mine for name, mine in rows.items() if mine}


def _rank(split: str) -> int:
    return SPLITS.index(split) if split in SPLITS else len(SPLITS)
