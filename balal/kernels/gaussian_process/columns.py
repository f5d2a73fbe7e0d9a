"""Columns: what each observed row, by a label or as a landmark, has explained of all rows. They are
stored in parts, of which only those in use are read."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from balal import xla

# Columns are stored in up to `_PARTS` parts of at least `_PART` each. A part is an array of its
# own, so it is read at full speed.
_PARTS, _PART = 4, 64


def empty(number: int, num_rows: int, known: Float[Array, ""]) -> tuple[Float[Array, "p N"], ...]:
    """Room for at least `number` columns, allocated only once `known`, a number of at least 0, has
    been computed: until then copies of the features need the memory.

    >>> [part.shape for part in empty(100, 5, jnp.float32(1))]
    [(50, 5), (50, 5)]
    """
    parts = min(_PARTS, -(-number // _PART) or 1)
    return (xla.after(jnp.zeros((-(-number // parts), num_rows), jnp.float32), known),) * parts


def put(
    columns: tuple[Float[Array, "p N"], ...], begin, added: Float[Array, "q N"]
) -> tuple[Float[Array, "p N"], ...]:
    """The columns with some more, from number `begin` on, as far as there is room.

    >>> put((jnp.zeros((2, 1)), jnp.zeros((2, 1))), 1, jnp.ones((2, 1)))[1].tolist()
    [[1.0], [0.0]]
    """

    def put_in(number, part):
        inside = begin - number * len(part)
        height = min(len(added), len(part))
        nearest = jnp.clip(inside, 0, len(part) - height)
        source = nearest + jnp.arange(height, dtype=jnp.int32) - inside
        # Always the same number of columns, read and written in place: a scatter or a branch would
        # copy the part.
        kept = jax.lax.dynamic_slice_in_dim(part, nearest, height)
        kept = jnp.where(((source >= 0) & (source < len(added)))[:, None], added[source], kept)
        return jax.lax.dynamic_update_slice_in_dim(part, kept, nearest, axis=0)

    return tuple(put_in(number, part) for number, part in enumerate(columns))


def unexplained(
    covariance: Float[Array, "p N"],
    columns: tuple[Float[Array, "q N"], ...],
    count: Int[Array, ""],
    rows: Int[Array, " p"],
) -> Float[Array, "p N"]:
    """The covariance of every row with the given ones, minus what the first `count` columns have
    explained of it.

    >>> unexplained(jnp.ones((1, 2)), (jnp.ones((1, 2)),), jnp.int32(1), jnp.array([0])).tolist()
    [[0.0, 0.0]]
    """

    def explained(part):
        return jnp.matmul(part[:, rows].T, part, precision="highest")

    def nothing(part):
        return jnp.zeros_like(covariance)

    for number, part in enumerate(columns):
        covariance -= jax.lax.cond(count > number * len(part), explained, nothing, part)
    return covariance


def filled(columns: tuple[Float[Array, "p N"], ...], count: Int[Array, ""]) -> list[Array]:
    """How many columns of each part are among the first `count`.

    >>> [int(number) for number in filled((jnp.ones((2, 1)), jnp.ones((2, 1))), jnp.int32(3))]
    [2, 1]
    """
    sizes = [len(part) for part in columns]
    return [jnp.clip(count - sum(sizes[:number]), 0, size) for number, size in enumerate(sizes)]


def take(
    table: Float[Array, "r N"], rows: Int[Array, " n"], *, lines: Int[Array, ""] | None = None
) -> Float[Array, "r n"]:
    """Some rows of the pool from a table with a column for each row.

    Args:
      table: [r, N].
      rows: [n], the rows of the pool to take.
      lines: how many lines of the table are taken; the others are 0 (None: all).

    >>> take(jnp.array([[1.0, 2.0]]), jnp.array([1, 1])).tolist()
    [[2.0, 2.0]]
    """

    # Line by line, so that each line stays contiguous in memory.
    def take_line(line, taken):
        entries = table[line].at[rows].get(mode="promise_in_bounds")
        return jax.lax.dynamic_update_slice_in_dim(taken, entries[None], line, axis=0)

    nothing = jnp.zeros((len(table), len(rows)), table.dtype)
    return jax.lax.fori_loop(0, len(table) if lines is None else lines, take_line, nothing)
