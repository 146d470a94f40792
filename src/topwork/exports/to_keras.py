"""A bundle -> a Keras 3 model, rebuilt layer by layer; the one door to Keras. Knows nothing about runs or photos.

Everything is a layer that comes with Keras, so `keras.saving.load_model` opens the file without custom code.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from topwork.errors import ExportError
from topwork.exports.bundle import Bundle
from topwork.exports.keras_layers import KerasLayers
from topwork.exports.steps import PIXELS, Step, trace_steps
from topwork.spec import InputSpec

__all__ = ["keras_model", "keras_probabilities", "keras_version", "save_keras"]


def keras_version() -> str:
    """Of the Keras that is installed.

    Raises:
        ExportError: if there is none, or it cannot start.
    """
    return str(_keras().__version__)


def keras_model(bundle: Bundle) -> Any:
    """Rebuild a model in Keras.

    Args:
        bundle: unchanged.

    Returns:
        A functional `keras.Model`: RGB pictures (N,size,size,3), floats in 0..255 -> calibrated probabilities (N,K).

    Raises:
        ExportError: if Keras is not installed, or the network has a layer that cannot be rebuilt.
    """
    steps = trace_steps(bundle.classifier)
    keras = _keras()
    with keras.device("cpu"):
        layers = KerasLayers(keras, network=bundle.classifier.backbone.name)
        pictures = layers.pictures(bundle.spec)
        classifier = _classifier(layers, steps, spec=bundle.spec)
        logits = classifier(pictures)
        if bundle.classifier.mirror:
            mirrored = classifier(layers.mirrored(pictures, size=bundle.spec.size))
            logits = layers.make("Average", "both_sides")([logits, mirrored])
        tempered = layers.make("Rescaling", "temperature", scale=1.0 / bundle.card.temperature)(logits)
        return keras.Model(pictures, layers.make("Softmax", "probabilities")(tempered), name="topwork")


def save_keras(model: Any, path: Path) -> None:
    """Write a model.

    Args:
        model: from `keras_model`.
        path: its ending says the format, `.keras` or `.h5`.
    """
    with _quiet():
        model.save(path)


def keras_probabilities(path: Path, views: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Open a file and ask it.

    Args:
        path: what `save_keras` wrote.
        views: (n,size,size,3) evaluation views.

    Returns:
        Calibrated probabilities (n,K).
    """
    keras = _keras()
    with _quiet(), keras.device("cpu"):
        model = keras.saving.load_model(path, compile=False)
        return np.asarray(model.predict(views.astype(np.float32), batch_size=8, verbose=0))


def _keras() -> ModuleType:
    backend = os.environ.get("KERAS_BACKEND")
    # Keras would look for TensorFlow; PyTorch is here in any case. What is saved does not depend on the backend.
    os.environ.setdefault("KERAS_BACKEND", "torch")
    try:
        with _quiet():
            import keras
    except ImportError as error:
        if backend and error.name not in ("keras", "h5py"):
            raise ExportError(
                f"Keras cannot start with KERAS_BACKEND={backend}: {error}.", fix="leave KERAS_BACKEND unset."
            ) from None
        raise ExportError(
            f"Keras is not installed ({error}), and an export to it needs it.", fix="pip install 'topwork[keras]'"
        ) from None
    finally:
        if backend is None:
            os.environ.pop("KERAS_BACKEND", None)
    return cast(ModuleType, keras)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Keras tells developers: that `.h5` is the older format, and NumPy's word on its conversions."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _classifier(layers: KerasLayers, steps: Sequence[Step], *, spec: InputSpec) -> Any:
    """Pictures -> logits, as a model of its own: with a mirror image it is called twice."""
    pictures = layers.pictures(spec)
    mean, variance = [255.0 * mean for mean in spec.mean], [(255.0 * deviation) ** 2 for deviation in spec.std]
    # Not Rescaling: whether it reads three numbers as channels depends on the settings of whoever opens the file.
    known = {PIXELS: layers.make("Normalization", "normalise", axis=-1, mean=mean, variance=variance)(pictures)}
    for step in steps:
        known[step.name] = layers.rebuilt(step, [known[name] for name in step.inputs])
    return layers.keras.Model(pictures, known[steps[-1].name], name="classifier")
