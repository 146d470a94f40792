"""`extend`: photos join an earlier split in which no photo moves. Opens no file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from topwork.data.dealing import check_parts, deal, group_keys, groups_of, manifest_of
from topwork.data.decode import printable
from topwork.data.finding import Finding
from topwork.data.manifest import PARTS, Manifest, Row
from topwork.data.scan import ImageRecord, Scan
from topwork.errors import DataError

__all__ = ["extend"]


def extend(scan: Scan, old: Manifest, *, shares: Sequence[float], seed: int) -> tuple[Manifest, tuple[Finding, ...]]:
    """Divide photos so that those of an earlier manifest stay in their part.

    A photo is known by its bytes, whatever it is called now; one whose bytes changed is known by its path, so that an
    edited test photo does not come back as a training photo. A new photo joins the part of the old photos it belongs
    with; if these lie in several parts it is left out. The other new groups go where the shares lack most. A split
    that the source gives to new photos is kept.

    Args:
        scan: all photos, old and new.
        old: the earlier split.
        shares: of train, val and test, each >= 0, summing to 1.
        seed: another seed deals the new photos differently.

    Returns:
        The new manifest, and findings: `joins_parts` (left out), `changed_photo`, `missing_photo`, `leak`.

    Raises:
        DataError: if none of the old photos is there, or the parts cannot be trained and measured on.
    """
    known, changed = _known(scan.records, old)
    if not known:
        what = f"The manifest to keep must describe photos of {printable(scan.root)}. None of its {len(old.rows)} is "
        raise DataError(
            what + f"there; the first is {printable(old.rows[0].path) if old.rows else 'missing'}.",
            fix="name the data that it was made of, with the new photos added.",
        )
    fixed = {path: row.split for path, row in known.items()}
    fixed |= {record.path: record.split for record in scan.records if record.split and record.path not in known}
    keys = group_keys(scan.records, bonds=_old_bonds(scan.records, known))
    left_out = list(_left_out(keys, fixed))
    gone = {path for finding in left_out for path in finding.files}
    rest = replace(scan, records=tuple(record for record in scan.records if record.path not in gone))
    keys = group_keys(rest.records, bonds=_old_bonds(rest.records, known))  # without the bridges between parts
    parts = _parts(rest, keys, fixed=fixed, shares=shares, seed=seed)
    manifest = manifest_of(rest, keys, parts=parts)
    check_parts(manifest, needed={"train", *(row.split for row in old.rows)})
    findings = [*left_out, *_straddling(keys, fixed), *_changed(changed), *_missing(scan.records, old, changed=changed)]
    return manifest, tuple(findings)


def _known(records: Sequence[ImageRecord], old: Manifest) -> tuple[dict[str, Row], list[str]]:
    """Path now -> the row it had; and the paths whose bytes changed."""
    by_digest: dict[str, dict[str, Row]] = defaultdict(dict)
    for each in old.rows:
        by_digest[each.sha256][each.path] = each
    by_path = {each.path: each for each in old.rows}
    present = {record.sha256 for record in records}
    known, changed = {}, []
    for record in records:
        same, row = by_digest.get(record.sha256), by_path.get(record.path)
        if same:
            known[record.path] = same.get(record.path) or same[min(same)]
        elif row and row.sha256 not in present:
            known[record.path] = row
            changed.append(record.path)
    return known, changed


def _old_bonds(records: Sequence[ImageRecord], known: Mapping[str, Row]) -> Iterator[tuple[int, int]]:
    """Photos that were one group remain one, whatever joined them then."""
    first: dict[tuple[str, str], int] = {}
    for position, record in enumerate(records):
        if row := known.get(record.path):
            yield first.setdefault((row.group, row.split), position), position


def _parts(
    scan: Scan, keys: Mapping[str, str], *, fixed: Mapping[str, str], shares: Sequence[float], seed: int
) -> dict[str, str]:
    """Path -> part: the fixed ones, those that belong with them, and the dealt rest."""
    side = {keys[path]: part for path, part in fixed.items() if path in keys}
    parts = {path: fixed.get(path) or side[key] for path, key in keys.items() if key in side}
    there = Counter((record.label or "", parts[record.path]) for record in scan.records if record.path in parts)
    free = [record for record in scan.records if record.path not in parts]
    wanted: dict[str, float] = {part: share for part, share in zip(PARTS, shares, strict=True) if share > 0}
    dealt = deal(groups_of(free, keys), wanted, seed=seed, there=there)
    return parts | {record.path: dealt[keys[record.path]] for record in free}


def _sides(keys: Mapping[str, str], fixed: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """Key of a group that lies in several parts -> part -> its fixed photos there."""
    sides: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(fixed.keys() & keys.keys()):
        sides[keys[path]][fixed[path]].append(path)
    return {key: by_part for key, by_part in sides.items() if len(by_part) > 1}


def _named(by_part: Mapping[str, Sequence[str]]) -> str:
    return " and ".join(f"{by_part[part][0]} in {part}" for part in PARTS if part in by_part)


def _left_out(keys: Mapping[str, str], fixed: Mapping[str, str]) -> Iterator[Finding]:
    members = defaultdict(list)
    for path in sorted(keys):
        members[keys[path]].append(path)
    for key, by_part in sorted(_sides(keys, fixed).items()):
        free = tuple(path for path in members[key] if path not in fixed)
        if free:
            evidence = f"{len(free)} new photos, such as {free[0]}, belong with {_named(by_part)}; left out."
            remedy = "nothing, or split anew without the old manifest."
            yield Finding(kind="joins_parts", severity="warning", files=free, evidence=evidence, remedy=remedy)


def _straddling(keys: Mapping[str, str], fixed: Mapping[str, str]) -> Iterator[Finding]:
    for _, by_part in sorted(_sides(keys, fixed).items()):
        files = tuple(sorted(path for paths in by_part.values() for path in paths))
        evidence = f"the kept split has photos that belong together on several sides: {_named(by_part)}."
        remedy = "split anew without the old manifest."
        yield Finding(kind="leak", severity="warning", files=files, evidence=evidence, remedy=remedy)


def _changed(paths: Sequence[str]) -> Iterator[Finding]:
    if paths:
        evidence = f"the bytes of {len(paths)} photos, such as {paths[0]}, changed; known by name, kept in their part."
        remedy = "nothing, if they were only edited or saved again."
        yield Finding(
            kind="changed_photo", severity="info", files=tuple(sorted(paths)), evidence=evidence, remedy=remedy
        )


def _missing(records: Iterable[ImageRecord], old: Manifest, *, changed: Sequence[str]) -> Iterator[Finding]:
    present = {record.sha256 for record in records}
    lost = tuple(sorted(row.path for row in old.rows if row.sha256 not in present and row.path not in changed))
    if lost:
        evidence = f"{len(lost)} photos of the kept manifest, such as {lost[0]}, are not there."
        remedy = "restore them, or nothing."
        yield Finding(kind="missing_photo", severity="info", files=lost, evidence=evidence, remedy=remedy)
