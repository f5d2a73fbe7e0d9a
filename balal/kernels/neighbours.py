"""Neighbours and clusters: the k nearest rows of every row, how central a row lies among them, and
k-means. No table of all pairs."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from balal import sharding
from balal.kernels.ordering import argmax, first_true
from balal.types import askable

# Numbers in one block of the table of all pairs: it stays in the processor's cache or near it.
_TABLE = 2**22
# Rows that `nearest` passes over together where none of them can be among the nearest.
_TILE = 32
# Rows that k-means compares with all centres together.
_BLOCK = 512
# Numbers above which the mean of some rows is a product, which is less precise: a copy with the
# others at 0 would be as large as the pool.
_MASKED = 2**28
# The share of two squared lengths below which the squared distance is only rounding.
_NOTHING = 2e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbours:
    """What `nearest` finds. indices: int32 [N, k], the nearest first, -1 where there are no more.
    distances: [N, k], then infinite."""

    indices: Int[Array, "*S N k"]
    distances: Float[Array, "*S N k"]


def centred(
    features: Float[Array, "N D"], *, candidates: Bool[Array, " N"] | None = None
) -> tuple[Float[Array, "N D"], Float[Array, " N"], tuple[Float[Array, " D"], Float[Array, " D"]]]:
    """The rows in float32 around the mean of the candidates, their squared lengths, and that mean:
    [N, D], [N], [D] twice. Runs inside jit.

    The mean is a row of the pool and the way from there to it. Their sum, far from the origin,
    would be rounded: what is taken around the mean like the rows, is taken around the one and then
    the other.

    Args:
      features: [N, D]; what is not finite counts as 0, as rows that are no candidates may hold
        anything.
      candidates: bool [N], the rows that count (None: all).

    Source: plain geometry. Products of vectors far from zero would cancel.

    >>> points, squares, (row, way) = centred(jnp.array([[1000.0], [1002.0]]))
    >>> points[:, 0].tolist(), squares.tolist(), row.tolist(), way.tolist()
    ([-1.0, 1.0], [1.0, 1.0], [1000.0], [1.0])
    """

    def finite(values):
        return jnp.where(jnp.isfinite(values), values.astype(jnp.float32), 0)

    candidates = askable(candidates, len(features))
    # Seen from a row of the pool first, which is exact: a mean far from the origin is only right to
    # its own last digit.
    row = finite(sharding.fetch(features, first_true(candidates)))
    points = finite(features) - row[None, :]
    way = mean(points, candidates)
    points -= way[None, :]
    return points, jnp.sum(jnp.square(points), axis=1), (row, way)


def mean(points: Float[Array, "N D"], candidates: Bool[Array, " N"]) -> Float[Array, " D"]:
    """The mean of the candidates, [D], of rows that are finite; 0 without any. Source: plain
    arithmetic. Runs inside jit.

    >>> mean(jnp.array([[1.0], [9.0], [3.0]]), jnp.array([True, False, True])).tolist()
    [2.0]
    """
    if points.size > _MASKED:
        total = jnp.matmul(candidates.astype(jnp.float32), points, precision="highest")
    else:
        total = jnp.sum(jnp.where(candidates[:, None], points, 0), axis=0)
    return total / jnp.maximum(jnp.sum(candidates), 1)


@partial(jax.jit, static_argnames="k")
def nearest(
    features: Float[Array, "N D"],
    k: int,
    *,
    among: Int[Array, " M"] | None = None,
    candidates: Bool[Array, " N"] | None = None,
) -> Neighbours:
    """The k nearest rows of each row by Euclidean distance, itself left out. `O(N M D)` time,
    `O((N + M) D + N k)` memory.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      k: how many, at least 1.
      among: int [M], the rows that may be neighbours, each once (None: all). candidates: bool [N],
        those of them that count (None: all).

    Distances are taken in float32 as `|x|^2 + |y|^2 - 2 x.y` around the mean of the rows: squares
    are right to about 1e-6 of the squared lengths, and those that cannot be told from 0 are 0.

    Ties go to the lowest place in `among`.

    Source: plain geometry, a block of rows at a time as one matrix product.

    Raises: ValueError when `features` is not [N, D] or k is below 1.

    >>> found = nearest(jnp.array([[0.0], [1.0], [5.0]]), 1)
    >>> found.indices[:, 0].tolist(), found.distances[:, 0].tolist()
    ([1, 0, 1], [1.0, 1.0, 4.0])
    """
    if features.ndim != 2 or k < 1:
        raise ValueError(
            f"features must be [N, D] and k at least 1, got shape {features.shape} and k={k}"
        )
    size, devices = features.shape[0], sharding.devices()
    points, squares, _ = centred(features, candidates=candidates)
    rows = jnp.arange(size, dtype=jnp.int32)
    others, others_squares = (points, squares) if among is None else (points[among], squares[among])
    among = rows if among is None else among.astype(jnp.int32)
    found = min(k, len(among))
    if candidates is not None:
        others_squares = jnp.where(candidates[among], others_squares, jnp.inf)
    # Whole tiles for every device, the last ones filled up with rows that are infinitely far.
    padding = max(len(among), 1) // -(_TILE * devices) * -(_TILE * devices) - len(among)
    others, others_squares = (
        jnp.pad(others, ((0, padding), (0, 0))),
        jnp.pad(others_squares, (0, padding), constant_values=jnp.inf),
    )
    among = jnp.pad(among, (0, padding), constant_values=-1)

    def search(rows, points, squares, others, others_squares, among, places):
        """The nearest of some others to each row: squared distances and places, [n, found]."""
        size, width = len(rows), min(found, len(among))

        def block(part):
            products = jnp.matmul(points[part], others.T, precision="highest")
            table = squares[part][:, None] + others_squares[None, :]
            table = jnp.where(2 * products > (1 - _NOTHING) * table, 0, table - 2 * products)
            table = jnp.where(rows[part][:, None] == among[None, :], jnp.inf, table)
            # The k nearest lie in the k tiles whose nearest row is nearest, of equal ones in the
            # first: nothing else needs sorting.
            tiles = table.reshape(len(part), -1, _TILE)
            _, chosen = jax.lax.top_k(-jnp.min(tiles, axis=2), min(width, tiles.shape[1]))
            chosen = jnp.sort(chosen, axis=1)[:, :, None]
            columns = (
                chosen * _TILE + jnp.arange(_TILE, dtype=chosen.dtype)[None, None, :]
            ).reshape(len(part), -1)
            negative, best = jax.lax.top_k(
                -jnp.take_along_axis(tiles, chosen, axis=1).reshape(len(part), -1), width
            )
            return -negative, places[jnp.take_along_axis(columns, best, axis=1)]

        height = max(1, min(size, 256, _TABLE // len(among)))
        parts = jnp.minimum(
            jnp.arange(-(-size // height) * height, dtype=jnp.int32), size - 1
        ).reshape(-1, height)
        distances, nearby = (
            values.reshape(-1, width)[:size] for values in jax.lax.map(block, parts)
        )
        missing = ((0, 0), (0, found - width))
        return jnp.pad(distances, missing, constant_values=jnp.inf), jnp.pad(
            nearby, missing, constant_values=len(places)
        )

    def search_all(rows, points, squares, *others):
        """The same where every device has some of the others: they go round."""

        def turn(_, carry):
            best, others = carry
            others = tuple(
                jax.lax.ppermute(
                    part, sharding.AXIS, [(n, (n + 1) % devices) for n in range(devices)]
                )
                for part in others
            )
            both = (
                jnp.concatenate(pair, axis=1)
                for pair in zip(best, search(rows, points, squares, *others), strict=True)
            )
            return tuple(
                values[:, :found] for values in jax.lax.sort(tuple(both), num_keys=2)
            ), others

        return jax.lax.fori_loop(
            1, devices, turn, (search(rows, points, squares, *others), others)
        )[0]

    find = search if devices == 1 else sharding.by_rows(search_all, (0,) * 7, (0, 0))
    places = jnp.arange(len(among), dtype=jnp.int32)
    distances, places = find(rows, points, squares, others, others_squares, among, places)
    indices = jnp.where(distances < jnp.inf, among[places], -1)
    missing = ((0, 0), (0, k - found))
    return Neighbours(
        jnp.pad(indices, missing, constant_values=-1),
        jnp.pad(jnp.sqrt(distances), missing, constant_values=jnp.inf),
    )


def typicality(found: Neighbours) -> Float[Array, " N"]:
    """How dense the pool is around each row: [N], 1 over the mean distance to its neighbours;
    infinite for copies, 0 without neighbours.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget*, ICML 2022.

    >>> typicality(nearest(jnp.array([[0.0], [1.0], [5.0]]), 2)).tolist()[1]
    0.4000000059604645
    """
    return jnp.where(jnp.any(found.indices >= 0, axis=1), 1 / _mean_distance(found), 0)


def relative_typicality(found: Neighbours) -> Float[Array, " N"]:
    """How central a row lies among its nearest rows: [N], 1 where it does as they do, more where it
    lies closer. Runs inside jit.

    The mean distance from its neighbours to theirs over its own mean distance to them. Typicality
    itself, 1 over the mean distance, is largest where rows are dense, which is in frequent classes;
    relative to the neighbours a row of a rare class can be as typical as any. 1 for rows without
    neighbours, and for copies.

    Args:
      found: the neighbours of every row of the pool, which `nearest` found among all rows or among
        some.

    Source: the inverse of the local outlier factor (Breunig, Kriegel, Ng, Sander, SIGMOD 2000),
    without its reachability distance.

    >>> relative_typicality(nearest(jnp.array([[0.0], [1.0], [2.0], [6.0]]), 2)).round(2).tolist()
    [0.8299999833106995, 1.5, 0.8299999833106995, 0.2800000011920929]
    """
    there, own = found.indices >= 0, _mean_distance(found)
    theirs = jnp.sum(jnp.where(there, own[found.indices], 0), axis=1) / jnp.maximum(
        jnp.sum(there, axis=1), 1
    )
    return jnp.where(own > 0, theirs / jnp.where(own > 0, own, 1), 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Clusters:
    """What `k_means` finds. centers: [k, D]. assigned: int32 [N], the nearest centre of every row.
    inertia: the sum of the candidates' squared distances to theirs. rounds: how often the centres
    moved."""

    centers: Float[Array, "*S k D"]
    assigned: Int[Array, "*S N"]
    inertia: Float[Array, "*S"]
    rounds: Int[Array, "*S"]


@partial(jax.jit, static_argnames="k")
def k_means_plus_plus(
    key: Key[Array, ""],
    features: Float[Array, "N D"],
    k: int,
    *,
    candidates: Bool[Array, " N"] | None = None,
) -> Int[Array, " k"]:
    """Rows to begin k-means with: int32 [k], each drawn in proportion to its squared distance from
    those before it. `O(N D)` a row.

    Args:
      features: [N, D], float32, bfloat16 or float16. k: how many, between 1 and N.
      candidates: bool [N], the rows that count (None: all). Where fewer than k differ, rows come
        twice.

    Raises: ValueError when `features` is not [N, D] or k is out of range.

    Source: Arthur, Vassilvitskii, *k-means++*, SODA 2007, one draw a centre; drawn as Efraimidis,
    Spirakis, IPL 2006, so that the order in which distances are added up does not matter.

    >>> sorted(k_means_plus_plus(jax.random.key(0), jnp.array([[0.0], [0.0], [9.0]]), 2).tolist())[1]
    2
    """
    if features.ndim != 2 or not 1 <= k <= len(features):
        raise ValueError(
            f"features must be [N, D] and k between 1 and N, got shape {features.shape} and k={k}"
        )
    points, squares, _ = centred(features, candidates=candidates)
    candidates = askable(candidates, len(points))

    def draw(place, carry):
        nearest, rows = carry
        # A race: the clock of each row runs as fast as its distance is large, and the first to ring
        # is drawn. Of all 32 bits, as the first of many clocks rings very early.
        bits = jax.random.bits(jax.random.fold_in(key, place), nearest.shape)
        waiting = -jnp.log1p(-(bits.astype(jnp.float32) + 0.5) * 2.0**-32)
        row = argmax(nearest / waiting, candidates)
        point, square = sharding.fetch(points, row), sharding.fetch(squares, row)
        distances = jnp.maximum(
            squares + square - 2 * jnp.matmul(points, point, precision="highest"), 0
        )
        distances = jnp.where(
            candidates & (distances > _NOTHING * (squares + square)), distances, 0
        )
        nearest = jnp.where(place == 0, distances, jnp.minimum(nearest, distances))
        return nearest, rows.at[place].set(row.astype(jnp.int32))

    # Before the first draw all candidates are level.
    return jax.lax.fori_loop(0, k, draw, (candidates.astype(jnp.float32), jnp.zeros(k, jnp.int32)))[
        1
    ]


@partial(jax.jit, static_argnames="rounds")
def k_means(
    features: Float[Array, "N D"],
    centers: Float[Array, "k D"],
    *,
    candidates: Bool[Array, " N"] | None = None,
    rounds: int = 100,
    tolerance: float | Float[Array, ""] = 1e-4,
) -> Clusters:
    """Lloyd's algorithm: rows go to their nearest centre, centres to the mean of their rows, until
    they rest. `O(N k D)` time a round.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      centers: [k, D], to begin with; `features[k_means_plus_plus(key, features, k)]` is good.
      candidates: bool [N], the rows that count (None: all); the others are assigned but move
        nothing.
      rounds: how many at most. tolerance: it ends when the squared moves of all centres add up to
        less than this share of the mean variance of a feature.

    A centre without rows begins anew at the candidate that is farthest from its centre. Ties go to
    the lowest centre.

    Raises: ValueError when shapes disagree, or there is no centre or more of them than rows.

    Source: Lloyd 1982; tolerance as in scikit-learn.

    >>> points = jnp.array([[0.0], [1.0], [8.0], [9.0]])
    >>> clusters = k_means(points, points[:2])
    >>> clusters.centers[:, 0].tolist(), clusters.assigned.tolist(), float(clusters.inertia)
    ([0.5, 8.5], [0, 0, 1, 1], 1.0)
    """
    if (
        features.ndim != 2
        or centers.ndim != 2
        or features.shape[1] != centers.shape[1]
        or not 1 <= len(centers) <= len(features)
    ):
        raise ValueError(
            f"features must be [N, D] and centers [k, D] with k between 1 and N, got "
            f"{features.shape} and {centers.shape}"
        )
    points, squares, (row, way) = centred(features, candidates=candidates)
    number, k = len(points), len(centers)
    candidates = askable(candidates, number)
    enough = (
        tolerance
        * jnp.sum(jnp.where(candidates, squares, 0))
        / jnp.maximum(jnp.sum(candidates) * points.shape[1], 1)
    )

    def assign_rows(points, candidates, centers):
        lengths, number = jnp.sum(jnp.square(centers), axis=1), len(points)
        blocks = -(-number // _BLOCK)
        padding = blocks * _BLOCK - number
        parts = jnp.pad(points, ((0, padding), (0, 0))), jnp.pad(candidates, (0, padding))

        def block(carry, part):
            sums, counts = carry
            rows, count = part
            table = lengths[None, :] - 2 * jnp.matmul(rows, centers.T, precision="highest")
            least = jnp.min(table, axis=1, keepdims=True)
            place = jnp.min(
                jnp.where(table == least, jnp.arange(k, dtype=jnp.int32)[None, :], k - 1), axis=1
            )
            sums = sums.at[place].add(jnp.where(count[:, None], rows, 0))
            return (sums, counts.at[place].add(count.astype(jnp.float32))), (place, least[:, 0])

        nothing = jnp.zeros_like(centers), jnp.zeros(k, jnp.float32)
        parts = tuple(part.reshape(blocks, _BLOCK, *part.shape[1:]) for part in parts)
        sums, (places, least) = jax.lax.scan(block, nothing, parts)
        return *sharding.summed(sums), places.reshape(-1)[:number], least.reshape(-1)[:number]

    def assign(centers):
        *found, least = sharding.by_rows(assign_rows, (0, 0, None), (None, None, 0, 0))(
            points, candidates, centers
        )
        return *found, jnp.maximum(least + squares, 0)

    def move(carry):
        centers, _, done, *_ = carry
        sums, counts, assigned, distances = assign(centers)
        moved = jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1)[:, None], centers)

        def reseeded():
            farthest = sharding.top_k(jnp.where(candidates, distances, -1), k)[1]
            return jnp.where(
                (counts == 0)[:, None], points[farthest[jnp.cumsum(counts == 0) - 1]], moved
            )

        moved = jax.lax.cond(jnp.any(counts == 0), reseeded, lambda: moved)
        return moved, jnp.sum(jnp.square(moved - centers)), done + 1, assigned, distances

    seen = centers.astype(jnp.float32) - row[None, :] - way[None, :]
    carry = seen, jnp.float32(jnp.inf), jnp.int32(0), jnp.zeros(number, jnp.int32), squares
    carry = jax.lax.while_loop(lambda carry: (carry[2] < rounds) & (carry[1] > enough), move, carry)
    centers, moves, done, *last = carry
    # Centres that rest have their rows already.
    assigned, distances = jax.lax.cond(moves > 0, lambda: assign(centers)[2:], lambda: tuple(last))
    return Clusters(
        centers + way[None, :] + row[None, :],
        assigned,
        jnp.sum(jnp.where(candidates, distances, 0)),
        done,
    )


def _mean_distance(found: Neighbours) -> Float[Array, " N"]:
    """From each row to its neighbours; 0 where it has none."""
    there = found.indices >= 0
    return jnp.sum(jnp.where(there, found.distances, 0), axis=1) / jnp.maximum(
        jnp.sum(there, axis=1), 1
    )
