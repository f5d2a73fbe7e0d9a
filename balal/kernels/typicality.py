"""Typicality: how central a row is among its nearest rows, in rare and frequent classes alike."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.distances import directions
from balal.kernels.neighbours import Neighbours, nearest
from balal.types import askable

# How many rows `typicality_ranks` searches for neighbours, and how many neighbours a row has.
AMONG, _NEIGHBOURS = 2**16, 3


def typicality_ranks(
    features: Float[Array | np.ndarray, "N D"],
    *,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Float[Array, " N"]:
    """How typical each row is of its surroundings: [N], the share of the candidates that are no
    more typical.

    Near 1 for rows in the middle of their nearest neighbours, near 0 for outliers, in rare and
    frequent classes alike: ranks of `relative_typicality`, with the three nearest neighbours by
    angle around the mean of the candidates. `O(N^2 D)` time; in pools of more than 65,536 rows,
    neighbours are taken from that many candidates, evenly spaced.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      candidates: bool [N], the rows that count (None: all).

    Raises: ValueError when `features` is not [N, D], or for candidates whose features are not
      finite.

    Source: this library. Twin: `typicality_ranks` in tests/reference.py.

    >>> features = jnp.array([[0.0, 1.0], [0.3, 1.0], [0.6, 1.0], [-1.0, -1.0], [-1.0, -3.0]])
    >>> int(typicality_ranks(features).argmax())
    1
    """
    features = check.feature_table(features)
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return _typicality_ranks(features, candidates)


@jax.jit
def _typicality_ranks(features, candidates) -> Float[Array, " N"]:
    num_rows = features.shape[0]
    candidates = askable(candidates, num_rows)
    among = None if num_rows <= AMONG else _spread(candidates, AMONG)
    found = nearest(
        directions(features, candidates), _NEIGHBOURS, among=among, candidates=candidates
    )
    # Rounded, so that rows which differ only in the last digits of float32 are equally typical.
    typical = jnp.round(relative_typicality(found), 3)
    rising = jnp.sort(jnp.where(candidates, typical, jnp.inf))
    rank = jnp.searchsorted(rising, typical, side="right").astype(jnp.float32)
    return rank / jnp.maximum(jnp.sum(candidates), 1).astype(jnp.float32)


def relative_typicality(found: Neighbours) -> Float[Array, " N"]:
    """How central a row is among its nearest rows: [N], 1 if it is as central as they are, more if
    it is more so. Runs inside jit.

    The mean distance from its neighbours to theirs divided by its own mean distance to them.
    Typicality itself is largest where rows are dense, which is in frequent classes; relative to its
    neighbours a row of a rare class can be as typical as any. 1 for rows without neighbours, and
    for copies.

    Args:
      found: the neighbours of every row of the pool, as `nearest` found them among all rows or
        some of them.

    Source: the inverse of the local outlier factor (Breunig, Kriegel, Ng, Sander, SIGMOD 2000),
      without its reachability distance. Twin: `relative_typicality` in tests/reference.py.

    >>> relative_typicality(nearest(jnp.array([[0.0], [1.0], [2.0], [6.0]]), 2)).round(2).tolist()
    [0.8299999833106995, 1.5, 0.8299999833106995, 0.2800000011920929]
    """
    there, own = found.indices >= 0, _mean_distance(found)
    theirs = _mean_where(there, own[found.indices])
    return jnp.where(own > 0, theirs / jnp.where(own > 0, own, 1), 1)


def typicality(found: Neighbours) -> Float[Array, " N"]:
    """How dense the pool is around each row: [N], the inverse of the mean distance to its
    neighbours; infinite for copies, 0 without neighbours. Runs inside jit.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget*, ICML 2022. Twin: `typicality`
      in tests/reference.py.

    >>> typicality(nearest(jnp.array([[0.0], [1.0], [5.0]]), 2)).tolist()[1]
    0.4000000059604645
    """
    return jnp.where(jnp.any(found.indices >= 0, axis=1), 1 / _mean_distance(found), 0)


def _mean_distance(found: Neighbours) -> Float[Array, " N"]:
    """The mean distance from each row to its neighbours; 0 where it has none."""
    return _mean_where(found.indices >= 0, found.distances)


def _mean_where(there: Bool[Array, "N k"], values: Float[Array, "N k"]) -> Float[Array, " N"]:
    """The mean of those values of a row that are there; 0 where none is."""
    number = jnp.maximum(jnp.sum(there, axis=1), 1).astype(jnp.float32)
    return jnp.sum(jnp.where(there, values, 0), axis=1) / number


def _spread(candidates: Bool[Array, " N"], number: int) -> Int[Array, " number"]:
    """Evenly spaced candidates, each once, for a number below N; if there are fewer candidates, the
    remaining entries hold a row that is not one."""
    running = jnp.cumsum(candidates, dtype=jnp.int32)
    last = (running[-1] - 1).astype(jnp.float32)
    ranks = jnp.ceil(jnp.linspace(0, 1, number, dtype=jnp.float32) * last).astype(jnp.int32) + 1
    rows = jnp.searchsorted(running, ranks).astype(jnp.int32)
    twice = jnp.concatenate([jnp.zeros(1, bool), rows[1:] == rows[:-1]])
    return jnp.where(twice, jnp.argmin(candidates).astype(jnp.int32), rows)
