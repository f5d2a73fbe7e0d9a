"""The batch of least cost, nearly, with a bound that says how nearly."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.class_balance.arguments import numbers, of_candidates, sizes
from balal.kernels.class_balance.ascent import ascend
from balal.kernels.class_balance.exchange import exchange
from balal.kernels.class_balance.problem import Problem, evaluate, missing_labels
from balal.types import askable

# Gaps below this share of the terms of `f` are none: float32 sees no less.
_CLOSED = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """The rows of `balanced_batch`, and how good they are.

    Attributes:
      indices: int32 [b], -1 beyond the budget or the candidates.
      objective: `f` of these rows.
      bound: no batch of this size has a lower `f`. Like the objective it is taken in float64, and
        rounded to float32 at the end.
      gap: `objective - bound`, taken in float64: how much better the best batch can be at most.
      multipliers: [C], those that the bound follows from.
    """

    indices: Int[Array, "*S b"]
    objective: Float[Array, "*S"]
    bound: Float[Array, "*S"]
    gap: Float[Array, "*S"]
    multipliers: Float[Array, "*S C"]


def balanced_batch(
    values: Float[Array | np.ndarray, " N"],
    probs: Float[Array | np.ndarray, "N C"],
    deficits: Float[Array | np.ndarray, " C"],
    budget: int | np.integer | Int[Array | np.ndarray, ""],
    *,
    weight: float | Float[Array, ""],
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    most: int | None = None,
) -> Batch:
    """The batch of least `sum of values + weight * |deficits - sum of probs|_1`, nearly, with a
    certificate.

    The multipliers at which each class with a deficit pulls and each other one pushes with all its
    weight are tried first; if the batch over-fills no deficit, it is the best there is. Otherwise
    Newton's method raises a smoothed `g` while the smoothing goes. The best of the batches met on
    the way is improved by exchanging one row at a time among up to 256 on either side.

    Args:
      values: [N], smallest first: the negative entropy.
      probs: [N, C], of the target model; rows sum to 1, and a class that it does not know has 0.
      deficits: [C], see `deficits`.
      budget: how many rows; data, if `most` is given.
      weight: at least 0; data.
      candidates: bool [N], the rows that may be chosen (None: all).
      most: the largest budget, which sets the shape (None: the budget).

    Returns: `Batch`, its rows ordered by how much the objective would rise without them, most
      first; ties to the lowest row.

    Raises: ValueError when shapes disagree, for values, deficits or a weight that are not finite or
      negative where they may not be, for rows of probs that are no distribution, and for a budget
      that is not in [0, most].

    `O(N C)` memory; `O(N C^2)` operations for each of up to 40 steps, in matrix products.

    Source: Bengar et al., WACV 2022, Eq. 5, there solved as a mixed-integer program by a commercial
      solver within a time limit; the dual is of this library. Twin: `best_batch` in
      tests/reference.py.

    >>> probs = jnp.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8]])
    >>> batch = balanced_batch(jnp.zeros(3), probs, jnp.array([0.0, 3.0]), 1, weight=1.0)
    >>> batch.indices.tolist(), round(float(batch.objective), 3), round(float(batch.gap), 3)
    ([2], 2.4, 0.0)
    """
    probs = check.floats("probs", check.source_shape("probs", probs))
    num_rows, num_classes = probs.shape
    candidates = check.mask("candidates", candidates, size=num_rows)
    values = numbers("values", values, (num_rows,), candidates=candidates, negative=True)
    check.probs(of_candidates(probs, candidates, 1 / num_classes))
    deficits = numbers("deficits", deficits, (num_classes,))
    weight = numbers("weight", weight, ())
    budget, most = sizes(budget, most, num_rows=num_rows)
    return _balanced_batch(values, probs, deficits, budget, weight, candidates, most)


@partial(jax.jit, static_argnames="most")
def _balanced_batch(values, probs, deficits, budget, weight, candidates, most: int) -> Batch:
    free = askable(candidates, probs.shape[0])
    possible = jnp.sum(free, dtype=jnp.int32)
    problem = Problem(
        values=jnp.where(free, values, 0).astype(jnp.float32),
        probs=jnp.where(free[:, None], probs, 0).astype(jnp.float32),
        deficits=deficits.astype(jnp.float32),
        weight=weight.astype(jnp.float32),
        free=free,
        budget=jnp.minimum(budget, possible),
    )
    if most == 0:
        none = problem.weight * jnp.sum(problem.deficits)
        pulled = jnp.full_like(problem.deficits, problem.weight)
        return Batch(jnp.zeros(0, jnp.int32), none, none, jnp.zeros_like(none), pulled)
    # If the corner of the fast path leaves no gap, neither loop below does a turn.
    _, found = evaluate(problem, jnp.where(problem.deficits > 0, 1, -1).astype(jnp.float32), most)
    chosen = jnp.arange(most, dtype=jnp.int32) < problem.budget
    terms = jnp.sum(jnp.where(chosen, jnp.abs(problem.values[found.rows]), 0))
    terms += problem.weight * (jnp.sum(problem.deficits) + problem.budget.astype(jnp.float32))
    closed = _CLOSED * terms
    found = ascend(problem, found, closed, possible)
    found = exchange(problem, found, closed)
    # With nothing to choose from, the multipliers follow from the only batch.
    only = jnp.sign(missing_labels(problem, found.rows))
    return _certified(problem, found.rows, jnp.where(problem.budget < possible, found.u, only))


def _certified(problem: Problem, rows, u) -> Batch:
    """The batch in order, with objective and bound in float64."""
    missing = missing_labels(problem, rows)
    chosen = jnp.arange(len(rows), dtype=jnp.int32) < problem.budget
    # What the objective would rise by without a row.
    more = jnp.abs(missing[None, :] + problem.probs[rows]) - jnp.abs(missing)[None, :]
    gained = problem.values[rows] - problem.weight * jnp.sum(more, axis=1)
    order = jnp.lexsort((rows, jnp.where(chosen, gained, jnp.inf)))
    with jax.enable_x64(True):
        values, probs, deficits, weight, u = (
            part.astype(jnp.float64)
            for part in (problem.values, problem.probs, problem.deficits, problem.weight, u)
        )
        y = weight * u
        reduced = jnp.where(problem.free, values - jnp.sum(probs * y[None, :], axis=1), jnp.inf)
        smallest = jnp.sort(reduced)[: len(rows)]
        bound = jnp.sum(y * deficits) + jnp.sum(jnp.where(chosen, smallest, 0))
        left = deficits - jnp.sum(jnp.where(chosen[:, None], probs[rows], 0), axis=0)
        objective = jnp.sum(jnp.where(chosen, values[rows], 0)) + weight * jnp.sum(jnp.abs(left))
        objective, bound, gap, y = (
            part.astype(jnp.float32) for part in (objective, bound, objective - bound, y)
        )
    return Batch(jnp.where(chosen, rows, -1)[order].astype(jnp.int32), objective, bound, gap, y)
