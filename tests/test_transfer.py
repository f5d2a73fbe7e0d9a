import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal import transfer

RNG = np.random.default_rng(0)


def gaussian_evidence(features, target):
    """The largest log evidence a row over both precisions, from the density of all targets
    together."""
    values, vectors = np.linalg.eigh(features @ features.T)
    turned = np.square(vectors.T @ target)
    best = -np.inf
    for ratio in np.logspace(-8, 8, 3201):
        variance = 1 + np.maximum(values, 0) / (ratio * np.maximum(values, 0).mean())
        beta = len(target) / np.sum(turned / variance)
        found = 0.5 * (
            len(target) * np.log(beta / (2 * np.pi)) - np.sum(np.log(variance)) - len(target)
        )
        best = max(best, found / len(target))
    return best


@pytest.mark.parametrize("shape", [(60, 12), (30, 8), (12, 40)])
def test_log_evidence_is_that_of_all_targets_together(shape):
    features = RNG.normal(size=shape)
    labels = np.argmax(features[:, :3] + RNG.normal(size=(shape[0], 3)), axis=1)
    expected = np.mean([gaussian_evidence(features, (labels == c) * 1.0) for c in range(3)])
    assert transfer.log_evidence(features, labels)[0] == pytest.approx(expected, abs=2e-5)


def test_log_evidence_with_fewer_rows_than_features_is_that_of_knowing_nothing():
    # The published code leaves a term out here, and is far above.
    value, boundary = transfer.log_evidence(RNG.normal(size=(40, 512)), np.arange(40) % 4)
    nothing = 0.5 * (np.log(40 / 10) - 1 - np.log(2 * np.pi))
    assert value == pytest.approx(nothing, abs=0.01)
    assert boundary


def test_true_labels_have_more_evidence_than_shuffled_ones():
    labels = np.arange(200) % 5
    features = RNG.normal(size=(5, 20))[labels] + RNG.normal(size=(200, 20))
    right, _ = transfer.log_evidence(features, labels)
    wrong, _ = transfer.log_evidence(features, RNG.permutation(labels))
    assert right > wrong + 0.2


def test_a_class_that_is_not_there_has_no_say():
    features = RNG.normal(size=(30, 4))
    labels = np.arange(30) % 3
    assert transfer.log_evidence(features, labels) == transfer.log_evidence(features, 2 * labels)


def test_effective_classes_and_certainty_are_those_of_the_candidates():
    probs = np.full((40, 4), 0.1)
    probs[np.arange(40), np.repeat([0, 1, 2, 3], [20, 10, 5, 5])] = 0.7
    found = balal.transferability(balal.pool(None, probs=probs))
    assert found.source_classes == pytest.approx(3.363586, abs=1e-5)
    assert found.certainty == pytest.approx(0.7, abs=1e-6)
    assert (found.agreement, found.logme) == (None, None)
    few = balal.pool(None, probs=probs, candidates=np.arange(40) < 20)
    assert balal.transferability(few).source_classes == pytest.approx(1)


def test_agreement_is_1_where_classes_lie_apart_and_0_by_chance():
    labels = np.repeat(np.arange(4), 15)
    apart = balal.pool((10.0 * np.eye(4)[labels] + RNG.normal(size=(60, 4))).astype(np.float32))
    assert balal.transferability(apart, labels).labelled_agreement == 1
    noise = balal.pool(RNG.normal(size=(60, 4)).astype(np.float32))
    assert abs(balal.transferability(noise, labels).labelled_agreement) < 0.15


def test_only_labelled_rows_count():
    labels = np.repeat(np.arange(4), 15)
    features = (10.0 * np.eye(4)[labels] + RNG.normal(size=(60, 4))).astype(np.float32)
    some = np.where(np.arange(60) % 3 == 0, labels, -1)
    rows = some >= 0
    found = balal.transferability(balal.pool(features), some)
    alone = balal.transferability(balal.pool(features[rows]), labels[rows])
    assert found.logme == pytest.approx(alone.logme, abs=1e-9)
    assert found.labelled_agreement == alone.labelled_agreement == 1


@pytest.mark.parametrize("labels", [np.zeros(6, int), np.array([0, 1, -1, -1, -1, -1])])
def test_one_class_or_one_label_of_each_say_nothing_of_neighbours(labels):
    pool = balal.pool(RNG.normal(size=(6, 2)).astype(np.float32))
    assert balal.transferability(pool, labels).labelled_agreement is None


def test_wrong_labels_are_refused():
    pool = balal.Pool(jnp.eye(4))
    with pytest.raises(ValueError, match=r"labels must be \[N\] for the 4 rows"):
        balal.transferability(pool, np.zeros(3, int))
    with pytest.raises(ValueError, match=r"one label for each row, got shapes"):
        transfer.log_evidence(np.eye(3), np.zeros(2, int))
