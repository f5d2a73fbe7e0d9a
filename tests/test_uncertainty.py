import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

import balal
from balal.kernels import uncertainty

NAMES = ("entropy", "margin", "least_confidence")


def random_logits(seed, rows, classes, scale=3.0):
    return np.random.default_rng(seed).normal(size=(rows, classes)).astype(np.float32) * scale


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (2, 3), (17, 5), (256, 100), (200, 1000), (3, 40_000)]
)
def test_scores_agree_with_softmax_in_float64(shape):
    logits = random_logits(0, *shape)
    expected, found = reference.scores(logits), balal.score(jnp.asarray(logits))
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), expected[name], rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(found.predicted, expected["predicted"])


@given(
    seed=draws.integers(0, 10**6),
    scale=draws.sampled_from([0.0, 1e-6, 1e-3, 1.0, 30.0, 1e3, 1e6]),
    offset=draws.sampled_from([0.0, 100.0, -10_000.0]),
    masked=draws.booleans(),
)
def test_scores_agree_with_the_twin_at_any_scale_and_offset_on_ties_and_masked_classes(
    seed, scale, offset, masked
):
    rng = np.random.default_rng(seed)
    logits = (np.round(rng.normal(size=(17, 5)) * 2) * scale + offset).astype(np.float32)
    if masked:
        logits[:, 1:][rng.random((17, 4)) < 0.5] = -np.inf
    expected, found = reference.scores(logits), balal.score(jnp.asarray(logits))
    for name in NAMES:
        np.testing.assert_allclose(getattr(found, name), expected[name], rtol=2e-5, atol=2e-6)
    np.testing.assert_array_equal(found.predicted, expected["predicted"])


def test_ten_thousand_rows_whose_softmax_rounds_to_one_are_ranked_by_their_logits():
    lead = np.linspace(20, 80, 10_000).astype(np.float32)
    order = np.random.default_rng(0).permutation(len(lead))
    logits = np.zeros((len(lead), 4), np.float32)
    logits[:, 2] = lead[order]
    assert np.all(np.asarray(jax.nn.softmax(jnp.asarray(logits)))[:, 2] == 1.0)
    for score in (balal.entropy, balal.margin, balal.least_confidence):
        values = np.asarray(score(jnp.asarray(logits)))
        assert len(np.unique(values)) == len(lead)
        np.testing.assert_array_equal(np.argsort(-values), np.argsort(lead[order]))


def test_certain_rows_keep_full_relative_precision():
    lead = np.array([15.0, 40.0, 80.0])
    logits = jnp.asarray(np.stack([lead, np.zeros(3), np.zeros(3)], axis=1), jnp.float32)
    np.testing.assert_allclose(balal.least_confidence(logits), 2 * np.exp(-lead), rtol=1e-5)
    np.testing.assert_allclose(balal.margin(logits), 3 * np.exp(-lead), rtol=1e-5)
    np.testing.assert_allclose(balal.entropy(logits), 2 * np.exp(-lead) * (1 + lead), rtol=1e-5)


def test_logarithms_of_probabilities_are_logits():
    probs = jnp.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
    np.testing.assert_allclose(
        balal.entropy(jnp.log(probs)), [0.0, np.log(2), 1.0296530140645737], rtol=1e-6
    )
    np.testing.assert_allclose(balal.margin(jnp.log(probs)), [0.0, 1.0, 0.8], rtol=1e-6)


@pytest.mark.parametrize("row", [[np.inf, 0.0, 0.0], [0.0, np.nan, 1.0], [-np.inf] * 3])
def test_rows_that_are_no_logits_score_nan(row):
    logits = jnp.array([row, [1.0, 2.0, 3.0]])
    found = jax.jit(balal.score)(logits)
    for name in NAMES:
        assert np.isnan(getattr(found, name)).tolist() == [True, False]
    assert 0 <= int(found.predicted[0]) < 3
    # Where values are known they are told of instead.
    for name in (*NAMES, "score"):
        with pytest.raises(ValueError, match=r"logits may be -inf but not NaN, .* and row 0 is so"):
            getattr(balal, name)(logits)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    logits = jnp.asarray(random_logits(1, 64, 10), dtype)
    found, expected = balal.score(logits), balal.score(logits.astype(jnp.float32))
    for name in NAMES:
        assert getattr(found, name).dtype == jnp.float32
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_each_score_is_the_one_of_the_single_pass():
    logits = jnp.asarray(random_logits(2, 100, 7))
    together = balal.score(logits)
    for name in NAMES:
        np.testing.assert_array_equal(getattr(balal, name)(logits), getattr(together, name))


def test_rows_do_not_depend_on_their_neighbours():
    logits = jnp.asarray(random_logits(3, 130, 9))
    whole, part = balal.score(logits), balal.score(logits[:67])
    for name in (*NAMES, "predicted"):
        np.testing.assert_array_equal(getattr(whole, name)[:67], getattr(part, name))


def test_an_offset_common_to_the_classes_of_a_row_changes_nothing():
    logits = np.round(random_logits(4, 50, 9) * 8) / 8
    plain, moved = (
        balal.score(jnp.asarray(logits)),
        balal.score(jnp.asarray(logits + np.linspace(-10_000, 10_000, 50).round()[:, None])),
    )
    for name in (*NAMES, "predicted"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(moved, name))


@pytest.mark.parametrize("rows", [1, 7, 64, 1_000])
def test_any_number_of_rows_in_a_tile_gives_the_same_scores(rows):
    logits = jnp.asarray(random_logits(5, 130, 9))
    whole, tiled = balal.score(logits), uncertainty._tiled(logits, tile=rows * 9)
    for name in NAMES:
        np.testing.assert_allclose(getattr(whole, name), getattr(tiled, name), rtol=1e-6)
    np.testing.assert_array_equal(whole.predicted, tiled.predicted)


def test_a_tile_fits_in_a_cache_and_a_last_one_that_is_not_full_copies_nothing():
    memory = jax.jit(balal.score).lower(jnp.zeros((20_001, 1000))).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 2**20


def test_no_rows_give_no_scores():
    assert balal.score(jnp.zeros((0, 3))).entropy.shape == (0,)


@pytest.mark.parametrize("shape", [(3,), (3, 0), (2, 3, 4)])
def test_logits_of_another_shape_are_refused(shape):
    with pytest.raises(Exception, match=r"logits"):
        balal.score(jnp.zeros(shape))


def test_an_ensemble_is_scored_by_its_mean_prediction():
    logits = np.random.default_rng(0).normal(size=(30, 4, 5)).astype(np.float32)
    logits[:, :, 4] = -np.inf
    logits[3, 1, 2] = -np.inf
    expected = reference.mixture(logits.astype(np.float64))
    assert np.allclose(uncertainty.mixture(jnp.asarray(logits)), expected, atol=1e-5)
    pool = balal.pool(None, logits=logits, keep_logits=True)
    assert pool.logits.shape == (30, 4, 5)
    alone = balal.pool(None, logits=expected.astype(np.float32)).scores
    assert np.allclose(pool.scores.entropy, alone.entropy, atol=1e-5)
    assert pool.scores.predicted.tolist() == alone.predicted.tolist()


def test_a_member_of_an_ensemble_that_predicts_nothing_is_refused():
    logits = np.zeros((4, 2, 3), np.float32)
    logits[2, 1] = np.nan
    with pytest.raises(ValueError, match=r"row 2 is so"):
        balal.pool(None, logits=logits)
