"""Typicality: how central a row is among its nearest rows, in rare and frequent classes alike."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.distances import centred, directions, told_apart
from balal.kernels.k_means import k_means
from balal.kernels.neighbours import Neighbours, nearest
from balal.kernels.ordering import spread
from balal.types import askable

# How many rows `typicality_ranks` searches for neighbours, and how many neighbours a row has.
AMONG, _NEIGHBOURS = 2**16, 3
# Into how many clusters those are put, how many of them are within reach of a cluster, and how
# often the centres move.
_CLUSTERS, _REACH, _ROUNDS = 512, 2**12, 8
# Rows, and rows that may be their neighbours, that `typicality_within` compares at once.
_HIGH, _WIDE = 64, 256
# The mean distance below which rows count as copies there.
_COPIES = 1e-5


def typicality_ranks(
    features: Float[Array | np.ndarray, "N D"],
    *,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, " N"]:
    """How typical each row is of its surroundings: [N], the share of the candidates that are no
    more typical.

    Near 1 for rows in the middle of their nearest neighbours, near 0 for outliers, in rare and
    frequent classes alike: ranks of `relative_typicality`, with the three nearest neighbours by
    angle around the mean of the candidates. `O(N^2 D)` time. In pools of more than 65,536 rows,
    neighbours are taken from that many candidates, evenly spaced, and looked for only among the
    4,096 nearest to the centre of the row's cluster, one of 512.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      candidates: bool [N], the rows that count (None: all).

    Raises: ValueError when `features` is not [N, D], or for candidates whose features are not
      finite.

    Source: this library. Twin: `typicality_ranks` in tests/reference.py.

    >>> features = jnp.array([[0.0, 1.0], [0.3, 1.0], [0.6, 1.0], [-1.0, -1.0], [-1.0, -3.0]])
    >>> int(typicality_ranks(features).argmax())
    1
    """
    features = check.feature_table(features)
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return surroundings(features, candidates)[0]


@partial(jax.jit, static_argnames="k")
def surroundings(
    features: Float[Array, "N D"], candidates: Bool[Array, " N"] | None, *, k: int = _NEIGHBOURS
) -> tuple[Float[Array, " N"], Neighbours]:
    """`typicality_ranks`, and the k nearest rows of each by angle. Runs inside jit.

    >>> typical, found = surroundings(jnp.array([[1.0, 0.0], [1.0, 0.0], [-2.0, 0.0]]), None, k=1)
    >>> found.indices.tolist()
    [[1], [0], [0]]
    """
    num_rows = features.shape[0]
    candidates = askable(candidates, num_rows)
    units = directions(features, candidates)
    among = clusters = None
    if num_rows > AMONG:
        among = spread(candidates, AMONG)
        some, there = units[among], candidates[among]
        seeds = some[spread(there, min(_CLUSTERS, AMONG - 1))]
        centers = k_means(some, seeds, candidates=there, rounds=_ROUNDS).centers
        clusters = k_means(units, centers, candidates=candidates, rounds=0)
    found = nearest(
        units,
        max(k, _NEIGHBOURS),
        among=among,
        candidates=candidates,
        clusters=clusters,
        reach=_REACH,
    )

    def first(number):
        return Neighbours(found.indices[:, :number], found.distances[:, :number])

    # Rounded, so that rows which differ only in the last digits of float32 are equally typical.
    typical = jnp.round(relative_typicality(first(_NEIGHBOURS)), 3)
    rising = jnp.sort(jnp.where(candidates, typical, jnp.inf))
    rank = jnp.searchsorted(rising, typical, side="right").astype(jnp.float32)
    return rank / jnp.maximum(jnp.sum(candidates), 1).astype(jnp.float32), first(k)


def flops(num_rows: int, num_features: int) -> float:
    """How many operations `surroundings` takes.

    >>> flops(1000, 10)
    20000000.0
    """
    if num_rows <= AMONG:
        return 2.0 * num_rows**2 * num_features
    centers = _CLUSTERS * (AMONG * (_ROUNDS + 2) + num_rows)
    return 2.0 * num_features * (centers + num_rows * _REACH)


def relative_typicality(found: Neighbours) -> Float[Array, " N"]:
    """How central a row is among its nearest rows: [N], 1 if it is as central as they are, more if
    it is more so. Runs inside jit.

    The mean distance from its neighbours to theirs divided by its own mean distance to them.
    Typicality itself is largest where rows are dense, which is in frequent classes; relative to its
    neighbours a row of a rare class can be as typical as any. 1 for rows without neighbours, and
    for copies.

    Args:
      found: the neighbours of every row of the pool, as `nearest` found them among all rows or
        some of them.

    Source: the inverse of the local outlier factor (Breunig, Kriegel, Ng, Sander, SIGMOD 2000),
      without its reachability distance. Twin: `relative_typicality` in tests/reference.py.

    >>> relative_typicality(nearest(jnp.array([[0.0], [1.0], [2.0], [6.0]]), 2)).round(2).tolist()
    [0.8299999833106995, 1.5, 0.8299999833106995, 0.2800000011920929]
    """
    there, own = found.indices >= 0, _mean_distance(found)
    theirs = _mean_where(there, own[found.indices])
    return jnp.where(own > 0, theirs / jnp.where(own > 0, own, 1), 1)


def typicality(found: Neighbours) -> Float[Array, " N"]:
    """How dense the pool is around each row: [N], the inverse of the mean distance to its
    neighbours; infinite for copies, 0 without neighbours. Runs inside jit.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget*, ICML 2022. Twin: `typicality`
      in tests/reference.py.

    >>> typicality(nearest(jnp.array([[0.0], [1.0], [5.0]]), 2)).tolist()[1]
    0.4000000059604645
    """
    return jnp.where(jnp.any(found.indices >= 0, axis=1), 1 / _mean_distance(found), 0)


def typicality_within(
    features: Float[Array | np.ndarray, "N D"],
    groups: Int[Array | np.ndarray, " N"],
    k: int,
    *,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, " N"]:
    """How dense its own group is around each row: [N], the inverse of the mean distance to its k
    nearest neighbours there, or to all others if there are fewer; 100,000 for copies, 0 for the
    only one of a group and for rows that are not candidates.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      groups: int [N], not negative, such as the clusters of `k_means`.
      k: how many neighbours, at least 1.
      candidates: bool [N], the rows that count (None: all).

    `O(N n D)` time for groups of n rows, and `O(N D)` memory: rows are put in the order of their
    groups, and a block of them is compared with the tiles that hold its groups.

    Raises: ValueError when shapes disagree, k is below 1, or features of candidates are not finite.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget*, ICML 2022, Eq. 4, with its
      limit for copies from the authors' code. Twin: `typicality_within` in tests/reference.py.

    >>> features = jnp.array([[0.0], [1.0], [5.0], [9.0]])
    >>> typicality_within(features, jnp.array([0, 0, 1, 0]), 1).tolist()
    [1.0, 1.0, 0.0, 0.125]
    """
    features, k = check.feature_table(features), check.whole_number("k", k, least=1)
    groups = check.integers("groups", groups)
    if groups.shape != (len(features),):
        raise ValueError(
            f"groups must be one for each of the {len(features)} rows, got shape {groups.shape}"
        )
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return _typicality_within(features, groups, k, candidates)


@partial(jax.jit, static_argnames="k")
def _typicality_within(features, groups, k: int, candidates) -> Float[Array, " N"]:
    points, lengths, _ = centred(features, candidates=candidates)
    num_rows = len(points)
    candidates = askable(candidates, num_rows)
    number = jnp.sum(candidates, dtype=jnp.int32)
    # The other rows come last, where no tile is looked at.
    groups = jnp.where(candidates, groups.astype(jnp.int32), jnp.iinfo(jnp.int32).max)
    order = jnp.argsort(groups, stable=True)
    groups, points, lengths = groups[order], points[order], lengths[order]
    begin = jnp.searchsorted(groups, groups, side="left").astype(jnp.int32)
    end = jnp.searchsorted(groups, groups, side="right").astype(jnp.int32)
    end = jnp.minimum(end, number)

    width = min(_WIDE, num_rows)
    padding = -num_rows % width
    columns = jnp.pad(points, ((0, padding), (0, 0)))
    column_lengths = jnp.pad(lengths, (0, padding))
    column_groups = jnp.pad(groups, (0, padding), constant_values=-1)

    def block(rows):
        def tile(place, best):
            first = place * width
            own = jax.lax.dynamic_slice_in_dim(columns, first, width)
            products = jnp.matmul(points[rows], own.T, precision="highest")
            both = jax.lax.dynamic_slice_in_dim(column_lengths, first, width)
            both = lengths[rows][:, None] + both[None, :]
            squares = told_apart(both, products, num_features=points.shape[1])
            theirs = jax.lax.dynamic_slice_in_dim(column_groups, first, width)
            index = first + jnp.arange(width, dtype=jnp.int32)
            same = (groups[rows][:, None] == theirs[None, :]) & (rows[:, None] != index[None, :])
            both = jnp.concatenate([best, -jnp.where(same, squares, jnp.inf)], axis=1)
            return jax.lax.top_k(both, k)[0]

        best = jnp.full((len(rows), k), -jnp.inf, jnp.float32)
        first, last = begin[rows[0]], end[rows[-1]]
        return jax.lax.fori_loop(first // width, -(-last // width), tile, best)

    height = min(_HIGH, num_rows)
    parts = jnp.arange(-(-num_rows // height) * height, dtype=jnp.int32)
    parts = jnp.minimum(parts, num_rows - 1).reshape(-1, height)
    squares = -jax.lax.map(block, parts).reshape(-1, k)[:num_rows]
    there = squares < jnp.inf
    mean = _mean_where(there, jnp.sqrt(jnp.where(there, squares, 0)))
    typical = jnp.where(there[:, 0], 1 / jnp.maximum(mean, _COPIES), 0)
    typical = jnp.where(jnp.arange(num_rows) < number, typical, 0)
    return jnp.zeros(num_rows, jnp.float32).at[order].set(typical)


def _mean_distance(found: Neighbours) -> Float[Array, " N"]:
    """The mean distance from each row to its neighbours; 0 where it has none."""
    return _mean_where(found.indices >= 0, found.distances)


def _mean_where(there: Bool[Array, "N k"], values: Float[Array, "N k"]) -> Float[Array, " N"]:
    """The mean of those values of a row that are there; 0 where none is."""
    number = jnp.maximum(jnp.sum(there, axis=1), 1).astype(jnp.float32)
    return jnp.sum(jnp.where(there, values, 0), axis=1) / number
