"""`Predictor`: photos -> classes with probabilities, through a checked bundle. Writes nothing but cached graphs.

What computes the logits is one callable, uint8 pictures (n,H,W,3) -> logits (n,K), so that an engine can be swapped
without touching anything else here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from topwork.cachedir import cache_folder
from topwork.cores import CORES
from topwork.data.batches import run_ahead
from topwork.data.decode import decode, printable
from topwork.data.view import evaluation_view
from topwork.errors import DecodeError
from topwork.exports.bundle import Bundle, read_bundle
from topwork.measures.predictions import softmax
from topwork.models.classifier import Classifier
from topwork.models.engine import open_trunk, remembered_facts
from topwork.models.trunk import TrunkRequest
from topwork.progress import Progress, silent
from topwork.recipe import EngineChoice
from topwork.spec import InputSpec
from topwork.timings import Timings

__all__ = ["Prediction", "Predictor"]

_Images = npt.NDArray[np.uint8]
_Logits = npt.NDArray[np.float32]
_WORTH_COMPILING = 500  # photos; converting and timing a network costs as long as PyTorch takes for about so many


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One photo's answer, or why there is none.

    Args:
        path: as it was given.
        predicted: the most probable class; None if the photo cannot be read.
        probabilities: of every class, in the order of the logits; empty if the photo cannot be read.
        error, fix: what is wrong with the photo, and what to do; empty if nothing is.
    """

    path: Path
    predicted: str | None = None
    probabilities: dict[str, float]
    error: str = ""
    fix: str = ""

    def to_json(self) -> dict[str, Any]:
        """`{"path", "predicted", "p": {class: p}}`, or `{"path", "error"}`."""
        if self.predicted is None:
            return {"path": printable(self.path), "error": self.error}
        return {"path": printable(self.path), "predicted": self.predicted, "p": self.probabilities}


class Predictor:
    """A model at work.

    Args:
        run: uint8 pictures (n,H,W,3) -> logits (n,K), any n >= 1.
        classes: K names, in the order of the logits.
        spec: the input.
        temperature: logits are divided by it before the softmax, > 0.
    """

    def __init__(
        self, run: Callable[[_Images], _Logits], *, classes: Sequence[str], spec: InputSpec, temperature: float = 1.0
    ) -> None:
        self.run = run
        self.classes = tuple(classes)
        self.spec = spec
        self.temperature = temperature

    @classmethod
    def load(
        cls,
        model: str | Path | Bundle,
        *,
        engine: Literal["auto", "openvino", "torch"] = "auto",
        photos: int = 1,
        progress: Progress = silent,
    ) -> Predictor:
        """Read a bundle, check it, and choose what runs it.

        Args:
            model: a bundle, its folder, or a run folder.
            engine: `torch` runs float32. `openvino` runs the precision that the model was measured in. `auto` takes
                OpenVINO where it pays: the network was compiled here before, or there are some hundred photos.
            photos: about how many will be predicted.
            progress: told when a network is being compiled.

        Raises:
            BundleError: if there is no bundle, or it must not be trusted.
        """
        bundle = model if isinstance(model, Bundle) else read_bundle(model)
        compiled = _Compiled(bundle, engine, progress=progress)
        pays = engine == "openvino" or (engine == "auto" and compiled.pays(photos))
        run = compiled if pays else _Eager(bundle.classifier)
        return cls(run, classes=bundle.classes, spec=bundle.spec, temperature=bundle.card.temperature)

    def predict(
        self, paths: Iterable[str | Path], *, batch: int = 32, workers: int = CORES
    ) -> Generator[Prediction, None, None]:
        """Predict photos, in their order; one that cannot be read does not stop the others.

        Photos are read in threads ahead of the network, in bounded memory.

        Args:
            paths: files.
            batch: photos of a pass through the network, >= 1.
            workers: reading threads, >= 1.

        Raises:
            EngineError: if OpenVINO was asked for and cannot run this network.
        """
        remaining = iter(map(Path, paths))
        groups = iter(lambda: list(islice(remaining, batch)), [])
        for group in run_ahead(self._read, groups, workers=workers):
            yield from self._answers(group)

    def _read(self, path: Path) -> tuple[Path, _Images | DecodeError]:
        try:
            return path, evaluation_view(decode(path, target=self.spec.resize).pixels, self.spec)
        except DecodeError as error:
            return path, error

    def _answers(self, group: Sequence[tuple[Path, _Images | DecodeError]]) -> Generator[Prediction, None, None]:
        readable = [pixels for _, pixels in group if not isinstance(pixels, DecodeError)]
        found = self.probabilities(np.stack(readable)) if readable else np.empty((0, len(self.classes)))
        rows = iter(found)
        for path, pixels in group:
            if isinstance(pixels, DecodeError):
                yield Prediction(path=path, probabilities={}, error=pixels.what, fix=pixels.fix)
                continue
            row: npt.NDArray[np.float64] = next(rows)
            named = {name: float(value) for name, value in zip(self.classes, row, strict=True)}
            yield Prediction(path=path, predicted=self.classes[int(row.argmax())], probabilities=named)

    def probabilities(self, images: _Images) -> npt.NDArray[np.float64]:
        """uint8 evaluation views (n,H,W,3) -> calibrated probabilities (n,K); each row sums to 1."""
        return softmax(self.run(images).astype(np.float64) / self.temperature)


class _Eager:
    """PyTorch at float32."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier.eval()

    def __call__(self, images: _Images) -> _Logits:
        with torch.inference_mode():
            return np.asarray(self._classifier(torch.from_numpy(images)).numpy(), dtype=np.float32)


class _Compiled:
    """The backbone as the engine compiles it, opened with the first photos, and the head in PyTorch."""

    def __init__(self, bundle: Bundle, engine: Literal["auto", "openvino", "torch"], *, progress: Progress) -> None:
        backbone = bundle.classifier.backbone
        self._request = TrunkRequest(identity=backbone.identity, build=lambda: backbone, cut=None, spec=bundle.spec)
        self._choice = EngineChoice(trunk=engine, precision=bundle.card.precision)
        self._head = bundle.classifier.head.eval()
        self._mirror = bundle.card.mirror
        self._folder = cache_folder() / "engine"
        self._progress = progress
        self._trunk: Any = None

    def pays(self, photos: int) -> bool:
        """Whether OpenVINO answers sooner than PyTorch: it ran this network here before, or there are many photos."""
        for trunk in ("auto", "openvino"):
            choice = self._choice.model_copy(update={"trunk": trunk})
            facts = remembered_facts(self._request, choice, folder=self._folder)
            if facts is not None:
                return facts.engine == "openvino"
        return photos >= _WORTH_COMPILING

    def __call__(self, images: _Images) -> _Logits:
        if self._trunk is None:
            self._progress.say("Preparing the model (converted once, then kept).")
            timings = Timings(cache_folder() / "timings.json")
            self._trunk = open_trunk(
                self._request,
                self._choice,
                folder=self._folder,
                timings=timings,
                sample=images,
                progress=self._progress,
            )
        seen = [images, np.ascontiguousarray(images[:, :, ::-1])] if self._mirror else [images]
        with torch.inference_mode():
            logits = [self._head(torch.from_numpy(self._trunk(view).pooled)).numpy() for view in seen]
        return np.asarray(np.mean(logits, axis=0), dtype=np.float32)
