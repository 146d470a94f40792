"""`split`: photos -> manifests whose parts share no group, and folders of photos if asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from topwork.atomic import draft_folder, write_json
from topwork.data.finding import Finding
from topwork.data.grouping import grouped
from topwork.data.hold_out import hold_out
from topwork.data.keep import extend
from topwork.data.manifest import Manifest
from topwork.data.materialize import HOWS, How, materialize
from topwork.data.scan import Scan, scan
from topwork.data.split import folds
from topwork.data.split import split as divide
from topwork.errors import DataError, RecipeError
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, split_shares

__all__ = ["Division", "SplitChoice", "split"]


@dataclass(frozen=True, kw_only=True)
class SplitChoice:
    """How photos are divided.

    Args:
        shares: train/validation/test in percent.
        seed: another seed gives another split.
        group_by: rules for what stays together, as `data.group_by` of a recipe.
        keep: an earlier manifest, or the folder that holds it: none of its photos moves.
        folds: a manifest for each of so many folds instead of one; 0 for one.
        hold_out: classes that are set aside whole.
        materialize: `copy` or `link` writes folders of photos; None writes manifests only.
    """

    shares: str = "80/10/10"
    seed: int = 0
    group_by: tuple[str, ...] = ()
    keep: str | Path | None = None
    folds: int = 0
    hold_out: tuple[str, ...] = ()
    materialize: How | None = None


@dataclass(frozen=True, kw_only=True)
class Division:
    """What `split` made.

    Args:
        manifests: one, or one a fold.
        files: the `manifest.csv` of each.
        held_out: the photos of the classes set aside, if any were.
        findings: what was left out, and why; also in `findings.json`.
    """

    manifests: tuple[Manifest, ...]
    files: tuple[Path, ...]
    held_out: Manifest | None
    findings: tuple[Finding, ...]

    @property
    def manifest(self) -> Manifest:
        """The only manifest, or that of the first fold."""
        return self.manifests[0]


_DEFAULT = SplitChoice()


def split(data: str | Path, *, to: str | Path, choice: SplitChoice = _DEFAULT, progress: Progress = silent) -> Division:
    """Divide photos by class, with duplicates and groups on one side.

    Writes `manifest.csv` and `findings.json`; with folds, `fold-1/manifest.csv` and so on; with held-out classes
    `held-out.csv`; with `materialize` the photos, as `train/CLASS/NAME` and so on.

    Args:
        data: as for `fit`.
        to: the folder that gets all this. With `materialize` it must be new or empty, and appears when it is complete.
        choice: how.
        progress: told how far it is.

    Raises:
        DataError: if there is nothing to divide, or the data do not allow what was chosen.
        RecipeError: if the choices do not fit together.
    """
    shares = _checked(choice, to=Path(to))
    found = grouped(scan(data, progress=progress), by=choice.group_by)
    findings, held_out = list(found.findings), None
    if choice.hold_out:
        aside = hold_out(found, choice.hold_out)
        found, held_out = aside.scan, aside.manifest
        findings += aside.findings
    manifests, more = _divided(found, choice, shares=shares)
    division = Division(
        manifests=manifests,
        files=tuple(Path(to) / place / "manifest.csv" for place in _places(choice)),
        held_out=held_out,
        findings=(*findings, *more),
    )
    return _written(division, Path(to), choice=choice, progress=progress)


def _checked(choice: SplitChoice, *, to: Path) -> tuple[float, float, float]:
    """The shares, if all choices make sense."""
    try:
        shares = split_shares(choice.shares)
    except ValueError as error:
        what = f"The shares of a split {error}. Got {choice.shares!r}."
        raise RecipeError(what, fix="write e.g. 80/10/10.") from None
    Recipe().replace({"data.group_by": list(choice.group_by)})  # says what is wrong with a rule
    if choice.keep is not None and choice.folds:
        what = "Folds must be dealt anew. Got an earlier manifest to keep as well."
        raise RecipeError(what, fix="use --keep or --folds, not both.")
    if choice.materialize is not None and choice.materialize not in HOWS:
        what = f"Photos can be written as copy or link. Got {choice.materialize!r}."
        raise RecipeError(what, fix="use --materialize copy.")
    if choice.materialize and to.exists() and (not to.is_dir() or any(to.iterdir())):
        what = f"The folder {str(to)!r} must be new or empty to get photos. It holds something."
        raise DataError(what, fix="choose another folder with --to.")
    return shares


def _divided(
    found: Scan, choice: SplitChoice, *, shares: tuple[float, float, float]
) -> tuple[tuple[Manifest, ...], tuple[Finding, ...]]:
    if choice.folds:
        rest = shares[0] + shares[1]
        return folds(found, k=choice.folds, seed=choice.seed, val_share=shares[1] / rest), ()
    if choice.keep is not None:
        path = Path(choice.keep)
        path = path / "manifest.csv" if path.is_dir() else path
        old = Manifest.read_csv(path, root=found.root)
        manifest, findings = extend(found, old, shares=shares, seed=choice.seed)
        return (manifest,), findings
    return (divide(found, shares=shares, seed=choice.seed),), ()


def _places(choice: SplitChoice) -> tuple[str, ...]:
    return tuple(f"fold-{number}" for number in range(1, choice.folds + 1)) or ("",)


def _written(division: Division, to: Path, *, choice: SplitChoice, progress: Progress) -> Division:
    with _target(to, whole=choice.materialize is not None) as folder:
        manifests = []
        for manifest, place in zip(division.manifests, _places(choice), strict=True):
            if choice.materialize is not None:
                (folder / place).mkdir(exist_ok=True)
                made = materialize(manifest, folder / place, how=choice.materialize, progress=progress)
                made.write_csv(folder / place / "manifest.csv")
                manifests.append(replace(made, root=(to / place).absolute()))
            else:
                manifest.write_csv(folder / place / "manifest.csv", name_root=True)
                manifests.append(manifest)
        if division.held_out is not None:
            division.held_out.write_csv(folder / "held-out.csv", name_root=True)
        write_json(folder / "findings.json", [finding.to_json() for finding in division.findings])
    return replace(division, manifests=tuple(manifests))


@contextmanager
def _target(to: Path, *, whole: bool) -> Iterator[Path]:
    """The folder to write into; if it must appear `whole`, another one that takes its name in the end."""
    if not whole:
        to.mkdir(parents=True, exist_ok=True)
        yield to
        return
    with draft_folder(to) as draft:
        yield draft
