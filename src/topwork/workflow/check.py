"""`check`: photos -> what is wrong with them, and a sheet of augmented views."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from topwork.data.duplicates import duplicate_findings
from topwork.data.finding import Finding
from topwork.data.preview import Sample, pick_samples, preview_sheet
from topwork.data.scan import Scan, scan
from topwork.models.probe import probe_spec
from topwork.progress import Progress, silent
from topwork.recipe import Recipe

__all__ = ["Checked", "check", "write_augment_preview"]

_ORDER = {"error": 0, "warning": 1, "info": 2}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at and what was found.

    Args:
        scan: the photos.
        findings: errors first.
    """

    scan: Scan
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing must be fixed."""
        return all(finding.severity != "error" for finding in self.findings)


def check(data: str | Path, *, progress: Progress = silent) -> Checked:
    """Find unreadable files, exact and near duplicates, pictures under two labels, and leaks between given splits.

    Args:
        data: as for `fit`.
        progress: told how far it is.

    Raises:
        DataError: if there is nothing to look at.
    """
    found = scan(data, progress=progress)
    findings = [*found.findings, *duplicate_findings(found.records)]
    return Checked(scan=found, findings=tuple(sorted(findings, key=lambda finding: _ORDER[finding.severity])))


def write_augment_preview(found: Scan, path: Path, *, recipe: Recipe) -> None:
    """Write a sheet with the clean view and augmented views of a few photos as PNG.

    Args:
        found: the photos.
        path: of the PNG file.
        recipe: gives input and augmentation.
    """
    from PIL import Image

    from topwork.atomic import atomic_path

    spec = probe_spec(
        recipe.backbone.name, recipe.backbone.weights, image_size=recipe.data.image_size, crop=recipe.data.crop
    )
    samples = [
        Sample(label=record.label or "", path=found.root / record.path, sha256=record.sha256)
        for record in found.records
    ]
    sheet = preview_sheet(pick_samples(samples, count=6), spec, augment=recipe.data.augment, seed=recipe.data.seed)
    with atomic_path(path) as draft:
        Image.fromarray(sheet).save(draft, format="PNG")
