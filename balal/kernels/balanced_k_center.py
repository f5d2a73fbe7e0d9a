"""Greedy k-center whose picks also bring every class to its share, by the target model's
predictions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check, sharding
from balal.kernels.class_balance.arguments import sizes
from balal.kernels.distances import squared_distances
from balal.kernels.k_center.centres import labelled_centres
from balal.kernels.ordering import argmax
from balal.kernels.sampling import random_bits
from balal.types import askable

# Scores that differ by no more than this share count as equal.
_TIE = 1e-6


def balanced_k_center(
    features: Float[Array | np.ndarray, "N D"],
    probs: Float[Array | np.ndarray, "N C"],
    deficits: Float[Array | np.ndarray, " C"],
    budget: int | np.integer | Int[Array | np.ndarray, ""],
    *,
    weight: float | Float[Array, ""],
    relative: bool = True,
    labelled: Int[Array | np.ndarray, " B"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    key: Key[Array, ""] | None = None,
    most: int | None = None,
) -> Int[Array, " b"]:
    """Picks the candidate of least `-m + weight * |deficits - p|_1` again and again, with `m` its
    distance to the nearest labelled or picked row and `p` the sum of the probabilities of the picks
    and its own: int32 [b], -1 beyond the budget or the candidates.

    Without a labelled row the first pick goes by the classes alone. While all classes lack labels,
    that leaves all rows equal: one of them is drawn if there is a key. Other ties go to the lowest
    row.

    Args:
      features: [N, D], float32, bfloat16 or float16; Euclidean distances, taken in float32.
      probs: [N, C], of the target model; rows sum to 1, and a class that it does not know has 0.
      deficits: [C], see `balal.kernels.class_balance.shortfall.deficits`.
      budget: how many to pick; data, if `most` is given.
      weight: at least 0; data.
      relative: whether the weight is in units of the median distance of the candidates at the first
        pick, so that the scale of the features does not matter; otherwise in units of the features.
      labelled: int [B], rows that are centres from the outset, -1 = padding.
      candidates: bool [N], the rows that may be picked (None: all).
      key: draws the first pick among equals if there is no labelled row (None: the lowest).
      most: the largest budget, which sets the shape (None: the budget).

    Raises: ValueError when shapes disagree, or for a budget that is not in [0, most].

    `O(N)` memory and `O(N (D + C))` operations a pick.

    Source: Bengar et al., WACV 2022, with the distances of Sener, Savarese, ICLR 2018. Differs from
      the authors' code in the unit of the weight; that code rounds features to two decimals. Twin:
      `balanced_k_center` in tests/reference.py.

    >>> features, probs = jnp.array([[0.0], [1.0], [3.0]]), jnp.eye(2)[jnp.array([0, 1, 0])]
    >>> balanced_k_center(
    ...     features, probs, jnp.array([0.0, 2.0]), 2, weight=1.0, labelled=jnp.array([0])
    ... ).tolist()
    [1, 2]
    """
    features = check.feature_table(features)
    num_rows = len(features)
    probs = check.floats("probs", check.source_shape("probs", probs))
    deficits = check.floats("deficits", deficits, lists=True)
    if len(probs) != num_rows or deficits.shape != probs.shape[1:]:
        raise ValueError(
            f"probs and deficits must be [N, C] and [C] for {num_rows} rows of features, got "
            f"shapes {probs.shape} and {deficits.shape}"
        )
    candidates = check.mask("candidates", candidates, size=num_rows)
    if labelled is not None:
        labelled = check.rows("labelled", labelled, size=num_rows, padded=True)
    budget, most = sizes(budget, most, num_rows=num_rows)
    weight = check.floats("weight", weight, lists=True)
    if key is not None:
        check.key(key)
    return _balanced_k_center(
        features, probs, deficits, budget, weight, labelled, candidates, key, most, relative
    )


@partial(jax.jit, static_argnames=("most", "relative"))
def _balanced_k_center(
    features, probs, deficits, budget, weight, labelled, candidates, key, most: int, relative: bool
) -> Int[Array, " b"]:
    num_rows = len(features)
    labelled = jnp.zeros(0, jnp.int32) if labelled is None else labelled.astype(jnp.int32)
    free = askable(candidates, num_rows)
    free = free.at[jnp.where(labelled >= 0, labelled, num_rows)].set(False, mode="drop")
    probs = jnp.where(free[:, None], probs, 0).astype(jnp.float32)
    weight, deficits = weight.astype(jnp.float32), deficits.astype(jnp.float32)

    def distances_to(row):
        return squared_distances(features, sharding.fetch(features, row))

    def changes(missing):
        """How each row would change what is missing; of the sums themselves, which are far
        larger, float32 would keep less."""
        change = jnp.abs(missing[None, :] - probs) - jnp.abs(missing)[None, :]
        return jnp.sum(change, axis=1)

    centres = labelled_centres(labelled, room=0)
    nearest = jax.lax.fori_loop(
        0,
        centres.count,
        lambda number, nearest: jnp.minimum(nearest, distances_to(centres.rows[number])),
        jnp.full(num_rows, jnp.inf),
    )
    empty = centres.count == 0
    change = jnp.where(free, changes(deficits), jnp.inf)
    level = free & (change <= jnp.min(change, initial=jnp.inf) + _TIE)
    first = argmax(jnp.zeros(num_rows) if key is None else random_bits(key, num_rows), level)
    if relative:
        seen = jnp.where(empty, distances_to(first), nearest) if num_rows else nearest
        weight *= _unit(jnp.sqrt(seen), free)

    def pick(number, carry):
        rows, left, nearest, missing = carry
        distance = jnp.where(nearest < jnp.inf, jnp.sqrt(nearest), 0)
        row = argmax(distance - weight * changes(missing), left, tolerance=_TIE)
        row = jnp.where(empty & (number == 0), first, row)
        return (
            rows.at[number].set(row),
            left.at[row].set(False),
            jnp.minimum(nearest, distances_to(row)),
            missing - sharding.fetch(probs, row),
        )

    number = jnp.minimum(budget, jnp.sum(free, dtype=jnp.int32))
    begin = jnp.full(most, -1, jnp.int32), free, nearest, deficits
    return jax.lax.fori_loop(0, number, pick, begin)[0]


def _unit(distances: Float[Array, " N"], candidates: Bool[Array, " N"]) -> Float[Array, ""]:
    """The median distance of the candidates, the lower of two; the largest, or 1, if it is 0."""
    half = jnp.maximum(jnp.sum(candidates, dtype=jnp.int32) - 1, 0) // 2
    median = jnp.sort(jnp.where(candidates, distances, jnp.inf))[half]
    largest = jnp.max(jnp.where(candidates, distances, 0), initial=0)
    largest = jnp.where(largest > 0, largest, 1)
    return jnp.where((median > 0) & (median < jnp.inf), median, largest)
