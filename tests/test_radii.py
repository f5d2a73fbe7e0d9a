"""Radii against all pairs in float64."""

import numpy as np
import pytest
import reference

from balal.kernels import radii


@pytest.mark.parametrize("seed", range(3))
def test_radii_are_those_of_all_pairs(seed):
    rng = np.random.default_rng(seed)
    features, candidates = rng.normal(size=(70, 3)).astype(np.float32), rng.random(70) < 0.8
    classes, points = rng.integers(0, 3, 70), np.float64(features)
    found = radii.purity_radius(features, classes, purity=0.9, candidates=candidates)
    expected = reference.purity_radius(points, classes, purity=0.9, candidates=candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    labelled = np.array([1, 5, -1, 40, 41, 68, -1])
    found = radii.separation(features, labelled, candidates=candidates)
    expected = reference.separation(points, labelled[labelled >= 0], candidates=candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_a_sample_of_a_large_pool_gives_nearly_the_same_radius(monkeypatch):
    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(1100, 2)).astype(np.float32), rng.integers(0, 2, 1100)
    whole = reference.purity_radius(
        np.float64(features), classes, purity=0.5, candidates=np.ones(1100, bool)
    )
    found = float(radii.purity_radius(features, classes, purity=0.5))
    assert found == pytest.approx(whole, rel=0.05)


def test_near_copies_among_the_labels_do_not_shrink_the_radius_to_nothing():
    features = np.arange(40, dtype=np.float32)[:, None]
    features[1] = 0.2
    labelled = np.array([0, 1, 20, -1, -1, -1, -1])
    assert float(radii.separation(features, labelled, floor=0.5)) == 1
    # One label, or copies alone, have no distance.
    assert float(radii.separation(features, np.array([0, -1, -1, -1, -1, -1, -1]))) == 1
    features[1] = 0
    assert float(radii.separation(features, np.array([0, 1, -1, -1, -1, -1, -1]), lone=2.0)) == 2


def test_one_class_is_pure_at_any_radius():
    assert float(radii.purity_radius(np.eye(3, dtype=np.float32), np.zeros(3, int))) == np.inf


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match=r"purity must be above 0 and at most 1, got 1\.5"):
        radii.purity_radius(np.eye(3, dtype=np.float32), np.zeros(3, int), purity=1.5)
