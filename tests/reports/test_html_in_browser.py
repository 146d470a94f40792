"""The report as a reader meets it, in a real browser."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from topwork.reports.html import render_report
from topwork.reports.inputs import ReportInputs

_Judge = Callable[[Any], list[str]]

LONG = "a-class-with-a-very-long-name-and-no-spaces-" * 3


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


@pytest.mark.parametrize("width", [390, 900, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_fetched_logged_or_wider_than_the_screen(
    chromium: Any, address: str, width: int, scheme: str
) -> None:
    page, complaints, requests = _opened(chromium, address, width=width, scheme=scheme)
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [address]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("width", [390, 861, 900, 1050, 1280])
def test_the_words_beside_an_error_have_room(chromium: Any, address: str, width: int) -> None:
    page, _, _ = _opened(chromium, address, width=width)
    words = page.locator(".errors .explained dl").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert len(words) == 2
    assert min(words) >= 200
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


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Any, serious: _Judge, address: str, width: int, scheme: str) -> None:
    page, _, _ = _opened(chromium, address, width=width, scheme=scheme)
    assert serious(page) == []
    page.locator(".matrix button").first.click()
    assert page.locator("[popover]:popover-open").count() == 1
    assert serious(page) == []
    page.close()


def test_axe_would_find_something(chromium: Any, serious: _Judge) -> None:
    page = chromium.new_page()
    page.set_content(
        "<html lang=en><title>t</title><main><img src=data:,><p style='color:#aaa'>faint</p></main></html>"
    )
    assert {each.partition(":")[0] for each in serious(page)} >= {"image-alt", "color-contrast"}
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
def test_a_cell_of_the_matrix_opens_its_photos(chromium: Any, address: str, inputs: ReportInputs, width: int) -> None:
    page, complaints, _ = _opened(chromium, address, width=width)
    names, matrix = inputs.classes, inputs.scores["confusion_matrix"]
    i, j = next((i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j)
    panel = page.locator(f"#cell-{i}-{j}")
    assert not panel.is_visible()
    page.get_by_role("button", name=f"of {names[i]} taken for {names[j]}: show").click()
    assert panel.is_visible()
    assert f"{names[i]} taken for {names[j]}" in panel.inner_text()
    assert panel.locator("img").count() == min(matrix[i][j], 6)
    box = panel.bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    panel.get_by_role("button", name="Close").click()
    assert not panel.is_visible()
    assert complaints == []
    page.close()


def test_all_of_it_works_from_the_keyboard(chromium: Any, address: str) -> None:
    page, _, _ = _opened(chromium, address, width=1280)
    page.reload()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    button = page.locator(".matrix button").first
    button.focus()
    page.keyboard.press("Enter")
    panel = page.locator("[popover]:popover-open")
    assert panel.count() == 1
    assert page.evaluate("document.activeElement.textContent") == "Close"  # focus goes into what was opened
    page.keyboard.press("Escape")
    assert panel.count() == 0
    assert button.evaluate("button => button === document.activeElement")
    summary = page.locator("#training summary").first
    assert not page.locator("table.history").is_visible()
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("table.history").is_visible()
    page.close()


def test_every_place_that_scrolls_can_be_reached_with_the_keyboard(chromium: Any, address: str) -> None:
    page, _, _ = _opened(chromium, address, width=390)
    stuck = page.evaluate(
        """() => [...document.querySelectorAll("main *")]
        .filter((e) => e.scrollWidth > e.clientWidth + 1 && ["auto", "scroll"].includes(getComputedStyle(e).overflowX))
        .filter((e) => e.tabIndex < 0 && !e.querySelector("a, button, summary")).map((e) => e.className)"""
    )
    assert stuck == []
    page.close()


def test_the_downloads_are_whole_files(chromium: Any, address: str, inputs: ReportInputs, tmp_path: Path) -> None:
    page, complaints, _ = _opened(chromium, address, width=1280)
    for kind in ("SVG", "CSV"):
        with page.expect_download() as waiting:
            page.get_by_role("link", name=f"{kind} of the confusion matrix").click()
        waiting.value.save_as(tmp_path / waiting.value.suggested_filename)
    assert complaints == []
    with (tmp_path / "confusion_matrix.csv").open(encoding="utf-8", newline="") as stream:
        assert sum(int(row["photos"]) for row in csv.DictReader(stream)) == inputs.scores["accuracy"]["n"]
    page.goto((tmp_path / "confusion_matrix.svg").as_uri())
    assert page.locator("text").count() > len(inputs.classes)
    page.close()


def test_dark_is_dark_and_print_is_light_and_complete(chromium: Any, address: str) -> None:
    page, _, _ = _opened(chromium, address, width=1280, scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert sum(map(int, page.evaluate(ground)[4:-1].split(","))) < 150
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    page.reload()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")  # paper cannot be clicked
    assert page.evaluate("[...document.querySelectorAll('details')].every((part) => part.open)")
    assert not page.locator(".take, .on-screen").first.is_visible()
    page.close()


def test_without_script_everything_but_sorting_works(chromium: Any, address: str) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("table.classes th button").count() == 0
    page.locator(".matrix button").first.click()
    assert page.locator("[popover]:popover-open").is_visible()
    context.close()


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
