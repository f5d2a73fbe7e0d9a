"""Coverage of the pool: exact greedy k-center, the core-set strategy's kernel (Eq. 7)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import sharding
from balal.kernels import sampling
from balal.kernels.ordering import argmax, first_true
from balal.types import askable


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Centers:
    """The picks of `k_center`. indices: int32 [b]. radii: [b], the covering radius of the
    candidates after each pick."""

    indices: Int[Array, "*S b"]
    radii: Float[Array, "*S b"]


@partial(jax.jit, static_argnames="budget")
def k_center(
    features: Float[Array, "N D"],
    budget: int,
    *,
    labelled: Int[Array, " B"] | None = None,
    candidates: Bool[Array, " N"] | None = None,
    start: int | Int[Array, ""] | None = None,
    key: Key[Array, ""] | None = None,
) -> Centers:
    """Greedy k-center: always the candidate that is farthest from its nearest centre. Exact, with
    `O(N)` extra memory.

    Distances to the nearest centre only shrink, so an old one is an upper bound of the new one. The
    search keeps such bounds, brings only the few thousand largest up to date, by matrix products,
    and picks among them while they exceed every bound outside. Each pick is measured as a sum of
    squared differences to its nearest centre, as is every row that might precede it: a common
    offset costs no precision, duplicates are exactly 0 apart, and ties are ties. One plain pass
    over the pool a pick serves small pools, and what is left once the farthest candidate is so near
    to a centre (a quarter of its distance from the mean) that products may not tell to which. Pools
    spread over devices are passed over plainly.

    Args:
      features: [N, D], float32, bfloat16 or float16; Euclidean distances, taken in float32.
      budget: how many to pick.
      labelled: int [B], rows that are centres from the outset, -1 = padding; they are not picked
        again.
      candidates: bool [N], the rows that may be picked (None: all).
      start: the row to pick first; passed over where it is no candidate or labelled already.
      key: draws the first pick where no centre and no `start` is given.

    Returns: `.indices` int32 [b] in the order of the picks, ties to the lowest row, and `.radii`
      [b]: the largest distance of a candidate to its nearest centre after each pick. Where
      candidates run out the indices are -1 and the radii 0. Where every `labelled` place is padding
      and neither `start` nor `key` is given, the first pick is the lowest candidate. The picks are
      those of exact arithmetic where the best two squared distances differ by more than
      `product_error` times |x|^2 + |c|^2, `x` and its centre `c` taken from the mean.

    Raises: ValueError when `features` is not [N, D], the budget is not in [0, N], or nothing says
    where to begin.

    Source: Sener, Savarese, ICLR 2018; Gonzalez 1985; Eq. 7 of Aggarwal, Popescu, Hudelot, WACV
      2020. Differs from the widely copied 2018 code in the random cold start, which that code never
      reaches.

    >>> centers = k_center(jnp.array([[0.0], [1.0], [5.0], [9.0]]), 3, start=0)
    >>> centers.indices.tolist(), centers.radii.tolist()
    ([0, 3, 2], [9.0, 4.0, 1.0])
    """
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], got shape {features.shape}")
    size = features.shape[0]
    if not 0 <= budget <= size:
        raise ValueError(f"budget must lie between 0 and the {size} rows of the pool, got {budget}")
    if labelled is None and start is None and key is None:
        raise ValueError(
            "k_center needs somewhere to begin: pass labelled rows, start=row, or "
            "key=jax.random.key(seed)"
        )
    # Plain passes over so little take under half a second, and the lazy search takes longer to
    # compile by more than that.
    sizes = _SIZES if features.size * budget >= 2**30 and sharding.devices() == 1 else None
    if sizes and budget > size // 50:
        # Where many are picked of few, most rows are compared again and again, and more picks at a
        # time are worth a larger table.
        sizes = replace(sizes, block=2 * sizes.block)
    return _k_center(features, budget, labelled, candidates, start, key, sizes)


def squared_distances(
    features: Float[Array, "N D"], point: Float[Array, " D"]
) -> Float[Array, " N"]:
    """Squared Euclidean distance of every row to one point: float32 [N] from [N, D] and [D].

    A sum of squared differences: it reads the features once, like a matrix-vector product, and
    nothing cancels.

    >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.zeros(2)).tolist()
    [0.0, 25.0]
    """

    def whole(rows, point):
        return jnp.sum(
            jnp.square(rows.astype(jnp.float32) - point.astype(jnp.float32)[None, :]), axis=1
        )

    def tiled(features, point):
        size, height = features.shape[0], max(1, _TILE // features.shape[1])

        def tile(number, distances):
            # The last tile ends with the last row; what it shares with the one before is computed
            # twice.
            begin = jnp.minimum(number * height, size - height)
            some = whole(jax.lax.dynamic_slice_in_dim(features, begin, height), point)
            return jax.lax.dynamic_update_slice_in_dim(distances, some, begin, axis=0)

        return jax.lax.fori_loop(0, -(-size // height), tile, jnp.zeros(size, jnp.float32))

    def any_size(features, point):
        if features.size <= _WHOLE:
            return whole(features, point)
        return jax.lax.platform_dependent(features, point, cpu=tiled, default=whole)

    return sharding.by_rows(any_size, (0, None), 0)(features, point)


def product_error(size: int) -> float:
    """The share of |x|^2 + |c|^2 by which |x|^2 + |c|^2 - 2 x.c is made larger to be an upper bound
    of a squared distance in float32.

    Twice what such products of `size` numbers were seen to err at most, on features of which all
    columns are equal: 1.9e-6 of up to 512 numbers, 4.7e-6 of 1,280, and 7.5e-6 of 2,048 to 32,768.
    Source: this library, measured on CPUs.

    >>> product_error(256), product_error(2048)
    (4e-06, 1.6e-05)
    """
    return 4e-6 if size <= 512 else 1.6e-5


def middle(features: Float[Array, "N D"], candidates: Bool[Array, " N"]) -> Float[Array, " D"]:
    """A point amid the candidates, [D] in float32, without a pass over them all: products of
    vectors far from it would cancel.

    The mean of up to 1,024 rows spread over the pool; a candidate stands in for those that are
    none. 0 without candidates.
    Source: plain geometry; any point near them will do.

    >>> middle(jnp.array([[1.0], [9.0], [3.0]]), jnp.array([True, False, True])).round(3).tolist()
    [1.6670000553131104]
    """
    size = features.shape[0]
    rows = np.linspace(0, size - 1, min(_SPREAD, size)).astype(np.int32)
    rows = jnp.where(candidates[rows], rows, first_true(candidates))
    points = features[rows].astype(jnp.float32)
    # Seen from one of them: a sum of numbers far from zero is only right to its own last digit.
    mean = points[0] + jnp.mean(points - points[:1], axis=0)
    return jnp.where(jnp.any(candidates), mean, 0)


@dataclass(frozen=True)
class _Sizes:
    """How much the search looks at. Any sizes give the same picks.

    pool: rows brought up to date together. tile: rows in one matrix product. chunk: centres in one.
    block: rows picked from together.
    early: with how many centres all rows are compared once there are so many, as the bounds from
    the first one are loose.
    """

    pool: int = 4_096
    tile: int = 512
    block: int = 256
    chunk: int = 32
    early: int = 64


_SIZES = _Sizes()

# Rows of which the middle is the mean.
_SPREAD = 1024
# Numbers of pools that are multiplied whole for each centre: they stay in a CPU's cache.
_SMALL = 2**22
# Numbers that are summed in one go, and in how large tiles more of them are. XLA's library for sums
# on CPUs takes memory of its own for all that it is given inside a loop; with much it is many times
# slower.
_WHOLE, _TILE = 2**25, 2**20
# Which centre is nearest is left to the products while the squared distance is at least this share
# of |x|^2.
_RESOLVED = 1 / 16
# Where a pool led to no pick, all bounds above this share of the largest one that is up to date are
# brought up to date.
_DEPTH = 0.98


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Centres:
    """Labelled rows, then picks. rows: int32, -1 beyond count. values: [.], squared distance to the
    nearest centre when picked.

    resolved: whether float32 products could tell the nearest centre of every row that wanted to be
    picked.
    """

    rows: Int[Array, " P"]
    values: Float[Array, " P"]
    count: Int[Array, ""]
    resolved: Bool[Array, ""]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Bounds:
    """What is known of some rows. values: never below the squared distance to the nearest centre,
    -inf for rows not to be picked.

    owners: the centre that the bound is from. seen: how many centres, in their order, the row has
    been compared with.
    """

    values: Float[Array, " n"]
    owners: Int[Array, " n"]
    seen: Int[Array, " n"]


def _k_center(features, budget, labelled, candidates, start, key, sizes: _Sizes | None) -> Centers:
    """`k_center` after its checks; without `sizes` by plain passes alone."""
    size = features.shape[0]
    candidates = askable(candidates, size)
    labelled = (
        jnp.full(1, -1, jnp.int32)
        if labelled is None or len(labelled) == 0
        else jnp.asarray(labelled).astype(jnp.int32)
    )
    left = candidates.at[jnp.where(labelled >= 0, labelled, size)].set(False, mode="drop")
    labels = jnp.sum(labelled >= 0, dtype=jnp.int32)
    # The radius after a pick is the value of the next one, so the search looks for one more than is
    # asked.
    goal = labels + jnp.minimum(budget + 1, jnp.sum(left, dtype=jnp.int32))

    # The record of a whole budget is mostly padding when it begins: the filled places go first and
    # the rest is never looked at.
    places = jnp.where(labelled >= 0, jnp.cumsum(labelled >= 0, dtype=jnp.int32) - 1, len(labelled))
    rows = jnp.full(len(labelled) + budget + 1 + (sizes.chunk if sizes else 0), -1, jnp.int32)
    rows = rows.at[jnp.where(labelled >= 0, places, len(rows))].set(labelled, mode="drop")
    centres = _Centres(rows, jnp.zeros(len(rows), jnp.float32), labels, jnp.array(True))
    centres, left = _first(centres, left, start, key)
    if sizes:
        centres, left = _lazily(features, centres, left, goal, sizes)
    elif features.size <= _SMALL and sharding.devices() == 1:
        centres, left = _together(features, centres, left, goal)
    centres = _plainly(features, centres, left, goal)
    indices = jax.lax.dynamic_slice(centres.rows, (labels,), (budget,))
    radii = jnp.sqrt(jax.lax.dynamic_slice(centres.values, (labels + 1,), (budget,)))
    return Centers(indices, radii)


def _first(centres: _Centres, left, start, key) -> tuple[_Centres, Bool[Array, " N"]]:
    """Puts the row to begin with among the centres: `start` where it may be picked, else, without
    any centre, a drawn or the lowest one."""
    first = jnp.where(centres.count > 0, -1, first_true(left))
    if key is not None:
        first = jnp.where(
            centres.count > 0, first, argmax(sampling.random_bits(key, len(left)), left)
        )
    if start is not None:
        possible = (start >= 0) & (start < len(left)) & sharding.fetch(left, start)
        first = jnp.where(possible, start, first).astype(jnp.int32)
    first = jnp.where(jnp.any(left), first, -1)
    left = left.at[jnp.where(first >= 0, first, len(left))].set(False, mode="drop")
    return _append(centres, first, 0.0, first >= 0), left


def _append(centres: _Centres, row, value, wanted) -> _Centres:
    """One more centre where it is wanted; else nothing, as the place behind the last one is not
    looked at."""
    rows = centres.rows.at[centres.count].set(jnp.where(wanted, row, -1), mode="drop")
    values = centres.values.at[centres.count].set(jnp.where(wanted, value, 0), mode="drop")
    return replace(
        centres, rows=rows, values=values, count=centres.count + wanted.astype(jnp.int32)
    )


def _plainly(features, centres: _Centres, left, goal) -> _Centres:
    """Picks until there are `goal` centres by one pass over the features for each centre, the
    present ones included."""

    def nearer(place, nearest):
        return jnp.minimum(
            nearest, squared_distances(features, sharding.fetch(features, centres.rows[place]))
        )

    def pick(carry):
        centres, nearest, left = carry
        nearest = jnp.minimum(
            nearest,
            squared_distances(features, sharding.fetch(features, centres.rows[centres.count - 1])),
        )
        row = argmax(nearest, left)
        return (
            _append(centres, row, sharding.fetch(nearest, row), row >= 0),
            nearest,
            left.at[row].set(False),
        )

    passes = jnp.where(centres.count < goal, centres.count - 1, 0)
    nearest = jax.lax.fori_loop(0, passes, nearer, jnp.full(len(left), jnp.inf, jnp.float32))
    return jax.lax.while_loop(lambda carry: carry[0].count < goal, pick, (centres, nearest, left))[
        0
    ]


def _together(features, centres: _Centres, left, goal) -> tuple[_Centres, Bool[Array, " N"]]:
    """Picks among all rows of a small pool by one product with the features for each centre, until
    there are `goal` or it cannot resolve what comes next. Returns the rows still left, too."""
    rows = jnp.arange(len(left), dtype=jnp.int32)
    points = _centred(features, middle(features, left), rows)
    lengths = _squares(points)

    def between(place):
        products = jnp.matmul(points, points[place], precision=jax.lax.Precision.HIGHEST)
        return jnp.maximum(
            (1 + product_error(points.shape[1])) * (lengths + lengths[place]) - 2 * products, 0
        )

    def nearer(number, carry):
        values, owners = carry
        row = centres.rows[number]
        others = between(row)
        closer = others < values
        return jnp.where(closer, others, values), jnp.where(closer, row, owners)

    begin = jnp.where(left, jnp.inf, -jnp.inf), jnp.broadcast_to(centres.rows[0], rows.shape)
    values, owners = jax.lax.fori_loop(
        0, jnp.where(centres.count < goal, centres.count, 0), nearer, begin
    )
    nothing = jnp.float32(-jnp.inf), jnp.int32(len(left))
    centres, values, _ = _greedily(
        features, centres, goal, rows, lengths, values, owners, nothing, between
    )
    return centres, values > -jnp.inf


def _lazily(
    features, centres: _Centres, left, goal, sizes: _Sizes
) -> tuple[_Centres, Bool[Array, " N"]]:
    """Picks until there are `goal` centres or the products cannot resolve what comes next. Returns
    the rows still left, too."""
    size = len(left)
    mean = middle(features, left)
    # One pass over the features measures all rows to the first centre; as it rounds in its own way,
    # its error has to be allowed for, too.
    first = centres.rows[0]
    values = (1 + product_error(features.shape[1])) * squared_distances(features, features[first])
    values = jnp.where(left, jnp.where(values < jnp.inf, values, jnp.inf), -jnp.inf)
    bounds = _Bounds(values, jnp.full(size, first), jnp.ones(size, jnp.int32))

    def step(carry):
        centres, bounds, stuck = carry
        early = (centres.count >= sizes.early) & jnp.any(
            (bounds.values > -jnp.inf) & (bounds.seen < sizes.early)
        )
        bounds = _refreshed(features, mean, centres, bounds, early, stuck, sizes)
        stop = jnp.where(centres.count < sizes.early, jnp.minimum(goal, sizes.early), goal)
        more, bounds = _picked(features, mean, centres, bounds, stop, sizes)
        return more, bounds, (more.count == centres.count) & ~early

    carry = centres, bounds, jnp.array(False)
    centres, bounds, _ = jax.lax.while_loop(
        lambda carry: (carry[0].count < goal) & carry[0].resolved, step, carry
    )
    return centres, bounds.values > -jnp.inf


def _refreshed(
    features, mean, centres: _Centres, bounds: _Bounds, early, stuck, sizes: _Sizes
) -> _Bounds:
    """Brings a pool of the largest bounds up to date.

    Where such a pool led to no pick, the search is `stuck`: all rows follow that may precede the
    best one that is up to date, and some more. When it is `early`, all rows are compared with the
    early centres.
    """
    size = len(bounds.values)
    pool = min(sizes.pool, size)
    largest = jax.lax.top_k(bounds.values, pool)[1]
    outside = jnp.max(bounds.values.at[largest].set(-jnp.inf))
    # Those of one tile are compared with all that one of them has not seen. Keys that hold the
    # place sort faster than keys beside places.
    keys = jnp.minimum(bounds.seen[largest], 2**31 // pool - 1) * pool + jnp.arange(
        pool, dtype=jnp.int32
    )
    largest = largest[jnp.sort(keys) % pool]
    everything = early | stuck
    stop, most = (
        jnp.where(early, sizes.early, centres.count),
        jnp.where(early, sizes.early, sizes.chunk),
    )

    def refresh(number, bounds):
        rows = jnp.minimum(jnp.int32(number * pool) + jnp.arange(pool, dtype=jnp.int32), size - 1)
        # Found anew for each pool: the one before may have brought up to date a larger one, which
        # spares rows of this one.
        best = jnp.max(jnp.where(bounds.seen == centres.count, bounds.values, -jnp.inf))
        under = jnp.where(early, -jnp.inf, jnp.where(stuck, _DEPTH * best, outside))
        return _lowered(
            features,
            mean,
            centres,
            bounds,
            jnp.where(everything, rows, largest),
            under,
            stop,
            most,
            sizes,
        )

    return jax.lax.fori_loop(0, jnp.where(everything, -(-size // pool), 1), refresh, bounds)


def _lowered(
    features, mean, centres: _Centres, bounds: _Bounds, rows, outside, stop, most, sizes: _Sizes
) -> _Bounds:
    """Compares a pool of rows with the centres before `stop` that they have not seen, until their
    bounds fall under all those outside.

    In rounds, each with twice the centres of the one before, `most` in the first: most rows are
    done after that.
    """

    def compare(carry):
        bounds, rows, number, most = carry
        # Those that need another round go first, in their order; the places behind them repeat the
        # first.
        values = bounds.values[rows]
        wait = (values >= outside) & (values > -jnp.inf) & (bounds.seen[rows] < stop)
        wait &= jnp.arange(len(rows), dtype=jnp.int32) < number
        places = jnp.where(wait, jnp.cumsum(wait, dtype=jnp.int32) - 1, len(rows))
        first = rows[first_true(wait)]
        rows = jnp.broadcast_to(first, rows.shape).at[places].set(rows, mode="drop")
        number = jnp.sum(wait, dtype=jnp.int32)

        def tile(place, bounds):
            some = jax.lax.dynamic_slice(rows, (place * sizes.tile,), (sizes.tile,))
            return _compared(features, mean, centres, bounds, some, stop, most, sizes)

        return (
            jax.lax.fori_loop(0, (number + sizes.tile - 1) // sizes.tile, tile, bounds),
            rows,
            number,
            2 * most,
        )

    number = jnp.int32(len(rows))
    rows = jnp.concatenate(
        [rows, jnp.zeros(sizes.tile, jnp.int32)]
    )  # a slice that begins within the pool never ends outside
    return jax.lax.while_loop(lambda carry: carry[2] > 0, compare, (bounds, rows, number, most))[0]


def _compared(
    features, mean, centres: _Centres, bounds: _Bounds, rows, stop, most, sizes: _Sizes
) -> _Bounds:
    """A tile of rows compared with up to `most` centres more: one product of [tile, D] and [D,
    chunk] after another."""
    points = _centred(features, mean, rows)
    values, owners, seen = bounds.values[rows], bounds.owners[rows], bounds.seen[rows]
    begin = jnp.min(jnp.where(values > -jnp.inf, seen, stop))
    end = jnp.minimum(begin + most, stop)

    def chunk(carry):
        place, values, owners = carry
        others = jax.lax.dynamic_slice(centres.rows, (place,), (sizes.chunk,))
        filled = place + jnp.arange(sizes.chunk, dtype=jnp.int32) < end
        upper = jnp.where(
            filled[None, :], _upper_bounds(points, _centred(features, mean, others)), jnp.inf
        )
        nearest = jnp.min(upper, axis=1)
        owner = others[first_true(upper == nearest[:, None])]
        closer = nearest < values
        return (
            place + sizes.chunk,
            jnp.where(closer, nearest, values),
            jnp.where(closer, owner, owners),
        )

    _, values, owners = jax.lax.while_loop(
        lambda carry: carry[0] < end, chunk, (begin, values, owners)
    )
    return _put(bounds, rows, _Bounds(values, owners, jnp.maximum(seen, end)))


def _picked(
    features, mean, centres: _Centres, bounds: _Bounds, stop, sizes: _Sizes
) -> tuple[_Centres, _Bounds]:
    """Picks from a block of the largest bounds that are up to date while they exceed all others, by
    the table of distances in it."""
    block = min(sizes.block, len(bounds.values))
    fresh = jnp.where(bounds.seen == centres.count, bounds.values, -jnp.inf)
    rows = jnp.sort(
        jax.lax.top_k(fresh, block)[1]
    )  # ascending, so that the lowest place is the lowest row
    limit = _top(bounds.values.at[rows].set(-jnp.inf))
    points = _centred(features, mean, rows)
    lengths, between = _squares(points), _upper_bounds(points, points)
    before = centres.count

    values, owners = fresh[rows], bounds.owners[rows]
    centres, values, owners = _greedily(
        features, centres, stop, rows, lengths, values, owners, limit, lambda place: between[place]
    )
    # A block may hold rows that are not up to date where few are: they keep what they had.
    kept = _Bounds(values, owners, jnp.full_like(rows, 0) + centres.count)
    kept = jax.tree.map(
        lambda new, old: jnp.where(bounds.seen[rows] == before, new, old[rows]), kept, bounds
    )
    return centres, _put(bounds, rows, kept)


def _greedily(
    features,
    centres: _Centres,
    stop,
    rows,
    lengths,
    values,
    owners,
    limit,
    between: Callable[[Any], Any],
):
    """Picks among some rows while one of them goes before the limit, a value and a row: the
    centres, and what the rows' bounds are then.

    rows: rising. lengths: squared, from the mean. values, owners: upper bounds, and the centres
    that they are from. between: upper bounds of all of the rows to the one at a place.
    """

    def exceeds(carry):
        centres, (value, place), *_ = carry
        return (centres.count < stop) & centres.resolved & _before(value, rows[place], *limit)

    def turn(carry):
        # The top row is measured. If it stays the top row, it is the pick; if not, another has its
        # turn.
        centres, (_, place), values, owners = carry
        row = rows[place]
        measured = jnp.sum(
            jnp.square(
                features[row].astype(jnp.float32) - features[owners[place]].astype(jnp.float32)
            )
        )
        measured = jnp.where(measured < jnp.inf, measured, jnp.inf)
        values = values.at[place].set(measured)
        stays = (_top(values)[1] == place) & _before(measured, row, *limit)
        resolved = (measured < jnp.inf) & (measured >= _RESOLVED * lengths[place])
        picked = stays & resolved
        centres = replace(_append(centres, row, measured, picked), resolved=resolved | ~stays)
        others = between(place)
        closer = picked & (others < values)
        values = jnp.where(closer, others, values)
        values = values.at[place].set(jnp.where(picked, -jnp.inf, values[place]))
        return centres, _top(values), values, jnp.where(closer, row, owners)

    centres, _, values, owners = jax.lax.while_loop(
        exceeds, turn, (centres, _top(values), values, owners)
    )
    return centres, values, owners


def _upper_bounds(points: Float[Array, "n D"], others: Float[Array, "m D"]) -> Float[Array, "n m"]:
    """Squared distances [n, m] in product form, made larger by what they may err."""
    products = jax.lax.dot_general(
        points, others, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
    )
    return jnp.maximum(
        (1 + product_error(points.shape[1]))
        * (_squares(points)[:, None] + _squares(others)[None, :])
        - 2 * products,
        0,
    )


def _squares(points: Float[Array, "n D"]) -> Float[Array, " n"]:
    return jnp.sum(jnp.square(points), axis=1)


def _centred(features, mean, rows) -> Float[Array, "n D"]:
    """Some rows in float32 around the mean: products of vectors far from zero would cancel."""
    return features[rows].astype(jnp.float32) - mean[None, :]


def _put(bounds: _Bounds, rows, changed: _Bounds) -> _Bounds:
    return jax.tree.map(lambda values, new: values.at[rows].set(new), bounds, changed)


def _before(value, row, other_value, other_row) -> Bool[Array, ""]:
    """Whether a row goes before another: the larger value, between equal ones the lower row."""
    return (value > other_value) | ((value == other_value) & (row < other_row))


def _top(values: Float[Array, " n"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The largest value and its lowest place."""
    best = jnp.max(values)
    return best, first_true(values == best)
