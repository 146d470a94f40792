"""The photos of a run in feature space: nearest training photos, the most confusing ones, labels that look wrong."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from topwork.data.batches import Item
from topwork.data.manifest import Manifest, Row
from topwork.digest import file_sha256
from topwork.progress import Progress
from topwork.workflow.cached_views import items_of
from topwork.workflow.prepare import extractor_for, network_for
from topwork.workflow.rundir import RunDir

if TYPE_CHECKING:
    from topwork.explanations.neighbours import Neighbour
    from topwork.training.extraction import Extractor

__all__ = ["FeatureSpace"]

_NEIGHBOURS = 5
_LEAST_LABELS = 50  # photos below which nothing can be said about labels
_SUSPECTS = 24
_DOUBTED = 0.2  # probability of its label up to which a photo is worth a look


class FeatureSpace:
    """What frozen features say about photos; nothing where the recipe has none.

    Args:
        run: with its recipe.
        manifest: all photos.
        extractor: the one that trained; None makes it again from the recipe, and computes what no cache holds.
        progress: told how far it is.
    """

    def __init__(self, run: RunDir, *, manifest: Manifest, extractor: Extractor | None, progress: Progress) -> None:
        if extractor is None:
            recipe = run.recipe()
            extractor = extractor_for(recipe, network_for(recipe), progress=progress)
        self._extractor, self._manifest, self._progress = extractor, manifest, progress
        self._library: Any = None

    def neighbours(self, rows: Sequence[Row]) -> list[tuple[Neighbour, ...]] | None:
        """The nearest training photos of each row, copies left out."""
        if not self._extractor.features:
            return None
        return self._nearest(items_of(self._manifest, rows), marks=[_marks(row) for row in rows])

    def nearest_to(self, photos: Sequence[Path]) -> list[tuple[Neighbour, ...]]:
        """The same of any photos; those of the run are known again by their bytes.

        Args:
            photos: readable files.
        """
        items = [Item(path=photo, sha256=file_sha256(photo)) for photo in photos]
        known = {row.sha256: _marks(row) for row in self._manifest.rows}
        return self._nearest(items, marks=[known.get(item.sha256, frozenset({item.sha256})) for item in items])

    def _nearest(self, items: Sequence[Item], *, marks: Sequence[frozenset[str]]) -> list[tuple[Neighbour, ...]]:
        from topwork.explanations.neighbours import Library, nearest

        if self._library is None:
            train = self._manifest.part("train")
            self._library = Library(
                features=self._features(items_of(self._manifest, train)),
                paths=[row.path for row in train],
                labels=[row.label for row in train],
                marks=[_marks(row) for row in train],
            )
        return nearest(self._library, self._features(items), marks=marks, k=_NEIGHBOURS)

    def confusers(self, rows: Sequence[Row]) -> list[dict[str, Any]]:
        """The training photos that most often stand near these photos under another label."""
        from topwork.explanations.neighbours import confusers

        found = self.neighbours(rows)
        return [] if found is None else [each.to_json() for each in confusers(found, [row.label for row in rows])]

    def suspects(self, *, most: int) -> list[dict[str, Any]]:
        """Photos whose label may be wrong, the most suspect first, each with the class that it looks like.

        Args:
            most: photos up to which labels are judged: every pair of them is compared.
        """
        from topwork.evaluation.label_errors import label_suspects

        rows, classes = self._manifest.rows, self._manifest.classes
        if not self._extractor.features or not _LEAST_LABELS <= len(rows) <= most or len(classes) < 2:
            return []
        copies = np.unique([row.group or row.sha256 for row in rows], return_inverse=True)[1]
        labels = np.array([classes.index(row.label) for row in rows], np.int64)
        features = self._features(items_of(self._manifest, rows))
        found = label_suspects(features, labels, groups=np.asarray(copies, np.int64), progress=self._progress)
        doubted = [each for each in found if each.suggested != each.label and each.p_label <= _DOUBTED]
        return [
            {
                "path": rows[each.row].path,
                "label": classes[each.label],
                "suggested": classes[each.suggested],
                "p_label": each.p_label,
                "p_suggested": each.p_suggested,
                "confident": each.confident,
            }
            for each in doubted[:_SUSPECTS]
        ]

    def _features(self, items: Sequence[Item]) -> Any:
        pooled, _ = self._extractor.extract(items, augment=None, activations=False)
        return pooled.read([(item.sha256, 0) for item in items])


def _marks(row: Row) -> frozenset[str]:
    return frozenset(mark for mark in (row.sha256, f"group {row.group}" if row.group else "") if mark)
