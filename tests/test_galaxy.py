"""GALAXY: the search along one order, and the turns of the classes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.kernels.class_orders import bisect_or_expand, class_orders
from balal.strategies import Galaxy

KEY = jax.random.key(0)
CASES = json.loads((Path(__file__).parent / "vectors" / "galaxy.json").read_text())["cases"]
search = jax.jit(bisect_or_expand)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_the_search_makes_the_documented_picks(case):
    if "separable" in case:
        rows, ones = case["separable"]
        order, labels = np.arange(rows), np.arange(rows) < ones
    else:
        order, labels = np.array(case["order"]), np.array(case["labels"])
    # Two classes, whose one order is that of class 1.
    logits = np.zeros((len(order), 2), np.float32)
    logits[order, 1] = np.linspace(3, -3, len(order))
    result = balal.simulate(
        Galaxy(),
        balal.pool(None, logits=logits, keep_logits=True),
        labels.astype(int),
        budget=len(case["picks"]),
        num_classes=2,
        key=KEY,
        labelled=(np.array(case["labelled"]), labels[case["labelled"]].astype(int)),
    )
    assert result.indices.tolist() == case["picks"]


def test_the_search_is_that_of_the_twin():
    rng = np.random.default_rng(0)
    for _ in range(300):
        state = rng.choice(4, 24, p=[0.15, 0.15, 0.5, 0.2])
        values = np.where(state == 0, 0, np.where(state == 1, 1, -1))
        waiting = (values < 0) & (rng.random(24) < 0.15)
        free = (state == 2) & ~waiting
        if set(values) >= {0, 1} and free.any():
            found = search(jnp.asarray(values, jnp.int32), jnp.asarray(waiting), jnp.asarray(free))
            assert int(found) == reference.bisect_or_expand(values, waiting, free)


def test_orders_are_those_of_the_twin():
    logits = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    assert class_orders(jnp.asarray(logits)).tolist() == reference.class_orders(
        logits.astype(np.float64)
    )


def test_orders_tell_rows_apart_whose_probabilities_round_to_one():
    logits = jnp.array([[30.0, 0], [40, 0], [20, 0], [0, 35]])
    assert class_orders(logits).tolist() == [[1, 0, 2, 3], [3, 2, 0, 1]]
    unknown = jnp.pad(logits[:, :1], ((0, 0), (0, 1)), constant_values=-jnp.inf)
    assert class_orders(unknown).tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_classes_with_labels_take_turns():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 60)
    logits = 2 * np.eye(4)[labels] + rng.normal(size=(60, 4))
    pool = balal.pool(None, logits=logits.astype(np.float32), keep_logits=True)
    start = np.array([np.flatnonzero(labels == label)[0] for label in range(3)])
    result = balal.simulate(
        Galaxy(), pool, labels, budget=20, num_classes=4, key=KEY, labelled=(start, labels[start])
    )
    orders = reference.class_orders(logits.astype(np.float32).astype(np.float64))
    known, picks = dict(zip(start.tolist(), labels[start].tolist(), strict=True)), []
    for _ in range(20):
        # The fourth class has no label, and so no turn.
        label = len(known) % 3
        values = [int(known[row] == label) if row in known else -1 for row in orders[label]]
        free = np.array(values) < 0
        place = reference.bisect_or_expand(values, np.zeros(60, bool), free)
        picks.append(orders[label][place])
        known[picks[-1]] = int(labels[picks[-1]])
    assert result.indices.tolist() == picks


def test_rows_asked_together_are_spread_over_the_gap():
    logits = np.linspace(3, -3, 17, dtype=np.float32)[:, None] * [0, 1]
    pool = balal.pool(None, logits=logits, keep_logits=True)
    start = (np.array([0, 16]), np.array([1, 0]))
    state = balal.init(Galaxy(), pool, budget=7, num_classes=2, key=KEY, labelled=start)
    asked, state = balal.ask(Galaxy(), pool, state, size=7)
    assert asked.tolist() == [8, 4, 12, 2, 6, 10, 14]
    reasons = balal.loop.reasons(Galaxy(), pool, state)
    assert reasons[0] == "near a change between classes; class 0 to the target model (0.50)"


def test_logits_of_another_model_are_refused():
    for pool, came in [
        (balal.pool(np.eye(3, dtype=np.float32), logits=3 * np.eye(3)), "there are none"),
        (balal.pool(None, logits=3 * np.eye(3), keep_logits=True), "got 3 columns"),
    ]:
        with pytest.raises(ValueError, match="logits|" + came):
            balal.one_shot(Galaxy(), pool, np.arange(3) % 2, budget=1, num_classes=2, key=KEY)
