"""`ImbalanceChoice`: what is done about unequal classes, chosen by comparing heads. Knows no files and no network.

The candidates are compared on cached features with a linear head solved to convergence: seconds, where comparing whole
trainings would take hours. `sampler` is no candidate of its own, since drawing classes equally is weighting them there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from topwork.errors import RecipeError
from topwork.measures.calibration import ece, fit_temperature, nll
from topwork.recipe import Recipe
from topwork.training.history import score
from topwork.training.parts import Parts, Views
from topwork.training.phases import new_head, predict_rows, solve_path

__all__ = ["CANDIDATES", "Candidate", "ImbalanceChoice", "choose_imbalance"]

CANDIDATES = ("none", "weights", "focal", "logit-adjust")
"""In the order in which ties are decided; `focal` is none for a kernel head, which is solved by least squares."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One way to meet unequal classes, judged on the validation part at its own temperature.

    Args:
        imbalance: as in the recipe.
        macro_f1, accuracy: in [0, 1].
        ece: expected calibration error, in [0, 1].
        nll: in nats.
    """

    imbalance: str
    macro_f1: float
    accuracy: float
    ece: float
    nll: float


@dataclass(frozen=True, kw_only=True)
class ImbalanceChoice:
    """All candidates, and the one with the highest validation macro-F1.

    Args:
        candidates: in the order of `CANDIDATES`.
        chosen: one of them.
        photos: n of the validation part.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    photos: int

    def __str__(self) -> str:
        plain = self.candidates[0]
        if self.chosen is plain:
            best = max(self.candidates[1:], key=lambda candidate: candidate.macro_f1)
            return (
                f"Unequal classes: left as they are (validation macro-F1 {plain.macro_f1:.3f}, at best "
                f"{best.macro_f1:.3f} with {best.imbalance}, n={self.photos})"
            )
        return (
            f"Unequal classes: {self.chosen.imbalance} was chosen, validation macro-F1 {self.chosen.macro_f1:.3f} "
            f"against {plain.macro_f1:.3f} without; calibration error {self.chosen.ece:.3f} against {plain.ece:.3f} "
            f"({self.calibration_cost:+.3f}, n={self.photos})"
        )

    @property
    def calibration_cost(self) -> float:
        """Calibration error of the chosen one minus that of leaving classes as they are."""
        return self.chosen.ece - self.candidates[0].ece

    def to_json(self) -> dict[str, Any]:
        """Plain values for `provenance.json`."""
        return {
            "chosen": self.chosen.imbalance,
            "why": str(self),
            "calibration_cost": self.calibration_cost,
            "photos": self.photos,
            "candidates": [asdict(candidate) for candidate in self.candidates],
        }


def choose_imbalance(recipe: Recipe, pooled: Views, *, parts: Parts) -> ImbalanceChoice:
    """Compare the candidates on clean pooled features.

    Args:
        recipe: gives label smoothing and seed.
        pooled: rows of pooled features.
        parts: the split; the validation part judges.

    Raises:
        RecipeError: if the rows are no pooled features, or there is no validation part.
    """
    if pooled.cut is not None or not len(parts.val):
        lacking = "a validation part" if pooled.cut is None else "cached features of a pretrained network"
        raise RecipeError(
            f"loss.imbalance='auto' compares heads on {lacking}; this recipe has none.",
            fix="name one: none, weights, sampler, focal or logit-adjust.",
        )
    possible = [name for name in CANDIDATES if name != "focal" or recipe.head.kind == "linear"]  # see `check_kernel`
    candidates = tuple(_judged(recipe, Views(clean=pooled.clean), parts=parts, imbalance=name) for name in possible)
    best = max(candidates, key=lambda candidate: round(candidate.macro_f1, 9))
    return ImbalanceChoice(candidates=candidates, chosen=best, photos=len(parts.val))


def _judged(recipe: Recipe, pooled: Views, *, parts: Parts, imbalance: str) -> Candidate:
    # Whatever head the recipe asks for, a linear one tells the candidates apart.
    plain = recipe.replace(
        {
            "loss.imbalance": imbalance,
            "head.kind": "linear",
            "head.hidden": [],
            "head.dropout": 0.0,
            "phase1.weight_decay": None,
        }
    )
    shape = pooled.clean.shape
    assert shape is not None, "features are extracted before they are compared"
    head = new_head(plain, width=shape[0], classes=len(parts.classes))
    for _ in solve_path(plain, pooled, parts=parts, head=head):
        pass
    raw = predict_rows(head.eval(), pooled, part=parts.val, classes=parts.classes)
    found = raw.at_temperature(fit_temperature(raw))
    scores = score(found, nll(found))
    return Candidate(imbalance=imbalance, macro_f1=scores.f1, accuracy=scores.accuracy, ece=ece(found), nll=scores.loss)
