"""Lloyd's algorithm and its start against the plain ones in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal.kernels import k_means


@given(seed=draws.integers(0, 2**31 - 1), k=draws.sampled_from([1, 4, 9]))
def test_k_means_does_what_lloyd_does_in_float64(seed, k):
    rng = np.random.default_rng(seed)
    features, candidates = rng.normal(size=(60, 3)).astype(np.float32), rng.random(60) < 0.8
    begin = features[rng.permutation(np.flatnonzero(candidates))[:k]]
    clusters = k_means.k_means(features, begin, candidates=candidates, rounds=20, tolerance=0.0)
    centers, assigned, inertia = reference.k_means(
        np.float64(features), np.float64(begin), candidates, rounds=20
    )
    np.testing.assert_allclose(clusters.inertia, inertia, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(clusters.centers, centers, atol=1e-3)
    assert np.mean(np.asarray(clusters.assigned)[candidates] == assigned[candidates]) > 0.95


def test_k_means_is_as_good_as_that_of_scikit_learn():
    from sklearn.cluster import KMeans

    rng = np.random.default_rng(0)
    features = (
        3 * rng.normal(size=(12, 6))[rng.integers(0, 12, 1500)] + rng.normal(size=(1500, 6))
    ).astype(np.float32)
    begin = features[np.asarray(k_means.k_means_plus_plus(jax.random.key(0), features, 12))]
    ours, theirs = (
        k_means.k_means(features, begin),
        KMeans(12, init=begin, n_init=1, max_iter=100).fit(features),
    )
    np.testing.assert_allclose(ours.inertia, theirs.inertia_, rtol=1e-3)
    assert 1 < int(ours.rounds) < 100
    # Far from the origin nothing is lost.
    far = k_means.k_means(features + 1000, begin + 1000)
    np.testing.assert_allclose(far.inertia, ours.inertia, rtol=1e-3)


def test_the_start_of_k_means_covers_what_is_far_apart():
    """Blobs so far apart that any draw in proportion to squared distances takes one row of each."""
    rng = np.random.default_rng(1)
    blobs = np.repeat(np.arange(5), 40)
    features = (1e4 * np.eye(5)[blobs] + rng.normal(size=(200, 5))).astype(np.float32)
    for seed in range(5):
        rows = np.asarray(k_means.k_means_plus_plus(jax.random.key(seed), features, 5))
        assert sorted(blobs[rows]) == [0, 1, 2, 3, 4]


def test_the_start_of_k_means_draws_in_proportion_to_squared_distances():
    features = jnp.array([[0.0], [0.0], [0.0], [1.0], [2.0]])
    candidates = jnp.array([True, False, False, True, True])
    draw = jax.jit(
        jax.vmap(lambda key: k_means.k_means_plus_plus(key, features, 2, candidates=candidates))
    )
    rows = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert set(rows[:, 0]) == {0, 3, 4}
    after_the_first = rows[rows[:, 0] == 0, 1]
    assert abs(np.mean(after_the_first == 4) - 4 / 5) < 0.04


def test_no_round_leaves_the_centres_and_assigns_the_rows():
    features = jnp.array([[0.0], [1.0], [10.0]])
    clusters = k_means.k_means(features, features[1:], rounds=0)
    assert (clusters.assigned.tolist(), int(clusters.rounds)) == ([0, 0, 1], 0)
    assert float(clusters.inertia) == pytest.approx(1.0)


def test_centres_without_rows_start_again_and_too_few_rows_are_taken_twice():
    features = jnp.array([[0.0], [1.0], [10.0], [11.0]])
    clusters = k_means.k_means(features, jnp.array([[0.5], [500.0], [600.0]]))
    assert float(clusters.inertia) == pytest.approx(0.5)
    assert sorted(np.bincount(clusters.assigned, minlength=3)) == [1, 1, 2]
    some = jnp.array([True, False, True])
    drawn = k_means.k_means_plus_plus(jax.random.key(0), jnp.ones((3, 2)), 3, candidates=some)
    assert sorted(drawn.tolist()) == [0, 0, 2]


@pytest.mark.parametrize(("shape", "k"), [((4, 2), 0), ((4, 2), 5)])
def test_wrong_shapes_and_numbers_are_refused(shape, k):
    with pytest.raises(ValueError, match="k between 1 and N"):
        k_means.k_means_plus_plus(jax.random.key(0), jnp.ones(shape), k)


@given(
    seed=draws.integers(0, 2**31 - 1),
    shape=draws.sampled_from([(1, 1), (2, 2), (17, 5), (60, 20)]),
)
def test_the_start_of_k_means_is_that_of_the_twin_with_the_same_clocks(seed, shape):
    num_rows, k = shape
    rng, key = np.random.default_rng(seed), jax.random.key(seed)
    features, candidates = rng.normal(size=(num_rows, 3)), rng.random(num_rows) < 0.8
    candidates[0] = True
    bits = [jax.random.bits(jax.random.fold_in(key, number), num_rows) for number in range(k)]
    clocks = -np.log1p(-(np.float64(bits) + 0.5) * 2.0**-32)
    expected = reference.k_means_plus_plus(features, clocks, candidates)
    found = k_means.k_means_plus_plus(
        key, jnp.asarray(features, jnp.float32), k, candidates=jnp.asarray(candidates)
    )
    # Once all candidates are taken, distances are what rounding leaves of 0.
    taken = min(k, int(candidates.sum()))
    assert found.tolist()[:taken] == expected[:taken]


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_clusters_do_not_depend_on_the_scale(scale):
    features = np.random.default_rng(3).normal(size=(70, 4)).astype(np.float32)
    scaled, key = features * np.float32(scale), jax.random.key(2)
    begin = k_means.k_means_plus_plus(key, features, 5)
    np.testing.assert_array_equal(begin, k_means.k_means_plus_plus(key, scaled, 5))
    clusters, large = (
        k_means.k_means(features, features[begin]),
        k_means.k_means(scaled, scaled[begin]),
    )
    np.testing.assert_array_equal(clusters.assigned, large.assigned)
    np.testing.assert_array_equal(clusters.centers * scale, large.centers)
    assert int(clusters.rounds) == int(large.rounds) > 1


def test_any_size_of_block_finds_the_same(monkeypatch):
    half = np.random.default_rng(4).integers(-3, 4, (64, 3)).astype(np.float32)
    features = np.concatenate([half, -half])
    begin = jnp.asarray(features[:6])

    def found():
        # A function anew: the size is no argument by which a compiled program could be told from
        # another.
        return jax.jit(lambda rows: k_means.k_means.__wrapped__(rows, begin, rounds=1))(features)

    expected = found()
    for size in (1, 7, 1_000):
        monkeypatch.setattr(k_means, "_BLOCK", size)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            *map(jax.tree.leaves, (expected, found())),
        )


def test_rows_that_are_no_candidates_may_hold_anything():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(30, 2)).astype(np.float32)
    candidates = np.arange(40) >= 10
    padded = np.concatenate([np.full((10, 2), np.nan, np.float32), features])
    rows = k_means.k_means_plus_plus(jax.random.key(1), padded, 4, candidates=candidates)
    assert np.min(rows) >= 10
    plain = k_means.k_means(features, padded[np.asarray(rows)])
    masked = k_means.k_means(padded, padded[np.asarray(rows)], candidates=candidates)
    np.testing.assert_allclose(plain.inertia, masked.inertia, rtol=1e-5)
    assert plain.assigned.tolist() == masked.assigned[10:].tolist()
