"""Help and a bare import answer at once: nothing heavy is loaded for them."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "sklearn",
    "scipy",
    "matplotlib",
    "openvino",
    "cv2",
    "pandas",
    "jinja2",
    "keras",
)

HELP = """
import topwork.cli.app as cli
for words in (["--help"], *([name, "--help"] for name in sorted(cli.typer.main.get_command(cli.app).commands))):
    assert cli.run(words) == 0, words
"""


@pytest.mark.parametrize("program", ["import topwork", "import topwork; dir(topwork)", HELP])
def test_nothing_heavy_is_loaded(program: str) -> None:
    check = f"\nimport sys\nloaded = [name for name in {HEAVY!r} if name in sys.modules]\nassert not loaded, loaded\n"
    done = subprocess.run([sys.executable, "-c", program + check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
