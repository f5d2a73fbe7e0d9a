"""A batch that is uncertain and, by the target model's predictions, brings every class to its
share: chosen as a whole, with a bound that says how far the choice may be from the best one.

With costs `h` (the negative entropy), probabilities `P`, deficits `D` of the classes and a weight
`w`, the batch is the one of least

    f(z) = h'z + w |D - P'z|_1,    z in {0, 1}^N,    1'z = b

For any multipliers `|y_c| <= w`, `g(y) = D'y + sum of the b smallest h - P y` is no more than that.
The largest `g` is the optimum of the linear program in which rows may be chosen in part; there
`D_c > (P'z)_c` only where `y_c = w`, and `D_c < (P'z)_c` only where `y_c = -w`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from balal import check, sharding, xla
from balal.kernels.ordering import argsort
from balal.types import askable

# Newton steps: after twenty or thirty the gap is that between whole and partly chosen rows.
_STEPS = 40
# The temperature begins at the spread of `h - P y`. It is divided by two after a step, by ten after
# one that was nearly whole, down to this share of the spread.
_COLDEST = 1e-5
# Swaps, and how many rows of either side are tried in each.
_SWAPS, _MOST_TRIED = 100, 256
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


def deficits(
    counts: Int[Array | np.ndarray, " C"],
    budget: int | np.integer | Int[Array | np.ndarray, ""],
    *,
    target: Float[Array | np.ndarray, " C"] | None = None,
    known: Bool[Array | np.ndarray, " C"] | None = None,
) -> Float[Array, " C"]:
    """How many labels each class is short of its share of all labels, once `budget` more are there:
    float32 [C].

    `D_c = max(t_c (n + b) - n_c, 0)` with `n` labels so far, `n_c` of class c, and `t` the target
    over the known classes.

    Args:
      counts: int [C], labels of each class.
      budget: how many more there will be.
      target: [C], shares of the classes in any unit (None: equal ones).
      known: bool [C], the classes to be balanced (None: all); the others have no deficit.

    Raises: ValueError when shapes disagree, or for a target that is negative or not finite.

    Source: Bengar et al., WACV 2022, where shares are rounded down. Twin: `deficits` in
      tests/reference.py.

    >>> deficits(jnp.array([4, 1, 0]), 4).tolist()
    [0.0, 2.0, 3.0]
    """
    counts = check.integers("counts", counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must be one number for each class, got shape {counts.shape}")
    budget = check.integers("budget", budget)
    if target is None:
        target = np.ones(counts.shape, np.float32)
    target = _numbers("target", target, counts.shape)
    return _deficits(counts, budget, target, check.mask("known", known, size=len(counts)))


@jax.jit
def _deficits(counts, budget, target, known) -> Float[Array, " C"]:
    target = jnp.asarray(target, jnp.float32)
    target = target if known is None else jnp.where(known, target, 0)
    labels = (jnp.sum(counts, dtype=jnp.int32) + budget).astype(jnp.float32)
    # Divided at the end: with equal whole weights nothing else is rounded.
    total = jnp.sum(target)
    short = jnp.maximum(target * labels - counts.astype(jnp.float32) * total, 0)
    return short / jnp.where(total > 0, total, 1)


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
    values = _numbers("values", values, (num_rows,), candidates=candidates, negative=True)
    check.probs(_of_candidates(probs, candidates, 1 / num_classes))
    deficits = _numbers("deficits", deficits, (num_classes,))
    weight = _numbers("weight", weight, ())
    budget, most = sizes(budget, most, num_rows=num_rows)
    return _balanced_batch(values, probs, deficits, budget, weight, candidates, most)


class _Problem(NamedTuple):
    """What is to be minimised: all in float32, rows that may not be chosen at 0."""

    values: Float[Array, " N"]
    probs: Float[Array, "N C"]
    deficits: Float[Array, " C"]
    weight: Float[Array, ""]
    free: Bool[Array, " N"]
    budget: Int[Array, ""]


class _Found(NamedTuple):
    """The best batch and the best bound so far. The rows of a batch come first in `rows`, those
    beyond the budget are not in it; `u` are multipliers in units of the weight."""

    rows: Int[Array, " b"]
    objective: Float[Array, ""]
    u: Float[Array, " C"]
    bound: Float[Array, ""]


@partial(jax.jit, static_argnames="most")
def _balanced_batch(values, probs, deficits, budget, weight, candidates, most: int) -> Batch:
    free = askable(candidates, probs.shape[0])
    possible = jnp.sum(free, dtype=jnp.int32)
    problem = _Problem(
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
    _, found = _evaluate(problem, jnp.where(problem.deficits > 0, 1, -1).astype(jnp.float32), most)
    chosen = jnp.arange(most, dtype=jnp.int32) < problem.budget
    terms = jnp.sum(jnp.where(chosen, jnp.abs(problem.values[found.rows]), 0))
    terms += problem.weight * (jnp.sum(problem.deficits) + problem.budget.astype(jnp.float32))
    closed = _CLOSED * terms
    found = _ascend(problem, found, closed, possible)
    found = _exchange(problem, found, closed)
    # With nothing to choose from, the multipliers follow from the only batch.
    only = jnp.sign(_missing(problem, found.rows))
    return _certified(problem, found.rows, jnp.where(problem.budget < possible, found.u, only))


def _evaluate(problem: _Problem, u, most: int) -> tuple[Float[Array, " N"], _Found]:
    """`h - P y` at some multipliers, infinite where a row may not be chosen; the batch of its
    smallest entries, with its objective and the bound."""
    y = problem.weight * u
    # Not a matrix product: equal rows get equal numbers.
    reduced = problem.values - jnp.sum(problem.probs * y[None, :], axis=1)
    reduced = jnp.where(problem.free, reduced, jnp.inf)
    rows = argsort(reduced, most)
    chosen = jnp.arange(most, dtype=jnp.int32) < problem.budget
    missing = _missing(problem, rows)

    def total(numbers):
        return jnp.sum(jnp.where(chosen, numbers[rows], 0))

    objective = total(problem.values) + problem.weight * jnp.sum(jnp.abs(missing))
    bound = jnp.sum(y * problem.deficits) + total(reduced)
    return reduced, _Found(rows, objective, u, bound)


def _missing(problem: _Problem, rows: Int[Array, " b"]) -> Float[Array, " C"]:
    """The deficits that a batch leaves, negative where it over-fills. The sums are taken in
    float64, so that they do not depend on the order of the rows."""
    chosen = jnp.arange(len(rows), dtype=jnp.int32) < problem.budget
    with jax.enable_x64(True):
        added = jnp.where(chosen[:, None], problem.probs[rows], 0).astype(jnp.float64)
        left = problem.deficits.astype(jnp.float64) - jnp.sum(added, axis=0)
        return left.astype(jnp.float32)


def _ascend(problem: _Problem, found: _Found, closed, possible) -> _Found:
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
        reduced, here = _evaluate(problem, u, len(found.rows))
        better, higher = here.objective < found.objective, here.bound > found.bound
        found = _Found(
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


def _newton(problem: _Problem, reduced, u, threshold, temperature):
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


def _exchange(problem: _Problem, found: _Found, closed) -> _Found:
    """Exchanges the row of the batch and the row outside it that lower the objective most, while
    there are such, among the rows nearest to the threshold."""
    most, (num_rows, num_classes) = len(found.rows), problem.probs.shape
    tried = min(_MOST_TRIED, 2 * num_classes + 10)
    reduced, _ = _evaluate(problem, found.u, 1)
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
        change = gains(_missing(problem, rows), outs, others)
        best = jnp.argmin(change)
        out, into = best // change.shape[1], best % change.shape[1]
        swaps = change[out, into] < -closed
        gone, come = outs[out], others[into]
        rows = rows.at[places[out]].set(jnp.where(swaps, come, gone))
        return number + 1, swaps, rows, others.at[into].set(jnp.where(swaps, gone, come))

    begin = jnp.int32(0), found.objective - found.bound > closed, found.rows, others
    rows = jax.lax.while_loop(lambda carry: carry[1] & (carry[0] < _SWAPS), turn, begin)[2]
    return found._replace(rows=rows)


def _certified(problem: _Problem, rows, u) -> Batch:
    """The batch in order, with objective and bound in float64."""
    missing = _missing(problem, rows)
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


def _spread(problem: _Problem) -> Float[Array, ""]:
    largest = jnp.max(jnp.where(problem.free, problem.values, -jnp.inf))
    return largest - jnp.min(jnp.where(problem.free, problem.values, jnp.inf))


def sizes(
    budget: Any, most: int | None, *, num_rows: int
) -> tuple[Int[Array | np.ndarray, ""], int]:
    """A budget as data, and the largest one, which sets the shape.

    Raises: ValueError unless `0 <= budget <= most <= num_rows`.

    >>> [int(size) for size in sizes(3, None, num_rows=5)]
    [3, 3]
    """
    largest = check.whole_number("budget", budget) if most is None else most
    largest = check.whole_number("most", largest)
    budget = check.integers("budget", budget)
    least = 0 if isinstance(budget, Tracer) else int(budget)
    if not 0 <= least <= largest <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and most, and most not above the {num_rows} rows of the "
            f"pool, got {budget} and {largest}"
        )
    return budget, largest


def _numbers(name: str, value: Any, shape, *, candidates=None, negative: bool = False) -> Any:
    """`value` as floating-point numbers of a shape, finite and, unless `negative`, not below 0;
    ValueError otherwise."""
    found = check.floats(name, value, lists=True)
    if found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {found.shape}")
    seen = _of_candidates(found, candidates, 0)
    if not isinstance(seen, Tracer):
        seen = sharding.whole(seen).reshape(-1)
        check.finite(name, seen)
        if not negative and np.any(seen < 0):
            raise ValueError(f"{name} must not be negative, but the least is {seen.min():.3g}")
    return found


def _of_candidates(values: Any, candidates: Any, instead: Any) -> Any:
    """The values, with others where a row is no candidate, which may hold anything."""
    if candidates is None:
        return values
    mask = jnp.asarray(candidates).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(mask, values, jnp.asarray(instead, values.dtype))
