"""Which rows are computed when: phase 1 answers before augmented views and test photos are touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from topwork.data.manifest import PARTS, Manifest
from topwork.data.scan import scan
from topwork.data.split import split
from topwork.progress import silent
from topwork.recipe import Recipe, load_recipe
from topwork.workflow.cached_views import all_views, clean_items, clean_views, head_first
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
