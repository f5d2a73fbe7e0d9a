"""Pseudo-labels of the unlabelled pool."""

import numpy as np

from balal import metrics
from balal.heads import logistic, pseudo


def test_the_surest_of_each_class_are_taken_as_many_of_each_at_most():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(4, 0.05), 400)
    counts = np.array([9, 3, 0, 5])
    rows, classes = pseudo.propose(shares, counts, confidence=0.9)
    assert np.all(np.diff(rows) > 0)
    for label in range(4):
        mine = rows[classes == label]
        sure = np.flatnonzero((np.where(counts > 0, shares, 0).argmax(axis=1) == label) & (shares[:, label] >= 0.9))
        assert len(mine) == (min(5, len(sure)) if counts[label] else 0)
        if len(mine):
            assert shares[mine, label].min() >= np.sort(shares[sure, label])[-5]


def test_nothing_is_sure_enough():
    rows, classes = pseudo.propose(np.full((3, 2), 0.5), np.array([1, 1]))
    assert (len(rows), len(classes)) == (0, 0)


def test_a_pool_of_clear_clusters_helps_a_few_labels_and_is_not_counted():
    rng = np.random.default_rng(0)
    centres = 0.55 * rng.normal(size=(3, 30))

    def drawn(sizes):
        labels = np.repeat(np.arange(3), sizes)
        return centres[labels] + rng.normal(size=(len(labels), 30)), labels

    features, labels = drawn([6, 3, 3])
    pool, _ = drawn([300, 100, 60])
    test, answers = drawn([200, 200, 200])
    plain = logistic.fit(features, labels, num_classes=4)
    head = pseudo.fit(features, labels, pool, num_classes=4, confidence=0.8, rounds=2)
    assert head.counts.tolist() == [6, 3, 3]
    assert 3 not in head.classes

    def accuracy(head):
        return float(metrics.balanced_accuracy(answers, logistic.predict(head, test), num_classes=3))

    assert accuracy(head) > accuracy(plain)
