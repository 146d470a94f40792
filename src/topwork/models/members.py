"""Networks that stand side by side, by name: `A+B`, and what must be the same in all of them. Knows no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from topwork.errors import RecipeError
from topwork.models.wheels import WHEELS

__all__ = ["check_alike", "member_names"]

_JOIN = "+"
_MOST = 4  # a bundle may name them, and a hostile one must not cost minutes


def member_names(name: str) -> tuple[str, ...]:
    """The networks in a name: one, or several that stand side by side.

    Raises:
        RecipeError: if there are too many, one is named twice, or a name is empty.

    Example:
        >>> member_names("resnet18+resnet34")
        ('resnet18', 'resnet34')
    """
    names = tuple(name.split(_JOIN))
    own = {each.removeprefix("tf_") if each.removeprefix("tf_") in WHEELS else each for each in names}  # not its alias
    if len(names) > 1 and (len(names) > _MOST or len(own) < len(names) or not all(names)):
        raise RecipeError(
            f"Networks side by side must be 2 to {_MOST} different ones. Got {name!r}.",
            fix="name them as in efficientnet_lite0+efficientnet_lite1.",
        )
    return names


def check_alike(facts: Mapping[str, Any], *, what: str) -> None:
    """Networks can be joined only where something is the same in all of them.

    Args:
        facts: the network's name -> what it is there.
        what: for the message.

    Raises:
        RecipeError: if two differ.
    """
    (first, expected), *others = facts.items()
    for name, found in others:
        if found != expected:
            raise RecipeError(
                f"{first} and {name} cannot stand side by side: {what} is {expected} and {found}.",
                fix="join networks that are built and trained alike, e.g. efficientnet_lite0+efficientnet_lite1.",
            )
