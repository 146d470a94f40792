"""Keras as its transfer-learning guide teaches it: MobileNetV2 frozen under a new head, then its top 30 layers.

The weights are those of timm's `mobilenetv2_100`, translated by name. `KERAS_CHECK=FILE.npz` instead compares features:
the file holds `images` (N,H,W,3) scaled to [-1, 1] and timm's pooled `features` (N,D) of them.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from peer_log import Log, Stopwatch, opened
from safetensors.numpy import load_file

TRAINED_LAYERS = 30
_DEPTHS = (1, 2, 3, 4, 3, 3, 1)
_EXPANDED = {"expand": "conv_pw", "expand_BN": "bn1", "depthwise": "conv_dw", "depthwise_BN": "bn2"}
_EXPANDED |= {"project": "conv_pwl", "project_BN": "bn3"}
_NOT_EXPANDED = {"depthwise": "conv_dw", "depthwise_BN": "bn1", "project": "conv_pw", "project_BN": "bn2"}
_OUTER = {"Conv1": "conv_stem", "bn_Conv1": "bn1", "Conv_1": "conv_head", "Conv_1_bn": "bn2"}


def timm_name(layer: str) -> str:
    """The module of timm's network that holds what a Keras layer needs: `block_3_expand` -> `blocks.2.0.conv_pw`."""
    if layer in _OUTER:
        return _OUTER[layer]
    found = re.fullmatch(r"(?:block_(\d+)|expanded_conv)_(\w+)", layer)
    if found is None:
        raise KeyError(layer)
    number = int(found[1] or 0)
    names = _EXPANDED if number else _NOT_EXPANDED
    stage = 0
    while number >= _DEPTHS[stage]:
        number -= _DEPTHS[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{names[found[2]]}"


def load_timm(base: keras.Model, path: str, *, bn_eps: float) -> None:
    """Copy timm's tensors into `keras.applications.MobileNetV2`; every one must be used."""
    tensors = load_file(path)
    used = set()
    for layer in base.layers:
        if not layer.weights:
            continue
        name = timm_name(layer.name)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.epsilon = bn_eps
            keys = [f"{name}.{leaf}" for leaf in ("weight", "bias", "running_mean", "running_var")]
            layer.set_weights([tensors[key] for key in keys])
        else:
            keys = [f"{name}.weight"]
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            layer.set_weights([tensors[keys[0]].transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))])
        used.update(keys)
    left_over = [k for k in tensors if k not in used and not k.startswith("classifier.") and "num_batches" not in k]
    if left_over:
        raise SystemExit(f"The weights {path} hold tensors that Keras's MobileNetV2 has no place for: {left_over[:3]}")


def network(plan: dict[str, Any]) -> tuple[keras.Model, keras.Model]:
    """The base, and base + augmentation + head as the guide builds it."""
    size = plan["size"]
    base = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(size, size, 3))
    load_timm(base, plan["weights"], bn_eps=plan["bn_eps"])
    inputs = keras.Input((size, size, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.05)(x)
    x = keras.layers.RandomZoom(0.2)(x)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(x)
    x = base(x, training=False)  # the guide: BatchNorm stays in inference mode, also while it is fine-tuned
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    return base, keras.Model(inputs, keras.layers.Dense(len(plan["classes"]))(x))


def batches(plan: dict[str, Any], part: str, *, training: bool) -> tf.data.Dataset:
    """Decoded and resized on all cores, ahead of their consumer."""
    size, number = plan["size"], {name: i for i, name in enumerate(plan["classes"])}
    rows = plan["photos"][part]
    paths = [str(Path(plan["root"]) / path) for path, _ in rows]
    found = tf.data.Dataset.from_tensor_slices((paths, [number[label] for _, label in rows]))
    resized = round(size / plan["crop"])

    def read(path: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picture = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False)
        picture = keras.ops.cast(picture, "float32")
        sides = tf.cast(tf.shape(picture)[:2], tf.float32)
        sides = tf.cast(tf.round(sides * resized / tf.reduce_min(sides)), tf.int32)
        picture = tf.image.resize(picture, sides, antialias=True)
        return tf.image.resize_with_crop_or_pad(picture, size, size), label

    if training:
        found = found.shuffle(len(rows), seed=plan["seed"])
    return found.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(plan["batch"]).prefetch(tf.data.AUTOTUNE)


class EpochLog(keras.callbacks.Callback):
    """Writes every epoch down, validation included, and keeps the best weights of all."""

    def __init__(self, log: Log, plan: dict[str, Any], *, phase: str, best: dict[str, Any]) -> None:
        super().__init__()
        self.log, self.plan, self.phase, self.best, self.watch = log, plan, phase, best, Stopwatch()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.watch.lap()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        images, score = len(self.plan["photos"]["train"]), float(logs["val_accuracy"])
        seconds = self.watch.lap()
        self.log.write("epoch", phase=self.phase, epoch=epoch + 1, val_accuracy=score, images=images, seconds=seconds)
        if score > self.best["score"]:
            self.best.update(score=score, weights=self.model.get_weights())


def check_features(plan: dict[str, Any], path: str) -> None:
    """Print the smallest and the mean cosine between Keras's pooled features and timm's."""
    base, _ = network(plan)
    with np.load(path) as held:
        images, theirs = held["images"], held["features"]
    ours = np.asarray(base(images, training=False)).mean((1, 2))
    cosines = (ours * theirs).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(theirs, axis=1)
    print(f"feature cosine with timm: mean {cosines.mean():.6f}, smallest {cosines.min():.6f}, n={len(cosines)}")
    if cosines.min() < 0.9999:
        sys.exit(1)


def main() -> None:
    """Train in two phases, then predict the test part once."""
    plan, log = opened("keras", "tensorflow-cpu")
    tf.config.threading.set_intra_op_parallelism_threads(plan["threads"])
    keras.utils.set_random_seed(plan["seed"])
    if check := os.environ.get("KERAS_CHECK"):
        check_features(plan, check)
        return
    base, model = network(plan)
    training, validation = batches(plan, "train", training=True), batches(plan, "val", training=False)
    best: dict[str, Any] = {"score": -1.0}
    epochs = plan["frozen_epochs"] + plan["epochs"]
    for phase, count, rate in (("frozen", epochs // 2, 1e-3), ("fine-tuning", epochs - epochs // 2, 1e-4)):
        base.trainable = phase == "fine-tuning"
        for layer in base.layers[:-TRAINED_LAYERS]:
            layer.trainable = False
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss=loss, metrics=["accuracy"])
        logger = EpochLog(log, plan, phase=phase, best=best)
        model.fit(training, validation_data=validation, epochs=count, verbose=0, callbacks=[logger])
    model.set_weights(best["weights"])
    guesses = model.predict(batches(plan, "test", training=False), verbose=0).argmax(1).tolist()
    names = [plan["classes"][number] for number in guesses]
    log.write("test", predicted=dict(zip([path for path, _ in plan["photos"]["test"]], names, strict=True)))


if __name__ == "__main__":
    main()
