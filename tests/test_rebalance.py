"""The rules against imbalance, at their published values and beyond them."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balal.heads import rebalance

COUNTS, LOGITS = np.array([100, 10, 1]), np.array([[2.0, 1.0, 0.5]])
EACH = np.repeat(LOGITS, 3, axis=0), np.arange(3)
PROBABILITIES = np.array([[0.628532, 0.231224, 0.140244]])


def near(found, expected, tolerance=2e-6):
    np.testing.assert_allclose(np.asarray(found).ravel(), np.ravel(expected), rtol=tolerance, atol=tolerance)


def test_plain_cross_entropy():
    near(rebalance.cross_entropy(*EACH), [0.464369, 1.464369, 1.964369])


def test_thresholding_flips_to_the_class_with_one_label():
    near(rebalance.thresholded(PROBABILITIES, COUNTS), [0.037048, 0.136293, 0.826659])
    smoothed = np.asarray(rebalance.thresholded(PROBABILITIES, COUNTS, smoothing=1.0))
    assert smoothed[0, 2] < 0.826659


@pytest.mark.parametrize(
    ("tau", "expected"), [(0.5, [2.052180, 2.203473, 2.854765]), (1, [2.104360, 3.406945, 5.209530]), (2, [2.208720, 5.813890, 9.919060])]
)
def test_logit_adjustment_afterwards(tau, expected):
    near(rebalance.logit_adjusted(LOGITS, COUNTS, tau=tau), expected)


def test_logit_adjustment_in_the_loss_which_is_the_balanced_softmax():
    near(rebalance.cross_entropy(*EACH, added=rebalance.adjustment(COUNTS)), [0.038277, 3.340862, 6.143447])


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0, [1, 1, 1]),
        (0.9, [0.239329, 0.367442, 2.393229]),
        (0.99, [0.042237, 0.280044, 2.677719]),
        (0.999, [0.028363, 0.271256, 2.700381]),
        (0.9999, [0.027159, 0.270369, 2.702472]),
        (1, [0.027027, 0.270270, 2.702703]),
    ],
)
def test_weights_by_the_effective_number(beta, expected):
    near(rebalance.effective_weights(COUNTS, beta=beta), expected)


@pytest.mark.parametrize(
    ("power", "expected"), [(1, [0.900901, 0.090090, 0.009009]), (0.5, [0.706101, 0.223289, 0.070610]), (0, [1 / 3, 1 / 3, 1 / 3])]
)
def test_oversampling_draws_classes_as_often_as_published(power, expected):
    near(rebalance.sampling(COUNTS, power=power) * COUNTS / COUNTS.sum(), expected)


def test_margins_and_loss_of_ldam():
    near(rebalance.margins(COUNTS), [0.158114, 0.281171, 0.5])
    cosines = np.repeat([[0.6, 0.5, 0.4]], 3, axis=0)
    near(rebalance.ldam_loss(cosines, np.arange(3), rebalance.margins(COUNTS)), [1.946120, 11.437606, 21.048587])


@pytest.mark.parametrize(("tau", "expected"), [(0, [5, 1, 1]), (0.5, [2.236068, 0.707107, 1]), (1, [1, 0.5, 1])])
def test_tau_normalisation(tau, expected):
    weights = np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    near(rebalance.tau_normalised(weights, tau=tau) @ np.array([1, 0.5]), expected)


@given(st.lists(st.integers(0, 500), min_size=1, max_size=30).filter(any))
def test_unseen_classes_have_no_part_and_everything_stays_finite(counts):
    counts = np.array(counts)
    seen = counts > 0
    for values in (
        rebalance.priors(counts, smoothing=1.0),
        rebalance.adjustment(counts),
        rebalance.balanced_weights(counts),
        rebalance.effective_weights(counts),
        rebalance.effective_weights(counts, beta=0.0),
        rebalance.sampling(counts, power=0.5),
        rebalance.margins(counts),
    ):
        assert np.isfinite(values).all()
        assert not values[~seen].any()
    assert np.sum(rebalance.balanced_weights(counts) * counts) == pytest.approx(counts.sum())
    assert np.ptp((rebalance.balanced_weights(counts) * counts)[seen]) == pytest.approx(0, abs=1e-9)
    assert rebalance.effective_weights(counts)[seen].mean() == pytest.approx(1)


@given(st.integers(0, 2**32 - 1))
def test_thresholding_is_logit_adjustment_before_the_softmax(seed):
    rng = np.random.default_rng(seed)
    logits, counts = rng.normal(size=(3, 5)), rng.integers(1, 100, 5)
    adjusted = np.exp(np.asarray(rebalance.logit_adjusted(logits, counts), np.float64))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    near(rebalance.thresholded(probabilities, counts), adjusted / adjusted.sum(axis=1, keepdims=True), 1e-4)


@pytest.mark.parametrize("counts", [[0, 0], [3, -1]])
def test_counts_that_are_none_are_told(counts):
    with pytest.raises(ValueError, match="counts must not be negative"):
        rebalance.priors(np.array(counts))


def test_a_beta_outside_is_told():
    with pytest.raises(ValueError, match="beta lies between"):
        rebalance.effective_weights(COUNTS, beta=1.5)


@pytest.mark.data
def test_every_published_value_of_heads_is_among_these(shared):
    values = json.loads((shared / "vectors" / "conformance_bc.json").read_text())["heads"]
    assert (values["n"], values["z"]) == (COUNTS.tolist(), LOGITS[0].tolist())
    near(rebalance.cross_entropy(*EACH), values["ce"])
    near(rebalance.thresholded(PROBABILITIES, COUNTS), values["threshold"])
    near(rebalance.cross_entropy(*EACH, added=rebalance.adjustment(COUNTS)), values["la_loss_tau1"])
    for tau, expected in values["posthoc"].items():
        near(rebalance.logit_adjusted(LOGITS, COUNTS, tau=float(tau)), expected)
    for beta, expected in values["cb_weights"].items():
        near(rebalance.effective_weights(COUNTS, beta=float(beta)), expected)
