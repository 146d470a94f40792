"""TensorBoard: event files in the run's folder. The only door to `torch.utils.tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from topwork.tracking.tracker import End, Opened, Start

__all__ = ["TensorBoardTracker"]


class TensorBoardTracker:
    """Writes scalars as they come; figures, the recipe and the final numbers at the end."""

    def begin(self, start: Start) -> Opened:
        """New event files; a continued run has its earlier epochs written again."""
        from torch.utils.tensorboard import SummaryWriter

        self._parameters = dict(start.parameters)
        self._writer: Any = SummaryWriter(str(start.folder))
        listed = json.dumps(self._parameters, indent=4, ensure_ascii=False)
        self._writer.add_text("recipe", "\n".join(f"    {line}" for line in listed.splitlines()))  # Markdown's code
        return Opened(identity=start.folder.name, continued=False)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """One point on each curve; on disk at once, so that it can be watched."""
        for name, number in numbers.items():
            self._writer.add_scalar(name, number, step)
        self._writer.flush()

    def finish(self, end: End) -> None:
        """Figures, the model's path, and a line of the HPARAMS page."""
        import numpy as np
        from PIL import Image

        for figure in end.figures:
            with Image.open(figure) as picture:
                self._writer.add_image(f"figures/{figure.stem}", np.asarray(picture.convert("RGB")), dataformats="HWC")
        self._writer.add_text("model", f"    {end.model}")
        # "." keeps it in this folder; TensorBoard would show any other as a run of its own.
        self._writer.add_hparams(self._parameters, dict(end.numbers), run_name=".")
        self._writer.close()

    def stop(self) -> None:
        """What was written stays."""
        self._writer.close()
