"""The problem, and what multipliers make of it: a batch, its objective, and a bound on all."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal.kernels.ordering import argsort


class Problem(NamedTuple):
    """What is to be minimised: all in float32, rows that may not be chosen at 0."""

    values: Float[Array, " N"]
    probs: Float[Array, "N C"]
    deficits: Float[Array, " C"]
    weight: Float[Array, ""]
    free: Bool[Array, " N"]
    budget: Int[Array, ""]


class Found(NamedTuple):
    """The best batch and the best bound so far. The rows of a batch come first in `rows`, those
    beyond the budget are not in it; `u` are multipliers in units of the weight."""

    rows: Int[Array, " b"]
    objective: Float[Array, ""]
    u: Float[Array, " C"]
    bound: Float[Array, ""]


def evaluate(problem: Problem, u, most: int) -> tuple[Float[Array, " N"], Found]:
    """`h - P y` at some multipliers, infinite where a row may not be chosen, [N]; and the batch of
    its smallest entries, with its objective and the bound.

    Args:
      problem: to be solved.
      u: [C], the multipliers in units of the weight.
      most: the largest budget, which sets the shape.
    """
    y = problem.weight * u
    # Not a matrix product: equal rows get equal numbers.
    reduced = problem.values - jnp.sum(problem.probs * y[None, :], axis=1)
    reduced = jnp.where(problem.free, reduced, jnp.inf)
    rows = argsort(reduced, most)
    chosen = jnp.arange(most, dtype=jnp.int32) < problem.budget
    missing = missing_labels(problem, rows)

    def total(numbers):
        return jnp.sum(jnp.where(chosen, numbers[rows], 0))

    objective = total(problem.values) + problem.weight * jnp.sum(jnp.abs(missing))
    bound = jnp.sum(y * problem.deficits) + total(reduced)
    return reduced, Found(rows, objective, u, bound)


def missing_labels(problem: Problem, rows: Int[Array, " b"]) -> Float[Array, " C"]:
    """The deficits that a batch, int [b], leaves: float32 [C], negative where it over-fills. The
    sums are taken in float64, so that they do not depend on the order of the rows."""
    chosen = jnp.arange(len(rows), dtype=jnp.int32) < problem.budget
    with jax.enable_x64(True):
        added = jnp.where(chosen[:, None], problem.probs[rows], 0).astype(jnp.float64)
        left = problem.deficits.astype(jnp.float64) - jnp.sum(added, axis=0)
        return left.astype(jnp.float32)
