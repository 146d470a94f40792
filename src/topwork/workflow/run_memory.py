"""`RunMemory`: what a finished run adds to the explanation of new photos.

Their nearest training photos, and whether heatmaps made in the same way could be believed. Computes no training photo's
features again: what the cache does not hold is left out, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from topwork.data.manifest import Manifest
from topwork.errors import RunError, TopworkError
from topwork.progress import Progress
from topwork.workflow.cached_views import clean_items
from topwork.workflow.feature_space import FeatureSpace
from topwork.workflow.prepare import Network, extractor_for
from topwork.workflow.rundir import RunDir

if TYPE_CHECKING:
    from topwork.explanations.neighbours import Neighbour

__all__ = ["RunMemory"]

_LEFT_OUT = "Nearest training photos are left out"


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
        """What the run's own check says about heatmaps of this method and layer, or that it checked others.

        Empty where it checked none.
        """
        said = self._run.explanations() if self._run.explanations_file.exists() else {}
        judged = str(said.get("faithfulness", {}).get("verdict", ""))
        if judged and (said["method"], said["layer"]) != (method, layer):
            return f"Not checked: this run tested {said['method']} at {said['layer']} only."
        return judged

    def nearest(self, photos: Sequence[Path]) -> list[tuple[Neighbour, ...]]:
        """The most similar training photos of each, copies left out; empty tuples where they cannot be told.

        Args:
            photos: readable files.
        """
        try:
            return self._nearest(photos)
        except TopworkError as error:  # weights or photos of the run may be gone: the heatmaps are there all the same
            self._progress.say(f"{_LEFT_OUT}: {error.what}")
            return [()] * len(photos)

    def _nearest(self, photos: Sequence[Path]) -> list[tuple[Neighbour, ...]]:
        recipe, root = self._run.recipe(), Path(self._run.provenance()["data"]["root"])
        if not recipe.phase1.epochs or recipe.phase1.train != "head":  # what `network_for` asks, but builds nothing
            self._progress.say(f"{_LEFT_OUT}: this run keeps no features of a frozen network.")
            return [()] * len(photos)
        manifest = Manifest.read_csv(self._run.manifest_file, root=root)
        extractor = extractor_for(recipe, Network(recipe.backbone, recipe.data), progress=self._progress)
        store = extractor.cached_features(clean_items(recipe, manifest))
        if store is None:
            self._progress.say(
                f"{_LEFT_OUT}: the cache does not hold the features of this run's photos. "
                f"`topwork explain {self._run.path}` computes them."
            )
            return [()] * len(photos)
        space = FeatureSpace(self._run, manifest=manifest, extractor=extractor, progress=self._progress)
        return space.nearest_to(photos)
