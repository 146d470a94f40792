"""Mixing: what happens to the inputs happens to the targets, in the same shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from topwork.recipe import Phase
from topwork.training.mixing import mix

K = 5


def one_hot(count: int) -> torch.Tensor:
    return F.one_hot(torch.arange(count) % K, K).float()


@given(seed=st.integers(0, 10_000), strength=st.sampled_from([0.1, 0.4, 1.0, 4.0]), count=st.integers(1, 9))
def test_mixup_mixes_inputs_as_targets(seed: int, strength: float, count: int) -> None:
    targets = one_hot(count)
    inputs, mixed = mix(targets, targets, phase=Phase(mixup=strength), random=np.random.default_rng(seed))
    torch.testing.assert_close(inputs, mixed)
    torch.testing.assert_close(mixed.sum(1), torch.ones(count))
    torch.testing.assert_close(mixed.mean(0), targets.mean(0))  # a permutation moves no mass
    assert int((mixed > 0).sum(1).max()) <= 2


@given(
    seed=st.integers(0, 10_000),
    strength=st.sampled_from([0.1, 1.0, 4.0]),
    height=st.integers(1, 7),
    width=st.integers(1, 7),
)
def test_the_area_that_cutmix_pastes_is_the_share_of_the_target(
    seed: int, strength: float, height: int, width: int
) -> None:
    targets = one_hot(6)
    planes = targets[:, None, None, :].expand(6, height, width, K)
    before = planes.clone()
    inputs, mixed = mix(planes, targets, phase=Phase(cutmix=strength), random=np.random.default_rng(seed))
    torch.testing.assert_close(inputs.mean((1, 2)), mixed, atol=1e-6, rtol=1e-5)
    assert set(inputs.unique().tolist()) <= {0.0, 1.0}  # pasted, not blended
    torch.testing.assert_close(planes, before)  # the cache's own memory stays as it is


def test_cutmix_pastes_one_rectangle_at_the_place_it_comes_from() -> None:
    where = torch.arange(48.0).reshape(1, 6, 8, 1)
    inputs = torch.cat([where, where + 1000])
    for seed in range(40):
        mixed, targets = mix(inputs, one_hot(2), phase=Phase(cutmix=1.0), random=np.random.default_rng(seed))
        torch.testing.assert_close(mixed % 1000, inputs % 1000)
        foreign = mixed[0, :, :, 0] >= 1000
        rows, columns = foreign.any(1).sum(), foreign.any(0).sum()
        assert int(foreign.sum()) == int(rows * columns)
        if bool(foreign.any()):
            assert float(targets[0, 1]) == pytest.approx(float(foreign.float().mean()), abs=1e-6)


def test_nothing_asked_for_changes_nothing_and_draws_nothing() -> None:
    random = np.random.default_rng(0)
    inputs, targets = torch.randn(4, 3, 3, 2), one_hot(4)
    found = mix(inputs, targets, phase=Phase(), random=random)
    assert found[0] is inputs
    assert found[1] is targets
    flat = mix(inputs.flatten(1), targets, phase=Phase(cutmix=1.0), random=random)  # features have no area to cut
    torch.testing.assert_close(flat[0], inputs.flatten(1))
    assert random.random() == np.random.default_rng(0).random()


def test_both_are_used_and_a_seed_repeats_them() -> None:
    inputs, targets, phase = torch.rand(6, 5, 5, 2), one_hot(6), Phase(mixup=1.0, cutmix=1.0)
    pasted = []
    for seed in range(30):
        a, b = (mix(inputs, targets, phase=phase, random=np.random.default_rng(seed)) for _ in range(2))
        torch.testing.assert_close(a, b, rtol=0, atol=0)
        pasted.append(bool(torch.isin(a[0], inputs).all()))
    assert 5 < sum(pasted) < 25


def test_the_strength_is_that_of_the_beta_distribution() -> None:
    targets = one_hot(2)
    for strength, deviation in ((0.2, np.sqrt(1 / (4 * 1.4))), (8.0, np.sqrt(1 / (4 * 17)))):
        kept = []
        for seed in range(400):
            mixed, _ = mix(targets, targets, phase=Phase(mixup=strength), random=np.random.default_rng(seed))
            if float(mixed[0, 1]) > 0:
                kept.append(float(mixed[0, 0]))
        assert np.std(kept) == pytest.approx(deviation, rel=0.2)
        assert np.mean(kept) == pytest.approx(0.5, abs=0.08)
