"""`Outcome`: what training on one manifest gave, and how it becomes bundles and provenance. Trains nothing itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from topwork.data.manifest import Manifest
from topwork.data.scan import Scan
from topwork.measures.calibration import fit_temperature
from topwork.measures.predictions import Predictions
from topwork.recipe import Recipe
from topwork.training.imbalance import ImbalanceChoice
from topwork.training.task import holding
from topwork.workflow.journal import digests
from topwork.workflow.planning import Paced
from topwork.workflow.prepare import Network
from topwork.workflow.provenance import hardware, versions
from topwork.workflow.rundir import RunDir
from topwork.workflow.training import Trained

if TYPE_CHECKING:
    from topwork.exports.bundle import BundleFacts
    from topwork.training.extraction import Extractor

__all__ = ["Outcome", "provenance_of", "temperature_of", "write_last_model", "write_model"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """What training on one manifest gives, before anything is written; `recipe` is what was carried out."""

    recipe: Recipe
    trained: Trained
    temperature: float
    extractor: Extractor
    network: Network
    paced: Paced | None = None
    weighed: ImbalanceChoice | None = None
    folds: Predictions | None = None

    @property
    def predictions(self) -> dict[str, Predictions]:
        """By part, with the temperature applied; `cv` is cross-validation, each fold at its own temperature."""
        own = {name: part.at_temperature(self.temperature) for name, part in self.trained.predictions.items()}
        return own if self.folds is None else own | {"cv": self.folds}


def temperature_of(val: Predictions | None) -> float:
    """Fitted on the validation part; 1 without one."""
    return 1.0 if val is None else fit_temperature(val)


def write_model(run: RunDir, outcome: Outcome, *, provenance: Mapping[str, Any]) -> None:
    """Write the bundle of an outcome into a run.

    Args:
        run: whose model it becomes.
        outcome: what training gave.
        provenance: from `provenance_of`, with `finished` and `recipe_name`.
    """
    from topwork.exports.bundle import write_bundle

    facts = _bundle_facts(outcome, temperature=outcome.temperature, provenance=provenance)
    write_bundle(run.model_folder, outcome.trained.classifier, facts=facts)


def write_last_model(run: RunDir, outcome: Outcome, *, provenance: Mapping[str, Any]) -> None:
    """Write the bundle of the last epoch into a run, with a temperature of its own, where there were epochs."""
    from topwork.exports.bundle import write_bundle
    from topwork.models.classifier import Classifier

    last, kept = outcome.trained.last, outcome.trained.classifier
    if last is not None:
        classifier = Classifier(kept.backbone, last.head, mirror=kept.mirror)
        facts = _bundle_facts(outcome, temperature=temperature_of(last.val), provenance=provenance)
        with holding(classifier, last.weights):
            write_bundle(run.last_model_folder, classifier, facts=facts)


def _bundle_facts(outcome: Outcome, *, temperature: float, provenance: Mapping[str, Any]) -> BundleFacts:
    from topwork.exports.bundle import BundleFacts

    return BundleFacts(
        classes=tuple(provenance["data"]["classes"]),
        head=outcome.recipe.head,
        temperature=temperature,
        precision=provenance["engine"]["precision"],
        plan=provenance["plan"],
        recipe=outcome.recipe.model_dump(mode="json"),
        provenance={key: provenance[key] for key in ("versions", "digests", "finished", "recipe_name")},
    )


def provenance_of(outcome: Outcome, found: Scan, *, manifest: Manifest) -> dict[str, Any]:
    """Where the numbers of an outcome come from: the content of `provenance.json` but for times and names."""
    recipe, extractor = outcome.recipe, outcome.extractor
    facts = extractor.facts([])
    backbone = outcome.trained.classifier.backbone
    return {
        "versions": versions(),
        "hardware": hardware(),
        "seeds": {"data": recipe.data.seed},
        "data": {
            "name": found.name,
            "root": str(found.root),
            "photos": len(manifest.rows),
            "classes": list(manifest.classes),
        },
        "backbone": {"name": backbone.name, **backbone.provenance.to_json()},
        "engine": {
            "name": facts.engine,
            "precision": facts.precision,
            "version": facts.version,
            "parity": facts.parity,
            "measured choices": extractor.timings.used,
        },
        "cache": {"computed": extractor.work.computed, "cached": extractor.work.cached},
        "plan": "; then ".join(map(str, outcome.network.plans.values())) or "train the head",
        "temperature": outcome.temperature,
        **({"imbalance": outcome.weighed.to_json()} if outcome.weighed else {}),
        "digests": digests(recipe, manifest),
    }
