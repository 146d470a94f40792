"""Networks of timm and of the zoo: their stated input, their construction, their tensors. The one door to timm."""

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
from topwork.models.joined import JoinedNetwork, stage_widths
from topwork.models.members import check_alike
from topwork.models.weights import WeightsSource, load_strictly, read_tensors
from topwork.models.zoo import ZOO, zoo_network, zoo_spec
from topwork.spec import InputSpec

__all__ = [
    "batchnorms",
    "bn_eps",
    "create_network",
    "default_spec",
    "hub_licence",
    "hub_repository",
    "load_network",
    "nearest_names",
    "network_families",
    "padding",
    "unfit_size",
]


def hub_repository(name: str) -> str | None:
    """The hub repository of a network's default weights, or None.

    Raises:
        RecipeError: if timm has no such network.
    """
    repository: str | None = None if name in ZOO else _config(name).hf_hub_id
    return repository


def hub_licence(network: nn.Module) -> str | None:
    """The licence that timm states for its default weights of a network."""
    licence: str | None = cast(Any, network).pretrained_cfg.get("license")
    return licence


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


def create_network(source: WeightsSource, spec: InputSpec, *, seed: int = 0) -> nn.Module:
    """A network without classifier, with random weights, the same for a seed; it pads and counts as the source says.

    Raises:
        RecipeError: if there is no such network, the size does not fit it, or networks cannot stand side by side.
        WeightsError: if the network cannot pad as the weights need.
    """
    if not source.members:
        return _create_one(source, spec, seed=seed)
    networks = {member.name: create_network(member, spec, seed=seed) for member in source.members}
    for what, facts in (("padding", padding), ("epsilon of BatchNorm", bn_eps)):
        check_alike({name: facts(network) for name, network in networks.items()}, what=f"the {what}")
    with torch.device("meta"):  # shapes cost neither time nor memory, whatever size a bundle names
        blueprints = {member.name: create_network(member, spec) for member in source.members}
        try:
            widths = stage_widths(blueprints, size=spec.size)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise unfit_size(source.name, spec.size, reason=str(error)) from None
    return JoinedNetwork(list(networks.values()), names=list(networks), widths=widths)


def _create_one(source: WeightsSource, spec: InputSpec, *, seed: int) -> nn.Module:
    wanted = source.metadata.padding
    try:
        network = _first_accepted(source.name, spec, options={}, seed=seed)
        if wanted is not None and wanted != padding(network):
            options = {"pad_type": "same" if wanted == "same" else ""}
            network = _first_accepted(source.name, spec, options=options, seed=seed)
    except TypeError as error:
        if "pad_type" in str(error):
            raise WeightsError(
                f"The weights {source.path or source.label} need {wanted!r} padding, which {source.name} cannot do.",
                fix="use weights without that metadata key, or another network.",
            ) from None
        raise unfit_size(source.name, spec.size, reason=str(error)) from None
    except (AssertionError, RuntimeError, ValueError) as error:
        raise unfit_size(source.name, spec.size, reason=str(error)) from None
    _check_patches(network, spec, name=source.name)
    if source.metadata.bn_eps is not None:
        for module in batchnorms(network):
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


def padding(network: nn.Module) -> Literal["same", "symmetric"]:
    """How strided convolutions pad."""
    pads_like_tensorflow = any(type(module).__name__ == "Conv2dSame" for module in network.modules())
    return "same" if pads_like_tensorflow else "symmetric"


def unfit_size(name: str, size: int, *, reason: str) -> RecipeError:
    """What to raise where a network refuses pictures of a size."""
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


def load_network(network: nn.Module, source: WeightsSource) -> None:
    """Load the tensors of a source that has a file, strictly; of networks side by side, each its own.

    Raises:
        WeightsError: if the file is damaged or holds another network.
    """
    if isinstance(network, JoinedNetwork):
        for member, own in zip(network.members, source.members, strict=True):
            load_network(member, own)
        return
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


def batchnorms(network: nn.Module) -> Iterator[nn.BatchNorm2d]:
    """Every BatchNorm."""
    return (module for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def bn_eps(network: nn.Module) -> float | None:
    """The epsilon of its BatchNorms, or None if it has none."""
    return next((module.eps for module in batchnorms(network)), None)
