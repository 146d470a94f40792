"""Who may import whom: import-linter's contracts, and one door for every heavy dependency."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from pprint import pformat
from typing import Any

DOORS = {
    "timm": {"topwork.models.networks"},
    "openvino": {"topwork.models.openvino_trunk"},
    "keras": {"topwork.exports.to_keras"},
    "jinja2": {"topwork.reports.html"},
    "mlflow": {"topwork.tracking.mlflow"},
    "torch.utils.tensorboard": {"topwork.tracking.tensorboard"},
    "wandb": {"topwork.tracking.wandb"},
}


def _doors(module: str, otherwise: str) -> set[str]:
    return next((doors for name, doors in DOORS.items() if f"{module}.".startswith(f"{name}.")), {otherwise})


def test_import_linter_keeps_every_contract(repo: Path) -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    done = subprocess.run(
        command,
        cwd=repo,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(repo / "src")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_heavy_dependency_has_one_door(sources: list[Any]) -> None:
    strays = [
        f"{source.path}:{line} imports {module}"
        for source in sources
        for module, line in source.imports()
        if source.name not in _doors(module, source.name)
    ]
    assert not strays, pformat(strays, width=120)


def test_measures_name_no_network_library(sources: list[Any]) -> None:
    strays = [
        f"{source.path}:{line} imports {module}"
        for source in sources
        if source.name.startswith("topwork.measures")
        for module, line in source.imports()
        if module.split(".")[0] in {"torch", "torchvision", "timm", "openvino"}
    ]
    assert not strays, pformat(strays, width=120)
