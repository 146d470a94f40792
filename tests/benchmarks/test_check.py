"""The benchmark of checks: what counts as found, and when a law is broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from check import Known, Took, compared, finding_rows, known_of, promised_seconds, time_rows


def took(seconds: float) -> Took:
    return Took(seconds=seconds, processor=1.5 * seconds, memory=10**9)


KNOWN = Known(
    pairs=[frozenset("ab"), frozenset("cd")], groups=[frozenset("efg")], suspects=["s1", "s2", "s3", "s4", "s5"]
)


def said(*near: str, suspects: int = 5) -> dict[str, Any]:
    findings = [{"kind": "near_duplicate", "files": list(files)} for files in near]
    labels = [{"path": f"s{number}"} for number in range(1, suspects + 1)] + [{"path": "x"}] * 10
    return {"photos": 100, "findings": findings, "label_suspects": labels}


def test_pairs_count_where_one_finding_names_both() -> None:
    found = compared(said("abx", "c", "d", "ef"), KNOWN)
    assert (found["confirmed"], found["found"]) == (2, 1)
    assert (found["told"], found["outside"]) == (4, 2)  # ax and bx; ab is confirmed, ef is one group


def test_suspects_count_within_the_first_twentieth() -> None:
    late = said("ab")
    late["label_suspects"].insert(0, {"path": "other"})
    assert compared(said("ab"), KNOWN)["suspects_found"] == 5
    assert compared(late, KNOWN)["suspects_found"] == 4  # 5 of 100 photos are looked at


@pytest.mark.parametrize(
    ("near", "suspects", "laws"),
    [
        (("ab", "cd"), 5, [True, True, True]),
        (("ab",), 5, [False, True, True]),
        (("ab", "cd", "hijklmnop"), 5, [True, False, True]),  # 36 pairs outside
        (("ab", "cd"), 2, [True, True, False]),
    ],
)
def test_laws_of_what_is_found(near: tuple[str, ...], suspects: int, laws: list[bool]) -> None:
    rows, held = finding_rows(compared(said(*near, suspects=suspects), KNOWN))
    assert held == laws
    assert sum("NO" in row[-1] for row in rows) == laws.count(False)


def test_seconds_are_those_of_three_thousand_photos() -> None:
    assert promised_seconds(20.0, 2000) == pytest.approx(30.0)
    assert promised_seconds(20.0, 6000) == 20.0
    runs = {"quick, cold": [took(5.0), took(4.0), took(6.0)], "whole, warm": [took(99.0)]}
    rows, laws = time_rows(runs, 3000)
    assert laws == [True]
    assert "5.00 (4.00 to 6.00) s" in rows[0][1]
    assert time_rows(runs, 1000)[1] == []  # too few photos to judge
    assert time_rows({"whole, cold": [took(29.0)]}, 2895)[1] == [False]  # 30.05 s for 3,000


def test_what_is_known_lies_beside_the_data(tmp_path: Path) -> None:
    assert known_of(tmp_path / "flowers") is None
    for name, text in {
        "near_duplicates": "# pairs\na/1.jpg\ta/2.jpg\n\n",
        "groups": "a/1.jpg\ta/2.jpg\ta/3.jpg\n",
        "label_suspects": "a/9.jpg\ta shop sign\n",
    }.items():
        (tmp_path / f"flowers_{name}.txt").write_text(text)
    known = known_of(tmp_path / "flowers")
    assert known == Known(
        pairs=[frozenset(["a/1.jpg", "a/2.jpg"])],
        groups=[frozenset(["a/1.jpg", "a/2.jpg", "a/3.jpg"])],
        suspects=["a/9.jpg"],
    )
