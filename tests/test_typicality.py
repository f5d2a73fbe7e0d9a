"""How central a row lies among its neighbours, against tables of all pairs in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal.kernels import neighbours, typicality

# They run inside jit.
relative_typicality = jax.jit(typicality.relative_typicality)
plain_typicality = jax.jit(typicality.typicality)


@given(seed=draws.integers(0, 2**31 - 1), shape=draws.sampled_from([(1, 1), (6, 9), (30, 3)]))
def test_relative_typicality_is_that_of_the_whole_table(seed, shape):
    size, k = shape
    rng = np.random.default_rng(seed)
    features, candidates = rng.normal(size=(size, 3)).astype(np.float32), rng.random(size) < 0.8
    found = relative_typicality(neighbours.nearest(features, k, candidates=candidates))
    np.testing.assert_allclose(
        found, reference.relative_typicality(np.float64(features), k, candidates), rtol=1e-3
    )


def test_copies_are_as_typical_as_their_surroundings():
    features = jnp.array(
        np.repeat(np.random.default_rng(0).normal(size=(2, 5)), 4, axis=0) + 100, jnp.float32
    )
    np.testing.assert_array_equal(relative_typicality(neighbours.nearest(features, 3)), 1)


def test_a_rare_class_is_as_typical_as_a_frequent_one():
    rng = np.random.default_rng(0)
    frequent, rare = rng.normal(size=(400, 2)), 3 * rng.normal(size=(20, 2)) + 100
    found = relative_typicality(
        neighbours.nearest(jnp.array(np.concatenate([frequent, rare]), jnp.float32), 5)
    )
    assert abs(np.median(found[:400]) - np.median(found[400:])) < 0.1


@given(seed=draws.integers(0, 2**31 - 1), shape=draws.sampled_from([(1, 1), (6, 9), (30, 3)]))
def test_typicality_is_one_over_the_mean_distance(seed, shape):
    num_rows, k = shape
    rng = np.random.default_rng(seed)
    features, candidates = (
        rng.normal(size=(num_rows, 3)).astype(np.float32),
        rng.random(num_rows) < 0.8,
    )
    found = plain_typicality(neighbours.nearest(features, k, candidates=candidates))
    expected = reference.typicality(np.float64(features), k, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_copies_are_infinitely_typical():
    found = plain_typicality(neighbours.nearest(jnp.ones((3, 2)), 2))
    np.testing.assert_array_equal(found, [np.inf] * 3)


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_relative_typicality_does_not_depend_on_the_scale(scale):
    features = np.random.default_rng(3).normal(size=(70, 4)).astype(np.float32)
    near, far = (
        neighbours.nearest(features, 3),
        neighbours.nearest(features * np.float32(scale), 3),
    )
    np.testing.assert_array_equal(typicality.typicality(near), typicality.typicality(far) * scale)
    np.testing.assert_array_equal(relative_typicality(near), relative_typicality(far))


def test_typicality_ranks_the_candidates():
    rng = np.random.default_rng(8)
    features, candidates = rng.normal(size=(60, 4)), rng.random(60) < 0.7
    features[~candidates] *= 50
    found = typicality.typicality_ranks(
        jnp.array(features, jnp.float32), candidates=jnp.array(candidates)
    )
    np.testing.assert_allclose(
        found[candidates], reference.typicality_ranks(features, candidates)[candidates], atol=0.05
    )
    assert np.all((found >= 0) & (found <= 1))


def test_large_pools_look_for_neighbours_among_some_candidates(monkeypatch):
    rng = np.random.default_rng(9)
    features = rng.normal(size=(90, 2)).astype(np.float32)
    padded, some = (
        np.concatenate([features, rng.normal(size=(900, 2)).astype(np.float32)]),
        np.arange(990) < 90,
    )
    whole = typicality.typicality_ranks(features)
    monkeypatch.setattr(typicality, "AMONG", 60)
    typicality.surroundings.clear_cache()
    thinned, masked = (
        typicality.typicality_ranks(features),
        typicality.typicality_ranks(padded, candidates=some),
    )
    few = typicality.typicality_ranks(padded, candidates=np.arange(990) < 40)
    typicality.surroundings.clear_cache()
    assert 0.4 < np.corrcoef(whole, thinned)[0, 1] < 1
    # One place of ninety: neighbours are rounded around another mean.
    np.testing.assert_allclose(thinned, masked[:90], atol=0.012)
    # Fewer candidates than are looked among: all of them are.
    np.testing.assert_allclose(few[:40], typicality.typicality_ranks(features[:40]), atol=0.026)
