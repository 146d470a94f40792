"""What the documentation tells a reader to type works, in the order given, on drawn flowers.

Executed are the `$ topwork ...` lines of ```console blocks and then the ```python blocks, all of one page in one folder
that holds `photos/` (five class folders) and `photo.jpg`. A page that needs other names must make them itself.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGES = ["README.md", "docs/getting-started.md", "docs/guides/explain.md", "docs/guides/export.md"]
README_LINES = 120


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def _commands(text: str) -> list[list[str]]:
    lines = [line for block in _blocks(text, "console") for line in block.splitlines()]
    return [shlex.split(line[2:], comments=True) for line in lines if line.startswith("$ topwork")]


@pytest.fixture
def folder(tmp_path: Path, drawn_photos: Path) -> Path:
    shutil.copytree(drawn_photos, tmp_path / "photos")
    first = next(path for path in sorted(drawn_photos.rglob("*")) if path.suffix in (".jpg", ".png"))
    from PIL import Image

    with Image.open(first) as picture:
        picture.convert("RGB").save(tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", PAGES)
def test_what_the_page_says_works(page: str, folder: Path, repo: Path) -> None:
    text = (repo / page).read_text(encoding="utf-8")
    programs = [["-m", *words] for words in _commands(text)] + [["-c", code] for code in _blocks(text, "python")]
    assert programs, f"{page} shows no command"
    for program in programs:
        done = subprocess.run(
            [sys.executable, *program],
            cwd=folder,
            env={**os.environ, "COLUMNS": "100"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"{page}: {shlex.join(program[1:])}\n{done.stdout}\n{done.stderr}"


def test_the_readme_is_short(repo: Path) -> None:
    assert len((repo / "README.md").read_text(encoding="utf-8").splitlines()) <= README_LINES


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str, repo: Path) -> None:
    text = (repo / page).read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    local = [target for target in targets if target and "://" not in target]
    assert not [target for target in local if not ((repo / page).parent / target).exists()]
