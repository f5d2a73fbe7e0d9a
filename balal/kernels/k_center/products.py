"""K-center among rows whose distances are bounded by products: all rows of a small pool, or the
rows of a large one that the lazy search has brought up to date."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.distances import middle, seen_from, squared_lengths, upper_bounds
from balal.kernels.k_center.centres import Centres, add_centre
from balal.kernels.ordering import first_true

# Products decide which centre is nearest as long as the squared distance is at least this share of
# |x|^2.
_RESOLVED = 1 / 16


def pick(features, centres: Centres, left, goal) -> tuple[Centres, Bool[Array, " N"]]:
    """Picks among all rows of a small pool by one product with the features for each centre, until
    there are `goal` centres or products cannot resolve what comes next. Returns the centres and the
    rows left."""
    rows = jnp.arange(len(left), dtype=jnp.int32)
    points = seen_from(middle(features, left), features, rows)
    lengths = squared_lengths(points)

    def distances_to(row):
        products = jnp.matmul(points, points[row], precision=jax.lax.Precision.HIGHEST)
        return upper_bounds(lengths + lengths[row], products, num_features=points.shape[1])

    def nearer(number, carry):
        bounds, owners = carry
        centre = centres.rows[number]
        others = distances_to(centre)
        closer = others < bounds
        return jnp.where(closer, others, bounds), jnp.where(closer, centre, owners)

    begin = jnp.where(left, jnp.inf, -jnp.inf), jnp.broadcast_to(centres.rows[0], rows.shape)
    present = jnp.where(centres.count < goal, centres.count, 0)
    bounds, owners = jax.lax.fori_loop(0, present, nearer, begin)
    nobody = jnp.float32(-jnp.inf), jnp.int32(len(left))
    centres, bounds, _ = pick_among(
        rows, features, centres, goal, lengths, bounds, owners, nobody, distances_to
    )
    return centres, bounds > -jnp.inf


def pick_among(
    rows: Int[Array, " n"],
    features,
    centres: Centres,
    goal,
    lengths: Float[Array, " n"],
    bounds: Float[Array, " n"],
    owners: Int[Array, " n"],
    rival,
    distances_to: Callable[[Any], Any],
) -> tuple[Centres, Float[Array, " n"], Int[Array, " n"]]:
    """Picks among some rows until there are `goal` centres, products cannot resolve what comes
    next, or the rival comes next. Returns the centres, and the bounds and owners at that point.

    Args:
      rows: [n], ascending.
      features: [N, D].
      centres: so far.
      goal: how many centres there shall be.
      lengths: [n], squared, of the rows relative to the middle.
      bounds: [n], not below the squared distance to the nearest centre; -inf: not to be picked.
      owners: [n], the centres that the bounds come from.
      rival: the largest bound of all other rows, and the row that has it.
      distances_to: upper bounds, [n], of the squared distances to the row at an index of `rows`.
    """

    def goes_on(carry):
        centres, (bound, index), *_ = carry
        return (centres.count < goal) & centres.resolved & _before(bound, rows[index], *rival)

    def turn(carry):
        # The top row is measured. If it stays on top, it is the pick; if not, the new top row is
        # next.
        centres, (_, index), bounds, owners = carry
        row = rows[index]
        here, there = (sharding.fetch(features, end) for end in (row, owners[index]))
        difference = here.astype(jnp.float32) - there.astype(jnp.float32)
        measured = jnp.sum(jnp.square(difference))
        measured = jnp.where(measured < jnp.inf, measured, jnp.inf)
        bounds = bounds.at[index].set(measured)
        stays = (top(bounds)[1] == index) & _before(measured, row, *rival)
        resolved = (measured < jnp.inf) & (measured >= _RESOLVED * lengths[index])
        picked = stays & resolved
        centres = add_centre(centres, row, measured, picked)
        centres = replace(centres, resolved=resolved | ~stays)
        others = distances_to(index)
        closer = picked & (others < bounds)
        bounds = jnp.where(closer, others, bounds)
        bounds = bounds.at[index].set(jnp.where(picked, -jnp.inf, bounds[index]))
        return centres, top(bounds), bounds, jnp.where(closer, row, owners)

    carry = centres, top(bounds), bounds, owners
    centres, _, bounds, owners = jax.lax.while_loop(goes_on, turn, carry)
    return centres, bounds, owners


def top(values: Float[Array, " n"]) -> tuple[Float[Array, ""], Int[Array, ""]]:
    """The largest value and its lowest index.

    >>> top(jnp.array([1.0, 3.0, 3.0]))[1].tolist()
    1
    """
    best = jnp.max(values)
    return best, first_true(values == best)


def _before(value, row, other_value, other_row) -> Bool[Array, ""]:
    """Whether a row goes before another: the larger value first, the lower row of equals."""
    return (value > other_value) | ((value == other_value) & (row < other_row))
