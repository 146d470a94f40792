"""`scan`: every file of a source is decoded once, to a record or a finding. Knows nothing about duplicates or splits.

What it leaves out it names: unreadable photos, links that leave the folder, files that are no photos. None is replaced.
"""

from __future__ import annotations

import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from topwork.cores import CORES
from topwork.data.capture import Capture
from topwork.data.decode import printable
from topwork.data.finding import Finding
from topwork.data.fingerprint import Fingerprint, fingerprint
from topwork.data.folders import Candidate, walk_files
from topwork.data.look import Look
from topwork.data.quarantine import leave_out
from topwork.data.scan_index import ScanIndex
from topwork.data.sniff import EXTENSIONS, HEAD_BYTES, picture_format
from topwork.data.sources import Listing, list_source
from topwork.errors import DataError, DecodeError
from topwork.progress import Progress, silent

__all__ = ["ImageRecord", "Scan", "list_images", "scan"]

_PER_STEP = 16
_SMALL_CLASS = 10  # below, one photo is more than ten percent of what is known about the class


@dataclass(frozen=True, kw_only=True)
class ImageRecord:
    """One readable photo.

    Args:
        path: POSIX, relative to the root; always valid UTF-8.
        label: the class, NFC; None if unknown.
        split: `train`, `val`, `test` as given by the source; None if not given.
        group: as given by a manifest; None if not given.
        sha256: of the file's bytes.
        bytes: of the file.
        width, height: of the upright picture, in pixels.
        phash: 64-bit perceptual hash.
        look: light and focus; None if nobody measured them.
        capture: when and by which camera it was taken; None if the file does not say.
    """

    path: str
    label: str | None
    split: str | None
    group: str | None
    sha256: str
    bytes: int
    width: int
    height: int
    phash: int
    look: Look | None = None
    capture: Capture | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What a source holds.

    Args:
        root: absolute folder that the paths are relative to.
        name: of the data, for people.
        records: readable photos, sorted by path.
        findings: what was left out or looks odd.
        classes: the labels, sorted; at least two.
    """

    root: Path
    name: str
    records: tuple[ImageRecord, ...]
    findings: tuple[Finding, ...]
    classes: tuple[str, ...]


_Outcome = Fingerprint | DecodeError | None  # None: not a photo, and nobody said it was


def scan(source: str | Path, *, workers: int = CORES, progress: Progress = silent) -> Scan:
    """Find and check the photos of a folder, a manifest or a known data set, without those in quarantine.

    Args:
        source: a folder of class folders; a folder of train, val and test folders of class folders; a CSV or Parquet
            manifest with columns `path,label[,split][,group][,root]`; or the name of a known data set.
        workers: threads that decode.
        progress: told about every 16th file, as stage `scan`.

    Raises:
        DataError: if there is nothing to learn from: missing, empty, no class folders, no readable photos, one class.
    """
    listing = list_source(source, progress=progress)
    candidates, quarantined = leave_out(listing.candidates, listing.root)
    listing = replace(listing, candidates=candidates, findings=(*listing.findings, *quarantined))
    index = ScanIndex(listing.root)
    outcomes: list[_Outcome] = []
    progress.step("scan", 0, len(listing.candidates))
    try:
        for outcome in _examine_all(listing, index, workers=workers):
            outcomes.append(outcome)
            if len(outcomes) % _PER_STEP == 0 or len(outcomes) == len(listing.candidates):
                progress.step("scan", len(outcomes), len(listing.candidates))
    finally:
        index.save()  # also when interrupted: what was decoded need not be decoded again
    return _gather(listing, outcomes)


def list_images(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """The files to predict: files as they are named (even missing ones), folders by the pictures below them.

    In a folder, hidden files, refused links and files that are no pictures by name nor content are passed over.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if path.is_dir():
            inside = (path / name for name in walk_files(path).paths)
            found.update((file, None) for file in inside if _may_be_photo(file))
        else:
            found[path] = None
    return tuple(found)


def _examine_all(listing: Listing, index: ScanIndex, *, workers: int) -> Iterator[_Outcome]:
    """Outcomes in the order of the candidates; a bounded number is under way at once."""
    pool = ThreadPoolExecutor(max(1, workers), thread_name_prefix="scan")
    window: deque[Future[_Outcome]] = deque()
    try:
        for candidate in listing.candidates:
            window.append(pool.submit(_examine, candidate, listing, index=index))
            if len(window) >= 8 * max(1, workers):
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for the files ahead


def _examine(candidate: Candidate, listing: Listing, *, index: ScanIndex) -> _Outcome:
    full = listing.root / candidate.path
    try:
        status = os.stat(full)
    except OSError:
        status = None
    if status and (known := index.find(candidate.path, status)):
        return known
    if not listing.by_table and not _may_be_photo(full):
        return None
    try:
        found = fingerprint(full, name=candidate.path)
    except DecodeError as error:
        return error
    if status:
        index.add(candidate.path, found, status=status)
    return found


def _may_be_photo(path: Path) -> bool:
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        with path.open("rb") as stream:
            return picture_format(stream.read(HEAD_BYTES)) is not None
    except OSError:
        return False


def _gather(listing: Listing, outcomes: Sequence[_Outcome]) -> Scan:
    records, unreadable, others = [], [], []
    odd: dict[str, list[str]] = {}
    for candidate, outcome in zip(listing.candidates, outcomes, strict=True):
        if isinstance(outcome, Fingerprint):
            facts = {name: value for name, value in vars(outcome).items() if name != "warnings"}
            for note in outcome.warnings:
                odd.setdefault(note, []).append(candidate.path)
            records.append(ImageRecord(**vars(candidate), **facts))
        elif outcome is None:
            others.append(candidate.path)
        else:
            unreadable.append((candidate.path, outcome))
    classes = tuple(sorted({record.label for record in records if record.label}))
    _check_classes(listing, classes, unreadable=unreadable)
    findings = [*listing.findings, *_unreadable(unreadable), *_others(others), *_odd(odd)]
    findings += _empty_classes(listing.candidates, classes, others=others)
    findings += _small_classes(records)
    return Scan(root=listing.root, name=listing.name, records=tuple(records), findings=tuple(findings), classes=classes)


def _check_classes(listing: Listing, classes: Sequence[str], *, unreadable: Sequence[tuple[str, DecodeError]]) -> None:
    where, first = printable(listing.root), listing.candidates[0].path
    if len(classes) == 1:
        what = f"The photos of {where} must belong to at least two classes. Got only {classes[0]}."
        inner = {candidate.path.split("/")[1] for candidate in listing.candidates if candidate.path.count("/") > 1}
        if len(inner) > 1 and not listing.by_table:
            raise DataError(what, fix=f"if its folders are the classes, name {where}/{first.split('/')[0]}.")
        raise DataError(what, fix="add a second class to compare with.")
    if not classes and unreadable:
        error = unreadable[0][1]
        what = f"The photos of {where} must be readable. None of {len(unreadable)} is; the first: {error.what}"
        raise DataError(what, fix=error.fix)
    if not classes:
        count = len(listing.candidates)
        what = f"The class folders of {where} must hold photos. Got {count} other files, such as {first}."
        raise DataError(what, fix="put photos (JPEG, PNG, WebP, AVIF, GIF, BMP, TIFF) into the class folders.")


def _unreadable(unreadable: Iterable[tuple[str, DecodeError]]) -> Iterator[Finding]:
    for path, error in unreadable:
        evidence = f"{error.kind}: {error.what}"
        yield Finding(kind="unreadable", severity="warning", files=(path,), evidence=evidence, remedy=error.fix)


def _others(others: Sequence[str]) -> Iterator[Finding]:
    if others:
        evidence = f"{len(others)} files in class folders, such as {others[0]}, are not photos; left out."
        remedy = "nothing, or move them elsewhere."
        yield Finding(kind="not_a_photo", severity="info", files=tuple(others), evidence=evidence, remedy=remedy)


def _odd(odd: dict[str, list[str]]) -> Iterator[Finding]:
    for note, files in sorted(odd.items()):
        evidence = f"{len(files)} photos, such as {files[0]}: {note}; kept."
        remedy = "nothing, or save them again."
        yield Finding(kind="odd_file", severity="info", files=tuple(files), evidence=evidence, remedy=remedy)


def _empty_classes(
    candidates: Sequence[Candidate], classes: Sequence[str], *, others: Sequence[str]
) -> Iterator[Finding]:
    not_photos = set(others)
    meant = {candidate.label for candidate in candidates if candidate.path not in not_photos}
    for label in sorted(meant - set(classes)):
        evidence = f"class {label} has no readable photo; left out."
        remedy = "restore its photos, or remove the class."
        yield Finding(kind="empty_class", severity="warning", files=(), evidence=evidence, remedy=remedy)


def _small_classes(records: Sequence[ImageRecord]) -> Iterator[Finding]:
    counts = Counter(record.label for record in records)
    for label, count in sorted((label, count) for label, count in counts.items() if label and count < _SMALL_CLASS):
        evidence = f"class {label} has {count} readable photo{'s' * (count != 1)}, fewer than {_SMALL_CLASS}."
        remedy = "add photos, or merge it with another class."
        yield Finding(kind="small_class", severity="warning", files=(), evidence=evidence, remedy=remedy)
