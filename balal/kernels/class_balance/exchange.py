"""A better batch: rows exchanged one for one."""

import jax
import jax.numpy as jnp

from balal import sharding
from balal.kernels.class_balance.problem import Found, Problem, evaluate, missing_labels

# Swaps, and how many rows of either side are tried in each.
_SWAPS, _MOST_TRIED = 100, 256


def exchange(problem: Problem, found: Found, closed) -> Found:
    """Exchanges the row of the batch and the row outside it that lower the objective most, while
    there are such, among the rows nearest to the threshold."""
    most, (num_rows, num_classes) = len(found.rows), problem.probs.shape
    tried = min(_MOST_TRIED, 2 * num_classes + 10)
    reduced, _ = evaluate(problem, found.u, 1)
    chosen = jnp.arange(most, dtype=jnp.int32) < problem.budget
    mask = (
        jnp.zeros(num_rows, bool).at[jnp.where(chosen, found.rows, num_rows)].set(True, mode="drop")
    )
    last, places = jax.lax.top_k(jnp.where(chosen, reduced[found.rows], -jnp.inf), min(tried, most))
    next, others = sharding.top_k(
        jnp.where(problem.free & ~mask, -reduced, -jnp.inf), min(tried, num_rows)
    )
    possible = (last > -jnp.inf)[:, None] & (next > -jnp.inf)[None, :]

    def gains(missing, outs, ins):
        left = missing[None, :] + problem.probs[outs]
        # Differences of each class first: the sums are far larger than what a swap changes.
        change = jnp.abs(left[:, None, :] - problem.probs[ins][None, :, :])
        change = problem.weight * jnp.sum(change - jnp.abs(missing)[None, None, :], axis=2)
        change += problem.values[ins][None, :] - problem.values[outs][:, None]
        return jnp.where(possible, change, 0)

    def turn(carry):
        number, _, rows, others = carry
        outs = rows[places]
        change = gains(missing_labels(problem, rows), outs, others)
        best = jnp.argmin(change)
        out, into = best // change.shape[1], best % change.shape[1]
        swaps = change[out, into] < -closed
        gone, come = outs[out], others[into]
        rows = rows.at[places[out]].set(jnp.where(swaps, come, gone))
        return number + 1, swaps, rows, others.at[into].set(jnp.where(swaps, gone, come))

    begin = jnp.int32(0), found.objective - found.bound > closed, found.rows, others
    rows = jax.lax.while_loop(lambda carry: carry[1] & (carry[0] < _SWAPS), turn, begin)[2]
    return found._replace(rows=rows)
