from __future__ import annotations

import doctest
import math
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from topwork.reports import inputs, tables, wording
from topwork.reports.wording import duration, number, p_value, percent, photos, shortened, visible


@pytest.mark.parametrize("module", [wording, tables, inputs])
def test_examples_in_docstrings_hold(module: object) -> None:
    assert doctest.testmod(module).failed == 0  # type: ignore[arg-type]


@given(st.text(alphabet=st.characters(codec=None, categories=None)))
def test_visible_text_can_be_encoded_and_hides_nothing(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)
    assert visible(shown) == shown
    assert len(shown) >= len(text)


@given(st.text(max_size=60), st.integers(min_value=4, max_value=40))
def test_shortened_text_keeps_both_ends(text: str, length: int) -> None:
    short = shortened(text, length)
    assert len(short) <= length
    assert short == text or (text.startswith(short[0]) and text.endswith(short[-1]))


@given(st.floats(min_value=0, max_value=3599))
def test_durations_read_back_within_half_a_step(seconds: float) -> None:
    words = duration(seconds).split()
    parts = dict(zip(words[1::2], map(float, words[::2]), strict=True))
    if seconds < 3599.5:
        read = parts.get("h", 0) * 3600 + parts.get("min", 0) * 60 + parts.get("s", 0)
        assert abs(read - seconds) <= 0.5001


@given(st.integers(0, 10**7), st.integers(1, 5))
def test_means_of_photos_read_back_within_half_a_digit(total: int, seeds: int) -> None:
    text = photos(total / seeds)
    assert abs(float(text.replace(",", "")) - total / seeds) <= 0.0501
    assert ("." in text) == (total % seeds > 0)
    assert photos(-total / seeds, sign=True)[0] == ("\N{MINUS SIGN}" if total else "+")


def test_a_p_value_is_never_nothing() -> None:
    assert [p_value(p).split() for p in (1.0, 0.05, 0.0005, 0.0004, 0.0)] == [
        ["1.000"],
        ["0.050"],
        ["0.001"],
        ["<", "0.001"],
        ["<", "0.001"],
    ]
    assert p_value(0.0, named=True).split() == ["p", "<", "0.001"]


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_no_number_is_a_dash(value: float | None) -> None:
    assert number(value) == percent(value) == duration(value) == "\N{EN DASH}"
