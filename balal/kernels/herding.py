"""Herding: the rows that cover the most of the pool, by lazy greedy search."""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check, sharding
from balal.kernels.distances import all_distances, centred, nearest_of
from balal.kernels.ordering import argmax, spread, with_rows
from balal.types import askable

Similarity = Literal["gaussian", "ball"]
# Numbers in one block of the table of all pairs, so that it about fits the processor's cache.
_TABLE = 2**22
# Rows whose gains are brought up to date together.
_BATCH = 64
# Balls that are taken away together: most picks cover few rows.
_FEW = 16
# In pools of so many rows the first picks are guessed, from the similarities to so many rows: at
# first every pick lowers all gains, and each time the whole table would be computed again. Right
# guesses share one pass over it. The gains before these picks are found in that pass.
_LARGE, _SAMPLE = 4096, 1024
_STAGES = (0, 1, 2, 3)
# Numbers in the table of the similarities to these rows, at most.
_GUESSED = 2**25
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
    only rows whose bounds reach the best gain are measured again, a batch at a time by one matrix
    product. Of balls, all gains are lowered by the rows that a pick covers. `O(N^2 D)` time for the
    first gains and a few times as much for all that follow, `O(N D)` memory: blocks of the table of
    all pairs are used and forgotten.

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
      go to the lowest row. Once nothing is left to gain, the candidate farthest from all centres
      is picked, with a gain of 0. Where candidates run out the indices are -1.

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
    num_rows = len(points)
    pool = left = askable(candidates, num_rows)
    nearest = jnp.full(num_rows, jnp.inf, jnp.float32)
    if labelled is not None and len(labelled):
        pool = with_rows(pool, labelled)
        left = left & ~with_rows(jnp.zeros(num_rows, bool), labelled)
        nearest = nearest_of(points, lengths, labelled)
    weights = pool.astype(jnp.float32) if weights is None else weights.astype(jnp.float32)
    weights = jnp.where(pool, weights, 0)

    def similar(squares):
        if similarity == "ball":
            return (squares < jnp.square(radius)).astype(jnp.float32)
        return jnp.exp(-squares / jnp.square(radius))

    def gains_of(rows, *covered):
        """What each of some rows would add, [n, stages], to what is covered at each stage."""
        table = similar(all_distances(points, lengths, rows))
        return jnp.stack(
            [
                jnp.sum(jnp.maximum(table - before[None, :], 0) * weights[None, :], axis=1)
                for before in covered
            ],
            axis=1,
        )

    def guess(count, sample):
        """Picks that are probably the first ones: the best of those that are best by a sample of
        the rows."""
        table = similar(all_distances(points, lengths, sample))

        def best(number, carry):
            covered, left, guesses = carry
            part = jnp.maximum(table - covered[sample][:, None], 0) * weights[sample][:, None]
            gains = jnp.where(left, jnp.sum(part, axis=0), -1)
            rows = sharding.top_k(gains, min(4 * _BATCH, num_rows))[1]
            gains = jnp.where(left[rows], gains_of(rows, covered)[:, 0], -1)
            row = argmax(jnp.zeros(num_rows).at[rows].set(gains), left, tolerance=TIES)
            covered = jnp.maximum(covered, similar(all_distances(points, lengths, row[None])[0]))
            return covered, left.at[row].set(False), guesses.at[number].set(row)

        guesses = jnp.full(max(stages), -1, jnp.int32)
        return jax.lax.fori_loop(0, count, best, (similar(nearest), left, guesses))[-1]

    def pick(number, carry):
        nearest, bounds, fresh, left, herd = carry
        covered = similar(nearest)
        if guesses is not None:
            as_guessed = (herd.indices[: len(guesses)] == guesses) | (places >= number)
            here = (jnp.array(stages) == number) & jnp.all(as_guessed)
            known = staged[:, jnp.argmax(here)]
            bounds, fresh = jnp.where(jnp.any(here), known, bounds), fresh | jnp.any(here)
        # A copy of a centre adds nothing, but its similarities may differ in the last digit.
        bounds = jnp.where(left & (nearest > 0), bounds, 0)

        def outdated(carry):
            bounds, fresh = carry
            best = jnp.max(jnp.where(fresh, bounds, 0))
            return jnp.any(~fresh & (bounds > 0) & (bounds >= (1 - TIES) * best))

        def update(carry):
            bounds, fresh = carry
            rows = sharding.top_k(jnp.where(fresh, -1, bounds), min(_BATCH, num_rows))[1]
            now = jnp.where(bounds[rows] > 0, gains_of(rows, covered)[:, 0], 0)
            return bounds.at[rows].set(now), fresh.at[rows].set(True)

        bounds, fresh = jax.lax.while_loop(outdated, update, (bounds, fresh))
        gain = jnp.max(jnp.where(fresh, bounds, 0))
        row = argmax(jnp.where(fresh, bounds, 0), left, tolerance=TIES)
        row = jnp.where(gain > 0, row, argmax(nearest, left))
        herd = Herd(herd.indices.at[number].set(row), herd.gains.at[number].set(gain))
        left = left & (jnp.arange(num_rows, dtype=jnp.int32) != row)
        closer = jnp.minimum(nearest, all_distances(points, lengths, row[None])[0])
        closer = jnp.where(row >= 0, closer, nearest)
        if similarity == "ball":
            bounds = lowered(bounds, (similar(closer) > covered) & (weights > 0))
        else:
            fresh = jnp.zeros(num_rows, bool)
        return closer, bounds, fresh, left, herd

    def lowered(gains, gone):
        """The gains of balls without the rows that are gone from what is to be covered: each goes
        once, so that all of them together cost no more than the first gains."""
        rows = jnp.nonzero(gone, size=num_rows, fill_value=-1)[0].astype(jnp.int32)
        rows = jnp.pad(rows, (0, -num_rows % _FEW), constant_values=-1).reshape(-1, _FEW)

        def block(number, gains):
            part = rows[number]
            worth = jnp.where(part >= 0, weights[part], 0)
            table = similar(all_distances(points, lengths, part))
            return gains - jnp.sum(table * worth[:, None], axis=0)

        filled = jnp.sum(rows[:, 0] >= 0, dtype=jnp.int32)
        return jax.lax.fori_loop(0, filled, block, gains)

    sample = min(_SAMPLE, _GUESSED // num_rows)
    guesses, stages, covered = None, (0,), [similar(nearest)]
    if similarity == "gaussian" and num_rows >= _LARGE and sample and budget > 1:
        stages = tuple(stage for stage in _STAGES if stage < budget)
        # After some labels, picks are of use near themselves only, and little can be guessed.
        alone = jnp.isinf(jnp.max(jnp.where(pool, nearest, 0)))
        guesses = guess(jnp.where(alone, max(stages), 0), spread(pool, sample))
        places = jnp.arange(max(stages), dtype=jnp.int32)
        for begin, end in pairwise(stages):
            near = nearest_of(points, lengths, guesses[begin:end])
            covered.append(jnp.maximum(covered[-1], similar(near)))
    height = max(1, min(num_rows, 256, _TABLE // num_rows))
    parts = jnp.arange(-(-num_rows // height) * height, dtype=jnp.int32)
    parts = jnp.minimum(parts, num_rows - 1).reshape(-1, height)
    staged = jax.lax.map(lambda rows: gains_of(rows, *covered), parts)
    staged = staged.reshape(-1, len(stages))[:num_rows]
    nothing = Herd(jnp.full(budget, -1, jnp.int32), jnp.zeros(budget, jnp.float32))
    carry = nearest, staged[:, 0], jnp.ones(num_rows, bool), left, nothing
    return jax.lax.fori_loop(0, budget, pick, carry)[-1]
