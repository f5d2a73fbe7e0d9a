"""Bookkeeping of a `Labelled`: rows are appended in order, the tail is padding (-1). All functions
run inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from balal.types import Labelled


def make(
    indices: np.ndarray | Array, labels: np.ndarray | Array, *, capacity: int | None = None
) -> Labelled:
    """These rows as a `Labelled` with room for `capacity` (None: just these), without wanted
    classes.

    >>> make(np.array([4, 2]), np.array([0, 1]), capacity=3).indices.tolist()
    [4, 2, -1]
    """
    count = indices.shape[0]
    filled = Labelled(
        indices=jnp.asarray(indices, jnp.int32),
        labels=jnp.asarray(labels, jnp.int32),
        count=jnp.int32(count),
        wanted=jnp.full(count, -1, jnp.int32),
    )
    return filled if capacity is None else extend(filled, capacity - count)


def columns(labelled: Labelled) -> dict[str, Int[Array, " B"]]:
    """Its three columns by name, with `wanted` filled with -1 if it was left out."""
    wanted = jnp.full_like(labelled.labels, -1) if labelled.wanted is None else labelled.wanted
    return dict(indices=labelled.indices, labels=labelled.labels, wanted=wanted)


def extend(labelled: Labelled, more: int) -> Labelled:
    """The same rows with room for `more` rows after them."""
    padded = {
        name: jnp.pad(column, (0, more), constant_values=-1)
        for name, column in columns(labelled).items()
    }
    return Labelled(**padded, count=labelled.count)


def append(
    labelled: Labelled,
    index: Int[Array, ""],
    label: Int[Array, ""],
    wanted: Int[Array, ""] | int,
) -> Labelled:
    """One more row at the end; index -1 (nothing was left to pick) changes nothing."""
    end = jnp.where(index >= 0, labelled.count, labelled.indices.shape[0])
    row = dict(indices=index, labels=label, wanted=wanted)
    appended = {
        name: column.at[end].set(row[name], mode="drop")
        for name, column in columns(labelled).items()
    }
    return Labelled(**appended, count=labelled.count + (index >= 0).astype(jnp.int32))


@jax.jit
def merge(labelled: Labelled, pending: Labelled) -> Labelled:
    """The rows of the first, then those of the second, in the room that the first has."""
    rows = columns(pending)

    def add(number, merged):
        return append(merged, *(rows[name][number] for name in ("indices", "labels", "wanted")))

    return jax.lax.fori_loop(0, pending.count, add, labelled)


def keep(labelled: Labelled, kept: Bool[Array, " B"]) -> Labelled:
    """Only the rows that are kept, closed up in order.

    >>> keep(make(np.array([4, 2]), np.array([0, 1])), jnp.array([False, True])).indices.tolist()
    [2, -1]
    """
    kept &= labelled.indices >= 0
    order = jnp.argsort(~kept, stable=True)
    moved = {
        name: jnp.where(kept[order], column[order], -1)
        for name, column in columns(labelled).items()
    }
    return Labelled(**moved, count=jnp.sum(kept, dtype=jnp.int32))


def without(labelled: Labelled, indices: Int[Array, " n"]) -> Labelled:
    """The rows that are not among `indices` (padded with -1), closed up in order.

    >>> without(make(np.array([4, 2, 7]), np.array([0, 1, 2])), jnp.array([2])).indices.tolist()
    [4, 7, -1]
    """
    return keep(labelled, ~jnp.isin(labelled.indices, indices))


def answered(labelled: Labelled) -> Labelled:
    """The rows that have a label, closed up in order.

    >>> answered(make(np.array([4, 2]), np.array([-1, 1]))).indices.tolist()
    [2, -1]
    """
    return keep(labelled, labelled.labels >= 0)


def by_row(labelled: Labelled, num_rows: int) -> Int[Array, " N"]:
    """The answer to each row of the pool, -1 where there is none: int32 [N].

    >>> by_row(make(np.array([2, 0]), np.array([5, -1])), 3).tolist()
    [-1, -1, 5]
    """
    rows = jnp.where(labelled.indices >= 0, labelled.indices, num_rows)
    return jnp.full(num_rows, -1, jnp.int32).at[rows].set(labelled.labels, mode="drop")


def contains(labelled: Labelled, num_rows: int) -> Bool[Array, " N"]:
    """Whether it has each row of the pool, answered or not: bool [N].

    >>> contains(make(np.array([2, 0]), np.array([5, -1])), 3).tolist()
    [True, False, True]
    """
    rows = jnp.where(labelled.indices >= 0, labelled.indices, num_rows)
    return jnp.zeros(num_rows, bool).at[rows].set(True, mode="drop")
