"""OpenVINO says what PyTorch says, for any number of photos, and a stored graph is used, or made again if damaged."""

from __future__ import annotations

import shutil
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from topwork.errors import EngineError, ResourceError
from topwork.models import engine, openvino_trunk
from topwork.models.backbone import Backbone, create_backbone
from topwork.models.classifier import normalised_trunk
from topwork.models.engine import TrunkFacts, open_trunk, remembered_facts
from topwork.models.trunk import PARITY, Trunk, TrunkRequest, cosines
from topwork.recipe import EngineChoice
from topwork.timings import Timings

F32 = EngineChoice(trunk="openvino", precision="f32")
CUTS = {"test_efficientnet": 2, "test_resnet": None, "test_vit": 1, "mobilenetv2_035+mobilenetv2_050": 5}


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def request_for(name: str, *, cut: int | None = None) -> TrunkRequest:
    backbone = create_backbone(name, weights="none", image_size=64)
    return TrunkRequest(identity=backbone.identity, build=lambda: backbone, cut=cut, spec=backbone.spec)


def without_build(request: TrunkRequest) -> TrunkRequest:
    def build() -> Backbone:
        raise AssertionError("the stored graph must do")

    return TrunkRequest(identity=request.identity, build=build, cut=request.cut, spec=request.spec)


def opened(request: TrunkRequest, folder: Path, choice: EngineChoice = F32) -> Trunk:
    return open_trunk(request, choice, folder=folder, timings=Timings(folder / "t.json"), sample=pictures(4))


@pytest.fixture(autouse=True)
def quick_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The choice is `Timings`' own business; here the candidate with two streams is always the fastest."""
    streams = {"2 streams, batch 8": (2, 8)}
    monkeypatch.setattr(openvino_trunk, "_STREAMS", streams)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrunkRequest, Path]:
    """A request and the folder in which its graph has been stored."""
    request, folder = request_for("test_resnet"), tmp_path_factory.mktemp("graphs")
    opened(request, folder)
    return request, folder


@pytest.fixture
def converted(
    stored: tuple[TrunkRequest, Path], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """Conversion gives the graph that was stored first, at once; the list counts how often it was asked to."""
    import openvino as ov

    copy = tmp_path_factory.mktemp("copy")
    (xml,) = stored[1].glob("*.xml")
    for suffix in (".xml", ".bin"):
        shutil.copy(xml.with_suffix(suffix), copy / f"graph{suffix}")
    calls: list[str] = []

    def convert(backbone: Backbone, request: TrunkRequest) -> object:
        calls.append(request.identity)
        return ov.Core().read_model(copy / "graph.xml")

    monkeypatch.setattr(openvino_trunk, "_convert", convert)
    return calls


def test_a_graph_that_cannot_be_written_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import openvino as ov

    def full(model: object, path: Path, **_: object) -> None:
        path.with_suffix(".bin").write_bytes(b"half")
        raise RuntimeError("Can't write\nto the disk")

    monkeypatch.setattr(ov, "save_model", full)
    monkeypatch.setattr(openvino_trunk, "_convert", lambda *_: None)
    with pytest.raises(ResourceError, match="cannot be written") as caught:
        opened(request_for("test_resnet"), tmp_path)
    assert "TOPWORK_CACHE" in caught.value.fix
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".xml")]


def test_conversion_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    request = request_for("test_resnet")
    parts = list(request.build().modules())
    before = [getattr(part, "inplace", None) for part in parts]
    assert True in before
    opened(request, tmp_path)
    assert [getattr(part, "inplace", None) for part in parts] == before


def test_what_ran_before_binds_even_where_these_photos_disagree_a_little(
    stored: tuple[TrunkRequest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PARITY", {"f32": 1.1, "bf16": 1.1})
    timings = Timings(tmp_path / "t.json")
    facts = TrunkFacts(engine="openvino", precision="f32", version="any", parity=None)
    trunk = engine.open_trunk(stored[0], facts, folder=stored[1], timings=timings, sample=pictures(4))
    assert (trunk.engine, trunk.precision) == ("openvino", "f32")
    slow = TrunkFacts(engine="torch", precision="f32", version="any", parity=None)
    trunk = engine.open_trunk(stored[0], slow, folder=stored[1], timings=timings, sample=pictures(4))
    assert (trunk.engine, trunk.precision) == ("torch", "f32")


@pytest.mark.parametrize(("name", "cut"), CUTS.items())
def test_openvino_says_what_torch_says_for_any_number_of_photos(tmp_path: Path, name: str, cut: int | None) -> None:
    request = request_for(name, cut=cut)
    trunk = opened(request, tmp_path)
    assert (trunk.engine, trunk.precision) == ("openvino", "f32")
    assert trunk.parity > 0.99999
    for count in (1, 5, 33):
        images = pictures(count)
        with torch.no_grad():
            expected = normalised_trunk(request.build(), cut)(torch.from_numpy(images))
        found = trunk(images)
        *activation, pooled = expected if isinstance(expected, tuple) else (expected,)
        np.testing.assert_allclose(found.pooled, pooled.numpy(), rtol=1e-3, atol=1e-4 * float(pooled.abs().max()))
        assert (found.activation is None) == (cut is None)
        for tensor in activation:
            scale = float(tensor.abs().max())
            np.testing.assert_allclose(found.activation, tensor.numpy(), rtol=1e-3, atol=1e-4 * scale)


def test_torch_runs_the_trunk_where_it_is_asked_to(tmp_path: Path) -> None:
    request, images = request_for("test_resnet", cut=1), pictures(33)
    trunk = opened(request, tmp_path, EngineChoice(trunk="torch", precision="f32"))
    with torch.no_grad():
        activation, pooled = normalised_trunk(request.build(), 1)(torch.from_numpy(images))
    assert trunk.engine == "torch"
    np.testing.assert_allclose(trunk(images).pooled, pooled.numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(trunk(images).activation, activation.numpy(), rtol=1e-3, atol=1e-5)


def test_a_second_open_builds_no_network_and_says_the_same(stored: tuple[TrunkRequest, Path]) -> None:
    request, folder = stored
    first, second = opened(request, folder), opened(without_build(request), folder)
    np.testing.assert_array_equal(first(pictures(5)).pooled, second(pictures(5)).pooled)
    assert second.parity == first.parity
    facts = remembered_facts(without_build(request), F32, folder=folder)
    assert (facts.engine, facts.precision, facts.version) == (second.engine, second.precision, second.version)


def test_facts_are_remembered_for_this_network_and_choice_only(stored: tuple[TrunkRequest, Path]) -> None:
    request, folder = stored
    other = TrunkRequest(identity="other", build=request.build, cut=request.cut, spec=request.spec)
    assert remembered_facts(other, F32, folder=folder) is None
    assert remembered_facts(request, EngineChoice(trunk="torch"), folder=folder) is None
    assert remembered_facts(request, F32, folder=folder / "elsewhere") is None


def test_a_precision_that_fails_on_some_photos_is_tried_on_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    plain, choice = request_for("test_resnet"), EngineChoice()
    if opened(plain, tmp_path / "first", choice).precision != "bf16":
        pytest.skip("this CPU has no bfloat16, so there is nothing to fall back from")
    drawn, real = replace(plain, photos="drawn"), replace(plain, photos="real")
    monkeypatch.setitem(PARITY, "bf16", 2.0)
    assert opened(drawn, tmp_path, choice).precision == "f32"
    assert remembered_facts(real, choice, folder=tmp_path) is None
    monkeypatch.setitem(PARITY, "bf16", 0.5)
    assert opened(real, tmp_path, choice).precision == "bf16"
    precisions = [remembered_facts(each, choice, folder=tmp_path).precision for each in (drawn, real, plain)]
    assert precisions == ["f32", "bf16", "bf16"]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".xml", b""),
        (".xml", b"<net"),
        (".bin", b""),
        (".bin", b"x"),
        (".json", b"{"),
        (".json", b"[]"),
        (".bin", None),
    ],
)
def test_a_damaged_graph_is_made_again(
    stored: tuple[TrunkRequest, Path], converted: list[str], suffix: str, content: bytes | None
) -> None:
    request, folder = stored
    expected = opened(request, folder)(pictures(3)).pooled
    (xml,) = folder.glob("*.xml")
    if content is None:
        xml.with_suffix(suffix).unlink()
    else:
        xml.with_suffix(suffix).unlink()  # an open graph may still be mapped from the old file
        xml.with_suffix(suffix).write_bytes(content)
    np.testing.assert_allclose(opened(request, folder)(pictures(3)).pooled, expected, rtol=1e-5, atol=1e-6)
    assert len(converted) == 1
    opened(without_build(request), folder)


def test_a_network_that_does_not_agree_falls_back_only_where_it_may(
    stored: tuple[TrunkRequest, Path], converted: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, _ = stored
    for module in (engine, openvino_trunk):
        monkeypatch.setattr(module, "PARITY", {"f32": 1.1, "bf16": 1.1})
    with pytest.raises(EngineError, match="disagrees") as caught:
        opened(request, tmp_path)
    assert "torch" in caught.value.fix
    assert opened(request, tmp_path, EngineChoice(trunk="auto", precision="f32")).engine == "torch"


def test_a_network_that_does_not_convert_falls_back_only_where_it_may(
    stored: tuple[TrunkRequest, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ValueError("no such operator\nsecond line")

    request, _ = stored
    monkeypatch.setattr(openvino_trunk, "_convert", fail)
    with pytest.raises(EngineError, match="no such operator") as caught:
        opened(request, tmp_path)
    assert "second line" not in caught.value.what
    assert opened(request, tmp_path, EngineChoice(precision="f32")).engine == "torch"


def test_cosines_are_those_of_the_angles() -> None:
    angles = np.array([0.0, 0.3, np.pi / 2, np.pi])
    a = np.stack([np.full(4, 2.0), np.zeros(4)], axis=1).astype(np.float32)
    b = 5 * np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    np.testing.assert_allclose(cosines(a, b), np.cos(angles), atol=1e-6)
    assert cosines(np.zeros((1, 2), np.float32), a[:1]).tolist() == [0.0]


def test_a_trunk_that_nobody_uses_is_let_go(stored: tuple[TrunkRequest, Path], tmp_path: Path) -> None:
    request, folder = stored
    trunk = opened(request, folder)
    trunk(pictures(9))
    gone = weakref.ref(trunk)
    del trunk
    assert gone() is None  # with all the memory of its compiled network
