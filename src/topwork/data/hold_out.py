"""`hold_out`: whole classes are set aside, with everything that would give them away. Opens no file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from topwork.data.dealing import group_keys, manifest_of
from topwork.data.finding import Finding
from topwork.data.manifest import Manifest
from topwork.data.scan import Scan
from topwork.errors import DataError

__all__ = ["HeldOut", "hold_out"]


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What is left, and what was set aside.

    Args:
        scan: the photos of the other classes.
        manifest: the photos of the classes set aside, all in `test`.
        findings: photos in neither, because they belong with one that was set aside.
    """

    scan: Scan
    manifest: Manifest
    findings: tuple[Finding, ...]


def hold_out(scan: Scan, classes: Sequence[str]) -> HeldOut:
    """Set classes aside: a model that never saw them is asked about them later.

    Raises:
        DataError: if there is no such class, or fewer than two would be left.
    """
    for name in classes:
        if name not in scan.classes:
            near = difflib.get_close_matches(name, scan.classes, n=1) or list(scan.classes)
            what = f"The class to hold out must be one of {len(scan.classes)}. Got {name!r}."
            raise DataError(what, fix=f"use {near[0]!r}.")
    left = tuple(name for name in scan.classes if name not in classes)
    if len(left) < 2:
        what = f"Two classes must be left to learn from. Got {len(left)} beside {', '.join(sorted(classes))}."
        raise DataError(what, fix="hold out fewer classes.")
    keys = group_keys(scan.records)
    aside = {record.path for record in scan.records if record.label in classes}
    marked = {keys[path] for path in aside}
    joined = tuple(sorted(path for path, key in keys.items() if key in marked and path not in aside))
    rest = tuple(record for record in scan.records if record.path not in aside and record.path not in joined)
    findings = []
    if joined:
        evidence = f"{len(joined)} photos, such as {joined[0]}, belong with photos of a held-out class; left out."
        remedy = "look at their labels; one of two may be wrong."
        findings = [Finding(kind="joins_held_out", severity="warning", files=joined, evidence=evidence, remedy=remedy)]
    return HeldOut(
        scan=replace(scan, records=rest, classes=left),
        manifest=manifest_of(scan, keys, parts=dict.fromkeys(aside, "test")),
        findings=tuple(findings),
    )
