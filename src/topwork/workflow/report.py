"""`report`: what a run holds -> figures, one HTML page, and the model's page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from topwork.atomic import write_text
from topwork.data.manifest import Manifest
from topwork.errors import BundleError
from topwork.reports.figures import write_figures
from topwork.reports.html import render_report
from topwork.reports.inputs import ReportInputs
from topwork.reports.readme import model_readme
from topwork.workflow.rundir import RunDir

__all__ = ["report", "write_report"]


def report(run: str | Path) -> Path:
    """Make the report of a finished run again.

    Args:
        run: the run's folder.

    Returns:
        The path of `report.html`.

    Raises:
        RunError: if there is no finished run.
    """
    opened = RunDir.open(run)
    root = Path(opened.provenance()["data"]["root"])
    write_report(opened, name=opened.name, root=root, seconds=None)
    return opened.report_file


def write_report(run: RunDir, *, name: str, root: Path, seconds: Mapping[str, float] | None) -> None:
    """Write `figures/`, `report.html` and the model's `README.md` from the other files of the run.

    Args:
        run: finished, or all of it but this.
        name: of the run, for people.
        root: of the photos.
        seconds: stage -> wall time so far, where the run's own is not yet complete.
    """
    evaluation = run.evaluation()
    if seconds is not None:
        evaluation["seconds"] = {key: round(value, 3) for key, value in seconds.items()}
        evaluation["seconds"]["total"] = round(sum(seconds.values()), 3)
    history = run.history()
    figures = write_figures(run.figures_folder, evaluation, history=history)
    inputs = ReportInputs(
        name=name,
        recipe=run.recipe(),
        evaluation=evaluation,
        history=history,
        manifest=Manifest.read_csv(run.manifest_file, root=root).rows,
        root=root,
        predictions=run.prediction_rows(),
        findings=run.findings(),
        provenance=run.provenance(),
        figures=figures,
        explanations=run.explanations() if run.explanations_file.exists() else {},
        heatmaps=run.heatmaps_folder if run.heatmaps_folder.is_dir() else None,
    )
    write_text(run.report_file, render_report(inputs))
    _write_model_page(run, inputs)


def _write_model_page(run: RunDir, inputs: ReportInputs) -> None:
    from topwork.exports.card import read_card

    try:
        card = read_card(run.model_folder)
    except BundleError:  # the report needs no model; whoever uses it is told what is wrong with it
        return
    write_text(run.model_page, model_readme(inputs, card))
