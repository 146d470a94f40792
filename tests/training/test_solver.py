"""The solved head is the minimum that scikit-learn finds, from any start, and its gradient is the true one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from topwork.recipe import LossChoice
from topwork.training import solver as module
from topwork.training.loss import FOCUS, class_weights, logit_shift, make_loss
from topwork.training.narrow import narrowed, widened
from topwork.training.solver import L2_PATH, LinearHead, Rows, feature_scale, solve_head

IDENTITY = (np.zeros(6), np.ones(6))
NEAR = 1e-2  # the solver stops when a step gains less than 1e-9 of the loss, a little before the very minimum


def problem(*, seed: int = 0, dtype: type = np.float32, weighted: bool = True) -> Rows:
    """120 rows of 4 overlapping classes, picked with repeats and out of order from 200."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(4, 6))
    every = random.integers(4, size=200)
    features = (centres[every] + random.normal(size=(200, 6))).astype(dtype)
    rows = random.integers(200, size=120)
    weights = random.uniform(0.2, 2.0, size=120) if weighted else np.ones(120)
    return Rows(features=features, rows=rows, labels=every[rows], weights=weights / weights.mean())


def objective(head: LinearHead, data: Rows, *, l2: float, smoothing: float) -> float:
    """The stated objective in plain float64, for features that are already standardised."""
    logits = data.features[data.rows].astype(np.float64) @ head.weight.T + head.bias
    log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    target = (1 - smoothing) * np.eye(4)[data.labels] + smoothing / 4
    return float(-(data.weights * (target * log_p).sum(axis=1)).mean() + l2 / 2 * (head.weight**2).sum())


@pytest.mark.parametrize("l2", [0.3, 0.01, 0.0003])
def test_the_head_is_the_one_that_scikit_learn_finds(l2: float) -> None:
    from sklearn.linear_model import LogisticRegression

    data = problem()
    x = data.features[data.rows].astype(np.float64)
    oracle = LogisticRegression(C=1 / (len(x) * l2), tol=1e-10, max_iter=10_000)
    oracle.fit(x, data.labels, sample_weight=data.weights)
    found = solve_head(data, IDENTITY, classes=4, l2=l2)
    np.testing.assert_allclose(found.weight, oracle.coef_, atol=NEAR)
    # The objective does not see a constant added to every bias.
    np.testing.assert_allclose(found.bias - found.bias.mean(), oracle.intercept_ - oracle.intercept_.mean(), atol=NEAR)
    np.testing.assert_allclose(
        found.logits(data.features), data.features @ found.weight.T + found.bias, rtol=1e-4, atol=1e-4
    )


def test_standardising_is_folded_into_the_head() -> None:
    from sklearn.linear_model import LogisticRegression

    data = problem()
    wide = Rows(features=data.features * 30 + 7, rows=data.rows, labels=data.labels, weights=data.weights)
    mean, deviation = feature_scale(wide)
    x = (wide.features[wide.rows].astype(np.float64) - mean) / deviation
    oracle = LogisticRegression(C=1 / (len(x) * 0.01), tol=1e-10, max_iter=10_000)
    oracle.fit(x, wide.labels, sample_weight=wide.weights)
    found = solve_head(wide, (mean, deviation), classes=4, l2=0.01)
    logits = found.logits(wide.features[wide.rows])
    expected = oracle.decision_function(x)
    np.testing.assert_allclose(
        logits - logits.mean(axis=1, keepdims=True), expected - expected.mean(axis=1, keepdims=True), atol=NEAR
    )


def test_features_share_one_scale() -> None:
    data = problem()
    x = data.features[data.rows].astype(np.float64)
    mean, deviation = feature_scale(data)
    np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(deviation, np.full(6, np.sqrt(x.var(axis=0).mean())), rtol=1e-9)


def test_features_that_never_move_have_a_scale_of_one() -> None:
    data = problem()
    still = Rows(features=np.full_like(data.features, 3), rows=data.rows, labels=data.labels, weights=data.weights)
    np.testing.assert_array_equal(feature_scale(still)[1], np.ones(6))
    head = solve_head(still, feature_scale(still), classes=4, l2=0.01)
    shares = np.bincount(data.labels, weights=data.weights) / len(data.labels)
    logits = head.logits(still.features[:1])[0]
    np.testing.assert_allclose(np.exp(logits) / np.exp(logits).sum(), shares, atol=1e-3)  # only the bias can learn


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_gradient_is_the_slope(smoothing: float) -> None:
    data, random = problem(), np.random.default_rng(1)
    weight, bias = random.normal(size=(4, 6)), random.normal(size=4)
    loss, by_weight, by_bias = module._cross_entropy(data, weight, bias=bias, smoothing=smoothing)
    head = LinearHead(weight=weight, bias=bias)
    assert loss == pytest.approx(objective(head, data, l2=0.0, smoothing=smoothing), rel=1e-6)
    step, _options = 1e-5, {"l2": 0.0, "smoothing": smoothing}
    for index in np.ndindex(4, 7):
        to_weight, to_bias = np.zeros((4, 6)), np.zeros(4)
        if index[1] < 6:
            to_weight[index] = step
        else:
            to_bias[index[0]] = step
        sides = [
            objective(
                LinearHead(weight=weight + s * to_weight, bias=bias + s * to_bias), data, l2=0, smoothing=smoothing
            )
            for s in (1, -1)
        ]
        slope = (sides[0] - sides[1]) / (2 * step)
        found = by_weight[index] if index[1] < 6 else by_bias[index[0]]
        assert found == pytest.approx(slope, abs=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_step_away_from_the_solution_goes_down(smoothing: float) -> None:
    data, random = problem(), np.random.default_rng(2)
    head = solve_head(data, IDENTITY, classes=4, l2=0.01, smoothing=smoothing)
    least = objective(head, data, l2=0.01, smoothing=smoothing)
    for size in (0.3, 0.03):
        for _ in range(20):
            other = LinearHead(
                weight=head.weight + size * random.normal(size=(4, 6)), bias=head.bias + size * random.normal(size=4)
            )
            assert objective(other, data, l2=0.01, smoothing=smoothing) > least


def test_the_start_does_not_matter() -> None:
    data, random = problem(), np.random.default_rng(3)
    scale = feature_scale(data)
    cold = solve_head(data, scale, classes=4, l2=0.01)
    far = LinearHead(weight=5 * random.normal(size=(4, 6)), bias=5 * random.normal(size=4))
    for start in (cold, far, solve_head(data, scale, classes=4, l2=0.3)):
        warm = solve_head(data, scale, classes=4, l2=0.01, start=start)
        np.testing.assert_allclose(warm.weight, cold.weight, atol=NEAR)


def test_a_warm_start_is_taken() -> None:
    """From the solution it is one look; from nothing it is many."""
    data, scale, looks = problem(), feature_scale(problem()), [0]
    solution = solve_head(data, scale, classes=4, l2=0.01)
    real = module._cross_entropy

    def counted(*args: object, **options: object) -> object:
        looks[0] += 1
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_cross_entropy", counted)
        solve_head(data, scale, classes=4, l2=0.01)
        cold, looks[0] = looks[0], 0
        solve_head(data, scale, classes=4, l2=0.01, start=solution)
    assert looks[0] < cold / 2


def test_chunks_weights_and_float16_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    data = problem(dtype=np.float16)
    whole = solve_head(data, IDENTITY, classes=4, l2=0.01)
    monkeypatch.setattr(module, "_CHUNK", 7)
    np.testing.assert_allclose(solve_head(data, IDENTITY, classes=4, l2=0.01).weight, whole.weight, atol=NEAR)
    np.testing.assert_allclose(feature_scale(data)[0], data.features[data.rows].astype(float).mean(axis=0), rtol=1e-9)


def test_stored_bfloat16_is_read_as_the_numbers_it_means() -> None:
    data = problem()
    wide = widened(narrowed(data.features, "uint16"))
    narrow = replace(data, features=narrowed(data.features, "uint16"))
    expected = solve_head(replace(data, features=wide), IDENTITY, classes=4, l2=0.01)
    np.testing.assert_array_equal(solve_head(narrow, IDENTITY, classes=4, l2=0.01).weight, expected.weight)


def test_a_weight_of_two_is_a_row_twice() -> None:
    data = problem(weighted=False)
    twice = np.r_[np.arange(120), np.arange(40)]
    repeated = Rows(features=data.features, rows=data.rows[twice], labels=data.labels[twice], weights=np.ones(160))
    heavy = np.where(np.arange(120) < 40, 2.0, 1.0)
    weighted = Rows(features=data.features, rows=data.rows, labels=data.labels, weights=heavy / heavy.mean())
    a, b = (solve_head(each, IDENTITY, classes=4, l2=0.01) for each in (repeated, weighted))
    np.testing.assert_allclose(a.weight, b.weight, atol=NEAR)


def test_stronger_l2_gives_smaller_weights() -> None:
    data = problem()
    norms = [np.linalg.norm(solve_head(data, IDENTITY, classes=4, l2=l2).weight) for l2 in L2_PATH]
    assert norms == sorted(norms)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("imbalance", ["none", "weights", "focal", "logit-adjust"])
def test_losses_and_gradients_are_those_of_the_stepwise_loss(imbalance: str, smoothing: float) -> None:
    """The oracle is torch's own derivative of `make_loss`."""
    import torch

    plain, random = problem(weighted=False), np.random.default_rng(3)
    counts = np.bincount(plain.labels, minlength=4)
    data = Rows(
        features=plain.features,
        rows=plain.rows,
        labels=plain.labels,
        weights=class_weights(counts)[plain.labels] if imbalance == "weights" else plain.weights,
        shift=logit_shift(counts) if imbalance == "logit-adjust" else None,
        focus=FOCUS if imbalance == "focal" else 0.0,
    )
    weight, bias = random.normal(size=(4, 6)), random.normal(size=4)
    loss, by_weight, by_bias = module._cross_entropy(data, weight, bias=bias, smoothing=smoothing)
    w, b = (torch.tensor(each, dtype=torch.float32, requires_grad=True) for each in (weight, bias))
    choice = LossChoice.model_validate({"imbalance": imbalance, "label_smoothing": smoothing})
    targets = torch.eye(4)[torch.from_numpy(data.labels)]
    expected = make_loss(choice, counts)(torch.from_numpy(data.features[data.rows]) @ w.T + b, targets)
    expected.backward()  # type: ignore[no-untyped-call]
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    np.testing.assert_allclose(by_weight, w.grad, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(by_bias, b.grad, rtol=1e-3, atol=1e-5)


def test_a_rare_class_is_found_more_often_when_it_is_asked_for() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1], [300, 20])
    features = (random.normal(size=(320, 6)) + 0.5 * labels[:, None]).astype(np.float32)
    counts, ones = np.bincount(labels), np.ones(320)
    ways: dict[str, dict[str, object]] = {
        "none": {"weights": ones},
        "weights": {"weights": class_weights(counts)[labels]},
        "logit-adjust": {"weights": ones, "shift": logit_shift(counts)},
    }
    recall = {}
    for name, way in ways.items():
        data = Rows(features=features, rows=np.arange(320), labels=labels, **way)  # type: ignore[arg-type]
        head = solve_head(data, IDENTITY, classes=2, l2=0.01)
        recall[name] = (head.logits(features).argmax(axis=1)[labels == 1] == 1).mean()
    assert recall["none"] < 0.5 < min(recall["weights"], recall["logit-adjust"])
