import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

import balal


@given(
    seed=draws.integers(0, 10**6),
    rows=draws.sampled_from([1, 2, 3, 17, 64]),
    classes=draws.integers(1, 8),
    masked=draws.booleans(),
    scale=draws.sampled_from([1e-6, 1.0, 1e6]),
    offset=draws.sampled_from([0, 10_000]),
)
def test_classes_take_turns_as_in_the_twin(seed, rows, classes, masked, scale, offset):
    rng = np.random.default_rng(seed)
    values = (rng.integers(-3, 3, rows) * scale + offset).astype(np.float32)
    predicted = rng.integers(0, classes, rows) + offset
    candidates = rng.random(rows) < 0.6 if masked else np.ones(rows, bool)
    for budget in {1, rows}:
        found = balal.diversify(jnp.asarray(values), jnp.asarray(predicted), budget, candidates=jnp.asarray(candidates))
        assert found.dtype == jnp.int32
        assert found.tolist() == reference.diversify(values, predicted, budget, candidates)


def test_a_short_round_takes_the_most_convincing_rows():
    values, predicted = jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([0, 1, 2, 1])
    assert balal.diversify(values, predicted, 2).tolist() == [1, 2]


def test_a_smaller_budget_is_a_prefix_of_a_larger_one():
    rng = np.random.default_rng(0)
    values, predicted = jnp.asarray(rng.normal(size=200), jnp.float32), jnp.asarray(rng.integers(0, 9, 200))
    whole = balal.diversify(values, predicted, 200)
    for budget in (1, 7, 64):
        np.testing.assert_array_equal(balal.diversify(values, predicted, budget), whole[:budget])


def test_it_is_sorts_only():
    program = jax.jit(lambda values, predicted: balal.diversify(values, predicted, 100)).lower(jnp.zeros(1000), jnp.zeros(1000, int))
    assert program.compile().as_text().count(" sort(") == 2
    assert "stablehlo.while" not in program.as_text().replace("cummax", "")


@pytest.mark.parametrize("budget", [-1, 5])
def test_a_budget_outside_the_pool_is_refused(budget):
    with pytest.raises(ValueError, match="budget must lie between 0 and the 4 rows"):
        balal.diversify(jnp.zeros(4), jnp.zeros(4, int), budget)
