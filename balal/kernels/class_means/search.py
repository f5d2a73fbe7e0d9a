"""The row to ask for, found from bounds: the one with the lowest bound is measured, until the best
one measured lies below all other bounds."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding, xla
from balal.kernels.balancing import Denominator, ratios
from balal.kernels.class_means.bounds import Bounds, lower_bounds, refresh, shrink, with_far
from balal.kernels.distances import squared_distances
from balal.kernels.ordering import first_true

# Rows measured for one pick before the table is brought up to date, and before all rows are
# measured: where products cannot distinguish the rows of a cluster, bounds are of no use.
_TURNS, _MOST = 32, 1024
# Rows measured to all means at once.
_ROWS = 1024


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
    """The candidate to ask for, as `balancing.choose` would find it from all distances, and the
    bounds to continue with. Runs inside jit.

    The bounds affect only how long it takes to find the pick, not which row it is: rows are
    compared by distances measured as sums of squared differences, and ties go to the lowest row.

    Args:
      bounds: from `begin`, `move`, or the last call.
      features: [N, D].
      means: [C, D], of the classes.
      wanted: the wanted class; -1: nothing is chosen.
      over: bool [C], the over-represented classes.
      candidates: bool [N].
      denominator: as in `balancing.choose`, the same in all calls with these bounds.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 9; the bounds are the triangle inequality, as
      in Elkan's k-means (ICML 2003). Twin: the least `choice_ratio` in tests/reference.py.

    >>> from balal.kernels.class_means import begin, move
    >>> features, means = jnp.array([[0.0], [1.0], [4.0]]), jnp.array([[1.5], [0.0]])
    >>> bounds = begin(features, num_classes=2)
    >>> bounds = move(move(bounds, jnp.int32(0), jnp.inf), jnp.int32(1), jnp.inf)
    >>> over, candidates = jnp.array([False, True]), jnp.ones(3, bool)
    >>> int(choose(bounds, features, means, jnp.int32(0), over, candidates)[0])
    1
    """
    chooses = wanted >= 0
    over &= chooses
    candidates &= chooses
    num_rows = candidates.shape[0]

    def late(bounds):
        return (bounds.moved[wanted] > 0) | jnp.any(over & (bounds.moved == jnp.inf))

    def bring_up_to_date(carry):
        bounds, _ = carry
        bounds = refresh(bounds, features, means, wanted, over)
        return bounds, late(bounds)

    def measure_all(lower, means):
        values = _measured(features, means, wanted, over, denominator)
        return jnp.where(lower < jnp.inf, shrink(values), jnp.inf)

    def pass_over_copies(carry):
        lower, row = carry
        same = squared_distances(features, sharding.fetch(features, row)) == 0
        copies = (lower < jnp.inf) & same
        lowest = jnp.where(jnp.any(copies), jnp.minimum(row, first_true(copies)), row)
        return jnp.where(copies, jnp.inf, lower), lowest

    def goes_on(carry):
        _, _, (bound, row), (best, best_row), _, _ = carry
        return (bound < jnp.inf) & ((bound < best) | ((bound == best) & (row < best_row)))

    def measure(carry):
        bounds, lower, _, (best, best_row), last, turns = carry
        long = turns >= _TURNS
        outdated = jnp.where(turns == 0, late(bounds), long & jnp.any(over & (bounds.moved > 0)))
        bounds, _ = jax.lax.while_loop(lambda carry: carry[1], bring_up_to_date, (bounds, outdated))
        bounds = with_far(bounds, over, denominator)
        tighter = lower_bounds(bounds, wanted, over, denominator)
        tighter = jnp.where(lower < jnp.inf, tighter, jnp.inf)
        lower = jnp.where(outdated | (turns == 0), tighter, lower)
        lower = xla.run_if(turns == _MOST, measure_all, lower, means)

        _, row = _lowest(lower)
        point = sharding.fetch(features, row).astype(jnp.float32)
        squares = jnp.sum(jnp.square(means - point[None, :]), axis=1)
        value = ratios(squares[:, None], wanted, over, denominator=denominator)[0]
        lower = lower.at[row].set(jnp.inf)
        lower, row = xla.run_if(long & (value == last), pass_over_copies, (lower, row))
        better = (value < best) | ((value == best) & (row < best_row))
        best = jnp.where(better, value, best), jnp.where(better, row, best_row)
        return bounds, lower, _lowest(lower), best, value, turns + 1

    lower = jnp.where(candidates, 0, jnp.inf).astype(jnp.float32)
    nothing = jnp.float32(jnp.inf), jnp.int32(num_rows)
    carry = bounds, lower, _lowest(lower), nothing, jnp.float32(-1), jnp.int32(0)
    bounds, _, _, (best, row), _, _ = jax.lax.while_loop(goes_on, measure, carry)
    # Where every ratio is infinite all candidates are equal.
    row = jnp.where(best < jnp.inf, row, first_true(candidates))
    return jnp.where(jnp.any(candidates), row, -1).astype(jnp.int32), bounds


def _measured(features, means, wanted, over, denominator: Denominator) -> Float[Array, " N"]:
    """`balancing.ratios` of all rows, by sums of squared differences: a pass over the features for
    each class."""

    def measured(features, means, wanted, over):
        def of(rows):
            distances = jax.lax.map(lambda mean: squared_distances(rows, mean), means)
            return ratios(distances, wanted, over, denominator=denominator)

        return xla.map_tiles(of, features, height=_ROWS)

    return sharding.by_rows(measured, (0, None, None, None), 0)(features, means, wanted, over)


def _lowest(lower: Float[Array, " N"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The lowest bound, and the lowest row with it."""
    bound = jnp.min(lower)
    return bound, first_true(lower == bound)
