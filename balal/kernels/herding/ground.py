"""What is to be covered: the rows of a pool, their weights, and how similar they are; and how much
a row would add to what is covered."""

from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding, xla
from balal.kernels.distances import all_distances

Similarity = Literal["gaussian", "ball"]
# The largest table of all similarities, in bytes: of 23,170 rows, or of balls of 46,340 rows.
_TABLE = 2**31
# Numbers in one block of similarities, so that it about fits the processor's cache.
_BLOCK = 2**22
# Rows whose gains are measured together: by the table, or by a matrix product.
_FEW, _MANY = 32, 64
# Balls that are taken away together: most picks cover few rows.
_GONE = 16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ground:
    """The rows to be covered.

    Attributes:
      points: [N, D], centred.
      lengths: [N], their squared lengths.
      weights: [N], how much each is worth covering.
      radius: of the similarity.
      similarity: "gaussian" or "ball".
      table: [N, N], all similarities; None: they are computed where they are needed.
    """

    points: Float[Array, "N D"]
    lengths: Float[Array, " N"]
    weights: Float[Array, " N"]
    radius: Float[Array, ""]
    similarity: Similarity = field(metadata=dict(static=True))
    table: Float[Array, "N N"] | Bool[Array, "N N"] | None = None

    @property
    def batch(self) -> int:
        """How many rows are best measured together."""
        return min(len(self.points), _MANY if self.table is None else _FEW)


def similar(ground: Ground, squares: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """The similarities at some squared distances: [...] of any shape."""
    if ground.similarity == "ball":
        return (squares < jnp.square(ground.radius)).astype(jnp.float32)
    return jnp.exp(-squares / jnp.square(ground.radius))


def with_first_gains(
    ground: Ground, covered: Float[Array, " N"]
) -> tuple[Ground, Float[Array, " N"]]:
    """The ground with its table, if it is not too large and not spread over devices, and what every
    row would add to what is covered: [N]."""
    num_rows, ball = len(covered), ground.similarity == "ball"
    rows = jnp.arange(num_rows, dtype=jnp.int32)
    height = max(1, min(256, _BLOCK // num_rows))

    def block(rows):
        part = _similarities(ground, rows)
        return _each_adds(ground, covered, part), part.astype(bool) if ball else part

    if num_rows**2 * (1 if ball else 4) > _TABLE or sharding.devices() > 1:
        return ground, xla.map_tiles(lambda rows: block(rows)[0], rows, height=height)
    gains, table = xla.map_tiles(block, rows, height=height)
    return replace(ground, table=table), gains


def gains_of(
    ground: Ground, covered: Float[Array, " N"], rows: Int[Array, " n"]
) -> Float[Array, " n"]:
    """What some rows would add to what is covered: [n]."""
    if ground.table is None:
        return _each_adds(ground, covered, _similarities(ground, rows))
    # One after another: on a CPU twice as fast as all rows at once, and three times as fast as
    # blocks of a single row.
    table = ground.table
    return jax.lax.map(lambda row: _adds(ground, covered, table[row].astype(jnp.float32)), rows)


def without(
    ground: Ground, gains: Float[Array, " N"], gone: Bool[Array, " N"]
) -> Float[Array, " N"]:
    """The gains of balls, [N], once some rows are gone from what is to be covered: bool [N]. Each
    row goes once, so that all of them together cost no more than the first gains."""
    rows = jnp.nonzero(gone, size=len(gone), fill_value=-1)[0].astype(jnp.int32)
    rows = jnp.pad(rows, (0, -len(rows) % _GONE), constant_values=-1).reshape(-1, _GONE)

    def block(number, gains):
        part = rows[number]
        worth = jnp.where(part >= 0, ground.weights[part], 0)
        return gains - jnp.sum(_similarities(ground, part) * worth[:, None], axis=0)

    filled = jnp.sum(rows[:, 0] >= 0, dtype=jnp.int32)
    return jax.lax.fori_loop(0, filled, block, gains)


def _similarities(ground: Ground, rows: Int[Array, " n"]) -> Float[Array, "n N"]:
    """The similarities of some rows to all."""
    if ground.table is None:
        return similar(ground, all_distances(ground.points, ground.lengths, rows))
    return ground.table[rows].astype(jnp.float32)


def _adds(
    ground: Ground, covered: Float[Array, " N"], similarities: Float[Array, " N"]
) -> Float[Array, ""]:
    """What a row with these similarities would add to what is covered."""
    return jnp.sum(jnp.maximum(similarities - covered, 0) * ground.weights)


def _each_adds(
    ground: Ground, covered: Float[Array, " N"], similarities: Float[Array, "n N"]
) -> Float[Array, " n"]:
    """What each of some rows would add."""
    return jax.vmap(lambda row: _adds(ground, covered, row))(similarities)
