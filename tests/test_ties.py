"""Which of several equally good rows is picked."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draws

from balal.ties import largest


@given(
    values=draws.lists(draws.sampled_from([-np.inf, -2.0, 0.0, 0.5, 3.0, np.inf]), min_size=6, max_size=6),
    mask=draws.lists(draws.booleans(), min_size=6, max_size=6),
)
def test_the_largest_candidate_is_the_lowest_of_its_equals(values, mask):
    askable = [row for row in range(6) if mask[row]]
    expected = max(askable, key=lambda row: (values[row], -row), default=-1)
    assert int(largest(jnp.array(values), jnp.array(mask))) == expected
    assert int(largest(jnp.array(values), jnp.array(mask), tolerance=0.01)) == expected


@pytest.mark.parametrize("dtype", [jnp.uint32, jnp.int32])
def test_whole_numbers_are_taken(dtype):
    values = jnp.array([0, 2**31 - 1, 2**31 - 1], dtype)
    assert int(largest(values, jnp.array([True, True, True]))) == 1
    assert int(largest(values, jnp.array([True, False, False]))) == 0


def test_values_within_the_tolerance_are_level():
    values, all_rows = jnp.array([0.5, 1.0, 1.0 + 1e-6, 1.0]), jnp.ones(4, bool)
    assert int(largest(values, jnp.array([True, False, True, True]), tolerance=1e-5)) == 2
    assert int(largest(values, all_rows, tolerance=1e-5)) == 1
    assert int(largest(values, all_rows)) == 2
    assert int(largest(-values, all_rows, tolerance=1e-5)) == 0
