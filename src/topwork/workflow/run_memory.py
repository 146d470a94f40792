"""`RunMemory`: what a finished run adds to the explanation of new photos.

Their nearest training photos, and whether heatmaps made in the same way could be believed. Computes no training photo's
features again: what the cache does not hold is left out, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topwork.data.batches import Item
from topwork.data.manifest import Manifest, Row
from topwork.digest import file_sha256
from topwork.errors import RunError, TopworkError
from topwork.progress import Progress
from topwork.workflow.prepare import Network, clean_items, extractor_for
from topwork.workflow.rundir import RunDir

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topwork.explanations.neighbours import Neighbour
    from topwork.training.activations import Store
    from topwork.training.extraction import Extractor

__all__ = ["RunMemory"]

_NEAREST = 5


class RunMemory:
    """A finished run, asked about photos that it may never have seen.

    Args:
        run: the folder.
        progress: told what is left out and why.
    """

    def __init__(self, run: RunDir, *, progress: Progress) -> None:
        self._run, self._progress = run, progress

    @classmethod
    def of(cls, model: str | Path, *, progress: Progress) -> RunMemory | None:
        """The run that a model is; None where it is a bundle alone."""
        try:
            return cls(RunDir.open(model), progress=progress)
        except RunError:
            return None

    def verdict(self, method: str, layer: str) -> str:
        """What the run's own check says about heatmaps of this method and layer; empty where it did not check them."""
        if not self._run.explanations_file.exists():
            return ""
        said = self._run.explanations()
        if (said.get("method"), said.get("layer")) != (method, layer):
            return ""
        return str(said.get("faithfulness", {}).get("verdict", ""))

    def nearest(self, photos: Sequence[Path]) -> list[tuple[Neighbour, ...]]:
        """The most similar training photos of each, copies left out; empty tuples where they cannot be told.

        Args:
            photos: readable files.
        """
        try:
            return self._nearest(photos)
        except TopworkError as error:  # weights or photos of the run may be gone: the heatmaps are there all the same
            self._progress.say(f"Nearest training photos are left out: {error.what}")
            return [()] * len(photos)

    def _nearest(self, photos: Sequence[Path]) -> list[tuple[Neighbour, ...]]:
        from topwork.explanations.neighbours import Library, nearest

        recipe, root = self._run.recipe(), Path(self._run.provenance()["data"]["root"])
        manifest = Manifest.read_csv(self._run.manifest_file, root=root)
        extractor = extractor_for(recipe, Network(recipe.backbone, recipe.data), progress=self._progress)
        store = extractor.cached_features(clean_items(recipe, manifest))
        if store is None:
            self._progress.say(
                "Nearest training photos are left out: the cache does not hold the features of this run's photos. "
                f"`topwork explain {self._run.path}` computes them."
            )
            return [()] * len(photos)
        train = manifest.part("train")
        library = Library(
            features=store.read([(row.sha256, 0) for row in train]),
            paths=[row.path for row in train],
            labels=[row.label for row in train],
            marks=[_marks(row) for row in train],
        )
        items = [Item(path=photo, sha256=file_sha256(photo)) for photo in photos]
        known = {row.sha256: _marks(row) for row in manifest.rows}
        marks = [known.get(item.sha256, frozenset({item.sha256})) for item in items]
        return nearest(library, _features(extractor, items), marks=marks, k=_NEAREST)


def _features(extractor: Extractor, items: Sequence[Item]) -> npt.NDArray[np.float32]:
    pooled: Store = extractor.extract(items, augment=None, activations=False)[0]
    return pooled.read([(item.sha256, item.view) for item in items])


def _marks(row: Row) -> frozenset[str]:
    return frozenset(mark for mark in (row.sha256, f"group {row.group}" if row.group else "") if mark)
