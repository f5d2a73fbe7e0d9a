"""Diversification over predicted source classes: the best row of every class, then the second best of every class, ... (Eq. 4 to 6)."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Real

from balal import sharding


@partial(jax.jit, static_argnames="budget")
def diversify(
    values: Float[Array, " N"], predicted: Int[Array, " N"], budget: int, *, candidates: Bool[Array, " N"] | None = None
) -> Int[Array, " budget"]:
    """The `budget` rows that come first when predicted classes take turns: int32 indices [b].

    Every class offers its rows in the order of their values. A round takes one row of each class that has any left, the smallest value
    first, so that a round cut short by the budget holds the most convincing rows. Ties go to the lowest row.

    Args:
      values: [N], smallest first: entropy for `ent_inv_div`, minus entropy for `ent_div`.
      predicted: int [N], the top-1 source class of each row, below 2^31 - 1.
      budget: how many to return.
      candidates: bool [N], the rows that may be returned (None: all). Where fewer than `budget` are, the tail is -1.

    Raises: ValueError when shapes disagree or the budget is not in [0, N].

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 4 to 6. Two or three sorts, `O(N log N)`.

    >>> diversify(jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([7, 7, 7, 3]), 3).tolist()
    [0, 3, 1]
    """
    size = values.shape[0]
    if values.shape != predicted.shape or values.ndim != 1:
        raise ValueError(f"values and predicted must both be [N], got shapes {values.shape} and {predicted.shape}")
    if not 0 <= budget <= size:
        raise ValueError(f"budget must lie between 0 and the {size} rows of the pool, got {budget}")
    # Rows that may not be asked are a class of their own behind all others, so they take nobody's turn and sort last.
    behind = jnp.iinfo(jnp.int32).max
    classes = predicted.astype(jnp.int32) if candidates is None else jnp.where(candidates, predicted.astype(jnp.int32), behind)
    by_value = ascending(values, size)
    by_class = ascending(classes[by_value], size)  # places in by_value, as all that follow
    grouped = classes[by_value[by_class]]
    position = jnp.arange(size, dtype=jnp.int32)
    opens_class = jnp.concatenate([jnp.ones(min(size, 1), bool), grouped[1:] != grouped[:-1]])
    first_of_class = jax.lax.cummax(jnp.where(opens_class, position, 0))
    turn = jnp.zeros(size, jnp.int32).at[by_class].set(jnp.where(grouped < behind, position - first_of_class, behind))
    # Turns from the budget on are never reached; as floats, which are exact up to 2^24, the first ones are found without a sort.
    order = ascending(jnp.minimum(turn, budget).astype(jnp.float32) if budget <= 2**24 else turn, budget)
    return jnp.where(turn[order] < behind, by_value[order], -1)


def ascending(values: Real[Array, " N"], k: int) -> Int[Array, " k"]:
    """The places of the `k` smallest of [N], in order, of equals the lowest place first: int32 [k].

    Values are floats, or integers that fit into int32. A tenth of the floats is found without sorting all. On CPUs XLA sorts a single array
    of integers three to six times as fast as floats or two arrays, and in its place: so each number, as an integer of the same order,
    becomes the upper half of a 64-bit integer whose lower half is its place. The mode in which JAX has such integers is on for the sort
    alone.

    >>> ascending(jnp.array([0.5, -1.0, 0.5]), 3).tolist()
    [1, 0, 2]
    """
    size, floats = values.shape[0], jnp.issubdtype(values.dtype, jnp.floating)
    if values.dtype.itemsize > 4:
        return jnp.argsort(values)[:k].astype(jnp.int32)
    if floats and k <= size // 10:
        return sharding.top_k(-values.astype(jnp.float32), k)[1]
    sign = jnp.uint32(1 << 31)
    if floats:
        bits = jax.lax.bitcast_convert_type(jnp.where(values == 0, 0, values).astype(jnp.float32), jnp.uint32)
        keys = jnp.where(bits < sign, bits | sign, ~bits)
    else:
        keys = jax.lax.bitcast_convert_type(values.astype(jnp.int32), jnp.uint32) ^ sign
    places = jax.lax.iota(jnp.uint32, size)
    halves = jnp.stack([places, keys], axis=1)
    with jax.enable_x64(True):
        joined = jax.lax.bitcast_convert_type(halves, jnp.uint64)
        halves = jax.lax.bitcast_convert_type(jax.lax.sort(joined, is_stable=False), jnp.uint32)
    return halves[:k, 0].astype(jnp.int32)
