"""A multinomial logistic head on frozen features: softmax regression with an L2 penalty.

head = logistic.fit(features[indices], labels[indices], num_classes=100)
predicted = logistic.predict(head, test_features)
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int, Integer, Real

from balal.heads import svm
from balal.heads.svm import Head, margins, predict

__all__ = ["Head", "fit", "margins", "predict", "solve"]

# Largest shares of the objective by which it may be above the best: what the solver is asked for, and what `Head.converged` promises.
_TOLERANCE, _PROMISED = 1e-4, 1e-3
_STEPS, _TURNS, _HALVINGS = 60, 60, 15


def fit(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    num_classes: int,
    C: float | int | Sequence[float | int] = 10.0,
    folds: int = 10,
    seed: int = 0,
    weights: Real[Array | np.ndarray, " B"] | None = None,
    added: Real[Array | np.ndarray, " C"] | None = None,
    calibrate: bool = False,
) -> Head:
    """A `Head` whose margins are the logarithms of probabilities, up to a number for each row. Same input, same head.

    The objective is `|W|^2 / 2 + |b|^2 / 2 + C sum_i weight_i loss_i`, the loss of a row being the cross-entropy of its logits plus
    `added`. Every fold and value of `C` is solved by one program in float32, compiled once for numbers of rows that are alike.

    Args:
      features, labels, num_classes, C, folds, seed: as of `balal.heads.svm.fit`.
      weights: [B], what each row counts, for example `balal.heads.rebalance.balanced_weights(counts)[labels]`; None: 1.
      added: [C], of `balal.heads.rebalance.adjustment`; None: 0. It is left out when the head predicts.
      calibrate: fit a temperature to the held-out margins; otherwise it is 1, as these are probabilities already.

    Raises: what `balal.heads.svm.fit` raises; ValueError for weights that are negative, not finite, or not one a row.

    Source: multinomial logistic regression, with a penalised intercept, which tells how far a solution is from the best at most.

    >>> head = fit(np.array([[-1.0], [1.0], [2.0]]), np.array([4, 7, 7]), num_classes=10)
    >>> predict(head, np.array([[-3.0], [3.0]])).tolist()
    [4, 7]
    """
    rows, answers, choices = svm.checked(features, labels, num_classes, C, folds)
    counted = np.ones(len(answers)) if weights is None else np.asarray(weights, np.float64)
    if counted.shape != answers.shape or not np.isfinite(counted).all() or counted.min() < 0 or not counted.any():
        raise ValueError(f"weights are one number of at least 0 for each of {len(answers)} rows, and some above, got shape {counted.shape}")
    classes, answers, counts = np.unique(answers, return_inverse=True, return_counts=True)
    shift = np.zeros(len(classes)) if added is None else np.asarray(added, np.float64)[classes]

    held_out = len(answers) > 1 and (len(choices) > 1 or calibrate)
    fold = svm.folds(len(answers), folds, seed) if held_out else np.full(len(answers), -1)
    num_folds, size = int(fold.max()) + 1, len(answers)
    more, wider = svm.padded(size) - size, -(-len(classes) // 8) * 8 - len(classes)
    solution = solve(
        jnp.asarray(np.pad(rows, ((0, more), (0, 0))), jnp.float32),
        jnp.asarray(np.pad(answers, (0, more)), jnp.int32),
        jnp.asarray(np.pad(counted, (0, more)), jnp.float32),
        jnp.asarray(np.pad(fold, (0, more), constant_values=-1), jnp.int32),
        jnp.asarray(choices, jnp.float32),
        jnp.asarray(np.pad(shift, (0, wider)), jnp.float32),
        num_folds=num_folds,
    )
    seen = np.asarray(solution.held_out, np.float64)[:, :size, : len(classes)]
    place, accuracies, temperature = 0, (), 1.0
    if held_out:
        correct = [float(np.mean(values.argmax(axis=1) == answers)) for values in seen]
        place, accuracies = int(np.argmax(correct)), tuple(zip(choices, correct, strict=True))
        temperature = svm.temperature(seen[place], answers) if calibrate else 1.0
    coef = np.asarray(solution.coef, np.float64)[place, :, : len(classes)].T
    intercept = np.asarray(solution.intercept, np.float64)[place, : len(classes)]
    converged = bool(np.all(np.asarray(solution.gap)[place] <= _PROMISED))
    return Head(coef, intercept, classes, counts, num_classes, choices[place], accuracies, temperature, converged)


class Solution(NamedTuple):
    """What `solve` finds for `G` strengths. held_out: [G, B, k], logits of each row by the run that left it out, -inf where its class was
    not known there, 0 where none did. coef: [G, D, k] and intercept: [G, k], of the run with all rows. gap: [G, runs], at most by so
    much, as a share of it, is the objective above the best."""

    held_out: Float[Array, "G B k"]
    coef: Float[Array, "G D k"]
    intercept: Float[Array, "G k"]
    gap: Float[Array, "G runs"]


@partial(jax.jit, static_argnames="num_folds")
def solve(
    rows: Float[Array, "B D"],
    labels: Int[Array, " B"],
    weights: Float[Array, " B"],
    fold: Int[Array, " B"],
    strengths: Float[Array, " G"],
    added: Float[Array, " k"],
    *,
    num_folds: int,
) -> Solution:
    """Softmax regressions of all folds and strengths, each strength from where the one before ended: truncated Newton steps.

    Args:
      rows, labels, weights, fold: as of `balal.heads.solver.solve`. Rows of weight 0, columns of zeros and classes without rows are padding.
      strengths: [G], values of `C`, rising.
      added: [k], to the logits in the loss.

    As the penalty curves the objective by 1 in every direction, it is above the best by half the squared gradient at most.
    """
    size, classes = len(rows), len(added)
    rows = jnp.concatenate([rows, jnp.ones((size, 1), jnp.float32)], axis=1)
    kept = jnp.where(fold[:, None] == jnp.arange(num_folds + 1)[None, :], 0.0, weights[:, None])  # [B, runs]
    truth = jax.nn.one_hot(labels, classes)
    known = jnp.einsum("br,bk->rk", kept, truth) > 0

    def one(point, strength):
        point, gap = _newton(rows, truth, strength * kept, added, known, point)
        return point, (point, gap)

    begin = jnp.zeros((rows.shape[1], num_folds + 1, classes), jnp.float32)
    _, (points, gap) = lax.scan(one, begin, strengths)
    own = jnp.minimum(jnp.where(fold < 0, num_folds, fold), num_folds)

    def scored(point):
        # The logits of each row by one run: a run at a time, so that only those of one are in memory.
        def run(number, found):
            values = jnp.where(known[number][None, :], _product(rows, point[:, number]), -jnp.inf)
            return jnp.where((own == number)[:, None] & (number < num_folds), values, found)

        return lax.fori_loop(0, num_folds + 1, run, jnp.zeros((size, classes), jnp.float32))

    held_out = lax.map(scored, points)
    return Solution(held_out, points[:, :-1, -1], points[:, -1, -1], gap)


def _newton(rows, truth, bounds, added, known, point):
    """All runs at one strength: point [D, runs, k] and gap [runs]. bounds: [B, runs], what the loss of each row counts in each run."""

    def logits(point):
        return jnp.where(known[None], _product(rows, point) + added[None, None, :], -1e30)

    def value(point, outputs):
        losses = jax.nn.logsumexp(outputs, axis=2) - jnp.sum(truth[:, None, :] * jnp.where(known[None], outputs, 0), axis=2)
        return 0.5 * jnp.sum(jnp.square(point), axis=(0, 2)) + jnp.sum(bounds * losses, axis=0)

    def step(state):
        number, point, outputs, _, stuck = state
        shares = jax.nn.softmax(outputs, axis=2)
        objective = value(point, outputs)
        gradient = point + _product(rows.T, bounds[:, :, None] * (shares - jnp.where(known[None], truth[:, None, :], 0)))

        def curve(direction):
            change = _product(rows, direction)
            inner = shares * (change - jnp.sum(shares * change, axis=2, keepdims=True))
            return direction + _product(rows.T, bounds[:, :, None] * inner)

        gap = 0.5 * _length(gradient) / objective
        busy = (gap > _TOLERANCE) & ~stuck
        direction = _solved(curve, -gradient, busy)
        along, slope = _product(rows, direction), jnp.sum(gradient * direction, axis=(0, 2))

        def halve(carry):
            size, _, turn = carry
            tried = value(point + size[None, :, None] * direction, outputs + size[None, :, None] * along)
            falls = tried <= objective + 1e-4 * size * slope
            return jnp.where(falls, size, size / 2), falls, turn + 1

        begin = jnp.ones_like(objective), jnp.zeros_like(stuck), 0
        size, falls, _ = lax.while_loop(lambda carry: jnp.any(~carry[1] & busy) & (carry[2] < _HALVINGS), halve, begin)
        size = jnp.where(busy & falls, size, 0)[None, :, None]
        # Logits anew: sums of many steps would drift.
        point = point + size * direction
        return number + 1, point, logits(point), jnp.where(busy, gap, gap), stuck | (busy & ~falls)

    runs = bounds.shape[1]
    begin = 0, point, logits(point), jnp.full(runs, jnp.inf), jnp.zeros(runs, bool)
    state = lax.while_loop(lambda state: (state[0] < _STEPS) & jnp.any((state[3] > _TOLERANCE) & ~state[4]), step, begin)
    return state[1], state[3]


def _solved(curve, target: Float[Array, "D runs k"], busy: Bool[Array, " runs"]) -> Any:
    """Conjugate gradients for `curve(x) = target`, all runs at once, to a tenth of the target or as far as they get."""

    def turn(state):
        number, found, left, direction, length = state
        curved = curve(direction)
        size = length / jnp.maximum(jnp.sum(direction * curved, axis=(0, 2)), 1e-30)
        size = jnp.where(open_(length), size, 0)
        found, left = found + size[None, :, None] * direction, left - size[None, :, None] * curved
        new = _length(left)
        return number + 1, found, left, left + (new / jnp.maximum(length, 1e-30))[None, :, None] * direction, new

    def open_(length):
        return busy & (length > goal)

    goal = 0.01 * _length(target)
    begin = 0, jnp.zeros_like(target), target, target, _length(target)
    return lax.while_loop(lambda state: (state[0] < _TURNS) & jnp.any(open_(state[4])), turn, begin)[1]


def _length(values: Float[Array, "D runs k"]) -> Float[Array, " runs"]:
    return jnp.sum(jnp.square(values), axis=(0, 2))


def _product(rows: Float[Array, "n d"], values: Float[Array, "d ..."]) -> Float[Array, "n ..."]:
    """One matrix product, whatever the axes of the values behind the first."""
    return jnp.matmul(rows, values.reshape(len(values), -1), precision=lax.Precision.HIGHEST).reshape(len(rows), *values.shape[1:])
