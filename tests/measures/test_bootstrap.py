from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from topwork.measures.bootstrap import Bootstrap, bootstrap, unit_numbers
from topwork.measures.metrics import ClassCounts

K = 3


def ratio(sums: np.ndarray) -> dict[str, np.ndarray]:
    return {"ratio": sums[..., 0] / np.maximum(sums[..., 1], 1e-12)}


def mean_of(values: np.ndarray) -> np.ndarray:
    return np.stack([values, np.ones(len(values))], axis=1)


def one_stratum(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


def macro_f1(sums: np.ndarray) -> dict[str, np.ndarray]:
    counts = ClassCounts(hits=sums[..., :K], guesses=sums[..., K : 2 * K], truths=sums[..., 2 * K :])
    return {"macro_f1": counts.macro_f1}


def class_summands(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    one_hot = np.eye(K)
    return np.concatenate(
        [one_hot[labels] * (labels == predicted)[:, None], one_hot[predicted], one_hot[labels]], axis=1
    )


def drawn_predictions(sizes: list[int], seed: int, *, right: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(K), sizes)
    wrong = (labels + rng.integers(1, K, len(labels))) % K
    return labels, np.where(rng.random(len(labels)) < right, labels, wrong)


@pytest.mark.parametrize("n", [15, 200])
def test_the_interval_of_a_skewed_mean_is_scipys(n: int) -> None:
    values = np.random.default_rng(n).exponential(size=n)
    ours = bootstrap(mean_of(values), ratio, strata=one_stratum(n), resamples=40_000, seed=1).interval("ratio")
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(2), batch=2000
    ).confidence_interval
    width = theirs.high - theirs.low
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.02 * width)
    assert (ours.value, ours.n) == (pytest.approx(values.mean()), n)


def test_the_stratified_interval_of_macro_f1_is_scipys() -> None:
    labels, predicted = drawn_predictions([40, 25, 60], seed=3)
    rows = [class_summands(labels[labels == k], predicted[labels == k]) for k in range(K)]
    ours = bootstrap(np.concatenate(rows), macro_f1, strata=labels, resamples=20_000).interval("macro_f1")

    def statistic(*samples: np.ndarray, axis: int = -1) -> np.ndarray:
        cells = [np.stack([(sample == guess).sum(axis=axis) for guess in range(K)], axis=-1) for sample in samples]
        matrix = np.stack(cells, axis=-2).astype(np.float64)
        hits = np.diagonal(matrix, axis1=-2, axis2=-1)
        return ClassCounts(hits=hits, guesses=matrix.sum(-2), truths=matrix.sum(-1)).macro_f1

    samples = tuple(predicted[labels == k] for k in range(K))
    theirs = stats.bootstrap(
        samples, statistic, n_resamples=20_000, method="BCa", rng=np.random.default_rng(0), batch=2000
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.003)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40),
    st.booleans(),
    st.integers(0, 9),
)
def test_an_interval_holds_its_value_and_stays_in_range(pairs: list[tuple[int, int]], grouped: bool, seed: int) -> None:
    labels, predicted = np.array(pairs).T
    groups = [f"scene {number // 3}" for number in range(len(labels))] if grouped else None
    drawn = bootstrap(
        class_summands(labels, predicted), macro_f1, strata=labels, groups=groups, resamples=100, seed=seed
    )
    interval = drawn.interval("macro_f1")
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.n == len(labels)


def test_a_seed_gives_the_same_numbers_and_another_seed_others() -> None:
    values = np.random.default_rng(0).normal(size=50)
    first, again, other = (bootstrap(mean_of(values), ratio, strata=one_stratum(50), seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.draws["ratio"], again.draws["ratio"])
    assert not np.array_equal(first.draws["ratio"], other.draws["ratio"])


def test_the_order_of_photos_matters_only_as_much_as_chance() -> None:
    labels, predicted = drawn_predictions([200, 150, 180], seed=1)
    order = np.random.default_rng(0).permutation(len(labels))
    plain = bootstrap(class_summands(labels, predicted), macro_f1, strata=labels, resamples=10_000)
    mixed = bootstrap(class_summands(labels[order], predicted[order]), macro_f1, strata=labels[order], resamples=10_000)
    a, b = plain.interval("macro_f1"), mixed.interval("macro_f1")
    assert a.value == pytest.approx(b.value, abs=1e-12)
    assert (a.low, a.high) == pytest.approx((b.low, b.high), abs=0.003)


def test_strata_keep_their_sizes() -> None:
    labels = np.repeat(np.arange(K), [5, 1, 9])
    drawn = bootstrap(
        np.eye(K)[labels], lambda sums: {str(k): sums[..., k] for k in range(K)}, strata=labels, resamples=200
    )
    for k, size in enumerate([5, 1, 9]):
        assert set(drawn.draws[str(k)]) == {float(size)}


def test_sparse_and_dense_summands_are_the_same() -> None:
    labels, predicted = drawn_predictions([20, 20, 20], seed=0)
    dense = class_summands(labels, predicted)
    one = bootstrap(dense, macro_f1, strata=labels, resamples=50)
    two = bootstrap(sparse.csr_array(dense), macro_f1, strata=labels, resamples=50)
    np.testing.assert_array_equal(one.draws["macro_f1"], two.draws["macro_f1"])


def test_copies_in_groups_carry_no_information() -> None:
    values = np.random.default_rng(0).normal(size=60)
    copies = np.repeat(values, 4)
    groups = [str(number) for number in np.repeat(np.arange(60), 4)]
    alone = bootstrap(mean_of(values), ratio, strata=one_stratum(60), resamples=8000).interval("ratio")
    together = bootstrap(mean_of(copies), ratio, strata=one_stratum(240), groups=groups, resamples=8000)
    apart = bootstrap(mean_of(copies), ratio, strata=one_stratum(240), resamples=8000).interval("ratio")
    clustered = together.interval("ratio")
    assert (clustered.low, clustered.high) == pytest.approx((alone.low, alone.high), abs=0.01)
    assert apart.high - apart.low == pytest.approx((clustered.high - clustered.low) / 2, rel=0.05)


def test_an_empty_group_name_is_a_group_of_its_own() -> None:
    assert len(set(unit_numbers(["", "", "a", "a", "p0"]).tolist())) == 4
    values = np.random.default_rng(0).normal(size=30)
    named = bootstrap(mean_of(values), ratio, strata=one_stratum(30), groups=[""] * 30)
    assert len(named.influence["ratio"]) == 30


def test_a_group_lies_in_the_stratum_of_most_of_its_photos() -> None:
    labels = np.array([0, 1, 1, 0, 0, 1])
    groups = ["a", "a", "a", "", "", ""]
    drawn = bootstrap(
        np.eye(2)[labels], lambda sums: {"zeros": sums[..., 0]}, strata=labels, groups=groups, resamples=500
    )
    # Units of stratum 0: two photos. Of stratum 1: the group, which holds one photo of class 0, and one photo.
    assert set(drawn.draws["zeros"]) == {2.0, 3.0, 4.0}


def test_many_photos_are_merged_without_changing_the_interval() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=90_000)
    labels = rng.integers(0, 3, len(values))
    drawn = bootstrap(mean_of(values), ratio, strata=labels, resamples=1000)
    assert 20_000 <= len(drawn.influence["ratio"]) <= 20_003
    assert drawn.photos == 90_000
    assert drawn.draws["ratio"].std() == pytest.approx(1 / np.sqrt(90_000), rel=0.08)


def test_without_spread_the_interval_is_that_of_a_share() -> None:
    labels = np.repeat(np.arange(K), 20)
    drawn = bootstrap(class_summands(labels, labels), macro_f1, strata=labels, resamples=50)
    assert not drawn.varies("macro_f1")
    assert drawn.effective == pytest.approx(60)
    interval = drawn.interval("macro_f1")
    assert interval.high == 1
    assert 0.9 < interval.low < 0.97


def test_one_photo_says_nearly_nothing() -> None:
    drawn = bootstrap(mean_of(np.array([0.1])), ratio, strata=one_stratum(1), resamples=20)
    interval = drawn.interval("ratio", ceiling=16.0)
    assert interval.low == pytest.approx(0, abs=1e-3)
    assert interval.high > 10


def test_a_rare_class_weakens_an_average_that_does_not_vary() -> None:
    even, uneven = np.repeat(np.arange(K), 20), np.repeat(np.arange(K), [29, 29, 2])
    widths = []
    for labels in (even, uneven):
        interval = bootstrap(class_summands(labels, labels), macro_f1, strata=labels, resamples=20).interval("macro_f1")
        widths.append(interval.high - interval.low)
    assert widths[1] > 2 * widths[0]


def independent(seed: int, n: int, mean: float) -> tuple[np.ndarray, Bootstrap]:
    values = np.random.default_rng(seed).exponential(mean, size=n)
    return values, bootstrap(mean_of(values), ratio, strata=one_stratum(n), resamples=20_000, seed=seed)


def test_the_difference_of_two_samples_is_scipys() -> None:
    (a, first), (b, second) = independent(1, 60, 3.0), independent(2, 40, 2.0)
    ours = first.minus(second).interval("ratio")
    theirs = stats.bootstrap(
        (a, b),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        n_resamples=20_000,
        method="BCa",
        rng=np.random.default_rng(0),
        batch=2000,
    ).confidence_interval
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert ours.n == 100
    mirrored = second.minus(first).interval("ratio")
    assert (mirrored.low, mirrored.high) == pytest.approx((-ours.high, -ours.low), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [[60, 40, 80], [300, 200, 250]])
def test_bca_of_macro_f1_holds_the_truth_in_95_of_100_samples(sizes: list[int]) -> None:
    shares = np.array([[0.9, 0.06, 0.04], [0.12, 0.8, 0.08], [0.03, 0.12, 0.85]])
    expected = shares * np.array(sizes)[:, None]
    truth = float(ClassCounts(hits=np.diag(expected).copy(), guesses=expected.sum(0), truths=expected.sum(1)).macro_f1)
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(K), sizes)
    samples, held = 1000, 0
    for seed in range(samples):
        predicted = np.concatenate([rng.choice(K, size=size, p=shares[k]) for k, size in enumerate(sizes)])
        drawn = bootstrap(class_summands(labels, predicted), macro_f1, strata=labels, resamples=800, seed=seed)
        interval = drawn.interval("macro_f1")
        held += interval.low <= truth <= interval.high
    assert 0.93 <= held / samples <= 0.97


@pytest.mark.slow
def test_bca_of_groups_holds_the_truth_where_photos_alone_do_not() -> None:
    rng = np.random.default_rng(0)
    samples, held = 1000, {"groups": 0, "photos": 0}
    groups = [str(number) for number in np.repeat(np.arange(80), 4)]
    for seed in range(samples):
        share = rng.beta(4, 1, size=80)  # each scene has its own difficulty
        hits = (rng.random((80, 4)) < share[:, None]).astype(np.float64).ravel()
        for name, given_groups in (("groups", groups), ("photos", None)):
            drawn = bootstrap(
                mean_of(hits), ratio, strata=one_stratum(320), groups=given_groups, resamples=800, seed=seed
            )
            interval = drawn.interval("ratio")
            held[name] += interval.low <= 0.8 <= interval.high
    assert 0.93 <= held["groups"] / samples <= 0.97
    assert held["photos"] / samples < 0.925
