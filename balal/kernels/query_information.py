"""Rows that tell most about a set of query rows: greedy maximisation of a submodular mutual
information."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.ordering import argmax

# Rows whose gains are brought up to date at once.
_BLOCK = 64
# Gains closer than this share are ties: sums of float32 cannot tell them apart.
_TIE = 1e-6


@partial(jax.jit, static_argnames=("most", "eta"))
def facility_location(
    similarities: Float[Array, "N Q"],
    queries: Int[Array, ""],
    candidates: Bool[Array, " N"],
    *,
    most: int,
    eta: float = 1.0,
) -> tuple[Int[Array, " most"], Float[Array, " most"]]:
    """The candidates picked one after another, each for the largest gain of the facility-location
    mutual information with the queries, and these gains: int32 [most] and float32 [most]. Ties by
    the lowest row; -1 and 0 where candidates run out.

        I(A; Q) = sum_{q in Q} max_{j in A} s_qj + eta sum_{j in A} max_{q in Q} s_qj

    No gain grows with what is picked: an old one is an upper bound, and only rows whose bound is as
    large as the best gain are looked at again. `O(N Q)` at first, then per pick `O(N)`, and `O(Q)`
    for each such row.

    Args:
      similarities: [N, Q], of all rows to each query; not negative, finite.
      queries: how many of the Q there are, the first ones.
      candidates: bool [N].
      most: how many rows, at most N.
      eta: weight of a row's own similarity against how much it adds to what was picked before.

    Source: Kothawade, Beck, Killamsetty, Iyer, NeurIPS 2021, FLQMI. Twin: `facility_location` in
      tests/reference.py.

    >>> near = jnp.array([[0.9, 0.1], [0.8, 0.35], [0.2, 0.7]])
    >>> facility_location(near, jnp.int32(2), jnp.ones(3, bool), most=2)[0].tolist()
    [1, 2]
    """
    num_rows, number = similarities.shape
    there = jnp.arange(number, dtype=jnp.int32) < queries
    similarities = jnp.where(there[None, :], similarities.astype(jnp.float32), 0)
    own = eta * jnp.max(similarities, axis=1)

    def gains_of(rows, covered):
        return jnp.sum(jnp.maximum(rows - covered[None, :], 0), axis=1)

    def pick(place, carry):
        left, covered, bounds, made, indices, gains = carry

        def best(bounds, made):
            return jnp.max(jnp.where(left & (made == place), bounds, -1)) * (1 - _TIE)

        def outdated(state):
            bounds, made = state
            return left & (made < place) & (bounds >= best(bounds, made))

        def look(state):
            bounds, made = state
            old = outdated(state)
            rows = sharding.top_k(jnp.where(old, bounds, -1), min(_BLOCK, num_rows))[1]
            gain = gains_of(similarities[rows], covered) + own[rows]
            rows = jnp.where(old[rows], rows, num_rows)
            return (
                bounds.at[rows].set(gain, mode="drop"),
                made.at[rows].set(place, mode="drop"),
            )

        bounds, made = jax.lax.while_loop(
            lambda state: jnp.any(outdated(state)), look, (bounds, made)
        )
        row = argmax(bounds, left & (made == place), tolerance=_TIE)
        found = row >= 0
        return (
            left.at[jnp.where(found, row, num_rows)].set(False, mode="drop"),
            jnp.where(found, jnp.maximum(covered, sharding.fetch(similarities, row)), covered),
            bounds,
            made,
            indices.at[place].set(row),
            gains.at[place].set(jnp.where(found, bounds[row], 0)),
        )

    covered = jnp.zeros(number, jnp.float32)
    start = (
        candidates,
        covered,
        gains_of(similarities, covered) + own,
        jnp.zeros(num_rows, jnp.int32),
        jnp.full(most, -1, jnp.int32),
        jnp.zeros(most, jnp.float32),
    )
    *_, indices, gains = jax.lax.fori_loop(jnp.int32(0), jnp.int32(most), pick, start)
    return indices, gains
