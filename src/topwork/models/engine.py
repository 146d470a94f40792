"""`Trunk`: the frozen part of a network as an inference engine runs it. The door to OpenVINO, beside the predictor.

A trunk takes uint8 pictures and gives two things in one pass: the activation at the cut, and the pooled features.
Normalisation is part of the graph. The converted graph is stored by digest, so that a warm start neither builds the
network nor exports it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from topwork.atomic import write_json
from topwork.digest import digest
from topwork.errors import EngineError
from topwork.progress import Progress, silent
from topwork.recipe import EngineChoice
from topwork.spec import InputSpec
from topwork.timings import Timings, machine_digest

if TYPE_CHECKING:
    import torch

    from topwork.models.backbone import Backbone

__all__ = [
    "ENGINE_VERSION",
    "PARITY",
    "Outputs",
    "Trunk",
    "TrunkFacts",
    "TrunkRequest",
    "cosines",
    "open_trunk",
    "remembered_facts",
]

ENGINE_VERSION = 1  # bump when the same request would give other numbers

_Precision = Literal["f32", "bf16"]

PARITY: dict[_Precision, float] = {"f32": 0.99999, "bf16": 0.998}
"""Smallest mean cosine between the engine's pooled features and PyTorch's at float32."""

_STREAMS = {"1 stream, batch 16": (1, 16), "1 stream, batch 32": (1, 32), "2 streams, batch 8": (2, 8)}
_STREAMS |= {"2 streams, batch 16": (2, 16)}


class Outputs(NamedTuple):
    """What one pass gives: activation (n,h,w,C) or (n,T,C) or None when only features were asked for; pooled (n,D)."""

    activation: npt.NDArray[np.float32] | None
    pooled: npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class TrunkFacts:
    """What ran the trunk, as recorded in the run and in every cache key."""

    engine: str
    precision: str
    version: str
    parity: float | None


class Trunk(Protocol):
    """A compiled frozen network.

    Attributes:
        engine: `openvino` or `torch`.
        precision: `f32` or `bf16`.
        version: of the engine; part of every cache key.
        parity: mean cosine with PyTorch float32, where it was measured.
    """

    engine: str
    precision: _Precision
    version: str
    parity: float | None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run images (n,H,W,3) uint8, any n >= 1."""
        ...


@dataclass(frozen=True, kw_only=True)
class TrunkRequest:
    """Which network, cut where.

    Args:
        identity: digest of everything that changes the network's outputs.
        build: makes the network; called only where the stored graph does not do.
        cut: number of blocks below the cut; None asks for pooled features only.
        spec: the input the network expects.
        photos: digest that names the photos to run on; a precision that fails on some is tried again on others.
    """

    identity: str
    build: Callable[[], Backbone]
    cut: int | None
    spec: InputSpec
    photos: str = ""


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
    choice: EngineChoice,
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
        choice: the recipe's engine section; `auto` may fall back, an explicit choice may not.
        folder: where converted graphs are stored.
        timings: remembers the number of streams and the batch that were fastest.
        sample: real photos (n,H,W,3) uint8, n >= 1, for parity and timing.
        progress: told about fallbacks.

    Raises:
        EngineError: if what was explicitly asked for does not work or does not agree.
    """
    trunk: Trunk | None = None
    if choice.trunk != "torch":
        try:
            trunk = _open_openvino(request, choice, folder=folder, timings=timings, sample=sample, progress=progress)
        except EngineError as error:
            if choice.trunk == "openvino":
                raise
            progress.say(f"{error.what} PyTorch runs the trunk instead.")
    trunk = trunk or _TorchTrunk(request, choice)
    facts = TrunkFacts(engine=trunk.engine, precision=trunk.precision, version=trunk.version, parity=trunk.parity)
    slower = trunk.engine == "openvino" and trunk.precision != _precisions(choice)[0]
    path = _facts_file(request, choice, folder=folder, photos=request.photos if slower else "")
    write_json(path, asdict(facts))
    return trunk


def cosines(a: npt.NDArray[np.float32], b: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Cosine of each row of a (n,D) with the same row of b (n,D); in [-1, 1]."""
    left, right = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return np.asarray((left * right).sum(axis=1) / np.maximum(norms, 1e-30), dtype=np.float64)


def _open_openvino(
    request: TrunkRequest,
    choice: EngineChoice,
    *,
    folder: Path,
    timings: Timings,
    sample: npt.NDArray[np.uint8],
    progress: Progress,
) -> Trunk:
    graph = _StoredGraph(request, folder)
    model = graph.read() or graph.make()
    tried: list[str] = []
    for precision in _precisions(choice):
        trunk = _OpenVinoTrunk(model, precision, streams=(1, 32))
        trunk.parity = graph.parity(trunk, sample)
        if trunk.parity >= PARITY[precision]:
            return _tuned(model, trunk, key=graph.key, timings=timings, sample=sample)
        tried.append(f"{precision} (mean cosine {trunk.parity:.5f}, needed {PARITY[precision]})")
        progress.say(f"OpenVINO {tried[-1]} disagrees with PyTorch for this network.")
    raise EngineError(
        f"OpenVINO disagrees with PyTorch for this network: {', '.join(tried)}.",
        fix='set engine.trunk = "torch".',
    )


def _precisions(choice: EngineChoice) -> list[_Precision]:

    has_bf16 = "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if choice.precision == "auto":
        return ["bf16", "f32"] if has_bf16 else ["f32"]
    return [choice.precision]


class _StoredGraph:
    """The converted network on disk: NAME.xml, NAME.bin, and NAME.json, which is written last and makes it valid."""

    def __init__(self, request: TrunkRequest, folder: Path) -> None:
        import openvino as ov

        self._request = request
        self.key = digest(request.identity, request.cut, request.spec.to_json(), ENGINE_VERSION, ov.__version__)[:32]
        self._xml = folder / f"{self.key}.xml"
        self._facts_path = folder / f"{self.key}.json"
        self._backbone: Backbone | None = None

    def read(self) -> Any | None:
        """The stored graph, or None if there is none or it cannot be read."""

        if self._parities() is None:
            return None
        try:
            return _core().read_model(self._xml)
        except RuntimeError:
            return None  # damaged: it is made again

    def make(self) -> Any:
        """Export, convert and store."""
        import openvino as ov

        try:
            model = _convert(self._built(), self._request)
        except Exception as error:  # the exporter raises many kinds; all mean that this network does not convert
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise EngineError(
                f"This network does not convert to OpenVINO: {reason}.", fix='set engine.trunk = "torch".'
            ) from error
        self._xml.parent.mkdir(parents=True, exist_ok=True)
        self._facts_path.unlink(missing_ok=True)
        ov.save_model(model, self._xml, compress_to_fp16=False)
        write_json(self._facts_path, {"parity": {}})
        # Rows of this process and of later ones, which read the file, must come from the same graph.
        return _core().read_model(self._xml)

    def parity(self, trunk: _OpenVinoTrunk, sample: npt.NDArray[np.uint8]) -> float:
        """Mean cosine with PyTorch float32: the stored one, or measured on the sample now."""
        parities = self._parities() or {}
        known = parities.get(trunk.precision)
        if known is None:
            reference = _TorchTrunk(self._request, EngineChoice(trunk="torch", precision="f32"), built=self._built())
            known = float(cosines(trunk(sample).pooled, reference(sample).pooled).mean())
            if known >= PARITY[trunk.precision]:  # what fails on these photos may do on others
                write_json(self._facts_path, {"parity": {**parities, trunk.precision: known}})
        return known

    def _parities(self) -> dict[str, float] | None:
        try:
            parities = json.loads(self._facts_path.read_text(encoding="utf-8"))["parity"]
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return parities if isinstance(parities, dict) else None

    def _built(self) -> Backbone:
        self._backbone = self._backbone or self._request.build()
        return self._backbone


def _convert(backbone: Backbone, request: TrunkRequest) -> Any:
    import openvino as ov
    import torch

    from topwork.models.classifier import normalised_trunk

    size = request.spec.size
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1, max=4096)
    with torch.no_grad():
        program = torch.export.export(
            normalised_trunk(backbone, request.cut), (example,), dynamic_shapes={"images": {0: batch}}
        )
    model = ov.convert_model(program)
    model.reshape({0: ov.PartialShape([-1, size, size, 3])})  # the exporter leaves height and width open
    return model


@cache
def _core() -> Any:
    """One for the process: without any, OpenVINO unloads its CPU plugin, whose threads may still run in it."""
    import openvino as ov

    return ov.Core()


class _OpenVinoTrunk:
    engine = "openvino"

    def __init__(self, model: Any, precision: _Precision, *, streams: tuple[int, int]) -> None:
        import openvino as ov

        count, self._batch = streams
        hints = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": count}
        self._queue = ov.AsyncInferQueue(_core().compile_model(model, "CPU", hints), count)
        self._pieces: dict[int, list[npt.NDArray[np.float32]]] = {}
        self._queue.set_callback(_collector(self._pieces))
        self.precision: _Precision = precision
        self.version = f"openvino {ov.__version__}, graph {ENGINE_VERSION}"
        self.parity: float | None = None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        self._pieces.clear()
        for start in range(0, len(images), self._batch):
            self._queue.start_async({0: images[start : start + self._batch]}, start)
        self._queue.wait_all()
        *activation, pooled = (np.concatenate(parts) for parts in zip(*self._in_order(), strict=True))
        return Outputs(activation[0] if activation else None, pooled)

    def _in_order(self) -> list[list[npt.NDArray[np.float32]]]:
        return [self._pieces[start] for start in sorted(self._pieces)]


def _collector(pieces: dict[int, list[npt.NDArray[np.float32]]]) -> Callable[[Any, int], None]:
    """What keeps the outputs of a request. It knows no trunk: a queue that did would keep its trunk alive for ever."""

    def collect(request: Any, start: int) -> None:
        # The tensors are views of the request's memory, which the next picture overwrites.
        pieces[start] = [np.array(request.get_output_tensor(i).data) for i in range(len(request.output_tensors))]

    return collect


def _tuned(
    model: Any, trunk: _OpenVinoTrunk, *, key: str, timings: Timings, sample: npt.NDArray[np.uint8]
) -> _OpenVinoTrunk:
    """The same trunk with the number of streams and the batch that are fastest here."""
    images = np.resize(sample, (64, *sample.shape[1:]))

    def seconds(streams: tuple[int, int]) -> float:
        candidate = _OpenVinoTrunk(model, trunk.precision, streams=streams)
        candidate(images[: streams[1]])  # the first run allocates
        runs = []
        for _ in range(3):
            start = time.perf_counter()
            candidate(images)
            runs.append(time.perf_counter() - start)
        return min(runs)  # what else the machine does can only add to it

    candidates = {name: (lambda s=streams: seconds(s)) for name, streams in _STREAMS.items()}
    picked = timings.pick("trunk streams", f"{key}/{trunk.precision}", candidates=candidates)
    tuned = _OpenVinoTrunk(model, trunk.precision, streams=_STREAMS[picked])
    tuned.parity = trunk.parity
    return tuned


class _TorchTrunk:
    engine = "torch"

    def __init__(self, request: TrunkRequest, choice: EngineChoice, *, built: Backbone | None = None) -> None:
        import torch

        from topwork.models.classifier import normalised_trunk

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        graph = normalised_trunk(built or request.build(), request.cut)
        self._graph = graph.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cut = request.cut
        self.precision: _Precision = choice.precision if choice.precision != "auto" else _torch_precision(self._device)
        self.version = f"torch {torch.__version__}, graph {ENGINE_VERSION}"
        self.parity: float | None = None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        import torch

        pieces: list[tuple[npt.NDArray[np.float32], ...]] = []
        for start in range(0, len(images), 32):
            batch = torch.from_numpy(images[start : start + 32]).to(self._device)
            half = torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")
            with torch.inference_mode(), half:
                found = self._graph(batch)
            tensors = found if isinstance(found, tuple) else (found,)
            pieces.append(tuple(tensor.float().cpu().numpy() for tensor in tensors))
        *activation, pooled = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        return Outputs(activation[0] if activation else None, pooled)


def _torch_precision(device: torch.device) -> _Precision:
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "f32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "f32"
