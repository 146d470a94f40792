"""The report as a reader meets it, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from topwork.reports.html import render_report
from topwork.reports.inputs import ReportInputs

LONG = "a-class-with-a-very-long-name-and-no-spaces-" * 3


@pytest.fixture(scope="module")
def chromium(browser: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


@pytest.fixture(scope="module")
def address(inputs: ReportInputs, tmp_path_factory: pytest.TempPathFactory) -> str:
    return _written(inputs, tmp_path_factory.mktemp("page"))


def _written(inputs: ReportInputs, folder: Path) -> str:
    file = folder / "report.html"
    file.write_text(render_report(inputs), encoding="utf-8")
    return file.as_uri()


def _opened(chromium: Any, address: str, *, width: int, scheme: str = "light") -> tuple[Any, list[str], list[str]]:
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(address)
    page.evaluate("for (const part of document.querySelectorAll('details')) part.open = true")
    page.wait_for_function("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    return page, complaints, requests


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_fetched_logged_or_wider_than_the_screen(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    page, complaints, requests = _opened(chromium, address, width=width, scheme=scheme)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_hostile_and_long_names_neither_run_nor_widen_the_page(
    chromium: Any, inputs_of: Callable[..., ReportInputs], tmp_path: Path
) -> None:
    names = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", LONG)
    page, complaints, _ = _opened(chromium, _written(inputs_of(classes=names, name=LONG, each=12), tmp_path), width=390)
    assert complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_click_sorts_and_a_second_click_turns_around(chromium: Any, address: str) -> None:
    page, _, _ = _opened(chromium, address, width=1280)
    button = page.locator("table.classes th", has_text="Recall").locator("button")

    def recalls() -> list[float]:
        values = page.locator("table.classes tbody tr td:nth-child(3)").evaluate_all("c => c.map(x => x.dataset.value)")
        return [float(value) for value in values]

    before = recalls()
    button.click()
    assert recalls() == sorted(before) != sorted(before, reverse=True)
    assert page.locator("table.classes th[aria-sort=ascending]").count() == 1
    button.click()
    assert recalls() == sorted(before, reverse=True)
    page.locator("table.classes th", has_text="Class").locator("button").press("Enter")
    names = page.locator("table.classes tbody th").all_inner_texts()
    assert names == sorted(names)
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(chromium: Any, address: str, scheme: str) -> None:
    page, _, _ = _opened(chromium, address, width=1280, scheme=scheme)
    weakest = page.evaluate(CONTRAST)
    assert weakest["ratio"] >= 4.5, weakest  # WCAG 2.2, criterion 1.4.3
    page.close()


CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const paint = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let worst = { ratio: 99 };
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || element.closest("script, svg, .skip")) continue;
    const grounds = [];
    for (let up = element; up; up = up.parentElement) grounds.unshift(getComputedStyle(up).backgroundColor);
    const ground = paint(grounds);
    const ink = paint([...grounds, getComputedStyle(element).color]);
    const [a, b] = [luminance(ground), luminance(ink)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: element.textContent.trim(), html: element.outerHTML.slice(0, 120) };
  }
  return worst;
}"""
