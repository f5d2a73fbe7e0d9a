"""DIRECT: thresholds of one order, the stretch that is narrowed, and how the budget is divided."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

import balal
from balal.kernels import class_orders
from balal.strategies import Direct

KEY = jax.random.key(0)
CASES = json.loads((Path(__file__).parent / "vectors" / "direct.json").read_text())["cases"]
N = 24
nearest = jax.jit(class_orders.nearest_to_threshold)
shrink = jax.jit(class_orders.shrink)


@pytest.mark.parametrize("case", CASES)
def test_thresholds_and_picks_are_the_documented_ones(case):
    weights = np.array(case["weights"])
    values = np.where(weights == 0, -1, (weights + 1) // 2)
    accuracies = class_orders.accuracies(jnp.asarray(values, jnp.int32))
    assert accuracies.tolist() == case["accuracies"]
    assert int(jnp.argmax(accuracies)) == case["threshold"]
    waiting, picks = np.zeros(len(values), bool), []
    for _ in case["picks"]:
        free = (values < 0) & ~waiting
        row = nearest(jnp.asarray(values, jnp.int32), jnp.asarray(waiting), jnp.asarray(free))
        picks.append(int(row))
        waiting[int(row)] = True
    assert picks == case["picks"]


def test_the_row_nearest_to_the_threshold_is_that_of_the_twin():
    rng = np.random.default_rng(0)
    for _ in range(200):
        state = rng.choice(5, N, p=[0.15, 0.15, 0.4, 0.15, 0.15])
        values = np.where(state < 2, state, -1)
        waiting, free = state == 3, state == 2
        if free.any():
            found = nearest(jnp.asarray(values, jnp.int32), jnp.asarray(waiting), jnp.asarray(free))
            assert int(found) == reference.nearest_to_threshold(values, waiting, free)


def test_a_stretch_shrinks_as_if_its_ends_moved_row_by_row():
    rng = np.random.default_rng(1)
    everywhere = jnp.ones(N, bool)
    for _ in range(200):
        noisy = np.arange(N) < rng.integers(0, N) + rng.integers(-6, 7, N)
        values = np.where(rng.random(N) < 0.4, noisy, -1)
        ends = class_orders.uncertain(jnp.asarray(values, jnp.int32), everywhere)
        begin, end = ends.tolist()
        rounds = int(rng.integers(0, 5))
        found = shrink(ends, jnp.asarray(values, jnp.int32), everywhere, jnp.int32(rounds)).tolist()
        one, other = (
            reference.shrink((begin, end), values, rounds, side) for side in ("begin", "end")
        )
        unknown = [int(np.sum(values[a : b + 1] < 0)) for a, b in (found, one)]
        assert unknown[0] == unknown[1]
        # Where both are level, the ends lie between those of the two ways to move them.
        begins = [int(np.sum(values[:a] < 0)) for a, _ in (other, found, one)]
        assert begins == sorted(begins)


def test_rows_that_are_not_there_have_no_place():
    values = jnp.array([1, -1, -1, -1, -1, 0])
    gone = jnp.array([-1, 1, -1, -1, -1, -1, -1, -1, 0, -1], jnp.int32)
    there = jnp.array([False, True, True, False, True, True, False, True, True, False])
    ends = class_orders.uncertain(gone, there)
    assert ends.tolist() == class_orders.uncertain(values, jnp.ones(6, bool)).tolist() == [0, 5]
    assert class_orders.shrink(ends, gone, there, jnp.int32(2)).tolist() == [2, 3]
    assert np.flatnonzero(class_orders.within(jnp.array([2, 3]), there)).tolist() == [4, 5]


def pool_of_three(rows=240):
    rng = np.random.default_rng(3)
    labels = rng.choice(3, rows, p=[0.8, 0.15, 0.05])
    logits = (3 * np.eye(3)[labels] + rng.normal(size=(rows, 3))).astype(np.float32)
    return balal.pool(None, logits=logits, keep_logits=True), labels, logits


def test_the_first_half_narrows_the_rarest_class_and_the_rest_goes_round():
    pool, labels, logits = pool_of_three()
    start = np.array([*np.flatnonzero(labels == 0)[:6], *np.flatnonzero(labels == 1)[:3]])
    rare = np.flatnonzero(labels == 2)[:1]
    start = np.concatenate([start, rare])
    strategy = Direct(parallel=5, least=15)
    picks = balal.simulate(
        strategy, pool, labels, budget=30, num_classes=5, key=KEY, labelled=(start, labels[start])
    ).indices.tolist()
    order = np.array(reference.class_orders(logits.astype(np.float64))[2])
    known = {row: labels[row] for row in start}
    for turn in range(3):
        values = np.array([int(known[row] == 2) if row in known else -1 for row in order])
        if turn == 0:
            ends = class_orders.uncertain(jnp.asarray(values, jnp.int32), jnp.ones(240, bool))
        else:
            ends = class_orders.shrink(
                ends, jnp.asarray(values, jnp.int32), jnp.ones(240, bool), jnp.int32(4 - turn)
            )
        stretch = order[int(ends[0]) : int(ends[1]) + 1]
        asked, new = picks[5 * turn : 5 * turn + 5], set(stretch.tolist()) - set(known)
        # A stretch of fewer rows is asked as a whole.
        assert set(asked) <= new if len(new) >= 5 else new <= set(asked)
        known |= {row: labels[row] for row in asked}
    # Three classes in turn, each at its threshold.
    orders, first = reference.class_orders(logits.astype(np.float64)), None
    for number, row in enumerate(picks[15:]):
        at = {}
        for label in range(3):
            values = np.array(
                [int(known[each] == label) if each in known else -1 for each in orders[label]]
            )
            place = reference.nearest_to_threshold(values, np.zeros(240, bool), values < 0)
            at[label] = orders[label][place]
        asks = {label for label, each in at.items() if each == row}
        first = asks if number == 0 else first
        assert asks
        if number == 3:
            assert asks & first
        known[row] = labels[row]


@pytest.mark.slow
def test_reasons_tell_the_halves_apart():
    pool, _, _ = pool_of_three()
    strategy = Direct(parallel=1, least=2)
    start = (np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1]))
    state = balal.init(strategy, pool, budget=4, num_classes=5, key=KEY, labelled=start)
    _, state = balal.ask(strategy, pool, state, size=4)
    assert balal.loop.reasons(strategy, pool, state, target_names=("cat", "dog")) == [
        *["drawn where labels of cat begin and end"] * 2,
        *["nearest to the threshold of a class"] * 2,
    ]


def test_settings_are_checked():
    with pytest.raises(ValueError, match="least must be at least 1, got 0"):
        Direct(least=0)
