"""How hard, how varied and how fast the drawn flowers are: `python benchmarks/drawn.py`.

Prints, and writes to `--json FILE`: the accuracy of a linear probe on EfficientNet-Lite0 features (5-fold
cross-validation, Wilson interval), the same from colours inside the mask alone, mask coverage, and pictures per second.
Law: the probe reaches between 0.80 and 0.97 at n >= 500; exit code 1 if it does not.
Expected: probe 0.88 to 0.95 (n = 600), colours about 0.2 lower, coverage 0.06 to 0.39, >= 60 pictures/s at 160 px and
>= 25 at 256 px on one core.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from topwork.data.drawn import SPECIES, Drawn, draw_flower
from topwork.measures.intervals import Interval, wilson
from topwork.models.backbone import Backbone, create_backbone

LOW, HIGH = 0.80, 0.97
BATCH = 20


def probe(features: NDArray[np.floating], labels: NDArray[np.int64]) -> Interval:
    """Accuracy of pooled out-of-fold predictions of logistic regression; no setting is chosen on the data."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    right = cross_val_predict(model, features, labels, cv=folds) == labels
    return wilson(int(right.sum()), len(labels))


@torch.inference_mode()
def features_of(flowers: list[Drawn], backbone: Backbone) -> NDArray[np.float32]:
    """(N,D) pooled features; the pictures already have the backbone's input size."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (backbone.spec.mean, backbone.spec.std))
    rows = []
    for start in range(0, len(flowers), BATCH):
        images = np.stack([flower.pixels for flower in flowers[start : start + BATCH]])
        inputs = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255  # (n,H,W,3) -> (n,3,H,W)
        rows.append(backbone.pool(backbone.forward_features((inputs - mean) / std)).numpy())
    return np.concatenate(rows)


def colours_of(flowers: list[Drawn]) -> NDArray[np.float64]:
    """(N,125) histogram of the colours inside the mask: what a classifier blind to shape could use."""
    edges = [(0, 256)] * 3
    counts = [np.histogramdd(flower.pixels[flower.mask], bins=(5, 5, 5), range=edges)[0] for flower in flowers]
    return np.stack([count.ravel() / count.sum() for count in counts])


def pictures_per_second(size: int, *, pictures: int) -> float:
    """Median of three runs over all species, CPU seconds of this process."""
    rates = []
    for run in range(3):
        start = time.process_time()
        for number in range(pictures):
            draw_flower(SPECIES[number % len(SPECIES)], seed=run * pictures + number, size=size)
        rates.append(pictures / (time.process_time() - start))
    return float(np.median(rates))


def main() -> int:
    """Measure, print, compare with the law."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-class", type=int, default=120, help="pictures of each species; at least 100 for the law")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    arguments = parser.parse_args()
    backbone = create_backbone("efficientnet_lite0")
    labels = np.repeat(np.arange(len(SPECIES)), arguments.per_class)
    flowers = [
        draw_flower(SPECIES[label], seed=arguments.seed + number, size=backbone.spec.size)
        for number, label in enumerate(labels)
    ]
    figures: dict[str, Any] = {
        "linear probe on Lite0 features": probe(features_of(flowers, backbone), labels),
        "colours inside the mask alone": probe(colours_of(flowers), labels),
    }
    for name, accuracy in figures.items():
        print(f"{name}: {accuracy}")
    coverage = np.quantile([flower.mask.mean() for flower in flowers], [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1])
    print("mask coverage, quantiles 0 5 25 50 75 95 100 %:", *(f"{share:.3f}" for share in coverage))
    rates = {size: pictures_per_second(size, pictures=50) for size in (64, 160, 256)}
    print("pictures/s and core:", ", ".join(f"{rate:.0f} at {size} px" for size, rate in rates.items()))
    holds = LOW <= figures["linear probe on Lite0 features"].value <= HIGH
    print(f"the probe lies between {LOW:.2f} and {HIGH:.2f}: {'yes' if holds else 'NO'}")
    if arguments.json:
        accuracies = {name: accuracy.to_json() for name, accuracy in figures.items()}
        everything = {**accuracies, "mask_coverage": coverage.tolist(), "pictures_per_second": rates}
        arguments.json.write_text(json.dumps(everything, indent=2) + "\n")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(main())
