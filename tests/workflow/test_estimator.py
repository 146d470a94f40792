"""`ImageClassifier` keeps scikit-learn's conventions; a tiny network, since only the conventions matter here."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import topwork
from topwork.cli.console import console_progress
from topwork.data.decode import decode
from topwork.errors import DecodeError, InputError

SETTINGS = (
    "backbone.name=test_efficientnet",
    "backbone.weights=none",
    "data.image_size=32",
    "data.views=fixed:0",
    "engine.precision=f32",
    "engine.trunk=torch",
)


def _estimator(**changes: Any) -> topwork.ImageClassifier:
    return topwork.ImageClassifier(**{"recipe": "probe", "settings": SETTINGS, **changes})


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Thirty blurred squares of three colours, each in a file; the colour is the class."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("squares")
    random = np.random.default_rng(0)
    paths, labels = [], []
    for number in range(30):
        coarse = random.integers(0, 120, (6, 6, 3), dtype=np.uint8)
        coarse[..., number % 3] += 120
        paths.append(str(folder / f"{number}.png"))
        Image.fromarray(coarse).resize((40, 40)).save(paths[-1])
        labels.append(("red", "green", "blue")[number % 3])
    return {"paths": paths, "labels": labels}


@pytest.fixture(scope="module")
def fitted(photos: dict[str, Any]) -> topwork.ImageClassifier:
    """Read only."""
    return _estimator().fit(photos["paths"], photos["labels"])


def test_answers_are_labels_with_probabilities(fitted: topwork.ImageClassifier, photos: dict[str, Any]) -> None:
    said, p = fitted.predict(photos["paths"]), fitted.predict_proba(photos["paths"])
    assert fitted.classes_.tolist() == ["blue", "green", "red"]
    assert p.shape == (30, 3)
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert said.tolist() == fitted.classes_[p.argmax(axis=1)].tolist()
    share = np.mean(said == np.array(photos["labels"]))
    assert fitted.score(photos["paths"], photos["labels"]) == pytest.approx(share)
    assert share >= 0.8  # chance is 0.33


def test_every_way_to_name_photos_gives_the_same_answer(
    fitted: topwork.ImageClassifier, photos: dict[str, Any]
) -> None:
    pd = pytest.importorskip("pandas")
    paths = photos["paths"][:4]
    pictures = [decode(path).pixels for path in paths]
    ways = [
        [Path(path) for path in paths],
        np.array(paths),
        np.array(paths, dtype=object).reshape(-1, 1),
        pd.Series(paths, index=[7, 3, 5, 1]),
        pd.DataFrame({"path": paths}),
        pictures,
        np.stack(pictures),
    ]
    expected = fitted.predict_proba(paths)
    for way in ways:
        np.testing.assert_allclose(fitted.predict_proba(way), expected, atol=1e-6)


def test_arrays_teach_what_their_files_teach(fitted: topwork.ImageClassifier, photos: dict[str, Any]) -> None:
    pictures = np.stack([decode(path).pixels for path in photos["paths"]])
    again = _estimator().fit(pictures, photos["labels"])
    # duplicates and splits go by the bytes of a file, so the validation parts may differ; the photos do not
    assert np.mean(again.predict(pictures) == fitted.predict(photos["paths"])) >= 0.8


def test_fitting_twice_is_fitting_once(fitted: topwork.ImageClassifier, photos: dict[str, Any]) -> None:
    expected = fitted.predict_proba(photos["paths"])
    again = clone(fitted)
    for _ in range(2):
        again.fit(photos["paths"], photos["labels"])
        np.testing.assert_array_equal(again.predict_proba(photos["paths"]), expected)


def test_the_seed_decides(fitted: topwork.ImageClassifier, photos: dict[str, Any]) -> None:
    other = _estimator(seed=1).fit(photos["paths"], photos["labels"])
    assert (other.predict_proba(photos["paths"]) != fitted.predict_proba(photos["paths"])).any()


def test_integers_stay_integers_in_their_own_order(photos: dict[str, Any]) -> None:
    y = np.array([{"red": 100, "green": 9, "blue": 20}[label] for label in photos["labels"]])
    numbered = _estimator().fit(photos["paths"], y)
    assert numbered.classes_.tolist() == [9, 20, 100]  # as text 100 would come first
    assert numbered.predict(photos["paths"]).dtype == y.dtype
    assert numbered.score(photos["paths"], y) >= 0.8


def test_parameters_make_the_round_trip() -> None:
    first = _estimator(seed=3)
    assert clone(first).get_params() == first.get_params()
    assert set(first.get_params()) == {"recipe", "settings", "seed", "progress"}
    assert first.set_params(recipe="default", seed=4).get_params()["seed"] == 4
    recipe = topwork.load_recipe("probe")
    assert clone(topwork.ImageClassifier(recipe)).get_params()["recipe"] == recipe


def test_what_shows_progress_is_shared_by_clones_and_left_out_of_pickles(photos: dict[str, Any]) -> None:
    with console_progress(sys.stderr) as progress:  # it holds a lock, which nobody can copy
        first = _estimator(progress=progress)
        assert clone(first).progress is progress
        assert clone(make_pipeline(first)).steps[-1][1].progress is progress
        there = pickle.loads(pickle.dumps(first.fit(photos["paths"], photos["labels"])))
    assert there.progress is None
    assert first.progress is progress
    np.testing.assert_array_equal(there.predict(photos["paths"]), first.predict(photos["paths"]))
    assert not hasattr(clone(first), "classes_")


def test_an_unfitted_one_says_so(photos: dict[str, Any], tmp_path: Path) -> None:
    for ask in (lambda m: m.predict(photos["paths"]), lambda m: m.predict_proba(photos["paths"])):
        with pytest.raises(NotFittedError):
            ask(_estimator())
    with pytest.raises(NotFittedError):
        _estimator().save(tmp_path / "model")


def test_a_search_in_a_pipeline_over_settings(photos: dict[str, Any]) -> None:
    pipeline = make_pipeline(FunctionTransformer(), _estimator())
    grid = {"imageclassifier__settings": [SETTINGS, (*SETTINGS, "loss.label_smoothing=0.3")]}
    search = GridSearchCV(pipeline, grid, cv=StratifiedKFold(2), error_score="raise")
    search.fit(np.array(photos["paths"]), photos["labels"])
    assert search.best_score_ >= 0.6
    assert search.predict(photos["paths"]).shape == (30,)


def test_cross_validation(photos: dict[str, Any]) -> None:
    scores = cross_val_score(_estimator(), photos["paths"], photos["labels"], cv=2, error_score="raise")
    assert scores.shape == (2,)
    assert scores.mean() >= 0.6


def test_the_saved_model_answers_alike(fitted: topwork.ImageClassifier, photos: dict[str, Any], tmp_path: Path) -> None:
    folder = fitted.save(tmp_path / "model")
    expected = fitted.predict_proba(photos["paths"][:5])
    for row, answer in zip(expected, topwork.predict(folder, photos["paths"][:5]), strict=True):
        np.testing.assert_allclose([answer.probabilities[name] for name in fitted.classes_], row, atol=1e-6)


def test_other_processes_can_have_it(fitted: topwork.ImageClassifier, photos: dict[str, Any]) -> None:
    there = pickle.loads(pickle.dumps(fitted))  # as joblib does for n_jobs; topwork itself reads and writes none
    np.testing.assert_array_equal(there.predict_proba(photos["paths"]), fitted.predict_proba(photos["paths"]))


@pytest.mark.parametrize(
    ("photos_given", "labels", "says"),
    [
        ("photo.jpg", ["a"], "many"),
        ([], [], "at least one"),
        (np.zeros((4, 7)), [0, 1, 0, 1], "file names or pictures"),
        (np.zeros((4, 8, 8, 3)), [0, 1, 0, 1], "255"),
        (np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], "file names or pictures"),
        (["a.png", "b.png"], [0, 0], "only one class"),
        (["a.png", "b.png"], [0], "as many"),
        (["a.png", "a.png"], [0, 1], "one label"),
        (["a.png", "b.png"], None, "y is None"),
    ],
)
def test_what_cannot_be_used_is_a_value_error(photos_given: Any, labels: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        _estimator().fit(photos_given, labels)
    assert isinstance(caught.value, ValueError)
    assert caught.value.fix


def test_a_missing_photo_is_named() -> None:
    with pytest.raises(DecodeError, match=r"nowhere\.png"):
        _estimator().fit(["nowhere.png", "b.png"], [0, 1])
