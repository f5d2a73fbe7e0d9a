import numpy as np
import pytest
from scipy.special import softmax

import balal

CLASSES = 4


def clusters(rows, spread):
    labels, rng = np.arange(rows) % CLASSES, np.random.default_rng(0)
    centres = 3 * rng.normal(size=(CLASSES, 6))
    return 5 + centres[labels] + spread * rng.normal(size=(rows, 6)), labels


def variances(features, labels, *, C, checkpoints, steps):
    """Every gradient of every checkpoint written down, in float64."""
    rows = features - features.mean(axis=0)
    rows = rows / np.sqrt(np.mean(np.sum(rows**2, axis=1)))
    own = np.eye(CLASSES)[labels]
    inputs = np.hstack([rows, np.ones((len(rows), 1))])
    rate = 1 / (1 + C / 2 * np.linalg.norm(inputs, 2) ** 2)
    weights = ahead = np.zeros((CLASSES, 7))
    kept = []
    for number in range(checkpoints * steps):
        slope = C * (softmax(inputs @ ahead.T, axis=1) - own).T @ inputs
        slope[:, :-1] += ahead[:, :-1]
        before, weights = weights, ahead - rate * slope
        ahead = weights + number / (number + 3) * (weights - before)
        if (number + 1) % steps == 0:
            kept.append((softmax(inputs @ weights.T, axis=1) - own) @ weights[:, :-1])
    return np.sum(np.var(kept, axis=0), axis=1)


@pytest.mark.parametrize(
    "options", [dict(C=10.0, checkpoints=20, steps=10), dict(C=0.5, checkpoints=3, steps=1)]
)
def test_variance_is_that_of_the_gradients_written_down(options):
    features, labels = clusters(40, spread=3.0)
    found = balal.gradient_variance(features, 3 * labels, **options)
    expected = variances(features, labels, **options)
    np.testing.assert_allclose(found.variance, expected, rtol=1e-3, atol=1e-5 * expected.max())
    assert found.order.tolist() == np.argsort(-found.variance, kind="stable").tolist()


def test_wrong_labels_are_among_the_first_whatever_the_scale():
    features, labels = clusters(200, spread=1.0)
    wrong = np.arange(0, 200, 10)
    labels[wrong] = (labels[wrong] + 1) % CLASSES
    found = balal.gradient_variance(1000 * features, labels)
    assert np.isin(found.order[:20], wrong).mean() >= 0.9


def test_a_single_class_and_equal_rows_have_no_gradients_to_vary():
    assert (
        balal.gradient_variance(np.ones((3, 2)), np.array([0, 1, 1])).variance.tolist() == [0] * 3
    )
    assert balal.gradient_variance(np.eye(3), np.array([5, 5, 5])).variance.tolist() == [0] * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [(dict(C=0), r"C must"), (dict(checkpoints=1), r"checkpoints"), (dict(steps=0), r"steps")],
)
def test_training_that_is_none_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        balal.gradient_variance(np.eye(2), np.array([0, 1]), **options)
