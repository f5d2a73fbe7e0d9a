"""Radii: how far a label reaches, read off the pool or off the labelled rows."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.distances import all_distances, centred
from balal.kernels.ordering import spread
from balal.types import askable

# Rows, evenly spaced, from which the radii of a larger pool are read off: with so many a share of
# 0.95 is right to 0.007.
SAMPLE = 1024
# Rows that are compared with all others at once.
_BLOCK = 64


def purity_radius(
    features: Float[Array | np.ndarray, "N D"],
    classes: Int[Array | np.ndarray, " N"],
    *,
    purity: float = 0.95,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, ""]:
    """The largest radius at which that share of the rows have none of another class closer by;
    infinite if there is one class. `O(N D)` time for each of 1,024 rows at most.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      classes: int [N], pseudo-labels: clusters, or predicted classes.
      purity: the share, above 0 and at most 1.
      candidates: bool [N], the rows that count (None: all).

    Raises: ValueError when shapes disagree, the share is out of range, or features of candidates
      are not finite.

    Source: Yehuda, Dekel, Hacohen, Weinshall, *Active learning through a covering lens*, NeurIPS
      2022, section 3.3. Twin: `purity_radius` in tests/reference.py.

    >>> float(purity_radius(jnp.array([[0.0], [1.0], [4.0]]), jnp.array([0, 0, 1]), purity=0.5))
    3.0
    """
    features = check.feature_table(features)
    classes = check.integers("classes", classes)
    if classes.shape != (len(features),):
        raise ValueError(
            f"classes must be one for each of the {len(features)} rows, got shape {classes.shape}"
        )
    check.share("purity", purity)
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return _purity_radius(features, classes, purity, candidates)


@partial(jax.jit, static_argnames="purity")
def _purity_radius(features, classes, purity: float, candidates) -> Float[Array, ""]:
    points, lengths, _ = centred(features, candidates=candidates)
    candidates = askable(candidates, len(points))
    rows, there = _sample(candidates)

    def other(row, squares):
        return jnp.where(candidates & (classes[row] != classes), squares, jnp.inf)

    squares = _least(points, lengths, rows, other)
    # That share of the rows, at least, are as far from another class as the one at this place.
    number = jnp.sum(there).astype(jnp.float32)
    place = jnp.maximum(jnp.ceil(purity * number - 1e-3).astype(jnp.int32), 1)
    farthest_first = -jnp.sort(-jnp.where(there, squares, -jnp.inf))
    return jnp.sqrt(jnp.maximum(farthest_first[place - 1], 0))


def separation(
    features: Float[Array | np.ndarray, "N D"],
    labelled: Int[Array | np.ndarray, " B"],
    *,
    lone: float = 1.0,
    floor: float = 0.01,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, ""]:
    """The smallest distance between two labelled rows that differ, but no less than most rows have
    to their nearest neighbour. `O(B^2 D)` time, and `O(N D)` for each of 1,024 rows at most.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      labelled: int [B], -1 = padding.
      lone: the radius where no two labelled rows differ.
      floor: the quantile of the distances of the candidates to their nearest neighbours, copies
        left out, below which the radius does not fall.
      candidates: bool [N] (None: all).

    Raises: ValueError when shapes disagree, labelled rows are not rows of the pool, the quantile is
      not between 0 and 1, or features of candidates or labelled rows are not finite.

    Source: Bae, Oliveira, Sutherland, *Uncertainty herding*, ICLR 2025, without the floor. Twin:
      `separation` in tests/reference.py.

    >>> float(separation(jnp.array([[0.0], [1.0], [4.0]]), jnp.array([2, 0, -1])))
    4.0
    """
    features = check.feature_table(features)
    labelled = check.rows("labelled", labelled, size=len(features), padded=True)
    check.positive("lone", lone)
    check.share("floor", floor)
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return _separation(features, labelled, lone, floor, candidates)


@partial(jax.jit, static_argnames=("lone", "floor"))
def _separation(features, labelled, lone: float, floor: float, candidates) -> Float[Array, ""]:
    points, lengths, _ = centred(features, candidates=candidates)
    candidates = askable(candidates, len(points))

    def differs(there):
        return lambda row, squares: jnp.where(there & (squares > 0), squares, jnp.inf)

    rows, there = _sample(candidates)
    nearest = jnp.where(there, _least(points, lengths, rows, differs(candidates)), jnp.inf)
    number = jnp.sum(nearest < jnp.inf).astype(jnp.float32)
    least = jnp.sort(nearest)[jnp.floor(floor * jnp.maximum(number - 1, 0)).astype(jnp.int32)]

    there = labelled >= 0
    own, own_lengths = points[labelled], lengths[labelled]
    among = jnp.arange(len(labelled), dtype=jnp.int32)
    apart = _least(own, own_lengths, among, differs(there))
    smallest = jnp.min(jnp.where(there, apart, jnp.inf), initial=jnp.inf)
    return jnp.where(smallest < jnp.inf, jnp.sqrt(jnp.maximum(smallest, least)), lone)


def _sample(candidates: Bool[Array, " N"]) -> tuple[Int[Array, " n"], Bool[Array, " n"]]:
    """Some rows, and which of them are candidates."""
    if len(candidates) <= SAMPLE:
        return jnp.arange(len(candidates), dtype=jnp.int32), candidates
    rows = spread(candidates, SAMPLE)
    return rows, candidates[rows]


def _least(points, lengths, rows: Int[Array, " n"], among) -> Float[Array, " n"]:
    """The smallest squared distance from each of some rows: of those that `among(row, squares)`
    leaves below infinity."""

    def block(part):
        squares = all_distances(points, lengths, part)
        return jnp.min(jax.vmap(among)(part, squares), axis=1, initial=jnp.inf)

    number = len(rows)
    parts = jnp.pad(rows, (0, -number % _BLOCK)).reshape(-1, _BLOCK)
    return jax.lax.map(block, parts).reshape(-1)[:number]
