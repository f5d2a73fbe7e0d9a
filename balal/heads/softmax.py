"""Softmax regression by Newton steps: every fold and every strength of the penalty in one compiled
program.

The objective is scikit-learn's, `|W|^2 / 2 + C sum_i weight_i (log sum_c exp z_ic - z_i,label)`,
`z_i = W x_i + b + adjustment`, with an unpenalised intercept. Systems are solved by conjugate
gradients to a fixed relative residual, and a step is halved until the objective falls.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from balal.heads.svm_primal_dual import product

_STEPS, _TURNS, _HALVINGS = 50, 60, 20
_LEFT = 0.1


class Solution(NamedTuple):
    """What `solve` finds, for `G` strengths, `k` classes and `runs = num_folds + 1`.

    Attributes:
      held_out: [G, B, k], logits, without the adjustment, of each row by the run that left it out.
      coef: [G, k, D], of the run with all rows.
      intercept: [G, k], of the run with all rows.
      decrease: [runs, G], about how much one more step would lower the objective, as a share of it.
    """

    held_out: Float[Array, "G B k"]
    coef: Float[Array, "G k D"]
    intercept: Float[Array, "G k"]
    decrease: Float[Array, "runs G"]


class _Run(NamedTuple):
    """The rows and labels of one run.

    Attributes:
      weights: [B], of the rows of this run.
      own: [B, k], one-hot labels.
      shift: [k], the adjustment.
    """

    weights: Float[Array, " B"]
    own: Float[Array, "B k"]
    shift: Float[Array, " k"]


@partial(jax.jit, static_argnames=("num_folds",))
def solve(
    rows: Float[Array, "B D"],
    labels: Int[Array, " B"],
    weights: Float[Array, " B"],
    fold: Int[Array, " B"],
    strengths: Float[Array, " G"],
    adjustment: Float[Array, " k"],
    tolerance: Float[Array, ""],
    begin: Float[Array, "k columns"],
    *,
    num_folds: int,
) -> Solution:
    """The regressions of all folds and strengths, float32. Compiled once per shape.

    Args:
      rows: [B, D]. Rows with weight 0 and columns of zeros are padding and change nothing.
      labels: int [B], in [0, k).
      weights: [B], how much each row counts in the objective, not negative.
      fold: int [B], the run that leaves the row out, in [0, num_folds), or -1 for none.
      strengths: [G], values of `C`, ascending: each starts from the solution of the one before.
      adjustment: [k], added to the logits of every row. A class without a row in a run has no part
        in it.
      tolerance: the share by which one more step may still lower the objective.
      begin: [k, D + 1], coefficients to begin with, the intercept last.
      num_folds: how many folds there are.
    """
    levels, num_classes, size = len(strengths), len(adjustment), len(rows)
    rows = jnp.concatenate([rows, jnp.ones((size, 1), jnp.float32)], axis=1)
    own = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)

    def run(number, carry):
        held_out, _, decreases = carry
        kept = jnp.where(fold == number, 0.0, weights)
        known = jnp.any((own > 0) & (kept > 0)[:, None], axis=0)
        problem = _Run(kept, own, jnp.where(known, adjustment, -1e30))

        def level(coef, strength):
            coef, decrease = _newton(rows, problem, strength, tolerance, coef)
            return coef, (coef, decrease)

        coefs, decrease = lax.scan(level, begin, strengths)[1]
        logits = jax.vmap(lambda coef: product(rows, coef.T))(coefs)
        held_out = jnp.where((fold == number)[None, :, None], logits, held_out)
        return held_out, coefs, decreases.at[number].set(decrease)

    nothing = jnp.zeros((levels, size, num_classes), jnp.float32)
    empty = jnp.zeros((levels, num_classes, rows.shape[1]), jnp.float32)
    held_out, coefs, decreases = lax.fori_loop(
        0, num_folds + 1, run, (nothing, empty, jnp.zeros((num_folds + 1, levels), jnp.float32))
    )
    return Solution(held_out, coefs[..., :-1], coefs[..., -1], decreases)


def _newton(
    rows: Array, problem: _Run, strength: Array, tolerance: Array, coef: Array
) -> tuple[Array, Array]:
    """The best coefficients [k, D + 1] and the share of the objective that a step would still have
    taken off."""
    # The intercept, in the last column, is not penalised.
    penalty = jnp.ones(rows.shape[1], jnp.float32).at[-1].set(0.0)[None, :]
    weights = (strength * problem.weights)[:, None]

    def objective(coef: Array, logits: Array) -> Array:
        values = logits + problem.shift[None, :]
        # Of a row that has no part the label may be unknown, and its logit -1e30.
        losses = jax.nn.logsumexp(values, axis=1) - jnp.sum(
            jnp.where(problem.own > 0, values, 0.0), axis=1
        )
        return 0.5 * jnp.sum(penalty * jnp.square(coef)) + jnp.sum(
            jnp.where(weights[:, 0] > 0, weights[:, 0] * losses, 0.0)
        )

    def step(state):
        coef, logits, cost, _, _, steps = state
        chances = jax.nn.softmax(logits + problem.shift[None, :], axis=1)
        gradient = penalty * coef + product((weights * (chances - problem.own)).T, rows)

        def times(direction: Array) -> Array:
            moved = chances * product(rows, direction.T)
            moved = weights * (moved - chances * jnp.sum(moved, axis=1, keepdims=True))
            return penalty * direction + product(moved.T, rows)

        way = _conjugate_gradients(times, -gradient)
        decrease = -0.5 * jnp.sum(gradient * way) / cost
        moved = product(rows, way.T)

        def shorter(state):
            share, _, halvings = state
            share = 0.5 * share
            return share, objective(coef + share * way, logits + share * moved), halvings + 1

        first = 1.0, objective(coef + way, logits + moved), 0
        share, other, _ = lax.while_loop(
            lambda state: (state[1] >= cost) & (state[2] < _HALVINGS), shorter, first
        )
        falls = other < cost
        coef = jnp.where(falls, coef + share * way, coef)
        return (
            coef,
            product(rows, coef.T),
            jnp.where(falls, other, cost),
            decrease,
            falls & (decrease > tolerance),
            steps + 1,
        )

    logits = product(rows, coef.T)
    state = coef, logits, objective(coef, logits), jnp.float32(jnp.inf), jnp.array(True), 0
    coef, _, _, decrease, *_ = lax.while_loop(
        lambda state: state[4] & (state[5] < _STEPS), step, state
    )
    return coef, decrease


def _conjugate_gradients(times, right: Array) -> Array:
    """The solution of one system, for all classes together."""
    goal = _LEFT**2 * jnp.sum(jnp.square(right))

    def turn(state):
        values, residual, direction, square, turns = state
        image = times(direction)
        length = square / jnp.maximum(jnp.sum(direction * image), 1e-30)
        values, residual = values + length * direction, residual - length * image
        now = jnp.sum(jnp.square(residual))
        return (
            values,
            residual,
            residual + now / jnp.maximum(square, 1e-30) * direction,
            now,
            turns + 1,
        )

    state = jnp.zeros_like(right), right, right, jnp.sum(jnp.square(right)), 0
    return lax.while_loop(lambda state: (state[3] > goal) & (state[4] < _TURNS), turn, state)[0]
