"""Book-keeping of a `Labelled`: rows are appended in order, the tail is padding (-1). All run
inside jit."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from balal.types import Labelled


def make(
    indices: np.ndarray | Array, labels: np.ndarray | Array, *, places: int | None = None
) -> Labelled:
    """These rows as a `Labelled` with room for `places` (None: just these), wanted by nobody.

    >>> make(np.array([4, 2]), np.array([0, 1]), places=3).indices.tolist()
    [4, 2, -1]
    """
    count = indices.shape[0]
    filled = Labelled(
        jnp.asarray(indices, jnp.int32),
        jnp.asarray(labels, jnp.int32),
        jnp.int32(count),
        jnp.full(count, -1, jnp.int32),
    )
    return filled if places is None else extend(filled, places - count)


def columns(labelled: Labelled) -> dict[str, Int[Array, " B"]]:
    """Its three columns by name, `wanted` filled with -1 where it was left out."""
    wanted = jnp.full_like(labelled.labels, -1) if labelled.wanted is None else labelled.wanted
    return dict(indices=labelled.indices, labels=labelled.labels, wanted=wanted)


def extend(labelled: Labelled, places: int) -> Labelled:
    """The same rows with `places` more places."""
    padded = {
        name: jnp.pad(column, (0, places), constant_values=-1)
        for name, column in columns(labelled).items()
    }
    return Labelled(**padded, count=labelled.count)


def append(
    labelled: Labelled, index: Int[Array, ""], label: Int[Array, ""], wanted: Int[Array, ""]
) -> Labelled:
    """One more row at the end; index -1 (nothing was left to pick) leaves everything as it is."""
    place = jnp.where(index >= 0, labelled.count, labelled.indices.shape[0])
    row = dict(indices=index, labels=label, wanted=wanted)
    appended = {
        name: column.at[place].set(row[name], mode="drop")
        for name, column in columns(labelled).items()
    }
    return Labelled(**appended, count=labelled.count + (index >= 0))


@jax.jit
def merge(labelled: Labelled, pending: Labelled) -> Labelled:
    """The rows of the first, then those of the second, in the places that the first has."""
    rows = columns(pending)
    return jax.lax.fori_loop(
        0,
        pending.count,
        lambda place, merged: append(
            merged, *(rows[name][place] for name in ("indices", "labels", "wanted"))
        ),
        labelled,
    )


def without(labelled: Labelled, indices: Int[Array, " n"]) -> Labelled:
    """The rows that are not among `indices` (padded with -1), moved up in their order.

    >>> without(make(np.array([4, 2, 7]), np.array([0, 1, 2])), jnp.array([2, -1])).indices.tolist()
    [4, 7, -1]
    """
    left = (labelled.indices >= 0) & ~jnp.isin(labelled.indices, indices)
    order = jnp.argsort(~left)
    moved = {
        name: jnp.where(left[order], column[order], -1)
        for name, column in columns(labelled).items()
    }
    return Labelled(**moved, count=jnp.sum(left, dtype=jnp.int32))
