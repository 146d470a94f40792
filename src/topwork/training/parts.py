"""`Parts` of a split and their `Views`: which photos train, judge and test, and where their rows are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from topwork.training.store import Store

__all__ = ["Labelled", "Parts", "Views"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Labelled:
    """Photos of one part of the split.

    Args:
        names: SHA-256 of each of the N photos.
        labels: (N,) in [0, K).
        paths: N file names as the manifest has them.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, store: Store, view: int = 0) -> npt.NDArray[np.int64]:
        """Row numbers (N,) of one view in a store."""
        return store.rows([(name, view) for name in self.names])


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """The split.

    Args:
        train, val, test: photos; any but train may be empty.
        classes: K names.
    """

    train: Labelled
    val: Labelled
    test: Labelled
    classes: tuple[str, ...]

    @property
    def judged(self) -> Labelled:
        """What epochs are compared on: the validation part, or the training part where there is none."""
        return self.val if len(self.val) else self.train

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """(K,) training photos of each class."""
        return np.bincount(self.train.labels, minlength=len(self.classes))

    def filled(self) -> dict[str, Labelled]:
        """The parts that have photos, by name."""
        named = {"train": self.train, "val": self.val, "test": self.test}
        return {name: part for name, part in named.items() if len(part)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Where a part's rows are: clean ones in one store, K augmented ones in another (None without any).

    Args:
        clean: store of view 0, and of view 1 where it holds the mirror images.
        augmented: store of views 1..count.
        count: K.
        mirrored: whether the clean store holds mirror images, and photos are judged together with them.
        cut: what the rows are: activations at this cut, pictures at cut 0, pooled features if None.
    """

    clean: Store
    augmented: Store | None = None
    count: int = 0
    mirrored: bool = False
    cut: int | None = None

    @property
    def judged(self) -> tuple[int, ...]:
        """Views of the clean store whose logits are averaged."""
        return (0, 1) if self.mirrored else (0,)

    def training(self, part: Labelled) -> tuple[Store, list[npt.NDArray[np.int64]]]:
        """The store to train from and the rows of each view of the part."""
        if self.augmented is None:
            return self.clean, [part.rows(self.clean, view) for view in self.judged]
        return self.augmented, [part.rows(self.augmented, view) for view in range(1, self.count + 1)]
