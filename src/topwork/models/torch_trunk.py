"""`TorchTrunk`: a trunk that PyTorch runs, on the CPU or a CUDA device (which was not run here)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from topwork.models.trunk import ENGINE_VERSION, Outputs, Precision, TrunkRequest
from topwork.recipe import EngineChoice

if TYPE_CHECKING:
    import torch

    from topwork.models.backbone import Backbone

__all__ = ["TorchTrunk"]


class TorchTrunk:
    """PyTorch: channels last, and autocast where bfloat16 is asked for.

    Args:
        request: which network.
        choice: its precision; `auto` takes bfloat16 where the device has it.
        built: the network, where it is there already.
    """

    engine = "torch"

    def __init__(self, request: TrunkRequest, choice: EngineChoice, *, built: Backbone | None = None) -> None:
        import torch

        from topwork.models.classifier import normalised_trunk

        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        graph = normalised_trunk(built or request.build(), request.cut)
        self._graph = graph.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._cut = request.cut
        self.precision: Precision = choice.precision if choice.precision != "auto" else _torch_precision(self._device)
        self.version = f"torch {torch.__version__}, graph {ENGINE_VERSION}"
        self.parity: float | None = None

    def __call__(self, images: npt.NDArray[np.uint8]) -> Outputs:
        """Run images (n,H,W,3) uint8, any n >= 1."""
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


def _torch_precision(device: torch.device) -> Precision:
    import torch

    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "f32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "f32"
