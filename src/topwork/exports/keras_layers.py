"""`KerasLayers`: steps of a classifier as layers that come with Keras, weights included. Is handed Keras, loads none.

PyTorch lays pictures out as (N,C,h,w), Keras as (N,h,w,C); weights are turned to match.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from topwork.errors import ExportError
from topwork.exports.steps import Step
from topwork.models.kernel_head import TINY, KernelHead
from topwork.spec import InputSpec

__all__ = ["KerasLayers"]

_SPATIAL = ("Conv2D", "DepthwiseConv2D", "ZeroPadding2D", "MaxPooling2D", "AveragePooling2D")
_GLOBAL = {"AdaptiveAvgPool2d": "GlobalAveragePooling2D", "AdaptiveMaxPool2d": "GlobalMaxPooling2D"}
_RECTIFIERS: dict[str, float | None] = {"ReLU": None, "ReLU6": 6.0}
_CURVES = {
    "SiLU": "silu",
    "Sigmoid": "sigmoid",
    "sigmoid": "sigmoid",
    "Hardsigmoid": "hard_sigmoid",
    "Hardswish": "hard_silu",
}
_MERGES = {"add": "Add", "mul": "Multiply"}


class KerasLayers:
    """Makes Keras layers.

    Args:
        keras: the package.
        network: its name, for messages.
    """

    def __init__(self, keras: ModuleType, *, network: str) -> None:
        self.keras = keras
        self._network = network
        self._rectified: set[str] = set()  # names of steps whose results are never negative

    def make(self, kind: str, name: str, **options: Any) -> Any:
        """A layer, independent of the user's Keras settings."""
        if kind in _SPATIAL or kind in _GLOBAL.values():
            options["data_format"] = "channels_last"
        return getattr(self.keras.layers, kind)(name=name, dtype="float32", **options)

    def pictures(self, spec: InputSpec) -> Any:
        """What goes in."""
        return self.keras.Input((spec.size, spec.size, 3), dtype="float32", name="pictures")

    def mirrored(self, pictures: Any, *, size: int) -> Any:
        """Left and right change places, by a matrix, because Keras has no layer that always flips."""
        flip = self.make("EinsumDense", "mirror", equation="bhwc,wx->bhxc", output_shape=(size, size, 3))
        flip.trainable = False
        out = flip(pictures)
        flip.set_weights([np.eye(size, dtype=np.float32)[::-1]])
        return out

    def rebuilt(self, step: Step, inputs: list[Any]) -> Any:
        """The result of a step, as a Keras tensor."""
        build = _BUILDERS.get(step.kind)
        if build is None or not inputs:
            raise self.refused(step, "topwork knows no layer of Keras for it")
        if _rectifies(step):
            self._rectified.add(step.name)
        try:
            return build(self, step, inputs)
        except ValueError as error:  # Keras says what its layers cannot do
            raise self.refused(step, str(error).splitlines()[0]) from None

    def refused(self, step: Step, reason: str) -> ExportError:
        """Why a step cannot be rebuilt."""
        return ExportError(
            f"{self._network} cannot be rebuilt in Keras, because of its {step.kind} ({step.name}): {reason}.",
            fix="export one of another family: MobileNet, EfficientNet or ResNet.",
        )

    def _convolution(self, step: Step, inputs: list[Any]) -> Any:
        conv = cast(nn.Conv2d, step.module)
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise self.refused(step, f"it pads with {conv.padding_mode}, {conv.padding}")
        x, padding = self._padded(step, inputs[0])
        options: dict[str, Any] = {"kernel_size": conv.kernel_size, "strides": conv.stride, "padding": padding}
        options |= {"dilation_rate": conv.dilation, "use_bias": conv.bias is not None}
        kernel = conv.weight  # (out, in / groups, h, w)
        if conv.groups == conv.in_channels > 1:
            copies = conv.out_channels // conv.groups
            layer = self.make("DepthwiseConv2D", step.name, depth_multiplier=copies, **options)
            kernel = kernel.reshape(conv.groups, copies, *conv.kernel_size).permute(2, 3, 0, 1)  # (h, w, in, copies)
        else:
            layer = self.make("Conv2D", step.name, filters=conv.out_channels, groups=conv.groups, **options)
            kernel = kernel.permute(2, 3, 1, 0)  # (h, w, in / groups, out)
        return _filled(layer, x, kernel, conv.bias)

    def _padded(self, step: Step, x: Any) -> tuple[Any, str]:
        """The picture with a border, and what is left for the layer: `same` is TensorFlow's, which grows at the end."""
        conv = cast(Any, step.module)
        if step.kind == "Conv2dSame":
            return x, "same"
        if not any(conv.padding):
            return x, "valid"
        reach = [rate * (side - 1) for rate, side in zip(conv.dilation, conv.kernel_size, strict=True)]
        if tuple(conv.stride) == (1, 1) and reach == [2 * border for border in conv.padding]:
            return x, "same"  # without a stride both ways of padding are one
        return self.make("ZeroPadding2D", f"{step.name}_pad", padding=tuple(conv.padding))(x), "valid"

    def _norm(self, step: Step, inputs: list[Any]) -> Any:
        norm = cast(nn.BatchNorm2d, step.module)
        if norm.running_mean is None:
            raise self.refused(step, "it has no running statistics")
        momentum = 0.99 if norm.momentum is None else 1.0 - norm.momentum
        layer = self.make(
            "BatchNormalization",
            step.name,
            epsilon=norm.eps,
            momentum=momentum,
            center=norm.bias is not None,
            scale=norm.weight is not None,
        )
        x = _filled(layer, inputs[0], norm.weight, norm.bias, norm.running_mean, norm.running_var)
        act = getattr(norm, "act", None)  # timm fuses them
        if act is None or isinstance(act, nn.Identity):
            return x
        kind = type(act).__name__
        fused = Step(name=f"{step.name}_act", kind=kind, module=act, inputs=(step.name,), options={})
        return self.rebuilt(fused, [x])

    def _rectifier(self, step: Step, inputs: list[Any]) -> Any:
        return self.make("ReLU", step.name, max_value=_RECTIFIERS[step.kind])(inputs[0])

    def _curve(self, step: Step, inputs: list[Any]) -> Any:
        return self.make("Activation", step.name, activation=_CURVES[step.kind])(inputs[0])

    def _merge(self, step: Step, inputs: list[Any]) -> Any:
        if step.arguments or step.options:
            raise self.refused(step, "it takes a number")
        return self.make(_MERGES[step.kind], step.name)(inputs)

    def _concatenated(self, step: Step, inputs: list[Any]) -> Any:
        places = step.options.get("dim", next(iter(step.arguments), 0))
        if places != 1 or len(inputs[0].shape) not in (2, 4):
            raise self.refused(step, "it is not over channels")
        return self.make("Concatenate", step.name, axis=-1)(inputs)

    def _linear(self, step: Step, inputs: list[Any]) -> Any:
        linear = cast(nn.Linear, step.module)
        layer = self.make("Dense", step.name, units=linear.out_features, use_bias=linear.bias is not None)
        return _filled(layer, inputs[0], linear.weight.T, linear.bias)

    def _dropout(self, step: Step, inputs: list[Any]) -> Any:
        return self.make("Dropout", step.name, rate=cast(nn.Dropout, step.module).p)(inputs[0])

    def _flatten(self, step: Step, inputs: list[Any]) -> Any:
        x = inputs[0]
        if len(x.shape) == 4 and x.shape[1:3] != (1, 1):
            x = self.make("Permute", f"{step.name}_turn", dims=(3, 1, 2))(x)  # (N,h,w,C) -> (N,C,h,w), as PyTorch reads
        return self.make("Flatten", step.name)(x)

    def _mean(self, step: Step, inputs: list[Any]) -> Any:
        if step.arguments != ((2, 3),) or set(step.options) - {"keepdim"}:
            raise self.refused(step, "it is not over height and width")
        keep = bool(step.options.get("keepdim"))
        return self.make("GlobalAveragePooling2D", step.name, keepdims=keep)(inputs[0])

    def _global_pool(self, step: Step, inputs: list[Any]) -> Any:
        if cast(Any, step.module).output_size not in (1, (1, 1)):
            raise self.refused(step, "it leaves more than one cell")
        return self.make(_GLOBAL[step.kind], step.name, keepdims=True)(inputs[0])

    def _max_pool(self, step: Step, inputs: list[Any]) -> Any:
        pool = cast(nn.MaxPool2d, step.module)
        border, x = _pair(pool.padding), inputs[0]
        if pool.ceil_mode or _pair(pool.dilation) != (1, 1) or (any(border) and step.inputs[0] not in self._rectified):
            raise self.refused(step, "Keras cannot pad or space it like that")
        if any(border):  # PyTorch pads with minus infinity; where nothing is negative, zeros are the same
            x = self.make("ZeroPadding2D", f"{step.name}_pad", padding=border)(x)
        return self.make("MaxPooling2D", step.name, pool_size=_pair(pool.kernel_size), strides=_pair(pool.stride))(x)

    def _average_pool(self, step: Step, inputs: list[Any]) -> Any:
        pool = cast(nn.AvgPool2d, step.module)
        size, strides, x = _pair(pool.kernel_size), _pair(pool.stride), inputs[0]
        covers = all((side - k) % s == 0 for side, k, s in zip(x.shape[1:3], size, strides, strict=True))
        # A last window that hangs over the edge and does not count what is outside is what Keras calls `same`.
        hangs = pool.ceil_mode and not pool.count_include_pad and size == strides
        if any(_pair(pool.padding)) or not (covers or not pool.ceil_mode or hangs):
            raise self.refused(step, "Keras cannot pad it like that")
        padding = "same" if hangs and not covers else "valid"
        return self.make("AveragePooling2D", step.name, pool_size=size, strides=strides, padding=padding)(x)

    def _kernel(self, step: Step, inputs: list[Any]) -> Any:
        """The formula of `KernelHead`, with |z - l|^2 = z.z - (2 z.l - l.l)."""
        head, x = cast(KernelHead, step.module), inputs[0]

        def made(kind: str, name: str, **options: Any) -> Any:
            return self.make(kind, f"{step.name}_{name}", **options)

        size = made("Maximum", "size")([x, made("Rescaling", "negative", scale=-1.0)(x)])
        size = made("Rescaling", "not_zero", scale=1.0, offset=TINY)(size)
        # Of all that is used here only this has no layer: an operation that comes with Keras, held by a layer, which
        # both file formats can keep.
        root = self.keras.Model(size, self.keras.ops.rsqrt(size)).operations[-1]
        roots = made("Multiply", "roots")([x, made("Activation", "inverse_root", activation=root)(size)])
        directions = made("UnitNormalization", "directions")(roots)
        embed = made("BatchNormalization", "embedded", epsilon=0.0, center=False, scale=False, trainable=False)
        z = _filled(embed, directions, head.mean, (head.scale**2).expand(len(head.mean)))
        # Stored photos stand class by class, and the sum of the last layer would swing far out and back, which costs
        # float32 its last digits: with 2,316 of them 2e-4 of a logit, in mixed order 2e-5.
        order = np.random.default_rng(0).permutation(len(head.landmarks))
        landmarks = head.landmarks[order]
        products = _filled(
            made("Dense", "landmarks", units=len(landmarks)), z, 2.0 * landmarks.T, -(landmarks**2).sum(1)
        )
        apart = made("Subtract", "squares")([made("Dot", "length", axes=1)([z, z]), products])
        farther = made("Rescaling", "minus", scale=-1.0)(made("ReLU", "at_least_zero")(apart))
        likeness = made("Activation", "likeness", activation="exponential")(farther)
        out = made("Dense", "logits", units=head.logits.out_features)
        return _filled(out, likeness, head.logits.weight.T[order], head.logits.bias)


_BUILDERS: dict[str, Callable[[KerasLayers, Step, list[Any]], Any]] = {
    "Conv2d": KerasLayers._convolution,
    "Conv2dSame": KerasLayers._convolution,
    "BatchNorm1d": KerasLayers._norm,
    "BatchNorm2d": KerasLayers._norm,
    "BatchNormAct2d": KerasLayers._norm,
    "Linear": KerasLayers._linear,
    "Dropout": KerasLayers._dropout,
    "Flatten": KerasLayers._flatten,
    "flatten": KerasLayers._flatten,
    "mean": KerasLayers._mean,
    "MaxPool2d": KerasLayers._max_pool,
    "AvgPool2d": KerasLayers._average_pool,
    "KernelHead": KerasLayers._kernel,
    "cat": KerasLayers._concatenated,
    **dict.fromkeys(_GLOBAL, KerasLayers._global_pool),
    **dict.fromkeys(_MERGES, KerasLayers._merge),
    **dict.fromkeys(_RECTIFIERS, KerasLayers._rectifier),
    **dict.fromkeys(_CURVES, KerasLayers._curve),
}


def _filled(layer: Any, x: Any, *weights: Tensor | None) -> Any:
    """The layer's result, after its weights were set; Keras makes them at the first call."""
    out = layer(x)
    layer.set_weights([weight.detach().cpu().numpy() for weight in weights if weight is not None])
    return out


def _rectifies(step: Step) -> bool:
    act = getattr(step.module, "act", step.module)
    return type(act).__name__ in _RECTIFIERS


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)
