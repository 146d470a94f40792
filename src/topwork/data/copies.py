"""What is wrong with copies: the same picture twice, under two labels, or on both sides of a given split.

Works on records and, where there are some, on features; opens no file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from topwork.data.duplicates import connect
from topwork.data.finding import Finding, Severity
from topwork.data.lookalikes import LookAlike, look_alikes
from topwork.data.scan import ImageRecord

__all__ = ["PARTS_IN_ORDER", "copy_findings"]

PARTS_IN_ORDER = ("train", "val", "test")
"""Given parts in the order in which findings name them."""


def copy_findings(records: Sequence[ImageRecord], *, units: NDArray[np.float32] | None = None) -> tuple[Finding, ...]:
    """What is wrong with copies.

    `label_conflict` (error): one picture under two labels: the same bytes, or copies that hash and features agree on.
    `leak` (error): such a picture, or one group of the manifest, in two given splits; a warning where photos only look
    alike. `exact_duplicate` (warning): the same bytes, and neither of those. `near_duplicate` (info): photos that look
    alike; a warning where their labels differ. Copies byte for byte are look-alikes only where their labels differ.

    Args:
        records: the photos.
        units: (N,D) features of length 1, row by row. Without them the hash alone tells what looks alike.
    """
    findings: list[Finding] = []
    for copies in _by(records, "sha256"):
        findings += _about_copies(copies)
    for members in _by(records, "group"):
        findings += _leak(members, "error", what=f"group {members[0].group}")
    pairs = look_alikes(records, units=units)
    for group, _ in _connected(records, [pair for pair in pairs if pair.sure]):
        if len({record.sha256 for record in group}) > 1:
            findings += _about_saved_twice(group)
    leaks = [set(finding.files) for finding in findings if finding.kind == "leak"]
    for group, signs in _connected(records, pairs):
        if len({record.sha256 for record in group}) > 1 or len(_labels(group)) > 1:
            findings.append(_near(group, signs))
            if not any(files <= set(_paths(group)) for files in leaks):
                findings += _leak(group, "warning", what="look-alikes")
    return tuple(findings)


def _connected(
    records: Sequence[ImageRecord], pairs: Sequence[LookAlike]
) -> list[tuple[list[ImageRecord], list[LookAlike]]]:
    """Groups of two or more that pairs join, each sorted by path and with its pairs, sorted by their first path."""
    roots = connect(len(records), [(pair.first, pair.second) for pair in pairs])
    members, signs = defaultdict(list), defaultdict(list)
    for record, root in zip(records, roots, strict=True):
        members[root].append(record)
    for pair in pairs:
        signs[roots[pair.first]].append(pair)
    groups = [(sorted(members[root], key=lambda record: record.path), mine) for root, mine in signs.items()]
    return sorted(groups, key=lambda group: group[0][0].path)


def _by(records: Sequence[ImageRecord], field: str) -> list[list[ImageRecord]]:
    members = defaultdict(list)
    for record in sorted(records, key=lambda record: record.path):
        members[getattr(record, field)].append(record)
    return [group for key, group in members.items() if key is not None and len(group) > 1]


def _paths(group: Sequence[ImageRecord]) -> tuple[str, ...]:
    return tuple(record.path for record in group)


def _labels(group: Sequence[ImageRecord]) -> list[str]:
    return sorted({record.label for record in group if record.label})


def _about_copies(copies: Sequence[ImageRecord]) -> list[Finding]:
    found = [*_conflict(copies, what="the same picture stands"), *_leak(copies, "error", what="the same picture")]
    if found:
        return found
    evidence = f"{len(copies)} files hold the same picture, byte for byte."
    remedy = "keep one of them; until then they stay in one part of the split."
    return [Finding(kind="exact_duplicate", severity="warning", files=_paths(copies), evidence=evidence, remedy=remedy)]


def _about_saved_twice(group: Sequence[ImageRecord]) -> list[Finding]:
    """Errors about copies that differ in their bytes, unless copies within them that do not differ tell the same."""
    exact = [_about_copies(copies) for copies in _by(group, "sha256")]
    known = {finding.kind for findings in exact for finding in findings}
    found = [*_conflict(group, what="one picture, saved again, stands"), *_leak(group, "error", what="one picture")]
    return [finding for finding in found if finding.kind not in known]


def _conflict(group: Sequence[ImageRecord], *, what: str) -> list[Finding]:
    labels = _labels(group)
    if len(labels) < 2:
        return []
    evidence = f"{what} under {' and '.join(labels)}."
    remedy = "keep it under the right label, delete the others."
    return [Finding(kind="label_conflict", severity="error", files=_paths(group), evidence=evidence, remedy=remedy)]


def _leak(group: Sequence[ImageRecord], severity: Severity, *, what: str) -> list[Finding]:
    parts = [part for part in PARTS_IN_ORDER if any(record.split == part for record in group)]
    if len(parts) < 2:
        return []
    evidence = f"{what} in {' and '.join(parts)}: the given split is not independent."
    remedy = "move them to one part, or let topwork split."
    return [Finding(kind="leak", severity=severity, files=_paths(group), evidence=evidence, remedy=remedy)]


def _near(group: Sequence[ImageRecord], pairs: Sequence[LookAlike]) -> Finding:
    plain = [pair for pair in pairs if not pair.mirrored]
    cosines = [pair.cosine for pair in pairs if pair.cosine is not None]
    labels, same = _labels(group), len({record.sha256 for record in group}) == 1
    under = f", under {' and '.join(labels)}" if len(labels) > 1 else ""
    most, least = ("at most ", "at least ") if len(pairs) > 1 else ("", "")
    signs = [f"their hashes differ in {most}{max(pair.bits for pair in plain)} of 64 bits"] if plain else []
    signs += ["one is the mirror image of the other"] * (len(plain) < len(pairs))
    signs += [f"the cosine of their features is {least}{min(cosines):.2f}"] if cosines else []
    return Finding(
        kind="near_duplicate",
        severity="warning" if under and (cosines or same) else "info",  # a hash alone may pair different things
        files=_paths(group),
        evidence=f"{len(group)} photos look alike{under}: {', '.join(signs)}.",
        remedy="keep it under the right label, delete the others." if under else "nothing, or keep the best one.",
    )
