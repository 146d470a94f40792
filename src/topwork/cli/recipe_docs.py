"""`docs/reference/recipe.md`, written from the recipe's own fields and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from topwork.recipe import Augment, Recipe, packaged_recipes

__all__ = ["meanings", "recipe_reference", "sections"]

_INTRO = """# Recipes

Made by `make docs` from the recipe's own fields; `make check` compares.

A recipe is a TOML file with every choice of one experiment. It is named by `--recipe`: a packaged name, or the path of
a file of your own. `--set SECTION.KEY=VALUE` changes a single choice, and may be repeated:

```
topwork fit photos/ --recipe my-recipe.toml
topwork fit photos/ --recipe best --set phase2.epochs=6 --set data.augment.rotate=0
```

`--set KEY=none` leaves a key out again (but for `weights`, `train` and `imbalance`, where `none` is a value).

A file names only what it chooses. A section that is left out is that of the recipe `default`; in a section that is
there, a key that is left out has the value of the column *left out*. What was carried out in the end stands in
`RUN/recipe.toml`, which is itself a recipe."""


def sections() -> dict[str, type[BaseModel]]:
    """Heading -> the model that holds its keys; the two phases share one."""
    found: dict[str, type[BaseModel]] = {}
    for name, field in Recipe.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        found[name] = model
        if name == "data":
            found["data.augment"] = Augment
    shared = found.pop("phase2")
    assert shared is found["phase1"], "both phases take the same keys"
    return {("phase1` and `phase2" if name == "phase1" else name): model for name, model in found.items()}


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> what its entry under `Args:` in the model's docstring says."""
    _, _, entries = inspect.cleandoc(model.__doc__ or "").partition("Args:\n")
    found: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", entries):
        names, colon, text = entry.strip().partition(": ")
        if colon:
            found |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return found


def recipe_reference() -> str:
    """The page as Markdown."""
    return "\n\n".join([_INTRO, _packaged(), *(_section(name, model) for name, model in sections().items())]) + "\n"


def _packaged() -> str:
    files = packaged_recipes()
    rows = [f"| `{name}` | {_headline(path.read_text(encoding='utf-8'))} |" for name, path in files.items()]
    default = "\n".join(
        line for line in files["default"].read_text(encoding="utf-8").splitlines() if not line.startswith("#")
    )
    return (
        "\n".join(
            ["## Packaged recipes", "", "| name | what it is |", "|---|---|", *rows, "", "`default` as a file:", ""]
        )
        + f"\n```toml\n{default}\n```"
    )


def _headline(text: str) -> str:
    """The first sentence of the comment that a recipe begins with."""
    comment = " ".join(line.lstrip("# ") for line in text.splitlines() if line.startswith("#"))
    return re.split(r"(?<=\.) ", comment)[0]


def _section(name: str, model: type[BaseModel]) -> str:
    said, schema = meanings(model), model.model_json_schema()
    summary = inspect.cleandoc(model.__doc__ or "").splitlines()[0]
    rows = [
        f"| `{key}` | {_values(schema['properties'][key])} | {_left_out(field.default)} | {said[key]} |"
        for key, field in model.model_fields.items()
        if key != "augment"
    ]
    return "\n".join(
        [f"## `{name}`", "", summary, "", "| key | values | left out | meaning |", "|---|---|---|---|", *rows]
    )


def _left_out(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _values(schema: Mapping[str, Any]) -> str:
    """What a key takes, from its JSON schema."""
    return " or ".join(dict.fromkeys(_kinds(schema)))


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    for other in schema.get("anyOf", ()):
        yield from _kinds(other)
    kind = schema.get("type")
    if "enum" in schema:
        yield ", ".join(f"`{value}`" for value in schema["enum"])
    elif kind in ("integer", "number"):
        yield f"{'whole number' if kind == 'integer' else 'number'}{_bounds(schema)}"
    elif kind == "array":
        inner = schema.get("items", {})
        yield f"list of {_values(inner)}" if inner.get("type") != "array" else "list of pairs"
    elif kind in ("string", "boolean"):
        yield {"string": "text", "boolean": "true, false"}[kind]


def _bounds(schema: Mapping[str, Any]) -> str:
    words = {"minimum": "≥ ", "exclusiveMinimum": "> ", "maximum": "≤ ", "exclusiveMaximum": "< "}
    said = [f"{sign}{schema[bound]:g}" for bound, sign in words.items() if bound in schema]
    return f" {', '.join(said)}" if said else ""
