"""`PALETTE`: the colours of figures by their role. A page may put its own in their place."""

from __future__ import annotations

__all__ = ["PALETTE"]

PALETTE = {
    "ink": "#1c2733",
    "muted": "#5b6875",
    "grid": "#d9dee2",
    "paper": "#ffffff",
    "main": "#1f7a5a",  # what counts: validation, test, right
    "train": "#b8741a",
    "third": "#3f6fb0",
    "warm": "#c4493d",  # what is wrong
}
"""Role -> `#rrggbb`. The four hues stay apart for colour-blind readers, and marks differ in shape as well."""
