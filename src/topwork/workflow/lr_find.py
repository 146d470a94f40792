"""`lr_find`: a folder of labelled photos -> which learning rate a phase of a recipe can bear."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from topwork.data.grouping import grouped
from topwork.data.scan import scan
from topwork.data.split import split
from topwork.errors import RecipeError
from topwork.progress import Progress, silent
from topwork.recipe import Recipe, load_recipe, split_shares
from topwork.reports.figures import write_lr_figure
from topwork.training.lr_finder import LrCurve, RangeTest, range_test
from topwork.workflow.fit_manifest import experiment_for, weighed_experiment
from topwork.workflow.prepare import extractor_for, network_for
from topwork.workflow.rundir import RunDir
from topwork.workflow.training import phase_task

__all__ = ["LrSearch", "lr_find"]


@dataclass(frozen=True, kw_only=True)
class LrSearch:
    """A range test and where it is written.

    Args:
        path: folder of `lr_finder.json` and `figures/lr_finder.{svg,png}`.
        curve: rates, losses and suggestions.
    """

    path: Path
    curve: LrCurve

    @property
    def figure(self) -> Path:
        """The curve as a drawing."""
        return RunDir(self.path).figures_folder / "lr_finder.svg"


def lr_find(
    data: str | Path,
    *,
    phase: int = 2,
    recipe: str | Path | Recipe = "default",
    to: str | Path | None = None,
    settings: Sequence[str] = (),
    test: RangeTest | None = None,
    progress: Progress = silent,
) -> LrSearch:
    """Train a phase through rising learning rates and see where the loss falls and where it explodes.

    For phase 2, phase 1 is carried out first, so that the test starts where the phase would. Nothing that a later fit
    uses is changed.

    Args:
        data: as for `fit`.
        phase: 1 or 2.
        recipe: a name, a TOML file, or a `Recipe`; its own rate of the phase does not matter.
        to: folder of the result, may be a run; default `runs/lr-find-NAME`. Curves of other phases in it stay.
        settings: `KEY=VALUE` changes of the recipe.
        test: which rates are tried; default 1e-6 to 10 in 100 steps.
        progress: told how far it is.

    Raises:
        TopworkError: if the data, the recipe, the weights or the machine do not allow it.
    """
    if phase not in (1, 2):
        raise RecipeError(f"A recipe has the phases 1 and 2. Got {phase}.", fix="give --phase 1 or --phase 2.")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, settings)
    found = grouped(scan(data, progress=progress), by=chosen.data.group_by)
    manifest = split(found, shares=split_shares(chosen.data.split), seed=chosen.data.seed)
    network = network_for(chosen)
    extractor = extractor_for(chosen, network, progress=progress)
    experiment = experiment_for(chosen, manifest, network=network, extractor=extractor, progress=progress)
    experiment = experiment if phase == 1 else experiment.completed()  # what a first phase lacks, it does not read
    experiment, _ = weighed_experiment(experiment, progress=progress)
    task = phase_task(experiment, phase, on_epoch=lambda _: None)
    choices = chosen.phase1 if phase == 1 else chosen.phase2
    curve = range_test(task, choices, number=phase, test=test, progress=progress)
    run = RunDir(Path(to) if to is not None else Path("runs") / f"lr-find-{found.name}")
    write_lr_figure(run.figures_folder, run.add_lr_curve(phase, curve.to_json()))
    return LrSearch(path=run.path, curve=curve)
