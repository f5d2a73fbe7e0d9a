"""One-vs-rest linear SVMs with squared hinge: every class, every fold and every strength of the penalty in one compiled program.

A problem is one class against the rest in one run; a run leaves out the rows of one fold, and the last run none. Its objective is
liblinear's, `|w|^2 / 2 + b^2 / 2 + sum_i c_i max(0, 1 - y_i f_i)^2` with `f_i = w.x_i + b` and `c_i = C weight_i`. With one number a row,
`w = X'a` and `b = sum a`, all margins are `f = K a`, `K = XX' + 1`, so that a row that is left out is scored on the way.

Newton: where `A` are the rows inside the margin, `y f < 1`, a step goes to the solution of `(K_AA + 1 / 2c) a_A = y_A`, or, while that is
not better, half as far. `a >= 0` in the direction of `y` is feasible in the dual, so each step also proves how far from the best it is.
A problem that is within the tolerance goes on to the next strength from where it stands. Problems take their steps in blocks, those with
the most rows inside the margin first: blocks are of equals then, and none waits for the slowest.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

# Problems in a block: as few as the processor multiplies at full speed.
_LANES = 32
# Systems of up to so many rows are solved by factors, in the smallest of these sizes that holds them; larger ones by conjugate gradients.
_SIZES = (128, 256, 384)
# Of more rows no Gram matrix is kept, unless it is no larger than the features.
_GRAM_ROWS = 4096
_HALVINGS = 12
_STEPS, _TURNS = 100, 60


class Solution(NamedTuple):
    """What `solve` finds, for `G` strengths, `k` classes and `runs = num_folds + 1`.

    held_out: [G, k, B], margins of each row by the run that left it out, 0 where none did. dual: [G, k, B], of the run with all rows:
    `coef = dual @ rows`, `intercept = dual.sum(-1)`. gap: [runs, G, k], at most so much, as a share of it, is the objective above the best.
    """

    held_out: Float[Array, "G k B"]
    dual: Float[Array, "G k B"]
    gap: Float[Array, "runs G k"]


class _Problems(NamedTuple):
    """The state of all problems, [P, B] and [P]. inside: rows inside the margin, -1 = done. level: of the strengths."""

    dual: Float[Array, "P B"]
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
    """The SVMs of all classes, folds and strengths, float32. Compiles once a shape.

    Args:
      rows: [B, D], labels: int [B], in [0, num_classes). Rows and columns of zeros, rows with weight 0, are padding and change nothing.
      weights: [B], what each row counts in the objective, not negative.
      fold: int [B], the run that leaves the row out, in [0, num_folds), or any other number for none.
      strengths: [ladder + G], values of `C`, rising.
      tolerance: largest relative duality gap of a problem that is done, for the `G` strengths; on the ladder a tenth will do.
      begin: the first strength to solve.
      ladder: how many strengths, the first ones, are only there to start from. A high strength is found sooner from a lower one than
        from nothing.

    Source: Keerthi, DeCoste, JMLR 2005 (the finite Newton method for this objective).
    """
    size, runs = len(rows), num_folds + 1
    total, levels = runs * num_classes, len(strengths)
    lanes = min(_LANES, total)
    gram = _product(rows, rows.T) + 1 if size <= max(_GRAM_ROWS, 2 * rows.shape[1]) else None
    lengths = jnp.sqrt(jnp.sum(jnp.square(rows), axis=1) + 1)

    def kernel(values: Array) -> Array:
        if gram is not None and size <= 2 * rows.shape[1]:
            return _product(values, gram)
        return _product(_product(values, rows), rows.T) + jnp.sum(values, axis=1, keepdims=True)

    def turn(state: tuple[_Problems, Solution]) -> tuple[_Problems, Solution]:
        problems, found = state
        chosen = lax.top_k(problems.inside, lanes)[1]
        dual, margins, inside, level, steps = (part[chosen] for part in problems)
        run, target, busy = chosen // num_classes, chosen % num_classes, inside >= 0
        signs = jnp.where(labels[None, :] == target[:, None], 1.0, -1.0).astype(jnp.float32)
        kept = jnp.where(fold[None, :] == run[:, None], 0.0, weights[None, :])
        bounds, goal = kept * strengths[level][:, None], jnp.where(level < ladder, 0.1, tolerance)

        dual, margins, stuck = _step(kernel, gram, signs, bounds, dual, margins, busy, goal)
        gap = _gap(lengths, signs, bounds, dual, margins)
        done = busy & ((gap <= goal) | stuck | (steps + 1 >= _STEPS))

        # What is not told goes beyond the last place, where it is dropped.
        place = jnp.where(done & (level >= ladder), level - ladder, levels)
        found = Solution(
            found.held_out.at[place, target].add(jnp.where(fold[None, :] == run[:, None], margins, 0), mode="drop"),
            found.dual.at[jnp.where(run == num_folds, place, levels), target].set(dual, mode="drop"),
            found.gap.at[run, place, target].set(gap, mode="drop"),
        )
        level, steps = level + done, jnp.where(done, 0, steps + 1)
        inside = jnp.where(busy & (level < levels), jnp.sum(_inside(signs, bounds, margins), axis=1), -1)
        new = _Problems(dual, margins, inside, level, steps)
        return _Problems(*(old.at[chosen].set(part) for old, part in zip(problems, new, strict=True))), found

    nothing, empty = jnp.zeros((total, size), jnp.float32), jnp.zeros((levels - ladder, num_classes, size), jnp.float32)
    counts = jnp.sum((weights > 0)[None, :] & (fold[None, :] != jnp.arange(runs)[:, None]), axis=1)
    levels_now, steps = jnp.full(total, begin, jnp.int32), jnp.zeros(total, jnp.int32)
    problems = _Problems(nothing, nothing, jnp.repeat(counts, num_classes).astype(jnp.int32), levels_now, steps)
    found = Solution(empty, empty, jnp.zeros((runs, levels - ladder, num_classes), jnp.float32))
    return lax.while_loop(lambda state: jnp.any(state[0].inside >= 0), turn, (problems, found))[1]


def _step(kernel, gram, signs, bounds, dual, margins, busy: Bool[Array, " lanes"], goal: Float[Array, " lanes"]):
    """One step of each problem of a block: dual and margins [lanes, B], and whether it found nothing better."""
    size = signs.shape[1]
    inside = _inside(signs, bounds, margins) & busy[:, None]
    ridge = jnp.where(bounds > 0, 0.5 / bounds, 0.0)
    cost = 0.5 * jnp.sum(dual * margins, axis=1) + _loss(signs, bounds, margins)
    # The gap of a system that is solved up to a residual r is at least the sum of c r^2.
    limit = 0.05 * goal * cost / jnp.max(bounds, axis=1)

    ways, sizes = [], [] if gram is None else sorted({min(most, size) for most in _SIZES})
    for most in sizes:
        ways.append(partial(_by_factors, gram, signs, ridge, most))
    if gram is None or size > sizes[-1]:
        ways.append(partial(_by_conjugate_gradients, kernel, signs, ridge, margins, limit))
    largest = jnp.max(jnp.sum(inside, axis=1))
    way = jnp.sum(largest > jnp.array(sizes, jnp.int32)) if sizes else 0
    aim = lax.switch(way, ways, inside, dual)

    aimed = kernel(aim)
    share = _share(signs, bounds, dual, margins, aim, aimed)[:, None]
    # A whole step takes the product as it is, so that rounding never adds up.
    dual = jnp.where(share == 1, aim, dual + share * (aim - dual))
    margins = jnp.where(share == 1, aimed, margins + share * (aimed - margins))
    return dual, margins, 0.5 * jnp.sum(dual * margins, axis=1) + _loss(signs, bounds, margins) >= cost


def _share(signs, bounds, dual, margins, aim, aimed) -> Float[Array, " lanes"]:
    """The part of the way to the aim after which the objective rises: it is convex and made of parabolas."""
    here, across, there = (jnp.sum(left * right, axis=1) for left, right in ((dual, margins), (dual, aimed), (aim, aimed)))
    way = aimed - margins

    def slope(share: Array) -> Array:
        short = jnp.maximum(1 - signs * (margins + share[:, None] * way), 0)
        return (1 - share) * (across - here) + share * (there - across) - 2 * jnp.sum(bounds * signs * way * short, axis=1)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = 0.5 * (low + high)
        falls = slope(middle) < 0
        return jnp.where(falls, middle, low), jnp.where(falls, high, middle)

    low, high = lax.fori_loop(0, _HALVINGS, halve, (jnp.zeros_like(here), jnp.ones_like(here)))
    # Between the ends the slope is a line, or nearly so.
    before, after = slope(low), slope(high)
    share = low + (high - low) * jnp.clip(before / jnp.minimum(before - after, -1e-30), 0, 1)

    def cost(share: Array) -> Array:
        norm = (1 - share) ** 2 * here + 2 * share * (1 - share) * across + share**2 * there
        return 0.5 * norm + _loss(signs, bounds, margins + share[:, None] * way)

    # Near the end the whole way is the best, and rounding must not hide it.
    return jnp.where(cost(jnp.ones_like(share)) <= (1 + 1e-6) * cost(share), 1.0, share)


def _by_factors(gram, signs, ridge, most: int, inside, dual):
    """Solutions [lanes, B] of systems of at most so many rows, which are gathered and factored."""
    lanes, columns = jnp.arange(len(inside))[:, None], jnp.arange(inside.shape[1])[None, :]
    place = jnp.where(inside, jnp.cumsum(inside, axis=1) - 1, most)
    index = jnp.zeros((len(inside), most), jnp.int32).at[lanes, place].set(jnp.broadcast_to(columns, inside.shape), mode="drop")
    used = jnp.arange(most)[None, :] < jnp.sum(inside, axis=1, keepdims=True)
    shift, values, wanted = (jnp.where(used, jnp.take_along_axis(part, index, axis=1), 0.0) for part in (ridge, dual, signs))
    matrix = jnp.where(used[:, :, None] & used[:, None, :], gram[index[:, :, None], index[:, None, :]], 0.0)
    # Solved for the change, so that neither rounding nor what is added to keep copies of a row apart moves the point it ends at.
    residual = wanted - shift * values - jnp.einsum("pij,pj->pi", matrix, values, precision=lax.Precision.HIGHEST)
    diagonal = jnp.where(used, shift + 1e-6 * jnp.max(jnp.diagonal(gram)), 1.0)
    factor = jnp.linalg.cholesky(matrix + diagonal[:, :, None] * jnp.eye(most, dtype=jnp.float32)[None], symmetrize_input=False)
    change = jax.scipy.linalg.cho_solve((factor, True), residual[:, :, None])[:, :, 0]
    return jnp.zeros_like(dual).at[lanes, jnp.where(used, index, inside.shape[1])].set(values + change, mode="drop")


def _by_conjugate_gradients(kernel, signs, ridge, margins, limit, inside, dual):
    """Solutions [lanes, B] of systems of any size, as exact as a step downhill or the tolerance asks for."""

    def times(values: Array) -> Array:
        return jnp.where(inside, kernel(values) + ridge * values, 0.0)

    def unsolved(values: Array, residual: Array, square: Array) -> Array:
        # A step leads down while the residual is shorter than the way its margins go.
        moved = jnp.where(inside, signs - margins - ridge * values - residual, 0.0)
        return (square > 0.1 * jnp.sum(jnp.square(moved), axis=1)) & (square > limit)

    def turn(state):
        values, residual, direction, square, going, turns = state
        image = times(direction)
        length = jnp.where(going, square / jnp.maximum(jnp.sum(direction * image, axis=1), 1e-30), 0)[:, None]
        values, residual = values + length * direction, residual - length * image
        now = jnp.sum(jnp.square(residual), axis=1)
        direction = residual + (now / jnp.maximum(square, 1e-30))[:, None] * direction
        return values, residual, direction, now, going & unsolved(values, residual, now), turns + 1

    values = jnp.where(inside, dual, 0.0)
    residual = jnp.where(inside, signs, 0.0) - times(values)
    square = jnp.sum(jnp.square(residual), axis=1)
    state = values, residual, residual, square, unsolved(values, residual, square), 0
    return lax.while_loop(lambda state: jnp.any(state[4]) & (state[5] < _TURNS), turn, state)[0]


def _gap(lengths, signs, bounds, dual, margins) -> Float[Array, " lanes"]:
    """By how much the objective may lie above the best, as a share of it."""
    feasible = signs * jnp.maximum(signs * dual, 0)
    moved, norm = feasible - dual, jnp.sum(dual * margins, axis=1)
    primal = 0.5 * norm + _loss(signs, bounds, margins)
    # Of the norm of what is moved only a bound is known; little is moved near the end.
    norm += 2 * jnp.sum(moved * margins, axis=1) + jnp.square(jnp.sum(jnp.abs(moved) * lengths[None, :], axis=1))
    own = jnp.sum(jnp.square(feasible) * jnp.where(bounds > 0, 0.25 / bounds, 0.0), axis=1)
    return (primal - jnp.sum(jnp.abs(feasible), axis=1) + 0.5 * norm + own) / primal


def _inside(signs, bounds, margins) -> Bool[Array, "lanes B"]:
    return (signs * margins < 1) & (bounds > 0)


def _loss(signs, bounds, margins) -> Float[Array, " lanes"]:
    return jnp.sum(bounds * jnp.square(jnp.maximum(1 - signs * margins, 0)), axis=1)


def _product(left: Array, right: Array) -> Array:
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
