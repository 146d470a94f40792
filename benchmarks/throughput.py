"""Images a second of every stage of a fit, beside its ceiling and beside the same stage in plain PyTorch.

    python benchmarks/throughput.py flowers
    python benchmarks/throughput.py flowers --photos 40 --repeats 1 --results /tmp/check.md       (a quick check)

    stage         topwork                                    PyTorch                           ceiling
    decode        threads (`read_batches`)                   DataLoader, Pillow                JPEG decoding alone
    trunk         OpenVINO, each cut and precision           eager, channels-last, f32         peak / accumulates
    pipeline      decode, trunk, cache write, overlapped     DataLoader, then eager            1/(1/decode + 1/trunk)
    top training  phase 2 from cached activations            same layers, from decoded photos  peak / 3 accumulates

Accumulates: multiply-accumulates of one photo; peak: those of a large matrix product in a second, at f32 or bf16. Both
sides use all cores. topwork and PyTorch take turns within each repeat; ratios are taken within a repeat, and the median
over repeats counts. Decode and trunk share the cores, so that the pipeline can at best take the sum of their times.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
from photos import named_data, thinned
from results import Section, Spread, add_results_options, publish
from stages import PEAK_SIDE, Bench, Stage, all_stages, jpeg_alone, peak_rate

from topwork.data.batches import Item, read_batches
from topwork.data.scan import scan
from topwork.recipe import load_recipe
from topwork.workflow.prepare import network_for


def prepared(given: argparse.Namespace, scratch: Path) -> Bench:
    """Scan, decode once, and look the default recipe up."""
    found = scan(named_data(given.data))
    found = thinned(found, max(1, given.photos // len(found.classes)))
    number = {name: position for position, name in enumerate(found.classes)}
    recipe = load_recipe("default")
    network = network_for(recipe)
    items = [Item(path=found.root / record.path, sha256=record.sha256) for record in found.records]
    items = list({item.sha256: item for item in items}.values())
    labels = {record.sha256: number[record.label or ""] for record in found.records}
    reading = read_batches(items, network.request().spec, batch=len(items), workers=2, augment=None, seed=0)
    return Bench(
        items=items,
        labels=np.array([labels[item.sha256] for item in items], dtype=np.int64),
        classes=found.classes,
        images=next(iter(reading)).images,
        recipe=recipe,
        network=network,
        threads=given.threads,
        folder=scratch,
    )


def measure(stages: Sequence[Stage], bench: Bench, *, precisions: Sequence[str], repeats: int) -> list[dict[str, Any]]:
    """One mapping a repeat: stage -> (ours, theirs, ceiling); topwork and PyTorch take turns, and who is first too."""
    dtypes = {"f32": torch.float32, "bf16": torch.bfloat16}
    for stage in stages:  # the first run of anything pays for threads, memory and files
        stage.ours(), stage.theirs()
    found = []
    for repeat in range(repeats):
        rates = {f"peak {precision}": peak_rate(dtypes[precision]) for precision in precisions}
        rates["JPEG alone"] = jpeg_alone(bench)
        theirs: dict[str, float] = {}
        for stage in stages:
            for side in ("ours", "theirs") if repeat % 2 == 0 else ("theirs", "ours"):
                (rates if side == "ours" else theirs)[stage.name] = getattr(stage, side)()
        found.append(
            {stage.name: (rates[stage.name], theirs[stage.name], stage.ceiling(rates)) for stage in stages}
            | {"limits": {name: rates[name] for name in ("JPEG alone", *(f"peak {p}" for p in precisions))}}
        )
        print(f"repeat {repeat + 1} of {repeats} done", flush=True)
    return found


def figures(stage: Stage, repeats: Sequence[Mapping[str, Any]]) -> dict[str, Spread]:
    """Rates, and ratios taken within each repeat."""
    triples = [repeat[stage.name] for repeat in repeats]
    return {
        "topwork": Spread.of([ours for ours, _, _ in triples]),
        "ceiling": Spread.of([ceiling for _, _, ceiling in triples]),
        "of ceiling": Spread.of([ours / ceiling for ours, _, ceiling in triples]),
        "PyTorch": Spread.of([theirs for _, theirs, _ in triples]),
        "ratio": Spread.of([ours / theirs for ours, theirs, _ in triples]),
    }


def verdict(stage: Stage, found: Mapping[str, Spread]) -> str:
    """What was promised, and whether it holds."""
    promises = []
    for key, least in (("ratio", stage.target), ("of ceiling", stage.of_ceiling)):
        if least is not None:
            promises.append(f"{key} ≥ {least:g}: {'yes' if found[key].median >= least else 'NO'}")
    return ", ".join(promises)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of class folders, or the name of a data set in TOPWORK_TEST_DATA")
    parser.add_argument("--photos", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of decoding and of PyTorch")
    add_results_options(parser)
    return parser.parse_args()


def section_of(stages: Sequence[Stage], repeats: Sequence[Mapping[str, Any]], bench: Bench) -> Section:
    """The table."""
    found = {stage.name: figures(stage, repeats) for stage in stages}
    columns = ("topwork", "ceiling", "of ceiling", "PyTorch", "ratio")
    limits = {name: Spread.of([repeat["limits"][name] for repeat in repeats]) for name in repeats[0]["limits"]}
    peaks = ", ".join(f"{n} {s.median / 1e9:.0f} GMAC/s" for n, s in limits.items() if n.startswith("peak"))
    return Section(
        name="throughput",
        title=f"Throughput: images a second, efficientnet_lite0 at {bench.request.spec.size} px, n={len(bench.items)}",
        columns=["stage", *columns, "promised"],
        rows=[
            [stage.name, *(str(found[stage.name][c]) for c in columns), verdict(stage, found[stage.name])]
            for stage in stages
        ],
        notes=[
            f"Medians and ranges of {len(repeats)} repeats; ratio = topwork / PyTorch within a repeat. {bench.threads} "
            f"threads on both sides; torch {torch.__version__}, OpenVINO {openvino.__version__}.",
            "Ceilings: decode: JPEG decoding alone, without resizing; trunk: peak matrix product over the network's "
            "multiply-accumulates; pipeline: 1/(1/decode + 1/trunk); top training: peak over three times the top's.",
            f"Peak, square matrices of {PEAK_SIDE}: {peaks}.",
            "PyTorch: eager, channels-last, f32, batch 32; Pillow in a DataLoader with as many processes. Its top "
            "training runs the frozen blocks each time, since it caches nothing; topwork's reads cached activations, "
            "whose price is the pipeline.",
        ],
        data={
            "photos": len(bench.items),
            "stages": {name: {key: spread.to_json() for key, spread in row.items()} for name, row in found.items()},
            "limits": {name: spread.to_json() for name, spread in limits.items()},
        },
    )


def main() -> int:
    """Measure all stages; exit code 1 if a promised ratio is missed."""
    given = options()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    precisions = ("bf16", "f32") if has_bf16 else ("f32",)
    with tempfile.TemporaryDirectory() as scratch:
        bench = prepared(given, Path(scratch))
        stages = all_stages(bench, precisions)
        repeats = measure(stages, bench, precisions=precisions, repeats=given.repeats)
        section = section_of(stages, repeats, bench)
    publish(section, given)
    return 1 if any("NO" in row[-1] for row in section.rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
