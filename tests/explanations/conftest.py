"""The networks and pictures of the golden heatmaps."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def subjects() -> ModuleType:
    """`tests/golden/gradcam_subjects.py`."""
    spec = importlib.util.spec_from_file_location("gradcam_subjects", GOLDEN / "gradcam_subjects.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gradcam_subjects"] = module
    spec.loader.exec_module(module)
    return module
