import numpy as np
import pytest

import balal
from balal import label_errors

RNG = np.random.default_rng(0)
CLASSES = 5


def clusters(rows, spread=1.0):
    labels = np.arange(rows) % CLASSES
    centres = 3 * RNG.normal(size=(CLASSES, 8))
    return centres[labels] + spread * RNG.normal(size=(rows, 8)), labels


def left_out(features, labels, row):
    """The shares of the classes in what a process of all rows but one predicts for that one."""
    z = features - features.mean(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    h = 1 - np.sum(np.square(z.mean(axis=0)))
    kernel = np.exp(-np.sum(np.square(z[:, None] - z[None]), axis=2) / (2 * h))
    others = np.delete(np.arange(len(labels)), row)
    matrix = kernel[np.ix_(others, others)] + 0.1 * np.eye(len(others))
    classes = np.unique(labels)
    targets = (labels[others][:, None] == classes).astype(float)
    predicted = kernel[row, others] @ np.linalg.solve(matrix, targets)
    shares = np.exp(predicted / 0.1)
    return classes, shares / shares.sum()


def test_doubt_is_that_of_a_process_fitted_without_the_row():
    features, labels = clusters(30, spread=3.0)
    labels = 2 * labels
    found = balal.suspects(features, labels)
    for row in range(30):
        classes, shares = left_out(features, labels, row)
        own = shares[classes == labels[row]][0]
        assert found.doubt[row] == pytest.approx(1 - own, abs=1e-6)
        assert found.said[row] == classes[shares.argmax()]
    assert found.order.tolist() == np.argsort(-found.doubt, kind="stable").tolist()


def test_wrong_labels_come_first_and_the_right_class_is_said():
    features, labels = clusters(200)
    wrong = RNG.permutation(200)[:20]
    told = labels.copy()
    told[wrong] = (told[wrong] + RNG.integers(1, CLASSES, 20)) % CLASSES
    found = balal.suspects(features, told)
    first = found.order[:20]
    assert np.isin(first, wrong).mean() >= 0.9
    assert (found.said[wrong] == labels[wrong]).mean() >= 0.9


def test_many_labels_are_judged_in_groups(monkeypatch):
    features, labels = clusters(90)
    labels[3] = (labels[3] + 1) % CLASSES
    whole = balal.suspects(features, labels)
    monkeypatch.setattr(label_errors, "_TOGETHER", 40)
    parts = balal.suspects(features, labels)
    assert whole.order[0] == parts.order[0] == 3
    expected = balal.suspects(features[1::3], labels[1::3])
    assert np.allclose(parts.doubt[1::3], expected.doubt)


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2]])
def test_equal_rows_and_single_labels_are_no_error(labels):
    found = balal.suspects(np.ones((3, 2)), np.array(labels))
    assert np.isfinite(found.doubt).all()
    assert sorted(found.order.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("features", "labels", "said"),
    [
        (np.ones((3, 2)), np.zeros(2, int), r"one class for each of at least two rows"),
        (np.ones((1, 2)), np.zeros(1, int), r"at least two rows"),
        (np.ones((2, 2)), np.array([0, -1]), r"must not be negative, but row 1 has -1"),
        (np.array([[1.0], [np.nan]]), np.zeros(2, int), r"features must be finite, but row 1"),
    ],
)
def test_what_cannot_be_judged_is_told(features, labels, said):
    with pytest.raises(ValueError, match=said):
        balal.suspects(features, labels)
