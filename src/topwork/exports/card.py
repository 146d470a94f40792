"""`ModelCard`: what a bundle says about itself, `model.json`. Knows nothing about tensors or torch.

The file may come from anywhere, so it is read strictly: a size cap, every key known, every value in range.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, field_validator

from topwork.errors import BundleError
from topwork.models.weights import Provenance
from topwork.recipe import HeadChoice
from topwork.spec import InputSpec

__all__ = [
    "CARD_NAME",
    "WEIGHTS_NAME",
    "BackboneCard",
    "InputCard",
    "ModelCard",
    "WeightsCard",
    "find_bundle",
    "read_card",
]

CARD_NAME, WEIGHTS_NAME = "model.json", "model.safetensors"

_CARD_BYTES = 16 * 2**20
_WRITE_AGAIN = "copy the folder again, or write it again with `topwork fit`."
_Text = Annotated[str, Field(max_length=1000)]
_Triple = tuple[float, float, float]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputCard(_Part):
    """The input, as in `InputSpec`."""

    size: Annotated[int, Field(ge=16, le=4096)]
    mean: _Triple
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    interpolation: Literal["bicubic", "bilinear"]
    crop: Annotated[float, Field(gt=0, le=1)]


class BackboneCard(_Part):
    """What rebuilds the network without its source of weights, and what that source was.

    Args:
        name: the network, or several joined by `+`.
        padding, bn_eps: what the pretrained weights need.
        kind, source, digest, licence: of the pretrained weights; kind `none` began with random numbers.
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.+\-]*$", max_length=512)]
    padding: Literal["same", "symmetric"]
    bn_eps: Annotated[float, Field(gt=0, lt=1)] | None
    kind: Literal["packaged", "file", "hub", "none"]
    source: _Text
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    licence: _Text | None


class WeightsCard(_Part):
    """The tensors' file."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    bytes: Annotated[int, Field(ge=8, le=8 * 2**30)]


class ModelCard(_Part):
    """All of `model.json`.

    Args:
        format, version: of this file.
        topwork: the version that wrote it.
        classes: in the order of the logits.
        backbone, input, head: what the network is.
        mirror: whether a picture's logits are the mean of its own and its mirror image's.
        temperature: logits are divided by it before the softmax.
        precision: that the trunk ran in when this model was trained and measured.
        weights: the file beside this one.
        plan: which layers were trained, in words.
        recipe, provenance: of the run.
    """

    format: Literal["topwork bundle"] = "topwork bundle"
    version: Literal[1] = 1
    topwork: _Text
    classes: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=500)], ...], Field(min_length=2)]
    backbone: BackboneCard
    input: InputCard
    head: HeadChoice
    mirror: bool = False
    temperature: Annotated[float, Field(gt=0, le=1000)]
    precision: Literal["f32", "bf16"]
    weights: WeightsCard
    plan: Annotated[str, Field(max_length=100_000)]
    recipe: dict[str, JsonValue]
    provenance: dict[str, JsonValue]

    @field_validator("classes")
    @classmethod
    def _classes_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            raise ValueError("every class must be named once")
        return value

    @field_validator("head")
    @classmethod
    def _head_is_shallow(cls, value: HeadChoice) -> HeadChoice:
        if len(value.hidden) > 64:
            raise ValueError("a head may have at most 64 hidden layers")
        return value

    @property
    def spec(self) -> InputSpec:
        """The input."""
        return InputSpec(**self.input.model_dump())

    @property
    def pretrained(self) -> Provenance:
        """Where the backbone's numbers came from before training."""
        facts = self.backbone.model_dump(exclude={"name"})
        return Provenance(**facts, path=None, mean=self.input.mean, std=self.input.std)


def find_bundle(model: str | Path) -> Path:
    """The bundle's folder: the one given, or `model` inside a run folder.

    Raises:
        BundleError: if there is none.
    """
    path = Path(model)
    for folder in (path, path / "model"):
        if (folder / CARD_NAME).is_file():
            return folder
    fix = f"give a run folder, or a folder with {CARD_NAME} and {WEIGHTS_NAME}."
    if not path.exists():
        raise BundleError(f"There is no model {str(path)!r}.", fix=fix)
    if not path.is_dir():
        raise BundleError(
            f"A model must be a folder; files, and pickles above all, are never loaded. Got {path}.", fix=fix
        )
    raise BundleError(f"The folder {path} holds no model: it has no {CARD_NAME}.", fix=fix)


def read_card(folder: Path) -> ModelCard:
    """Read and check `model.json`.

    Raises:
        BundleError: if it is missing, too large, no JSON, or says anything that a bundle cannot say.
    """
    path = folder / CARD_NAME
    try:
        with path.open("rb") as stream:
            content = stream.read(_CARD_BYTES + 1)
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}.", fix=_WRITE_AGAIN) from None
    if len(content) > _CARD_BYTES:
        raise BundleError(f"{path} must have at most {_CARD_BYTES:,} bytes. Got more.", fix=_WRITE_AGAIN)
    try:
        return ModelCard.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise _explained(path, error.errors()[0]) from None


def _explained(path: Path, first: Any) -> BundleError:
    where = ".".join(str(part) for part in first["loc"]) or "content"
    reason = first["msg"].removeprefix("Value error, ")
    got = repr(first["input"])
    shown = got if len(got) <= 80 else f"{got[:77]}..."
    fix = "update topwork: a newer one wrote this." if where == "version" else _WRITE_AGAIN
    return BundleError(f"The {where} of {path} does not fit: {reason[:1].lower()}{reason[1:]}. Got {shown}.", fix=fix)
