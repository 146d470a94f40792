"""What TensorBoard reads back from the events is what was told."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("tensorboard", reason="the extra `track` is not installed")

from topwork.tracking.tensorboard import TensorBoardTracker
from topwork.tracking.tracker import End, Start
from topwork.tracking.trackers import epoch_numbers


def _read(start: Start) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(start.folder), size_guidance={"images": 0, "scalars": 0, "tensors": 0})
    return found.Reload()


def test_curves_numbers_figures_and_parameters(start: Start, history: list[dict[str, Any]], end: End) -> None:
    tracker = TensorBoardTracker()
    assert not tracker.begin(start).continued
    for step, line in enumerate(history, start=1):
        tracker.log(step, epoch_numbers(line))
    tracker.finish(end)
    read = _read(start)
    assert [(each.step, each.value) for each in read.Scalars("val/loss")] == [(1, 1.0), (2, 0.5), (3, 1.0)]
    assert {"lr", "progress/phase", "train/macro_f1", "val/accuracy"} <= set(read.Tags()["scalars"])
    assert read.Scalars("test/accuracy_low")[0].value == pytest.approx(0.8)
    (image,) = read.Images("figures/confusion_matrix")
    assert (image.width, image.height) == (30, 20)
    texts = {tag: read.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in read.Tags()["tensors"]}
    assert str(end.model) in texts["model/text_summary"]
    assert '"phase2.train": "top-3 blocks"' in texts["recipe/text_summary"]
    from tensorboard.plugins.hparams import plugin_data_pb2

    content = read.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert set(shown) == set(start.parameters)


def test_an_epoch_can_be_watched_before_the_end(start: Start, history: list[dict[str, Any]]) -> None:
    tracker = TensorBoardTracker()
    tracker.begin(start)
    tracker.log(1, epoch_numbers(history[0]))
    assert len(_read(start).Scalars("lr")) == 1
    tracker.stop()
