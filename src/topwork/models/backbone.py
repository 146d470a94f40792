"""`Backbone`: a timm network as ordered named blocks, its input and its weights' provenance. The one door to timm."""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Iterator
from typing import Any, Literal, cast

import timm
import torch
from torch import nn

from topwork.errors import RecipeError, WeightsError
from topwork.models.families import Parts, split_network
from topwork.models.hub import hub_source
from topwork.models.identity import source_identity, source_spec
from topwork.models.metadata import WeightsMetadata
from topwork.models.weights import (
    Provenance,
    WeightsSource,
    find_weights,
    load_strictly,
    read_tensors,
    state_digest,
)
from topwork.models.zoo import ZOO, zoo_network, zoo_spec
from topwork.spec import InputSpec

__all__ = [
    "Backbone",
    "create_backbone",
    "default_spec",
    "hub_repository",
    "locate",
    "nearest_names",
    "network_families",
    "rebuild_backbone",
]


class Backbone(nn.Module):
    """A network without classifier.

    `top(cut)(trunk(cut)(x))` equals `forward_features(x)` for every cut in 0..len(block_names).

    Args:
        network: from timm, without classifier; its `state_dict` keeps timm's names below `network.`.
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
        """`efficientnet`, `mobilenetv3`, `resnet`, `convnext`, `vit`, `zoo` (from scratch), or `other`."""
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
            one that is trained from scratch (`baseline_cnn`, `resnet9`), or any timm name.
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
    spec = source_spec(source, default_spec(name), image_size=image_size, crop=crop)
    network = _create_network(source, spec, seed=seed)
    if source.kind != "none":
        _load(network, source)
    network.eval()
    backbone = Backbone(
        network,
        split_network(network, name=name),
        name=name,
        spec=spec,
        provenance=_provenance(network, source, spec=spec),
        identity=source_identity(source, spec, seed=seed),
    )
    if spec.size != default_spec(name).size:
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
    metadata = WeightsMetadata(padding="same" if provenance.padding == "same" else "symmetric")
    source = WeightsSource(name=name, kind="none", label=provenance.source, metadata=metadata)
    network = _create_network(source, spec).eval()
    if provenance.bn_eps not in (None, _bn_eps(network)):
        for module in _batchnorms(network):
            module.eps = provenance.bn_eps
    parts = split_network(network, name=name)
    return Backbone(network, parts, name=name, spec=spec, provenance=provenance, identity=identity)


def locate(source: WeightsSource) -> WeightsSource:
    """A hub source with its file.

    Raises:
        WeightsError: if it is neither cached nor to be had.
        RecipeError: if timm has no such network.
    """
    return hub_source(source, hub_repository(source.name))


def hub_repository(name: str) -> str | None:
    """The hub repository of a network's default weights, or None.

    Raises:
        RecipeError: if timm has no such network.
    """
    repository: str | None = None if name in ZOO else _config(name).hf_hub_id
    return repository


def default_spec(name: str) -> InputSpec:
    """The input that timm, or the zoo, states for a network.

    Raises:
        RecipeError: if there is no such network.
    """
    if name in ZOO:
        return zoo_spec(name)
    config = _config(name)
    return InputSpec(
        size=int(config.input_size[1]),
        mean=tuple(config.mean),
        std=tuple(config.std),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        crop=min(1.0, float(config.crop_pct or 0.875)),  # a few networks were tested on padded pictures,
    )


def network_families() -> dict[str, str]:
    """Every network that can be built and its family (timm's module, or `zoo`), topwork's own names first."""
    families = dict.fromkeys(_LITES, "efficientnet") | dict.fromkeys(ZOO, "zoo")
    for module in timm.list_modules():
        families |= {name: module for name in timm.list_models(module=module) if name not in families}
    return families


def nearest_names(name: str) -> str:
    """A question with the names that are most like this one, or where to find them all."""
    nearest = difflib.get_close_matches(name, [*_LITES, *ZOO, *timm.list_models()], n=3)
    return f"did you mean {' or '.join(nearest)}?" if nearest else "`topwork backbones` lists them."


_LITES = tuple(f"efficientnet_lite{number}" for number in range(5))


def _timm_name(name: str) -> str:
    return f"tf_{name}" if name in _LITES else name


def _config(name: str) -> Any:
    if not timm.is_model(_timm_name(name)):
        raise RecipeError(f"There is no network {name!r}.", fix=nearest_names(name))
    try:
        return timm.get_pretrained_cfg(_timm_name(name))
    except RuntimeError:
        network, _, tag = name.partition(".")
        raise RecipeError(
            f"There are no weights {tag!r} of {network}.", fix=f"use {network}, which takes the usual ones."
        ) from None


def _create_network(source: WeightsSource, spec: InputSpec, *, seed: int = 0) -> nn.Module:
    padding = source.metadata.padding
    try:
        network = _first_accepted(source.name, spec, options={}, seed=seed)
        if padding is not None and padding != _padding(network):
            options = {"pad_type": "same" if padding == "same" else ""}
            network = _first_accepted(source.name, spec, options=options, seed=seed)
    except TypeError as error:
        if "pad_type" in str(error):
            raise WeightsError(
                f"The weights {source.path or source.label} need {padding!r} padding, which {source.name} cannot do.",
                fix="use weights without that metadata key, or another network.",
            ) from None
        raise _unfit(source.name, spec.size, reason=str(error)) from None
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _unfit(source.name, spec.size, reason=str(error)) from None
    _check_patches(network, spec, name=source.name)
    if source.metadata.bn_eps is not None:
        for module in _batchnorms(network):
            module.eps = source.metadata.bn_eps
    return network


def _first_accepted(name: str, spec: InputSpec, *, options: dict[str, Any], seed: int) -> nn.Module:
    """The network with its picture size fixed, in the way that its family knows."""
    if name in ZOO:
        with _start(seed):
            network: nn.Module = zoo_network(name, spec.size)
        return network
    if not _config(name).fixed_input_size:
        return _drawn(name, options, seed=seed)
    sized = options | {"img_size": spec.size}
    # A position embedding of any size would be resized by an op that does not convert.
    with contextlib.suppress(TypeError):
        return _drawn(name, sized | {"dynamic_img_size": False}, seed=seed)
    return _drawn(name, sized, seed=seed)


def _drawn(name: str, options: dict[str, Any], *, seed: int) -> nn.Module:
    """The network with random weights, the same for a seed."""
    with _start(seed):
        network: nn.Module = timm.create_model(_timm_name(name), num_classes=0, **options)
    return network


@contextlib.contextmanager
def _start(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _padding(network: nn.Module) -> Literal["same", "symmetric"]:
    pads_like_tensorflow = any(type(module).__name__ == "Conv2dSame" for module in network.modules())
    return "same" if pads_like_tensorflow else "symmetric"


def _check_size(backbone: Backbone) -> None:
    size = backbone.spec.size
    try:
        with torch.no_grad():
            backbone(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise _unfit(backbone.name, size, reason=str(error)) from None


def _unfit(name: str, size: int, *, reason: str) -> RecipeError:
    return RecipeError(
        f"{name} does not work on pictures of {size} pixels: {reason.strip() or 'it refuses them'}.",
        fix="use the network's own size (leave data.image_size out).",
    )


def _check_patches(network: nn.Module, spec: InputSpec, *, name: str) -> None:
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
    side = int(patch[0]) if isinstance(patch, tuple) else 1
    if spec.size % side:
        raise RecipeError(
            f"The image size of {name} must be a multiple of its patches of {side} pixels. Got {spec.size}.",
            fix=f"set data.image_size to {max(1, round(spec.size / side)) * side}.",
        )


def _load(network: nn.Module, source: WeightsSource) -> None:
    tensors = read_tensors(source)
    # timm's own reading of older key names, and of a position embedding of another image size, where a family has one
    adapt = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if adapt is not None:
        try:
            tensors = dict(adapt(tensors, network))
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise WeightsError(
                f"The weights {source.path} do not belong to {source.name}: {type(error).__name__}: {error}.",
                fix=f"give weights that were saved from timm's {source.name}.",
            ) from None
    load_strictly(network, tensors, source=source, head=_classifier_names(network))


def _classifier_names(network: nn.Module) -> tuple[str, ...]:
    names = cast(Any, network).pretrained_cfg.get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _batchnorms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def _bn_eps(network: nn.Module) -> float | None:
    return next((module.eps for module in _batchnorms(network)), None)


def _provenance(network: nn.Module, source: WeightsSource, *, spec: InputSpec) -> Provenance:
    licence = source.metadata.licence
    if licence is None and source.kind == "hub":
        licence = cast(Any, network).pretrained_cfg.get("license")
    return Provenance(
        kind=source.kind,
        source=source.label if source.metadata.origin is None else f"{source.label} ({source.metadata.origin})",
        path=None if source.path is None else str(source.path),
        digest=state_digest(network.state_dict()),
        padding=_padding(network),
        bn_eps=_bn_eps(network),
        mean=spec.mean,
        std=spec.std,
        licence=licence,
    )
