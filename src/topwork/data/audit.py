"""`audit`: a scan, and features where there are some -> everything that is wrong with the photos.

Owns which faults are looked for and their order. Never computes a feature, and opens no file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from topwork.data.copies import PARTS_IN_ORDER, copy_findings
from topwork.data.finding import Finding
from topwork.data.neighbours import unit_features
from topwork.data.quality import quality_findings
from topwork.data.scan import ImageRecord, Scan
from topwork.data.series import series_findings

__all__ = ["audit", "worst_first"]

_ORDER = {"error": 0, "warning": 1, "info": 2}
_UNEVEN = 10.0  # times more photos in the largest class than in the smallest


def audit(scan: Scan, *, features: NDArray[np.generic] | None = None) -> tuple[Finding, ...]:
    """What is wrong with the photos, worst first; the scan's own findings among it.

    Args:
        scan: the photos.
        features: (N,D) of a network that looked at them, in the order of `scan.records`; without them look-alikes are
            told by their hashes only, and series by the camera's clock only.
    """
    units = None if features is None else unit_features(features)
    found = [
        *scan.findings,
        *copy_findings(scan.records, units=units),
        *series_findings(scan.records, units=units),
        *quality_findings(scan.records),
        *_missing_from_split(scan),
        *_uneven(scan.records),
    ]
    return worst_first(found)


def worst_first(findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """Errors, then warnings, then information; otherwise in the order given."""
    return tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity]))


def _missing_from_split(scan: Scan) -> Iterator[Finding]:
    """Classes that a given part lacks: never learned if it is train, never measured otherwise."""
    given = [part for part in PARTS_IN_ORDER if any(record.split == part for record in scan.records)]
    present = {(record.split, record.label) for record in scan.records}
    for part in given if len(given) > 1 else []:
        missing = [label for label in scan.classes if (part, label) not in present]
        if missing:
            loss = "cannot be learned" if part == "train" else "cannot be measured"
            yield Finding(
                kind="missing_from_split",
                severity="error" if part == "train" else "warning",
                files=(),
                evidence=f"the given {part} part has no photo of {', '.join(missing)}, which {loss} there.",
                remedy=f"add photos to {part}, or let topwork split.",
            )


def _uneven(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    counts = Counter(record.label for record in records if record.label)
    if len(counts) < 2:
        return
    (most, many), (least, few) = counts.most_common()[0], counts.most_common()[-1]
    if many > _UNEVEN * few:
        yield Finding(
            kind="uneven_classes",
            severity="info",
            files=(),
            evidence=f"class {most} has {many} photos and class {least} {few}, {many / few:.0f} times fewer.",
            remedy='add photos of the rare class, or set loss.imbalance = "weights" in the recipe.',
        )
