"""`check`: photos -> what is wrong with them, and with which labels; a page, a quarantine, a corrected manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from topwork.atomic import write_text
from topwork.data.audit import audit, worst_first
from topwork.data.corrections import write_corrected
from topwork.data.finding import Finding
from topwork.data.preview import Sample, pick_samples, preview_sheet
from topwork.data.quarantine import add_to_quarantine, photos_to_leave_out, remember
from topwork.data.scan import Scan, scan
from topwork.data.sources import list_source
from topwork.errors import DataError
from topwork.models.probe import probe_spec
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe
from topwork.workflow.features import clean_features

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from topwork.evaluation.label_errors import Suspect

__all__ = ["Checked", "check", "write_augment_preview", "write_page"]

_LEAST_PHOTOS = 50  # fewer tell nothing about which label is wrong
_SHOWN_SHARE, _SHOWN_LEAST = 0.05, 20  # suspects that are worth a look


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at and what was found.

    Args:
        scan: the photos.
        findings: errors first.
        suspects: every photo, the most suspect label first; empty if labels were not looked at.
        quarantined: photos that this check added to the quarantine.
    """

    scan: Scan
    findings: tuple[Finding, ...]
    suspects: tuple[Suspect, ...] = ()
    quarantined: int = 0

    @property
    def passed(self) -> bool:
        """Whether nothing must be fixed."""
        return all(finding.severity != "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values for `--json`: photos, classes, findings, and the twentieth of the labels most suspect."""
        return {
            "photos": len(self.scan.records),
            "classes": list(self.scan.classes),
            "findings": [finding.to_json() for finding in self.findings],
            "label_suspects": [self._suspect(suspect) for suspect in self.shown_suspects],
        }

    @property
    def shown_suspects(self) -> tuple[Suspect, ...]:
        """The most suspect twentieth, at least 20 if there are as many."""
        return self.suspects[: max(_SHOWN_LEAST, round(_SHOWN_SHARE * len(self.suspects)))]

    def _suspect(self, suspect: Suspect) -> dict[str, Any]:
        return {
            "path": self.scan.records[suspect.row].path,
            "label": self.scan.classes[suspect.label],
            "suggested": self.scan.classes[suspect.suggested],
            "p_label": suspect.p_label,
            "p_suggested": suspect.p_suggested,
            "confident": suspect.confident,
        }


def check(
    data: str | Path,
    *,
    quick: bool = False,
    recipe: str | Path | Recipe = "default",
    quarantine: str | Path | None = None,
    fix: str | Path | None = None,
    progress: Progress = silent,
) -> Checked:
    """Find broken, copied, odd and poor photos, leaks between given splits, and labels that look wrong.

    Args:
        data: as for `fit`.
        quick: look at files, hashes and light only: no network runs, look-alikes are guessed and labels not judged.
        recipe: whose network looks at the photos; its features are kept in the cache that `fit` uses.
        quarantine: a CSV file that lists photos to leave out. What it lists is left out, by this check and by every
            later verb on these photos; then the photos behind findings that need no judgement are added to it.
        fix: a CSV file that gets a manifest in which labels that are surely wrong are changed. No photo is touched.
        progress: told how far it is.

    Raises:
        DataError: if there is nothing to look at, or `fix` is asked of a quick check.
        TopworkError: if the network or its weights are not there.
    """
    if quick and fix is not None:
        raise DataError("A corrected manifest needs the whole check. Got quick and fix.", fix="leave out --quick.")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    if quarantine is not None:
        add_to_quarantine(Path(quarantine), {})
        remember(list_source(data, progress=progress).root, Path(quarantine))
    found = scan(data, progress=progress)
    features = None if quick else clean_features(found, recipe=chosen, progress=progress)
    checked = Checked(scan=found, findings=audit(found, features=features))
    if features is not None and len(found.records) >= _LEAST_PHOTOS:
        checked = _with_suspects(checked, features, seed=chosen.data.seed, progress=progress)
    if fix is not None:
        write_corrected(Path(fix), found, labels=_better_labels(checked))
    if quarantine is None:
        return checked
    split_of = {record.path: record.split for record in found.records}
    added = add_to_quarantine(Path(quarantine), photos_to_leave_out(checked.findings, split_of))
    return replace(checked, quarantined=added)


def _with_suspects(checked: Checked, features: npt.NDArray[np.float32], *, seed: int, progress: Progress) -> Checked:
    import numpy as np

    from topwork.evaluation.label_errors import label_suspects

    found = checked.scan
    number = {label: position for position, label in enumerate(found.classes)}
    labels = np.array([number[str(record.label)] for record in found.records], np.int64)
    suspects = label_suspects(features, labels, groups=_copies(checked), seed=seed, progress=progress)
    return replace(
        checked, suspects=suspects, findings=worst_first([*checked.findings, *_about_labels(checked.scan, suspects)])
    )


def _copies(checked: Checked) -> npt.NDArray[np.int64]:
    """A number for each photo that its copies and look-alikes share."""
    import numpy as np

    from topwork.data.duplicates import connect

    kinds = ("exact_duplicate", "near_duplicate", "label_conflict", "leak")
    row = {record.path: position for position, record in enumerate(checked.scan.records)}
    alike = [finding.files for finding in checked.findings if finding.kind in kinds]
    pairs = [(row[files[0]], row[other]) for files in alike for other in files[1:]]
    return np.array(connect(len(row), pairs), np.int64)


def _about_labels(found: Scan, suspects: tuple[Suspect, ...]) -> list[Finding]:
    """One finding (`label_suspect`, warning) about labels that are probably wrong."""
    wrong = [suspect for suspect in suspects if suspect.wrong]
    if not wrong:
        return []
    worst = wrong[0]
    evidence = (
        f"{len(wrong)} labels are probably wrong; first {found.records[worst.row].path}: labelled "
        f"{found.classes[worst.label]} (p {worst.p_label:.2f}), looks like {found.classes[worst.suggested]} "
        f"(p {worst.p_suggested:.2f})."
    )
    return [
        Finding(
            kind="label_suspect",
            severity="warning",
            files=tuple(sorted(found.records[suspect.row].path for suspect in wrong)),
            evidence=evidence,
            remedy="look at them with --html; --fix writes a manifest with the suggested labels.",
        )
    ]


def _better_labels(checked: Checked) -> dict[str, str]:
    """Path -> the suggested label, of labels that are probably wrong."""
    records, classes = checked.scan.records, checked.scan.classes
    return {records[s.row].path: classes[s.suggested] for s in checked.suspects if s.wrong}


def write_page(checked: Checked, path: Path) -> None:
    """Write what was found as one HTML page with the photos side by side."""
    from topwork.reports.check_page import CheckInputs, render_check

    found = checked.scan
    inputs = CheckInputs(
        name=found.name,
        root=found.root,
        photos=len(found.records),
        classes=found.classes,
        findings=checked.findings,
        suspects=checked.to_json()["label_suspects"],
    )
    write_text(path, render_check(inputs))


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
