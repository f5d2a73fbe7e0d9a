"""The k nearest rows against a table of all pairs in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as draws

from balal.kernels import k_means, neighbours, typicality

# From a millionth to a million, so that nothing is rounded on the way.
SCALES = [2.0**-20, 1.0, 2.0**20]


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


@settings(max_examples=30)
@given(
    seed=draws.integers(0, 2**31 - 1),
    scale=draws.sampled_from(SCALES),
    offset=draws.sampled_from([0, 100, 10_000]),
    few=draws.booleans(),
)
def test_at_any_scale_and_offset_they_are_the_nearest_up_to_what_float32_can_tell(
    seed, scale, offset, few
):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(7, 4))[rng.integers(0, 7, 40)] if few else rng.normal(size=(40, 4))
    features, candidates = ((points + offset) * scale).astype(np.float32), rng.random(40) < 0.8
    found = neighbours.nearest(features, 6, candidates=candidates)
    exact = np.float64(features) - np.float64(features[candidates]).mean(axis=0)
    error = 8e-6 * np.square(exact).sum(axis=1).max()
    for row, expected in enumerate(reference.nearest(exact, 6, candidates)):
        squares = np.square(exact - exact[row]).sum(axis=1)
        assert row not in found.indices[row]
        assert candidates[found.indices[row]].all()
        reference.assert_level(found.indices[row].tolist(), expected, squares, error=error)
        np.testing.assert_allclose(
            np.square(np.float64(found.distances[row])), squares[expected], rtol=1e-5, atol=error
        )


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_what_has_no_unit_does_not_depend_on_the_scale(scale):
    features = np.random.default_rng(3).normal(size=(70, 4)).astype(np.float32)
    scaled, key = features * np.float32(scale), jax.random.key(2)
    found, far = neighbours.nearest(features, 3), neighbours.nearest(scaled, 3)
    np.testing.assert_array_equal(found.indices, far.indices)
    np.testing.assert_array_equal(found.distances * scale, far.distances)
    np.testing.assert_array_equal(typicality.typicality(found), typicality.typicality(far) * scale)
    np.testing.assert_array_equal(
        typicality.relative_typicality(found), typicality.relative_typicality(far)
    )
    begin = k_means.k_means_plus_plus(key, features, 5)
    np.testing.assert_array_equal(begin, k_means.k_means_plus_plus(key, scaled, 5))
    clusters, large = (
        k_means.k_means(features, features[begin]),
        k_means.k_means(scaled, scaled[begin]),
    )
    np.testing.assert_array_equal(clusters.assigned, large.assigned)
    np.testing.assert_array_equal(clusters.centers * scale, large.centers)
    assert int(clusters.rounds) == int(large.rounds) > 1


def test_any_size_of_block_and_tile_finds_the_same(monkeypatch):
    """128 points of a lattice around 0, where float32 is exact: ties are ties whatever is measured
    together."""
    half = np.random.default_rng(4).integers(-3, 4, (64, 3)).astype(np.float32)
    features, among = np.concatenate([half, -half]), jnp.arange(0, 128, 3)
    begin = jnp.asarray(features[:6])

    def found():
        # Functions anew: the sizes are no argument by which a compiled program could be told from
        # another.
        near = [
            jax.jit(lambda rows, some=some: neighbours.nearest.__wrapped__(rows, 4, among=some))(
                features
            )
            for some in (None, among)
        ]
        return near, jax.jit(lambda rows: k_means.k_means.__wrapped__(rows, begin, rounds=1))(
            features
        )

    expected = found()
    for size in (1, 7, 1_000):
        monkeypatch.setattr(neighbours, "_TABLE", size * len(features))
        monkeypatch.setattr(neighbours, "_TILE", size)
        monkeypatch.setattr(k_means, "_BLOCK", size)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            *map(jax.tree.leaves, (expected, found())),
        )


def test_pools_of_many_blocks_and_a_part_to_look_in(monkeypatch):
    monkeypatch.setattr(neighbours, "_TABLE", 600)
    features = np.random.default_rng(0).normal(size=(301, 3)).astype(np.float32)
    among = np.arange(0, 301, 2)
    found = neighbours.nearest(features, 5, among=among)
    mask = np.arange(301) % 2 == 0
    assert found.indices.tolist() == [
        [int(one) for one in row] for row in reference.nearest(np.float64(features), 5, mask)
    ]


@pytest.mark.parametrize("k", [1, 20, 90])
def test_ties_go_to_the_lowest_row(k):
    """256 points of a small lattice around 0, most of them several times: float32 is exact, and
    distances are tied across tiles."""
    half = np.random.default_rng(0).integers(-3, 4, (128, 2))
    features = np.concatenate([half, -half])
    expected = reference.nearest(np.float64(features), k, np.ones(256, bool))
    assert neighbours.nearest(jnp.array(features, jnp.float32), k).indices.tolist() == [
        [int(one) for one in row] for row in expected
    ]


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
    found = typicality.relative_typicality(neighbours.nearest(features, k, candidates=candidates))
    np.testing.assert_allclose(
        found, reference.relative_typicality(np.float64(features), k, candidates), rtol=1e-3
    )


def test_copies_are_as_typical_as_their_surroundings():
    features = jnp.array(
        np.repeat(np.random.default_rng(0).normal(size=(2, 5)), 4, axis=0) + 100, jnp.float32
    )
    np.testing.assert_array_equal(
        typicality.relative_typicality(neighbours.nearest(features, 3)), 1
    )


def test_a_rare_class_is_as_typical_as_a_frequent_one():
    rng = np.random.default_rng(0)
    frequent, rare = rng.normal(size=(400, 2)), 3 * rng.normal(size=(20, 2)) + 100
    found = typicality.relative_typicality(
        neighbours.nearest(jnp.array(np.concatenate([frequent, rare]), jnp.float32), 5)
    )
    assert abs(np.median(found[:400]) - np.median(found[400:])) < 0.1


def test_typicality_is_one_over_the_mean_distance():
    found = neighbours.nearest(
        jnp.array([[0.0], [2.0], [3.0], [3.0]]), 2, candidates=jnp.array([True, True, True, False])
    )
    np.testing.assert_allclose(
        typicality.typicality(found), [1 / 2.5, 1 / 1.5, 1 / 2, 2], rtol=1e-5
    )
    np.testing.assert_array_equal(
        typicality.typicality(neighbours.nearest(jnp.ones((1, 2)), 1)), [0]
    )
    np.testing.assert_array_equal(
        typicality.typicality(neighbours.nearest(jnp.ones((3, 2)), 2)), [np.inf] * 3
    )


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
    assert np.mean(clusters.assigned[candidates] == assigned[candidates]) > 0.95


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


def test_centres_without_rows_begin_anew_and_too_few_rows_are_taken_twice():
    features = jnp.array([[0.0], [1.0], [10.0], [11.0]])
    clusters = k_means.k_means(features, jnp.array([[0.5], [500.0], [600.0]]))
    assert float(clusters.inertia) == pytest.approx(0.5)
    assert sorted(np.bincount(clusters.assigned, minlength=3)) == [1, 1, 2]
    assert k_means.k_means_plus_plus(jax.random.key(0), jnp.ones((3, 2)), 3).tolist() in (
        [0, 0, 0],
        [1, 0, 0],
        [2, 0, 0],
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
    near = neighbours.nearest(padded, 3, candidates=candidates).indices[10:] - 10
    assert near.tolist() == neighbours.nearest(features, 3).indices.tolist()


@pytest.mark.parametrize(("shape", "k"), [((4, 2), 0), ((4, 2), 5)])
def test_wrong_shapes_and_numbers_are_refused(shape, k):
    with pytest.raises(ValueError, match="k between 1 and N"):
        k_means.k_means_plus_plus(jax.random.key(0), jnp.ones(shape), k)
