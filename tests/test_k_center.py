import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as draws
from variations import some

import balal
from balal.kernels.k_center import greedy, lazy

# So small that a pool of a few dozen rows goes through every branch of the lazy search.
SMALL = lazy.Sizes(pool=12, tile=5, block=6, chunk=3, early=4)
# From a millionth to a million, so that nothing is rounded on the way and ties stay ties.
SCALES = [2.0**-20, 2.0**-10, 1.0, 2.0**10, 2.0**20]


@partial(jax.jit, static_argnames=("budget", "sizes"))
def lazily(features, budget, labelled=None, candidates=None, start=None, key=None, sizes=SMALL):
    """`k_center` with a search that is lazy however small the pool."""
    return greedy.search(
        features,
        budget,
        labelled=labelled,
        candidates=candidates,
        start=start,
        key=key,
        sizes=sizes,
    )[0]


def check_replay(features, found, labelled=(), candidates=None, start=None, share=1e-5):
    """Each pick is, in float64, as far from its nearest centre as the farthest candidate, and the
    radii are the distances they claim."""
    features = np.asarray(features, np.float64)
    candidates = np.ones(len(features), bool) if candidates is None else np.asarray(candidates)
    left, nearest = candidates.copy(), np.full(len(features), np.inf)
    for row in labelled:
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
        left[row] = False
    for place, (row, radius) in enumerate(
        zip(np.asarray(found.indices), np.asarray(found.radii), strict=True)
    ):
        if not left.any():
            assert (row, radius) == (-1, 0)
            continue
        assert left[row], f"pick {place} is row {row}, which may not be picked"
        if np.isfinite(nearest[row]) and not (place == 0 and row == start):
            assert nearest[row] >= (1 - share) * nearest[left].max(), f"pick {place}"
        left[row] = False
        nearest = np.minimum(nearest, np.linalg.norm(features - features[row], axis=1))
        np.testing.assert_allclose(
            radius, nearest[candidates].max(), rtol=share, err_msg=f"radius {place}"
        )


def features_of(seed, rows=64, size=8, offset=0.0, scale=1.0):
    return (np.random.default_rng(seed).normal(size=(rows, size)) * scale + offset).astype(
        np.float32
    )


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
    found = balal.k_center(
        jnp.asarray(features),
        24,
        labelled=jnp.asarray(padded, jnp.int32),
        candidates=jnp.asarray(candidates),
    )
    picks, radii = reference.k_center(
        features, 24, first=first, labelled=centres, candidates=candidates
    )
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


@settings(max_examples=200)
@given(
    seed=draws.integers(0, 10**6), spread=draws.sampled_from([1, 2, 1_000]), masked=draws.booleans()
)
@pytest.mark.parametrize("sizes", [None, SMALL], ids=["plain", "lazy"])
def test_the_radius_is_at_most_twice_the_best_possible(sizes, seed, spread, masked):
    """Points of a lattice, on a small one some of them several times; one run has the radii of all
    budgets up to its own."""
    rng = np.random.default_rng(seed)
    features = rng.integers(-spread, spread + 1, (11, 2)).astype(np.float32)
    candidates = rng.random(11) < 0.7 if masked else np.ones(11, bool)
    rows = np.flatnonzero(candidates)
    distances = np.linalg.norm(features[rows, None] - features[None, rows], axis=2)
    radii = lazily(
        jnp.asarray(features), 4, None, jnp.asarray(candidates), int(rng.integers(11)), sizes=sizes
    ).radii
    for budget in range(1, min(4, len(rows)) + 1):
        centres = np.array(list(itertools.combinations(range(len(rows)), budget)))
        best = distances[:, centres].min(axis=2).max(axis=0).min()
        assert radii[budget - 1] <= 2 * best * (1 + 1e-6)


@pytest.mark.parametrize(
    ("sizes", "budgets"), [(None, (0, 1, 17)), (SMALL, (17,))], ids=["plain", "lazy"]
)
def test_a_smaller_budget_buys_the_first_picks_of_a_larger_one(sizes, budgets):
    features = jnp.asarray(features_of(7, 40, 3))
    whole = lazily(features, 40, start=5, sizes=sizes)
    for budget in budgets:
        part = lazily(features, budget, start=5, sizes=sizes)
        np.testing.assert_array_equal(part.indices, whole.indices[:budget])
        np.testing.assert_allclose(part.radii, whole.radii[:budget], rtol=1e-6)


def test_duplicates_are_picked_last_and_lowest_first():
    features = np.zeros((6, 2), np.float32)
    features[4] = 1
    found = balal.k_center(jnp.asarray(features), 6, start=2)
    assert found.indices.tolist() == [2, 4, 0, 1, 3, 5]
    assert found.radii.tolist()[1:] == [0.0] * 5


def test_the_first_pick_is_drawn_by_the_key_from_the_candidates():
    features = jnp.asarray(features_of(0, 30, 2))
    candidates = jnp.arange(30) % 3 == 0
    firsts = {
        int(balal.k_center(features, 1, key=jax.random.key(seed), candidates=candidates).indices[0])
        for seed in range(40)
    }
    assert len(firsts) > 5
    assert all(first % 3 == 0 for first in firsts)


def test_the_key_does_not_matter_once_there_are_centres():
    features = jnp.asarray(features_of(0, 30, 2))
    first, second = (
        balal.k_center(features, 5, labelled=jnp.array([3]), key=jax.random.key(seed)).indices
        for seed in (0, 1)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("dtype", some([jnp.float16, jnp.bfloat16], kept=[jnp.float16]))
def test_half_precision_features_are_compared_in_float32(dtype):
    features = jnp.asarray(features_of(5, 100, 8), dtype)
    found, expected = (
        balal.k_center(features, 20, start=0),
        balal.k_center(features.astype(jnp.float32), 20, start=0),
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.radii, expected.radii)


def test_candidates_that_run_out_leave_padding():
    found = balal.k_center(
        jnp.asarray(features_of(0, 5, 2)),
        4,
        start=1,
        candidates=jnp.array([False, True, True, False, False]),
    )
    assert found.indices.tolist() == [1, 2, -1, -1]
    assert found.radii.tolist()[1:] == [0.0] * 3


def test_nowhere_to_begin_is_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match="pass labelled rows, start=row, or key="):
        balal.k_center(jnp.zeros((3, 2)), 2)


def test_extra_memory_is_a_few_rows_not_a_copy_of_the_features():
    features = jax.ShapeDtypeStruct((200_000, 128), jnp.float32)
    compiled = (
        jax.jit(lambda features: balal.k_center(features, 500, start=0)).lower(features).compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 200_000 * 4 * 16


KINDS = {
    "normal": lambda rng: rng.normal(size=(40, 3)),
    "grid": lambda rng: rng.integers(-2, 3, size=(40, 3)),
    "grid far from zero": lambda rng: rng.integers(-2, 3, size=(40, 3)) + 10_000,
    "duplicates": lambda rng: rng.normal(size=(7, 3))[rng.integers(0, 7, 40)],
    "duplicates far from zero": lambda rng: (
        rng.normal(size=(7, 3))[rng.integers(0, 7, 40)] + 10_000
    ),
    "all equal": lambda rng: np.ones((40, 3)) * rng.normal(),
    "far from zero": lambda rng: rng.normal(size=(40, 3)) + 10_000,
    "two clusters far apart": lambda rng: (
        rng.normal(size=(40, 3)) + rng.choice([-10_000, 10_000], size=(40, 1))
    ),
    "clusters tighter than products can tell": lambda rng: (
        rng.normal(size=(5, 3))[rng.integers(0, 5, 40)] + 1e-4 * rng.normal(size=(40, 3))
    ),
    "a line with outliers": lambda rng: (
        np.where(rng.random((40, 3)) < 0.05, 1e4, 1.0) * rng.normal(size=(40, 1))
    ),
}


@given(
    seed=draws.integers(0, 10**6),
    kind=draws.sampled_from(list(KINDS)),
    scale=draws.sampled_from(SCALES),
    labelled=draws.integers(0, 6),
    masked=draws.booleans(),
)
@pytest.mark.parametrize("sizes", [None, SMALL], ids=["plain", "lazy"])
def test_either_search_picks_what_exact_arithmetic_picks(
    sizes, seed, kind, scale, labelled, masked
):
    rng = np.random.default_rng(seed)
    features = KINDS[kind](rng).astype(np.float32) * np.float32(scale)
    centres, start = rng.permutation(40)[:labelled], int(rng.integers(-1, 40))
    candidates = rng.random(40) < 0.7 if masked else np.ones(40, bool)
    padded = rng.permutation(np.concatenate([centres, np.full(30 - labelled, -1)])).astype(np.int32)
    found = lazily(
        jnp.asarray(features), 40, jnp.asarray(padded), jnp.asarray(candidates), start, sizes=sizes
    )
    check_replay(features, found, centres, candidates, start)
    free = candidates & ~np.isin(np.arange(40), centres)
    if kind.startswith(("grid", "duplicates", "all equal")) and free.any():
        # Ties are exact here, also in the twin, so the order is, too.
        first = (
            start
            if start >= 0 and free[start]
            else int(np.flatnonzero(free)[0])
            if not labelled
            else None
        )
        assert (
            found.indices.tolist()
            == reference.k_center(
                features, 40, first=first, labelled=centres, candidates=candidates
            )[0]
        )


@pytest.mark.parametrize("dtype", some([jnp.float16, jnp.bfloat16], kept=[jnp.float16]))
@pytest.mark.parametrize("offset", some([0, 100], kept=[100]))
def test_the_lazy_search_compares_half_precision_in_float32(dtype, offset):
    # Half precision leaves few different values far from zero: many ties.
    features = jnp.asarray(features_of(6, 90, 4, offset=offset), dtype)
    found = lazily(features, 60, start=3)
    assert (
        found.indices.tolist() == reference.k_center(features.astype(jnp.float32), 60, first=3)[0]
    )


@pytest.mark.parametrize("rows", some([1, 5, 6, 12, 13, 25], kept=[6, 13]))
def test_the_lazy_search_is_right_where_a_pool_just_fills_its_blocks(rows):
    features = features_of(rows, rows, 4)
    found = lazily(jnp.asarray(features), rows, start=0)
    assert found.indices.tolist() == reference.k_center(features, rows, first=0)[0]
    check_replay(features, found, start=0)


@pytest.mark.parametrize("size", some([1, 7, 1_000], kept=[7]))
def test_how_much_the_search_looks_at_changes_no_pick(size):
    features = jnp.asarray(clustered(300, 5))
    expected = balal.k_center(features, 200, start=3)
    found = lazily(
        features,
        200,
        start=3,
        sizes=lazy.Sizes(pool=size, tile=size, block=size, chunk=size, early=size),
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.radii, expected.radii, rtol=1e-6)


def clustered(rows, size, clusters=20):
    rng = np.random.default_rng(rows)
    return np.maximum(
        rng.normal(size=(clusters, size))[rng.integers(0, clusters, rows)]
        + rng.normal(size=(rows, size)),
        0,
    ).astype(np.float32)


@pytest.mark.parametrize("offset", some([0, 1_000], kept=[1_000]))
@pytest.mark.slow
def test_a_pool_of_many_blocks_is_searched_exactly(offset):
    features = clustered(12_000, 48) + np.float32(offset)
    found = lazily(jnp.asarray(features), 400, start=7, sizes=lazy.SIZES)
    check_replay(features, found, start=7)
    assert set(found.indices.tolist()) == set(reference.k_center(features, 400, first=7)[0])


def test_a_whole_pool_is_picked_lazily_then_plainly():
    features = np.repeat(clustered(1_100, 6), 2, axis=0)
    found = lazily(jnp.asarray(features), 2_200, start=0, sizes=lazy.SIZES)
    assert sorted(found.indices.tolist()) == list(range(2_200))
    check_replay(features, found, start=0, share=2e-5)
    assert found.radii[1_100:].tolist() == [0.0] * 1_100, (
        "the second of each pair lies 0 apart from the first"
    )


def test_ties_beyond_a_pool_go_to_the_lowest_row():
    # 9,000 rows at ten places: every choice is among hundreds at once, most of them outside the
    # block and the pool.
    features = clustered(10, 8)[np.arange(9_000) % 10]
    found = lazily(jnp.asarray(features), 80, start=0, sizes=lazy.SIZES)
    assert found.indices.tolist() == reference.k_center(features, 80, first=0)[0]


@pytest.mark.parametrize("labelled", some([0, 60], kept=[60]))
def test_a_radius_that_collapses_is_followed_exactly(labelled):
    # One row of each of 30 clusters is picked; then the bounds of all rows are far too large, those
    # of many pools.
    rng = np.random.default_rng(labelled)
    features = (
        50 * rng.normal(size=(30, 8))[np.arange(600) % 30] + rng.normal(size=(600, 8))
    ).astype(np.float32)
    centres = rng.permutation(600)[:labelled]
    found = lazily(
        jnp.asarray(features),
        90,
        jnp.asarray(np.append(centres, -1), jnp.int32),
        start=None if labelled else 5,
    )
    assert len(set(found.indices.tolist())) == 90
    check_replay(features, found, centres, start=None if labelled else 5)


def test_a_long_record_that_is_mostly_padding_changes_nothing():
    features = jnp.asarray(clustered(100, 8))
    rows = jnp.array([5, 77, 30], jnp.int32)
    padded = jnp.full(1_000, -1, jnp.int32).at[jnp.array([0, 500, 999])].set(rows)
    short, long = (lazily(features, 70, labelled) for labelled in (rows, padded))
    np.testing.assert_array_equal(short.indices, long.indices)
    np.testing.assert_array_equal(short.radii, long.radii)


def test_the_lazy_search_is_the_same_vmapped():
    features = jnp.asarray(features_of(8, 60, 4))
    starts = jnp.array([0, 17, 59])
    together = jax.vmap(lambda start: lazily(features, 50, start=start))(starts)
    for start, picks, radii in zip(starts, together.indices, together.radii, strict=True):
        alone = lazily(features, 50, start=start)
        np.testing.assert_array_equal(picks, alone.indices)
        np.testing.assert_allclose(radii, alone.radii, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_values_that_have_no_distance_end_nevertheless(bad):
    features = features_of(9, 40, 3)
    features[11] = bad
    assert lazily(
        jnp.asarray(features), 40, jnp.full(30, -1, jnp.int32), jnp.ones(40, bool), 0
    ).indices.shape == (40,)


def test_rows_that_may_not_be_picked_do_not_matter():
    features = features_of(10, 40, 3)
    candidates = np.arange(40) % 4 != 0
    expected = lazily(
        jnp.asarray(features), 40, jnp.full(30, -1, jnp.int32), jnp.asarray(candidates), 1
    )
    features[~candidates] = np.nan
    found = lazily(
        jnp.asarray(features), 40, jnp.full(30, -1, jnp.int32), jnp.asarray(candidates), 1
    )
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_array_equal(found.radii, expected.radii)


def test_only_large_work_is_searched_lazily():
    # The lazy program is long to compile; its products over a block are what tells it from the
    # plain one.
    def products(rows, budget):
        features = jax.ShapeDtypeStruct((rows, 256), jnp.float32)
        return (
            jax.jit(lambda features: balal.k_center(features, budget, start=0))
            .lower(features)
            .as_text()
            .count("dot_general")
        )

    assert products(17_168, 100) == 0
    assert products(17_168, 2_000) > 0
