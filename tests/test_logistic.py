"""The softmax regression head, against scikit-learn's."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

from balal.heads import fitting, logistic, rebalance


def clusters(
    seed: int, sizes: list[int], *, distance: float = 2.0, width: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clusters of the given sizes around centres of norm `distance`, and their labels."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.random.default_rng(99).normal(size=(len(sizes), width))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[labels] + np.random.default_rng(seed).normal(size=(len(labels), width)), labels


def reference(features, labels, C, weights=None) -> LogisticRegression:
    return LogisticRegression(C=C, tol=1e-8, max_iter=10_000).fit(
        features, labels, sample_weight=weights
    )


def objective(coef, intercept, features, labels, C, weights=None, shift=0.0) -> float:
    """What `LogisticRegression` makes small."""
    logits = features @ coef.T + intercept + shift
    losses = (
        logsumexp(logits, axis=1)
        - logits[np.arange(len(labels)), np.searchsorted(np.unique(labels), labels)]
    )
    return float(0.5 * np.sum(coef**2) + C * np.sum(losses * (1 if weights is None else weights)))


@pytest.mark.parametrize("C", [0.01, 1.0, 1000.0])
def test_head_is_scikit_learns_logistic_regression(C):
    features, labels = clusters(0, [50, 20, 10])
    head, machine = (
        logistic.fit(features, labels, num_classes=3, C=C),
        reference(features, labels, C),
    )
    ours, theirs = (
        objective(coef, free, features, labels, C)
        for coef, free in ((head.coef, head.intercept), (machine.coef_, machine.intercept_))
    )
    assert ours == pytest.approx(theirs, rel=1e-4)
    np.testing.assert_allclose(
        logistic.probabilities(head, features), machine.predict_proba(features), atol=5e-3
    )
    assert head.converged


def test_weights_of_classes_are_scikit_learns_sample_weights():
    features, labels = clusters(0, [50, 20, 10])
    weights = rebalance.effective_weights(np.bincount(labels), beta=0.9)[labels]
    head, machine = (
        logistic.fit(features, labels, num_classes=3, C=1.0, weights=weights),
        reference(features, labels, 1.0, weights),
    )
    np.testing.assert_allclose(
        logistic.probabilities(head, features), machine.predict_proba(features), atol=5e-3
    )


def test_weight_two_is_the_row_twice_and_weight_zero_none():
    features, labels = clusters(0, [30, 20, 10])
    weights = np.r_[np.full(10, 2), np.zeros(5), np.ones(45)]
    rows = np.repeat(np.arange(60), weights.astype(int))
    weighted = logistic.fit(features, labels, num_classes=3, C=1.0, weights=weights)
    plain = logistic.fit(features[rows], labels[rows], num_classes=3, C=1.0)
    np.testing.assert_allclose(
        logistic.probabilities(weighted, features),
        logistic.probabilities(plain, features),
        atol=2e-3,
    )


def test_every_fold_is_a_fit_of_its_own():
    features, labels = clusters(0, [50, 20, 10])
    head = logistic.fit(features, labels, num_classes=3, C=[0.01, 1.0], folds=4)
    fold = fitting.folds_of(80, 4, 0)
    for value, accuracy in head.accuracies:
        machines = [
            reference(features[fold != number], labels[fold != number], value)
            for number in range(4)
        ]
        right = [
            machine.predict(features[fold == number]) == labels[fold == number]
            for number, machine in enumerate(machines)
        ]
        assert accuracy == pytest.approx(np.concatenate(right).mean(), abs=0.013)  # one row
    np.testing.assert_allclose(
        head.coef, logistic.fit(features, labels, num_classes=3, C=head.C).coef, atol=5e-3
    )


def test_held_out_probabilities_are_those_of_heads_fitted_to_the_other_folds():
    features, labels = clusters(0, [40, 20, 10, 1])
    found = logistic.held_out(features, 2 * labels, num_classes=8, C=1.0, folds=4)
    fold = fitting.folds_of(71, 4, 0)
    expected = np.zeros((71, 8))
    for number in range(4):
        kept, left = fold != number, fold == number
        machine = reference(features[kept], 2 * labels[kept], 1.0)
        expected[np.ix_(left, machine.classes_)] = machine.predict_proba(features[left])
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_balanced_softmax_finds_more_of_the_rare_class():
    features, labels = clusters(0, [200, 10], distance=0.7)
    test_features, test_labels = clusters(1, [200, 200], distance=0.7)
    shift = rebalance.adjustment(np.bincount(labels))
    plain, moved = (
        logistic.fit(features, labels, num_classes=2),
        logistic.fit(features, labels, num_classes=2, adjustment=shift),
    )
    accuracy = [
        np.mean(logistic.predict(head, test_features) == test_labels) for head in (plain, moved)
    ]
    assert accuracy[1] > accuracy[0] + 0.1
    # What the loss adds the intercept, which is free, takes away.
    np.testing.assert_allclose(
        np.diff(plain.intercept), np.diff(moved.intercept + shift), atol=0.02
    )


def test_adjusting_afterwards_is_the_same_move_for_a_free_intercept():
    features, labels = clusters(0, [60, 20])
    shift = rebalance.adjustment(np.bincount(labels))
    plain, moved = (
        logistic.fit(features, labels, num_classes=2),
        logistic.fit(features, labels, num_classes=2, adjustment=shift),
    )
    after = rebalance.adjust(logistic.logits(plain, features), plain.counts).argmax(axis=1)
    assert np.mean(after == logistic.predict(moved, features)) >= 0.98


def test_absent_classes_are_never_predicted_and_a_lone_label_survives_its_fold():
    features, labels = clusters(0, [12, 0, 1, 5])
    head = logistic.fit(
        features, labels, num_classes=4, C=[0.1, 1.0], calibrate=True, balanced=True
    )
    assert head.classes.tolist() == [0, 2, 3]
    assert all(accuracy <= 2 / 3 + 1e-9 for _, accuracy in head.accuracies)
    assert 0 < head.temperature < np.inf
    assert set(logistic.predict(head, np.random.default_rng(1).normal(size=(50, 8))).tolist()) <= {
        0,
        2,
        3,
    }


def test_one_class_is_predicted_always():
    head = logistic.fit(
        np.eye(3), np.array([4, 4, 4]), num_classes=10, C=[1.0, 10.0], calibrate=True
    )
    assert logistic.predict(head, np.eye(3)).tolist() == [4, 4, 4]
    assert logistic.probabilities(head, np.eye(3)).tolist() == [[1.0]] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(weights=np.array([1.0, -1.0, 1.0])), r"none negative .* wrong rows: \[1\]"),
        (dict(weights=np.zeros(3)), "not all 0"),
        (dict(adjustment=np.zeros(2)), r"a number for each of 3 classes, got shape \(2,\)"),
        (
            dict(adjustment=np.array([0, np.nan, -np.inf])),
            r"adjustment must be finite .* these classes are not: 1, 2",
        ),
        (dict(C=-1.0), "C must be positive"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        logistic.fit(np.eye(3), np.arange(3), num_classes=3, **options)


def test_the_adjustment_of_a_class_without_labels_does_not_matter():
    first, second = (
        logistic.fit(np.eye(2), np.arange(2), num_classes=3, adjustment=np.array([0, 0, last]))
        for last in (0, -np.inf)
    )
    np.testing.assert_array_equal(first.coef, second.coef)


def test_labels_that_nobody_gave_judge_nothing_and_are_not_counted():
    features, labels = clusters(0, [30, 30], distance=8.0)
    given = np.arange(60) % 3 > 0
    wrong = np.where(given, labels, 1 - labels)
    options = dict(
        num_classes=2, C=[0.1, 1.0], folds=5, calibrate=True, weights=np.where(given, 1.0, 0.0)
    )
    head, everything = (
        logistic.fit(features, wrong, given=mask, **options) for mask in (given, None)
    )
    assert head.counts.tolist() == [20, 20]
    assert [accuracy for _, accuracy in head.accuracies] == [1.0, 1.0]
    assert [accuracy for _, accuracy in everything.accuracies] == pytest.approx([2 / 3] * 2)
    assert head.temperature < everything.temperature
    with pytest.raises(
        ValueError, match="given must be one boolean for each row, some of them true"
    ):
        logistic.fit(features, labels, num_classes=2, given=np.zeros(60, bool))
