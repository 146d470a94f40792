"""`Extractor`: photos -> cached activations. Overlaps decoding with the trunk; computes only what no cache holds.

Where everything trains (the cut is 0) there is no trunk: the activations are then the pictures themselves, uint8.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork.cores import CORES
from topwork.data.batches import Item, read_batches
from topwork.data.decode import DECODE_VERSION
from topwork.digest import digest
from topwork.models.engine import TrunkFacts, open_trunk, remembered_facts
from topwork.models.trunk import Trunk, TrunkRequest
from topwork.progress import Progress, silent
from topwork.recipe import Augment, EngineChoice
from topwork.timings import Timings
from topwork.training.activations import ActivationCache
from topwork.training.store import RowName, Store, StoreKey

if TYPE_CHECKING:
    from topwork.models.backbone import Backbone

__all__ = ["Extractor", "Work"]

_BATCH = 64  # photos decoded and run together; a multiple of every batch the engine may pick
_SAMPLE = 16  # photos for parity and timing


@dataclass
class Work:
    """What an extractor did, for the log and `provenance.json`.

    Args:
        computed: rows that the trunk computed.
        cached: rows that were there already.
        seconds: wall time of computing.
    """

    computed: int = 0
    cached: int = 0
    seconds: float = 0.0


@dataclass(kw_only=True)
class Extractor:
    """Activations of one network at one cut, and pooled features.

    Args:
        request: the network, its cut and its input.
        features: whether pooled features are wanted; without them and with cut 0 no trunk is ever made or run.
        engine: the recipe's engine section.
        cache: where rows are kept.
        timings: measured choices.
        folder: where converted graphs are kept.
        seed: of the augmentation.
        workers: decoding threads.
        progress: told how far it is.
    """

    request: TrunkRequest
    engine: EngineChoice
    cache: ActivationCache
    timings: Timings
    folder: Path
    features: bool = True
    seed: int = 0
    workers: int = CORES
    progress: Progress = silent
    work: Work = field(default_factory=Work)
    _trunk: Trunk | None = None
    _stores: dict[str, Store] = field(default_factory=dict)  # kept open: what was found or computed stays readable
    _facts: TrunkFacts | None = None

    def extract(
        self, items: Sequence[Item], *, augment: Augment | None, activations: bool
    ) -> tuple[Store, Store | None]:
        """Make sure that the caches hold every item, and give them.

        Args:
            items: photos and views; repeated ones are computed once.
            augment: None for clean views.
            activations: whether activations at the cut are needed beside pooled features.

        Returns:
            The store of pooled features (of pictures, where there is no trunk) and, if asked for, that of activations.

        Raises:
            ResourceError: if the disk or the cache limit cannot hold the rows, or they were removed meanwhile.
            DataError: if a photo is not what it was when it was scanned.
        """
        unique = list({(item.sha256, item.view): item for item in items}.items())
        names, distinct = [name for name, _ in unique], [item for _, item in unique]
        keys = self._keys(distinct, augment=augment, activations=activations)
        stores = {what: self._store(key) for what, key in keys.items()}
        pooled, cut = stores.get("pooled"), stores.get("cut")
        if self.request.cut and cut is not None and cut.missing(names) and not stores["pooled"].missing(names):
            self._derive(names, cut, key=keys["cut"])
        missing = sorted({position for store in stores.values() for position in store.missing(names)})
        self.work.cached += len(names) - len(missing)
        if missing:
            self._fill([distinct[position] for position in missing], stores, augment=augment)
        first = cut if pooled is None else pooled
        assert first is not None, "something is always wanted"
        return first, cut

    def missing(self, items: Sequence[Item], *, augment: Augment | None, activations: bool) -> list[Item]:
        """The items, each once, that no cache holds; computes none, but opens the trunk if it never ran here."""
        unique = {(item.sha256, item.view): item for item in items}
        keys = self._keys(list(unique.values()), augment=augment, activations=activations)
        stores = [self._store(key) for key in keys.values()]
        names = list(unique)
        lacking = sorted({position for store in stores for position in store.missing(names)})
        return [unique[names[position]] for position in lacking]

    def cached_features(self, items: Sequence[Item]) -> Store | None:
        """The store of pooled clean features if it holds every item; else None, and nothing was opened or run."""
        self._facts = self._facts or remembered_facts(self._named(items), self.engine, folder=self.folder)
        if self._facts is None:
            return None
        store = self._store(self._keys(items, augment=None, activations=False)["pooled"])
        return None if store.missing([(item.sha256, item.view) for item in items]) else store

    def facts(self, items: Sequence[Item]) -> TrunkFacts:
        """What runs the trunk: remembered from an earlier run, else found out now."""
        if self._facts is None and not self._has_trunk:
            self._facts = TrunkFacts(
                engine="torch", precision="f32", version=f"torch {metadata.version('torch')}", parity=None
            )
        if self._facts is None:
            self._facts = remembered_facts(self._named(items), self.engine, folder=self.folder)
        if self._facts is None:
            trunk = self._opened(items)
            self._facts = TrunkFacts(
                engine=trunk.engine, precision=trunk.precision, version=trunk.version, parity=trunk.parity
            )
        return self._facts

    def _store(self, key: StoreKey) -> Store:
        store = self._stores.get(key.digest)
        if store is None:
            store = self._stores[key.digest] = self.cache.open(key)
        else:
            store.refresh()
        return store

    def open(self, items: Sequence[Item]) -> None:
        """Have the trunk ready for rows of these photos, where they need one."""
        if self._has_trunk:
            self._opened(items)

    def run(self, items: Sequence[Item]) -> Callable[[npt.NDArray[np.uint8]], npt.NDArray[Any]]:
        """Pictures (n,H,W,3) -> activations at the cut, for views that are not worth caching."""
        if self.request.cut == 0:
            return lambda images: images
        trunk = self._opened(items)

        def activations(images: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
            found = trunk(images).activation
            assert found is not None, "the trunk was asked for activations"
            return found

        return activations

    def _named(self, items: Sequence[Item]) -> TrunkRequest:
        """The request, which from now on names the photos that were asked for first."""
        if not self.request.photos:
            photos = digest(*sorted({item.sha256 for item in items})[:_SAMPLE])
            self.request = replace(self.request, photos=photos)
        return self.request

    def close(self) -> None:
        """Let go of the trunk and its memory; it is opened again if more rows are asked for."""
        self._trunk = None

    @property
    def _has_trunk(self) -> bool:
        return self.features or self.request.cut != 0

    def _outputs(self, items: Sequence[Item]) -> Callable[[npt.NDArray[np.uint8]], dict[str, npt.NDArray[Any]]]:
        """Pictures (n,H,W,3) -> what each store keeps of them."""
        if not self._has_trunk:
            return lambda images: {"cut": images}
        trunk = self._opened(items)

        def outputs(images: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[Any]]:
            found = trunk(images)
            activation = images if self.request.cut == 0 else found.activation
            return {"pooled": found.pooled} | ({} if activation is None else {"cut": activation})

        return outputs

    def _opened(self, items: Sequence[Item]) -> Trunk:
        if self._trunk is None:
            self.progress.say("Preparing the trunk (converted once, then kept).")
            step = max(1, len(items) // _SAMPLE)
            reading = read_batches(
                items[::step][:_SAMPLE], self.request.spec, batch=_SAMPLE, workers=self.workers, augment=None, seed=0
            )
            with closing(reading):
                sample = next(iter(reading)).images
            self._trunk = open_trunk(
                self.request if self.request.cut else replace(self.request, cut=None),
                self._facts or self.engine,  # rows are named after the facts, once there are any
                folder=self.folder,
                timings=self.timings,
                sample=sample,
                progress=self.progress,
            )
        return self._trunk

    def _keys(self, items: Sequence[Item], *, augment: Augment | None, activations: bool) -> dict[str, StoreKey]:
        """Keys of what is wanted: `pooled`, and `cut` for the activations."""
        facts, cut = self.facts(items), self.request.cut
        view: dict[str, Any] = {
            "decode": DECODE_VERSION,
            "input": {key: list(v) if isinstance(v, tuple) else v for key, v in self.request.spec.to_json().items()},
            "augment": augment.model_dump() if augment else None,
            "seed": self.seed if augment else None,
        }
        computed = {
            "network": self.request.identity,
            "engine": facts.engine,
            "precision": facts.precision,
            "version": facts.version,
        }
        keys = {"pooled": StoreKey(what="pooled", parts=view | computed)} if self._has_trunk else {}
        if activations:
            pictures = StoreKey(what="pictures", parts=view)  # the same for every network with this input
            keys["cut"] = pictures if cut == 0 else StoreKey(what=str(cut), parts=view | computed)
        return keys

    def _fill(self, items: Sequence[Item], stores: Mapping[str, Store], *, augment: Augment | None) -> None:
        run = self._outputs(items)
        stage = f"{'trunk' if self._has_trunk else 'decode'}, {'clean' if augment is None else 'augmented'} views"
        with ExitStack() as stack:
            for store in stores.values():
                stack.enter_context(store.writing(self.progress))
            started = time.perf_counter()  # waiting for another process says nothing about this machine's speed
            # Another process may have filled the stores while this one waited for the lock.
            names = [(item.sha256, item.view) for item in items]
            todo = sorted({position for store in stores.values() for position in store.missing(names)})
            reading = read_batches(
                [items[position] for position in todo],
                self.request.spec,
                batch=_BATCH,
                workers=self.workers,
                augment=augment,
                seed=self.seed,
            )
            stack.enter_context(closing(reading))
            self.progress.step(stage, 0, len(todo))
            for batch in reading:
                rows = [names[todo[row]] for row in batch.rows]
                outputs = run(batch.images)
                if batch.rows.start == 0:
                    self._make_room(outputs, stores, names=[names[position] for position in todo])
                self._keep(outputs, rows, stores=stores)
                self.progress.step(stage, batch.rows.stop, len(todo))
            self.work.computed += len(todo)
            self.work.seconds += time.perf_counter() - started

    def _make_room(
        self, outputs: Mapping[str, npt.NDArray[Any]], stores: Mapping[str, Store], *, names: Sequence[RowName]
    ) -> None:
        """For all rows to come, in all stores, before the first one is written."""
        sizes = {what: int(np.prod(values.shape[1:])) * min(2, values.itemsize) for what, values in outputs.items()}
        self.cache.make_room(sum(len(store.missing(names)) * sizes[what] for what, store in stores.items()))

    def _keep(
        self, outputs: Mapping[str, npt.NDArray[Any]], names: Sequence[RowName], *, stores: Mapping[str, Store]
    ) -> None:
        """Append what each store lacks."""
        for what, store in stores.items():
            rows = store.missing(names)
            if rows:
                store.append([names[row] for row in rows], outputs[what][rows])

    def _derive(self, names: Sequence[RowName], store: Store, *, key: StoreKey) -> None:
        """Fill a store from one at an earlier cut that holds every row, through the frozen blocks between them."""
        for earlier in self.cache.earlier_cuts(key):
            source = self.cache.open(earlier)
            if source.missing(names):
                continue
            self.progress.say(
                f"Activations come from the cached cut {earlier.what}, through the frozen blocks above it."
            )
            backbone = self.request.build().eval()
            with store.writing(self.progress):
                todo = [names[position] for position in store.missing(names)]
                for start in range(0, len(todo), _BATCH):
                    part = todo[start : start + _BATCH]
                    values = _between(backbone, source.read(part), cuts=(int(earlier.what), int(key.what)))
                    self.cache.make_room((len(todo) - start) * int(np.prod(values.shape[1:])) * 2)
                    store.append(part, values)
                    self.progress.step("frozen blocks", start + len(part), len(todo))
            return


def _between(
    backbone: Backbone, activation: npt.NDArray[np.float32], *, cuts: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Activations (n,h,w,C) or (n,T,C) at the first cut -> at the second."""
    import torch

    with torch.inference_mode():
        value = torch.from_numpy(activation)
        value = value.permute(0, 3, 1, 2) if value.ndim == 4 else value
        for block in backbone.blocks[slice(*cuts)]:
            value = block(value)
        found: npt.NDArray[np.float32] = (value.permute(0, 2, 3, 1) if value.ndim == 4 else value).numpy()
    return found
