"""`Recipe`: every choice of one experiment, frozen, TOML in and out. Knows not how they are carried out."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from topwork.errors import RecipeError
from topwork.recipe_text import explained, parse_setting, to_toml

__all__ = [
    "Augment",
    "BackboneChoice",
    "DataChoice",
    "EngineChoice",
    "HeadChoice",
    "LossChoice",
    "Phase",
    "Recipe",
    "StopChoice",
    "load_recipe",
    "packaged_recipes",
    "split_shares",
]

_Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Choice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Augment(_Choice):
    """Random changes of a training view; every one off at 0.

    Args:
        rotate: largest angle in degrees, either way.
        shift: largest shift as a share of the side, either way.
        zoom: the scale is drawn log-uniformly from [1 / (1 + zoom), 1 + zoom].
        shear: largest shear angle in degrees, either way.
        perspective: largest corner displacement as a share of the side.
        flip: probability of a left-right flip.
        brightness, contrast, saturation: largest relative change, either way.
        erase: probability that a random rectangle is filled with noise.
    """

    rotate: Annotated[float, Field(ge=0, le=180)] = 15.0
    shift: _Share = 0.08
    zoom: Annotated[float, Field(ge=0, le=3)] = 0.25
    shear: Annotated[float, Field(ge=0, le=45)] = 5.0
    perspective: Annotated[float, Field(ge=0, le=0.4)] = 0.0
    flip: _Share = 0.5
    brightness: _Share = 0.2
    contrast: _Share = 0.2
    saturation: _Share = 0.2
    erase: _Share = 0.0


class DataChoice(_Choice):
    """What the network sees and how the photos are divided.

    Args:
        image_size: side of the input in pixels; left out, the backbone's own.
        crop: share of the short side that the centre crop keeps; left out, the backbone's own.
        split: shares of train/validation/test in percent.
        folds: of the cross-validation that gives the headline where the split has no test part; 0 leaves it out.
        seed: of the split, of random weights, and of all that is drawn in training.
        group_by: rules for what must stay on one side of the split, beside duplicates and bursts: `folder`, `time`,
            `time:SECONDS`, or a regular expression that is searched for in the path; one, or a list.
        augment: random changes of training views.
        views: `fixed:K` caches K augmented views of every photo, `fresh` draws new ones every epoch,
            `auto` forecasts time and disk and picks; `fixed:0` trains on the clean view only.
        mirror: judge every photo together with its mirror image, here and wherever the model is used.
    """

    image_size: Annotated[int, Field(ge=16, le=1024)] | None = None
    crop: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    split: str = "80/10/10"
    folds: Annotated[int, Field(ge=0, le=100)] = 5
    seed: int = 0
    group_by: tuple[str, ...] = ()
    augment: Augment = Augment()
    views: str = "auto"
    mirror: bool = False

    @field_validator("split")
    @classmethod
    def _split_has_three_shares(cls, value: str) -> str:
        split_shares(value)
        return value

    @field_validator("group_by", mode="before")
    @classmethod
    def _one_rule_is_a_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("group_by")
    @classmethod
    def _rules_can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for rule in value:
            try:
                re.compile(rule)
            except re.error as error:
                raise ValueError(f"must be folder, time, time:SECONDS or a regular expression; {error}") from None
        return value

    @field_validator("folds")
    @classmethod
    def _one_fold_is_none(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be 0 or at least 2")
        return value

    @field_validator("views")
    @classmethod
    def _views_are_known(cls, value: str) -> str:
        count = value.removeprefix("fixed:")
        if value in ("auto", "fresh") or (value.startswith("fixed:") and count.isdigit()):
            return value
        raise ValueError("must be 'auto', 'fresh' or 'fixed:K' with K a number of views")


class BackboneChoice(_Choice):
    """The pretrained network.

    Args:
        name: a timm network, or topwork's `efficientnet_lite0`; or several that stand side by side, joined by `+`.
        weights: `packaged` takes what is on this machine (a package, the folder `TOPWORK_WEIGHTS`, the hub's cache) and
            never downloads; `hub` downloads once from Hugging Face; `none` is random; else the path of a safetensors
            file.
    """

    name: str = "efficientnet_lite0"
    weights: str = "packaged"


class HeadChoice(_Choice):
    """The new classifier on top: pooled features -> hidden layers -> one logit a class.

    Args:
        kind: `kernel` compares a photo with stored training photos; it is solved in closed form, and where phase 2
            trains what is below it, a linear head leads that phase and the kernel is solved on its result.
        landmarks: most training photos that a kernel stores.
        hidden: units of each dense layer before the last one of a linear head, e.g. `[256]`.
        dropout: share of the inputs of each layer of a linear head that training leaves out.
        batchnorm: BatchNorm after each hidden layer.
    """

    kind: Literal["linear", "kernel"] = "linear"
    landmarks: Annotated[int, Field(ge=2, le=16_384)] = 4096
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = ()
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    batchnorm: bool = False


class Phase(_Choice):
    """How one phase trains.

    Args:
        train: `all`, `top-N blocks`, `top-N layers`, or a list of block names: these and the head; `gradual`: the top
            block, then one more below every `unfreeze_every` epochs; `head`: the head alone, by phase 1 on cached
            features (phase 2 is then skipped); `none` skips the phase.
        unfreeze_every: epochs between two blocks that `gradual` opens.
        views: of the photos, for a phase 1 that trains the head: `clean`, `augmented`, or `auto`, which takes augmented
            ones where no phase 2 follows.
        epochs: passes over the training photos, an upper bound for `lbfgs`; 0 skips the phase.
        optimizer: `lbfgs` solves the head to convergence on cached features; `train` must be `head`.
        batch_size: photos of one training step.
        lr: peak learning rate.
        momentum: of sgd.
        weight_decay: L2 of `lbfgs` (left out: chosen on the validation part), decoupled decay of adamw, L2 of the
            others.
        schedule: factor on the learning rate, set at every step: `one-cycle` rises and falls, `cosine`
            falls after a warm-up, `step` divides by ten after each third.
        warmup: share of all steps, for `one-cycle` and `cosine`.
        clip_norm: largest gradient norm; left out, nothing is clipped.
        batchnorm: `frozen` keeps the running statistics, `update` lets those that train move.
        layer_decay: each block below the head learns at this factor of the block above it.
        ema: decay per step of the exponential moving average of the weights; 0 turns it off.
        mixup: a of the Beta(a, a) that says how two photos' activations are mixed; 0 turns it off.
        cutmix: the same, for a rectangle of one photo's activations that replaces that of the other; 0 turns it off.
        replanned: pairs (a, b): when a epochs were done, b in all were left to the plan. Written by a fit with a time
            budget, so that it can be repeated without the clock.
    """

    train: str | tuple[str, ...] = "head"
    unfreeze_every: Annotated[int, Field(ge=1)] = 1
    views: Literal["auto", "clean", "augmented"] = "auto"
    epochs: Annotated[int, Field(ge=0, le=10_000)] = 100
    optimizer: Literal["sgd", "adam", "adamw", "lbfgs"] = "adamw"
    batch_size: Annotated[int, Field(ge=2, le=4096)] = 64
    lr: Annotated[float, Field(gt=0.0)] = 1e-3
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    weight_decay: Annotated[float, Field(ge=0.0)] | None = None
    schedule: Literal["constant", "one-cycle", "cosine", "step"] = "one-cycle"
    warmup: _Share = 0.3
    clip_norm: Annotated[float, Field(gt=0.0)] | None = None
    batchnorm: Literal["frozen", "update"] = "frozen"
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    ema: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    mixup: Annotated[float, Field(ge=0.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0)] = 0.0
    replanned: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]], ...] = ()


class LossChoice(_Choice):
    """Cross-entropy, smoothed, and what is done about unequal classes.

    Args:
        label_smoothing: share of the target that is spread over all classes.
        imbalance: `weights` (rare classes count more), `sampler` (they are drawn more), `focal` (hard photos count
            more), `logit-adjust` (learns beside the classes' shares), or `auto`: whichever gives a head on cached
            features the highest validation macro-F1.
    """

    label_smoothing: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    imbalance: Literal["none", "weights", "sampler", "focal", "logit-adjust", "auto"] = "none"


class StopChoice(_Choice):
    """Which epoch is kept and when training ends early.

    Args:
        metric: higher is better; ties are broken by the lower validation NLL.
        patience: epochs without improvement before the phase ends.
        keep: `best` packs the epoch with the highest metric, `last` the last one.
    """

    metric: Literal["macro_f1", "accuracy"] = "macro_f1"
    patience: Annotated[int, Field(ge=1)] = 5
    keep: Literal["best", "last"] = "best"


class EngineChoice(_Choice):
    """What runs the frozen trunk, and in which precision.

    Args:
        trunk: `openvino`, `torch`, or `auto`: OpenVINO, where the network converts and agrees with PyTorch.
        precision: `f32`, `bf16`, or `auto`: bf16, where the processor computes in it and the features agree.
    """

    trunk: Literal["auto", "openvino", "torch"] = "auto"
    precision: Literal["auto", "f32", "bf16"] = "auto"


class Recipe(_Choice):
    """Every choice of one experiment."""

    data: DataChoice = DataChoice(mirror=True)
    backbone: BackboneChoice = BackboneChoice()
    head: HeadChoice = HeadChoice(kind="kernel")
    phase1: Phase = Phase(optimizer="lbfgs")
    phase2: Phase = Phase(
        train="top-3 blocks",
        epochs=6,
        batch_size=32,
        lr=2.5e-4,
        weight_decay=0.05,
        schedule="cosine",
        warmup=0.2,
        clip_norm=5.0,
        layer_decay=0.8,
        ema=0.99,
    )
    loss: LossChoice = LossChoice(label_smoothing=0.1)
    stop: StopChoice = StopChoice()
    engine: EngineChoice = EngineChoice()

    def to_toml(self) -> str:
        """The recipe as TOML; `load_recipe` reads it back to an equal recipe."""
        return to_toml(self.model_dump(exclude_none=True))

    def replace(self, settings: Mapping[str, Any]) -> Recipe:
        """A new recipe with dotted keys changed, e.g. `{"phase2.epochs": 4}`.

        Raises:
            RecipeError: if a key is unknown or a value does not fit.
        """
        tree = self.model_dump(exclude_none=True)
        for dotted, value in settings.items():
            *parents, leaf = dotted.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
                if not isinstance(node, dict):
                    raise RecipeError(f"{dotted!r} is no recipe key.", fix="use SECTION.KEY, e.g. phase2.epochs.")
            if value is None:
                node.pop(leaf, None)
            else:
                node[leaf] = value
        return _validated(tree)


def split_shares(split: str) -> tuple[float, float, float]:
    """Shares of train, validation and test, each in [0, 1], summing to 1.

    Raises:
        ValueError: if the text is not three percentages that sum to 100 with a training part.

    Example:
        >>> split_shares("75/10/15")
        (0.75, 0.1, 0.15)
    """
    try:
        train, val, test = (float(part) for part in split.split("/"))
    except ValueError:
        raise ValueError("must be three percentages like '80/10/10'") from None
    if train <= 0 or min(val, test) < 0 or abs(train + val + test - 100) > 1e-6:
        raise ValueError("must be three percentages that sum to 100, like '80/10/10'")
    return train / 100, val / 100, test / 100


def packaged_recipes() -> dict[str, Path]:
    """Names and files of the recipes that ship with topwork."""
    folder = Path(__file__).parent / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(source: str | Path, settings: Sequence[str] = ()) -> Recipe:
    """Read a recipe by name or file and apply `KEY=VALUE` settings.

    Args:
        source: the name of a packaged recipe, or the path of a TOML file.
        settings: texts like `phase2.epochs=4`; values are TOML, bare words are taken as strings.

    Raises:
        RecipeError: if there is no such recipe, a key is unknown (the nearest one is named), or a value does not fit.
    """
    packaged = packaged_recipes()
    path = packaged.get(str(source)) or Path(source)
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        nearest = difflib.get_close_matches(str(source), packaged, n=1)
        hint = f"did you mean {nearest[0]!r}? " if nearest else ""
        raise RecipeError(
            f"There is no recipe {str(source)!r}.",
            fix=f"{hint}packaged are {', '.join(packaged)}; or give a TOML file.",
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(f"The recipe {str(path)!r} cannot be read: {error}.", fix="correct the TOML file.") from None
    recipe = _validated(tree)
    return recipe.replace(dict(parse_setting(setting) for setting in settings)) if settings else recipe


def _validated(tree: dict[str, Any]) -> Recipe:
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise explained(error, Recipe) from None
