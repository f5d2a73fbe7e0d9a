"""Gradients of the last layer, and rows whose gradients are large and far apart.

The gradient of the cross-entropy in the weights of a linear head is the outer product of the error
`a = p - e`, the prediction minus the label, and the features `h`. It has K D numbers a row, which
nothing here ever writes down: with two rows i and j

    g_i . g_j       = (a_i . a_j) (h_i . h_j)
    |g_i - g_j|^2   = |a_i|^2 |h_i|^2 + |a_j|^2 |h_j|^2 - 2 (a_i . a_j) (h_i . h_j)

The label of a row is not known: the predicted class stands in for it.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check, sharding
from balal.kernels import sampling
from balal.kernels.distances import squared_lengths, told_apart
from balal.kernels.ordering import argmax, first_true
from balal.types import askable

# Values this close to the largest count as level with it.
_TIE = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gradients:
    """The picks of `far_gradients`.

    Attributes:
      indices: int32 [b], in the order of the picks, -1 where candidates ran out.
      distances: [b], the squared distance of each pick's gradient from the nearest one before it;
        from 0 if there is none.
    """

    indices: Int[Array, "*S b"]
    distances: Float[Array, "*S b"]


def far_gradients(
    features: Float[Array | np.ndarray, "N D"],
    logits: Float[Array | np.ndarray, "N K"],
    budget: int,
    *,
    labelled: Int[Array | np.ndarray, " B"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    key: Key[Array, ""] | None = None,
) -> Gradients:
    """Rows whose gradients are large and differ: the largest first, then each drawn in proportion
    to its squared distance from the nearest one before it (k-means++). `O(N (K + D))` time a pick,
    and as much memory.

    Args:
      features: [N, D], what the last layer sees, float32, bfloat16 or float16.
      logits: [N, K], what it says of them.
      budget: how many to pick.
      labelled: int [B], rows whose gradients are there from the outset, so that the first pick is
        far from them, -1 = padding; they are not picked again.
      candidates: bool [N], the rows that may be picked (None: all).
      key: of the draws; None: always the farthest, ties to the lowest row.

    Distances within the error bound of float32 are 0, as those of copies are. Once all are 0, the
    largest gradient is next, and once these are 0 too (certain predictions), a drawn row.

    Raises: ValueError when shapes disagree, the budget is not in [0, N], labelled rows are not rows
      of the pool, features of candidates are not finite, or logits are no logits.

    Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal, BADGE, ICLR 2020, Algorithm 1. Twin:
      `far_gradients` in tests/reference.py.

    >>> probs = jnp.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.3, 0.7]])
    >>> far_gradients(jnp.ones((4, 2)), jnp.log(probs), 3).indices.tolist()
    [0, 3, 2]
    """
    features, budget = check.feature_table(features), check.whole_number("budget", budget)
    logits = check.floats("logits", check.source_shape("logits", logits))
    num_rows = len(features)
    if len(logits) != num_rows:
        raise ValueError(
            f"features and logits must have one entry for each row, got shapes {features.shape} "
            f"and {logits.shape}"
        )
    if not 0 <= budget <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and the {num_rows} rows of the pool, got {budget}"
        )
    candidates = check.mask("candidates", candidates, size=num_rows)
    check.features(features, candidates=candidates, varied=False)
    check.logits(logits)
    if labelled is not None:
        labelled = check.rows("labelled", labelled, size=num_rows, padded=True)
    if key is not None:
        check.key(key)
    return _far_gradients(features, logits, budget, labelled, candidates, key)


@partial(jax.jit, static_argnames="budget")
def _far_gradients(features, logits, budget: int, labelled, candidates, key) -> Gradients:
    # Rows that are not candidates may hold anything.
    points = jnp.where(jnp.isfinite(features), features.astype(jnp.float32), 0)
    errors = _errors(logits)
    lengths = squared_lengths(errors) * squared_lengths(points)
    left, nearest = askable(candidates, len(points)), lengths

    def apart(row):
        """Squared distances of all gradients from that of one row."""
        error, point, length = (sharding.fetch(table, row) for table in (errors, points, lengths))
        products = jnp.matmul(errors, error, precision="highest")
        products *= jnp.matmul(points, point, precision="highest")
        return told_apart(
            lengths + length, products, num_features=errors.shape[1] + points.shape[1]
        )

    begun = jnp.bool_(False)
    if labelled is not None:
        begun = jnp.any(labelled >= 0)
        left = left.at[jnp.where(labelled >= 0, labelled, len(left))].set(False, mode="drop")
        number = jnp.arange(1, len(labelled) + 1, dtype=jnp.int32)
        end = jnp.max(jnp.where(labelled >= 0, number, 0), initial=0)

        def condition(number, nearest):
            row = labelled[number]
            return jnp.where(row >= 0, jnp.minimum(nearest, apart(row)), nearest)

        nearest = jnp.where(begun, jnp.inf, nearest)
        nearest = jax.lax.fori_loop(0, end, condition, nearest)

    def pick(number, carry):
        nearest, left, picks = carry
        first = (number == 0) & ~begun
        farthest = jnp.max(jnp.where(left, nearest, 0), initial=0)
        far = farthest > 0
        row = argmax(jnp.where(far, nearest, lengths), left, tolerance=_TIE)
        if key is not None:
            # As shares of the largest: those of certain predictions would underflow.
            rates = jnp.where(far, nearest / jnp.where(far, farthest, 1), 1)
            drawn = argmax(sampling.race(jax.random.fold_in(key, number), rates), left)
            large = jnp.any(left & (lengths > 0))
            row = jnp.where((first | ~far) & large, row, drawn)
        distance = jnp.where(row >= 0, sharding.fetch(nearest, row), 0)
        picks = Gradients(
            picks.indices.at[number].set(row), picks.distances.at[number].set(distance)
        )
        away = apart(row)
        nearest = jnp.where(first, away, jnp.minimum(nearest, away))
        left = left.at[jnp.where(row >= 0, row, len(left))].set(False, mode="drop")
        return nearest, left, picks

    picks = Gradients(jnp.full(budget, -1, jnp.int32), jnp.zeros(budget, jnp.float32))
    if not budget:
        return picks
    return jax.lax.fori_loop(0, budget, pick, (nearest, left, picks))[2]


def _errors(logits: Float[Array, "N K"]) -> Float[Array, "N K"]:
    """Predictions minus the indicators of the predicted classes, of which nothing cancels: the
    error in the predicted class is minus the sum of the others."""
    logits = logits.astype(jnp.float32)
    classes = jnp.arange(logits.shape[1], dtype=jnp.int32)[None, :]
    largest = jnp.max(logits, axis=1, keepdims=True)
    predicted = classes == first_true(logits == largest)[:, None]
    weights = jnp.where(predicted, 0, jnp.exp(logits - largest))
    rest = jnp.sum(weights, axis=1, keepdims=True)
    errors = jnp.where(predicted, -rest, weights) / (1 + rest)
    return jnp.where(jnp.isfinite(errors), errors, 0)
