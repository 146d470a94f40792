"""`Bundle`: the deployable model, a folder with `model.safetensors` and `model.json`; never a pickle.

A bundle is validated before use. In this order: the JSON; the file's size and digest; the tensors' names; names and
shapes against the network, built without memory; dtypes and finite values. Only then is the network built.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from topwork.atomic import write_text
from topwork.digest import digest, file_sha256
from topwork.errors import BundleError, RecipeError, WeightsError
from topwork.exports.card import (
    CARD_NAME,
    WEIGHTS_NAME,
    BackboneCard,
    InputCard,
    ModelCard,
    WeightsCard,
    find_bundle,
    read_card,
)
from topwork.models.backbone import rebuild_backbone
from topwork.models.classifier import Classifier
from topwork.models.head import build_head, choice_of
from topwork.recipe import HeadChoice
from topwork.spec import InputSpec

__all__ = ["Bundle", "BundleFacts", "read_bundle", "write_bundle"]

_HEADER_BYTES = 16 * 2**20
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_\-]*(\.[A-Za-z0-9_][A-Za-z0-9_\-]*)*")
_COPY_AGAIN = "copy the folder again, or write it again with `topwork fit`; do not use it as it is."


@dataclass(frozen=True, kw_only=True)
class BundleFacts:
    """What a bundle says beside its tensors; the fields of `ModelCard` that the classifier does not know."""

    classes: tuple[str, ...]
    head: HeadChoice
    temperature: float
    precision: Literal["f32", "bf16"]
    plan: str
    recipe: Mapping[str, Any]
    provenance: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Bundle:
    """A model that may be used.

    Args:
        folder: where it was read from.
        card: all that it says about itself.
        classifier: uint8 pictures (N,H,W,3) -> logits (N,K), on the CPU, in evaluation mode.
    """

    folder: Path
    card: ModelCard
    classifier: Classifier

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the logits."""
        return self.card.classes

    @property
    def spec(self) -> InputSpec:
        """The input."""
        return self.card.spec

    @property
    def from_scratch(self) -> bool:
        """Whether training began with random numbers, not with a pretrained backbone."""
        return self.card.backbone.kind == "none"


def write_bundle(folder: Path, classifier: Classifier, *, facts: BundleFacts) -> ModelCard:
    """Write a bundle; a bundle that is there already is replaced as a whole.

    Args:
        folder: new, empty, or a bundle.
        classifier: on any device; unchanged.
        facts: what the card says.

    Returns:
        The card as written.

    Raises:
        BundleError: if the weights are not finite, the facts do not fit the network, or the folder holds other things.
    """
    if folder.exists() and not (folder / CARD_NAME).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BundleError(f"The folder {folder} must be new, empty or a bundle.", fix="choose another folder.")
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}
    for name, tensor in tensors.items():
        _check_finite(name, tensor, where="the classifier")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
    try:
        draft.chmod(0o755)  # mkdtemp makes folders that only the owner can enter
        save_file(tensors, draft / WEIGHTS_NAME)
        _flush(draft / WEIGHTS_NAME)
        card = _card(draft / WEIGHTS_NAME, classifier, facts=facts)
        _check_names(tensors, _blueprint(card), where="the classifier")
        write_text(draft / CARD_NAME, card.model_dump_json(indent=2) + "\n")
        _replace(folder, draft)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return card


def _card(weights: Path, classifier: Classifier, *, facts: BundleFacts) -> ModelCard:
    backbone = classifier.backbone
    made = backbone.provenance.to_json()
    keys = ("padding", "bn_eps", "kind", "source", "digest", "licence")  # not the path: it says where someone lives
    try:
        return ModelCard(
            topwork=_version(),
            classes=facts.classes,
            backbone=BackboneCard(name=backbone.name, **{key: made[key] for key in keys}),
            input=InputCard(**backbone.spec.to_json()),
            head=choice_of(classifier.head, facts.head),
            mirror=classifier.mirror,
            temperature=facts.temperature,
            precision=facts.precision,
            weights=WeightsCard(sha256=file_sha256(weights), bytes=weights.stat().st_size),
            plan=facts.plan,
            recipe=dict(facts.recipe),
            provenance=dict(facts.provenance),
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"The {where} of a bundle does not fit: {first['msg']}.", fix=f"correct {where}.") from None


def _version() -> str:
    try:
        return version("topwork")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())  # the rename must not become durable before the bytes are


def _replace(folder: Path, draft: Path) -> None:
    """Put the draft in the folder's place; what was there goes only when the draft is complete."""
    if not folder.exists():
        draft.rename(folder)
        return
    old = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".old"))
    folder.rename(old / "bundle")
    draft.rename(folder)
    shutil.rmtree(old)


def read_bundle(model: str | Path) -> Bundle:
    """Read a bundle and check everything about it.

    Args:
        model: a bundle, or a run folder with one in `model`.

    Raises:
        BundleError: if there is none, or anything about it is not as it must be.
    """
    folder = find_bundle(model)
    card = read_card(folder)
    tensors = _checked_tensors(folder / WEIGHTS_NAME, card)
    classifier = _rebuilt(card)
    classifier.load_state_dict(tensors)
    return Bundle(folder=folder, card=card, classifier=classifier.eval())


def _checked_tensors(path: Path, card: ModelCard) -> dict[str, torch.Tensor]:
    _check_file(path, card.weights)
    try:
        with safe_open(path, framework="pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
            unsafe = [name for name in shapes if not _SAFE_NAME.fullmatch(name)]
            if unsafe:
                raise _refused(path, f"the tensor name {unsafe[0][:80]!r} is not made of words and dots")
            expected = _blueprint(card)
            _check_names(shapes, expected, where=str(path))
            tensors = {name: _checked(opened.get_tensor(name), expected[name], name=name, path=path) for name in shapes}
    except SafetensorError as error:
        raise _refused(path, f"it is no safetensors file ({error})") from None
    return tensors


def _check_file(path: Path, stated: WeightsCard) -> None:
    try:
        size = path.stat().st_size
        if size != stated.bytes:
            raise _refused(path, f"it must have {stated.bytes:,} bytes. Got {size:,}")
        found = file_sha256(path)
        with path.open("rb") as stream:
            header = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise _refused(path, f"it cannot be read ({error.strerror})") from None
    if found != stated.sha256:
        raise _refused(path, f"its SHA-256 must begin with {stated.sha256[:12]}. Got {found[:12]}")
    if header > _HEADER_BYTES:
        raise _refused(path, f"its header must have at most {_HEADER_BYTES:,} bytes. Got {header:,}")


def _check_names(found: Mapping[str, Any], expected: Mapping[str, torch.Tensor], *, where: str) -> None:
    """Names and shapes; `found` holds shapes or tensors."""
    if found.keys() != expected.keys():
        wrong = sorted(found.keys() ^ expected.keys())
        kind = "extra" if wrong[0] in found else "missing"
        raise BundleError(f"The tensors of {where} must be the network's. {wrong[0]} is {kind}.", fix=_COPY_AGAIN)
    for name, tensor in expected.items():
        shape = tuple(getattr(found[name], "shape", found[name]))
        if shape != tuple(tensor.shape):
            raise BundleError(
                f"The tensor {name} of {where} must have shape {tuple(tensor.shape)}. Got {shape}.", fix=_COPY_AGAIN
            )


def _checked(tensor: torch.Tensor, expected: torch.Tensor, *, name: str, path: Path) -> torch.Tensor:
    if tensor.dtype != expected.dtype:
        raise _refused(path, f"the tensor {name} must be {expected.dtype}. Got {tensor.dtype}")
    _check_finite(name, tensor, where=str(path))
    return tensor


def _check_finite(name: str, tensor: torch.Tensor, *, where: str) -> None:
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise BundleError(
            f"The tensor {name} of {where} must be finite. Got infinite or undefined values.",
            fix="train again with a lower learning rate, or use another model.",
        )


def _blueprint(card: ModelCard) -> dict[str, torch.Tensor]:
    """The network's tensors without memory: a hostile card cannot fill it."""
    with torch.device("meta"):
        return _rebuilt(card).state_dict()


def _rebuilt(card: ModelCard) -> Classifier:
    identity = digest("bundle", card.weights.sha256, card.input.model_dump(), card.backbone.model_dump())
    try:
        backbone = rebuild_backbone(card.backbone.name, card.spec, provenance=card.pretrained, identity=identity)
    except (RecipeError, WeightsError) as error:
        raise BundleError(f"The network of the bundle cannot be built: {error.what}", fix=error.fix) from None
    head = build_head(card.head, width=backbone.width, classes=len(card.classes))
    return Classifier(backbone, head, mirror=card.mirror)


def _refused(path: Path, reason: str) -> BundleError:
    return BundleError(f"The file {path} must not be trusted: {reason}.", fix=_COPY_AGAIN)
