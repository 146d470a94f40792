"""Clean features of scanned photos, from the cache that `fit` uses or, where it lacks them, computed into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from topwork.data.batches import Item
from topwork.progress import Progress

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topwork.data.scan import Scan
    from topwork.recipe import Recipe

__all__ = ["clean_features"]


def clean_features(found: Scan, *, recipe: Recipe, progress: Progress) -> npt.NDArray[np.float32]:
    """Pooled features of the clean views, (N,D), in the order of the scan's records.

    Where some are missing, the trunk runs as `fit` with the same recipe would run it, activations at the cut included,
    so that `fit` need not run it on clean views again.

    Raises:
        TopworkError: if the network, its weights or the machine do not allow it.
    """
    # brings torch, which a check that runs no network does without
    from topwork.workflow.prepare import Network, extractor_for, network_for

    items = [Item(path=found.root / record.path, sha256=record.sha256) for record in found.records]
    store = extractor_for(recipe, Network(recipe.backbone, recipe.data), progress=progress).cached_features(items)
    if store is None:
        network = network_for(recipe)
        network.features = True  # a recipe that trains everything from the start wants none
        extractor = extractor_for(recipe, network, progress=progress)
        store, _ = extractor.extract(items, augment=None, activations=extractor.request.cut is not None)
    return store.read([(item.sha256, item.view) for item in items])
