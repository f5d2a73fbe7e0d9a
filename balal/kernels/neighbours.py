"""Neighbours: the k nearest rows of every row, without a table of all pairs."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check, sharding
from balal.kernels.distances import centred, told_apart

# Numbers in one block of the table of all pairs, so that it about fits the processor's cache.
_TABLE = 2**22
# Rows that are skipped together where none of them can be among the nearest.
_TILE = 32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Neighbours:
    """What `nearest` finds.

    Attributes:
      indices: int32 [N, k], nearest first, -1 where there are no more.
      distances: [N, k], infinite where there are no more.
    """

    indices: Int[Array, "*S N k"]
    distances: Float[Array, "*S N k"]


def nearest(
    features: Float[Array | np.ndarray, "N D"],
    k: int,
    *,
    among: Int[Array | np.ndarray, " M"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
) -> Neighbours:
    """The k nearest rows of each row by Euclidean distance, itself left out. `O(N M D)` time,
    `O((N + M) D + N k)` memory.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      k: how many, at least 1.
      among: int [M], the rows that may be neighbours, each once (None: all).
      candidates: bool [N], those of them that count (None: all).

    Distances are taken in float32 as `|x|^2 + |y|^2 - 2 x.y` around the mean of the rows: squares
    are right to about 1e-6 of the squared lengths, and those indistinguishable from 0 are 0 (see
    `balal.kernels.distances.product_error`).

    Ties go to the row that comes first in `among`.

    Source: plain geometry, a block of rows at a time as one matrix product. Twin: `nearest` in
      tests/reference.py.

    Raises: ValueError when `features` is not [N, D] or k is below 1, for candidates whose features
      are not finite, and for rows among which to search that are none or come twice.

    >>> found = nearest(jnp.array([[0.0], [1.0], [5.0]]), 1)
    >>> found.indices[:, 0].tolist(), found.distances[:, 0].tolist()
    ([1, 0, 1], [1.0, 1.0, 4.0])
    """
    features, k = check.feature_table(features), check.whole_number("k", k)
    if k < 1:
        raise ValueError(
            f"features must be [N, D] and k at least 1, got shape {features.shape} and k={k}"
        )
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    some = among
    if among is not None:
        some = check.rows("among", among, size=len(features), distinct=True)
        if not len(some):
            raise ValueError("among names no row, so there is none that could be a neighbour")
    return _nearest(features, k, some, candidates)


@partial(jax.jit, static_argnames="k")
def _nearest(features, k: int, among, candidates) -> Neighbours:
    points, lengths, _ = centred(features, candidates=candidates)
    rows = jnp.arange(len(features), dtype=jnp.int32)
    others, other_lengths = (points, lengths) if among is None else (points[among], lengths[among])
    among = rows if among is None else among.astype(jnp.int32)
    found = min(k, len(among))
    if candidates is not None:
        other_lengths = jnp.where(candidates[among], other_lengths, jnp.inf)

    # Whole tiles for every device, the last ones padded with rows infinitely far away.
    devices = sharding.devices()
    padding = max(len(among), 1) // -(_TILE * devices) * -(_TILE * devices) - len(among)
    others = jnp.pad(others, ((0, padding), (0, 0)))
    other_lengths = jnp.pad(other_lengths, (0, padding), constant_values=jnp.inf)
    among = jnp.pad(among, (0, padding), constant_values=-1)
    index = jnp.arange(len(among), dtype=jnp.int32)

    own, table = (rows, points, lengths), (among, others, other_lengths, index)
    if devices == 1:
        distances, index = _search(own, table, found)
    else:
        everywhere = partial(_search_everywhere, k=found, devices=devices)
        find = sharding.by_rows(everywhere, ((0,) * 3, (0,) * 4), (0, 0))
        distances, index = find(own, table)
    missing = ((0, 0), (0, k - found))
    return Neighbours(
        jnp.pad(jnp.where(distances < jnp.inf, among[index], -1), missing, constant_values=-1),
        jnp.pad(jnp.sqrt(distances), missing, constant_values=jnp.inf),
    )


def _search(own, others, k: int) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """The k nearest of the others to each row, in blocks of rows: squared distances, and the
    indices of the others.

    Args:
      own: rows, points and squared lengths of the rows that look for neighbours.
      others: the same for those that may be neighbours, in whole tiles, and their indices.
    """
    rows, points, lengths = own
    among, other_points, other_lengths, index = others
    num_rows, width = len(rows), min(k, len(among))

    def block(part):
        products = jnp.matmul(points[part], other_points.T, precision="highest")
        table = lengths[part][:, None] + other_lengths[None, :]
        table = told_apart(table, products, num_features=points.shape[1])
        table = jnp.where(rows[part][:, None] == among[None, :], jnp.inf, table)
        # The k nearest lie in the k tiles whose nearest row is nearest, the first ones of equals,
        # so nothing else needs sorting.
        tiles = table.reshape(len(part), -1, _TILE)
        _, chosen = jax.lax.top_k(-jnp.min(tiles, axis=2), min(width, tiles.shape[1]))
        chosen = jnp.sort(chosen, axis=1)[:, :, None]
        columns = chosen * _TILE + jnp.arange(_TILE, dtype=chosen.dtype)[None, None, :]
        columns = columns.reshape(len(part), -1)
        near = jnp.take_along_axis(tiles, chosen, axis=1).reshape(len(part), -1)
        negative, best = jax.lax.top_k(-near, width)
        return -negative, index[jnp.take_along_axis(columns, best, axis=1)]

    height = max(1, min(num_rows, 256, _TABLE // len(among)))
    parts = jnp.arange(-(-num_rows // height) * height, dtype=jnp.int32)
    parts = jnp.minimum(parts, num_rows - 1).reshape(-1, height)
    distances, nearby = (
        values.reshape(-1, width)[:num_rows] for values in jax.lax.map(block, parts)
    )
    missing = ((0, 0), (0, k - width))
    return jnp.pad(distances, missing, constant_values=jnp.inf), jnp.pad(
        nearby, missing, constant_values=len(index)
    )


def _search_everywhere(own, others, *, k: int, devices: int):
    """`_search` where every device holds some of the others, which are passed around the ring."""
    ring = [(device, (device + 1) % devices) for device in range(devices)]

    def turn(_, carry):
        best, others = carry
        others = tuple(jax.lax.ppermute(part, sharding.AXIS, ring) for part in others)
        both = zip(best, _search(own, others, k), strict=True)
        both = tuple(jnp.concatenate(pair, axis=1) for pair in both)
        return tuple(values[:, :k] for values in jax.lax.sort(both, num_keys=2)), others

    return jax.lax.fori_loop(1, devices, turn, (_search(own, others, k), others))[0]
