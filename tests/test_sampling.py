"""Rows drawn in proportion to rates, and the weights by which they stand for all."""

import jax
import jax.numpy as jnp
import numpy as np

from balal.kernels import sampling


def test_rows_drawn_in_proportion_stand_for_all_without_bias():
    rng = np.random.default_rng(0)
    rates = np.where(np.arange(40) % 4, rng.exponential(size=40), 0).astype(np.float32)
    values = (rates * rng.uniform(0.5, 1.5, 40)).astype(np.float32)
    draw = jax.jit(jax.vmap(lambda key: sampling.draw(key, jnp.asarray(rates), 8)))
    rows, weights = draw(jax.random.split(jax.random.key(1), 4000))
    sums = np.sum(np.asarray(weights) * values[np.asarray(rows)], axis=1)
    # Four standard errors of the mean.
    assert abs(sums.mean() - values.sum()) < 4 * sums.std() / np.sqrt(len(sums))
    assert all(len(set(drawn)) == 8 for drawn in np.asarray(rows).tolist())
    assert np.all(rates[np.asarray(rows)] > 0)
    assert np.all(np.asarray(weights) >= 1)
    often = np.bincount(np.asarray(rows).ravel(), minlength=40) / len(rows)
    assert np.corrcoef(often, rates)[0, 1] > 0.9


def test_where_too_few_rows_have_a_rate_all_of_them_are_drawn_and_stand_for_themselves():
    rates = jnp.array([0.0, 3.0, 0.0, 1.0, 0.0, 0.0])
    rows, weights = sampling.draw(jax.random.key(0), rates, 4)
    assert set(np.asarray(rows)[np.asarray(weights) > 0].tolist()) == {1, 3}
    assert sorted(weights.tolist()) == [0.0, 0.0, 1.0, 1.0]
