"""The multipliers of the best bound: Newton's method on the smoothed dual."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from balal import xla
from balal.kernels.class_balance.problem import Found, Problem, evaluate

# Newton steps: after twenty or thirty the gap is that between whole and partly chosen rows.
_STEPS = 40
# The temperature begins at the spread of `h - P y`. It is divided by two after a step, by ten after
# one that was nearly whole, down to this share of the spread.
_COLDEST = 1e-5


def ascend(problem: Problem, found: Found, closed, possible) -> Found:
    """Newton's method on the smoothed dual: better multipliers, and the best batch on the way.

    `min(x, 0)` becomes `-t log(1 + exp(-x / t))` in `sum of the b smallest = max over q of b q +
    sum min(h - P y - q, 0)`, the bounds of y become logarithmic barriers, and the temperature t
    goes to 0. Steps are as short as the curvature of a logistic function asks for (Sun, Tran-Dinh,
    Mathematical Programming 2019), and stay within the bounds.
    """
    spread = problem.weight + _spread(problem)
    number, budget = possible.astype(jnp.float32), problem.budget.astype(jnp.float32)
    share = jnp.log(budget / jnp.maximum(number - budget, 1))
    mean = jnp.sum(problem.values) / jnp.maximum(number, 1)
    chooses = (problem.budget > 0) & (problem.budget < possible)

    def goes_on(carry):
        step, found, _, _, temperature = carry
        open = found.objective - found.bound > closed
        return chooses & open & (step < _STEPS) & (temperature > _COLDEST * spread)

    def turn(carry):
        step, found, u, threshold, temperature = carry
        reduced, here = evaluate(problem, u, len(found.rows))
        better, higher = here.objective < found.objective, here.bound > found.bound
        found = Found(
            rows=jnp.where(better, here.rows, found.rows),
            objective=jnp.where(better, here.objective, found.objective),
            u=jnp.where(higher, u, found.u),
            bound=jnp.where(higher, here.bound, found.bound),
        )
        u, threshold, length = _newton(problem, reduced, u, threshold, temperature)
        slower = jnp.where(length > 0.3, 2, 1)
        temperature /= jnp.where(length > 0.8, 10, slower).astype(jnp.float32)
        return step + 1, found, u, threshold, temperature

    begin = jnp.int32(0), found, jnp.zeros_like(found.u), mean + spread * share, spread
    return jax.lax.while_loop(goes_on, turn, begin)[1]


def _newton(problem: Problem, reduced, u, threshold, temperature):
    """One damped step in u and the threshold; and its length, 1 for a whole one."""
    z = jax.nn.sigmoid((threshold - reduced) / temperature)
    slope = z * (1 - z) / temperature
    above, below = 1 - u, 1 + u

    def product(left, right):
        return jnp.matmul(left, right, precision=jax.lax.Precision.HIGHEST)

    weight = problem.weight
    gradient = jnp.append(
        weight * (problem.deficits - product(z, problem.probs))
        - temperature / above
        + temperature / below,
        problem.budget.astype(jnp.float32) - jnp.sum(z),
    )
    # Computed once, as the product of a table with itself.
    sloped = xla.opaque(weight * jnp.sqrt(slope)[:, None] * problem.probs)
    curvature = product(sloped.T, sloped)
    curvature += jnp.diag(temperature / jnp.square(above) + temperature / jnp.square(below))
    mixed = weight * product(slope, problem.probs)
    curvature = jnp.block(
        [[curvature, mixed[:, None]], [mixed[None, :], jnp.sum(slope)[None, None]]]
    )
    # Scaled to a diagonal of ones, with a little more of it: constant shifts of u and the threshold
    # change next to nothing.
    scale = jax.lax.rsqrt(jnp.maximum(jnp.diag(curvature), jnp.finfo(jnp.float32).tiny))
    scaled = curvature * scale[:, None] * scale[None, :]
    factor = jax.scipy.linalg.cho_factor(scaled + 1e-6 * jnp.eye(len(scale), dtype=jnp.float32))
    step = scale * jax.scipy.linalg.cho_solve(factor, scale * gradient)
    step = jnp.where(jnp.all(jnp.isfinite(step)), step, jnp.square(scale) * gradient)
    step, last = step[:-1], step[-1]
    # Rows of P sum to 1: no row's argument moves by more.
    moves = jnp.max(jnp.abs(weight * step + last)) / temperature
    moves = jnp.maximum(moves, jnp.finfo(jnp.float32).eps)
    reach = jnp.maximum(jnp.max(jnp.maximum(step / above, -step / below)), 1e-6)
    length = jnp.minimum(jnp.minimum(jnp.log1p(moves) / moves, 0.9 / reach), 1)
    inside = 1 - 1e-6
    return jnp.clip(u + length * step, -inside, inside), threshold + length * last, length


def _spread(problem: Problem) -> Float[Array, ""]:
    largest = jnp.max(jnp.where(problem.free, problem.values, -jnp.inf))
    return largest - jnp.min(jnp.where(problem.free, problem.values, jnp.inf))
