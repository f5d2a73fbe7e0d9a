"""Neighbours: the k nearest rows of every row, in blocks, without a table of all pairs, and how central a row lies among them."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Numbers in one block of the table of all pairs: it stays in the processor's cache or near it.
_TABLE = 2**22
# The share of two squared lengths below which the squared distance is only rounding.
_NOTHING = 2e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbours:
    """What `nearest` finds. indices: int32 [N, k], the nearest first, -1 where there are no more. distances: [N, k], then infinite."""

    indices: Int[Array, "*S N k"]
    distances: Float[Array, "*S N k"]


@partial(jax.jit, static_argnames="k")
def nearest(
    features: Float[Array, "N D"], k: int, *, among: Int[Array, " M"] | None = None, candidates: Bool[Array, " N"] | None = None
) -> Neighbours:
    """The k nearest rows of each row by Euclidean distance, itself left out. `O(N M D)` time and `O(N k)` extra memory.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      k: how many, at least 1.
      among: int [M], the rows that may be neighbours, each once (None: all). candidates: bool [N], those of them that count (None: all).

    Distances are taken in float32 as `|x|^2 + |y|^2 - 2 x.y` around the mean of the rows: squares are right to about 1e-6 of the squared
    lengths, and those that cannot be told from 0 are 0.

    Source: plain geometry, a block of rows at a time as one matrix product.

    Raises: ValueError when `features` is not [N, D] or k is below 1.

    >>> found = nearest(jnp.array([[0.0], [1.0], [5.0]]), 1)
    >>> found.indices[:, 0].tolist(), found.distances[:, 0].tolist()
    ([1, 0, 1], [1.0, 1.0, 4.0])
    """
    if features.ndim != 2 or k < 1:
        raise ValueError(f"features must be [N, D] and k at least 1, got shape {features.shape} and k={k}")
    size = features.shape[0]
    points = features.astype(jnp.float32)
    points -= points[:1]
    points -= jnp.mean(points, axis=0, keepdims=True)
    squares = jnp.sum(jnp.square(points), axis=1)
    among = jnp.arange(size, dtype=jnp.int32) if among is None else among.astype(jnp.int32)
    others, others_squares = points[among], squares[among]
    if candidates is not None:
        others_squares = jnp.where(candidates[among], others_squares, jnp.inf)
    found = min(k, len(among))

    def block(rows):
        products = jnp.matmul(points[rows], others.T, precision="highest")
        table = squares[rows][:, None] + others_squares[None, :]
        table = jnp.where(2 * products > (1 - _NOTHING) * table, 0, table - 2 * products)
        table = jnp.where(rows[:, None] == among[None, :], jnp.inf, table)
        negative, places = jax.lax.top_k(-table, found)
        return jnp.where(negative > -jnp.inf, among[places], -1), jnp.sqrt(-negative)

    height = max(1, min(size, 256, _TABLE // max(len(among), 1)))
    rows = jnp.minimum(jnp.arange(-(-size // height) * height, dtype=jnp.int32), size - 1).reshape(-1, height)
    indices, distances = (values.reshape(-1, found)[:size] for values in jax.lax.map(block, rows))
    missing = ((0, 0), (0, k - found))
    return Neighbours(jnp.pad(indices, missing, constant_values=-1), jnp.pad(distances, missing, constant_values=jnp.inf))


def relative_typicality(found: Neighbours) -> Float[Array, " N"]:
    """How central a row lies among its nearest rows: [N], 1 where it does as they do, more where it lies closer. Runs inside jit.

    The mean distance from its neighbours to theirs over its own mean distance to them. Typicality itself, 1 over the mean distance, is
    largest where rows are dense, which is in frequent classes; relative to the neighbours a row of a rare class can be as typical as any.
    1 for rows without neighbours, and for copies.

    Args:
      found: the neighbours of every row of the pool, which `nearest` found among all rows or among some.

    Source: the inverse of the local outlier factor (Breunig, Kriegel, Ng, Sander, SIGMOD 2000), without its reachability distance.

    >>> relative_typicality(nearest(jnp.array([[0.0], [1.0], [2.0], [6.0]]), 2)).round(2).tolist()
    [0.8299999833106995, 1.5, 0.8299999833106995, 0.2800000011920929]
    """
    there = found.indices >= 0
    number = jnp.maximum(jnp.sum(there, axis=1), 1)
    own = jnp.sum(jnp.where(there, found.distances, 0), axis=1) / number
    theirs = jnp.sum(jnp.where(there, own[found.indices], 0), axis=1) / number
    return jnp.where(own > 0, theirs / jnp.where(own > 0, own, 1), 1)
