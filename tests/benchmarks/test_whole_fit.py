"""The laws of a whole fit: they hold for what is promised, and each can be broken."""

from __future__ import annotations

from typing import Any

import pytest
from whole_fit import RUNS, Fitted, laws


def run(name: str, **changes: Any) -> Fitted:
    accuracy = {"value": changes.pop("accuracy", 0.94), "low": 0.9, "high": 0.96, "n": 289}
    options: dict[str, Any] = {
        "seconds": 200.0 if name in ("cold", "again") else 15.0,
        "peak": int(2.5e9),
        "evaluation": {"splits": {"test": {"accuracy": accuracy}}, "seconds": {}},
        "computed": 1000 if name == "cold" else 0,
    }
    return Fitted(name=name, **options | changes)


def runs(**changed: dict[str, Any]) -> list[Fitted]:
    return [run(name, **changed.get(name.split()[0], {})) for name in RUNS]


def test_what_is_promised_passes() -> None:
    assert all(laws(runs(), photos=2895).values())
    assert all(laws(runs(again={"accuracy": 0.9403}, kernel={"seconds": 99.0}), photos=20).values())


@pytest.mark.parametrize(
    ("changed", "broken"),
    [
        ({"again": {"computed": 1}}, "no trunk work"),
        ({"again": {"accuracy": 0.941}}, "3 decimals"),
        ({"cold": {"seconds": 301.0}}, "300 s"),
        ({"cold": {"peak": int(3e9)}}, "3 GB"),
        ({"another": {"seconds": 20.0}}, "another head"),
        ({"kernel": {"computed": 1}}, "kernel"),
    ],
)
def test_each_law_can_be_broken(changed: dict[str, Any], broken: str) -> None:
    failed = [law for law, good in laws(runs(**changed), photos=2895).items() if not good]
    assert len(failed) == 1
    assert broken in failed[0]
