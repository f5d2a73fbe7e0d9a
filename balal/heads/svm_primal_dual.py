"""The primal and the dual formulation of a linear SVM, each with its Newton step and a bound on how
far a solution is from the optimum.

The objective of a problem is `|w|^2 / 2 + sum_i c_i max(0, 1 - y_i f_i)^2`, `f_i = w.x_i`, where
`x` ends in 1 for the intercept. A space defines what its points are, here `[lanes, size]` for a
block of problems, and gives the margins `f`, `[lanes, B]`, of each point.

`dual`: one number per row, `w = X'a`, so that `f = K a` with `K = XX'`; it is exact in the few rows
that matter when a class is separable, as it is with many columns. `primal`: `w` itself, for many
more rows than columns, where the dual's numbers would be large and have to cancel.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

# Systems with no more rows than these are copied out, into the smallest size that holds them.
_SIZES = (128, 256, 384)
# The relative residual at which a step is solved: as hinges switch on and off, solving it more
# precisely is seldom worth it.
_LEFT = 0.1
_TURNS = 60


# The dual is for at most so many rows per column, and so many rows in all, unless its Gram matrix
# is hardly larger than the features.
_ROWS_A_COLUMN, _MOST_ROWS = 8, 4096


class Block(NamedTuple):
    """A block of problems and their current points.

    Attributes:
      signs: [lanes, B], `y`.
      bounds: [lanes, B], `c`.
      point: [lanes, size].
      margins: [lanes, B], `f`.
    """

    signs: Float[Array, "lanes B"]
    bounds: Float[Array, "lanes B"]
    point: Float[Array, "lanes size"]
    margins: Float[Array, "lanes B"]


class Space(NamedTuple):
    """A formulation: what its points are, and how to compute with them.

    Attributes:
      size: how many numbers a point has.
      margins: of points.
      inner: products `w.v` of two points, given their margins.
      aim: the target point of a Newton step, given a block, which problems are busy, and the share
        of the objective that is precise enough.
      gap: how far the objective is above the optimum at most, as a share of it.
      coef: `w` of points.
    """

    size: int
    margins: Callable[[Array], Array]
    inner: Callable[[Array, Array, Array, Array], Array]
    aim: Callable[[Block, Array, Array], Array]
    gap: Callable[[Block], Array]
    coef: Callable[[Array], Array]


def suitable(rows: Float[Array, "B D"]) -> Space:
    """The space that is fast and precise in float32 for rows of this shape."""
    size, columns = rows.shape
    return (
        dual(rows)
        if size <= 2 * columns or (size <= _ROWS_A_COLUMN * columns and size <= _MOST_ROWS)
        else primal(rows)
    )


def inside(block: Block) -> Bool[Array, "lanes B"]:
    """Rows inside the margin, `y f < 1`: those that affect the next step."""
    return (block.signs * block.margins < 1) & (block.bounds > 0)


def loss(block: Block) -> Float[Array, " lanes"]:
    """The part of the objective that comes from the rows."""
    return jnp.sum(block.bounds * jnp.square(_short(block)), axis=1)


def dual(rows: Float[Array, "B D"]) -> Space:
    """The space with one number per row. Its Newton step solves `(K_AA + 1 / 2c) a_A = y_A` for the
    rows `A` inside the margin."""
    size = len(rows)
    gram = product(rows, rows.T)

    def kernel(values: Array) -> Array:
        return (
            product(values, gram)
            if size <= 2 * rows.shape[1]
            else product(product(values, rows), rows.T)
        )

    sizes = sorted({min(most, size) for most in _SIZES})

    def aim(block: Block, busy: Array, goal: Array) -> Array:
        active = inside(block) & busy[:, None]
        ways = [partial(_gathered, gram, goal, most) for most in sizes]
        if size > sizes[-1]:
            ways.append(partial(_in_dual, kernel, _limit(block, goal)))
        largest = jnp.max(jnp.sum(active, axis=1))
        return lax.switch(jnp.sum(largest > jnp.array(sizes, jnp.int32)), ways, block, active)

    def gap(block: Block) -> Array:
        # Numbers of the wrong sign are not feasible and are set to 0. For the norm of that change a
        # bound will do: it is small in the end.
        feasible = block.signs * jnp.maximum(block.signs * block.point, 0)
        moved, norm = feasible - block.point, jnp.sum(block.point * block.margins, axis=1)
        primal = 0.5 * norm + loss(block)
        lengths = jnp.sqrt(jnp.diagonal(gram))
        norm += 2 * jnp.sum(moved * block.margins, axis=1) + jnp.square(
            jnp.sum(jnp.abs(moved) * lengths[None, :], axis=1)
        )
        own = jnp.sum(jnp.square(feasible) * _ridge(block), axis=1)
        return (primal - jnp.sum(jnp.abs(feasible), axis=1) + 0.5 * (norm + own)) / primal

    def inner(left: Array, _: Array, __: Array, right_margins: Array) -> Array:
        return jnp.sum(left * right_margins, axis=1)

    return Space(size, kernel, inner, aim, gap, lambda point: product(point, rows))


def primal(rows: Float[Array, "B D"]) -> Space:
    """The space of `w`. Its Newton step solves `(1 + X_A' 2c X_A) d = -g` for the gradient `g`."""

    def gradient(block: Block) -> Array:
        return block.point - product(2 * block.bounds * block.signs * _short(block), rows)

    def aim(block: Block, busy: Array, goal: Array) -> Array:
        return _in_primal(rows, block, gradient(block), busy, goal)

    def gap(block: Block) -> Array:
        # The dual objective of `a = 2c y max(0, 1 - y f)`, which is always feasible, is lower by
        # exactly this.
        norm = jnp.sum(jnp.square(block.point), axis=1)
        return 0.5 * jnp.sum(jnp.square(gradient(block)), axis=1) / (0.5 * norm + loss(block))

    def inner(left: Array, _: Array, right: Array, __: Array) -> Array:
        return jnp.sum(left * right, axis=1)

    return Space(
        rows.shape[1], lambda point: product(point, rows.T), inner, aim, gap, lambda point: point
    )


def product(left: Array, right: Array) -> Array:
    """The matrix product in full float32, on every device."""
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)


def _short(block: Block) -> Float[Array, "lanes B"]:
    return jnp.maximum(1 - block.signs * block.margins, 0)


def _ridge(block: Block) -> Float[Array, "lanes B"]:
    return jnp.where(block.bounds > 0, 0.5 / block.bounds, 0.0)


def _gathered(gram: Array, goal: Array, most: int, block: Block, active: Array) -> Array:
    """Solutions [lanes, B] of systems of at most `most` rows, which are copied out first to make
    each iteration cheaper."""
    size = active.shape[1]
    lanes, columns = jnp.arange(len(active))[:, None], jnp.arange(size)[None, :]
    position = jnp.where(active, jnp.cumsum(active, axis=1) - 1, most)
    index = (
        jnp.zeros((len(active), most), jnp.int32)
        .at[lanes, position]
        .set(jnp.broadcast_to(columns, active.shape), mode="drop")
    )
    used = jnp.arange(most)[None, :] < jnp.sum(active, axis=1, keepdims=True)
    matrix = jnp.where(
        used[:, :, None] & used[:, None, :], gram[index[:, :, None], index[:, None, :]], 0.0
    )

    def kernel(values: Array) -> Array:
        # Plain sums: a matrix library gains nothing on products with a single vector.
        return jnp.sum(matrix * values[:, :, None], axis=1)

    small = Block(
        *(jnp.where(used, jnp.take_along_axis(part, index, axis=1), 0.0) for part in block)
    )
    solved = _in_dual(kernel, _limit(block, goal), small, used)
    return (
        jnp.zeros_like(block.point).at[lanes, jnp.where(used, index, size)].set(solved, mode="drop")
    )


def _limit(block: Block, goal: Array) -> Float[Array, " lanes"]:
    """The squared residual of a system that is small enough: the gap of the solution is at least
    the sum of c r^2."""
    objective = 0.5 * jnp.sum(block.point * block.margins, axis=1) + loss(block)
    return 0.05 * goal * objective / jnp.max(block.bounds, axis=1)


def _in_dual(kernel: Callable, limit: Array, block: Block, active: Array) -> Array:
    """Solutions [lanes, B] of systems of any size, as precise as a descent step and the limit
    require."""
    ridge = _ridge(block)

    def times(values: Array) -> Array:
        return jnp.where(active, kernel(values) + ridge * values, 0.0)

    def going(values: Array, residual: Array, square: Array) -> Array:
        # A step descends if the residual is shorter than the step's change of the margins.
        way = jnp.where(active, block.signs - block.margins - ridge * values - residual, 0.0)
        return (square > _LEFT * jnp.sum(jnp.square(way), axis=1)) & (square > limit)

    values = jnp.where(active, block.point, 0.0)
    residual = jnp.where(active, block.signs, 0.0) - times(values)
    return _conjugate_gradients(times, going, values, residual)


def _in_primal(rows: Array, block: Block, gradient: Array, busy: Array, goal: Array) -> Array:
    """Points [lanes, D], as precise as the goal requires, or less so while the rows inside the
    margin still change."""
    curvature = 2 * block.bounds * inside(block).astype(jnp.float32)
    first = jnp.sum(jnp.square(gradient), axis=1)
    objective = 0.5 * jnp.sum(jnp.square(block.point), axis=1) + loss(block)
    limit = 0.2 * goal * objective

    def times(values: Array) -> Array:
        return values + product(curvature * product(values, rows.T), rows)

    def going(_: Array, __: Array, square: Array) -> Array:
        return busy & (square > _LEFT**2 * first) & (square > limit)

    return block.point + _conjugate_gradients(times, going, jnp.zeros_like(gradient), -gradient)


def _conjugate_gradients(times: Callable, going: Callable, values: Array, residual: Array) -> Array:
    """Solutions of one system per lane, starting from `values`, iterated while `going` holds."""

    def turn(state):
        values, residual, direction, square, busy, turns = state
        image = times(direction)
        length = jnp.where(
            busy, square / jnp.maximum(jnp.sum(direction * image, axis=1), 1e-30), 0
        )[:, None]
        values, residual = values + length * direction, residual - length * image
        now = jnp.sum(jnp.square(residual), axis=1)
        direction = residual + (now / jnp.maximum(square, 1e-30))[:, None] * direction
        return values, residual, direction, now, busy & going(values, residual, now), turns + 1

    square = jnp.sum(jnp.square(residual), axis=1)
    state = values, residual, residual, square, going(values, residual, square), 0
    return lax.while_loop(lambda state: jnp.any(state[4]) & (state[5] < _TURNS), turn, state)[0]
