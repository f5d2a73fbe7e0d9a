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


def left_out(features, labels):
    """What a process of all rows but one predicts for that one, [B, k], at the best temperature."""
    z = features - features.mean(axis=0)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    h = 1 - np.sum(np.square(z.mean(axis=0)))
    kernel = np.exp(-np.sum(np.square(z[:, None] - z[None]), axis=2) / (2 * h))
    own = labels[:, None] == np.unique(labels)
    predicted = np.empty(own.shape)
    for row in range(len(labels)):
        others = np.delete(np.arange(len(labels)), row)
        matrix = kernel[np.ix_(others, others)] + 0.3 * np.eye(len(others))
        predicted[row] = kernel[row, others] @ np.linalg.solve(matrix, own[others].astype(float))
    return tempered(predicted, own)


def tempered(logits, own):
    """Their softmax at that of many temperatures under which the labels are most likely."""
    shares = [
        np.exp(logits / t) / np.exp(logits / t).sum(axis=1, keepdims=True)
        for t in np.geomspace(0.02, 20, 20_001)
    ]
    return max(shares, key=lambda each: np.log(each[own]).mean())


def test_doubt_is_that_of_a_process_fitted_without_the_row():
    features, labels = clusters(30, spread=3.0)
    found = balal.suspects(features, 2 * labels)
    shares = left_out(features, labels)
    np.testing.assert_allclose(found.doubt, 1 - shares[np.arange(30), labels], atol=2e-3)
    assert found.said.tolist() == (2 * shares.argmax(axis=1)).tolist()
    assert found.order.tolist() == np.argsort(-found.doubt, kind="stable").tolist()


def test_a_second_opinion_has_the_share_under_which_the_labels_are_most_likely():
    features, labels = clusters(30, spread=3.0)
    own = np.eye(CLASSES, dtype=bool)[labels]
    probs = RNG.dirichlet(np.ones(CLASSES), 30) + own
    probs /= probs.sum(axis=1, keepdims=True)
    first, second = left_out(features, labels), tempered(np.log(probs), own)
    mixtures = [share * second + (1 - share) * first for share in np.linspace(0, 1, 10_001)]
    best = max(mixtures, key=lambda each: np.log(each[own]).mean())
    # Columns of classes without labels are no matter.
    wide = np.zeros((30, 2 * CLASSES))
    wide[:, ::2] = probs
    found = balal.suspects(features, 2 * labels, probs=wide)
    np.testing.assert_allclose(found.doubt, 1 - best[own], atol=5e-3)
    assert found.said.tolist() == (2 * best.argmax(axis=1)).tolist()


def test_an_opinion_that_knows_the_truth_is_followed_even_where_it_holds_labels_impossible():
    features, labels = clusters(100, spread=20.0)
    told = labels.copy()
    told[:10] = (told[:10] + 1) % CLASSES
    found = balal.suspects(features, told, probs=np.eye(CLASSES)[labels])
    assert sorted(found.order[:10].tolist()) == list(range(10))
    assert (found.said == labels).all()


def test_wrong_labels_come_first_and_the_right_class_is_said():
    features, labels = clusters(200)
    wrong = RNG.permutation(200)[:20]
    told = labels.copy()
    told[wrong] = (told[wrong] + RNG.integers(1, CLASSES, 20)) % CLASSES
    found = balal.suspects(features, told)
    first = found.order[:20]
    assert np.isin(first, wrong).mean() >= 0.9
    assert (found.said[wrong] == labels[wrong]).mean() >= 0.9


def mistaken(rows, share, spread=1.0, seed=0):
    """Clusters of which some labels are wrong, and which."""
    rng = np.random.default_rng(seed)
    features, labels = clusters(rows, spread)
    wrong = rng.random(rows) < share
    given = np.where(wrong, (labels + rng.integers(1, CLASSES, rows)) % CLASSES, labels)
    return features, given, wrong


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25])
def test_the_share_of_wrong_labels_is_found_and_so_are_they(share):
    features, labels, wrong = mistaken(300, share)
    found = balal.suspects(features, labels)
    assert found.wrong.mean() == pytest.approx(wrong.mean(), abs=0.05)
    named = np.zeros(300, bool)
    named[found.again] = True
    assert np.mean(named == wrong) > 0.94
    assert np.all(np.diff(found.wrong[found.again]) <= 0)


def test_how_probable_a_label_is_wrong_is_the_most_likely_of_all_shares_and_powers():
    """The twin: every share and every power of a fine grid."""
    features, labels, _ = mistaken(60, 0.2, spread=2.0, seed=1)
    found = balal.suspects(features, labels)
    predicted, own = left_out(features, labels), np.arange(60)
    best = (-np.inf, None)
    for power in np.exp(np.linspace(-1, 3, 201)):
        raised = predicted**power
        given = (raised / raised.sum(axis=1, keepdims=True))[own, labels]
        for share in np.linspace(0, 0.5, 501)[:-1]:
            both = (1 - share) * given + share / CLASSES
            likely = np.sum(np.log(both)) + 10 * np.log(1 - share)
            best = max(best, (likely, tuple(share / CLASSES / both)))
    np.testing.assert_allclose(found.wrong, best[1], atol=0.02)


def test_the_only_label_of_a_class_is_as_probably_wrong_as_any():
    features, labels, _ = mistaken(100, 0.2)
    labels[:1] = CLASSES
    found = balal.suspects(features, labels)
    assert 0.05 < found.wrong[0] < 0.4
    assert balal.suspects(features[:4], np.arange(4)).wrong.tolist() == [0.0] * 4


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


@pytest.mark.parametrize(
    ("probs", "said"),
    [
        (np.ones((3, 1)), r"a column for each class up to 1, got shape \(3, 1\)"),
        (np.ones((2, 2)) / 2, r"a row for each of 3 labels"),
        (np.ones((3, 2)), r"probs"),
    ],
)
def test_opinions_that_are_none_are_told(probs, said):
    with pytest.raises(ValueError, match=said):
        balal.suspects(np.eye(3), np.array([0, 1, 1]), probs=probs)
