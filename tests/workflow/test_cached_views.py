"""Which rows are computed when: phase 1 answers before augmented views and test photos are touched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.data.manifest import PARTS, Manifest
from topwork.data.scan import scan
from topwork.data.split import split
from topwork.progress import silent
from topwork.recipe import Recipe, load_recipe
from topwork.training import activations
from topwork.training.activations import ActivationCache
from topwork.workflow.cached_views import all_views, clean_items, clean_views, head_first, views_that_fit
from topwork.workflow.fit_manifest import experiment_for
from topwork.workflow.prepare import extractor_for, network_for
from topwork.workflow.training import Experiment


@pytest.fixture
def manifest(drawn_photos: Path) -> Manifest:
    return split(scan(drawn_photos), shares=(0.6, 0.2, 0.2), seed=0)


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "cache"))


def recipe_of(tiny: tuple[str, ...], *settings: str) -> Recipe:
    return load_recipe("default", [*tiny, "data.views=fixed:2", *settings])


def experiment_of(recipe: Recipe, manifest: Manifest) -> Experiment:
    network = network_for(recipe)
    return experiment_for(recipe, manifest, network=network, extractor=extractor_for(recipe, network, progress=silent))


def test_the_first_answer_needs_clean_views_of_training_and_validation_photos(
    tiny: tuple[str, ...], manifest: Manifest
) -> None:
    recipe = recipe_of(tiny)
    first = experiment_of(recipe, manifest)
    early = len(clean_items(recipe, manifest, parts=("train", "val")))
    assert first.extractor.work.computed == early == 2 * len(manifest.part("train") + manifest.part("val"))
    whole = first.completed()
    test, augmented = 2 * len(manifest.part("test")), 2 * len(manifest.part("train"))
    assert whole.extractor.work.computed == early + test + augmented
    assert whole.extractor.work.cached == 0
    assert whole.rest is None
    assert whole.completed() is whole
    assert whole.activations is not None
    for views in (whole.pooled, whole.activations):
        assert views.count == 2
        for part in whole.parts.filled().values():
            assert all((part.rows(views.clean, view) >= 0).all() for view in views.judged)


def test_early_rows_are_the_same_rows(
    tiny: tuple[str, ...], manifest: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tiny)
    whole = experiment_of(recipe, manifest).completed()
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path / "another"))
    extractor = extractor_for(recipe, network_for(recipe), progress=silent)
    clean = clean_views(recipe, extractor, manifest=manifest, parts=PARTS)
    at_once, _ = all_views(recipe, extractor, manifest=manifest, clean=clean, progress=silent)
    for part in whole.parts.filled().values():
        for view in whole.pooled.judged:
            names = [(name, view) for name in part.names]
            found, expected = whole.pooled.clean.read(names), at_once.clean.read(names)
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "early"),
    [
        ((), True),
        (("phase1.views=clean",), True),
        (("phase1.views=augmented",), False),
        (("loss.imbalance=auto",), False),
        (("phase2.epochs=0",), False),
        (("phase1.train=none", "phase2.train=all"), False),
    ],
)
def test_it_is_early_where_phase_1_needs_no_more(tiny: tuple[str, ...], settings: tuple[str, ...], early: bool) -> None:
    recipe = recipe_of(tiny, *settings)
    assert head_first(recipe, network_for(recipe)) is early


@pytest.mark.parametrize(("free", "views"), [(0, 0), (1_000_000_000, 0), (10**12, 6)])
def test_a_nearly_full_disk_leaves_views_out_and_nothing_breaks(
    tiny: tuple[str, ...], manifest: Manifest, monkeypatch: pytest.MonkeyPatch, free: int, views: int
) -> None:
    recipe = load_recipe("default", tiny)
    network = network_for(recipe)
    clean_views(recipe, extractor_for(recipe, network, progress=silent), manifest=manifest, parts=PARTS)
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    extractor = extractor_for(recipe, network, progress=silent)
    clean = clean_views(recipe, extractor, manifest=manifest, parts=PARTS)
    found, _ = all_views(recipe, extractor, manifest=manifest, clean=clean, progress=silent)
    assert found.count == min(views, recipe.phase2.epochs)


def test_views_that_are_cached_already_need_no_room(
    tiny: tuple[str, ...], manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("default", [*tiny, "phase2.epochs=2"])
    whole = experiment_of(recipe, manifest).completed()
    assert whole.pooled.count == 2
    monkeypatch.setattr(activations.shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    again = experiment_of(recipe, manifest).completed()
    assert (again.pooled.count, again.extractor.work.computed) == (2, 0)


@given(
    missing=st.lists(st.integers(0, 50), max_size=8),
    room=st.integers(0, 500),
    limit=st.integers(0, 1000),
)
def test_as_many_views_as_fit_first_ones_first(missing: list[int], room: int, limit: int) -> None:
    cache = SimpleNamespace(room=lambda: room, limit=limit)
    count = views_that_fit(missing, row_bytes=3, cache=cast("ActivationCache", cache))
    bound = min(room, limit // 2)
    assert 3 * sum(missing[:count]) <= bound
    assert count == len(missing) or 3 * sum(missing[: count + 1]) > bound


def test_the_trunk_gets_a_network_that_training_does_not_change(tiny: tuple[str, ...]) -> None:
    network = network_for(load_recipe("default", tiny))
    assert network.build() is network.build()
    assert network.request().build() is not network.build()
