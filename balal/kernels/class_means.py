"""Bounds on the distances between rows and class means that move: the choice of Eq. 9 without a
pass over the features a pick.

A mean that moves by some length changes no distance by more than that. So a table of distances
stays useful while its means move: an old distance plus or less what its mean has moved since bounds
the new one, and with it the ratio of Eq. 9 of every row from below. The row with the lowest bound
is measured, as a sum of squared differences to every mean, until the best one measured lies below
all other bounds: one or two rows a pick. Only where that takes too long, or the wanted class itself
has moved, the table is brought up to date, a block of
classes by one matrix product: every twenty picks or so with a hundred classes, oftener with few.

    bounds = begin(features, num_classes=100)
    bounds = move(bounds, label, length)            # a label has come, and the mean of its class has moved
    pick, bounds = choose(bounds, features, means, wanted, over, candidates)
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.balancing import Denominator, ratios
from balal.kernels.distances import middle, product_error, squared_distances
from balal.kernels.ordering import first_true
from balal.types import askable

# Bounds of ratios are made lower by this share, for what sums, roots and quotients may err.
_MARGIN = 1e-5
# Rows that are measured for one pick before the table is brought up to date, and before all are:
# where products cannot tell the rows of a cluster apart, bounds are of no use.
_TURNS, _MOST = 32, 1024
# Classes brought up to date by one matrix product, and how few of them take one pass over the
# features each instead.
_CLASSES, _FEW = 32, 4
# Rows of the features in one matrix product: centred, they stay in the processor's cache.
_ROWS = 1024
# Where the middle is no farther from zero than this many times the rows are from the middle, in
# squares, products need not be centred.
_OFFSET = 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bounds:
    """What is known of the distances between rows and class means.

    upper: [C, N], not below the distances there were when a class was last brought up to date.
    squares: [N] and lengths: [C], squared distances of the rows, and of the means there were then,
    from the middle; the squares of `upper` are too large by at most
    `2 * coverage.product_error(D) * (squares + lengths)`. middle: [D], a point amid the rows, or
    zero where that is as good. moved: [C],
    how far each mean can be from where it was then: 0 for classes without a mean, infinite for
    those that were never looked at. far: [N], not below the denominators of Eq. 9 of the classes in
    `counted`, of the kind that `choose` was asked for. counted: [C], how far each of them had moved
    then, -1 for a class that is not among them.
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
    """No class has a mean yet: each gets its first by a `move` of infinite length. `O(N C)` memory,
    two passes. Runs inside jit.

    Args:
      features: [N, D], float32, bfloat16 or float16. num_classes: room for classes, `C`.
      candidates: bool [N], the rows that say where the middle is (None: all); the others may hold
        anything.

    Source: this library.

    >>> begin(jnp.array([[5.0], [7.0]]), num_classes=1).squares.tolist()
    [1.0, 1.0]
    """
    size = features.shape[0]
    allowed = askable(candidates, size)
    amid = middle(features, allowed)
    squares = squared_distances(features, amid)
    near = jnp.sum(jnp.square(amid)) * jnp.sum(allowed) <= _OFFSET * jnp.sum(
        jnp.where(allowed, squares, 0)
    )
    amid = jnp.where(near, 0, amid)
    return Bounds(
        upper=jnp.zeros((num_classes, size), jnp.float32),
        squares=squared_distances(features, amid),
        lengths=jnp.zeros(num_classes, jnp.float32),
        middle=amid,
        moved=jnp.zeros(num_classes, jnp.float32),
        far=jnp.zeros(size, jnp.float32),
        counted=jnp.full(num_classes, -1, jnp.float32),
    )


def move(bounds: Bounds, label: Int[Array, ""], length: Float[Array, ""] | float) -> Bounds:
    """The bounds after the mean of a class has moved by some length, infinite where it had none
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


def choose(
    bounds: Bounds,
    features: Float[Array, "N D"],
    means: Float[Array, "C D"],
    wanted: Int[Array, ""],
    over: Bool[Array, " C"],
    candidates: Bool[Array, " N"],
    *,
    denominator: Denominator = "min",
) -> tuple[Int[Array, ""], Bounds]:
    """The candidate to ask, as `balancing.choose` would from all distances, and the bounds to go on
    with. Runs inside jit.

    The pick does not depend on what the bounds hold, only how long it takes to find: rows are
    compared by distances measured as sums of squared differences, ties go to the lowest row.

    Args:
      features: [N, D]. means: [C, D], of the classes.
      wanted: the wanted class; -1: nothing is chosen. over: bool [C], the over-represented classes.
      candidates: bool [N]. denominator: as in `balancing.choose`, the same in all calls that carry
        on the bounds.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 9; the bounds are the triangle inequality, as
    in Elkan's k-means (ICML 2003).

    >>> features, means = jnp.array([[0.0], [1.0], [4.0]]), jnp.array([[1.5], [0.0]])
    >>> bounds = begin(features, num_classes=2)
    >>> bounds = move(move(bounds, jnp.int32(0), jnp.inf), jnp.int32(1), jnp.inf)
    >>> int(choose(bounds, features, means, jnp.int32(0), jnp.array([False, True]), jnp.ones(3, bool))[0])
    1
    """
    chooses = wanted >= 0
    over &= chooses
    candidates &= chooses
    size = candidates.shape[0]

    def late(bounds):
        return (bounds.moved[wanted] > 0) | jnp.any(over & (bounds.moved == jnp.inf))

    def refresh(carry):
        bounds, _ = carry
        bounds = _refreshed(bounds, features, means, wanted, over)
        return bounds, late(bounds)

    # Loops of one round or none: a branch would copy the table.
    def pass_over_copies(_, carry):
        lower, row = carry
        copies = (lower < jnp.inf) & (
            squared_distances(features, sharding.fetch(features, row)) == 0
        )
        return jnp.where(copies, jnp.inf, lower), jnp.where(
            jnp.any(copies), jnp.minimum(row, first_true(copies)), row
        )

    def measure_all(number, lower):
        # Plus 0: all rows would be measured before the loop, and always, if nothing here depended
        # on its turn.
        values = _measured(features, means + number, wanted, over, denominator)
        return jnp.where(lower < jnp.inf, _shrunk(values), jnp.inf)

    def goes_on(carry):
        _, _, (bound, row), (best, best_row), _, _ = carry
        return (bound < jnp.inf) & ((bound < best) | ((bound == best) & (row < best_row)))

    def measure(carry):
        bounds, lower, _, (best, best_row), last, turns = carry
        long = turns >= _TURNS
        outdated = jnp.where(turns == 0, late(bounds), long & jnp.any(over & (bounds.moved > 0)))
        bounds, _ = jax.lax.while_loop(lambda carry: carry[1], refresh, (bounds, outdated))
        bounds = _counted(bounds, over, denominator)
        tighter = jnp.where(lower < jnp.inf, _lower(bounds, wanted, over, denominator), jnp.inf)
        lower = jnp.where(outdated | (turns == 0), tighter, lower)
        lower = jax.lax.fori_loop(0, (turns == _MOST).astype(jnp.int32), measure_all, lower)

        _, row = _lowest_bound(lower)
        point = sharding.fetch(features, row).astype(jnp.float32)
        squares = jnp.sum(jnp.square(means - point[None, :]), axis=1)
        value = ratios(squares[:, None], wanted, over, denominator=denominator)[0]
        lower = lower.at[row].set(jnp.inf)
        lower, row = jax.lax.fori_loop(
            0, (long & (value == last)).astype(jnp.int32), pass_over_copies, (lower, row)
        )
        better = (value < best) | ((value == best) & (row < best_row))
        best = jnp.where(better, value, best), jnp.where(better, row, best_row)
        return bounds, lower, _lowest_bound(lower), best, value, turns + 1

    lower = jnp.where(candidates, 0, jnp.inf).astype(jnp.float32)
    nothing = jnp.float32(jnp.inf), jnp.int32(size)
    carry = bounds, lower, _lowest_bound(lower), nothing, jnp.float32(-1), jnp.int32(0)
    bounds, _, _, (best, row), _, _ = jax.lax.while_loop(goes_on, measure, carry)
    # Where every ratio is infinite all candidates are equal.
    row = jnp.where(best < jnp.inf, row, first_true(candidates))
    return jnp.where(jnp.any(candidates), row, -1).astype(jnp.int32), bounds


def _lowest_bound(lower: Float[Array, " N"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    bound = jnp.min(lower)
    return bound, first_true(lower == bound)


def _measured(features, means, wanted, over, denominator: Denominator) -> Float[Array, " N"]:
    """`balancing.ratios` of all rows, by sums of squared differences: a pass over the features for
    each class."""

    def tiled(features, means, wanted, over):
        size, height = features.shape[0], min(_ROWS, features.shape[0])

        def tile(number, values):
            first_row = jnp.minimum(number * height, size - height)
            rows = jax.lax.dynamic_slice_in_dim(features, first_row, height)
            distances = jax.lax.map(lambda mean: squared_distances(rows, mean), means)
            found = ratios(distances, wanted, over, denominator=denominator)
            return jax.lax.dynamic_update_slice_in_dim(values, found, first_row, axis=0)

        return jax.lax.fori_loop(0, -(-size // height), tile, jnp.zeros(size, jnp.float32))

    return sharding.by_rows(tiled, (0, None, None, None), 0)(features, means, wanted, over)


def _shrunk(values: Float[Array, " N"]) -> Float[Array, " N"]:
    """Ratios made a little lower, so that they are bounds. What is not a number may be anything."""
    return jnp.where(values > 0, (1 - _MARGIN) * values, 0)


def _refreshed(bounds: Bounds, features, means, wanted, over) -> Bounds:
    """Brings a block of classes up to date, or, where only a few have moved, one.

    The wanted class goes first, then the over-represented ones, as they are in every bound, then
    those that have moved farthest: these have few labels, so that they will be wanted soon.
    """
    num_classes, size = bounds.upper.shape
    width = min(_CLASSES, num_classes)
    moved = bounds.moved > 0
    many = jnp.sum(moved) > _FEW
    others = jnp.arange(num_classes) != wanted
    classes = jnp.lexsort((-bounds.moved, ~over, others, ~moved))[:width].astype(jnp.int32)
    points = means[classes] - bounds.middle[None, :]
    lengths = jnp.sum(jnp.square(points), axis=1)
    error = product_error(features.shape[1])

    def one(number, upper):
        # Plus 0, as in `measure_all`: or the pass would be moved out of the loop, and always be
        # made.
        squares = squared_distances(features, means[classes[0]] + number) + error * (
            bounds.squares + lengths[0]
        )
        return jax.lax.dynamic_update_index_in_dim(upper, jnp.sqrt(squares), classes[0], axis=0)

    def several(block, features, squares, middle, points, lengths, many):
        size, height = features.shape[0], min(_ROWS, features.shape[0])

        def distances(rows, squares, points):
            products = jax.lax.dot_general(
                rows, points, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST
            )
            # Without the barrier the transposition would go into the product, which is slower that
            # way round.
            products = jax.lax.optimization_barrier(products).T
            return jnp.sqrt(
                jnp.maximum((1 + error) * (squares[None, :] + lengths[:, None]) - 2 * products, 0)
            )

        def whole(number, _):
            return distances(features, squares, points + number)

        def tile(number, block):
            # The last tile ends with the last row; what it shares with the one before is computed
            # twice.
            first_row = jnp.minimum(number * height, size - height)
            rows = (
                jax.lax.dynamic_slice_in_dim(features, first_row, height).astype(jnp.float32)
                - middle[None, :]
            )
            squared = jax.lax.dynamic_slice_in_dim(squares, first_row, height)
            return jax.lax.dynamic_update_slice_in_dim(
                block, distances(rows, squared, points), first_row, axis=1
            )

        # Rows that need neither centring nor conversion are spared the copy into tiles, which takes
        # as long as half of the product.
        plain = (features.dtype == jnp.float32) & ~jnp.any(middle != 0)
        if features.dtype == jnp.float32:
            block = jax.lax.fori_loop(0, (many & plain).astype(jnp.int32), whole, block)
        return jax.lax.fori_loop(
            0, (many & ~plain).astype(jnp.int32) * -(-size // height), tile, block
        )

    def put(place, upper, block):
        return jax.lax.dynamic_update_index_in_dim(upper, block[place], classes[place], axis=0)

    # Loops of one round or none: a branch would copy the table.
    upper = jax.lax.fori_loop(0, (~many).astype(jnp.int32), one, bounds.upper)
    block = jnp.zeros((width, size), jnp.float32)
    several = sharding.by_rows(several, (1, 0, 0, None, None, None, None), 1)
    block = several(block, features, bounds.squares, bounds.middle, points, lengths, many)
    upper = jax.lax.fori_loop(
        0, many.astype(jnp.int32) * width, lambda place, upper: put(place, upper, block), upper
    )
    fresh = jnp.zeros(num_classes, bool).at[classes].set(many).at[classes[0]].set(True)
    return replace(
        bounds,
        upper=upper,
        lengths=jnp.where(
            fresh, jnp.zeros(num_classes, jnp.float32).at[classes].set(lengths), bounds.lengths
        ),
        moved=jnp.where(fresh, 0, bounds.moved),
        counted=jnp.full(num_classes, -1, jnp.float32),
    )


def _lower(bounds: Bounds, wanted, over, denominator: Denominator) -> Float[Array, " N"]:
    """Lower bounds of `balancing.ratios`, once the denominators are counted and the wanted class is
    up to date."""
    near = jnp.square(bounds.upper[wanted]) - 2 * product_error(bounds.middle.shape[0]) * (
        bounds.squares + bounds.lengths[wanted]
    )
    near = jnp.maximum(near, 0)
    ratio = jnp.sqrt(near) / bounds.far if denominator == "mean" else near / jnp.square(bounds.far)
    ratio = near if denominator == "none" else jnp.where(jnp.any(over), ratio, near)
    ratio = _shrunk(ratio)
    if denominator == "min":
        # No mean of `over` is nearer than the nearest.
        ratio = jnp.where(over[wanted], jnp.maximum(ratio, 1), ratio)
    return ratio


def _counted(bounds: Bounds, over, denominator: Denominator) -> Bounds:
    """Makes `far` the bound for the classes of `over`: of those that have come or moved since,
    unless others have left."""
    if denominator == "none":
        return bounds
    kept = jnp.where(jnp.any((bounds.counted >= 0) & ~over), -1, bounds.counted)
    far = jnp.where(jnp.any(kept >= 0), bounds.far, jnp.inf if denominator == "min" else 0.0)

    def differs(counted):
        # Never where a movement is not a number, or there would be no end.
        return over & (counted < bounds.moved)

    def count(carry):
        far, counted = carry
        label = first_true(differs(counted))
        row, new = bounds.upper[label], counted[label] < 0
        before, after = row + counted[label], row + bounds.moved[label]
        if denominator == "min":
            # A row that this class was the nearest to has its distance for a bound still, be
            # another nearer now.
            far = jnp.where(new | (far < before), jnp.minimum(far, after), after)
        elif denominator == "max":
            far = jnp.maximum(far, after)
        else:
            # A little more, for what the sum may have been rounded down.
            far = (far + after - jnp.where(new, 0, before)) * (1 + 2**-22)
        return far, counted.at[label].set(bounds.moved[label])

    far, counted = jax.lax.while_loop(lambda carry: jnp.any(differs(carry[1])), count, (far, kept))
    return replace(bounds, far=far, counted=counted)
