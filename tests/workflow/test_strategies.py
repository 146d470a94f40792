"""Strategies end to end: whatever a recipe freezes leaves training as it came, and each phase trains what it names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from topwork.data.manifest import Manifest
from topwork.data.scan import scan
from topwork.data.split import split
from topwork.errors import RecipeError
from topwork.models.backbone import create_backbone
from topwork.models.weights import state_digest
from topwork.recipe import load_recipe, split_shares
from topwork.training.imbalance import CANDIDATES
from topwork.workflow.fit_manifest import fit_manifest
from topwork.workflow.outcome import Outcome

Fitted = Callable[..., Outcome]


@pytest.fixture(scope="module")
def fitted(drawn_photos: Path, tiny: tuple[str, ...]) -> Fitted:
    manifest: Manifest = split(scan(drawn_photos), shares=(0.6, 0.2, 0.2), seed=0)

    def fit(*settings: str) -> Outcome:
        return fit_manifest(load_recipe("default", [*tiny, "data.views=fixed:1", *settings]), manifest)

    return fit


def moved_blocks(outcome: Outcome) -> tuple[str, ...]:
    """Blocks whose parameters or running statistics are not what they were."""
    start = create_backbone("test_efficientnet", weights="none", image_size=64)
    trained = outcome.trained.classifier.backbone
    digests = ([state_digest(block.state_dict()) for block in each.blocks] for each in (start, trained))
    return tuple(name for name, old, new in zip(start.block_names, *digests, strict=True) if old != new)


@pytest.mark.parametrize("batchnorm", ["frozen", "update"])
@pytest.mark.parametrize(
    ("train", "moved"),
    [
        ("top-1 blocks", ("conv_head",)),
        ("top-9 layers", ("blocks.4", "conv_head")),
        ("['blocks.2', 'conv_head']", ("blocks.2", "conv_head")),
        ("gradual", ("blocks.4", "conv_head")),
        ("head", ()),
    ],
)
def test_only_what_the_plan_names_moves(fitted: Fitted, train: str, moved: tuple[str, ...], batchnorm: str) -> None:
    outcome = fitted(f"phase2.train={train}", f"phase2.batchnorm={batchnorm}", "stop.keep=last")
    assert moved_blocks(outcome) == moved


def test_both_phases_may_train_blocks(fitted: Fitted) -> None:
    first = ("phase1.train=top-2 blocks", "phase1.optimizer=sgd", "phase1.epochs=1", "stop.keep=last")
    outcome = fitted(*first, "phase2.train=top-1 blocks", "phase2.epochs=1")
    assert (outcome.network.cut, sorted(outcome.network.plans)) == (5, [1, 2])
    assert moved_blocks(outcome) == ("blocks.4", "conv_head")


def test_phase_1_trains_on_the_views_that_were_asked_for(fitted: Fitted) -> None:
    head = (
        "phase2.epochs=0",
        "phase1.optimizer=sgd",
        "head.kind=linear",
        "head.hidden=[8]",
        "head.batchnorm=true",
        "data.views=fixed:2",
    )
    logits = {
        views: fitted(*head, f"phase1.views={views}").predictions["test"].logits.tolist()
        for views in ("auto", "clean", "augmented")
    }
    assert logits["auto"] == logits["augmented"] != logits["clean"]
    with pytest.raises(RecipeError, match="caches none"):
        fitted(*head, "phase1.views=augmented", "data.views=fresh")


def test_auto_takes_what_the_validation_part_likes_best_and_says_what_it_costs(fitted: Fitted) -> None:
    outcome = fitted(
        "loss.imbalance=auto", "phase2.epochs=0", "head.kind=linear", "head.hidden=[8]", "phase1.optimizer=sgd"
    )
    weighed = outcome.weighed
    assert weighed is not None
    assert tuple(candidate.imbalance for candidate in weighed.candidates) == CANDIDATES
    assert weighed.chosen.macro_f1 == max(candidate.macro_f1 for candidate in weighed.candidates)
    assert weighed.to_json()["calibration_cost"] == pytest.approx(weighed.chosen.ece - weighed.candidates[0].ece)
    assert f"n={weighed.photos}" in str(weighed)
    assert outcome.recipe.loss.imbalance == "auto"  # the recipe says what was asked, the record what came of it
    named = fitted(
        f"loss.imbalance={weighed.chosen.imbalance}",
        "phase2.epochs=0",
        "head.kind=linear",
        "head.hidden=[8]",
        "phase1.optimizer=sgd",
    )
    assert named.predictions["test"].logits.tolist() == outcome.predictions["test"].logits.tolist()


def test_auto_never_picks_for_a_kernel_what_it_cannot_follow(fitted: Fitted) -> None:
    outcome = fitted("loss.imbalance=auto", "phase2.epochs=0", "head.kind=kernel")
    assert outcome.weighed is not None
    assert [each.imbalance for each in outcome.weighed.candidates] == ["none", "weights", "logit-adjust"]


@pytest.mark.parametrize(
    ("settings", "lacking"),
    [
        (("phase1.train=none", "phase2.train=all"), "cached features"),
        (("data.split=80/0/20",), "a validation part"),
    ],
)
def test_auto_needs_features_and_a_validation_part(
    drawn_photos: Path, tiny: tuple[str, ...], settings: tuple[str, ...], lacking: str
) -> None:
    recipe = load_recipe("default", [*tiny, "loss.imbalance=auto", *settings])
    manifest = split(scan(drawn_photos), shares=split_shares(recipe.data.split), seed=0)
    with pytest.raises(RecipeError, match=lacking) as caught:
        fit_manifest(recipe, manifest)
    assert "logit-adjust" in caught.value.fix
