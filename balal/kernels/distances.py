"""Distances between rows: as sums of squared differences, and as products of centred rows, which
are many times faster and have a known relative error.

Products of vectors far from zero cancel, so rows are first taken relative to a point in the middle
of the pool: the mean (`centred`), or one that is found without a pass over the pool (`middle`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import sharding, xla
from balal.kernels.ordering import first_true
from balal.types import askable

# Up to `_WHOLE` numbers are summed at once, more of them in tiles of `_TILE`. XLA's library for
# sums on CPUs allocates memory for all of its input inside a loop, and is many times slower with
# large ones.
_WHOLE, _TILE = 2**25, 2**20
# `middle` is the mean of so many rows.
_SPREAD = 1024
# Above so many numbers the mean of the candidates is a product, which is less precise: a copy with
# the other rows at 0 would be as large as the pool.
_MASKED = 2**28
# Rows that are compared with all others at once.
_BLOCK = 64


def squared_distances(
    features: Float[Array, "N D"], point: Float[Array, " D"]
) -> Float[Array, " N"]:
    """Squared Euclidean distance of every row to one point: float32 [N] from [N, D] and [D]. Runs
    inside jit.

    A sum of squared differences: it reads the features once, like a matrix-vector product, and
    nothing cancels.

    Source: plain geometry. Twin: `squared_distances` in tests/reference.py.

    >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.zeros(2)).tolist()
    [0.0, 25.0]
    """

    def whole(rows, point):
        return jnp.sum(
            jnp.square(rows.astype(jnp.float32) - point.astype(jnp.float32)[None, :]), axis=1
        )

    def tiled(features, point):
        height = max(1, _TILE // features.shape[1])
        return xla.map_tiles(lambda rows: whole(rows, point), features, height=height)

    def any_size(features, point):
        if features.size <= _WHOLE:
            return whole(features, point)
        return jax.lax.platform_dependent(features, point, cpu=tiled, default=whole)

    return sharding.by_rows(any_size, (0, None), 0)(features, point)


def upper_bounds(
    lengths: Float[Array, "*n"], products: Float[Array, "*n"], *, num_features: int
) -> Float[Array, "*n"]:
    """Squared distances in product form, `|x|^2 + |y|^2 - 2 x.y`, enlarged by their error bound:
    [...] from any shape.

    Args:
      lengths: `|x|^2 + |y|^2`.
      products: `x.y`.
      num_features: `D`, of the vectors.

    >>> float(upper_bounds(jnp.float32(5), jnp.float32(2), num_features=2)) >= 1
    True
    """
    return jnp.maximum((1 + product_error(num_features)) * lengths - 2 * products, 0)


def told_apart(
    lengths: Float[Array, "*n"], products: Float[Array, "*n"], *, num_features: int
) -> Float[Array, "*n"]:
    """Squared distances in product form, `|x|^2 + |y|^2 - 2 x.y`, set to 0 where they lie within
    their error bound: [...] from any shape.

    Args: as in `upper_bounds`; infinite lengths give infinite distances.

    >>> told_apart(jnp.array([8.0, 8.0]), jnp.array([4.0, 3.9]), num_features=2).round(1).tolist()
    [0.0, 0.20000000298023224]
    """
    same = 2 * products > (1 - product_error(num_features)) * lengths
    return jnp.where(same, 0, lengths - 2 * products)


def all_distances(
    points: Float[Array, "N D"], lengths: Float[Array, " N"], rows: Int[Array, " n"]
) -> Float[Array, "n N"]:
    """Squared distances of some rows to all of them: [n, N], 0 where they cannot be told from it.
    Runs inside jit.

    Args:
      points, lengths: of `centred`.
      rows: few at a time, as the whole table is made.

    >>> points, lengths, _ = centred(jnp.array([[1.0], [3.0]]))
    >>> all_distances(points, lengths, jnp.array([1])).tolist()
    [[4.0, 0.0]]
    """
    products = jnp.matmul(points[rows], points.T, precision="highest")
    both = lengths[rows][:, None] + lengths[None, :]
    return told_apart(both, products, num_features=points.shape[1])


def nearest_of(
    points: Float[Array, "N D"], lengths: Float[Array, " N"], rows: Int[Array, " B"]
) -> Float[Array, " N"]:
    """Squared distance of every row to the nearest of some: [N], infinite if there are none. Runs
    inside jit.

    Args:
      points, lengths: of `centred`.
      rows: int [B], -1 = padding.

    >>> points, lengths, _ = centred(jnp.array([[1.0], [3.0]]))
    >>> nearest_of(points, lengths, jnp.array([1, -1])).tolist()
    [4.0, 0.0]
    """
    # Padding comes last, and blocks of nothing else are left out.
    rows = -jnp.sort(-rows.astype(jnp.int32))
    rows = jnp.pad(rows, (0, -len(rows) % _BLOCK), constant_values=-1).reshape(-1, _BLOCK)

    def block(number, nearest):
        table = all_distances(points, lengths, rows[number])
        table = jnp.where(rows[number][:, None] >= 0, table, jnp.inf)
        return jnp.minimum(nearest, jnp.min(table, axis=0))

    filled = jnp.sum(rows[:, 0] >= 0, dtype=jnp.int32)
    return jax.lax.fori_loop(0, filled, block, jnp.full(len(points), jnp.inf, jnp.float32))


def product_error(num_features: int) -> float:
    """The largest error of `|x|^2 + |y|^2 - 2 x.y` for float32 vectors of `D` numbers, as a share
    of `|x|^2 + |y|^2`.

    A sum of D terms kept in L partial sums has an error of at most about `(D / L + log2 L) u` times
    the sum of their absolute values, with `u = 2^-24` for float32. That sum is `|x|^2` and `|y|^2`
    for the lengths and at most half of both for the product, which counts twice. The total error is
    thus at most about `2 (D / L + log2 L) u (|x|^2 + |y|^2)`: with 8 partial sums, 4e-6 of
    `|x|^2 + |y|^2` for 256 numbers and 1.6e-5 for 1,024. Longer products are summed in blocks, so
    their error is no larger.

    The worst case are features whose columns are all equal. There the largest errors measured were
    1.1e-6 at 64 numbers, 3.9e-6 at 256, 7.6e-6 at 512, 6.4e-6 at 1,280 and 7.7e-6 from 2,048 to
    32,768; other processors, with more partial sums, stayed at a half of that.

    Source: Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 4.2; the figures
    were measured for this library on CPUs.

    >>> product_error(256), product_error(2048)
    (4e-06, 1.6e-05)
    """
    return 4e-6 if num_features <= 256 else 1.6e-5


def middle(features: Float[Array, "N D"], candidates: Bool[Array, " N"]) -> Float[Array, " D"]:
    """A point among the candidates, [D] in float32, found without a pass over all of them; 0
    without candidates. Runs inside jit.

    The mean of up to 1,024 rows spread over the pool; the first candidate stands in for rows that
    are not candidates.

    Source: plain geometry; any point near them will do. Twin: `middle` in tests/reference.py.

    >>> middle(jnp.array([[1.0], [9.0], [3.0]]), jnp.array([True, False, True])).round(3).tolist()
    [1.6670000553131104]
    """
    num_rows = features.shape[0]
    rows = np.linspace(0, num_rows - 1, min(_SPREAD, num_rows)).astype(np.int32)
    rows = jnp.where(candidates[rows], rows, first_true(candidates))
    points = features[rows].astype(jnp.float32)
    # Relative to one of them: a sum of numbers far from zero is only as precise as its last digit.
    point = points[0] + jnp.mean(points - points[:1], axis=0)
    return jnp.where(jnp.any(candidates), point, 0)


def seen_from(
    point: Float[Array, " D"], features: Float[Array, "N D"], rows: Int[Array, " n"]
) -> Float[Array, "n D"]:
    """Some rows of the features in float32, relative to a point such as the `middle`: [n, D].

    >>> seen_from(jnp.array([3.0]), jnp.array([[1.0], [9.0]]), jnp.array([1])).tolist()
    [[6.0]]
    """
    features, rows = xla.in_place(features, rows)
    return features[rows].astype(jnp.float32) - point[None, :]


def squared_lengths(points: Float[Array, "n D"]) -> Float[Array, " n"]:
    """Squared length of every row: [n].

    >>> squared_lengths(jnp.array([[3.0, 4.0]])).tolist()
    [25.0]
    """
    return jnp.sum(jnp.square(points), axis=1)


def centred(
    features: Float[Array, "N D"], *, candidates: Bool[Array, " N"] | None = None
) -> tuple[Float[Array, "N D"], Float[Array, " N"], tuple[Float[Array, " D"], Float[Array, " D"]]]:
    """The rows in float32 relative to the mean of the candidates, their squared lengths, and that
    mean: [N, D], [N], [D] twice. Runs inside jit.

    The mean comes in two parts: a row of the pool, and the step from that row to the mean. Their
    sum, far from the origin, would be rounded; so subtract first the one, then the other.

    Args:
      features: [N, D]; values that are not finite count as 0, since rows that are not candidates
        may hold anything.
      candidates: bool [N], the rows that count (None: all).

    Source: plain geometry.

    >>> points, lengths, (row, way) = centred(jnp.array([[1000.0], [1002.0]]))
    >>> points[:, 0].tolist(), lengths.tolist(), row.tolist(), way.tolist()
    ([-1.0, 1.0], [1.0, 1.0], [1000.0], [1.0])
    """

    def finite(values):
        return jnp.where(jnp.isfinite(values), values.astype(jnp.float32), 0)

    candidates = askable(candidates, len(features))
    # Relative to a row of the pool first, which is exact: a mean far from the origin is only as
    # precise as its last digit.
    row = finite(sharding.fetch(features, first_true(candidates)))
    points = finite(features) - row[None, :]
    way = mean(points, candidates)
    points -= way[None, :]
    return points, squared_lengths(points), (row, way)


def mean(points: Float[Array, "N D"], candidates: Bool[Array, " N"]) -> Float[Array, " D"]:
    """The mean of the candidates, [D]; 0 without any. All rows must be finite. Runs inside jit.

    Source: plain arithmetic.

    >>> mean(jnp.array([[1.0], [9.0], [3.0]]), jnp.array([True, False, True])).tolist()
    [2.0]
    """
    if points.size > _MASKED:
        total = jnp.matmul(candidates.astype(jnp.float32), points, precision="highest")
    else:
        total = jnp.sum(jnp.where(candidates[:, None], points, 0), axis=0)
    return total / jnp.maximum(jnp.sum(candidates), 1).astype(jnp.float32)


def directions(features: Float[Array, "N D"], candidates: Bool[Array, " N"]) -> Float[Array, "N D"]:
    """Unit rows of the features, centred by the mean of the candidates: [N, D]. Runs inside jit.

    A row exactly at the mean has no direction; all such rows get the same one.

    Source: plain geometry. Twin: `directions` in tests/reference.py.

    >>> directions(jnp.array([[1.0, 5.0], [3.0, 5.0]]), jnp.array([True, True])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    points, lengths, _ = centred(features, candidates=candidates)
    length = jnp.sqrt(lengths)[:, None]
    # Of the centred rows: a column that is large and the same in every row does not count. Not
    # max(abs(points)): absolute values would need a copy of them all.
    reach = jnp.maximum(jnp.max(points, axis=1), -jnp.min(points, axis=1))
    directed = length > 1e-6 * jnp.max(jnp.where(candidates, reach, 0), initial=0)
    return jnp.where(directed, points / jnp.where(directed, length, 1), features.shape[1] ** -0.5)
