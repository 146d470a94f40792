"""The script and the notebook of `examples/` tell the same story, and both run on drawn flowers as they stand."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

_KERNEL_IS_SLOW = 600  # seconds for a cell, and for the whole story


@pytest.fixture(scope="module")
def converter(repo: Path) -> dict[str, Any]:
    return runpy.run_path(str(repo / "examples/as_notebook.py"))


@pytest.fixture(scope="module")
def given(drawn_photos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment with a folder `flowers`, in which a warning ends the story."""
    assert drawn_photos.name == "flowers"
    return {
        **os.environ,
        "TOPWORK_TEST_DATA": str(drawn_photos.parent),
        "TOPWORK_CACHE": str(tmp_path_factory.mktemp("cache")),
        "PYTHONWARNINGS": "error",
        "IPYTHONDIR": str(tmp_path_factory.mktemp("ipython")),
    }


def test_the_notebook_is_what_the_script_gives(repo: Path, converter: dict[str, Any]) -> None:
    script = (repo / "examples/flowers.py").read_text(encoding="utf-8")
    committed = (repo / "examples/flowers.ipynb").read_text(encoding="utf-8")
    assert committed == converter["notebook"](script), "fix: python examples/as_notebook.py"


def test_the_notebook_is_valid_small_and_without_outputs(repo: Path) -> None:
    file = repo / "examples/flowers.ipynb"
    found = nbformat.read(file, as_version=4)
    nbformat.validate(found)
    assert not any(cell.get("outputs") for cell in found.cells)
    assert file.stat().st_size < 300_000


def test_every_line_of_the_script_is_in_a_cell(repo: Path, converter: dict[str, Any]) -> None:
    script = (repo / "examples/flowers.py").read_text(encoding="utf-8")
    found = nbformat.reads(converter["notebook"](script), as_version=4)
    code = "\n".join(cell.source for cell in found.cells if cell.cell_type == "code")
    text = "\n".join(cell.source for cell in found.cells if cell.cell_type == "markdown")
    lines = [line for line in script.splitlines() if line and not line.startswith("# %%")]
    assert sorted(line for line in lines if line.startswith("#")) == sorted(
        f"# {line}".rstrip() for line in text.splitlines()
    )
    assert [line for line in lines if not line.startswith("#")] == [line for line in code.splitlines() if line]


@pytest.mark.parametrize(
    ("script", "says"),
    [("import os\n# %%\n", "begin a cell"), ("# %% [markdown]\nno comment\n", "must begin with '# '")],
)
def test_what_is_no_script_of_cells_is_refused(converter: dict[str, Any], script: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        converter["notebook"](script)


def _tells_the_story(said: str) -> None:
    for part in (
        "50 photos of daisy",
        "On the test split",
        "accuracy",
        "recall",
        "p =",
        "kernel against probe",
        "fold",
    ):
        assert part in said, part


@pytest.mark.slow
@pytest.mark.timeout(_KERNEL_IS_SLOW)
def test_the_script_runs(given: dict[str, str], repo: Path, tmp_path: Path) -> None:
    program = [sys.executable, str(repo / "examples/flowers.py"), str(Path(given["TOPWORK_TEST_DATA"]) / "flowers")]
    ran = subprocess.run(program, cwd=tmp_path, env=given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stderr == ""
    _tells_the_story(ran.stdout)
    for made in ("run/report.html", "mistakes.png", "compare/comparison.html"):
        assert (tmp_path / "runs/flowers-example" / made).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.timeout(_KERNEL_IS_SLOW)
def test_the_notebook_runs(given: dict[str, str], repo: Path, tmp_path: Path) -> None:
    told = nbformat.read(repo / "examples/flowers.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        told, timeout=_KERNEL_IS_SLOW, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute(env=given)
    outputs = [output for cell in told.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    _tells_the_story("".join(output.get("text", "") for output in outputs))
    assert any("image/png" in output.get("data", {}) for output in outputs)
