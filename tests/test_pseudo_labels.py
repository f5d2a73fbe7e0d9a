"""Pseudo-labels: which rows are taken, and what a head learns from them."""

import numpy as np
import pytest

from balal.heads import logistic, pseudo_labels, rebalance


def test_the_surest_rows_are_taken_as_many_of_each_class():
    probabilities = np.array(
        [[0.96, 0.04], [0.99, 0.01], [0.98, 0.02], [0.01, 0.99], [0.6, 0.4], [0.04, 0.96]]
    )
    found = pseudo_labels.choose(probabilities, most=2)
    assert found.rows.tolist() == [1, 2, 3, 5]
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.confidence.tolist() == [0.99, 0.98, 0.99, 0.96]


def test_equals_go_to_the_lowest_row_and_nobody_sure_gives_none():
    assert pseudo_labels.choose(np.array([[1.0, 0.0]] * 3), most=2).rows.tolist() == [0, 1]
    assert pseudo_labels.choose(np.full((4, 2), 0.5), most=2).rows.tolist() == []


def test_a_pool_of_clusters_teaches_a_head_more_than_its_few_labels():
    chance = np.random.default_rng(0)
    centres = 2.5 * np.eye(3, 16)

    def draw(sizes):
        labels = np.repeat(np.arange(3), sizes)
        return centres[labels] + chance.normal(size=(len(labels), 16)), labels

    (features, labels), (pool, _), (test, answers) = (
        draw([30, 12, 10]),
        draw([600, 200, 60]),
        draw([500] * 3),
    )
    shift = rebalance.adjustment(rebalance.counts_of(labels, num_classes=5))
    alone = logistic.fit(features, labels, num_classes=5, C=0.1, adjustment=shift)
    head, found = pseudo_labels.fit(
        features, labels, pool, num_classes=5, C=0.1, most=50, confidence=0.8
    )
    assert head.counts.sum() == len(labels), "pseudo-labels are not counted"
    assert np.bincount(found.labels, minlength=5).max() <= 50
    assert set(found.labels.tolist()) <= {0, 1, 2}
    assert np.mean(logistic.predict(head, test) == answers) > np.mean(
        logistic.predict(alone, test) == answers
    )


def test_what_is_chosen_by_held_out_labels_is_chosen_before_there_are_pseudo_labels():
    chance = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [40, 6, 4])
    features, pool = (
        2 * np.eye(3, 8)[labels] + chance.normal(size=(50, 8)),
        4 * np.eye(3, 8)[np.arange(90) % 3],
    )
    options = dict(num_classes=3, C=[0.01, 1.0, 100.0], folds=5)
    shift = rebalance.adjustment(rebalance.counts_of(labels, num_classes=3))
    alone = logistic.fit(
        features, labels, calibrate=True, balanced=True, adjustment=shift, **options
    )
    for rounds in (1, 2):
        head, found = pseudo_labels.fit(
            features, labels, pool, confidence=0.8, rounds=rounds, **options
        )
        assert len(found.rows) > 0
        assert (head.C, head.accuracies, head.temperature) == (
            alone.C,
            alone.accuracies,
            alone.temperature,
        )
        assert not np.allclose(head.coef, alone.coef)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="confidence must be a probability, got 2"):
        pseudo_labels.choose(np.eye(2), most=1, confidence=2.0)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        pseudo_labels.choose(np.eye(2), most=-1)
    with pytest.raises(ValueError, match="at least one round, got 0"):
        pseudo_labels.fit(np.eye(2), np.arange(2), np.eye(2), num_classes=2, rounds=0)
