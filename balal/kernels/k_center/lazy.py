"""The lazy search of k-center: distances to the nearest centre only shrink, so an old one is an
upper bound of the new one.

The search keeps such a bound for every row, brings only the few thousand largest up to date, by
matrix products, and picks among them while they exceed every bound outside. Most rows of a pool are
thus compared with only a few centres.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import xla
from balal.kernels.distances import (
    middle,
    product_error,
    seen_from,
    squared_lengths,
    upper_bounds,
)
from balal.kernels.k_center.centres import Centres
from balal.kernels.k_center.products import pick_among, top
from balal.kernels.ordering import first_true

# If a batch of rows led to no pick, all bounds above this share of the largest up-to-date one are
# brought up to date.
_DEPTH = 0.98


@dataclass(frozen=True)
class Sizes:
    """How many rows and centres the search handles at once. Any sizes give the same picks.

    Attributes:
      pool: rows brought up to date together.
      tile: rows in one matrix product.
      block: rows picked from together.
      chunk: centres in one matrix product.
      early: once there are so many centres, all rows are compared with them, as the bounds from the
        first centre alone are loose.
    """

    pool: int = 4_096
    tile: int = 512
    block: int = 256
    chunk: int = 32
    early: int = 64


SIZES = Sizes()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounds:
    """What is known of some rows.

    Attributes:
      values: [n], never below the squared distance to the nearest centre; -inf: not to be picked.
      owners: int32 [n], the centre that the bound comes from.
      seen: int32 [n], how many centres, in their order, the row has been compared with.
    """

    values: Float[Array, " n"]
    owners: Int[Array, " n"]
    seen: Int[Array, " n"]


def sizes_for(num_rows: int, budget: int) -> Sizes:
    """Sizes that are fast: when a large share of the pool is picked, most rows are compared again
    and again, and more picks at a time are worth a larger table.

    >>> sizes_for(1000, 10).block, sizes_for(1000, 100).block
    (256, 512)
    """
    return replace(SIZES, block=2 * SIZES.block) if budget > num_rows // 50 else SIZES


def pick(
    features, centres: Centres, left, goal, nearest, sizes: Sizes
) -> tuple[Centres, Bool[Array, " N"]]:
    """Picks until there are `goal` centres or products cannot resolve what comes next. Returns the
    centres and the rows left. `nearest` holds the squared distances to the first centre."""
    amid = middle(features, left)
    # One pass over the features measures all rows to the first centre. It is rounded differently,
    # so these bounds are enlarged as well.
    first = centres.rows[0]
    values = (1 + product_error(features.shape[1])) * nearest
    values = jnp.where(left, jnp.where(values < jnp.inf, values, jnp.inf), -jnp.inf)
    bounds = Bounds(values, jnp.full(len(left), first), jnp.ones(len(left), jnp.int32))

    def step(carry):
        centres, bounds, stuck = carry
        early = (centres.count >= sizes.early) & jnp.any(
            (bounds.values > -jnp.inf) & (bounds.seen < sizes.early)
        )
        bounds = _refresh(bounds, features, amid, centres, early, stuck, sizes)
        until = jnp.where(centres.count < sizes.early, jnp.minimum(goal, sizes.early), goal)
        more, bounds = _pick_from_block(bounds, features, amid, centres, until, sizes)
        return more, bounds, (more.count == centres.count) & ~early

    centres, bounds, _ = jax.lax.while_loop(
        lambda carry: (carry[0].count < goal) & carry[0].resolved,
        step,
        (centres, bounds, jnp.array(False)),
    )
    return centres, bounds.values > -jnp.inf


def _refresh(
    bounds: Bounds, features, amid, centres: Centres, early, stuck, sizes: Sizes
) -> Bounds:
    """Brings a batch of the largest bounds up to date.

    If such a batch led to no pick, the search is `stuck`: then all rows that may precede the best
    up-to-date one are brought up to date, and some more. If it is `early`, all rows are compared
    with the early centres.
    """
    num_rows = len(bounds.values)
    pool = min(sizes.pool, num_rows)
    largest = jax.lax.top_k(bounds.values, pool)[1]
    outside = jnp.max(bounds.values.at[largest].set(-jnp.inf))
    # The rows of a tile are compared with every centre that any of them has not seen, so rows that
    # have seen equally many go together. Keys that hold the index sort faster than keys with
    # separate indices.
    index = jnp.arange(pool, dtype=jnp.int32)
    keys = jnp.minimum(bounds.seen[largest], 2**31 // pool - 1) * pool + index
    largest = largest[jnp.sort(keys) % pool]
    everything = early | stuck
    until = jnp.where(early, sizes.early, centres.count)
    most = jnp.where(early, sizes.early, sizes.chunk)

    def refresh(number, bounds):
        rows = jnp.minimum(jnp.int32(number * pool) + index, num_rows - 1)
        rows = jnp.where(everything, rows, largest)
        # Found again for each batch: the one before may have raised it, which spares rows of this
        # one.
        best = jnp.max(jnp.where(bounds.seen == centres.count, bounds.values, -jnp.inf))
        under = jnp.where(early, -jnp.inf, jnp.where(stuck, _DEPTH * best, outside))
        return _lower(bounds, features, amid, centres, rows, under, until, most, sizes)

    return jax.lax.fori_loop(0, jnp.where(everything, -(-num_rows // pool), 1), refresh, bounds)


def _lower(
    bounds: Bounds, features, amid, centres: Centres, rows, under, until, most, sizes: Sizes
) -> Bounds:
    """Compares a batch of rows with the centres before `until` that they have not seen, while their
    bounds are not below `under`.

    In rounds, each with twice the centres of the one before; the first has `most` of them, after
    which most rows are done.
    """

    def compare(carry):
        bounds, rows, number, most = carry
        # Rows that need another round go first, in order; after them the first one is repeated.
        values = bounds.values[rows]
        wait = (values >= under) & (values > -jnp.inf) & (bounds.seen[rows] < until)
        wait &= jnp.arange(len(rows), dtype=jnp.int32) < number
        index = jnp.where(wait, jnp.cumsum(wait, dtype=jnp.int32) - 1, len(rows))
        first = rows[first_true(wait)]
        rows = jnp.broadcast_to(first, rows.shape).at[index].set(rows, mode="drop")
        number = jnp.sum(wait, dtype=jnp.int32)

        def tile(tile, bounds):
            some = jax.lax.dynamic_slice(rows, (tile * sizes.tile,), (sizes.tile,))
            return _compare(bounds, features, amid, centres, some, until, most, sizes)

        tiles = (number + sizes.tile - 1) // sizes.tile
        return jax.lax.fori_loop(0, tiles, tile, bounds), rows, number, 2 * most

    number = jnp.int32(len(rows))
    # Padded, so that a slice that begins among the rows never ends beyond the array.
    rows = jnp.concatenate([rows, jnp.zeros(sizes.tile, jnp.int32)])
    return jax.lax.while_loop(lambda carry: carry[2] > 0, compare, (bounds, rows, number, most))[0]


def _compare(
    bounds: Bounds, features, amid, centres: Centres, rows, until, most, sizes: Sizes
) -> Bounds:
    """A tile of rows compared with up to `most` more centres, by one product of [tile, D] and [D,
    chunk] after another."""
    points = seen_from(amid, features, rows)
    values, owners, seen = bounds.values[rows], bounds.owners[rows], bounds.seen[rows]
    begin = jnp.min(jnp.where(values > -jnp.inf, seen, until))
    end = jnp.minimum(begin + most, until)

    def chunk(carry):
        number, values, owners = carry
        others = jax.lax.dynamic_slice(centres.rows, (number,), (sizes.chunk,))
        there = number + jnp.arange(sizes.chunk, dtype=jnp.int32) < end
        table = _distances(points, seen_from(amid, features, others))
        table = jnp.where(there[None, :], table, jnp.inf)
        nearest = jnp.min(table, axis=1)
        owner = others[first_true(table == nearest[:, None])]
        closer = nearest < values
        values, owners = jnp.where(closer, nearest, values), jnp.where(closer, owner, owners)
        return number + sizes.chunk, values, owners

    carry = begin, values, owners
    _, values, owners = jax.lax.while_loop(lambda carry: carry[0] < end, chunk, carry)
    return _put(bounds, rows, Bounds(values, owners, jnp.maximum(seen, end)))


def _pick_from_block(
    bounds: Bounds, features, amid, centres: Centres, until, sizes: Sizes
) -> tuple[Centres, Bounds]:
    """Picks from a block of the largest up-to-date bounds while they exceed all others, using the
    table of distances within the block."""
    block = min(sizes.block, len(bounds.values))
    fresh = jnp.where(bounds.seen == centres.count, bounds.values, -jnp.inf)
    # Ascending, so that the lowest index is the lowest row.
    rows = jnp.sort(jax.lax.top_k(fresh, block)[1])
    rival = top(bounds.values.at[rows].set(-jnp.inf))
    points = seen_from(amid, features, rows)
    lengths, table = squared_lengths(points), _distances(points, points)
    before = centres.count

    values, owners = fresh[rows], bounds.owners[rows]
    centres, values, owners = pick_among(
        rows, features, centres, until, lengths, values, owners, rival, lambda index: table[index]
    )
    # If few rows are up to date, a block may hold others: they keep their values.
    changed = Bounds(values, owners, jnp.full_like(rows, 0) + centres.count)
    changed = jax.tree.map(
        lambda new, old: jnp.where(bounds.seen[rows] == before, new, old[rows]), changed, bounds
    )
    return centres, _put(bounds, rows, changed)


def _distances(points: Float[Array, "n D"], others: Float[Array, "m D"]) -> Float[Array, "n m"]:
    """Upper bounds of all squared distances, [n, m]."""
    products = jax.lax.dot_general(
        points, others, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    lengths = squared_lengths(points)[:, None] + squared_lengths(others)[None, :]
    bounds = upper_bounds(lengths, products, num_features=points.shape[1])
    # Computed once: the owner of a bound is the centre whose bound equals the smallest, and if XLA
    # recomputed a bound for each use, it might round one of them differently.
    return xla.opaque(bounds)


def _put(bounds: Bounds, rows, changed: Bounds) -> Bounds:
    return jax.tree.map(lambda values, new: values.at[rows].set(new), bounds, changed)
