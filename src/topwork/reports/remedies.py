"""What pages share about findings: kinds of which no picture can be shown, and what several of a kind ask for."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["WITHOUT_PICTURE", "common_remedy"]

WITHOUT_PICTURE = frozenset({"unreadable", "not_a_photo", "unusable_name", "link_refused", "quarantined", "missing"})
"""Kinds of findings whose files are no photos, or must not be opened."""


def common_remedy(remedies: Iterable[str]) -> str | None:
    """What several findings ask for, if that is the same: it needs to be said only once.

    Args:
        remedies: of all findings of a kind, one for each.

    Example:
        >>> common_remedy(["keep one.", "keep one."])
        'keep one.'
        >>> common_remedy(["keep one."]) is None and common_remedy(["keep one.", "look."]) is None
        True
    """
    asked = list(remedies)
    return asked[0] if len(asked) > 1 and len(set(asked)) == 1 else None
