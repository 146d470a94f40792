"""`Stage`: a step of a fit as topwork does it and as plain PyTorch does it, and its ceiling. Times, no tables."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode
from torchvision import transforms

from topwork.data.batches import Item, read_batches
from topwork.models.classifier import Classifier, Normalise
from topwork.models.engine import open_trunk
from topwork.models.freeze import apply_freeze
from topwork.models.head import build_head
from topwork.models.trunk import TrunkRequest
from topwork.recipe import EngineChoice, Recipe
from topwork.timings import Timings
from topwork.training.activations import ActivationCache
from topwork.training.extraction import Extractor
from topwork.training.feeds import CachedFeed, Order
from topwork.training.loop import fit_epochs
from topwork.training.parts import Labelled, Parts, Views
from topwork.training.phases import top_task
from topwork.training.store import Store
from topwork.workflow.prepare import Network

__all__ = ["BATCH", "PEAK_SIDE", "Bench", "PillowPhotos", "Stage", "all_stages", "jpeg_alone", "peak_rate"]

BATCH = 32  # of PyTorch's forward passes
PEAK_SIDE = 2048  # of the square matrices that the peak is measured with

_Rates = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One row of the table.

    Args:
        name: of the stage.
        ours, theirs: do the work once and return images a second.
        ceiling: from the rates of the same repeat, by name.
        target: smallest ratio to PyTorch that is promised, if one is.
        of_ceiling: smallest share of the ceiling that is promised, if one is.
    """

    name: str
    ours: Callable[[], float]
    theirs: Callable[[], float]
    ceiling: Callable[[_Rates], float]
    target: float | None = None
    of_ceiling: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What all stages work on.

    Args:
        items: N photos.
        labels: (N,).
        classes: K names.
        images: (N,H,W,3) uint8, decoded once.
        recipe, network: of the default recipe.
        threads: cores that both sides use.
        folder: scratch space.
    """

    items: list[Item]
    labels: np.ndarray
    classes: tuple[str, ...]
    images: np.ndarray
    recipe: Recipe
    network: Network
    threads: int
    folder: Path

    @property
    def timings(self) -> Timings:
        """Choices by timing, measured on this machine at this moment."""
        return Timings(self.folder / "timings.json")

    @property
    def request(self) -> TrunkRequest:
        """The trunk at the default recipe's cut."""
        return self.network.request()


class PillowPhotos(Dataset):
    """Photos as PyTorch users read them: Pillow, resize, crop, normalise -> (3,H,W)."""

    def __init__(self, bench: Bench) -> None:
        spec = bench.request.spec
        self._items = bench.items
        self._transform = transforms.Compose(
            [
                transforms.Resize(spec.resize, transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(spec.size),
                transforms.ToTensor(),
                transforms.Normalize(spec.mean, spec.std),
            ]
        )

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> torch.Tensor:
        with Image.open(self._items[index].path) as picture:
            found: torch.Tensor = self._transform(picture.convert("RGB"))
        return found


def timed(work: Callable[[], Any], images: int) -> float:
    """Images a second of work that is done once."""
    started = time.perf_counter()
    work()
    return images / (time.perf_counter() - started)


def peak_rate(dtype: torch.dtype) -> float:
    """Multiply-accumulates a second of a large matrix product, the best of five."""
    left, right = (torch.randn(PEAK_SIDE, PEAK_SIDE).to(dtype) for _ in range(2))
    left @ right  # the first product allocates
    return max(timed(lambda: left @ right, PEAK_SIDE**3) for _ in range(5))


def accumulates(forward: Callable[[torch.Tensor], Any], inputs: torch.Tensor) -> float:
    """Multiply-accumulates of one image; inputs hold one."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        forward(inputs)
    return counter.get_total_flops() / 2


def jpeg_alone(bench: Bench) -> float:
    """Images a second of JPEG decoding in threads, without resizing: nothing that reads these files can be faster."""
    files = [np.fromfile(item.path, dtype=np.uint8) for item in bench.items]
    with ThreadPoolExecutor(bench.threads) as pool:
        return timed(lambda: list(pool.map(partial(cv2.imdecode, flags=cv2.IMREAD_COLOR), files)), len(files))


def normalised(bench: Bench) -> list[torch.Tensor]:
    """The pictures as PyTorch wants them, channels-last batches: this is not timed."""
    normalise = Normalise(bench.request.spec)
    return [
        normalise(torch.from_numpy(bench.images[start : start + BATCH])).contiguous(memory_format=torch.channels_last)
        for start in range(0, len(bench.images), BATCH)
    ]


def decode_stage(bench: Bench, loader: DataLoader) -> Stage:
    """Files to uint8 pictures; PyTorch's loader also makes floats of them, as its users have it."""

    def ours() -> None:
        for _ in read_batches(bench.items, bench.request.spec, batch=64, workers=bench.threads, augment=None, seed=0):
            pass

    def theirs() -> None:
        for _ in loader:
            pass

    count = len(bench.items)
    return Stage(
        name="decode",
        ours=lambda: timed(ours, count),
        theirs=lambda: timed(theirs, count),
        ceiling=lambda rates: rates["JPEG alone"],
    )


def eager_network(bench: Bench) -> nn.Module:
    """timm's network as it is, channels-last."""
    made: nn.Module = bench.network.build().network
    return made.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def trunk_stages(bench: Bench, precisions: Sequence[str]) -> Iterator[Stage]:
    """Pictures in memory to activations and features, at the default cut and pooled."""
    network, batches, count = eager_network(bench), normalised(bench), len(bench.images)
    work = accumulates(network, batches[0][:1])

    @torch.inference_mode()
    def theirs() -> None:
        for batch in batches:
            network(batch)

    for precision in precisions:
        choice = EngineChoice(trunk="openvino", precision=precision)
        for name, cut in (("default cut", bench.request.cut), ("pooled", None)):
            trunk = open_trunk(
                replace(bench.request, cut=cut),
                choice,
                folder=bench.folder / "engine",
                timings=bench.timings,
                sample=bench.images[:: max(1, count // 16)][:16],
            )
            trunk(bench.images[:64])
            yield Stage(
                name=f"trunk {precision}, {name}",
                ours=lambda trunk=trunk: timed(
                    lambda: [trunk(part) for part in np.split(bench.images, range(64, count, 64))], count
                ),
                theirs=lambda: timed(theirs, count),
                ceiling=lambda rates, precision=precision: rates[f"peak {precision}"] / work,
                target=5.0 if precision == "bf16" else 2.5,
            )


def filling(bench: Bench, precision: str, folder: Path) -> Callable[[], tuple[Store, Store | None]]:
    """The work of filling an empty cache; the trunk is opened before."""
    extractor = Extractor(
        request=bench.request,
        engine=EngineChoice(trunk="openvino", precision=precision),
        cache=ActivationCache(folder),
        timings=bench.timings,
        folder=bench.folder / "engine",
        workers=bench.threads,
    )
    extractor.run(bench.items)
    return lambda: extractor.extract(bench.items, augment=None, activations=True)


def pipeline_stages(bench: Bench, loader: DataLoader, precisions: Sequence[str]) -> Iterator[Stage]:
    """Files to cached activations."""
    network, count = eager_network(bench), len(bench.items)

    def ours(precision: str) -> float:
        with tempfile.TemporaryDirectory(dir=bench.folder) as empty:
            return timed(filling(bench, precision, Path(empty)), count)

    @torch.inference_mode()
    def theirs() -> None:
        for batch in loader:
            network(batch.contiguous(memory_format=torch.channels_last))

    def ceiling(rates: _Rates, precision: str) -> float:
        return 1 / (1 / rates["decode"] + 1 / rates[f"trunk {precision}, default cut"])

    for precision in precisions:
        yield Stage(
            name=f"pipeline {precision}",
            ours=partial(ours, precision),
            theirs=lambda: timed(theirs, count),
            ceiling=partial(ceiling, precision=precision),
            target=4.0 if precision == precisions[0] else None,  # what the engine picks by itself
            of_ceiling=0.85,
        )


def fresh_classifier(bench: Bench) -> Classifier:
    """The default recipe's classifier with its plan applied."""
    backbone = Network(bench.recipe.backbone, bench.recipe.data).build()
    classifier = Classifier(backbone, build_head(bench.recipe.head, width=backbone.width, classes=len(bench.classes)))
    assert bench.network.plan is not None, "the default recipe fine-tunes"
    apply_freeze(bench.network.plan, backbone)
    return classifier.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def epoch_rate(bench: Bench, store: Store, *, bf16: bool) -> float:
    """Images a second of an epoch of phase 2 as topwork trains it, with a validation part of two photos."""
    plan, phase, names = bench.network.plan, bench.recipe.phase2, tuple(item.sha256 for item in bench.items)
    assert plan is not None, "the default recipe fine-tunes"
    paths = tuple(str(item.path) for item in bench.items)
    everything = Labelled(names=names, labels=bench.labels, paths=paths)
    few = Labelled(names=names[:2], labels=bench.labels[:2], paths=paths[:2])
    parts = Parts(train=everything, val=few, test=few, classes=bench.classes)
    views = Views(clean=store, cut=plan.cut)
    order = Order(photos=len(names), batch=phase.batch_size, seed=0)
    feed = CachedFeed(store, [everything.rows(store)], labels=bench.labels, order=order)
    task = top_task(bench.recipe, fresh_classifier(bench), plan=plan, feed=feed, views=views, parts=parts)
    once = phase.model_copy(update={"epochs": 2})
    records = list(fit_epochs(replace(task, bf16=bf16), once, number=2, stop=bench.recipe.stop))
    return len(names) / records[-1].seconds  # the first epoch allocates


def top_stages(bench: Bench, precisions: Sequence[str]) -> Iterator[Stage]:
    """An epoch of phase 2; PyTorch trains the same layers, and has to run the frozen ones below them each time."""
    _, store = filling(bench, precisions[0], bench.folder / "top")()
    assert store is not None, "activations were asked for"
    classifier, cut = fresh_classifier(bench), bench.request.cut
    one = torch.from_numpy(store.read([(bench.items[0].sha256, 0)]))
    macs = 3 * accumulates(lambda x: classifier.from_activation(x, cut), one)  # forward, and backward twice

    def theirs() -> float:
        model = fresh_classifier(bench)
        learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(learning, lr=1e-4)
        labels = torch.from_numpy(bench.labels).split(BATCH)

        def epoch() -> None:
            for batch, truth in zip(batches, labels, strict=True):
                loss = nn.functional.cross_entropy(model.head(model.backbone(batch)), truth)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()

        return timed(epoch, len(bench.labels))

    batches = normalised(bench)
    for precision in precisions:
        yield Stage(
            name=f"top training {precision}",
            ours=partial(epoch_rate, bench, store, bf16=precision == "bf16"),
            theirs=theirs,
            ceiling=lambda rates, precision=precision: rates[f"peak {precision}"] / macs,
        )


def all_stages(bench: Bench, precisions: Sequence[str]) -> list[Stage]:
    """Every row of the table, in the order of a fit."""
    loader = DataLoader(PillowPhotos(bench), batch_size=BATCH, num_workers=bench.threads, persistent_workers=True)
    return [
        decode_stage(bench, loader),
        *trunk_stages(bench, precisions),
        *pipeline_stages(bench, loader, precisions),
        *top_stages(bench, precisions),
    ]
