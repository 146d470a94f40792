"""Where topwork keeps what it can make again: one folder per user. Knows nothing of what lies inside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """The folder named by `TOPWORK_CACHE`, else `topwork` in the user's cache folder; it may not exist yet.

    The user's cache folder is `LOCALAPPDATA` on Windows, `~/Library/Caches` on macOS, elsewhere `XDG_CACHE_HOME` or
    `~/.cache` (a relative `XDG_CACHE_HOME` is ignored, as the XDG base directory specification asks).

    Returns:
        An absolute path.
    """
    chosen = os.environ.get("TOPWORK_CACHE", "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return _user_cache() / "topwork"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return _absolute("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return _absolute("XDG_CACHE_HOME") or Path.home() / ".cache"


def _absolute(variable: str) -> Path | None:
    path = Path(os.environ.get(variable, ""))
    return path if path.is_absolute() else None
