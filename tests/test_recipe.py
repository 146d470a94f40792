"""Recipes: one default, a round trip, and errors that name the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from topwork.errors import RecipeError
from topwork.recipe import Recipe, load_recipe, packaged_recipes


def test_the_default_recipe_is_the_default_of_the_class() -> None:
    assert load_recipe("default") == Recipe()


@pytest.mark.parametrize("name", sorted(packaged_recipes()))
def test_toml_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name, ["phase2.train=['blocks.5', 'blocks.6']", "data.image_size=160"])
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert load_recipe(path) == recipe


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("default", ["phase2.epoch=3"])
    assert "phase2.epochs" in caught.value.fix
