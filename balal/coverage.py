"""Coverage of the pool: exact greedy k-center, the core-set strategy's kernel (Eq. 7)."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Real

from balal import chance


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Centers:
    """The picks of `k_center`. indices: int32 [b]. radii: [b], the covering radius of the candidates after each pick."""

    indices: Int[Array, "*S b"]
    radii: Float[Array, "*S b"]


@partial(jax.jit, static_argnames="budget")
def k_center(
    features: Float[Array, "N D"],
    budget: int,
    *,
    labelled: Int[Array, " B"] | None = None,
    candidates: Bool[Array, " N"] | None = None,
    start: int | Int[Array, ""] | None = None,
    key: Key[Array, ""] | None = None,
) -> Centers:
    """Greedy k-center: always the candidate that is farthest from its nearest centre. Exact, `O(b N D)` time and `O(N)` extra memory.

    Args:
      features: [N, D], float32, bfloat16 or float16; Euclidean distances, taken in float32 as sums of squared differences, so that a
        large common offset costs no precision and duplicates are exactly 0 apart.
      budget: how many to pick.
      labelled: int [B], rows that are centres from the outset, -1 = padding; they are not picked again.
      candidates: bool [N], the rows that may be picked (None: all).
      start: the row to pick first; passed over where it is no candidate or labelled already.
      key: draws the first pick where no centre and no `start` is given.

    Returns: `.indices` int32 [b] in the order of the picks, ties to the lowest row, and `.radii` [b]: the largest distance of a candidate
      to its nearest centre after each pick. Where candidates run out the indices are -1 and the radii 0. Where every `labelled` place is
      padding and neither `start` nor `key` is given, the first pick is the lowest candidate.

    Raises: ValueError when `features` is not [N, D], the budget is not in [0, N], or nothing says where to begin.

    Source: Sener, Savarese, ICLR 2018; Gonzalez 1985; Eq. 7 of Aggarwal, Popescu, Hudelot, WACV 2020. Differs from the widely copied
      2018 code in the random cold start, which that code never reaches.

    >>> centers = k_center(jnp.array([[0.0], [1.0], [5.0], [9.0]]), 3, start=0)
    >>> centers.indices.tolist(), centers.radii.tolist()
    ([0, 3, 2], [9.0, 4.0, 1.0])
    """
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], got shape {features.shape}")
    size = features.shape[0]
    if not 0 <= budget <= size:
        raise ValueError(f"budget must lie between 0 and the {size} rows of the pool, got {budget}")
    if labelled is None and start is None and key is None:
        raise ValueError("k_center needs somewhere to begin: pass labelled rows, start=row, or key=jax.random.key(seed)")
    if candidates is None:
        candidates = jnp.ones(size, bool)
    labelled = jnp.full(1, -1, jnp.int32) if labelled is None or len(labelled) == 0 else jnp.asarray(labelled)

    def add_centre(row, nearest):
        # Row -1 is padding: nothing comes nearer.
        return jnp.where(row >= 0, jnp.minimum(nearest, squared_distances(features, features[row])), nearest)

    # The record of a whole budget is mostly padding when it begins: the loop ends at the last filled place.
    end = jnp.max(jnp.where(labelled >= 0, jnp.arange(1, len(labelled) + 1, dtype=jnp.int32), 0))
    nearest = jax.lax.fori_loop(
        jnp.int32(0), end, lambda place, nearest: add_centre(labelled[place], nearest), jnp.full(size, jnp.inf, jnp.float32)
    )
    left = candidates.at[jnp.where(labelled >= 0, labelled, size)].set(False, mode="drop")
    first = _largest(nearest, left)
    if key is not None:
        first = jnp.where(end > 0, first, _largest(chance.per_row(key, size), left))
    if start is not None:
        askable = (start >= 0) & (start < size) & left[start]
        first = jnp.where(askable, start, first).astype(jnp.int32)

    def pick(place, carry):
        row, nearest, left, indices, radii = carry
        nearest = add_centre(row, nearest)
        left = left.at[jnp.where(row >= 0, row, size)].set(False, mode="drop")
        radius = jnp.sqrt(jnp.max(jnp.where(candidates, nearest, 0), initial=0))
        radii = radii.at[place].set(jnp.where(row >= 0, radius, 0))
        return _largest(nearest, left), nearest, left, indices.at[place].set(row), radii

    empty = (jnp.full(budget, -1, jnp.int32), jnp.zeros(budget, jnp.float32))
    *_, indices, radii = jax.lax.fori_loop(0, budget, pick, (first, nearest, left, *empty))
    return Centers(indices, radii)


def squared_distances(features: Float[Array, "N D"], point: Float[Array, " D"]) -> Float[Array, " N"]:
    """Squared Euclidean distance of every row to one point: float32 [N] from [N, D] and [D].

    A sum of squared differences: it reads the features once, like a matrix-vector product, and nothing cancels.

    >>> squared_distances(jnp.array([[0.0, 0.0], [3.0, 4.0]]), jnp.zeros(2)).tolist()
    [0.0, 25.0]
    """
    return jnp.sum(jnp.square(features.astype(jnp.float32) - point.astype(jnp.float32)[None, :]), axis=1)


def _largest(values: Real[Array, " N"], mask: Bool[Array, " N"]) -> Int[Array, ""]:
    """The lowest row among those with the largest value under the mask, -1 where the mask is empty."""
    best = jnp.max(jnp.where(mask, values, 0))
    return jnp.where(jnp.any(mask), jnp.argmax(mask & (values == best)), -1).astype(jnp.int32)
