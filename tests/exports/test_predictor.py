"""Photos through a bundle: the same numbers as by hand, in order, whatever is wrong with some of them."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from topwork.data.decode import decode
from topwork.data.view import evaluation_view
from topwork.errors import BundleError, EngineError
from topwork.exports.bundle import Bundle, BundleFacts, read_bundle, write_bundle
from topwork.exports.predictor import Prediction, Predictor
from topwork.models.backbone import create_backbone
from topwork.models.classifier import Classifier
from topwork.models.engine import TrunkFacts
from topwork.models.head import build_head
from topwork.recipe import HeadChoice
from topwork.spec import InputSpec

CLASSES = ("daisy", "rose", "tulip")
TEMPERATURE = 0.25


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.manual_seed(3)
    backbone = create_backbone("test_efficientnet", weights="none", image_size=64)
    head = HeadChoice()
    classifier = Classifier(backbone, build_head(head, width=backbone.width, classes=3))
    facts = BundleFacts(
        classes=CLASSES, head=head, temperature=TEMPERATURE, precision="f32", plan="", recipe={}, provenance={}
    )
    folder = tmp_path_factory.mktemp("predictor") / "model"
    write_bundle(folder, classifier, facts=facts)
    return read_bundle(folder)


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A kernel head, and photos judged with their mirror images."""
    torch.manual_seed(4)
    backbone = create_backbone("test_efficientnet", weights="none", image_size=64)
    head = HeadChoice(kind="kernel", landmarks=6)
    classifier = Classifier(backbone, build_head(head, width=backbone.width, classes=3), mirror=True)
    classifier.head.get_buffer("landmarks").copy_(torch.randn(6, backbone.width) / 30)
    facts = BundleFacts(
        classes=CLASSES, head=head, temperature=TEMPERATURE, precision="f32", plan="", recipe={}, provenance={}
    )
    folder = tmp_path_factory.mktemp("mirrored") / "model"
    write_bundle(folder, classifier, facts=facts)
    return read_bundle(folder)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    files = [folder / f"{number}.png" for number in range(9)]
    for file in files:
        colours = random.integers(0, 256, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((90, 70), Image.Resampling.BICUBIC).save(file)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    files.insert(2, folder / "broken.jpg")
    files.insert(5, folder / "gone.jpg")
    files.insert(8, folder)
    return files


def by_hand(bundle: Bundle, path: Path) -> npt.NDArray[np.float64]:
    view = evaluation_view(decode(path).pixels, bundle.spec)
    with torch.inference_mode():
        logits = bundle.classifier(torch.from_numpy(view)[None])[0].double()
    return torch.softmax(logits / TEMPERATURE, dim=0).numpy()


@pytest.mark.parametrize("batch", [1, 4, 100])
@pytest.mark.parametrize("workers", [1, 3])
def test_answers_are_those_by_hand_in_order(bundle: Bundle, photos: list[Path], batch: int, workers: int) -> None:
    answers = list(Predictor.load(bundle, engine="torch").predict(photos, batch=batch, workers=workers))
    assert [answer.path for answer in answers] == photos
    assert {answer.path.name for answer in answers if answer.predicted is None} == {
        "broken.jpg",
        "gone.jpg",
        photos[8].name,
    }
    for answer in answers:
        if answer.predicted is None:
            assert answer.error
            assert answer.fix
            assert not answer.probabilities
            continue
        expected = by_hand(bundle, answer.path)
        assert tuple(answer.probabilities) == CLASSES
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, atol=1e-5)
        assert answer.predicted == CLASSES[int(expected.argmax())]
        assert not answer.error


def test_a_folder_a_path_and_a_bundle_are_the_same_model(bundle: Bundle, photos: list[Path]) -> None:
    answers = [
        list(Predictor.load(model).predict(photos)) for model in (bundle, bundle.folder, str(bundle.folder.parent))
    ]
    assert answers[0] == answers[1] == answers[2]


def test_a_batch_of_nothing_readable_is_answered(bundle: Bundle, photos: list[Path]) -> None:
    (answer,) = Predictor.load(bundle).predict([photos[2]])
    assert answer.predicted is None
    assert list(Predictor.load(bundle).predict([])) == []


def test_json_has_the_two_documented_shapes(bundle: Bundle, photos: list[Path]) -> None:
    good, _, bad = (answer.to_json() for answer in Predictor.load(bundle).predict(photos[:3]))
    assert good.keys() == {"path", "predicted", "p"}
    assert good["p"].keys() == set(CLASSES)
    assert bad.keys() == {"path", "error"}
    odd = Prediction(path=Path("caf\udce9.jpg"), probabilities={}, error="no such file")
    assert json.dumps(odd.to_json(), ensure_ascii=False).encode()


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no model"):
        Predictor.load(tmp_path)


@given(
    logits=st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=5),
    temperature=st.floats(0.01, 100),
)
def test_any_callable_gives_probabilities(logits: list[list[float]], temperature: float) -> None:
    table = np.array(logits, dtype=np.float32)
    predictor = Predictor(
        lambda images: table[: len(images)], classes=CLASSES, spec=InputSpec(size=16), temperature=temperature
    )
    found = predictor.probabilities(np.zeros((len(table), 16, 16, 3), np.uint8))
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (found >= 0).all()
    rows = np.arange(len(table))
    np.testing.assert_array_equal(found[rows, table.argmax(axis=1)], found.max(axis=1))
    if len(rows) and temperature != 1:
        cold = found.max(axis=1)
        warm = Predictor(predictor.run, classes=CLASSES, spec=predictor.spec, temperature=temperature * 2)
        assert (warm.probabilities(np.zeros((len(table), 16, 16, 3), np.uint8)).max(axis=1) <= cold + 1e-9).all()


def test_an_endless_stream_is_answered_as_it_comes(bundle: Bundle, photos: list[Path]) -> None:
    answers = Predictor.load(bundle).predict(itertools.cycle(photos[:1]), batch=2)
    first = list(itertools.islice(answers, 6))
    assert len(first) == 6
    start = time.monotonic()
    answers.close()
    assert time.monotonic() - start < 1


@pytest.mark.slow
@pytest.mark.parametrize("model", ["bundle", "mirrored"])
def test_openvino_answers_like_pytorch_and_is_found_again(
    model: str, photos: list[Path], request: pytest.FixtureRequest
) -> None:
    bundle: Bundle = request.getfixturevalue(model)
    assert bundle.classifier.mirror == (model == "mirrored")
    plain = list(Predictor.load(bundle, engine="torch").predict(photos))
    compiled = list(Predictor.load(bundle, engine="openvino").predict(photos))
    again = Predictor.load(bundle.folder)  # auto takes what was compiled before
    assert type(again.run).__name__ == "_Compiled"
    for one, other, third in zip(plain, compiled, again.predict(photos), strict=True):
        assert (one.path, one.error) == (other.path, other.error) == (third.path, third.error)
        for key, value in one.probabilities.items():
            assert other.probabilities[key] == pytest.approx(value, abs=1e-3)
            assert third.probabilities[key] == pytest.approx(value, abs=1e-3)


def test_few_photos_are_not_worth_compiling(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))
    assert type(Predictor.load(bundle, photos=3).run).__name__ == "_Eager"
    assert type(Predictor.load(bundle, photos=5000).run).__name__ == "_Compiled"
    assert type(Predictor.load(bundle, engine="torch", photos=5000).run).__name__ == "_Eager"


def test_a_network_that_did_not_convert_is_not_tried_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    fell_back = TrunkFacts(engine="torch", precision="f32", version="any", parity=None)
    monkeypatch.setattr("topwork.exports.predictor.remembered_facts", lambda *args, **options: fell_back)
    assert type(Predictor.load(bundle, photos=5000).run).__name__ == "_Eager"


def test_an_engine_that_fails_is_the_users_to_know(
    bundle: Bundle, photos: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOPWORK_CACHE", str(tmp_path))

    def refuse(*args: object, **options: object) -> None:
        raise EngineError("OpenVINO cannot run this.", fix="use torch.")

    monkeypatch.setattr("topwork.exports.predictor.open_trunk", refuse)
    with pytest.raises(EngineError):
        next(Predictor.load(bundle, engine="openvino").predict(photos))
