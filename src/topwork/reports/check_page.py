"""A check as a page: findings by kind with their photos side by side, and suspect labels. Knows no run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from topwork.data.finding import Finding
from topwork.reports.html import render_page
from topwork.reports.remedies import WITHOUT_PICTURE, common_remedy
from topwork.reports.thumbnail import Thumbnail, make_thumbnail
from topwork.reports.wording import count

__all__ = ["CheckInputs", "KindOfFinding", "ShownFinding", "ShownSuspect", "render_check"]

_FINDINGS_A_KIND = 40
_PHOTOS_A_FINDING = 6
_PHOTOS = 24  # of a finding that stands alone in its kind
_SUSPECTS = 60
_SIDE = 160
_BYTES = 4_000_000  # of all pictures
_WORKERS = 2
_WHOLE = ("extreme_aspect",)  # kinds whose fault the central square of a photo would hide
_SEVERITIES = {
    "error": ("Errors", "must be fixed"),
    "warning": ("Warnings", "should be looked at"),
    "info": ("Information", "good to know"),
}
_ALL_WELL = "Nothing is wrong with these photos, as far as this check sees."
_TITLES = {
    "label_conflict": "One picture, two labels",
    "leak": "Leaks between parts",
    "exact_duplicate": "Copies",
    "near_duplicate": "Look-alikes",
    "not_a_photo": "Files that are no photos",
    "odd_mode": "Odd colour modes",
    "label_suspect": "Labels that look wrong",
    "missing_from_split": "Classes that a part lacks",
    "extreme_aspect": "Very long photos",
}
_MORE_TITLE = {("near_duplicate", "warning"): " with different labels", ("leak", "warning"): ", perhaps"}


@dataclass(frozen=True, kw_only=True)
class CheckInputs:
    """One check.

    Args:
        name: of the data.
        root: the folder that the photos' paths start from.
        photos: how many were readable.
        classes: the labels.
        findings: errors first.
        suspects: `path, label, suggested, p_label, p_suggested`, the most suspect first.
    """

    name: str
    root: Path
    photos: int
    classes: Sequence[str]
    findings: Sequence[Finding]
    suspects: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class ShownFinding:
    """A finding and some of its photos."""

    finding: Finding
    thumbnails: tuple[Thumbnail, ...]


@dataclass(frozen=True)
class KindOfFinding:
    """All findings of a kind and severity.

    Args:
        name: of its place in the page.
        title: for people.
        severity: of all of them.
        total: counts those that are not shown too.
        remedy: what all of them ask for, if they are several and it is the same.
        findings: those that are shown.
    """

    name: str
    title: str
    severity: str
    total: int
    remedy: str | None
    findings: tuple[ShownFinding, ...]


@dataclass(frozen=True)
class ShownSuspect:
    """A photo whose label looks wrong."""

    row: Mapping[str, Any]
    thumbnail: Thumbnail


def render_check(inputs: CheckInputs) -> str:
    """What a check found as one self-contained HTML page without script, at most 5 MB.

    Args:
        inputs: photos are read below `inputs.root`; one that has vanished becomes a gap with its name.
    """
    severities: list[str] = [finding.severity for finding in inputs.findings]
    parts = [
        f"{count(severities.count(level), 'finding')} {words}"
        for level, (_, words) in _SEVERITIES.items()
        if level in severities
    ]
    context = {
        "check": inputs,
        "verdict": f"{'; '.join(parts)}." if parts else _ALL_WELL,
        "counts": [(title, severities.count(level)) for level, (title, _) in _SEVERITIES.items()],
        "kinds": _shown_kinds(inputs),
        "suspects": _shown_suspects(inputs),
    }
    return render_page("check.html.j2", context, styles=("report.css", "check.css"))


def _shown_kinds(inputs: CheckInputs) -> tuple[KindOfFinding, ...]:
    """Findings by kind and severity, in the order of the findings, with photos as far as the page's budget goes."""
    kinds: dict[tuple[str, str], list[Finding]] = {}
    for finding in inputs.findings:
        kinds.setdefault((finding.kind, finding.severity), []).append(finding)
    wanted = {
        kind: [(finding, _chosen(finding, alone=len(found) == 1)) for finding in found[:_FINDINGS_A_KIND]]
        for kind, found in kinds.items()
    }
    chosen = {kind: [file for _, files in found for file in files] for kind, found in wanted.items()}
    whole = frozenset(file for (kind, _), files in chosen.items() if kind in _WHOLE for file in files)
    pictures = _thumbnails(inputs.root, [file for files in chosen.values() for file in files], whole=whole)
    return tuple(
        KindOfFinding(
            name=f"{kind}-{severity}",
            title=_TITLES.get(kind, kind.replace("_", " ").capitalize()) + _MORE_TITLE.get((kind, severity), ""),
            severity=severity,
            total=len(kinds[kind, severity]),
            remedy=common_remedy(finding.remedy for finding in kinds[kind, severity]),
            findings=tuple(
                ShownFinding(finding, tuple(pictures[file] for file in files if file in pictures))
                for finding, files in found
            ),
        )
        for (kind, severity), found in wanted.items()
    )


def _shown_suspects(inputs: CheckInputs) -> tuple[ShownSuspect, ...]:
    """The most suspect labels with their photos."""
    rows = inputs.suspects[:_SUSPECTS]
    pictures = _thumbnails(inputs.root, [row["path"] for row in rows])
    return tuple(ShownSuspect(row, pictures.get(row["path"], Thumbnail(path=row["path"], source=None))) for row in rows)


def _chosen(finding: Finding, *, alone: bool) -> tuple[str, ...]:
    """Files whose pictures say something; of unreadable ones and of those that are no photos there are none."""
    if finding.kind in WITHOUT_PICTURE:
        return ()
    return finding.files[: _PHOTOS if alone else _PHOTOS_A_FINDING]


def _thumbnails(root: Path, paths: Sequence[str], *, whole: Set[str] = frozenset()) -> dict[str, Thumbnail]:
    """Pictures by path; those beyond the budget are left out."""
    unique = list(dict.fromkeys(paths))
    with ThreadPoolExecutor(_WORKERS) as pool:
        made = list(pool.map(lambda path: make_thumbnail(root, path, side=_SIDE, whole=path in whole), unique))
    kept, left = {}, _BYTES // 2
    for thumbnail in made:
        left -= len(thumbnail.source or "")
        if left >= 0:
            kept[thumbnail.path] = thumbnail
    return kept
