"""`split` and `folds`: records -> manifests in which no group of photos lies on two sides.

A photo's part depends on content, labels and seed only, never on file names or their order. Opens no file.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from topwork.data.decode import printable
from topwork.data.duplicates import connect, group_duplicates
from topwork.data.manifest import PARTS, Manifest, Row
from topwork.data.scan import ImageRecord, Scan
from topwork.digest import seed_from
from topwork.errors import DataError

__all__ = ["folds", "split"]

_FIRST_SERVED = ("train", "test", "val")  # who gets a photo of a class that has fewer groups than there are parts


@dataclass(frozen=True)
class _Group:
    """Photos that must stay together; `key` is the least of their digests."""

    key: str
    counts: Mapping[str, int]

    @property
    def label(self) -> str:
        return min(self.counts, key=lambda label: (-self.counts[label], label))

    @property
    def size(self) -> int:
        return sum(self.counts.values())


def split(scan: Scan, *, shares: Sequence[float], seed: int) -> Manifest:
    """Train, validation and test parts, stratified by class to within one group.

    Groups are exact and near duplicates joined with the groups of a manifest. Every class has a photo in train, then
    in test, then in val as long as it has groups. A split that the source gives is kept, even where a group straddles
    it: rows without a split then count as train, a missing val part is carved out of train, a missing test part stays
    missing. A source that names only train is split as if it named nothing.

    Args:
        scan: the photos.
        shares: of train, val and test, each >= 0, summing to 1; a part with share 0 stays empty.
        seed: another seed gives another split.

    Raises:
        DataError: if a part would stay empty, or train would know fewer than two classes.
    """
    keys = _group_keys(scan.records)
    given = {record.split for record in scan.records} - {None, "train"}
    wanted: dict[str, float] = {part: share for part, share in zip(PARTS, shares, strict=True) if share > 0}
    if given:  # nothing is moved into a given part; only val, the one that choices are made on, is carved
        carved = {"train", "val"} if given == {"test"} else {"train"}
        wanted = {part: share for part, share in wanted.items() if part in carved}
    pool = [record for record in scan.records if record.split not in given]
    parts = _deal(_groups(pool, keys), wanted, seed=seed)
    fixed = {record.path: record.split for record in scan.records if record.split in given}
    manifest = _manifest(scan, keys, parts={path: fixed.get(path) or parts[key] for path, key in keys.items()})
    _check(manifest, scan, needed={"train", *wanted, *(part for part in given if part)})
    return manifest


def folds(scan: Scan, *, k: int, seed: int, val_share: float) -> tuple[Manifest, ...]:
    """Manifests for cross-validation: their test parts partition the photos, stratified, groups together.

    A split that the source gives is not looked at.

    Args:
        scan: the photos.
        k: how many, >= 2 and at most the number of groups.
        seed: another seed gives other folds.
        val_share: of the photos outside the test part, carved out for validation, in [0, 1).

    Raises:
        DataError: if k does not fit, or a part would stay empty.
    """
    keys = _group_keys(scan.records)
    groups = _groups(scan.records, keys)
    if not 2 <= k <= len(groups):
        what = f"The number of folds of {scan.name} must be 2 to {len(groups)}, its groups of photos. Got {k}."
        raise DataError(what, fix="use 5.")
    fold_of = _deal(groups, {str(fold): 1 / k for fold in range(k)}, seed=seed)
    rest_shares = {"train": 1 - val_share, **({"val": val_share} if val_share > 0 else {})}
    manifests = []
    for fold in range(k):
        rest = [group for group in groups if fold_of[group.key] != str(fold)]
        parts = {group.key: "test" for group in groups} | _deal(rest, rest_shares, seed=seed)
        manifest = _manifest(scan, keys, parts={path: parts[key] for path, key in keys.items()})
        _check(manifest, scan, needed={"test", *rest_shares})
        manifests.append(manifest)
    return tuple(manifests)


def _group_keys(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Path -> the least digest of all photos that must stay with it."""
    position = {record.path: number for number, record in enumerate(records)}
    bonds = [(position[group[0].path], position[other.path]) for group in group_duplicates(records) for other in group]
    named: dict[str, int] = {}
    for number, record in enumerate(records):
        if record.group is not None:
            bonds.append((named.setdefault(record.group, number), number))
    roots = connect(len(records), bonds)
    least: dict[int, str] = {}
    for record, root in zip(records, roots, strict=True):
        least[root] = min(record.sha256, least.get(root, record.sha256))
    return {record.path: least[root] for record, root in zip(records, roots, strict=True)}


def _groups(records: Iterable[ImageRecord], keys: Mapping[str, str]) -> list[_Group]:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.label is None:
            what = f"The photo {record.path} must have a label to be split."
            raise DataError(what, fix="put it into a class folder, or fill in its row.")
        counts[keys[record.path]][record.label] += 1
    return [_Group(key, counts[key]) for key in sorted(counts)]


def _deal(groups: Sequence[_Group], shares: Mapping[str, float], *, seed: int) -> dict[str, str]:
    """Group key -> part. Largest groups first, each to the part that lacks most of its class.

    No part ends further than one group above its share, nor further than one below, unless it must have a photo.
    """
    total = sum(shares.values())
    sizes: Counter[str] = Counter()
    for group in groups:
        sizes.update(group.counts)
    lacks = {label: {part: sizes[label] * share / total for part, share in shares.items()} for label in sizes}
    dealt: dict[str, str] = {}

    def give(group: _Group, part: str) -> None:
        dealt[group.key] = part
        for label, count in group.counts.items():
            lacks[label][part] -= count

    for label in sorted(sizes):
        ranks = {group.key: seed_from(group.key, seed) for group in groups if group.label == label}
        mine = sorted((g for g in groups if g.label == label), key=lambda g: (-g.size, ranks[g.key]))
        for part in [part for part in _FIRST_SERVED if part in shares][: len(mine)]:
            give(mine.pop(), part)  # the smallest: it leaves the shares most room
        start = min(ranks.values(), default=0) % len(shares)
        order = [*list(shares)[start:], *list(shares)[:start]]  # ties must not always favour the first fold
        for group in mine:
            give(group, max(order, key=lambda part: sum(n * lacks[label][part] for label, n in group.counts.items())))
    return dealt


def _manifest(scan: Scan, keys: Mapping[str, str], *, parts: Mapping[str, str]) -> Manifest:
    rows = [
        Row(record.path, record.label or "", parts[record.path], keys[record.path][:16], record.sha256)
        for record in sorted(scan.records, key=lambda record: record.path)
    ]
    return Manifest(scan.root, tuple(rows))


def _check(manifest: Manifest, scan: Scan, *, needed: set[str]) -> None:
    counts = Counter(row.split for row in manifest.rows)
    empty = sorted(part for part in needed if not counts[part])
    if empty:
        got = ", ".join(f"{part} {counts[part]}" for part in PARTS)
        what = f"The parts of {printable(scan.root)} must each hold a photo. Got {got}."
        raise DataError(what, fix=f"add photos, or leave {' and '.join(empty)} out of the split.")
    known = {row.label for row in manifest.part("train")}
    if len(known) < 2:
        what = f"The train part of {printable(scan.root)} must hold two classes. Got {', '.join(known) or 'none'}."
        raise DataError(what, fix="add photos to the other classes.")
