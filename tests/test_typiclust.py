"""TypiClust: typicality within clusters, and the turns that these take."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.kernels import k_means
from balal.kernels.typicality import typicality_within
from balal.strategies.typiclust import in_turns

VECTORS = Path(__file__).parent / "vectors" / "typiclust.json"


def test_the_published_example_is_picked():
    for case in json.loads(VECTORS.read_text())["cases"]:
        features = np.float32(case["features"])
        typical = typicality_within(features, np.zeros(len(features), int), case["neighbours"])
        np.testing.assert_allclose(1 / np.asarray(typical), case["mean_distances"], rtol=1e-5)
        assert [int(np.argmax(typical))] == case["picks"]


@pytest.mark.parametrize("seed", range(3))
def test_typicality_within_groups_is_that_of_all_pairs(seed):
    """Groups smaller and larger than the tiles and than the number of neighbours."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(700, 3)).astype(np.float32)
    groups, candidates = rng.integers(0, 400, 700), rng.random(700) < 0.9
    groups[groups > 5] = rng.integers(0, 2)
    groups[:30] = np.arange(30) // 3 + 10
    found = typicality_within(features, groups, 20, candidates=candidates)
    expected = reference.typicality_within(np.float64(features), groups, 20, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_copies_are_as_typical_as_can_be_and_lone_rows_not_at_all():
    typical = typicality_within(np.ones((4, 2), np.float32), np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(typical, [1e5, 1e5, 1e5, 0], rtol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_take_turns_by_labels_then_size(seed):
    rng = np.random.default_rng(seed)
    typical, left = rng.random(60).astype(np.float32), rng.random(60) < 0.8
    clusters = rng.choice(8, 60, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.03, 0.02])
    options = dict(most=60, num_clusters=8, least=5)
    found = jax.jit(lambda *data: in_turns(*data, **options))(
        typical, jnp.asarray(clusters), left, jnp.int32(left.sum())
    )
    expected = reference.in_turns(typical, clusters, left, left.sum(), least=5)
    assert found.tolist() == expected + [-1] * (60 - left.sum())


def test_a_cluster_below_five_rows_waits_and_a_labelled_one_comes_later():
    clusters = np.repeat(np.arange(4), [7, 9, 9, 4])
    left = jnp.arange(29) != 7
    options = dict(most=3, num_clusters=4, least=5)
    found = in_turns(jnp.ones(29), jnp.asarray(clusters), left, jnp.int32(3), **options)
    assert clusters[found].tolist() == [2, 0, 1]


def test_idle_centres_have_no_rows_and_a_small_start_is_part_of_a_large_one():
    features = np.random.default_rng(0).normal(size=(80, 3)).astype(np.float32)
    key = jax.random.key(3)
    large = k_means.k_means_plus_plus(key, features, 12)
    small = k_means.k_means_plus_plus(key, features, 12, active=5)
    assert small.tolist() == [*large[:5].tolist(), *[0] * 7]
    alone = k_means.k_means(features, features[large[:5]])
    padded = k_means.k_means(features, features[large], active=5)
    assert padded.assigned.tolist() == alone.assigned.tolist()
    np.testing.assert_array_equal(padded.centers[:5], alone.centers)


def test_each_of_few_far_blobs_is_asked_once_at_its_middle():
    rng = np.random.default_rng(0)
    blobs = np.repeat(np.arange(4), 10)
    features = (20 * np.eye(4)[blobs] + rng.normal(size=(40, 4))).astype(np.float32)
    picks = balal.one_shot(
        balal.strategy("typiclust"),
        balal.pool(features),
        blobs,
        budget=4,
        num_classes=4,
        key=jax.random.key(0),
    ).indices
    assert sorted(blobs[np.asarray(picks)]) == [0, 1, 2, 3]
