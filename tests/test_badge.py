"""BADGE: the published example, the twin that makes the gradients, and what it does once all are
alike."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.kernels.gradients import far_gradients
from balal.strategies import Badge

CASE = json.loads((Path(__file__).parent / "vectors/badge.json").read_text())["cases"][0]
ROWS, SIZE, CLASSES, BUDGET = 24, 5, 4, 8


def drawn(seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(ROWS, SIZE)).astype(np.float32) + 1
    logits = (3 * rng.normal(size=(ROWS, CLASSES))).astype(np.float32)
    return features, logits, rng.random(ROWS) < 0.8


def test_the_published_example():
    features, logits = np.array(CASE["features"]), np.log(CASE["probs"])
    gradients = reference.gradients(features, logits)
    np.testing.assert_allclose(np.square(gradients).sum(axis=1), CASE["squared_lengths"], atol=1e-6)
    features, logits = (values.astype(np.float32) for values in (features, logits))
    found = far_gradients(features, logits, 4)
    assert found.indices.tolist() == CASE["picks"]
    # The second row is the farthest from the first, and so on.
    table = np.array(CASE["squared_distances"])
    expected = [CASE["squared_lengths"][3], table[3, 1], table[[3, 1], 2].min(), 0.155]
    np.testing.assert_allclose(found.distances, expected, rtol=1e-5)


def test_the_second_row_is_drawn_in_proportion_to_its_squared_distance():
    features, logits = np.float32(CASE["features"]), np.float32(np.log(CASE["probs"]))
    keys = jax.random.split(jax.random.key(0), 4000)
    picks = jax.vmap(lambda key: far_gradients(features, logits, 2, key=key).indices)(keys)
    assert set(picks[:, 0].tolist()) == {3}
    share = np.bincount(picks[:, 1], minlength=4) / len(keys)
    np.testing.assert_allclose(share, CASE["second"], atol=0.03)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("labelled", [(), (3, 1)], ids=["", "conditioned"])
def test_picks_are_those_of_the_twin_that_makes_the_gradients(seed, labelled):
    features, logits, candidates = drawn(seed)
    key, rows = jax.random.key(seed), np.array([*labelled, -1, -1], np.int32)[:2]
    bits = [jax.random.bits(jax.random.fold_in(key, number), ROWS) for number in range(BUDGET)]
    clocks = -np.log1p(-(np.float64(bits) + 0.5) * 2.0**-32)
    for draw, waiting in ((None, None), (key, clocks)):
        found = far_gradients(
            features, logits, BUDGET, candidates=candidates, labelled=rows, key=draw
        )
        expected = reference.far_gradients(
            np.float64(features),
            np.float64(logits),
            BUDGET,
            candidates,
            clocks=waiting,
            labelled=labelled,
        )
        assert found.indices.tolist() == expected


def test_copies_come_last_the_largest_gradient_first_and_then_by_chance():
    probs = np.array([[0.6, 0.4]] * 3 + [[0.9, 0.1]] * 3 + [[1.0, 0.0]] * 18, np.float32)
    with np.errstate(divide="ignore"):
        logits = np.log(probs)
    features = np.ones((ROWS, SIZE), np.float32)
    orders = {
        tuple(far_gradients(features, logits, ROWS, key=jax.random.key(seed)).indices.tolist())
        for seed in range(4)
    }
    for order in orders:
        assert sorted(order) == list(range(ROWS))
        # Three gradients differ, of which the last is 0; then the largest that are left.
        assert order[0] == 0
        assert {row // 3 for row in order[1:3]} - {1} <= set(range(2, 8))
        assert order[3:5] == (1, 2)
        assert {*order[1:3], *order[5:7]} >= {3, 4, 5}
    assert len({order[7:] for order in orders}) > 1


def test_predictions_that_round_to_one_still_have_gradients():
    """At a lead of 30 the predicted class has a probability of 1 in float32."""
    leads = np.array([30, 20, 25, 40], np.float32)
    logits = np.stack([leads, np.zeros(4, np.float32)], axis=1)
    found = far_gradients(np.ones((4, 2), np.float32), logits, 4)
    assert found.indices[0] == 1
    assert float(found.distances[0]) == pytest.approx(2 * 2 * np.exp(-40), rel=1e-5)


def test_labelled_rows_keep_it_away_only_if_it_is_conditioned_on_them():
    features, logits, _ = drawn(0)
    features[1], logits[1] = features[0], logits[0]
    # A pair of copies with by far the largest gradient, of which one is labelled.
    features[:2] *= 10
    logits[:2] = 0
    pool = balal.pool(features, logits=logits, keep_logits=True)
    labels, start = np.zeros(ROWS, int), (np.array([0]), np.array([0]))
    options = dict(budget=4, num_classes=CLASSES, key=jax.random.key(0), labelled=start)
    picks = balal.simulate(Badge(), pool, labels, **options).indices
    away = balal.simulate(Badge(conditioned=True), pool, labels, **options).indices
    assert picks[0] == 1
    assert 1 not in away


def test_an_ensemble_is_taken_by_its_mean_prediction():
    features, logits, _ = drawn(1)
    pools = [
        balal.pool(features, logits=values, keep_logits=True)
        for values in (logits, np.stack([logits, logits], axis=1))
    ]
    options = dict(budget=BUDGET, num_classes=CLASSES, key=jax.random.key(0))
    single, double = (
        balal.one_shot(Badge(), pool, np.zeros(ROWS, int), **options).indices.tolist()
        for pool in pools
    )
    assert single == double


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (dict(budget=5), "budget must lie between 0 and the 4 rows"),
        (dict(logits=np.full((4, 2), np.nan)), "logits may be -inf but not NaN"),
        (dict(labelled=np.array([4])), "labelled"),
    ],
)
def test_what_is_not_a_pool_is_refused(options, sentence):
    arguments = dict(features=np.ones((4, 2)), logits=np.zeros((4, 2)), budget=2) | options
    with pytest.raises(ValueError, match=sentence):
        far_gradients(**arguments)


def test_without_logits_it_says_how_to_keep_them():
    pool = balal.pool(jnp.eye(4), logits=2 * jnp.eye(4))
    with pytest.raises(ValueError, match="keep_logits=True"):
        balal.one_shot(
            Badge(), pool, np.zeros(4, int), budget=1, num_classes=2, key=jax.random.key(0)
        )
