"""The table of distances between rows and class means, and the bounds that follow from it as the
means move."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding, xla
from balal.kernels.balancing import Denominator
from balal.kernels.distances import middle, product_error, squared_distances, upper_bounds
from balal.kernels.ordering import first_true
from balal.types import askable

# Bounds of ratios are lowered by this share, to cover the rounding of sums, roots and quotients.
_MARGIN = 1e-5
# Classes brought up to date by one matrix product; up to `_FEW` of them take a pass over the
# features each instead.
_CLASSES, _FEW = 32, 4
# Rows of the features in one matrix product: centred, they stay in the processor's cache.
_ROWS = 1024
# Products need not be centred if the middle's squared distance from zero is at most this many times
# the rows' mean squared distance from the middle.
_OFFSET = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounds:
    """What is known of the distances between rows and class means.

    Attributes:
      upper: [C, N], not below the distances at the time a class was last brought up to date; their
        squares are too large by at most `2 * product_error(D) * (squares + lengths)`.
      squares: [N], squared distances of the rows from the middle.
      lengths: [C], those of the means at that time.
      middle: [D], a point among the rows, or zero where that is as good.
      moved: [C], how far each mean can be from where it was at that time: 0 for classes without a
        mean, infinite for those never brought up to date.
      far: [N], not below the denominators of Eq. 9 for the classes in `counted`, with the
        `denominator` given to `choose`.
      counted: [C], how far each of those classes had moved when `far` took it in, -1 for the
        others.
    """

    upper: Float[Array, "*S C N"]
    squares: Float[Array, "*S N"]
    lengths: Float[Array, "*S C"]
    middle: Float[Array, "*S D"]
    moved: Float[Array, "*S C"]
    far: Float[Array, "*S N"]
    counted: Float[Array, "*S C"]


def begin(
    features: Float[Array, "N D"], *, num_classes: int, candidates: Bool[Array, " N"] | None = None
) -> Bounds:
    """The bounds before any class has a mean: each gets its first by a `move` of infinite length.
    `O(N C)` memory, two passes. Runs inside jit.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      num_classes: room for classes, `C`.
      candidates: bool [N], the rows that determine the middle (None: all); the others may hold
        anything.

    Source: this library.

    >>> begin(jnp.array([[5.0], [7.0]]), num_classes=1).squares.tolist()
    [1.0, 1.0]
    """
    num_rows = features.shape[0]
    allowed = askable(candidates, num_rows)
    amid = middle(features, allowed)
    squares = squared_distances(features, amid)
    number = jnp.sum(allowed).astype(jnp.float32)
    near = jnp.sum(jnp.square(amid)) * number <= _OFFSET * jnp.sum(jnp.where(allowed, squares, 0))
    amid = jnp.where(near, 0, amid)
    return Bounds(
        upper=jnp.zeros((num_classes, num_rows), jnp.float32),
        squares=squared_distances(features, amid),
        lengths=jnp.zeros(num_classes, jnp.float32),
        middle=amid,
        moved=jnp.zeros(num_classes, jnp.float32),
        far=jnp.zeros(num_rows, jnp.float32),
        counted=jnp.full(num_classes, -1, jnp.float32),
    )


def move(bounds: Bounds, label: Int[Array, ""], length: Float[Array, ""] | float) -> Bounds:
    """The bounds after the mean of a class has moved by some length, infinite if it had no mean
    before. Label C changes nothing.

    Source: the triangle inequality.

    >>> move(begin(jnp.eye(2), num_classes=2), jnp.int32(1), 0.5).moved.round(3).tolist()
    [0.0, 0.5]
    """
    return replace(bounds, moved=bounds.moved.at[label].add((1 + _MARGIN) * length, mode="drop"))


def grow(bounds: Bounds, num_classes: int) -> Bounds:
    """The same bounds with room for more classes, `num_classes` in all.

    >>> grow(begin(jnp.eye(2), num_classes=2), 3).upper.shape
    (3, 2)
    """
    more = num_classes - bounds.moved.shape[0]

    def pad(values, filling):
        return jnp.pad(values, [(0, more)] + [(0, 0)] * (values.ndim - 1), constant_values=filling)

    return replace(
        bounds,
        upper=pad(bounds.upper, 0),
        lengths=pad(bounds.lengths, 0),
        moved=pad(bounds.moved, 0),
        counted=pad(bounds.counted, -1),
    )


def lower_bounds(
    bounds: Bounds, wanted: Int[Array, ""], over: Bool[Array, " C"], denominator: Denominator
) -> Float[Array, " N"]:
    """Lower bounds of `balancing.ratios`, [N]. The wanted class must be up to date, and `with_far`
    must have counted the denominators."""
    error = 2 * product_error(bounds.middle.shape[0]) * (bounds.squares + bounds.lengths[wanted])
    near = jnp.maximum(jnp.square(bounds.upper[wanted]) - error, 0)
    ratio = jnp.sqrt(near) / bounds.far if denominator == "mean" else near / jnp.square(bounds.far)
    ratio = near if denominator == "none" else jnp.where(jnp.any(over), ratio, near)
    ratio = shrink(ratio)
    if denominator == "min":
        # No mean of `over` is nearer than the nearest.
        ratio = jnp.where(over[wanted], jnp.maximum(ratio, 1), ratio)
    return ratio


def shrink(values: Float[Array, " N"]) -> Float[Array, " N"]:
    """Ratios lowered a little, so that they are bounds; NaN becomes 0.

    >>> shrink(jnp.array([1.0, jnp.nan])).round(3).tolist()
    [1.0, 0.0]
    """
    return jnp.where(values > 0, (1 - _MARGIN) * values, 0)


def with_far(bounds: Bounds, over: Bool[Array, " C"], denominator: Denominator) -> Bounds:
    """The bounds with `far` for the classes of `over`: only classes that joined or moved are
    counted anew, unless some have left, when all are."""
    if denominator == "none":
        return bounds
    kept = jnp.where(jnp.any((bounds.counted >= 0) & ~over), -1, bounds.counted)
    far = jnp.where(jnp.any(kept >= 0), bounds.far, jnp.inf if denominator == "min" else 0.0)

    def differs(counted):
        # False where a movement is NaN, or the loop would never end.
        return over & (counted < bounds.moved)

    def count(carry):
        far, counted = carry
        label = first_true(differs(counted))
        distances, new = bounds.upper[label], counted[label] < 0
        before, after = distances + counted[label], distances + bounds.moved[label]
        if denominator == "min":
            # A row whose nearest class this was keeps the distance to it as its bound, though
            # another may be nearer now.
            far = jnp.where(new | (far < before), jnp.minimum(far, after), after)
        elif denominator == "max":
            far = jnp.maximum(far, after)
        else:
            # A little more, as the sum may have been rounded down.
            far = (far + after - jnp.where(new, 0, before)) * (1 + 2**-22)
        return far, counted.at[label].set(bounds.moved[label])

    far, counted = jax.lax.while_loop(lambda carry: jnp.any(differs(carry[1])), count, (far, kept))
    return replace(bounds, far=far, counted=counted)


def refresh(
    bounds: Bounds,
    features: Float[Array, "N D"],
    means: Float[Array, "C D"],
    wanted: Int[Array, ""],
    over: Bool[Array, " C"],
) -> Bounds:
    """The bounds with a block of classes brought up to date, or just one if only a few have moved.

    The wanted class goes first, then the over-represented ones, which enter every bound, then those
    that have moved farthest: they have few labels, so they will be wanted soon.
    """
    num_classes = bounds.moved.shape[0]
    width = min(_CLASSES, num_classes)
    moved = bounds.moved > 0
    many = jnp.sum(moved) > _FEW
    others = jnp.arange(num_classes, dtype=jnp.int32) != wanted
    classes = jnp.lexsort((-bounds.moved, ~over, others, ~moved))[:width].astype(jnp.int32)
    points = means[classes] - bounds.middle[None, :]
    lengths = jnp.sum(jnp.square(points), axis=1)
    error = product_error(features.shape[1]) * (bounds.squares + lengths[0])

    def one(upper, mean):
        distances = jnp.sqrt(squared_distances(features, mean) + error)
        return jax.lax.dynamic_update_index_in_dim(upper, distances, classes[0], axis=0)

    def several(upper):
        def put(number, upper):
            return jax.lax.dynamic_update_index_in_dim(
                upper, block[number], classes[number], axis=0
            )

        return jax.lax.fori_loop(0, width, put, upper)

    upper = xla.run_if(~many, one, bounds.upper, means[classes[0]])
    block = _block(bounds, features, points, lengths, many)
    upper = xla.run_if(many, several, upper)
    fresh = jnp.zeros(num_classes, bool).at[classes].set(many).at[classes[0]].set(True)
    lengths = jnp.zeros(num_classes, jnp.float32).at[classes].set(lengths)
    return replace(
        bounds,
        upper=upper,
        lengths=jnp.where(fresh, lengths, bounds.lengths),
        moved=jnp.where(fresh, 0, bounds.moved),
        counted=jnp.full(num_classes, -1, jnp.float32),
    )


def _block(bounds: Bounds, features, points, lengths, many) -> Float[Array, "c N"]:
    """Upper bounds of the distances of all rows to some points by one matrix product if `many`,
    else zeros.

    Args:
      bounds, features: as in `refresh`.
      points: [c, D], relative to the middle.
      lengths: [c], their squared lengths.
      many: whether the block is needed.
    """

    def block(features, squares, middle, points, lengths, many):
        def distances(rows, squares, points):
            products = jax.lax.dot_general(
                rows, points, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
            )
            # Transposing within the product is slower.
            products = xla.opaque(products).T
            total = squares[None, :] + lengths[:, None]
            return jnp.sqrt(upper_bounds(total, products, num_features=features.shape[1]))

        def whole(_, points):
            return distances(features, squares, points)

        def tiled(_, points):
            def tile(rows, squares):
                return distances(rows.astype(jnp.float32) - middle[None, :], squares, points)

            return xla.map_tiles(tile, features, squares, height=_ROWS, axis=1)

        # Rows that need neither centring nor conversion are not copied into tiles, which takes half
        # as long as the product.
        plain = (features.dtype == jnp.float32) & ~jnp.any(middle != 0)
        found = jnp.zeros((len(points), len(features)), jnp.float32)
        if features.dtype == jnp.float32:
            found = xla.run_if(many & plain, whole, found, points)
        return xla.run_if(many & ~plain, tiled, found, points)

    block = sharding.by_rows(block, (0, 0, None, None, None, None), 1)
    return block(features, bounds.squares, bounds.middle, points, lengths, many)
