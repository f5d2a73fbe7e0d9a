"""Disagreement: the published example, the twins, and what is no ensemble."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal import labelled_set
from balal.kernels.disagreement import bald, variation_ratio
from balal.strategies import Bald

CASE = json.loads((Path(__file__).parent / "vectors/bald.json").read_text())["cases"][0]
NOTHING = labelled_set.make(np.zeros(0, np.int32), np.zeros(0, np.int32))


def order(strategy, logits, budget, candidates=None):
    pool = balal.Pool(None, logits=jnp.asarray(logits, jnp.float32), candidates=candidates)
    return strategy.order(pool, NOTHING, budget, jax.random.key(0)).tolist()


def test_the_published_example():
    logits = np.log(np.moveaxis(np.array(CASE["probs"]), 0, 1)).astype(np.float32)
    np.testing.assert_allclose(bald(logits), CASE["bald"], atol=1e-6)
    # Members that agree are told from those that all but agree.
    assert bald(logits)[:2].tolist() == [0, 0]
    np.testing.assert_allclose(variation_ratio(logits), CASE["variation_ratio"], atol=1e-6)
    assert order(Bald(), logits, 4) == CASE["picks"]
    assert order(Bald("variation_ratio"), logits, 4) == CASE["variation_ratio_picks"]


@pytest.mark.parametrize("seed", range(3))
def test_disagreement_is_that_of_the_twins(seed):
    rng = np.random.default_rng(seed)
    logits = 5 * rng.normal(size=(30, 5, 4))
    logits[rng.random((30, 5, 4)) < 0.2] = -np.inf
    logits[:, :, 0] = np.maximum(logits[:, :, 0], -3)
    probs = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    logits = logits.astype(np.float32)
    shared, outvoted = reference.bald(probs), reference.variation_ratio(probs)
    np.testing.assert_allclose(bald(logits), shared, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variation_ratio(logits), outvoted, atol=1e-6)
    assert order(Bald(), logits, 9) == np.argsort(-shared, kind="stable")[:9].tolist()
    level = np.round(outvoted, 6)
    assert order(Bald("variation_ratio"), logits, 9) == np.lexsort((-shared, -level))[:9].tolist()


def test_small_disagreement_is_right_to_its_last_digits():
    """The two entropies agree in all digits that float32 has."""
    apart = np.array([1e-4, 2e-4, 3e-4])
    logits = np.zeros((3, 2, 2))
    logits[:, 0, 0], logits[:, 1, 0] = apart, -apart
    # For small differences of the log odds: their variance times p (1 - p) / 2.
    np.testing.assert_allclose(bald(logits.astype(np.float32)), apart**2 / 8, rtol=1e-2)


@pytest.mark.parametrize(
    ("logits", "came"),
    [
        (np.zeros((3, 4), np.float32), r"got shape \(3, 4\)"),
        (np.zeros((3, 1, 4), np.float32), r"got shape \(3, 1, 4\)"),
    ],
)
@pytest.mark.parametrize("measure", ["bald", "variation_ratio"])
def test_what_is_no_ensemble_is_refused_with_how_to_get_one(measure, logits, came):
    with pytest.raises(ValueError, match=rf"{measure} needs .* ensemble .*{came}.* several heads"):
        order(Bald(measure), logits, 2)


def test_rows_that_are_no_candidates_come_last():
    logits = np.random.default_rng(0).normal(size=(6, 2, 3))
    free = jnp.array([True, False, True, False, False, True])
    assert sorted(order(Bald(), logits, 6, free)) == [-1, -1, -1, 0, 2, 5]
