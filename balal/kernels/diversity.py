"""Diversification over groups of rows: the best row of every group, then the second best of every
group, ... Groups are predicted source classes (Eq. 4 to 6), or clusters."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.ordering import argsort


def diversify(
    values: Float[Array | np.ndarray, " N"],
    predicted: Int[Array | np.ndarray, " N"],
    budget: int,
    *,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Int[Array, " budget"]:
    """The `budget` rows that come first when predicted classes take turns: int32 indices [b].

    Every class offers its rows in the order of their values. A round takes one row of each class
    that has any left, smallest value first, so that a round cut short by the budget keeps the rows
    with the smallest values. Ties go to the lowest row.

    Args:
      values: [N], smallest first: entropy for `ent_inv_div`, minus entropy for `ent_div`.
      predicted: int [N], the top-1 source class of each row, below 2^31 - 1.
      budget: how many to return.
      candidates: bool [N], the rows that may be returned (None: all). If there are fewer than
        `budget`, the tail is -1.

    Raises: ValueError when shapes disagree, the budget is not in [0, N], a value of a candidate is
      NaN, or a class is beyond its range.

    Two or three sorts, `O(N log N)`; no intermediate array is larger than [N, 2].

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 4 to 6. Twin: `diversify` in
      tests/reference.py.

    >>> diversify(jnp.array([0.1, 0.2, 0.3, 0.4]), jnp.array([7, 7, 7, 3]), 3).tolist()
    [0, 3, 1]
    """
    values = check.array("values", values)
    numbers = check.integers if jnp.issubdtype(values.dtype, jnp.integer) else check.floats
    values = numbers("values", values)
    predicted = check.rows("predicted", predicted, size=2**31 - 1, of="source classes", padded=True)
    if values.shape != predicted.shape or values.ndim != 1:
        raise ValueError(
            f"values and predicted must both be [N], got shapes {values.shape} and "
            f"{predicted.shape}"
        )
    num_rows, budget = len(values), check.whole_number("budget", budget)
    if not 0 <= budget <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and the {num_rows} rows of the pool, got {budget}"
        )
    candidates = check.mask("candidates", candidates, size=num_rows)
    check.known("values", values, candidates=candidates)
    return _diversify(values, predicted, budget, candidates)


@partial(jax.jit, static_argnames="budget")
def _diversify(values, predicted, budget: int, candidates) -> Int[Array, " budget"]:
    num_rows = len(values)
    # Rows that may not be asked for form a class of their own behind all others, so that they take
    # no other class's turn and sort last.
    behind = jnp.iinfo(jnp.int32).max
    classes = predicted.astype(jnp.int32)
    if candidates is not None:
        classes = jnp.where(candidates, classes, behind)
    by_value = argsort(values, num_rows)
    # From here on rows are indexed by their position in `by_value`.
    grouped = classes[by_value]
    turn = jnp.where(grouped < behind, _turns(grouped)[0], behind)
    # Turns from the budget on are never reached. As floats, which are exact up to 2^24, the first
    # few of many are found without a sort.
    turns = jnp.minimum(turn, budget).astype(jnp.float32) if budget <= 2**24 else turn
    order = argsort(turns, budget)
    return jnp.where(turn[order] < behind, by_value[order], -1)


def take_turns(groups: Int[Array, " n"], valid: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Places in the order in which groups take turns, in each round the smallest group first:
    int32 [n], -1 at the end for those that are not valid. Runs inside jit.

    Args:
      groups: int [n], the group of each place, in the order in which groups offer them; of groups
        of the same size the lowest goes first.
      valid: bool [n].

    Source: Citovsky et al., NeurIPS 2021, Algorithm 1, in closed form. Twin: `take_turns` in
      tests/reference.py.

    >>> take_turns(jnp.array([5, 5, 3, 5]), jnp.array([True, True, True, False])).tolist()
    [2, 0, 1, -1]
    """
    behind = jnp.iinfo(jnp.int32).max
    groups = jnp.where(valid, groups.astype(jnp.int32), behind)
    turn, size = _turns(groups)
    order = jnp.lexsort((groups, size, jnp.where(valid, turn, behind))).astype(jnp.int32)
    return jnp.where(valid[order], order, -1)


def _turns(groups: Int[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, " n"]]:
    """For each place how many of its group come before it, and how many there are: int32 [n]
    each."""
    by_group = argsort(groups, len(groups))
    grouped = groups[by_group]
    index = jnp.arange(len(groups), dtype=jnp.int32)
    opens = jnp.concatenate([jnp.ones(min(len(groups), 1), bool), grouped[1:] != grouped[:-1]])
    first = jax.lax.cummax(jnp.where(opens, index, 0))
    sizes = jnp.zeros_like(index).at[first].add(1)[first]
    there = jnp.zeros_like(index).at[by_group]
    return there.set(index - first), there.set(sizes)
