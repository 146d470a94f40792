"""What a finished run can say about itself: heatmaps of chosen photos, whether to believe them, neighbours, shortcuts.

Writes `explanations.json`, `figures/gradcam_example.png`, `figures/gradcam_grid.png` and a heatmap for each photo that
the first names. `fit` asks for little, so that it costs seconds; `topwork explain RUN` asks for all.
"""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from topwork.atomic import write_bytes, write_json
from topwork.data.finding import Finding
from topwork.data.manifest import Manifest
from topwork.errors import DataError, TopworkError
from topwork.progress import Progress, silent
from topwork.reports.inputs import PredictionRow, judged_part
from topwork.workflow.explain import Explained, ExplainedPhoto, explain
from topwork.workflow.feature_space import FeatureSpace
from topwork.workflow.pictures import write_examples
from topwork.workflow.rundir import RunDir

if TYPE_CHECKING:
    from topwork.explanations.neighbours import Neighbour
    from topwork.explanations.shortcuts import Probe
    from topwork.exports.bundle import Bundle
    from topwork.training.extraction import Extractor

__all__ = ["FULL", "QUICK", "Depth", "explain_finished", "explain_fitted", "explain_run"]

_ERRORS = 12
_OF_A_CLASS, _CLASSES = 6, 20  # photos that nobody chose
_FEWEST = 100  # photos below which probes of shortcuts could not tell anything


@dataclass(frozen=True, kw_only=True)
class Depth:
    """How much is asked.

    Args:
        mapped: photos whose heatmaps are searched for hot spots, shared by the classes.
        judged: photos for deletion and insertion.
        steps: of their curves.
        forgetting: photos for the randomisation check; 0 leaves it out.
        probed: photos for the probes of shortcuts.
        labelled: photos up to which labels are judged.
        engine: what judges; a conversion pays only where many photos are.
    """

    mapped: int
    judged: int
    steps: int
    forgetting: int
    probed: int
    labelled: int
    engine: Literal["auto", "torch"]


# no fit waits for more
QUICK = Depth(mapped=50, judged=12, steps=4, forgetting=0, probed=400, labelled=10_000, engine="torch")
FULL = Depth(mapped=400, judged=100, steps=10, forgetting=16, probed=2000, labelled=100_000, engine="auto")


def explain_run(
    run: RunDir,
    *,
    root: Path,
    depth: Depth = FULL,
    extractor: Extractor | None = None,
    progress: Progress = silent,
) -> tuple[Finding, ...]:
    """Explain a run and write it down in the run.

    Args:
        run: with its model, manifest and predictions.
        root: of the photos.
        depth: how much is asked.
        extractor: the one that trained; None makes it again from the recipe, and computes features that no cache holds.
        progress: told how far it is.

    Returns:
        What a person should look at: shortcuts.

    Raises:
        DataError: if the photos are not there any more.
    """
    from topwork.exports.bundle import read_bundle
    from topwork.training.heap import heap_kept

    bundle = read_bundle(run.model_folder)
    manifest = Manifest.read_csv(run.manifest_file, root=root)
    part = judged_part(run.evaluation())
    rows = [row for row in run.prediction_rows() if row.split == part]
    by_path = {row.path: row for row in manifest.rows}
    order = sorted(rows, key=lambda row: by_path[row.path].sha256)  # no name decides which photos are shown
    chosen, judged = _chosen(order), order[: depth.judged]
    mapped = _of_each_class(order, most=depth.mapped // len(bundle.classes))
    with heap_kept():
        seen = _seen(bundle, [*chosen, *judged, *mapped], root=root, progress=progress)
    found = replace(seen, photos=seen.photos[: len(chosen)])
    space = FeatureSpace(run, manifest=manifest, extractor=extractor, progress=progress)
    neighbours = space.neighbours([by_path[row.path] for row in chosen])
    shortcuts, warnings = _shortcuts(manifest, seen, most=depth.probed)
    facts: dict[str, Any] = {
        "part": part,
        "method": found.method,
        "layer": found.layer,
        "photos": _written(run, chosen, found=found, neighbours=neighbours),
        "confusers": space.confusers([by_path[row.path] for row in rows]),
        "label_suspects": space.suspects(most=depth.labelled),
        "shortcuts": shortcuts,
        "could_judge": len(rows),
    }
    photo_of = {photo.path: photo for photo in seen.photos}
    pairs = [(photo_of[root / row.path], row.label) for row in judged]
    with heap_kept():
        belief = _believable(bundle, pairs, depth=depth, progress=progress)
    write_json(run.explanations_file, facts | belief)
    write_examples([(row.label, photo) for row, photo in zip(chosen, found.photos, strict=True)], run.figures_folder)
    return warnings


def explain_fitted(
    run: RunDir, *, manifest: Manifest, extractor: Extractor, has_time: bool, progress: Progress = silent
) -> None:
    """Explain a run that is being made, and add what was found to its findings; what fails is said and stops nothing.

    Args:
        run: with its model, manifest, predictions and findings.
        manifest: knows where the photos are.
        extractor: the one that trained.
        has_time: whether there is time for it; if not, nothing is done but to say so.
        progress: told how far it is.
    """
    if not has_time:
        progress.say("Explanations are left out of a fit with --minutes; `topwork explain RUN` makes them.")
        return
    try:
        found = explain_run(run, root=manifest.root, depth=QUICK, extractor=extractor, progress=progress)
    except (TopworkError, OSError) as error:
        progress.say(f"Nothing is explained: {error.what if isinstance(error, TopworkError) else error}")
        return
    run.write_findings([*run.findings(), *(finding.to_json() for finding in found)])
    if "faithfulness" in (said := run.explanations()):
        progress.say(said["faithfulness"]["verdict"])


def explain_finished(run: str | Path, *, progress: Progress = silent) -> dict[str, Any]:
    """Explain a finished run in full, and make its report again.

    Args:
        run: the folder.
        progress: told how far it is.

    Returns:
        The content of `explanations.json`.

    Raises:
        RunError: if there is no finished run.
        DataError: if its photos are not there any more.
    """
    from topwork.workflow.report import report

    opened = RunDir.open(run)
    found = explain_run(opened, root=Path(opened.provenance()["data"]["root"]), progress=progress)
    others = [each for each in opened.findings() if each.get("kind") != "shortcut"]
    opened.write_findings([*others, *(finding.to_json() for finding in found)])
    report(run)
    return opened.explanations()


def _chosen(order: Sequence[PredictionRow]) -> list[PredictionRow]:
    """Photos to show: some of each class that nobody chose, and the surest errors."""
    errors = sorted((row for row in order if row.label != row.predicted), key=lambda row: (-row.confidence, row.path))
    return list({row.path: row for row in [*_of_each_class(order, most=_OF_A_CLASS), *errors[:_ERRORS]]}.values())


def _seen(bundle: Bundle, rows: Sequence[PredictionRow], *, root: Path, progress: Progress) -> Explained:
    """Every row explained, each once: most photos that are judged are shown too."""
    found = explain(bundle, list(dict.fromkeys(root / row.path for row in rows)), progress=progress)
    if found.failed:
        raise DataError(f"A photo of the run cannot be read any more: {found.failed[0][1]}", fix="put it back.")
    return found


def _of_each_class(order: Sequence[PredictionRow], *, most: int) -> list[PredictionRow]:
    mine: dict[str, list[PredictionRow]] = defaultdict(list)
    for row in order:
        if len(mine[row.label]) < most:
            mine[row.label].append(row)
    return [row for label in sorted(mine)[:_CLASSES] for row in mine[label]]


def _shortcuts(manifest: Manifest, seen: Explained, *, most: int) -> tuple[dict[str, Any], tuple[Finding, ...]]:
    """What probes and heatmaps show, as plain values, and what of it a person should look at."""
    from topwork.explanations.shortcuts import COARSEST, hot_spots, shortcut_findings

    maps = np.stack([photo.raw for photo in seen.photos])
    probes, spots = _probes(manifest, most=most), hot_spots(maps, [photo.target for photo in seen.photos])
    facts = {
        "photos": min(len(manifest.rows), most),
        "probes": [each.to_json() for each in probes],
        "hot_spots": [each.to_json() for each in spots],
        "coarse": min(maps.shape[1:]) < COARSEST,
    }
    return facts, shortcut_findings(probes, spots)


def _probes(manifest: Manifest, *, most: int) -> list[Probe]:
    from topwork.explanations.shortcuts import PROBES, look, probe

    rows = sorted(manifest.rows, key=lambda row: row.sha256)[:most]
    if len(rows) < _FEWEST:
        return []
    sights = [look(path) for path in manifest.paths(rows)]
    labels, groups = [row.label for row in rows], [row.group for row in rows]
    found = [probe(name, sights, labels=labels, groups=groups) for name in PROBES]
    return [each for each in found if each is not None]


def _written(
    run: RunDir,
    chosen: Sequence[PredictionRow],
    *,
    found: Explained,
    neighbours: Sequence[Sequence[Neighbour]] | None,
) -> list[dict[str, Any]]:
    """One heatmap a photo as JPEG, and what is said about it."""
    from PIL import Image

    from topwork.explanations.overlay import contrast_overlay, overlay

    run.heatmaps_folder.mkdir(parents=True, exist_ok=True)
    said = []
    for number, (row, photo) in enumerate(zip(chosen, found.photos, strict=True)):
        files = {}
        for kind, pixels in (
            ("heatmap", overlay(photo.view, photo.heatmap)),
            ("contrast", contrast_overlay(photo.view, photo.contrast)),
        ):
            path = run.heatmaps_folder / f"{number:03d}-{kind}.jpg"
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, format="JPEG", quality=80)
            write_bytes(path, stream.getvalue())
            files[kind] = path.relative_to(run.path).as_posix()
        near = [] if neighbours is None else [each.to_json() for each in neighbours[number]]
        said.append({**photo.to_json(), "path": row.path, "label": row.label, **files, "neighbours": near})
    return said


def _believable(
    bundle: Bundle, some: Sequence[tuple[ExplainedPhoto, str]], *, depth: Depth, progress: Progress
) -> dict[str, Any]:
    """Deletion and insertion against random maps and the middle, hidden backgrounds, and forgetting."""
    from topwork.explanations.faithfulness import Removal, accuracy_without, faithfulness
    from topwork.explanations.randomisation import randomisation
    from topwork.exports.predictor import Predictor

    if len(some) < 2:
        return {}
    views = np.stack([photo.view for photo, _ in some])
    maps = np.stack([photo.heatmap for photo, _ in some])
    targets = np.array([bundle.classes.index(photo.target) for photo, _ in some])
    forwards = len(some) * (6 * depth.steps + 3)
    predictor = Predictor.load(bundle, engine=depth.engine, photos=forwards, progress=progress)
    red, green, blue = (255 * mean for mean in bundle.spec.mean)
    removal = Removal(score=predictor.run, images=views, targets=targets, fill=(red, green, blue), steps=depth.steps)
    progress.say(f"Taking marked places away from {len(some)} photos, to see whether the heatmaps can be believed.")
    labels = np.array([bundle.classes.index(label) for _, label in some])
    rows, columns = some[0][0].raw.shape
    judged = faithfulness(removal, maps, cells=(rows, columns))
    hidden = accuracy_without(removal, maps, labels=labels)
    said: dict[str, Any] = {
        "faithfulness": {**judged.to_json(), "steps": depth.steps},
        "hidden": {name: each.to_json() for name, each in hidden.items()}
        | {"note": "object: the quarter that the heatmap marks most; exact masks are not known for photos."},
    }
    if depth.forgetting:
        said["randomisation"] = randomisation(bundle.classifier, views[: depth.forgetting]).to_json()
    return said
