"""`Contest`: who takes part, with which network and settings; and the plan that every peer of a fold reads as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from photos import write_table

from topwork.data.manifest import PARTS, Manifest
from topwork.digest import digest, file_sha256

__all__ = ["CONTESTS", "Contest", "Entry", "fold_plan", "plan_digest", "write_plan"]

_HALF = [0.5, 0.5, 0.5]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One peer with its settings.

    Args:
        peer: the script `PEER_peer.py`.
        environment: where it runs; None is the environment of this command.
        variants: settings to choose from by validation accuracy on the first fold, one run each.
        note: what a reader must know to judge the comparison.
    """

    peer: str
    environment: str | None = None
    variants: Sequence[Mapping[str, Any]] = field(default=({},))
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Contest:
    """Peers on one network with the same weights.

    Args:
        name: of the network for topwork.
        timm: its name in timm.
        threshold: T, the validation accuracy to be reached.
        size, crop, bn_eps: of the network.
        entries: topwork first.
    """

    name: str
    timm: str
    threshold: float
    size: int
    crop: float
    bn_eps: float
    entries: Sequence[Entry]


CONTESTS = (
    Contest(
        name="efficientnet_lite0",
        timm="tf_efficientnet_lite0",
        threshold=0.92,
        size=224,
        crop=0.875,
        bn_eps=1e-3,
        entries=(
            Entry(peer="topwork"),
            Entry(
                peer="fastai",
                environment="fastai",
                note="fastai: `vision_learner`, `fine_tune`, its defaults (batch 64, rate 2e-3, last epoch kept).",
            ),
            Entry(
                peer="pytorch",
                environment="pytorch",
                variants=({"lr": 3e-4}, {"lr": 1e-3}, {"lr": 3e-3}),
                note="pytorch: of three learning rates the one with the best validation accuracy on the first fold; "
                "only its own time counts, though finding it took three runs. Channels-last, f32, AdamW, one-cycle, "
                "label smoothing 0.1, best epoch.",
            ),
            Entry(
                peer="huggingface",
                environment="huggingface",
                variants=({"lr": 5e-4},),
                note="huggingface: Trainer, the whole network in every epoch (nothing frozen), rate 5e-4, best epoch.",
            ),
        ),
    ),
    Contest(
        name="mobilenetv2_100",
        timm="mobilenetv2_100",
        threshold=0.88,
        size=224,
        crop=0.875,
        bn_eps=1e-5,
        entries=(
            Entry(peer="topwork"),
            Entry(
                peer="keras",
                environment="keras",
                note="keras: two phases of half the epochs each (1e-3, then 1e-4 for the top 30 layers), best epoch; "
                "weights translated from timm's, feature cosine checked in the same run.",
            ),
        ),
    ),
)


def fold_plan(manifest: Manifest, contest: Contest, *, weights: Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """What all peers of a contest share on one fold.

    Args:
        manifest: the photos and their parts.
        contest: gives the network.
        weights: a safetensors file under timm's names.
        options: `epochs`, `frozen_epochs`, `batch`, `seed`, `threads`.
    """
    return {
        "network": contest.timm,
        "weights": str(weights),
        "weights_sha256": file_sha256(weights),
        "size": contest.size,
        "crop": contest.crop,
        "bn_eps": contest.bn_eps,
        "mean": _HALF,
        "std": _HALF,
        "classes": list(manifest.classes),
        "root": str(manifest.root),
        "photos": {part: [[row.path, row.label] for row in manifest.part(part)] for part in PARTS},
        "content": digest([[row.sha256, row.label, row.split] for row in manifest.rows]),
        **options,
    }


def plan_digest(plan: Mapping[str, Any], entry: Entry, *, code: str) -> str:
    """The name of a measurement: photos, network, options and the peer's own code; not where files lie."""
    places = {"root", "weights"}
    return digest({key: value for key, value in plan.items() if key not in places}, entry.peer, code)[:16]


def write_plan(plan: Mapping[str, Any], folder: Path) -> Path:
    """The plan as JSON, and its photos as a table for topwork, in one folder."""
    rows = [[path, label, part, plan["root"]] for part in PARTS for path, label in plan["photos"][part]]
    write_table(folder / "photos.csv", ["path", "label", "split", "root"], rows)
    path = folder / "plan.json"
    path.write_text(json.dumps({**plan, "table": str(folder / "photos.csv"), "run": str(folder / "run")}))
    return path
