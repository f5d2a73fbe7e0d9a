"""Weights, adjustments and losses for imbalanced labels, against published and worked values."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from balal.heads import rebalance

COUNTS, LOGITS = np.array([100, 10, 1]), np.array([[2.0, 1.0, 0.5]])
EVERY_LABEL = np.repeat(LOGITS, 3, axis=0), np.arange(3)


def test_thresholding_lets_the_rarest_class_win():
    found = rebalance.threshold(softmax(LOGITS, axis=1), COUNTS)
    np.testing.assert_allclose(found, [[0.037048, 0.136293, 0.826659]], atol=1e-6)


def test_thresholding_to_the_priors_of_the_labels_changes_nothing():
    probabilities = softmax(LOGITS, axis=1)
    np.testing.assert_allclose(
        rebalance.threshold(probabilities, COUNTS, target=rebalance.priors(COUNTS)), probabilities
    )


@pytest.mark.parametrize(
    ("strength", "expected"),
    [
        (0.5, [2.052180, 2.203473, 2.854765]),
        (1.0, [2.104360, 3.406945, 5.209530]),
        (2.0, [2.208720, 5.813890, 9.919060]),
    ],
)
def test_logits_are_adjusted_afterwards(strength, expected):
    np.testing.assert_allclose(
        rebalance.adjust(LOGITS, COUNTS, strength=strength), [expected], atol=1e-6
    )


def test_adjusting_by_1_is_thresholding():
    logits = np.random.default_rng(0).normal(size=(50, 3))
    adjusted = softmax(rebalance.adjust(logits, COUNTS), axis=1)
    np.testing.assert_allclose(adjusted, rebalance.threshold(softmax(logits, axis=1), COUNTS))


def test_balanced_softmax_is_the_loss_with_adjusted_logits():
    np.testing.assert_allclose(
        rebalance.losses(*EVERY_LABEL), [0.464369, 1.464369, 1.964369], atol=1e-6
    )
    balanced = rebalance.losses(*EVERY_LABEL, adjustment=rebalance.adjustment(COUNTS))
    np.testing.assert_allclose(balanced, [0.038277, 3.340862, 6.143447], atol=1e-5)
    weighed = COUNTS * np.exp(LOGITS[0])
    np.testing.assert_allclose(balanced, -np.log(weighed / weighed.sum()), rtol=1e-5)


@pytest.mark.parametrize(
    ("beta", "expected"),
    [
        (0.0, [1, 1, 1]),
        (0.9, [0.239329, 0.367442, 2.393229]),
        (0.99, [0.042237, 0.280044, 2.677719]),
        (0.999, [0.028363, 0.271256, 2.700381]),
        (0.9999, [0.027159, 0.270369, 2.702472]),
        (1.0, [0.027027, 0.270270, 2.702703]),
    ],
)
def test_weights_follow_the_effective_number(beta, expected):
    np.testing.assert_allclose(rebalance.effective_weights(COUNTS, beta=beta), expected, atol=1e-6)


def test_beta_close_to_1_is_not_lost_to_rounding():
    nearly, limit = (rebalance.effective_weights(COUNTS, beta=beta) for beta in (1 - 1e-12, 1.0))
    np.testing.assert_allclose(nearly, limit, rtol=1e-4)


@pytest.mark.parametrize(
    ("power", "expected"),
    [(1, [100 / 111, 10 / 111, 1 / 111]), (0.5, [0.706101, 0.223289, 0.070610]), (0, [1 / 3] * 3)],
)
def test_classes_are_drawn_by_a_power_of_their_counts(power, expected):
    np.testing.assert_allclose(rebalance.sampling(COUNTS, power=power), expected, atol=1e-6)
    np.testing.assert_allclose(
        rebalance.sampling_weights(COUNTS, power=power) * COUNTS / 111, expected, atol=1e-6
    )


def test_sampling_goes_from_rows_alike_to_classes_alike():
    assert rebalance.sampling(COUNTS, progress=0.0).tolist() == (COUNTS / 111).tolist()
    np.testing.assert_allclose(rebalance.sampling(COUNTS, progress=0.5), 0.5 * COUNTS / 111 + 1 / 6)


def test_retrained_classifiers_give_each_class_the_same_say():
    np.testing.assert_allclose(rebalance.sampling_weights(COUNTS), 111 / (3 * COUNTS))


def test_ldam_gives_rare_classes_the_larger_margin():
    margins = rebalance.ldam_margins(COUNTS)
    np.testing.assert_allclose(margins, [0.158114, 0.281171, 0.5], atol=1e-6)
    found = rebalance.ldam_losses(np.repeat([[0.6, 0.5, 0.4]], 3, axis=0), np.arange(3), margins)
    np.testing.assert_allclose(found, [1.946120, 11.437606, 21.048587], rtol=1e-5)


def test_weights_are_deferred_until_the_last_fifth():
    weights = rebalance.effective_weights(COUNTS, beta=0.9999)
    assert rebalance.deferred(weights, progress=0.79).tolist() == [1, 1, 1]
    assert rebalance.deferred(weights, progress=0.8).tolist() == weights.tolist()


@pytest.mark.parametrize(
    ("strength", "expected"), [(0.0, [5, 1, 1]), (0.5, [2.236068, 0.707107, 1]), (1.0, [1, 0.5, 1])]
)
def test_tau_normalisation_shortens_long_rows(strength, expected):
    coef = rebalance.tau_normalise(
        np.array([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]]), strength=strength
    )
    np.testing.assert_allclose(coef @ [1, 0.5], expected, atol=1e-6)


def test_a_class_without_labels_has_no_weight_and_no_probability():
    counts = np.array([5, 0, 5])
    for weights in (
        rebalance.effective_weights(counts),
        rebalance.sampling_weights(counts),
        rebalance.ldam_margins(counts),
    ):
        assert weights[1] == 0
        assert np.isfinite(weights).all()
    assert softmax(rebalance.adjust(np.array([[0.0, 50.0, 0.0]]), counts), axis=1).tolist() == [
        [0.5, 0.0, 0.5]
    ]
    assert rebalance.threshold(np.full((1, 3), 1 / 3), counts).tolist() == [[0.5, 0.0, 0.5]]
    masked = rebalance.losses(
        np.array([[1.0, 50.0, 2.0]]), np.array([2]), adjustment=rebalance.adjustment(counts)
    )
    np.testing.assert_allclose(masked, -log_softmax([1.0, 2.0])[1:], rtol=1e-5)


def test_one_class_alone_is_in_balance():
    for function in (
        rebalance.priors,
        rebalance.effective_weights,
        rebalance.sampling,
        rebalance.sampling_weights,
    ):
        assert function(np.array([0, 7])).tolist() == [0, 1]


def test_counts_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"not negative, but these classes are not: 1"):
        rebalance.priors(np.array([1, -1]))
    with pytest.raises(ValueError, match="no class has a label"):
        rebalance.effective_weights(np.zeros(3))
    with pytest.raises(ValueError, match=r"beta must lie between 0 and 1, got 1\.5"):
        rebalance.effective_weights(COUNTS, beta=1.5)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (
            lambda: rebalance.priors(COUNTS, smoothing=-1),
            "smoothing must lie between 0 and inf, got -1",
        ),
        (
            lambda: rebalance.adjustment(COUNTS, smoothing=np.nan),
            "smoothing must lie between 0 and inf, got nan",
        ),
        (
            lambda: rebalance.sampling(COUNTS, progress=3),
            "progress must lie between 0 and 1, got 3",
        ),
        (
            lambda: rebalance.sampling_weights(COUNTS, progress=-1),
            "progress must lie between 0 and 1, got -1",
        ),
        (
            lambda: rebalance.tau_normalise(np.eye(2), strength=-5),
            "strength must lie between 0 and 1, got -5",
        ),
        (
            lambda: rebalance.adjust(np.zeros((4, 2)), COUNTS),
            r"logits must have a number for each of 3 classes, got shape \(4, 2\)",
        ),
        (
            lambda: rebalance.threshold(np.ones((4, 2)), COUNTS),
            "probabilities must have a number for each of 3 classes",
        ),
        (
            lambda: rebalance.threshold(np.ones((4, 3)), COUNTS, target=np.ones(2)),
            "target must have a number for each of 3 classes",
        ),
        (
            lambda: rebalance.threshold(np.ones((1, 2)), np.ones(2), target=np.array([-1.0, 2.0])),
            r"not negative, but these classes are not: 0",
        ),
        (
            lambda: rebalance.counts_of(np.array([0, 2]), num_classes=2),
            r"labels must be in \[-1, 2\), but these rows are not: 1",
        ),
        (
            lambda: rebalance.threshold(np.eye(2), np.array([0, 3])),
            r"positive for a class with labels .* these rows are not: 0",
        ),
        (
            lambda: rebalance.threshold(np.full((1, 2), np.nan), np.ones(2)),
            r"must be finite, .* these rows are not: 0",
        ),
        (
            lambda: rebalance.losses(np.zeros((2, 3)), np.arange(3)),
            r"got shapes \(2, 3\), \(3,\) and \(3,\)",
        ),
        (
            lambda: rebalance.losses(np.zeros((2, 3)), np.arange(2), adjustment=np.zeros(2)),
            r"got shapes \(2, 3\), \(2,\) and \(2,\)",
        ),
        (
            lambda: rebalance.ldam_losses(np.zeros((2, 3)), np.arange(2), np.zeros(4)),
            r"got shapes \(2, 3\), \(2,\) and \(4,\)",
        ),
    ],
)
def test_what_has_no_meaning_is_refused_in_a_sentence(call, told):
    with pytest.raises(ValueError, match=told):
        call()


@pytest.mark.data
def test_all_values_of_the_vectors_are_met(shared):
    import json

    heads = json.loads((shared / "vectors" / "conformance_bc.json").read_text())["heads"]
    counts, logits = np.array(heads["n"]), np.array([heads["z"]])
    repeated, labels = np.repeat(logits, 3, axis=0), np.arange(3)
    np.testing.assert_allclose(
        rebalance.threshold(softmax(logits, axis=1), counts)[0], heads["threshold"], atol=1e-6
    )
    for strength, expected in heads["posthoc"].items():
        np.testing.assert_allclose(
            rebalance.adjust(logits, counts, strength=float(strength))[0], expected, atol=1e-6
        )
    for beta, expected in heads["cb_weights"].items():
        np.testing.assert_allclose(
            rebalance.effective_weights(counts, beta=float(beta)), expected, atol=1e-6
        )
    np.testing.assert_allclose(rebalance.losses(repeated, labels), heads["ce"], atol=1e-6)
    adjusted = rebalance.losses(repeated, labels, adjustment=rebalance.adjustment(counts))
    np.testing.assert_allclose(adjusted, heads["la_loss_tau1"], atol=1e-5)
    margins, cosines = rebalance.ldam_margins(counts), np.repeat([heads["ldam_cos"]], 3, axis=0)
    np.testing.assert_allclose(margins, heads["ldam_margins"], atol=1e-6)
    np.testing.assert_allclose(
        rebalance.ldam_losses(cosines, labels, margins), heads["ldam_loss_s30"], rtol=1e-5
    )
