"""The cosine head with margins and deferred weights."""

import numpy as np
import pytest

from balal.heads import ldam


def clusters(sizes, seed=0, width=6, spread=0.6):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.random.default_rng(99).normal(size=(len(sizes), width))
    return centres[labels] / np.linalg.norm(
        centres[labels], axis=1, keepdims=True
    ) + spread * rng.normal(size=(len(labels), width)), labels


def test_the_loss_falls_and_jumps_where_the_weights_come_in():
    features, labels = clusters([60, 20, 3])
    head = ldam.fit(features, labels, num_classes=3, steps=100)
    assert head.losses[78] < 0.7 * head.losses[0]
    assert abs(head.losses[80] - head.losses[79]) > 5 * abs(head.losses[79] - head.losses[78])
    np.testing.assert_allclose(np.linalg.norm(head.coef, axis=1), 1)


def test_rare_classes_are_found_more_often_than_without_margins_and_weights():
    features, labels = clusters([300, 8, 8])
    test, answers = clusters([200, 200, 200], seed=1)
    plain = ldam.fit(features, labels, num_classes=3, largest=0.0, beta=0.0)
    rare = answers > 0
    with_all = ldam.fit(features, labels, num_classes=3)
    assert (
        np.mean(ldam.predict(with_all, test)[rare] == answers[rare])
        > np.mean(ldam.predict(plain, test)[rare] == answers[rare]) + 0.02
    )


def test_the_length_of_rows_and_unseen_classes_do_not_count():
    features, labels = clusters([20, 10])
    head = ldam.fit(features, 3 * labels, num_classes=6, steps=30)
    longer = ldam.fit(
        features * np.linspace(1, 9, 30)[:, None], 3 * labels, num_classes=6, steps=30
    )
    np.testing.assert_allclose(head.coef, longer.coef, atol=1e-4)
    assert set(ldam.predict(head, features)) <= {0, 3}


def test_what_cannot_be_fitted_is_reported():
    with pytest.raises(ValueError, match="no labelled rows"):
        ldam.fit(np.zeros((0, 3)), np.zeros(0, int), num_classes=2)
    with pytest.raises(ValueError, match="at least one step, got 0"):
        ldam.fit(np.eye(2), np.arange(2), num_classes=2, steps=0)
    with pytest.raises(ValueError, match=r"fitted on 2 columns, and these features have shape"):
        ldam.predict(ldam.fit(np.eye(2), np.arange(2), num_classes=2, steps=1), np.eye(3))
