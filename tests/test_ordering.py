"""Which of several equally good rows is picked."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal.kernels import ordering

# They run inside jit.
argmax = partial(jax.jit, static_argnames="tolerance")(ordering.argmax)
argsort = partial(jax.jit, static_argnums=1)(ordering.argsort)


@given(
    values=draws.lists(
        draws.sampled_from([-np.inf, -2.0, 0.0, 0.5, 3.0, np.inf]), min_size=6, max_size=6
    ),
    mask=draws.lists(draws.booleans(), min_size=6, max_size=6),
)
def test_the_largest_candidate_is_the_lowest_of_its_equals(values, mask):
    expected = reference.argmax(values, mask)
    assert int(argmax(jnp.array(values), jnp.array(mask))) == expected
    assert int(argmax(jnp.array(values), jnp.array(mask), tolerance=0.01)) == expected


@pytest.mark.parametrize("dtype", [jnp.uint32, jnp.int32])
def test_whole_numbers_are_taken(dtype):
    values = jnp.array([0, 2**31 - 1, 2**31 - 1], dtype)
    assert int(argmax(values, jnp.array([True, True, True]))) == 1
    assert int(argmax(values, jnp.array([True, False, False]))) == 0


def test_values_within_the_tolerance_are_level():
    values, all_rows = jnp.array([0.5, 1.0, 1.0 + 1e-6, 1.0]), jnp.ones(4, bool)
    assert int(argmax(values, jnp.array([True, False, True, True]), tolerance=1e-5)) == 2
    assert int(argmax(values, all_rows, tolerance=1e-5)) == 1
    assert int(argmax(values, all_rows)) == 2
    assert int(argmax(-values, all_rows, tolerance=1e-5)) == 0


@pytest.mark.quick
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.int32])
def test_the_smallest_come_in_a_stable_order_whether_few_or_all_are_wanted(dtype):
    rng = np.random.default_rng(0)
    limits = [2**31 - 1, -(2**31)] if dtype == jnp.int32 else [np.inf, -np.inf, 60_000]
    many = rng.permutation([*limits, *[-7, 7, 1, 0, -1, 100] * 20])
    for values in (many.astype(dtype), np.zeros(100, dtype)):
        expected = np.argsort(values.astype(np.float64), kind="stable")
        for k in (0, 1, len(values) // 10, len(values) // 10 + 1, len(values)):
            assert argsort(jnp.asarray(values), k).tolist() == expected[:k].tolist()


@pytest.mark.quick
def test_zeros_of_either_sign_and_subnormal_numbers_are_level_whether_few_or_all_are_wanted():
    rng = np.random.default_rng(1)
    zeros = rng.choice(np.float32([0.0, -0.0]), 100)
    subnormal = zeros + rng.integers(-9, 9, 100) * np.float32(1e-45)
    for values in (zeros, subnormal):
        whole = argsort(jnp.asarray(values), 100).tolist()
        assert argsort(jnp.asarray(values), 10).tolist() == whole[:10]
    assert argsort(jnp.asarray(zeros), 100).tolist() == list(range(100))
