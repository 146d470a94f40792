"""Feeds: what an epoch trains on, batch by batch, from the cache or straight from the trunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from topwork.data.batches import Item, read_batches
from topwork.digest import seed_from
from topwork.recipe import Augment
from topwork.training.extraction import Extractor
from topwork.training.store import Store

__all__ = ["CachedFeed", "Feed", "FreshFeed", "Order", "read_rows"]


class Feed(Protocol):
    """Batches of one epoch: inputs (B,...) float32 and labels (B,) int64."""

    steps: int
    """Batches of an epoch."""

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """The batches of an epoch, counted from 1, from batch `start` on; the same number gives the same batches."""
        ...


@dataclass(frozen=True, kw_only=True)
class Order:
    """Which photo comes when.

    Args:
        photos: N, the photos of an epoch.
        batch: photos of a batch; a last batch of one photo is dropped, since BatchNorm cannot train on it.
        seed: of the shuffling.
        draw: (N,) probabilities of drawing with replacement; None takes each photo once.
    """

    photos: int
    batch: int
    seed: int
    draw: npt.NDArray[np.float64] | None = None

    @property
    def steps(self) -> int:
        """Batches of an epoch, >= 1."""
        whole, rest = divmod(self.photos, self.batch)
        return max(1, whole + (rest > 1))

    def batches(self, epoch: int) -> Iterator[npt.NDArray[np.int64]]:
        """Positions of photos, a batch at a time."""
        random = np.random.default_rng(seed_from("order", self.seed, epoch))
        if self.draw is None:
            order = random.permutation(self.photos)
        else:
            order = random.choice(self.photos, size=self.photos, p=self.draw)
        for step in range(self.steps):
            yield order[step * self.batch : (step + 1) * self.batch]


class CachedFeed:
    """Views that a store holds.

    Args:
        store: activations or pooled features.
        views: row numbers (N,) of each view; epoch e gives photo i view (e + i) mod the number of views.
        labels: (N,).
        order: which photo comes when.
    """

    def __init__(
        self, store: Store, views: Sequence[npt.NDArray[np.int64]], *, labels: npt.NDArray[np.int64], order: Order
    ) -> None:
        self._store = store
        self._rows = np.stack(views)  # (views, N) row numbers
        self._labels = labels
        self._order = order
        self.steps = order.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """See `Feed`."""
        mapped = self._store.mapped()  # mapped anew each epoch: pages that were read count as this process's memory
        for chosen in islice(self._order.batches(number), start, None):
            rows = self._rows[(number + chosen) % len(self._rows), chosen]
            yield read_rows(mapped, rows), self._labels[chosen]


class FreshFeed:
    """New augmented views every epoch, run through the trunk as they are needed; nothing is kept.

    Args:
        extractor: owns the trunk.
        items: N photos.
        labels: (N,).
        augment: how views differ.
        order: which photo comes when.
        seen: views that an earlier phase has drawn; epoch e draws view `seen + e`.
    """

    def __init__(
        self,
        extractor: Extractor,
        items: Sequence[Item],
        *,
        labels: npt.NDArray[np.int64],
        augment: Augment,
        order: Order,
        seen: int = 0,
    ) -> None:
        self._seen = seen
        self._extractor = extractor
        self._items = items
        self._labels = labels
        self._augment = augment
        self._order = order
        self.steps = order.steps

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[torch.Tensor, npt.NDArray[np.int64]]]:
        """See `Feed`."""
        batches = list(self._order.batches(number))[start:]
        items = [replace(self._items[i], view=self._seen + number) for chosen in batches for i in chosen]
        run = self._extractor.run(self._items)
        reading = read_batches(
            items,
            self._extractor.request.spec,
            batch=self._order.batch,
            workers=self._extractor.workers,
            augment=self._augment,
            seed=self._extractor.seed,
        )
        with closing(reading):
            for chosen, batch in zip(batches, reading, strict=True):
                yield torch.from_numpy(run(batch.images)).float(), self._labels[chosen]


def read_rows(mapped: npt.NDArray[np.generic], rows: npt.NDArray[np.int64]) -> torch.Tensor:
    """Rows of a store's memory map as float32: (n,D), (n,T,C), (n,h,w,C), or pictures (n,H,W,3)."""
    values = torch.from_numpy(mapped[rows])
    return values.view(torch.bfloat16).float() if mapped.dtype == np.uint16 else values.float()
