"""Deletion, insertion, masks and randomisation, on models that are functions one can read."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from topwork.explanations.faithfulness import (
    ENOUGH,
    Areas,
    Removal,
    accuracy_without,
    centre_maps,
    faithfulness,
    mean_interval,
    random_maps,
)
from topwork.explanations.localisation import accuracy_on, localisation, on_other_background
from topwork.explanations.randomisation import randomisation

N, SIDE = 24, 32


@pytest.fixture
def spots() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures with a bright square off the middle, red for class 0 and green for class 1; masks; labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(90, 110, (N, SIDE, SIDE, 3)).astype(np.uint8)
    masks = np.zeros((N, SIDE, SIDE), bool)
    labels = np.arange(N) % 2
    for row in range(N):
        top, left = rng.choice([0, 1, 21, 22], 2)
        masks[row, top : top + 8, left : left + 8] = True
        images[row][masks[row]] = (250, 20, 20) if labels[row] == 0 else (20, 250, 20)
    return images, masks, labels


def _red_or_green(images: np.ndarray) -> np.ndarray:
    """Logits: how many places are clearly red, clearly green."""
    colour = images.astype(int)
    gap = colour[..., 0] - colour[..., 1]
    return np.stack([(gap > 228).sum(axis=(1, 2)), (gap < -228).sum(axis=(1, 2))], axis=1) / 8.0


def test_the_exact_map_beats_chance_and_the_middle(spots: tuple[np.ndarray, ...]) -> None:
    images, masks, labels = spots
    removal = Removal(score=_red_or_green, images=images, targets=labels, steps=8)
    found = faithfulness(removal, masks.astype(np.float32), cells=(4, 4))
    assert found.beats("random")
    assert found.beats("centre")
    assert found.verdict.startswith("The heatmaps mark what the model uses")
    assert found.deletion.n == N
    plain = found.to_json()
    assert plain["beats"] == {"random": True, "centre": True}
    assert plain["against"]["centre"]["deletion"]["high"] < 0


@pytest.mark.parametrize("blind", [random_maps(N, (SIDE, SIDE), cells=(4, 4), seed=5), centre_maps(N, (SIDE, SIDE))])
def test_a_map_that_knows_nothing_is_labelled(spots: tuple[np.ndarray, ...], blind: np.ndarray) -> None:
    images, _, labels = spots
    found = faithfulness(Removal(score=_red_or_green, images=images, targets=labels), blind, cells=(4, 4))
    assert not (found.beats("random") and found.beats("centre"))
    assert not found.enough
    assert found.verdict.startswith("24 photos do not show")
    assert found.verdict.endswith("they are too few.")


@pytest.mark.parametrize("times", [1, 3])
def test_maps_that_are_no_better_than_the_middle_are_labelled_so(spots: tuple[np.ndarray, ...], times: int) -> None:
    """Whatever method made them: with few photos and with enough of them."""
    images, _, labels = (np.concatenate([each] * times) for each in spots)
    centre = centre_maps(len(images), (SIDE, SIDE))
    found = faithfulness(Removal(score=_red_or_green, images=images, targets=labels), centre, cells=(4, 4))
    assert not found.beats("centre")
    assert "the middle of the photo" in found.verdict
    assert found.enough == (len(images) >= ENOUGH) == found.to_json()["enough"] == (times == 3)


def test_curves_by_hand() -> None:
    """The answer is the share of white places: both curves are known lines."""

    def share(images: np.ndarray) -> np.ndarray:
        p = np.clip((images[..., 0] > 200).mean(axis=(1, 2)), 1e-9, 1 - 1e-9)
        return np.log(np.stack([p, 1 - p], axis=1))

    image = np.full((1, 16, 16, 3), 255, np.uint8)
    image[:, :, 8:] = 0
    left = np.zeros((1, 16, 16), np.float32)
    left[:, :, :8] = 1
    removal = Removal(score=share, images=image, targets=np.array([0]), fill=(0, 0, 0), steps=4)
    best, worst = removal.areas(left), removal.areas(1 - left)
    # 4 steps of a quarter: 1/2 -> 1/4 -> 0 -> 0 -> 0, and for the wrong order 1/2, 1/2, 1/2, 1/4, 0
    assert best.deletion[0] == pytest.approx((0.25 + 0.25 + 0) / 4)
    assert worst.deletion[0] == pytest.approx((0.25 + 0.5 + 0.5 + 0.25) / 4)
    assert best.insertion[0] > worst.insertion[0]


def test_equal_places_do_not_favour_a_corner() -> None:
    """A map that is 0 nearly everywhere must not become a map of the upper left corner."""
    corner = np.zeros((1, 16, 16, 3), np.uint8)
    corner[:, :8, :8] = 255

    def score(images: np.ndarray) -> np.ndarray:
        p = np.clip((images[..., 0] > 200).mean(axis=(1, 2)) * 4, 1e-9, 1 - 1e-9)
        return np.log(np.stack([p, 1 - p], axis=1))

    removal = Removal(score=score, images=corner, targets=np.array([0]), fill=(0, 0, 0))
    assert removal.areas(np.zeros((1, 16, 16), np.float32)).deletion[0] == pytest.approx(0.5, abs=0.05)


def test_the_object_counts_and_the_background_does_not(spots: tuple[np.ndarray, ...]) -> None:
    images, masks, labels = spots
    removal = Removal(score=_red_or_green, images=images, targets=labels)
    found = accuracy_without(removal, masks.astype(np.float32), labels=labels, share=0.1)
    assert found["intact"].value == found["background blurred"].value == 1
    assert found["object blurred"].value < 0.75
    swapped = on_other_background(images, np.roll(images, 3, axis=0), masks=masks)
    others = on_other_background(np.roll(images, 1, axis=0), images, masks=masks | np.roll(masks, 1, axis=0))
    shares = accuracy_on(_red_or_green, {"background": swapped * masks[..., None], "flower": others}, labels=labels)
    assert shares["background"].value == 1
    assert shares["flower"].value == 0  # the other object's class is the other one


def test_localisation_knows_where_the_mask_is(spots: tuple[np.ndarray, ...]) -> None:
    _, masks, _ = spots
    exact = localisation(masks.astype(np.float32), masks)
    assert (exact.energy.value, exact.pointing.value) == (1, 1)
    assert exact.area.value == pytest.approx(64 / SIDE**2)
    assert exact.ratio.value == pytest.approx(SIDE**2 / 64)
    flat = localisation(np.ones((N, SIDE, SIDE), np.float32), masks)
    assert flat.energy.value == pytest.approx(flat.area.value)
    assert flat.ratio.value == pytest.approx(1)
    nothing = localisation(np.zeros((N, SIDE, SIDE), np.float32), masks)
    assert nothing.energy.value == nothing.pointing.value == nothing.pointing_near.value == 0
    beside = np.roll(masks, 9, axis=1) & ~masks  # just beside the mask: only the tolerant game counts it
    heat = np.zeros((N, SIDE, SIDE), np.float32)
    for row in range(N):
        y, x = np.argwhere(masks[row])[0]
        heat[row, max(0, y - 1) if y else 8 + y, x] = 1
    near = localisation(heat, masks)
    assert near.pointing.value < 1
    assert near.pointing_near.value == 1
    assert beside.any()


def test_mean_interval_covers() -> None:
    """95 % intervals of the mean of 30 numbers hold the truth 90 to 99 times in 100."""
    rng = np.random.default_rng(3)
    held = [(i := mean_interval(rng.normal(0.2, 1, 30))).low <= 0.2 <= i.high for _ in range(100)]
    assert 88 <= sum(held) <= 100
    assert mean_interval([0.25]).value == 0.25
    assert isinstance(Areas(deletion=np.zeros(1), insertion=np.zeros(1)), Areas)


def test_forgetting_changes_gradcam_and_the_head_does_not_change_eigencam(subjects: ModuleType) -> None:
    classifier = subjects.subject("test_efficientnet")
    before = {key: value.clone() for key, value in classifier.state_dict().items()}
    images = subjects.pictures(classifier.backbone.spec.size)[:6]
    found = randomisation(classifier, images)
    assert found.stages == ("head", *reversed(classifier.backbone.block_names))
    assert found.correlations[0].value < 0.9
    assert found.correlations[-1].value < 0.5
    assert all((value == before[key]).all() for key, value in classifier.state_dict().items())
    blind = randomisation(classifier, images, method="eigencam")
    assert blind.correlations[0].value == pytest.approx(1)
    assert not blind.passed
    assert blind.to_json()["stages"][0]["stage"] == "head"
