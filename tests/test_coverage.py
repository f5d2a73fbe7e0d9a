import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

import balal


def features_of(seed, rows=64, size=8, offset=0.0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=(rows, size)) * scale + offset).astype(np.float32)


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (2, 3), (17, 2), (256, 32)])
def test_picks_and_radii_are_those_of_the_twin(rows, size):
    features = features_of(rows, rows, size)
    found = balal.k_center(jnp.asarray(features), rows, start=0)
    picks, radii = reference.k_center(features, rows, first=0)
    assert found.indices.tolist() == picks
    np.testing.assert_allclose(found.radii, radii, rtol=1e-5, atol=1e-6)


@given(seed=draws.integers(0, 10**6), labelled=draws.integers(0, 5), masked=draws.booleans())
def test_a_labelled_start_and_a_mask_are_kept(seed, labelled, masked):
    rng = np.random.default_rng(seed)
    features = features_of(seed, 24, 3)
    centres = rng.permutation(24)[:labelled]
    candidates = rng.random(24) < 0.7 if masked else np.ones(24, bool)
    candidates[centres] = True
    first = None if labelled else int(np.flatnonzero(candidates)[0]) if candidates.any() else None
    padded = np.concatenate([centres, np.full(6 - labelled, -1)])
    found = balal.k_center(jnp.asarray(features), 24, labelled=jnp.asarray(padded, jnp.int32), candidates=jnp.asarray(candidates))
    picks, radii = reference.k_center(features, 24, first=first, labelled=centres, candidates=candidates)
    assert found.indices.tolist() == picks
    np.testing.assert_allclose(found.radii, radii, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 100.0, 10_000.0])
def test_a_common_offset_costs_no_precision(offset):
    features = features_of(3, 500, 16, offset=offset)
    found = balal.k_center(jnp.asarray(features), 100, start=0)
    assert found.indices.tolist() == reference.k_center(features, 100, first=0)[0]


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1e3, 1e6])
def test_picks_do_not_depend_on_the_scale(scale):
    features = features_of(4, 200, 8)
    np.testing.assert_array_equal(
        balal.k_center(jnp.asarray(features), 50, start=0).indices,
        balal.k_center(jnp.asarray(features * np.float32(scale)), 50, start=0).indices,
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_radius_is_at_most_twice_the_best_possible(seed):
    features = features_of(seed, 11, 2)
    distances = np.linalg.norm(features[:, None] - features[None], axis=2)
    for budget in (1, 2, 3, 4):
        best = min(distances[:, list(centres)].min(axis=1).max() for centres in itertools.combinations(range(11), budget))
        assert balal.k_center(jnp.asarray(features), budget, start=0).radii[-1] <= 2 * best + 1e-6


def test_duplicates_are_picked_last_and_lowest_first():
    features = np.zeros((6, 2), np.float32)
    features[4] = 1
    found = balal.k_center(jnp.asarray(features), 6, start=2)
    assert found.indices.tolist() == [2, 4, 0, 1, 3, 5]
    assert found.radii.tolist()[1:] == [0.0] * 5


def test_the_first_pick_is_drawn_by_the_key_from_the_candidates():
    features = jnp.asarray(features_of(0, 30, 2))
    candidates = jnp.arange(30) % 3 == 0
    firsts = {int(balal.k_center(features, 1, key=jax.random.key(seed), candidates=candidates).indices[0]) for seed in range(40)}
    assert len(firsts) > 5
    assert all(first % 3 == 0 for first in firsts)


def test_the_key_does_not_matter_once_there_are_centres():
    features = jnp.asarray(features_of(0, 30, 2))
    first, second = (balal.k_center(features, 5, labelled=jnp.array([3]), key=jax.random.key(seed)).indices for seed in (0, 1))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_features_are_compared_in_float32(dtype):
    features = jnp.asarray(features_of(5, 100, 8), dtype)
    found, expected = balal.k_center(features, 20, start=0), balal.k_center(features.astype(jnp.float32), 20, start=0)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.radii, expected.radii)


def test_candidates_that_run_out_leave_padding():
    found = balal.k_center(jnp.asarray(features_of(0, 5, 2)), 4, start=1, candidates=jnp.array([False, True, True, False, False]))
    assert found.indices.tolist() == [1, 2, -1, -1]
    assert found.radii.tolist()[1:] == [0.0] * 3


def test_nowhere_to_begin_is_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match="pass labelled rows, start=row, or key="):
        balal.k_center(jnp.zeros((3, 2)), 2)


def test_extra_memory_is_a_few_rows_not_a_copy_of_the_features():
    features = jax.ShapeDtypeStruct((200_000, 128), jnp.float32)
    compiled = jax.jit(lambda features: balal.k_center(features, 50, start=0)).lower(features).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 200_000 * 4 * 16
