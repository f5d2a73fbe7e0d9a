"""Greedy search for the rows that cover the most of the pool."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check, sharding, xla
from balal.kernels.distances import all_distances, centred, nearest_of
from balal.kernels.herding.ground import (
    Ground,
    Similarity,
    gains_of,
    similar,
    with_first_gains,
    without,
)
from balal.kernels.ordering import argmax, with_rows
from balal.types import askable

# Gains that differ by no more than this share are equal: sums in float32 depend on their order.
TIES = 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Herd:
    """The picks of `herding`.

    Attributes:
      indices: int32 [b], in the order of the picks.
      gains: [b], by how much each increased the coverage of the pool.
    """

    indices: Int[Array, "*S b"]
    gains: Float[Array, "*S b"]


def herding(
    features: Float[Array | np.ndarray, "N D"],
    budget: int,
    *,
    similarity: Similarity = "gaussian",
    radius: float | Float[Array | np.ndarray, ""] = 1.0,
    weights: Float[Array | np.ndarray, " N"] | None = None,
    labelled: Int[Array | np.ndarray, " B"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Herd:
    """Greedy coverage: picks the candidate that adds the most to `sum_j u_j max_c k(x_j, x_c)`,
    over the rows j of the pool and the centres c, again and again. Exact.

    A pick only lowers the gains of the others, so an old gain is an upper bound of the new one:
    only rows whose bounds reach the best gain are measured again. Of balls, all gains are lowered
    by the rows that a pick covers.

    Up to 23,170 rows, 46,340 with balls, all similarities are kept in a table of `N^2` float32 or
    bool, 2 GiB at most, and `O(N^2 D)` time is spent once. Without it, and on several devices,
    blocks of the table are used and forgotten: `O(N D)` memory, and for a large budget about ten
    times as many products, with balls twice.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      budget: how many to pick.
      similarity: `k`: "gaussian", `exp(-(d / radius)^2)`; or "ball", 1 where `d < radius`, else 0.
      radius: in the units of the features, above 0.
      weights: [N], `u`, not negative: how much each row is worth covering (None: all 1).
      labelled: int [B], rows that are centres from the outset, -1 = padding; they are not picked
        again.
      candidates: bool [N], the rows that may be picked (None: all). They and the labelled rows
        are the pool to be covered.

    Returns: the picks and their gains. Ties, gains that differ by less than 1e-5 of the largest,
      go to the lowest row: copies of a row, for instance, whose sums in float32 may differ. Once
      nothing is left to gain, the candidate farthest from all centres is picked, with a gain of 0.
      Where candidates run out the indices are -1.

    Raises: ValueError when shapes disagree, the budget is not in [0, N], the radius is not above 0,
      weights are negative or not finite, labelled rows are not rows of the pool, or features of a
      candidate or a labelled row are not finite.

    Source: Bae, Noh, Sutherland, *Generalized coverage for more robust low-budget active learning*,
      ECCV 2024, Eq. 2 to 4; lazy as in Minoux 1978. Twin: `herding` in tests/reference.py.

    >>> herd = herding(jnp.array([[0.0], [0.4], [1.0], [5.0]]), 2)
    >>> herd.indices.tolist(), herd.gains.round(2).tolist()
    ([1, 3], [2.549999952316284, 1.0])
    """
    features, budget = check.feature_table(features), check.whole_number("budget", budget)
    num_rows = len(features)
    if not 0 <= budget <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and the {num_rows} rows of the pool, got {budget}"
        )
    check.option("similarity", similarity, Similarity)
    check.positive("radius", radius)
    matter = candidates = check.mask("candidates", candidates, size=num_rows)
    if labelled is not None:
        labelled = check.rows("labelled", labelled, size=num_rows, padded=True)
        matter = jnp.ones(num_rows, bool) if candidates is None else jnp.asarray(candidates)
        matter = with_rows(matter, jnp.asarray(labelled))
    check.features(features, candidates=matter, varied=False)
    if weights is not None:
        weights = check.weights("weights", weights, size=num_rows, candidates=matter)
    return _herding(
        features, budget, similarity, jnp.float32(radius), weights, labelled, candidates
    )


@partial(jax.jit, static_argnames=("budget", "similarity"))
def _herding(
    features, budget: int, similarity: Similarity, radius, weights, labelled, candidates
) -> Herd:
    points, lengths, _ = centred(features, candidates=candidates)
    pool = left = askable(candidates, len(points))
    # Not a constant, or the compiler would spend seconds on all that follows from it.
    nearest = xla.opaque(jnp.full(len(points), jnp.inf, jnp.float32))
    if labelled is not None and len(labelled):
        pool = with_rows(pool, labelled)
        left = left & ~with_rows(jnp.zeros(len(points), bool), labelled)
        nearest = nearest_of(points, lengths, labelled)
    weights = pool.astype(jnp.float32) if weights is None else weights.astype(jnp.float32)
    ground = Ground(points, lengths, jnp.where(pool, weights, 0), radius, similarity)
    ground, bounds = with_first_gains(ground, similar(ground, nearest))

    def pick(number, carry):
        nearest, bounds, left, herd = carry
        # A copy of a centre adds nothing, but its similarities may differ in the last digit.
        bounds = jnp.where(left & (nearest > 0), bounds, 0)
        if similarity == "gaussian":
            bounds, measured = _settled(ground, bounds, similar(ground, nearest))
            gains = jnp.where(measured, bounds, 0)
        else:
            gains = bounds
        gain, row = jnp.max(gains), argmax(gains, left, tolerance=TIES)
        row = jnp.where(gain > 0, row, argmax(nearest, left))
        herd = Herd(herd.indices.at[number].set(row), herd.gains.at[number].set(gain))
        left = left & (jnp.arange(len(left), dtype=jnp.int32) != row)
        closer = jnp.minimum(nearest, all_distances(points, lengths, row[None])[0])
        closer = jnp.where(row >= 0, closer, nearest)
        if similarity == "ball":
            gone = similar(ground, closer) > similar(ground, nearest)
            bounds = without(ground, bounds, gone & (ground.weights > 0))
        return closer, bounds, left, herd

    nothing = Herd(jnp.full(budget, -1, jnp.int32), jnp.zeros(budget, jnp.float32))
    return jax.lax.fori_loop(0, budget, pick, (nearest, bounds, left, nothing))[-1]


def _settled(
    ground: Ground, bounds: Float[Array, " N"], covered: Float[Array, " N"]
) -> tuple[Float[Array, " N"], Bool[Array, " N"]]:
    """The bounds, and which of them were measured, so that they are gains: the largest, a batch at
    a time, until no other may be the largest gain, or equal to it and of a lower row."""
    numbers = jnp.arange(len(bounds), dtype=jnp.int32)

    def unsettled(carry):
        bounds, measured = carry
        gains = jnp.where(measured, bounds, 0)
        best, row = jnp.max(gains), argmax(gains, measured, tolerance=TIES)
        rivals = (bounds > best) | ((bounds >= (1 - TIES) * best) & (numbers < row))
        return jnp.any(rivals & ~measured & (bounds > 0))

    def measure(carry):
        bounds, measured = carry
        rows = sharding.top_k(jnp.where(measured, -1, bounds), ground.batch)[1]
        gains = jnp.where(bounds[rows] > 0, gains_of(ground, covered, rows), 0)
        return bounds.at[rows].set(gains), measured.at[rows].set(True)

    return jax.lax.while_loop(unsettled, measure, (bounds, jnp.zeros(len(bounds), bool)))
