"""Distances as sums of squared differences and as products, and the error of the latter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal.kernels import distances


@pytest.mark.parametrize("offset", [0.0, 10_000.0])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_squared_distances_are_those_of_float64_however_far_from_zero(dtype, offset):
    features = jnp.asarray(np.random.default_rng(0).normal(size=(50, 7)) + offset, dtype)
    found = distances.squared_distances(features, features[4])
    np.testing.assert_allclose(found, reference.squared_distances(features, features[4]), rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 7, 8, 37])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_large_pool_is_measured_in_tiles_of_which_the_last_overlaps(monkeypatch, dtype, rows):
    features = jnp.array(np.random.default_rng(0).integers(-9, 9, (37, 5)), dtype)
    expected = distances.squared_distances(features, features[3])
    monkeypatch.setattr(distances, "_WHOLE", 0)
    monkeypatch.setattr(distances, "_TILE", rows * 5)
    assert distances.squared_distances(features, features[3]).tolist() == expected.tolist()
    assert float(expected[3]) == 0


@pytest.mark.parametrize("num_features", [3, 256, 512, 1280, 2048])
@pytest.mark.parametrize("kind", ["normal", "equal columns", "duplicates"])
def test_products_are_as_near_to_the_distances_as_promised(kind, num_features):
    rng = np.random.default_rng(num_features)
    points = rng.normal(size=(60, num_features))
    if kind == "equal columns":
        points = np.broadcast_to(points[:, :1], points.shape)
    elif kind == "duplicates":
        points = points[rng.integers(0, 9, 60)]
    points = jnp.asarray(points, jnp.float32)
    exact = np.square(np.float64(points)[:, None] - np.float64(points)[None]).sum(axis=2)
    lengths = distances.squared_lengths(points)
    lengths = lengths[:, None] + lengths[None, :]
    products = jnp.matmul(points, points.T, precision="highest")
    error = distances.product_error(num_features) * np.float64(lengths)
    upper = distances.upper_bounds(lengths, products, num_features=num_features)
    assert np.all(np.float64(upper) >= exact)
    assert np.all(np.float64(upper) <= exact + 2 * error)
    found = distances.told_apart(lengths, products, num_features=num_features)
    assert np.all(np.abs(np.float64(found) - exact) <= 2 * error)
    assert np.all(np.diag(found) == 0)


@given(
    seed=draws.integers(0, 2**31 - 1),
    num_rows=draws.sampled_from([1, 2, 40, 3000]),
    offset=draws.sampled_from([0, 1000]),
)
def test_middles_means_and_directions_are_those_of_the_twins(seed, num_rows, offset):
    rng = np.random.default_rng(seed)
    features = (rng.normal(size=(num_rows, 3)) + offset).astype(np.float32)
    candidates = rng.random(num_rows) < 0.7
    candidates[-1] = True
    middle = jax.jit(distances.middle)(jnp.asarray(features), jnp.asarray(candidates))
    np.testing.assert_allclose(middle, reference.middle(features, candidates), atol=2e-4)
    expected = reference.centred(features, candidates)
    points, lengths, (row, way) = jax.jit(distances.centred)(
        jnp.asarray(features), candidates=jnp.asarray(candidates)
    )
    np.testing.assert_allclose(points, expected, atol=2e-4)
    np.testing.assert_allclose(lengths, np.square(expected).sum(axis=1), atol=2e-2)
    mean = np.float64(features[candidates]).mean(axis=0)
    np.testing.assert_allclose(row + way, mean, atol=2e-4)
    if np.linalg.norm(expected, axis=1).min() > 0.1:
        found = jax.jit(distances.directions)(jnp.asarray(features), jnp.asarray(candidates))
        np.testing.assert_allclose(found, reference.directions(features, candidates), atol=1e-2)


def test_a_large_column_that_is_the_same_in_every_row_changes_no_direction():
    features = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    features[:, 3] = 0
    expected = distances.directions(jnp.asarray(features), jnp.ones(20, bool))
    # A time in seconds, say.
    features[:, 3] = 1.6e9
    found = distances.directions(jnp.asarray(features), jnp.ones(20, bool))
    np.testing.assert_array_equal(found, expected)


def test_rows_at_the_very_mean_all_have_the_same_direction():
    features = jnp.full((3, 4), 7.0).at[2, 0].set(jnp.nan)
    found = distances.directions(features, jnp.array([True, True, False]))
    np.testing.assert_allclose(found[:2], 0.5)
