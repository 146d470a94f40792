"""A bundle gives the same logits wherever it goes; whatever was tampered with is refused before use."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from topwork.digest import file_sha256
from topwork.errors import BundleError
from topwork.exports.bundle import Bundle, BundleFacts, read_bundle, write_bundle
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier
from topwork.models.head import build_head
from topwork.recipe import HeadChoice, Recipe

CLASSES = ("daisy", "rose 'n' \"thorn\"", "花 with space")
HEAD = HeadChoice(hidden=(7,), dropout=0.3, batchnorm=True)
FACTS = BundleFacts(
    classes=CLASSES,
    head=HEAD,
    temperature=1.37,
    precision="bf16",
    plan="freeze 4 of 5 blocks, train 1",
    recipe=Recipe().model_dump(mode="json"),
    provenance={"seeds": {"split": 0}, "topwork": "0.1.0"},
)


def trained(name: str = "test_efficientnet", *, weights: str = "none", size: int = 64) -> Classifier:
    """A classifier whose numbers are nobody's defaults, BatchNorm statistics included."""
    torch.manual_seed(1)
    backbone = create_backbone(name, weights=weights, image_size=size)
    classifier = Classifier(backbone, build_head(HEAD, width=backbone.width, classes=len(CLASSES)))
    with torch.no_grad():
        for tensor in classifier.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.1 * torch.rand_like(tensor)).add_(0.01 * torch.rand_like(tensor))
    return classifier


def pictures(size: int = 64) -> torch.Tensor:
    return torch.randint(0, 256, (3, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


def logits(classifier: Classifier) -> torch.Tensor:
    with torch.inference_mode():
        return classifier.eval()(pictures(classifier.backbone.spec.size))


@pytest.fixture(scope="module")
def original() -> Classifier:
    return trained()


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, original: Classifier) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "model"
    write_bundle(folder, original, facts=FACTS)
    return folder


@pytest.fixture
def folder(pristine: Path, tmp_path: Path) -> Path:
    """A bundle of one's own, to be tampered with."""
    return Path(shutil.copytree(pristine, tmp_path / "model"))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext", "test_vit", "test_vit_relpos"])
def test_logits_come_back_bit_by_bit(name: str, tmp_path: Path) -> None:
    classifier = trained(name)
    card = write_bundle(tmp_path / "model", classifier, facts=FACTS)
    bundle = read_bundle(tmp_path / "model")
    assert torch.equal(logits(bundle.classifier), logits(classifier))
    assert not bundle.classifier.training
    assert bundle.card == card
    assert bundle.spec == classifier.backbone.spec
    assert bundle.classifier.backbone.block_names == classifier.backbone.block_names


@pytest.mark.parametrize("padding", ["same", "symmetric"])
@pytest.mark.parametrize("name", ["mobilenetv2_035", "tf_mobilenetv3_small_minimal_100"])
def test_padding_eps_and_input_come_back_without_the_weights_file(name: str, padding: str, tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    metadata = {"padding": padding, "bn_eps": "2e-3", "mean": "0.4", "std": "0.3", "input_size": "72", "crop": "0.9"}
    save_file(dict(create_backbone(name, weights="none").network.state_dict()), weights, metadata)
    classifier = trained(name, weights=str(weights), size=72)
    write_bundle(tmp_path / "model", classifier, facts=FACTS)
    weights.unlink()
    bundle = read_bundle(tmp_path / "model")
    assert torch.equal(logits(bundle.classifier), logits(classifier))
    assert bundle.card.backbone.padding == padding
    assert bundle.spec.mean == (0.4, 0.4, 0.4)
    assert str(tmp_path) not in (tmp_path / "model" / "model.json").read_text()  # nobody's folders travel with a model


def test_a_bundle_says_what_it_is(folder: Path) -> None:
    bundle = read_bundle(folder)
    assert bundle.classes == CLASSES
    assert bundle.from_scratch
    assert bundle.card.temperature == 1.37
    assert bundle.card.precision == "bf16"
    assert Recipe.model_validate(bundle.card.recipe) == Recipe()
    assert sorted(os.listdir(folder)) == ["model.json", "model.safetensors"]


def test_a_run_folder_stands_for_its_model(folder: Path) -> None:
    assert read_bundle(folder.parent).card == read_bundle(str(folder)).card


def test_two_writes_are_byte_identical(folder: Path, original: Classifier, tmp_path: Path) -> None:
    write_bundle(tmp_path / "again", original, facts=FACTS)
    for name in ("model.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_writing_leaves_the_classifier_alone(tmp_path: Path) -> None:
    classifier = trained().to(memory_format=torch.channels_last).train()
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    write_bundle(tmp_path / "model", classifier, facts=FACTS)
    assert classifier.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert torch.equal(logits(read_bundle(tmp_path / "model").classifier), logits(trained()))


def test_a_bundle_is_replaced_as_a_whole(folder: Path) -> None:
    write_bundle(folder, trained("test_resnet"), facts=FACTS)
    assert read_bundle(folder).card.backbone.name == "test_resnet"
    assert os.listdir(folder.parent) == ["model"]


def test_a_failed_write_leaves_the_old_bundle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (folder / "model.json").read_bytes()

    def full_disk(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("topwork.exports.bundle.write_text", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_bundle(folder, trained("test_resnet"), facts=FACTS)
    assert (folder / "model.json").read_bytes() == before
    assert read_bundle(folder).card.backbone.name == "test_efficientnet"
    assert os.listdir(folder.parent) == ["model"]


def test_other_peoples_folders_are_not_replaced(tmp_path: Path, original: Classifier) -> None:
    (tmp_path / "thesis.txt").write_text("all of it")
    with pytest.raises(BundleError, match="new, empty or a bundle"):
        write_bundle(tmp_path, original, facts=FACTS)
    assert (tmp_path / "thesis.txt").read_text() == "all of it"


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    classifier = trained()
    for facts, word in [
        ({"classes": ("a", "b")}, "shape"),
        ({"classes": ("a", "a", "b")}, "once"),
        ({"temperature": 0.0}, "temperature"),
        ({"head": HeadChoice()}, "tensors"),
    ]:
        with pytest.raises(BundleError, match=word):
            write_bundle(tmp_path / "model", classifier, facts=BundleFacts(**{**FACTS.__dict__, **facts}))
    with torch.no_grad():
        classifier.head.logits.bias[1] = torch.nan  # type: ignore[union-attr,index]
    with pytest.raises(BundleError, match=r"head\.logits\.bias .* finite"):
        write_bundle(tmp_path / "model", classifier, facts=FACTS)
    assert os.listdir(tmp_path) == []


def change_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change tensors, and make digest and size fit again: only the tensors' own checks can refuse."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    restate(folder)


def restate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    change_card(
        folder, lambda card: card.update(weights={"sha256": file_sha256(weights), "bytes": weights.stat().st_size})
    )


def change_card(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    card = json.loads((folder / "model.json").read_text())
    change(card)
    (folder / "model.json").write_text(json.dumps(card))


BIAS = "head.logits.bias"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.update(extra=torch.zeros(1)), "extra is extra"),
        (lambda t: t.pop(BIAS), "missing"),
        (lambda t: t.update({BIAS: torch.zeros(4)}), "shape"),
        (lambda t: t.update({BIAS: torch.zeros(3, 1)}), "shape"),
        (lambda t: t.update({BIAS: torch.zeros(3, dtype=torch.float64)}), "float64"),
        (lambda t: t.update({BIAS: torch.tensor([0.0, torch.inf, 0.0])}), "finite"),
        (lambda t: t.update({BIAS: torch.tensor([0.0, torch.nan, 0.0])}), "finite"),
        (lambda t: t.update({"../../evil": torch.zeros(1)}), "words and dots"),
        (lambda t: t.update({"/etc/passwd": torch.zeros(1)}), "words and dots"),
        (lambda t: t.update({"backbone..weight": torch.zeros(1)}), "words and dots"),
        (lambda t: t.update({"a\\b": torch.zeros(1)}), "words and dots"),
        (lambda t: t.clear(), "missing"),
    ],
)
def test_tampered_tensors_are_refused(folder: Path, change: Callable[[dict[str, Any]], object], word: str) -> None:
    change_tensors(folder, change)
    with pytest.raises(BundleError, match=word):
        read_bundle(folder)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda c: c.update(version=2), "update topwork"),
        (lambda c: c.update(format="something else"), "format"),
        (lambda c: c.update(classes=["a", "b"]), "shape"),
        (lambda c: c.update(classes=["a", "b", "a"]), "once"),
        (lambda c: c.update(classes=["a"]), "classes"),
        (lambda c: c.update(classes="abc"), "classes"),
        (lambda c: c.update(temperature=0), "temperature"),
        (lambda c: c.update(temperature="1"), "temperature"),
        (lambda c: c.update(temperature=float("nan")), "temperature"),
        (lambda c: c.pop("input"), "input"),
        (lambda c: c.update(command="rm -rf"), "command"),
        (lambda c: c["backbone"].update(name="../../etc/passwd"), "name"),
        (lambda c: c["backbone"].update(name="hf-hub:someone/evil"), "name"),
        (lambda c: c["backbone"].update(name="no_such_network"), "no_such_network"),
        (lambda c: c["backbone"].update(name="vit_giant_patch14_dinov2"), "tensors|shape|pixels|patches"),
        (lambda c: c["backbone"].update(padding="reflect"), "padding"),
        (lambda c: c["backbone"].update(bn_eps=0), "bn_eps"),
        (lambda c: c["input"].update(size=10**9), "size"),
        (lambda c: c["input"].update(std=[1, 1, 0]), "std"),
        (lambda c: c["head"].update(hidden=[8]), "shape"),
        (lambda c: c["head"].update(hidden=[8] * 65), "64 hidden"),
        (lambda c: c["head"].update(hidden=[10**9]), "hidden"),
        (lambda c: c["weights"].update(bytes=10**15), "bytes"),
        (lambda c: c["weights"].update(sha256="0" * 64), "SHA-256"),
        (lambda c: c["weights"].update(sha256="A" * 64), "sha256"),
    ],
)
def test_a_tampered_card_is_refused(folder: Path, change: Callable[[dict[str, Any]], object], word: str) -> None:
    change_card(folder, change)
    with pytest.raises(BundleError, match=word) as caught:
        read_bundle(folder)
    assert caught.value.fix


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 1_000_000, b'{"format": ' + b"9" * 10_000 + b"}", b"\x80\x04N."],
    ids=["empty", "cut", "null", "list", "no-utf8", "deep", "big-number", "pickle"],
)
def test_what_is_no_card_is_refused(folder: Path, content: bytes) -> None:
    (folder / "model.json").write_bytes(content)
    with pytest.raises(BundleError):
        read_bundle(folder)


def test_a_huge_card_is_refused_unread(folder: Path) -> None:
    with (folder / "model.json").open("r+b") as stream:
        stream.truncate(2**34)  # sparse: 16 GiB that would not fit into memory
    with pytest.raises(BundleError, match="at most"):
        read_bundle(folder)


def test_a_huge_tensor_file_is_refused_unread(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(2**40)
    with pytest.raises(BundleError, match="bytes"):
        read_bundle(folder)


def test_a_huge_header_is_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    header = b'{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' + b" " * (17 * 2**20) + b"}"
    weights.write_bytes(struct.pack("<Q", len(header)) + header)
    restate(folder)
    with pytest.raises(BundleError, match="header"):
        read_bundle(folder)


def test_a_pickle_in_the_place_of_tensors_is_refused_unopened(folder: Path) -> None:
    canary = folder / "it-ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (canary,))

    torch.save({BIAS: Evil()}, folder / "model.safetensors")
    restate(folder)
    with pytest.raises(BundleError, match="safetensors"):
        read_bundle(folder)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=r"model\.(json|safetensors)"):
        read_bundle(folder)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model"):
        read_bundle(tmp_path / "nowhere")
    with pytest.raises(BundleError, match="holds no model"):
        read_bundle(tmp_path)
    (tmp_path / "model.pth").write_bytes(b"\x80\x04N.")
    with pytest.raises(BundleError, match="pickles"):
        read_bundle(tmp_path / "model.pth")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), bit=st.integers(0, 7))
def test_one_flipped_bit_of_the_tensors_is_refused(folder: Path, data: st.DataObject, bit: int) -> None:
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    content[position] ^= 1 << bit
    weights.write_bytes(content)
    try:
        with pytest.raises(BundleError, match="SHA-256"):
            read_bundle(folder)
        restate(folder)  # as someone would who tampers on purpose: no other exception may come of it
        read_or_refuse(folder)
    finally:
        content[position] ^= 1 << bit
        weights.write_bytes(content)
        restate(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), byte=st.integers(0, 255))
def test_one_other_byte_of_the_card_is_read_or_refused(folder: Path, data: st.DataObject, byte: int) -> None:
    card = folder / "model.json"
    content = card.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1))
    card.write_bytes(content[:position] + bytes([byte]) + content[position + 1 :])
    try:
        read_or_refuse(folder)
    finally:
        card.write_bytes(content)


def read_or_refuse(folder: Path) -> Bundle | None:
    try:
        return read_bundle(folder)
    except BundleError:
        return None
