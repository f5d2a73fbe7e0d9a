"""The k nearest rows against a table of all pairs in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as draws

from balal.kernels import k_means, neighbours

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


def test_pools_of_many_blocks_and_a_part_to_look_in(monkeypatch):
    monkeypatch.setattr(neighbours, "_TABLE", 600)
    features = np.random.default_rng(0).normal(size=(301, 3)).astype(np.float32)
    among = np.arange(0, 301, 2)
    found = neighbours.nearest(features, 5, among=among)
    mask = np.arange(301) % 2 == 0
    assert found.indices.tolist() == [
        [int(one) for one in row] for row in reference.nearest(np.float64(features), 5, mask)
    ]


def clusters_of(features, number, rounds=5):
    return k_means.k_means(features, features[:number], rounds=rounds)


@pytest.mark.parametrize("block", [40, 2**22])
def test_with_everything_within_reach_of_clusters_the_nearest_are_found(monkeypatch, block):
    monkeypatch.setattr(neighbours, "_TABLE", block)
    features = np.random.default_rng(5).normal(size=(203, 3)).astype(np.float32) + 50
    among, candidates = np.arange(1, 203, 2), np.arange(203) % 5 > 0
    for number in (1, 7):
        own = dict(among=among, candidates=candidates)
        clusters = clusters_of(features, number)
        found = neighbours.nearest(features, 6, **own, clusters=clusters, reach=200)
        expected = neighbours.nearest(features, 6, **own)
        np.testing.assert_array_equal(found.indices, expected.indices)
        np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-4)


def test_only_what_is_within_reach_of_a_cluster_is_found():
    """The twin: the nearest of the rows nearest to the centre of one's cluster."""
    features = np.random.default_rng(6).normal(size=(150, 4)).astype(np.float32)
    clusters = clusters_of(features, 6)
    found = neighbours.nearest(features, 3, clusters=clusters, reach=32)
    there = np.float64(features)
    for row, cluster in enumerate(np.asarray(clusters.assigned)):
        centre = np.asarray(clusters.centers)[cluster]
        within = np.argsort(np.square(there - centre).sum(1))[:32]
        within = within[within != row]
        nearest = within[np.argsort(np.square(there[within] - there[row]).sum(1))[:3]]
        assert found.indices[row].tolist() == nearest.tolist()


def test_most_of_the_nearest_are_found_by_cluster():
    rng = np.random.default_rng(7)
    centres = rng.normal(size=(40, 8))
    features = (centres[rng.integers(40, size=3000)] + 0.5 * rng.normal(size=(3000, 8))).astype(
        np.float32
    )
    found = neighbours.nearest(features, 5, clusters=clusters_of(features, 60), reach=300)
    exact = neighbours.nearest(features, 5)
    same = np.asarray(found.indices)[:, :, None] == np.asarray(exact.indices)[:, None, :]
    assert same.any(axis=2).mean() > 0.95


def test_clusters_of_another_table_and_a_reach_below_k_are_refused():
    features = np.random.default_rng(8).normal(size=(20, 2)).astype(np.float32)
    clusters = clusters_of(features, 2)
    with pytest.raises(ValueError, match="clusters must be those of the 19 rows"):
        neighbours.nearest(features[1:], 2, clusters=clusters)
    with pytest.raises(ValueError, match=r"shape \(20, 2\) for features of shape \(20, 1\)"):
        neighbours.nearest(features[:, :1], 2, clusters=clusters)
    with pytest.raises(ValueError, match="reach must be at least k, got 1 and k=2"):
        neighbours.nearest(features, 2, clusters=clusters, reach=1)


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


@pytest.mark.parametrize("scale", [2.0**-20, 2.0**20])
def test_the_nearest_do_not_depend_on_the_scale(scale):
    features = np.random.default_rng(3).normal(size=(70, 4)).astype(np.float32)
    found, far = (
        neighbours.nearest(features, 3),
        neighbours.nearest(features * np.float32(scale), 3),
    )
    np.testing.assert_array_equal(found.indices, far.indices)
    np.testing.assert_array_equal(found.distances * scale, far.distances)


def test_any_size_of_block_and_tile_finds_the_same(monkeypatch):
    """128 points of a lattice around 0, where float32 is exact: ties are ties whatever is measured
    together."""
    half = np.random.default_rng(4).integers(-3, 4, (64, 3)).astype(np.float32)
    features, among = np.concatenate([half, -half]), jnp.arange(0, 128, 3)

    def found():
        # Functions anew: the sizes are no argument by which a compiled program could be told from
        # another.
        return [
            jax.jit(lambda rows, some=some: neighbours.nearest.__wrapped__(rows, 4, among=some))(
                features
            )
            for some in (None, among)
        ]

    expected = found()
    for size in (1, 7, 1_000):
        monkeypatch.setattr(neighbours, "_TABLE", size * len(features))
        monkeypatch.setattr(neighbours, "_TILE", size)
        jax.tree.map(
            partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
            *map(jax.tree.leaves, (expected, found())),
        )


def test_rows_that_are_no_candidates_may_hold_anything():
    features = np.random.default_rng(2).normal(size=(30, 2)).astype(np.float32)
    candidates = np.arange(40) >= 10
    padded = np.concatenate([np.full((10, 2), np.nan, np.float32), features])
    near = neighbours.nearest(padded, 3, candidates=candidates).indices[10:] - 10
    assert near.tolist() == neighbours.nearest(features, 3).indices.tolist()
