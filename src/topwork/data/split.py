"""`split` and `folds`: records -> manifests in which no group of photos lies on two sides.

A photo's part depends on content, labels and seed only, never on file names or their order. Opens no file.
"""

from __future__ import annotations

from collections.abc import Sequence

from topwork.data.dealing import check_parts, deal, group_keys, groups_of, manifest_of
from topwork.data.manifest import PARTS, Manifest
from topwork.data.scan import Scan
from topwork.errors import DataError

__all__ = ["folds", "split"]


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
    keys = group_keys(scan.records)
    given = {record.split for record in scan.records} - {None, "train"}
    wanted: dict[str, float] = {part: share for part, share in zip(PARTS, shares, strict=True) if share > 0}
    if given:  # nothing is moved into a given part; only val, the one that choices are made on, is carved
        carved = {"train", "val"} if given == {"test"} else {"train"}
        wanted = {part: share for part, share in wanted.items() if part in carved}
    pool = [record for record in scan.records if record.split not in given]
    parts = deal(groups_of(pool, keys), wanted, seed=seed)
    fixed = {record.path: record.split for record in scan.records if record.split in given}
    manifest = manifest_of(scan, keys, parts={path: fixed.get(path) or parts[key] for path, key in keys.items()})
    check_parts(manifest, needed={"train", *wanted, *(part for part in given if part)})
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
    keys = group_keys(scan.records)
    groups = groups_of(scan.records, keys)
    if not 2 <= k <= len(groups):
        what = f"The number of folds of {scan.name} must be 2 to {len(groups)}, its groups of photos. Got {k}."
        raise DataError(what, fix="use 5.")
    fold_of = deal(groups, {str(fold): 1 / k for fold in range(k)}, seed=seed)
    rest_shares = {"train": 1 - val_share, **({"val": val_share} if val_share > 0 else {})}
    manifests = []
    for fold in range(k):
        rest = [group for group in groups if fold_of[group.key] != str(fold)]
        parts = {group.key: "test" for group in groups} | deal(rest, rest_shares, seed=seed)
        manifest = manifest_of(scan, keys, parts={path: parts[key] for path, key in keys.items()})
        check_parts(manifest, needed={"test", *rest_shares})
        manifests.append(manifest)
    return tuple(manifests)
