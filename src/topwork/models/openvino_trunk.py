"""`OpenVinoTrunk`: a trunk that OpenVINO runs, from a graph that is converted once and kept on disk.

The converted graph is stored by digest, so that a warm start neither builds the network nor exports it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from topwork.atomic import write_json
from topwork.digest import digest
from topwork.errors import EngineError, ResourceError
from topwork.models.torch_trunk import TorchTrunk
from topwork.models.trunk import ENGINE_VERSION, PARITY, Outputs, Precision, TrunkRequest, cosines
from topwork.recipe import EngineChoice
from topwork.timings import Timings

if TYPE_CHECKING:
    from torch import nn

    from topwork.models.backbone import Backbone

__all__ = ["OpenVinoTrunk", "StoredGraph", "has_bf16", "tuned"]

_STREAMS = {"1 stream, batch 16": (1, 16), "1 stream, batch 32": (1, 32), "2 streams, batch 8": (2, 8)}
_STREAMS |= {"2 streams, batch 16": (2, 16)}


class StoredGraph:
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
        """Export, convert and store.

        Raises:
            EngineError: if the network does not convert.
            ResourceError: if the disk cannot hold it.
        """
        try:
            model = _convert(self._built(), self._request)
        except Exception as error:  # the exporter raises many kinds; all mean that this network does not convert
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise EngineError(
                f"This network does not convert to OpenVINO: {reason}.", fix='set engine.trunk = "torch".'
            ) from error
        self._store(model)
        # Rows of this process and of later ones, which read the file, must come from the same graph.
        return _core().read_model(self._xml)

    def _store(self, model: Any) -> None:
        """Write under names of this process's own, then rename: another one may be making or reading the same graph."""
        import openvino as ov

        new = self._xml.with_suffix(f".{os.getpid()}.xml")
        try:
            self._xml.parent.mkdir(parents=True, exist_ok=True)
            ov.save_model(model, new, compress_to_fp16=False)
            for suffix in (".bin", ".xml"):
                os.replace(new.with_suffix(suffix), self._xml.with_suffix(suffix))
            write_json(self._facts_path, {"parity": self._parities() or {}})
        except (OSError, RuntimeError) as error:
            for suffix in (".bin", ".xml"):
                new.with_suffix(suffix).unlink(missing_ok=True)
            if self.read() is not None:
                return  # another process has made the same; on Windows it cannot be replaced while that runs
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
            raise ResourceError(
                f"The converted network cannot be written to {self._xml.parent}: {reason}",
                fix="free disk space, or set TOPWORK_CACHE to another disk.",
            ) from error

    def parity(self, trunk: OpenVinoTrunk, sample: npt.NDArray[np.uint8]) -> float:
        """Mean cosine with PyTorch float32: the stored one, or measured on the sample now."""
        parities = self._parities() or {}
        known = parities.get(trunk.precision)
        if known is None:
            reference = TorchTrunk(self._request, EngineChoice(trunk="torch", precision="f32"), built=self._built())
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
    trunk = normalised_trunk(backbone, request.cut)
    with torch.no_grad(), _out_of_place(trunk):
        program = torch.export.export(trunk, (example,), dynamic_shapes={"images": {0: batch}})
    model = ov.convert_model(program)
    model.reshape({0: ov.PartialShape([-1, size, size, 3])})  # the exporter leaves height and width open
    return model


@contextmanager
def _out_of_place(module: nn.Module) -> Iterator[None]:
    """For a while no activation overwrites its input.

    The graph is the same; undoing it takes the converter 1.8 of its 4.4 s for MobileNetV2 (median of 4, 2 cores).
    """
    overwriting: list[Any] = [part for part in module.modules() if getattr(part, "inplace", False)]
    for part in overwriting:
        part.inplace = False
    try:
        yield
    finally:
        for part in overwriting:
            part.inplace = True


@cache
def _core() -> Any:
    """One for the process: without any, OpenVINO unloads its CPU plugin, whose threads may still run in it."""
    import openvino as ov

    return ov.Core()


def has_bf16() -> bool:
    """Whether this CPU computes in bfloat16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoTrunk:
    """A compiled graph and its queue of requests.

    Args:
        model: as `StoredGraph` gives it.
        precision: of the inference.
        streams: how many requests run side by side, and pictures of each.
    """

    engine = "openvino"

    def __init__(self, model: Any, precision: Precision, *, streams: tuple[int, int]) -> None:
        import openvino as ov

        count, self._batch = streams
        hints = {"INFERENCE_PRECISION_HINT": precision, "NUM_STREAMS": count}
        self._queue = ov.AsyncInferQueue(_core().compile_model(model, "CPU", hints), count)
        self._pieces: dict[int, list[npt.NDArray[np.float32]]] = {}
        self._queue.set_callback(_collector(self._pieces))
        self.precision: Precision = precision
        self.version = f"openvino {ov.__version__}, graph {ENGINE_VERSION}"
        self.parity: float | None = None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run images (n,H,W,3) uint8, any n >= 1."""
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


def tuned(
    model: Any, trunk: OpenVinoTrunk, *, key: str, timings: Timings, sample: npt.NDArray[np.uint8]
) -> OpenVinoTrunk:
    """The same trunk with the number of streams and the batch that are fastest here."""
    images = np.resize(sample, (64, *sample.shape[1:]))

    def seconds(streams: tuple[int, int]) -> float:
        candidate = OpenVinoTrunk(model, trunk.precision, streams=streams)
        candidate(images[: streams[1]])  # the first run allocates
        runs = []
        for _ in range(3):
            start = time.perf_counter()
            candidate(images)
            runs.append(time.perf_counter() - start)
        return min(runs)  # what else the machine does can only add to it

    candidates = {name: (lambda s=streams: seconds(s)) for name, streams in _STREAMS.items()}
    picked = timings.pick("trunk streams", f"{key}/{trunk.precision}", candidates=candidates)
    tuned = OpenVinoTrunk(model, trunk.precision, streams=_STREAMS[picked])
    tuned.parity = trunk.parity
    return tuned
