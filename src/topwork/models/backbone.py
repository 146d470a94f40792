"""`Backbone`: a network as ordered named blocks, its input and its weights' provenance."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch
from torch import nn

from topwork.models.families import Parts, split_network
from topwork.models.hub import hub_source
from topwork.models.identity import source_identity, source_spec
from topwork.models.joined import JoinedNetwork
from topwork.models.metadata import WeightsMetadata
from topwork.models.networks import (
    bn_eps,
    create_network,
    default_spec,
    hub_licence,
    hub_repository,
    load_network,
    padding,
    unfit_size,
)
from topwork.models.weights import Provenance, WeightsSource, find_weights, joined_source, state_digest
from topwork.spec import InputSpec

__all__ = ["Backbone", "create_backbone", "locate", "rebuild_backbone"]


class Backbone(nn.Module):
    """A network without classifier.

    `top(cut)(trunk(cut)(x))` equals `forward_features(x)` for every cut in 0..len(block_names).

    Args:
        network: of timm or the zoo, or several joined, without classifier; its `state_dict` keeps timm's names below
            `network.`.
        parts: views of the network's blocks and pooling stage.
        name: as it was asked for.
        spec: the input.
        provenance: of the weights.
        identity: digest of everything that changes the outputs.
    """

    def __init__(
        self, network: nn.Module, parts: Parts, *, name: str, spec: InputSpec, provenance: Provenance, identity: str
    ) -> None:
        super().__init__()
        self.network = network
        self.name = name
        self.spec = spec
        self.provenance = provenance
        self.identity = identity
        self._parts = (parts,)  # in a tuple, so that torch does not register shared modules twice

    @property
    def family(self) -> str:
        """`efficientnet`, `mobilenetv3`, `resnet`, `convnext`, `vit`, `zoo` (from scratch), `joined`, or `other`."""
        return self._parts[0].family

    @property
    def cuttable(self) -> bool:
        """Whether activations may be taken between blocks; if not, there is one block, `all`."""
        return self._parts[0].cuttable

    @property
    def block_names(self) -> tuple[str, ...]:
        """In execution order."""
        return tuple(name for name, _ in self._parts[0].blocks)

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """In execution order."""
        return tuple(block for _, block in self._parts[0].blocks)

    @property
    def pool_stage(self) -> nn.Module:
        """Features -> (N,D); what it owns counts with the last block."""
        return self._parts[0].pool

    @property
    def width(self) -> int:
        """D of the pooled features."""
        return int(cast(Any, self.network).head_hidden_size)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised (N,3,H,W) -> (N,C,h,w), or (N,T,C) for ViTs."""
        return cast(torch.Tensor, cast(Any, self.network).forward_features(x))

    def pool(self, features: torch.Tensor) -> torch.Tensor:
        """(N,C,h,w) or (N,T,C) -> (N,D)."""
        return cast(torch.Tensor, self.pool_stage(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Normalised (N,3,H,W) -> pooled features (N,D)."""
        return self.pool(self.forward_features(x))

    def trunk(self, cut: int) -> nn.Module:
        """The blocks below the cut; shares their parameters."""
        return nn.Sequential(*self.blocks[: self._checked(cut)])

    def top(self, cut: int) -> nn.Module:
        """The blocks above the cut; shares their parameters."""
        return nn.Sequential(*self.blocks[self._checked(cut) :])

    def _checked(self, cut: int) -> int:
        if not 0 <= cut <= len(self.blocks):
            raise ValueError(f"The cut of {self.name} must be in 0..{len(self.blocks)}. Got {cut}.")
        return cut


def create_backbone(
    name: str, *, weights: str = "packaged", image_size: int | None = None, crop: float | None = None, seed: int = 0
) -> Backbone:
    """Build a network and load its weights, strictly.

    Args:
        name: `efficientnet_lite0` to `lite4` (timm's `tf_` networks, whose padding fits the published weights),
            one that is trained from scratch (`baseline_cnn`, `resnet9`), any timm name, or several names joined by `+`.
        weights: `packaged`, `hub`, `none` (random, the same for a seed), or the path of a safetensors file.
        image_size: side in pixels; None takes the weights' own.
        crop: share of the short side that the centre crop keeps; None takes the weights' own.
        seed: of random weights; others do not depend on it.

    Returns:
        The backbone in evaluation mode on the CPU.

    Raises:
        RecipeError: if timm has no such network, or the size does not fit it.
        WeightsError: if weights are missing, damaged or of another network.
    """
    source = find_weights(name, weights)
    if source.kind == "hub":
        source = locate(source)
    spec = source_spec(source, default_spec, image_size=image_size, crop=crop)
    network = create_network(source, spec, seed=seed)
    if source.kind != "none":
        load_network(network, source)
    network.eval()
    backbone = Backbone(
        network,
        split_network(network, name=name),
        name=name,
        spec=spec,
        provenance=_provenance(network, source, spec=spec),
        identity=source_identity(source, spec, seed=seed),
    )
    if not source.members and spec.size != default_spec(name).size:  # joined stages were tried out already
        _check_size(backbone)
    return backbone


def rebuild_backbone(name: str, spec: InputSpec, *, provenance: Provenance, identity: str) -> Backbone:
    """The network that `create_backbone` made, with random numbers: the caller loads its own.

    Args:
        name, spec, provenance, identity: of the backbone as it was made; no source of weights is asked.

    Raises:
        RecipeError: if timm has no such network, or the size does not fit it.
        WeightsError: if the network cannot pad as the provenance says.
    """
    metadata = WeightsMetadata(
        padding="same" if provenance.padding == "same" else "symmetric", bn_eps=provenance.bn_eps
    )
    drawn = find_weights(name, "none")
    members = tuple(dataclasses.replace(each, label=provenance.source, metadata=metadata) for each in drawn.members)
    source = dataclasses.replace(drawn, label=provenance.source, metadata=metadata, members=members)
    network = create_network(source, spec).eval()
    parts = split_network(network, name=name)
    return Backbone(network, parts, name=name, spec=spec, provenance=provenance, identity=identity)


def locate(source: WeightsSource) -> WeightsSource:
    """A hub source with its file.

    Raises:
        WeightsError: if it is neither cached nor to be had.
        RecipeError: if timm has no such network.
    """
    if source.members:
        return joined_source(source.name, [locate(each) if each.kind == "hub" else each for each in source.members])
    return hub_source(source, hub_repository(source.name))


def _check_size(backbone: Backbone) -> None:
    size = backbone.spec.size
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise unfit_size(backbone.name, size, reason=str(error)) from None


def _provenance(network: nn.Module, source: WeightsSource, *, spec: InputSpec) -> Provenance:
    return Provenance(
        kind=source.kind,
        source=_origin(source),
        path=None if source.path is None else str(source.path),
        digest=state_digest(network.state_dict()),
        padding=padding(network),
        bn_eps=bn_eps(network),
        mean=spec.mean,
        std=spec.std,
        licence=_licence(network, source),
    )


def _origin(source: WeightsSource) -> str:
    if source.members:
        return " and ".join(map(_origin, source.members))
    return source.label if source.metadata.origin is None else f"{source.label} ({source.metadata.origin})"


def _licence(network: nn.Module, source: WeightsSource) -> str | None:
    """What the source states; of several networks, each one's where they are not the same."""
    if isinstance(network, JoinedNetwork):
        pairs = zip(network.members, source.members, strict=True)
        stated = {own.name: _licence(member, own) for member, own in pairs}
        if len(set(stated.values())) == 1:
            return next(iter(stated.values()))
        return "; ".join(f"{name}: {licence or 'not stated'}" for name, licence in stated.items())
    stated_by_file = source.metadata.licence
    return hub_licence(network) if stated_by_file is None and source.kind == "hub" else stated_by_file
