"""Throughput: turns are fair, ratios are taken within a repeat, and a broken promise is said."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import stages
import throughput
import torch
from stages import Stage, accumulates


def stage(calls: list[str], *, name: str = "decode", rates: tuple[float, float] = (300.0, 100.0)) -> Stage:
    def side(which: str, rate: float) -> float:
        calls.append(f"{name} {which}")
        return rate

    return Stage(
        name=name,
        ours=lambda: side("ours", rates[0]),
        theirs=lambda: side("theirs", rates[1]),
        ceiling=lambda found: found["JPEG alone"],
        target=2.5,
        of_ceiling=0.85,
    )


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], Stage, list[dict[str, Any]]]:
    monkeypatch.setattr(throughput, "jpeg_alone", lambda bench: 400.0)
    monkeypatch.setattr(throughput, "peak_rate", lambda dtype: 1e12)
    calls: list[str] = []
    one = stage(calls)
    repeats = throughput.measure([one], SimpleNamespace(), precisions=("bf16", "f32"), repeats=2)  # type: ignore[arg-type]
    return calls, one, repeats


def test_who_is_first_changes_from_repeat_to_repeat(measured: Any) -> None:
    calls, _, _ = measured
    assert calls == [
        f"decode {side}" for side in ("ours", "theirs", "ours", "theirs", "theirs", "ours")
    ]  # warm-up first


def test_ratios_shares_and_verdict(measured: Any) -> None:
    _, one, repeats = measured
    found = throughput.figures(one, repeats)
    assert (found["ratio"].median, found["of ceiling"].median, found["ratio"].repeats) == (3.0, 0.75, 2)
    assert throughput.verdict(one, found) == "ratio ≥ 2.5: yes, of ceiling ≥ 0.85: NO"


def test_the_ratio_is_not_that_of_medians() -> None:
    pairs = [(10.0, 10.0), (40.0, 20.0), (90.0, 30.0)]
    repeats = [{"s": (ours, theirs, 100.0)} for ours, theirs in pairs]
    one = stage([], name="s")
    assert throughput.figures(one, repeats)["ratio"].median == 2.0
    assert throughput.figures(one, [{"s": (9.0, 3.0, 1.0)}, {"s": (1.0, 1.0, 1.0)}])["ratio"].median == 2.0


def test_multiply_accumulates_of_a_convolution_are_what_a_hand_counts() -> None:
    plain = torch.nn.Conv2d(3, 8, 3, padding=1, bias=False)
    assert accumulates(plain, torch.zeros(1, 3, 10, 10)) == 10 * 10 * 8 * 3 * 9
    depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)
    assert accumulates(depthwise, torch.zeros(1, 8, 10, 10)) == 10 * 10 * 8 * 9


def test_rates_are_images_over_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0.0, 10.0, 2.0))
    monkeypatch.setattr(stages.time, "perf_counter", lambda: next(clock))
    assert stages.timed(lambda: None, 10) == 5.0
