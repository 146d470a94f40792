"""Groups of photos that must stay together, and how parts get their share of every class. Opens no file.

Depends on content, labels and seed only, never on file names or their order.
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

__all__ = ["Group", "check_parts", "deal", "group_keys", "groups_of", "manifest_of"]

_FIRST_SERVED = ("train", "test", "val")  # who gets a photo of a class that has fewer groups than there are parts


@dataclass(frozen=True)
class Group:
    """Photos that must stay together; `key` is the least of their digests."""

    key: str
    counts: Mapping[str, int]

    @property
    def label(self) -> str:
        """The class that most of its photos have."""
        return min(self.counts, key=lambda label: (-self.counts[label], label))

    @property
    def size(self) -> int:
        """How many photos it has."""
        return sum(self.counts.values())


def group_keys(records: Sequence[ImageRecord], *, bonds: Iterable[tuple[int, int]] = ()) -> dict[str, str]:
    """Path -> the least digest of all photos that must stay with it: duplicates, named groups, and `bonds`.

    Args:
        records: with distinct paths.
        bonds: further pairs of positions.
    """
    position = {record.path: number for number, record in enumerate(records)}
    pairs = [(position[group[0].path], position[other.path]) for group in group_duplicates(records) for other in group]
    named: dict[str, int] = {}
    for number, record in enumerate(records):
        if record.group is not None:
            pairs.append((named.setdefault(record.group, number), number))
    roots = connect(len(records), [*pairs, *bonds])
    least: dict[int, str] = {}
    for record, root in zip(records, roots, strict=True):
        least[root] = min(record.sha256, least.get(root, record.sha256))
    return {record.path: least[root] for record, root in zip(records, roots, strict=True)}


def groups_of(records: Iterable[ImageRecord], keys: Mapping[str, str]) -> list[Group]:
    """The groups of some records, sorted by key.

    Raises:
        DataError: if a photo has no label.
    """
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        if record.label is None:
            what = f"The photo {record.path} must have a label to be split."
            raise DataError(what, fix="put it into a class folder, or fill in its row.")
        counts[keys[record.path]][record.label] += 1
    return [Group(key, counts[key]) for key in sorted(counts)]


def deal(
    groups: Sequence[Group],
    shares: Mapping[str, float],
    *,
    seed: int,
    there: Mapping[tuple[str, str], int] | None = None,
) -> dict[str, str]:
    """Group key -> part. Largest groups first, each to the part that lacks most of its class.

    No part ends further than one group above its share, nor further than one below, unless it must have a photo, or
    had too many to begin with.

    Args:
        groups: what is dealt.
        shares: by part; need not sum to 1.
        seed: another seed deals differently.
        there: (label, part) -> photos that the part has already.
    """
    has, total = Counter(there or {}), sum(shares.values())
    sizes: Counter[str] = Counter()
    for group in groups:
        sizes.update(group.counts)
    for (label, part), count in has.items():
        sizes[label] += count if part in shares else 0
    lacks = {
        label: {part: sizes[label] * share / total - has[label, part] for part, share in shares.items()}
        for label in sizes
    }
    dealt: dict[str, str] = {}

    def give(group: Group, part: str) -> None:
        dealt[group.key] = part
        for label, count in group.counts.items():
            lacks[label][part] -= count

    for label in sorted(sizes):
        ranks = {group.key: seed_from(group.key, seed) for group in groups if group.label == label}
        mine = sorted((g for g in groups if g.label == label), key=lambda g: (-g.size, ranks[g.key]))
        bare = [part for part in _FIRST_SERVED if part in shares and not has[label, part]]
        for part in bare[: len(mine)]:
            give(mine.pop(), part)  # the smallest: it leaves the shares most room
        start = min(ranks.values(), default=0) % len(shares)
        order = [*list(shares)[start:], *list(shares)[:start]]  # ties must not always favour the first fold
        for group in mine:
            give(group, max(order, key=lambda part: sum(n * lacks[label][part] for label, n in group.counts.items())))
    return dealt


def manifest_of(scan: Scan, keys: Mapping[str, str], *, parts: Mapping[str, str]) -> Manifest:
    """Rows for the records that have a part, sorted by path.

    Args:
        scan: the photos.
        keys: path -> key of the group.
        parts: path -> part.
    """
    rows = [
        Row(record.path, record.label or "", parts[record.path], keys[record.path][:16], record.sha256)
        for record in sorted(scan.records, key=lambda record: record.path)
        if record.path in parts
    ]
    return Manifest(scan.root, tuple(rows))


def check_parts(manifest: Manifest, *, needed: set[str]) -> None:
    """Refuse a split that cannot be trained and measured on.

    Raises:
        DataError: if a needed part is empty, or train knows fewer than two classes.
    """
    counts = Counter(row.split for row in manifest.rows)
    empty = sorted(part for part in needed if not counts[part])
    if empty:
        groups = len({row.group for row in manifest.rows})
        got = ", ".join(f"{part} {counts[part]}" for part in PARTS)
        what = f"The parts of {printable(manifest.root)} must each hold a photo. Got {got} from {groups} groups."
        fix = f"add photos, group them less widely, or leave {' and '.join(empty)} out of the split."
        raise DataError(what, fix=fix)
    known = {row.label for row in manifest.part("train")}
    if len(known) < 2:
        what = f"The train part of {printable(manifest.root)} must hold two classes. Got {', '.join(known) or 'none'}."
        raise DataError(what, fix="add photos to the other classes.")
