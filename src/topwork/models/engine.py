"""`open_trunk`: the fastest engine that agrees with PyTorch, and the memory of which one that was."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import numpy.typing as npt

from topwork.atomic import write_json
from topwork.digest import digest
from topwork.errors import EngineError
from topwork.models.openvino_trunk import OpenVinoTrunk, StoredGraph, has_bf16, tuned
from topwork.models.torch_trunk import TorchTrunk
from topwork.models.trunk import ENGINE_VERSION, PARITY, Precision, Trunk, TrunkRequest
from topwork.progress import Progress, silent
from topwork.recipe import EngineChoice
from topwork.timings import Timings, machine_digest

__all__ = ["TrunkFacts", "open_trunk", "remembered_facts"]


@dataclass(frozen=True, kw_only=True)
class TrunkFacts:
    """What ran the trunk, as recorded in the run and in every cache key."""

    engine: str
    precision: str
    version: str
    parity: float | None

    @property
    def choice(self) -> dict[str, str]:
        """The engine section of a recipe that asks for the same."""
        return {"trunk": self.engine, "precision": self.precision}


def remembered_facts(request: TrunkRequest, choice: EngineChoice, *, folder: Path) -> TrunkFacts | None:
    """What ran this network here the last time, without importing an engine; None if it never ran."""
    for photos in (request.photos, ""):
        path = _facts_file(request, choice, folder=folder, photos=photos)
        try:
            return TrunkFacts(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
    return None


def _facts_file(request: TrunkRequest, choice: EngineChoice, *, folder: Path, photos: str) -> Path:
    versions = [metadata.version(package) for package in ("openvino", "torch")]
    parts = [request.identity, choice.model_dump(), versions, ENGINE_VERSION, machine_digest(), *filter(None, [photos])]
    return folder / f"{digest(*parts)[:32]}.facts.json"


def open_trunk(
    request: TrunkRequest,
    choice: EngineChoice | TrunkFacts,
    *,
    folder: Path,
    timings: Timings,
    sample: npt.NDArray[np.uint8],
    progress: Progress = silent,
) -> Trunk:
    """The fastest engine that agrees with PyTorch.

    The first use of a network at a precision compares pooled features on `sample` with PyTorch float32. Where
    they differ by more than `PARITY` allows, the next slower choice is tried, and the user is told.

    Args:
        request: which network.
        choice: the recipe's engine section; `auto` may fall back, an explicit choice may not. Or what ran it before,
            which binds, because cached rows are named after it, and is not compared with PyTorch again.
        folder: where converted graphs are stored.
        timings: remembers the number of streams and the batch that were fastest.
        sample: real photos (n,H,W,3) uint8, n >= 1, for parity and timing.
        progress: told about fallbacks.

    Raises:
        EngineError: if what was explicitly asked for does not work or does not agree.
        ResourceError: if the disk cannot hold the converted network.
    """
    wanted = EngineChoice.model_validate(choice.choice) if isinstance(choice, TrunkFacts) else choice
    trunk: Trunk | None = None
    if wanted.trunk != "torch":
        try:
            trunk = _open_openvino(request, choice, folder=folder, timings=timings, sample=sample, progress=progress)
        except EngineError as error:
            if wanted.trunk == "openvino":
                raise
            progress.say(f"{error.what} PyTorch runs the trunk instead.")
    trunk = trunk or TorchTrunk(request, wanted)
    if isinstance(choice, TrunkFacts):
        return trunk
    facts = TrunkFacts(engine=trunk.engine, precision=trunk.precision, version=trunk.version, parity=trunk.parity)
    slower = trunk.engine == "openvino" and trunk.precision != _precisions(choice)[0]
    path = _facts_file(request, choice, folder=folder, photos=request.photos if slower else "")
    write_json(path, asdict(facts))
    return trunk


def _open_openvino(
    request: TrunkRequest,
    choice: EngineChoice | TrunkFacts,
    *,
    folder: Path,
    timings: Timings,
    sample: npt.NDArray[np.uint8],
    progress: Progress,
) -> Trunk:
    graph = StoredGraph(request, folder)
    model = graph.read() or graph.make()
    tried: list[str] = []
    for precision in _precisions(choice):
        trunk = OpenVinoTrunk(model, precision, streams=(1, 32))
        if isinstance(choice, TrunkFacts):
            trunk.parity = choice.parity
            return tuned(model, trunk, key=graph.key, timings=timings, sample=sample)
        trunk.parity = parity = graph.parity(trunk, sample)
        if parity >= PARITY[precision]:
            return tuned(model, trunk, key=graph.key, timings=timings, sample=sample)
        tried.append(f"{precision} (mean cosine {parity:.5f}, needed {PARITY[precision]})")
        progress.say(f"OpenVINO {tried[-1]} disagrees with PyTorch for this network.")
    raise EngineError(
        f"OpenVINO disagrees with PyTorch for this network: {', '.join(tried)}.",
        fix='set engine.trunk = "torch".',
    )


def _precisions(choice: EngineChoice | TrunkFacts) -> list[Precision]:
    if choice.precision == "auto":
        return ["bf16", "f32"] if has_bf16() else ["f32"]
    return ["bf16" if choice.precision == "bf16" else "f32"]
