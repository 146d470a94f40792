"""`split`: photos -> a manifest whose parts share no duplicate."""

from __future__ import annotations

from pathlib import Path

from topwork.data.manifest import Manifest
from topwork.data.scan import scan
from topwork.data.split import split as divide
from topwork.errors import RecipeError
from topwork.progress import Progress, silent
from topwork.recipe import split_shares

__all__ = ["split"]


def split(
    data: str | Path, *, to: str | Path, shares: str = "80/10/10", seed: int = 0, progress: Progress = silent
) -> Manifest:
    """Divide photos by class, with duplicates and groups on one side, and write `manifest.csv`.

    Args:
        data: as for `fit`.
        to: folder that gets `manifest.csv`.
        shares: train/validation/test in percent.
        seed: another seed gives another split.
        progress: told how far it is.

    Raises:
        DataError: if there is nothing to divide.
        RecipeError: if the shares are not three percentages that sum to 100.
    """
    try:
        parts = split_shares(shares)
    except ValueError as error:
        raise RecipeError(f"The shares of a split {error}. Got {shares!r}.", fix="write e.g. 80/10/10.") from None
    manifest = divide(scan(data, progress=progress), shares=parts, seed=seed)
    manifest.write_csv(Path(to) / "manifest.csv")
    return manifest
