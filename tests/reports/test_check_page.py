"""The page of a check: every severity has its own place, what all ask for is said once, and nothing is cut off."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from topwork.data.finding import Finding
from topwork.reports.check_page import CheckInputs, render_check

LONG = "a-name-that-is-very-long-and-has-no-spaces-" * 4


def finding(kind: str, *files: str, severity: str = "info", remedy: str = "nothing, really.") -> Finding:
    return Finding(kind=kind, severity=severity, files=files, evidence=f"{kind} of {files}.", remedy=remedy)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 300, 3), np.uint8)
    for name in ("a/1.png", "a/2.png", "b/3.png", f"b/{LONG}.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    return tmp_path


def page(root: Path, *findings: Finding, suspects: tuple[dict[str, Any], ...] = ()) -> str:
    return render_check(
        CheckInputs(name="x", root=root, photos=4, classes=("a", "b"), findings=findings, suspects=suspects)
    )


def pictures(text: str) -> list[tuple[int, int]]:
    coded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(each))).size for each in coded]


def test_a_kind_of_two_severities_stands_in_two_places(root: Path) -> None:
    text = page(
        root,
        finding("near_duplicate", "a/1.png", "b/3.png", severity="warning", remedy="choose."),
        finding("near_duplicate", "a/1.png", "a/2.png"),
    )
    assert re.findall(r'<section id="(\S+)"', text) == ["near_duplicate-warning", "near_duplicate-info"]
    assert "Look-alikes with different labels" in text
    identifiers = re.findall(r' id="([^"]+)"', text)
    assert len(set(identifiers)) == len(identifiers)
    assert set(re.findall(r'href="#([^"]+)"', text)) <= set(identifiers)


def test_what_all_findings_of_a_kind_ask_for_is_said_once(root: Path) -> None:
    several = [finding("series", "a/1.png", "a/2.png"), finding("series", "a/1.png", "b/3.png")]
    assert page(root, *several).casefold().count("nothing, really.") == 1
    assert page(root, several[0], finding("series", "b/3.png", remedy="act.")).casefold().count("nothing, really.") == 1
    assert "what to do: nothing, really." in page(root, *several)
    assert "what to do:" not in page(root, several[0])


def test_a_very_long_photo_is_shown_whole_and_others_as_squares(root: Path) -> None:
    assert pictures(page(root, finding("blurred", "a/1.png"))) == [(160, 160)]
    assert pictures(page(root, finding("extreme_aspect", "a/1.png"))) == [(160, 32)]


def test_a_photo_that_has_gone_is_a_gap_with_its_name(root: Path) -> None:
    (root / "a/1.png").unlink()
    text = page(root, finding("blurred", "a/1.png", "a/2.png"))
    assert len(pictures(text)) == 1
    assert "picture not available" in text


@pytest.mark.parametrize("width", [390, 1280])
def test_long_and_hostile_names_do_not_widen_the_page(root: Path, browser: str, width: int, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    suspect = {"path": f"b/{LONG}.png", "label": LONG, "suggested": "<b>b", "p_label": 0.1, "p_suggested": 0.9}
    many = [f"a/{number}-{LONG}" for number in range(70)]
    text = page(
        root,
        finding("blurred", f"b/{LONG}.png", "a/1.png", severity="warning", remedy=LONG),
        finding("not_a_photo", *many, "<script>alert(1)</script>"),
        suspects=(suspect,),
    )
    (tmp_path / "check.html").write_text(text, encoding="utf-8")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        shown = chromium.new_page(viewport={"width": width, "height": 900})
        complaints: list[str] = []
        shown.on("console", lambda message: complaints.append(message.text))
        shown.goto((tmp_path / "check.html").as_uri())
        shown.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate("document.querySelectorAll('script').length") == 0
        chromium.close()
    assert complaints == []
