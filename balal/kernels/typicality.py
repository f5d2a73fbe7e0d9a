"""Typicality: how central a row lies among its nearest rows, in a rare class as in a frequent
one."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal.kernels.distances import directions
from balal.kernels.neighbours import Neighbours, nearest
from balal.types import askable

# How many rows `typicality_ranks` looks for neighbours among, and how many neighbours a row has.
AMONG, _NEIGHBOURS = 2**16, 3


@jax.jit
def typicality_ranks(
    features: Float[Array, "N D"], *, candidates: Bool[Array, " N"] | None = None
) -> Float[Array, " N"]:
    """How typical each row is of its surroundings: [N], the share of the candidates that are at
    most as typical.

    Near 1 for rows in the middle of their nearest neighbours, near 0 for odd ones, in rare classes
    as in frequent ones: ranks of `relative_typicality`, with three neighbours by the angle around
    the mean of the candidates. `O(N^2 D)` time; above 65,536 rows, neighbours are looked for among
    so many candidates, evenly spaced.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      candidates: bool [N], the rows that count (None: all).

    Source: this library. Twin: `typicality_ranks` in tests/reference.py.

    >>> features = jnp.array([[0.0, 1.0], [0.3, 1.0], [0.6, 1.0], [-1.0, -1.0], [-1.0, -3.0]])
    >>> int(typicality_ranks(features).argmax())
    1
    """
    num_rows = features.shape[0]
    candidates = askable(candidates, num_rows)
    among = None if num_rows <= AMONG else _spread(candidates, AMONG)
    found = nearest(
        directions(features, candidates), _NEIGHBOURS, among=among, candidates=candidates
    )
    # Rounded, so that rows which are equally typical but for the last digits of float32 are level.
    typical = jnp.round(relative_typicality(found), 3)
    rising = jnp.sort(jnp.where(candidates, typical, jnp.inf))
    return jnp.searchsorted(rising, typical, side="right") / jnp.maximum(jnp.sum(candidates), 1)


def relative_typicality(found: Neighbours) -> Float[Array, " N"]:
    """How central a row lies among its nearest rows: [N], 1 where it does as they do, more where it
    lies closer. Runs inside jit.

    The mean distance from its neighbours to theirs over its own mean distance to them. Typicality
    itself is largest where rows are dense, which is in frequent classes; relative to the neighbours
    a row of a rare class can be as typical as any. 1 for rows without neighbours, and for copies.

    Args:
      found: the neighbours of every row of the pool, which `nearest` found among all rows or among
        some.

    Source: the inverse of the local outlier factor (Breunig, Kriegel, Ng, Sander, SIGMOD 2000),
      without its reachability distance. Twin: `relative_typicality` in tests/reference.py.

    >>> relative_typicality(nearest(jnp.array([[0.0], [1.0], [2.0], [6.0]]), 2)).round(2).tolist()
    [0.8299999833106995, 1.5, 0.8299999833106995, 0.2800000011920929]
    """
    there, own = found.indices >= 0, _mean_distance(found)
    theirs = jnp.sum(jnp.where(there, own[found.indices], 0), axis=1) / jnp.maximum(
        jnp.sum(there, axis=1), 1
    )
    return jnp.where(own > 0, theirs / jnp.where(own > 0, own, 1), 1)


def typicality(found: Neighbours) -> Float[Array, " N"]:
    """How dense the pool is around each row: [N], 1 over the mean distance to its neighbours;
    infinite for copies, 0 without neighbours. Runs inside jit.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget*, ICML 2022. Twin: `typicality`
      in tests/reference.py.

    >>> typicality(nearest(jnp.array([[0.0], [1.0], [5.0]]), 2)).tolist()[1]
    0.4000000059604645
    """
    return jnp.where(jnp.any(found.indices >= 0, axis=1), 1 / _mean_distance(found), 0)


def _mean_distance(found: Neighbours) -> Float[Array, " N"]:
    """From each row to its neighbours; 0 where it has none."""
    there = found.indices >= 0
    return jnp.sum(jnp.where(there, found.distances, 0), axis=1) / jnp.maximum(
        jnp.sum(there, axis=1), 1
    )


def _spread(candidates: Bool[Array, " N"], number: int) -> Int[Array, " number"]:
    """Candidates at even distances from each other, each once, in fewer than N places; those left
    over hold a row that is none."""
    running = jnp.cumsum(candidates)
    ranks = jnp.ceil(jnp.linspace(0, 1, number) * (running[-1] - 1)).astype(jnp.int32) + 1
    rows = jnp.searchsorted(running, ranks).astype(jnp.int32)
    twice = jnp.concatenate([jnp.zeros(1, bool), rows[1:] == rows[:-1]])
    return jnp.where(twice, jnp.argmin(candidates), rows)
