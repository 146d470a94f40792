"""`provenance.json`: versions, hardware, seeds, digests. Knows nothing about what they were used for."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from topwork import __version__
from topwork.timings import cpu_name

__all__ = ["hardware", "now", "versions"]

_PACKAGES = ("torch", "timm", "openvino", "numpy", "scipy", "pillow", "opencv-python-headless", "safetensors")


def now() -> str:
    """This moment, ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python, topwork and the packages that decide the numbers."""
    found = {"python": platform.python_version(), "topwork": __version__}
    return found | {package: metadata.version(package) for package in _PACKAGES}


def hardware() -> dict[str, Any]:
    """Processor, usable cores and system."""
    return {"cpu": cpu_name(), "cores": os.cpu_count() or 1, "system": platform.platform(terse=True)}
