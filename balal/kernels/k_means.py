"""K-means: Lloyd's algorithm, and k-means++ for its first centres."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check, sharding
from balal.kernels import sampling
from balal.kernels.distances import centred, nearest_of, squared_lengths, told_apart
from balal.kernels.ordering import argmax, first_true, with_rows
from balal.types import askable

# Rows that are compared with all centres at once.
_BLOCK = 512


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Clusters:
    """What `k_means` finds.

    Attributes:
      centers: [k, D].
      assigned: int32 [N], the nearest centre of every row.
      inertia: the sum of the candidates' squared distances to their centres.
      rounds: how many times the centres moved.
    """

    centers: Float[Array, "*S k D"]
    assigned: Int[Array, "*S N"]
    inertia: Float[Array, "*S"]
    rounds: Int[Array, "*S"]


def k_means(
    features: Float[Array | np.ndarray, "N D"],
    centers: Float[Array | np.ndarray, "k D"],
    *,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    active: int | Int[Array | np.ndarray, ""] | None = None,
    rounds: int = 100,
    tolerance: float | Float[Array | np.ndarray, ""] = 1e-4,
) -> Clusters:
    """Lloyd's algorithm: rows go to their nearest centre, centres to the mean of their rows, until
    the centres stay put. `O(N k D)` time per round.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      centers: [k, D], to start from; `features[k_means_plus_plus(key, features, k)]` is good.
      candidates: bool [N], the rows that count (None: all); the others are assigned but do not move
        a centre.
      active: how many centres take part, the first ones (None: all); data, so that one program
        serves every number. The others keep their place and have no rows.
      rounds: how many at most.
      tolerance: it ends when the squared moves of all centres add up to no more than this share of
        the mean variance of a feature.

    A centre without rows restarts at the candidate that is farthest from its centre. Ties go to the
    lowest centre.

    Raises: ValueError when shapes disagree, k is not between 1 and N, or centres or features of
      candidates are not finite.

    Source: Lloyd 1982; tolerance as in scikit-learn. Twin: `k_means` in tests/reference.py.

    >>> points = jnp.array([[0.0], [1.0], [8.0], [9.0]])
    >>> clusters = k_means(points, points[:2])
    >>> clusters.centers[:, 0].tolist(), clusters.assigned.tolist(), float(clusters.inertia)
    ([0.5, 8.5], [0, 0, 1, 1], 1.0)
    """
    features, centers = check.feature_table(features), check.floats("centers", centers)
    if (
        centers.ndim != 2
        or features.shape[1] != centers.shape[1]
        or not 1 <= len(centers) <= len(features)
    ):
        raise ValueError(
            f"features must be [N, D] and centers [k, D] with k between 1 and N, got "
            f"{features.shape} and {centers.shape}"
        )
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    check.finite("centers", centers)
    rounds = check.whole_number("rounds", rounds)
    if active is not None:
        active = jnp.asarray(active, jnp.int32)
    return _k_means(features, centers, candidates, active, rounds, tolerance)


@partial(jax.jit, static_argnames="rounds")
def _k_means(features, centers, candidates, active, rounds: int, tolerance) -> Clusters:
    points, lengths, (row, way) = centred(features, candidates=candidates)
    num_rows, k = len(points), len(centers)
    candidates = askable(candidates, num_rows)
    # As float32: in a large pool there are more numbers than int32 holds.
    numbers = jnp.sum(candidates).astype(jnp.float32) * points.shape[1]
    variance = jnp.sum(jnp.where(candidates, lengths, 0)) / jnp.maximum(numbers, 1)
    assign_rows = sharding.by_rows(_assign, (0, 0, None, None), (None, None, 0, 0))
    idle = jnp.arange(k, dtype=jnp.int32) >= (k if active is None else active)

    def assign(centers):
        *found, least = assign_rows(points, candidates, centers, idle)
        return *found, jnp.maximum(least + lengths, 0)

    def move(carry):
        centers, _, done, *_ = carry
        sums, counts, assigned, distances = assign(centers)
        moved = jnp.where(counts[:, None] > 0, sums / jnp.maximum(counts, 1)[:, None], centers)

        def reseeded():
            farthest = sharding.top_k(jnp.where(candidates, distances, -1), k)[1]
            return jnp.where(lone[:, None], points[farthest[jnp.cumsum(lone) - 1]], moved)

        lone = (counts == 0) & ~idle
        moved = jax.lax.cond(jnp.any(lone), reseeded, lambda: moved)
        return moved, jnp.sum(jnp.square(moved - centers)), done + 1, assigned, distances

    def goes_on(carry):
        _, moves, done, *_ = carry
        return (done < rounds) & (moves > tolerance * variance)

    seen = centers.astype(jnp.float32) - row[None, :] - way[None, :]
    carry = seen, jnp.float32(jnp.inf), jnp.int32(0), jnp.zeros(num_rows, jnp.int32), lengths
    centers, moves, done, *last = jax.lax.while_loop(goes_on, move, carry)
    # Centres that did not move have their rows already.
    assigned, distances = jax.lax.cond(moves > 0, lambda: assign(centers)[2:], lambda: tuple(last))
    inertia = jnp.sum(jnp.where(candidates, distances, 0))
    return Clusters(centers + way[None, :] + row[None, :], assigned, inertia, done)


def k_means_plus_plus(
    key: Key[Array, ""],
    features: Float[Array | np.ndarray, "N D"],
    k: int,
    *,
    labelled: Int[Array | np.ndarray, " B"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    active: int | Int[Array | np.ndarray, ""] | None = None,
) -> Int[Array, " k"]:
    """Rows to start k-means from: int32 [k], each drawn in proportion to its squared distance from
    the nearest one before it. `O(N D)` per row.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      k: how many, between 1 and N.
      labelled: int [B], rows that come before all of them, -1 = padding; they are not drawn.
      candidates: bool [N], the rows that count (None: all). If fewer than k of them differ, copies
        are drawn, and if there are fewer than k, the first is repeated.
      active: how many are wanted (None: all k); data. The rest are 0.

    Raises: ValueError when `features` is not [N, D], k is out of range, labelled rows are not rows
      of the pool, or features of candidates or labelled rows are not finite.

    Source: Arthur, Vassilvitskii, *k-means++*, SODA 2007, one draw a centre, by
      `balal.kernels.sampling.race`. Twin: `k_means_plus_plus` in tests/reference.py.

    >>> features = jnp.array([[0.0], [0.0], [9.0]])
    >>> max(k_means_plus_plus(jax.random.key(0), features, 2).tolist())
    2
    """
    check.key(key)
    features, k = check.feature_table(features), check.whole_number("k", k)
    if not 1 <= k <= len(features):
        raise ValueError(
            f"features must be [N, D] and k between 1 and N, got shape {features.shape} and k={k}"
        )
    matter = candidates = check.mask("candidates", candidates, size=len(features))
    if labelled is not None:
        labelled = check.rows("labelled", labelled, size=len(features), padded=True)
        matter = jnp.ones(len(features), bool) if candidates is None else jnp.asarray(candidates)
        matter = with_rows(matter, jnp.asarray(labelled))
    check.features(features, candidates=matter, varied=False)
    if active is not None:
        active = jnp.asarray(active, jnp.int32)
    return _k_means_plus_plus(key, features, k, labelled, candidates, active)


@partial(jax.jit, static_argnames="k")
def _k_means_plus_plus(key, features, k: int, labelled, candidates, active) -> Int[Array, " k"]:
    points, lengths, _ = centred(features, candidates=candidates)
    left = candidates = askable(candidates, len(points))
    before = jnp.full(len(points), jnp.inf, jnp.float32)
    if labelled is not None and len(labelled):
        left = left & ~with_rows(jnp.zeros(len(points), bool), labelled)
        before = nearest_of(points, lengths, labelled)

    def draw(number, carry):
        nearest, left, rows = carry
        # With no row before the first draw, and where there are only copies, all are equal.
        rates = jnp.where(jnp.any(left & (nearest > 0) & (nearest < jnp.inf)), nearest, 1)
        row = argmax(sampling.race(jax.random.fold_in(key, number), rates), left)
        row = jnp.where(row >= 0, row, first_true(candidates))
        point, length = sharding.fetch(points, row), sharding.fetch(lengths, row)
        products = jnp.matmul(points, point, precision="highest")
        distances = told_apart(lengths + length, products, num_features=points.shape[1])
        nearest = jnp.minimum(nearest, distances)
        return nearest, left.at[row].set(False), rows.at[number].set(row.astype(jnp.int32))

    wanted = k if active is None else active
    return jax.lax.fori_loop(0, wanted, draw, (before, left, jnp.zeros(k, jnp.int32)))[-1]


def _assign(points: Float[Array, "n D"], candidates: Bool[Array, " n"], centers, idle):
    """For every centre the sum and the number of its candidates; for every row its nearest centre,
    and the squared distance to it minus the squared length of the row."""
    num_rows, k = len(points), len(centers)
    lengths = jnp.where(idle, jnp.inf, squared_lengths(centers))
    blocks = -(-num_rows // _BLOCK)
    padding = blocks * _BLOCK - num_rows
    parts = jnp.pad(points, ((0, padding), (0, 0))), jnp.pad(candidates, (0, padding))

    def block(carry, part):
        sums, counts = carry
        rows, count = part
        table = lengths[None, :] - 2 * jnp.matmul(rows, centers.T, precision="highest")
        least = jnp.min(table, axis=1, keepdims=True)
        assigned = first_true(table == least)
        sums = sums.at[assigned].add(jnp.where(count[:, None], rows, 0))
        counts = counts.at[assigned].add(count.astype(jnp.float32))
        return (sums, counts), (assigned, least[:, 0])

    nothing = jnp.zeros_like(centers), jnp.zeros(k, jnp.float32)
    parts = tuple(part.reshape(blocks, _BLOCK, *part.shape[1:]) for part in parts)
    sums, (assigned, least) = jax.lax.scan(block, nothing, parts)
    return (
        *sharding.summed(sums),
        assigned.reshape(-1)[:num_rows],
        least.reshape(-1)[:num_rows],
    )
