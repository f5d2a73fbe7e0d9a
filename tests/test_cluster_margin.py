"""Cluster-Margin: the published example, the twin, and the clusters."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal import labelled_set
from balal.kernels.diversity import take_turns
from balal.strategies import ClusterMargin
from balal.types import Prepared

CASE = json.loads((Path(__file__).parent / "vectors/cluster_margin.json").read_text())["cases"][0]
ROWS = 40


def planned(strategy, margin, clusters, budget, candidates=None, most=None):
    """The rows of a plan on a pool whose clusters are given."""
    values, num_rows = jnp.asarray(1 - np.array(margin), jnp.float32), len(margin)
    pool = balal.pool(
        np.eye(num_rows, 2, dtype=np.float32),
        scores=balal.Scores(values, values, values, jnp.zeros(num_rows, jnp.int32)),
        candidates=candidates,
    )
    kept = {strategy.prepared_key: Prepared(jnp.array(clusters), jnp.zeros(2, jnp.uint32))}
    pool = balal.Pool(pool.features, pool.scores, None, pool.candidates, kept)
    most = most or budget
    nothing = labelled_set.make(np.zeros(0, np.int32), np.zeros(0, np.int32), capacity=most)
    memory = strategy.init(pool, nothing, jnp.int32(budget), 2, jax.random.key(0))
    return strategy.plan(pool, memory, most=most).tolist()


def test_the_published_example():
    strategy = ClusterMargin(margin_set=CASE["km"] / CASE["k"])
    assert planned(strategy, CASE["margin"], CASE["cluster"], CASE["k"]) == CASE["picks"]


@pytest.mark.parametrize("seed", range(4))
def test_clusters_take_turns_as_those_of_the_twin(seed):
    rng = np.random.default_rng(seed)
    groups, valid = rng.integers(0, 6, ROWS), rng.random(ROWS) < 0.7
    places = np.flatnonzero(valid)
    expected = places[reference.take_turns(groups[valid])].tolist()
    assert take_turns(jnp.array(groups), jnp.array(valid)).tolist() == (
        expected + [-1] * (ROWS - len(expected))
    )
    margin, candidates = rng.random(ROWS), rng.random(ROWS) < 0.8
    for budget in (8, 5):
        found = planned(ClusterMargin(), margin, groups, budget, candidates, most=8)
        expected = reference.cluster_margin(margin, groups, budget, candidates, margin_set=1.25)
        assert found[:budget] == expected


def test_a_budget_of_all_candidates_is_spent():
    candidates = np.arange(ROWS) % 3 > 0
    found = planned(ClusterMargin(), np.linspace(0, 1, ROWS), np.zeros(ROWS, int), ROWS, candidates)
    assert sorted(found) == [*[-1] * 14, *np.flatnonzero(candidates)]


def test_the_clusters_are_those_of_the_features_wherever_rows_stand():
    rng = np.random.default_rng(0)
    sizes = [20, 10, 6, 4]
    centres = 10 * np.eye(4, 3) + np.arange(4)[:, None]
    features = np.repeat(centres, sizes, axis=0) + rng.normal(size=(ROWS, 3)) / 3
    truth, order = np.repeat(np.arange(4), sizes), rng.permutation(ROWS)
    prepare = jax.jit(lambda rows: ClusterMargin(clusters=4).prepare(balal.Pool(rows)))
    plain, moved = (
        np.asarray(prepare(jnp.asarray(rows, jnp.float32))) for rows in (features, features[order])
    )
    assert sorted(np.bincount(plain).tolist(), reverse=True) == sizes
    assert all(len(set(plain[truth == cluster].tolist())) == 1 for cluster in range(4))
    assert moved.tolist() == plain[order].tolist()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(margin_set=0.9), "margin_set must be a number of at least 1"),
        (dict(margin_set=float("inf")), "margin_set must be a number of at least 1"),
        (dict(clusters=0), "clusters must be a whole number of at least 1"),
        (dict(rounds=2.5), "rounds must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        ClusterMargin(**options)
