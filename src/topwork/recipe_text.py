"""A recipe's text: TOML out, `KEY=VALUE` settings in, and what is wrong with a value, in words. Knows no key."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from topwork.errors import RecipeError

__all__ = ["explained", "parse_setting", "to_toml"]


def to_toml(tree: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections of plain values as TOML.

    Example:
        >>> print(to_toml({"stop": {"patience": 5, "metric": "accuracy"}}), end="")
        [stop]
        patience = 5
        metric = "accuracy"
    """
    return "\n".join(_toml_tables(tree))


def parse_setting(setting: str) -> tuple[str, Any]:
    """`KEY=VALUE` -> the dotted key and its value: TOML, or a bare word; `none` where a key has no such word is None.

    Raises:
        RecipeError: without a key or an equals sign.

    Example:
        >>> parse_setting("phase2.epochs=4"), parse_setting("backbone.weights=none")
        (('phase2.epochs', 4), ('backbone.weights', 'none'))
    """
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set needs KEY=VALUE. Got {setting!r}.", fix="write e.g. --set phase2.epochs=4.")
    text = text.strip()
    if (
        text.lower() == "none"
        and key.strip() != "backbone.weights"
        and not key.strip().endswith(("train", "imbalance"))
    ):
        return key.strip(), None
    try:
        return key.strip(), tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), text


def explained(error: ValidationError, model: type[BaseModel]) -> RecipeError:
    """What is wrong first, in a sentence; an unknown key is answered with the nearest one of the model."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    dotted = ".".join(where)
    if first["type"] == "extra_forbidden":
        known = _known_keys(model)
        nearest = difflib.get_close_matches(dotted, known, n=1, cutoff=0.4)
        fix = f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}."
        return RecipeError(f"The recipe has no key {dotted!r}.", fix=fix)
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return RecipeError(
        f"The recipe's {dotted!r} does not fit: {reason}. Got {first['input']!r}.", fix=f"change {dotted}."
    )


def _known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys: list[str] = []
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += [prefix + name, *_known_keys(kind, f"{prefix}{name}.")]
        else:
            keys.append(prefix + name)
    return keys


def _toml_tables(tree: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for section, values in tree.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in values.items()]
        lines.append("")
    return lines


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_toml_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    return repr(value)
