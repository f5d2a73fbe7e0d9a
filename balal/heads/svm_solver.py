"""One-vs-rest linear SVMs with squared hinge: every class, every fold and every strength of the
penalty in one compiled program.

A problem is one class against the rest in one run; a run leaves out the rows of one fold, and the
last run none. Its objective is liblinear's, `|w|^2 / 2 + b^2 / 2 + sum_i c_i max(0, 1 - y_i f_i)^2`
with `f_i = w.x_i + b` and `c_i = C weight_i`. Margins `f` are kept for all rows, so that rows left
out are scored along the way.

A Newton step goes towards the optimum for the rows that are inside the margin now, as far as the
objective falls. Each step also bounds its distance from the optimum, and a problem within the
tolerance continues with the next strength from where it is. Problems take their steps in blocks,
those with the most rows inside the margin first: then the problems of a block need about the same
work, and none waits for a slower one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from balal.heads import svm_primal_dual

# Problems in a block: the fewest that the processor multiplies at full speed.
_LANES = 32
_STEPS, _HALVINGS = 100, 12


class Solution(NamedTuple):
    """What `solve` finds, for `G` strengths, `k` classes and `runs = num_folds + 1`.

    Attributes:
      held_out: [G, k, B], margins of each row by the run that left it out, 0 if none did.
      coef: [G, k, D], of the run with all rows.
      intercept: [G, k], of the run with all rows.
      gap: [runs, G, k], how far the objective is above the optimum at most, as a share of it.
    """

    held_out: Float[Array, "G k B"]
    coef: Float[Array, "G k D"]
    intercept: Float[Array, "G k"]
    gap: Float[Array, "runs G k"]


class _Problems(NamedTuple):
    """The state of all `P` problems.

    Attributes:
      point: [P, size], the current solution.
      margins: [P, B], of all rows.
      inside: int [P], how many rows are inside the margin, -1 = done.
      level: int [P], the index of the current strength.
      steps: int [P], taken at this strength.
    """

    point: Float[Array, "P size"]
    margins: Float[Array, "P B"]
    inside: Int[Array, " P"]
    level: Int[Array, " P"]
    steps: Int[Array, " P"]


@partial(jax.jit, static_argnames=("num_classes", "num_folds", "ladder"))
def solve(
    rows: Float[Array, "B D"],
    labels: Int[Array, " B"],
    weights: Float[Array, " B"],
    fold: Int[Array, " B"],
    strengths: Float[Array, " levels"],
    tolerance: Float[Array, ""],
    begin: Int[Array, ""],
    *,
    num_classes: int,
    num_folds: int,
    ladder: int,
) -> Solution:
    """The SVMs of all classes, folds and strengths, float32. Compiled once per shape.

    Args:
      rows: [B, D]. Rows with weight 0 and columns of zeros are padding and change nothing.
      labels: int [B], in [0, num_classes).
      weights: [B], how much each row counts in the objective, not negative.
      fold: int [B], the run that leaves the row out, in [0, num_folds), or -1 for none.
      strengths: [ladder + G], values of `C`, ascending.
      tolerance: the largest relative duality gap of a solved problem, for the `G` strengths; on the
        ladder a tenth will do.
      begin: the first strength to solve.
      num_classes: how many classes there are.
      num_folds: how many folds there are.
      ladder: how many of the first strengths serve only as starting points: a high strength is
        solved faster from a lower one than from zero.

    Source: Keerthi, DeCoste, JMLR 2005 (the finite Newton method for this objective).
    """
    size, runs, levels = len(rows), num_folds + 1, len(strengths)
    total = runs * num_classes
    lanes = min(_LANES, total)
    rows = jnp.concatenate([rows, jnp.ones((size, 1), jnp.float32)], axis=1)
    space = svm_primal_dual.suitable(rows)

    def turn(state):
        problems, held_out, points, gaps = state
        chosen = lax.top_k(problems.inside, lanes)[1]
        point, margins, inside, level, steps = (part[chosen] for part in problems)
        run, target, busy = chosen // num_classes, chosen % num_classes, inside >= 0
        left = fold[None, :] == run[:, None]
        signs = jnp.where(labels[None, :] == target[:, None], 1.0, -1.0).astype(jnp.float32)
        bounds = jnp.where(left, 0.0, weights[None, :]) * strengths[level][:, None]
        goal = jnp.where(level < ladder, 0.1, tolerance)

        block, stuck = _step(
            space, svm_primal_dual.Block(signs, bounds, point, margins), busy, goal
        )
        gap = space.gap(block)
        done = busy & ((gap <= goal) | stuck | (steps + 1 >= _STEPS))

        # What is not finished is written beyond the last index, where it is dropped.
        index = jnp.where(done & (level >= ladder), level - ladder, levels)
        held_out = held_out.at[index, target].add(jnp.where(left, block.margins, 0), mode="drop")
        points = points.at[jnp.where(run == num_folds, index, levels), target].set(
            block.point, mode="drop"
        )
        gaps = gaps.at[run, index, target].set(gap, mode="drop")

        level, steps = level + done.astype(jnp.int32), jnp.where(done, 0, steps + 1)
        inside = jnp.where(
            busy & (level < levels), jnp.sum(svm_primal_dual.inside(block), axis=1), -1
        )
        new = _Problems(block.point, block.margins, inside, level, steps)
        problems = _Problems(
            *(old.at[chosen].set(part) for old, part in zip(problems, new, strict=True))
        )
        return problems, held_out, points, gaps

    kept = (weights > 0)[None, :] & (fold[None, :] != jnp.arange(runs)[:, None])
    # A class without a row in a run makes no problem there.
    known = jnp.any(
        kept[:, None, :] & (labels[None, :] == jnp.arange(num_classes)[:, None])[None], axis=2
    )
    inside = jnp.where(known, jnp.sum(kept, axis=1, keepdims=True), -1).astype(jnp.int32)
    zeros = partial(jnp.zeros, dtype=jnp.float32)
    problems = _Problems(
        zeros((total, space.size)),
        zeros((total, size)),
        inside.ravel(),
        jnp.full(total, begin, jnp.int32),
        jnp.zeros(total, jnp.int32),
    )
    shape = levels - ladder, num_classes
    state = problems, zeros((*shape, size)), zeros((*shape, space.size)), zeros((runs, *shape))
    _, held_out, points, gaps = lax.while_loop(
        lambda state: jnp.any(state[0].inside >= 0), turn, state
    )
    coef = space.coef(points)
    return Solution(held_out, coef[..., :-1], coef[..., -1], gaps)


def _step(
    space: svm_primal_dual.Space, block: svm_primal_dual.Block, busy: Array, goal: Array
) -> tuple[svm_primal_dual.Block, Array]:
    """One step of each problem of a block, and whether it found nothing better."""
    aim = space.aim(block, busy, goal)
    aimed = space.margins(aim)
    products = (
        space.inner(block.point, block.margins, block.point, block.margins),
        space.inner(block.point, block.margins, aim, aimed),
        space.inner(aim, aimed, aim, aimed),
    )
    share = _share(block, aimed, *products)[:, None]
    # A full step takes the new margins themselves, so that rounding errors never add up.
    point = jnp.where(share == 1, aim, block.point + share * (aim - block.point))
    margins = jnp.where(share == 1, aimed, block.margins + share * (aimed - block.margins))
    new = block._replace(point=point, margins=margins)
    norm = space.inner(point, margins, point, margins)
    return new, 0.5 * norm + svm_primal_dual.loss(new) >= 0.5 * products[0] + svm_primal_dual.loss(
        block
    )


def _share(
    block: svm_primal_dual.Block, aimed: Array, here: Array, across: Array, there: Array
) -> Float[Array, " lanes"]:
    """The share of the step at which the objective is lowest: along the step it is convex and
    piecewise quadratic."""
    way = aimed - block.margins

    def slope(share: Array) -> Array:
        short = jnp.maximum(1 - block.signs * (block.margins + share[:, None] * way), 0)
        rise = (1 - share) * (across - here) + share * (there - across)
        return rise - 2 * jnp.sum(block.bounds * block.signs * way * short, axis=1)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        falls = slope(middle) < 0
        return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

    low, high = lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(here), jnp.ones_like(here)))
    # Between the ends the slope is linear, or nearly so.
    before, after = slope(low), slope(high)
    share = low + (high - low) * jnp.clip(before / jnp.minimum(before - after, -1e-30), 0, 1)

    def cost(share: Array) -> Array:
        norm = (1 - share) ** 2 * here + 2 * share * (1 - share) * across + share**2 * there
        return 0.5 * norm + svm_primal_dual.loss(
            block._replace(margins=block.margins + share[:, None] * way)
        )

    # Near convergence the full step is best, and rounding must not hide that.
    return jnp.where(cost(jnp.ones_like(share)) <= (1 + 1e-6) * cost(share), 1.0, share)
