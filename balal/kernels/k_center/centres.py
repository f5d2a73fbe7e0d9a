"""The centres so far, which every search carries and adds to."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Centres:
    """Labelled rows, then picks.

    Attributes:
      rows: int32 [P], -1 beyond `count`.
      distances: [P], squared distance of each to its nearest centre when it was picked.
      count: how many there are.
      resolved: whether products in float32 were precise enough for every pick so far; if not,
        passes over the features take over.
    """

    rows: Int[Array, " P"]
    distances: Float[Array, " P"]
    count: Int[Array, ""]
    resolved: Bool[Array, ""]


def labelled_centres(labelled: Int[Array, " B"], *, room: int) -> Centres:
    """The labelled rows as first centres, with room for more.

    Args:
      labelled: int32 [B], -1 = padding, which may lie between the rows: a labelled set with room
        for a whole budget is mostly padding at first. It goes behind the rows, where it is never
        read.
      room: for how many more centres.

    >>> labelled_centres(jnp.array([-1, 7]), room=1).rows.tolist()
    [7, -1, -1]
    """
    filled, total = labelled >= 0, len(labelled) + room
    index = jnp.where(filled, jnp.cumsum(filled, dtype=jnp.int32) - 1, total)
    rows = jnp.full(total, -1, jnp.int32).at[index].set(labelled, mode="drop")
    count = jnp.sum(filled, dtype=jnp.int32)
    return Centres(rows, jnp.zeros(total, jnp.float32), count, jnp.array(True))


def add_centre(centres: Centres, row, distance, wanted) -> Centres:
    """One more centre if it is wanted; otherwise nothing that is ever read.

    >>> add_centre(labelled_centres(jnp.array([7]), room=1), 3, 0.5, jnp.array(True)).rows.tolist()
    [7, 3]
    """
    rows = centres.rows.at[centres.count].set(jnp.where(wanted, row, -1), mode="drop")
    distances = centres.distances.at[centres.count].set(jnp.where(wanted, distance, 0), mode="drop")
    count = centres.count + wanted.astype(jnp.int32)
    return replace(centres, rows=rows, distances=distances, count=count)
