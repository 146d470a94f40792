from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from topwork.atomic import write_text
from topwork.errors import DataError
from topwork.measures.predictions import Predictions, predictions_csv, read_predictions_csv, softmax

CLASSES = ("daisy", "rose", "tulip")
NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
LOGITS = st.floats(-40, 40, width=32)


def make(n: int = 6, *, seed: int = 0, prefix: str = "photo", **changes: object) -> Predictions:
    rng = np.random.default_rng(seed)
    values: dict[str, object] = {
        "logits": rng.normal(size=(n, 3)),
        "labels": rng.integers(0, 3, n),
        "paths": tuple(f"{prefix}{number}.jpg" for number in range(n)),
        "classes": CLASSES,
    }
    return Predictions(**{**values, **changes})  # type: ignore[arg-type]


@given(hnp.arrays(np.float64, (4, 3), elements=st.floats(-1e300, 1e300)))
def test_probabilities_are_shares_however_large_the_logits(logits: np.ndarray) -> None:
    p = softmax(logits)
    assert (p >= 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-12)


@given(hnp.arrays(np.float64, (4, 3), elements=LOGITS), LOGITS)
def test_a_constant_on_all_logits_changes_nothing(logits: np.ndarray, constant: float) -> None:
    np.testing.assert_allclose(softmax(logits + constant), softmax(logits), rtol=1e-9)


@given(hnp.arrays(np.float64, (4, 3), elements=LOGITS), st.floats(0.05, 20))
def test_a_temperature_keeps_the_predicted_class_and_heat_lowers_confidence(logits: np.ndarray, heat: float) -> None:
    plain = make(4, logits=logits)
    heated = plain.at_temperature(heat)
    np.testing.assert_array_equal(heated.predicted, plain.predicted)
    order = 1 if heat <= 1 else -1
    assert (order * (heated.probabilities.max(1) - plain.probabilities.max(1)) >= -1e-12).all()


def test_predicted_is_the_first_of_equals_and_correct_compares_it() -> None:
    predictions = make(2, logits=[[1, 1, 0], [0, 2, 2]], labels=[0, 2])
    assert predictions.predicted.tolist() == [0, 1]
    assert predictions.correct.tolist() == [True, False]


def test_nobody_can_change_predictions_afterwards() -> None:
    logits = np.zeros((6, 3))
    predictions = make(logits=logits)
    logits[:] = 7
    assert predictions.logits.max() == 0
    with pytest.raises(ValueError, match="read-only"):
        predictions.labels[0] = 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"logits": np.zeros((6, 2))}, r"must be \(6, 3\).*Got \(6, 2\)"),
        ({"labels": [0, 1]}, r"Got \(6, 3\) and \(2,\)"),
        ({"paths": ("a",)}, r"1 paths"),
        ({"logits": np.full((6, 3), np.nan)}, "NaN or infinity for 6 of 6"),
        ({"logits": np.full((6, 3), np.inf)}, "must be finite"),
        ({"labels": [0, 1, 2, 3, 0, 0]}, r"integers in \[0, 3\).*from 0 to 3"),
        ({"labels": [0, 1, 2, -1, 0, 0]}, "from -1 to 2"),
        ({"labels": np.zeros(6)}, "Got float64"),
        ({"classes": ("a", "a", "b")}, "different names"),
    ],
)
def test_what_cannot_be_predictions_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(DataError, match=says):
        make(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_must_be_one(temperature: float) -> None:
    with pytest.raises(DataError, match="temperature"):
        make().at_temperature(temperature)


def test_pooling_keeps_every_row_in_order() -> None:
    first, second = make(4, seed=1, prefix="a"), make(3, seed=2, prefix="b")
    pooled = Predictions.pooled([first, second])
    assert len(pooled) == 7
    assert pooled.paths == first.paths + second.paths
    np.testing.assert_array_equal(pooled.logits, np.vstack([first.logits, second.logits]))
    np.testing.assert_array_equal(pooled.labels, np.concatenate([first.labels, second.labels]))


def test_pooling_refuses_a_photo_twice_other_classes_and_nothing() -> None:
    with pytest.raises(DataError, match="12 rows of 6 photos"):
        Predictions.pooled([make(), make()])
    with pytest.raises(DataError, match="must be the same"):
        Predictions.pooled([make(prefix="a"), make(classes=("x", "y", "z"))])
    with pytest.raises(DataError, match="must be the same"):
        Predictions.pooled([])


@given(st.data())
def test_the_table_comes_back_as_it_went(data: st.DataObject) -> None:
    classes = tuple(data.draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)))
    parts = {}
    for split in data.draw(st.lists(st.sampled_from(["train", "val", "test"]), min_size=1, unique=True)):
        paths = tuple(data.draw(st.lists(NAMES, min_size=1, max_size=4)))
        shape = (len(paths), len(classes))
        parts[split] = Predictions(
            logits=data.draw(hnp.arrays(np.float64, shape, elements=st.integers(-60, 60))),
            labels=data.draw(hnp.arrays(np.int64, shape[:1], elements=st.integers(0, len(classes) - 1))),
            paths=paths,
            classes=classes,
        )
    back = read_predictions_csv(predictions_csv(parts))
    assert list(back) == list(parts)
    for split, part in parts.items():
        assert (back[split].paths, back[split].classes) == (part.paths, part.classes)
        np.testing.assert_array_equal(back[split].labels, part.labels)
        np.testing.assert_array_equal(back[split].predicted, part.predicted)
        np.testing.assert_allclose(back[split].probabilities, part.probabilities, rtol=1e-12)


def test_the_table_has_the_columns_of_the_contract() -> None:
    lines = predictions_csv({"test": make(1, logits=[[0.0, 0.0, -np.log(2)]], labels=[2])}).splitlines()
    assert lines[0] == "path,split,label,predicted,p_daisy,p_rose,p_tulip"
    assert lines[1].startswith("photo0.jpg,test,tulip,daisy,0.4,0.4,0.2")


def test_a_probability_of_zero_comes_back_finite() -> None:
    part = make(1, logits=[[0.0, 5000.0, 0.0]], labels=[0])
    back = read_predictions_csv(predictions_csv({"test": part}))["test"]
    np.testing.assert_allclose(back.probabilities, [[0.0, 1.0, 0.0]], atol=1e-300)


def test_a_file_name_that_is_no_text_survives_the_disk(tmp_path: Path) -> None:
    part = make(1, paths=("caf\udce9.jpg",))
    write_text(tmp_path / "predictions.csv", predictions_csv({"test": part}))
    text = (tmp_path / "predictions.csv").read_text("utf-8", errors="surrogateescape")
    assert read_predictions_csv(text)["test"].paths == part.paths


def test_parts_of_other_classes_share_no_table() -> None:
    with pytest.raises(DataError, match="share their classes"):
        predictions_csv({"val": make(), "test": make(classes=("x", "y", "z"))})


HEADER = "path,split,label,predicted,p_daisy,p_rose\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "header"),
        ("path,label\n", "header"),
        ("path,split,label,predicted,daisy\n", "header"),
        (HEADER + "a.jpg,test,daisy\n", "Row 2"),
        (HEADER + "a.jpg,test,daisy,daisy,1,0\nb.jpg,test,lily,daisy,1,0\n", "Row 3"),
        (HEADER + "a.jpg,test,daisy,daisy,1,zero\n", "Row 2"),
        (HEADER + "a.jpg,test,daisy,daisy,1\n", "row 2"),
        (HEADER + "a.jpg,test,daisy,daisy,0.9,0.3\n", "sum to 1"),
        (HEADER + "a.jpg,test,daisy,daisy,nan,nan\n", "sum to 1"),
        (HEADER + "a.jpg,test,daisy,daisy,1.5,-0.5\n", "sum to 1"),
        (HEADER + "a.jpg,test,daisy,daisy,0.2,0.8\n", "largest"),
    ],
)
def test_a_damaged_table_is_refused_by_row(text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_predictions_csv(text)
