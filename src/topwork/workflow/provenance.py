"""`provenance.json`: versions, hardware, seeds, digests. Knows nothing about what they were used for."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from topwork import __version__
from topwork.timings import cpu_name

__all__ = ["command_line", "hardware", "now", "versions"]

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


def command_line() -> str:
    """What the user typed; empty where topwork was called as a library."""
    typed = Path(sys.argv[0])
    is_ours = typed.stem == "topwork" or (typed.name == "__main__.py" and typed.parent.name == "topwork")
    return shlex.join(["topwork", *sys.argv[1:]]) if is_ours else ""
