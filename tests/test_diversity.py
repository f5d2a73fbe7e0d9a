import re

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
    for budget in {1, rows // 10, rows}:
        found = balal.diversify(
            jnp.asarray(values), jnp.asarray(predicted), budget, candidates=jnp.asarray(candidates)
        )
        assert found.dtype == jnp.int32
        assert found.tolist() == reference.diversify(values, predicted, budget, candidates)


def test_a_short_round_takes_the_most_convincing_rows():
    values, predicted = jnp.array([0.9, 0.1, 0.5, 0.2]), jnp.array([0, 1, 2, 1])
    assert balal.diversify(values, predicted, 2).tolist() == [1, 2]


def test_a_smaller_budget_is_a_prefix_of_a_larger_one():
    rng = np.random.default_rng(0)
    values, predicted = (
        jnp.asarray(rng.normal(size=200), jnp.float32),
        jnp.asarray(rng.integers(0, 9, 200)),
    )
    whole = balal.diversify(values, predicted, 200)
    for budget in (1, 7, 64):
        np.testing.assert_array_equal(balal.diversify(values, predicted, budget), whole[:budget])


@pytest.mark.parametrize(("budget", "sorts"), [(100, 2), (101, 3)])
def test_it_is_sorts_of_single_arrays_of_integers_only(budget, sorts):
    """Those alone are quick on CPUs; few turns of many need no sort."""
    arguments = jax.ShapeDtypeStruct((1000,), jnp.float32), jax.ShapeDtypeStruct((1000,), jnp.int32)
    lowered = jax.jit(lambda values, predicted: balal.diversify(values, predicted, budget)).lower(
        *arguments
    )
    assert (
        re.findall(r"= (\w+\[\d+\])\S* sort\(", lowered.compile().as_text())
        == ["u64[1000]"] * sorts
    )
    assert "stablehlo.while" not in lowered.as_text().replace("cummax", "")


@pytest.mark.quick
def test_lanes_of_a_vmap_are_single_calls():
    """Wide integers, which the sorts make for themselves, were once narrowed in lanes: silently, in
    JAX 0.7."""
    rng = np.random.default_rng(1)
    values, predicted = rng.normal(size=(3, 200)).astype(np.float32), rng.integers(0, 9, (3, 200))
    everywhere = np.ones(200, bool)
    lanes = jax.vmap(lambda *lane: balal.diversify(*lane, 200))(values, predicted)
    few = jax.vmap(lambda *lane: balal.diversify(*lane, 20))(values, predicted)
    for lane in range(3):
        assert lanes[lane].tolist() == reference.diversify(
            values[lane], predicted[lane], 200, everywhere
        )
        assert few[lane].tolist() == lanes[lane, :20].tolist()
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("budget", [-1, 5])
def test_a_budget_outside_the_pool_is_refused(budget):
    with pytest.raises(ValueError, match="budget must lie between 0 and the 4 rows"):
        balal.diversify(jnp.zeros(4), jnp.zeros(4, int), budget)
