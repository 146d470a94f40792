"""What is cached is never computed again, and what is computed is what the network says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from topwork.data.batches import Item, read_batches
from topwork.digest import file_sha256
from topwork.errors import ResourceError
from topwork.models.backbone import Backbone, create_backbone
from topwork.models.classifier import normalised_trunk
from topwork.models.engine import TrunkFacts
from topwork.models.trunk import TrunkRequest
from topwork.recipe import Augment, EngineChoice
from topwork.timings import Timings
from topwork.training import extraction as module
from topwork.training.activations import ActivationCache
from topwork.training.extraction import Extractor

CUT = 2


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return create_backbone("test_efficientnet", weights="none", image_size=64)


@pytest.fixture(scope="module")
def items(drawn_photos: Path) -> list[Item]:
    return [Item(path, file_sha256(path)) for path in sorted(drawn_photos.rglob("*.jpg"))[:20]]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 4)


def extractor(folder: Path, backbone: Backbone | None, *, like: Extractor | None = None, **changes: Any) -> Extractor:
    """One whose trunk torch runs; without a backbone it must not build one."""

    def build() -> Backbone:
        assert backbone is not None, "nothing is missing, so nothing is built"
        return backbone

    source = backbone or like.request
    request = TrunkRequest(identity=source.identity, build=build, cut=changes.pop("cut", CUT), spec=source.spec)
    options = {
        "engine": EngineChoice(trunk="torch", precision="f32"),
        "cache": ActivationCache(folder / "rows", limit=10**9),
        "timings": Timings(folder / "t.json"),
        "folder": folder / "graphs",
        **changes,
    }
    return Extractor(request=request, **options)


def names(items: list[Item]) -> list[tuple[str, int]]:
    return [(item.sha256, item.view) for item in items]


def views(items: list[Item], count: int) -> list[Item]:
    return [Item(item.path, item.sha256, view) for item in items for view in range(1, count + 1)]


@pytest.mark.parametrize("augment", [None, Augment()])
def test_rows_are_what_the_network_says_of_the_photo(
    tmp_path: Path, backbone: Backbone, items: list[Item], augment: Augment | None
) -> None:
    wanted = items[:6] if augment is None else views(items[:3], 2)
    pooled, activations = extractor(tmp_path, backbone, seed=3).extract(wanted, augment=augment, activations=True)
    (batch,) = read_batches(wanted, backbone.spec, batch=6, workers=1, augment=augment, seed=3)
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in normalised_trunk(backbone, CUT)(torch.from_numpy(batch.images))]
    for store, value in zip((activations, pooled), expected, strict=True):
        np.testing.assert_allclose(store.read(names(wanted)), value, rtol=2e-3, atol=2e-3 * np.abs(value).max())


def test_a_second_extraction_computes_and_builds_nothing(tmp_path: Path, backbone: Backbone, items: list[Item]) -> None:
    first = extractor(tmp_path, backbone)
    stores = first.extract([*items, *items[:3]], augment=None, activations=True)
    assert (first.work.computed, first.work.cached) == (20, 0)  # repeated items count once
    second = extractor(tmp_path, None, like=FakeLike(backbone))
    again = second.extract(items, augment=None, activations=True)
    assert (second.work.computed, second.work.cached) == (0, 20)
    for a, b in zip(stores, again, strict=True):
        np.testing.assert_array_equal(a.read(names(items)), b.read(names(items)))


class FakeLike:
    """Stands in for an extractor where only the request's facts are asked for."""

    def __init__(self, backbone: Backbone) -> None:
        self.request = backbone


def test_only_what_is_new_is_computed(tmp_path: Path, backbone: Backbone, items: list[Item]) -> None:
    extractor(tmp_path, backbone).extract(items[:7], augment=None, activations=False)
    later = extractor(tmp_path, backbone)
    pooled, none = later.extract(items[::-1], augment=None, activations=False)
    assert none is None
    assert (later.work.computed, later.work.cached) == (13, 7)
    assert len(pooled) == 20


def test_another_augmentation_seed_or_network_shares_no_rows(
    tmp_path: Path, backbone: Backbone, items: list[Item]
) -> None:
    wanted = views(items[:4], 1)
    other = create_backbone("test_efficientnet", weights="none", image_size=96)
    for network, augment, seed in [
        (backbone, Augment(), 0),
        (backbone, Augment(), 1),
        (backbone, Augment(flip=0.4), 0),
        (other, Augment(), 0),
    ]:
        new = extractor(tmp_path, network, seed=seed)
        new.extract(wanted, augment=augment, activations=False)
        assert new.work.computed == 4
    for seed in (0, 1):  # clean views do not depend on the seed
        clean = extractor(tmp_path, backbone, seed=seed)
        clean.extract(items[:4], augment=None, activations=False)
    assert clean.work.computed == 0


def test_a_killed_fill_goes_on_where_it_was(
    tmp_path: Path, backbone: Backbone, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_short(*args: Any, **options: Any) -> Iterator[Any]:
        for batch in read_batches(*args, **options):
            if batch.rows.start == 12:
                raise KeyboardInterrupt
            yield batch

    killed = extractor(tmp_path, backbone)
    killed.facts(items)
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_batches", cut_short)
        with pytest.raises(KeyboardInterrupt):
            killed.extract(items, augment=None, activations=True)
    resumed = extractor(tmp_path, backbone)
    stores = resumed.extract(items, augment=None, activations=True)
    assert (resumed.work.computed, resumed.work.cached) == (8, 12)
    whole = extractor(tmp_path / "whole", backbone).extract(items, augment=None, activations=True)
    for a, b in zip(stores, whole, strict=True):
        np.testing.assert_allclose(a.read(names(items)), b.read(names(items)), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_a_later_cut_comes_from_an_earlier_one(tmp_path: Path, items: list[Item], name: str) -> None:
    network = create_backbone(name, weights="none", image_size=64)
    extractor(tmp_path, network, cut=1).extract(items, augment=None, activations=True)
    later = extractor(tmp_path, network, cut=2)
    _, derived = later.extract(items, augment=None, activations=True)
    assert later.work.computed == 0
    _, direct = extractor(tmp_path / "direct", network, cut=2).extract(items, augment=None, activations=True)
    expected = direct.read(names(items))
    np.testing.assert_allclose(
        derived.read(names(items)), expected, rtol=5e-3, atol=5e-3 * float(np.abs(expected).max())
    )


def test_an_earlier_cut_is_never_taken_from_a_later_one(tmp_path: Path, backbone: Backbone, items: list[Item]) -> None:
    extractor(tmp_path, backbone, cut=2).extract(items[:4], augment=None, activations=True)
    earlier = extractor(tmp_path, backbone, cut=1)
    earlier.extract(items[:4], augment=None, activations=True)
    assert earlier.work.computed == 4


@pytest.mark.parametrize("earlier", [False, True])
def test_what_does_not_fit_under_the_limit_is_an_error_before_any_row(
    tmp_path: Path, backbone: Backbone, items: list[Item], earlier: bool
) -> None:
    if earlier:
        extractor(tmp_path, backbone, cut=1).extract(items, augment=None, activations=True)
    cache = ActivationCache(tmp_path / "rows", limit=10**9)
    cache.limit = sum(summary.bytes for summary in cache.summaries()) + 3000
    tight = extractor(tmp_path, backbone, cut=2, cache=cache)
    with pytest.raises(ResourceError, match="room for"):
        tight.extract(items, augment=None, activations=True)
    assert [summary for summary in cache.summaries() if summary.what == "2"] == []


def test_openvino_fills_the_same_rows(tmp_path: Path, backbone: Backbone, items: list[Item]) -> None:
    choice = EngineChoice(trunk="openvino", precision="f32")
    pooled, _ = extractor(tmp_path, backbone, engine=choice).extract(items[:5], augment=None, activations=False)
    expected, _ = extractor(tmp_path, backbone).extract(items[:5], augment=None, activations=False)
    assert sum(path.is_dir() for path in (tmp_path / "rows").iterdir()) == 2  # engines never share rows
    scale = float(np.abs(expected.read(names(items[:5]))).max())
    np.testing.assert_allclose(
        pooled.read(names(items[:5])), expected.read(names(items[:5])), rtol=2e-3, atol=2e-3 * scale
    )


def test_rows_that_are_added_later_come_from_what_made_the_first_ones(
    tmp_path: Path, backbone: Backbone, items: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    real = module.open_trunk

    def opening(request: TrunkRequest, choice: EngineChoice, **options: Any) -> object:
        asked.append(choice)
        return real(request, choice, **options)

    monkeypatch.setattr(module, "open_trunk", opening)
    extractor(tmp_path, backbone).extract(items[:3], augment=None, activations=False)
    again = extractor(tmp_path, backbone)
    again.extract(items[:5], augment=None, activations=False)
    assert (again.work.cached, again.work.computed) == (3, 2)
    assert asked[0] == again.engine
    assert isinstance(asked[1], TrunkFacts)
    assert asked[1] == again.facts(items)
