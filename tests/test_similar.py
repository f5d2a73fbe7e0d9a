"""SIMILAR: greedy picks for queries of rare classes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.kernels.query_information import facility_location
from balal.strategies import Posterior, Similar, Uncertainty

KEY = jax.random.key(0)
CASES = json.loads((Path(__file__).parent / "vectors" / "flqmi.json").read_text())["cases"]


@pytest.mark.parametrize("case", CASES)
def test_picks_and_gains_are_the_documented_ones(case):
    similarities = jnp.array(case["similarities"])
    rows, number = similarities.shape
    picks, gains = facility_location(
        similarities, jnp.int32(number), jnp.ones(rows, bool), most=len(case["picks"])
    )
    assert picks.tolist() == case["picks"]
    np.testing.assert_allclose(gains, case["gains"], rtol=1e-6)


def test_queries_beyond_the_number_and_rows_that_are_no_candidates_do_not_count():
    rng = np.random.default_rng(0)
    similarities = rng.random((200, 70)).astype(np.float32)
    candidates = np.isin(np.arange(200) % 20, np.arange(1, 10))
    picks, gains = facility_location(
        jnp.asarray(similarities), jnp.int32(66), jnp.asarray(candidates), most=92, eta=0.5
    )
    expected, worth = reference.facility_location(
        similarities[:, :66].astype(np.float64), 90, candidates, eta=0.5
    )
    assert picks.tolist() == [*expected, -1, -1]
    np.testing.assert_allclose(gains, [*worth, 0, 0], rtol=1e-4)


def case(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(40, 4)).astype(np.float32)
    return features, rng.choice(4, 40, p=[0.6, 0.2, 0.1, 0.1]), rng.permutation(40)[:10]


@pytest.mark.parametrize("seed", range(3))
def test_picks_are_those_of_the_twin(seed):
    features, labels, start = case(seed)
    result = balal.simulate(
        Similar(),
        balal.pool(features),
        labels,
        budget=8,
        num_classes=4,
        key=KEY,
        labelled=(start, labels[start]),
    )
    everywhere = np.ones(40, bool)
    expected = reference.similar(features, labels, 8, start=start, candidates=everywhere)
    assert expected is not None
    assert result.indices.tolist() == expected


def test_without_a_rare_class_it_follows_the_first_strategy():
    features, labels, _ = case(0)
    lead = np.random.default_rng(0).random((40, 2)).astype(np.float32)
    pool = balal.pool(features, logits=5 * lead)
    first = Uncertainty("entropy")
    options = dict(budget=6, num_classes=4, key=KEY)
    expected = balal.one_shot(first, pool, labels, **options).indices
    assert np.array_equal(balal.one_shot(Similar(first), pool, labels, **options).indices, expected)
    assert Similar(first).needs == ("scores", "features")


def test_settings_are_checked():
    with pytest.raises(ValueError, match="rank the pool in one shot"):
        Similar(Posterior())
    with pytest.raises(ValueError, match="at least 0, got -1"):
        Similar(eta=-1)
