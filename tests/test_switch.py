import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws

from balal.kernels import switch

COUNTS = draws.lists(draws.integers(0, 9), min_size=5, max_size=5)
OPTIONS = draws.fixed_dictionaries(
    dict(
        at_mean=draws.sampled_from(["nowhere", "or", "ur"]),
        known_classes=draws.sampled_from(["found", "all"]),
    )
)


@given(counts=COUNTS, pending=draws.integers(0, 6), options=OPTIONS)
def test_represented_classes_are_those_of_exact_fractions(counts, pending, options):
    m = sum(counts) + pending
    under, over = switch.represented(jnp.array(counts), jnp.int32(m), **options)
    expected = reference.represented(counts, m, **options)
    assert (np.flatnonzero(under).tolist(), np.flatnonzero(over).tolist()) == expected


@given(counts=COUNTS, left=draws.integers(0, 40), options=OPTIONS)
def test_the_switch_is_that_of_exact_fractions(counts, left, options):
    found = switch.switches(jnp.array(counts), jnp.int32(sum(counts)), jnp.int32(left), **options)
    assert bool(found) == reference.switches(counts, sum(counts), left, **options)


def test_the_switch_is_exact_where_floats_would_round():
    # 3 under-represented classes of 0.. against a mean of thirds: equality holds exactly, one label
    # more and it does not.
    counts = [1, 1, 1, 10, 11, 12]
    bound = next(left for left in range(200, 0, -1) if reference.switches(counts, 36, left))
    assert bool(switch.switches(jnp.array(counts), 36, bound))
    assert not bool(switch.switches(jnp.array(counts), 36, bound + 1))


def test_without_an_over_represented_class_nothing_is_switched():
    assert not bool(switch.switches(jnp.array([3, 3, 0]), 6, 0))


def test_budgets_beyond_int32_are_refused_with_a_sentence():
    switch.fits(1_281_167, 1000)
    with pytest.raises(ValueError, match="more than int32 holds"):
        switch.fits(10_000_000, 1000)
