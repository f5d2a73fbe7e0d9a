"""The k nearest rows against a table of all pairs in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal import neighbours


@given(seed=draws.integers(0, 2**31 - 1), shape=draws.sampled_from([(1, 1), (5, 7), (40, 6)]))
def test_they_are_those_of_the_whole_table(seed, shape):
    size, k = shape
    rng = np.random.default_rng(seed)
    features, candidates = rng.normal(size=(size, 4)).astype(np.float32), rng.random(size) < 0.7
    found = neighbours.nearest(features, k, candidates=candidates)
    assert found.indices.shape == found.distances.shape == (size, k)
    for row, expected in enumerate(reference.nearest(np.float64(features), k, candidates)):
        assert found.indices[row].tolist() == [*expected, *[-1] * (k - len(expected))]
        exact = np.linalg.norm(np.float64(features)[expected] - features[row], axis=1)
        np.testing.assert_allclose(found.distances[row, : len(expected)], exact, atol=2e-3)
        assert np.isinf(found.distances[row, len(expected) :]).all()


def test_pools_of_many_blocks_and_a_part_to_look_in(monkeypatch):
    monkeypatch.setattr(neighbours, "_TABLE", 600)
    features = np.random.default_rng(0).normal(size=(301, 3)).astype(np.float32)
    among = np.arange(0, 301, 2)
    found = neighbours.nearest(features, 5, among=among)
    mask = np.arange(301) % 2 == 0
    assert found.indices.tolist() == [[int(one) for one in row] for row in reference.nearest(np.float64(features), 5, mask)]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_half_precision_and_offsets_are_taken(dtype):
    features = jnp.array(np.random.default_rng(1).permutation(64).reshape(16, 4), dtype)
    plain = neighbours.nearest(features, 3)
    far = neighbours.nearest(features.astype(jnp.float32) + 10_000, 3)
    np.testing.assert_allclose(plain.distances, far.distances, rtol=1e-3)


def test_duplicates_are_at_no_distance():
    found = neighbours.nearest(jnp.array([[1.0, 2.0], [1.0, 2.0], [7.0, 7.0]]), 1)
    assert found.indices[:2, 0].tolist() == [1, 0]
    np.testing.assert_allclose(found.distances[:2, 0], 0, atol=1e-3)


@given(seed=draws.integers(0, 2**31 - 1), shape=draws.sampled_from([(1, 1), (6, 9), (30, 3)]))
def test_relative_typicality_is_that_of_the_whole_table(seed, shape):
    size, k = shape
    rng = np.random.default_rng(seed)
    features, candidates = rng.normal(size=(size, 3)).astype(np.float32), rng.random(size) < 0.8
    found = neighbours.relative_typicality(neighbours.nearest(features, k, candidates=candidates))
    np.testing.assert_allclose(found, reference.relative_typicality(np.float64(features), k, candidates), rtol=1e-3)


def test_copies_are_as_typical_as_their_surroundings():
    features = jnp.array(np.repeat(np.random.default_rng(0).normal(size=(2, 5)), 4, axis=0) + 100, jnp.float32)
    np.testing.assert_array_equal(neighbours.relative_typicality(neighbours.nearest(features, 3)), 1)


def test_a_rare_class_is_as_typical_as_a_frequent_one():
    rng = np.random.default_rng(0)
    frequent, rare = rng.normal(size=(400, 2)), 3 * rng.normal(size=(20, 2)) + 100
    found = neighbours.relative_typicality(neighbours.nearest(jnp.array(np.concatenate([frequent, rare]), jnp.float32), 5))
    assert abs(np.median(found[:400]) - np.median(found[400:])) < 0.1
