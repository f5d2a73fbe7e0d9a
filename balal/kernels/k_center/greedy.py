"""Greedy k-center: the function, and the plain algorithm, one pass over the features per pick."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check, sharding
from balal.kernels import sampling
from balal.kernels.distances import squared_distances
from balal.kernels.k_center import lazy, products
from balal.kernels.k_center.centres import Centres, add_centre, labelled_centres
from balal.kernels.ordering import argmax, first_true
from balal.types import askable

# Pools of up to so many numbers are multiplied whole for each centre: they stay in a CPU's cache.
_SMALL = 2**22
# A pool is searched lazily if the passes for all picks would read so many numbers. Fewer take under
# half a second, and compiling the lazy search takes longer by more than that.
_LARGE = 2**30


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Centers:
    """The picks of `k_center`.

    Attributes:
      indices: int32 [b], in the order of the picks.
      radii: [b], the covering radius of the candidates after each pick.
    """

    indices: Int[Array, "*S b"]
    radii: Float[Array, "*S b"]


def k_center(
    features: Float[Array | np.ndarray, "N D"],
    budget: int,
    *,
    labelled: Int[Array | np.ndarray, " B"] | None = None,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    start: int | np.integer | Int[Array | np.ndarray, ""] | None = None,
    key: Key[Array, ""] | None = None,
) -> Centers:
    """Greedy k-center: picks the candidate that is farthest from its nearest centre, again and
    again. Exact, with `O(N)` extra memory.

    The plain algorithm passes over the features for every pick (`pick_by_passes` below). Otherwise
    matrix products give upper bounds of the distances, and only rows that may be picked are
    measured as a sum of squared differences: a common offset costs no precision, duplicates are
    exactly 0 apart, and ties are ties. Once the farthest candidate is so near to a centre (a
    quarter of its distance from the mean) that products may not tell which centre is nearest,
    passes do the rest. Pools spread over devices always use passes.

    Args:
      features: [N, D], float32, bfloat16 or float16; Euclidean distances, taken in float32.
      budget: how many to pick.
      labelled: int [B], rows that are centres from the outset, -1 = padding; they are not picked
        again.
      candidates: bool [N], the rows that may be picked (None: all).
      start: the row to pick first; ignored if it is labelled already or not a candidate.
      key: draws the first pick if there is neither a centre nor a `start`.

    Returns: `.indices` int32 [b] in the order of the picks, ties to the lowest row, and `.radii`
      [b]: the largest distance of a candidate to its nearest centre after each pick. Where
      candidates run out the indices are -1 and the radii 0. If `labelled` is nothing but padding
      and neither `start` nor `key` is given, the first pick is the lowest candidate. The picks are
      those of exact arithmetic where the best two squared distances differ by more than
      `distances.product_error` times |x|^2 + |c|^2, with `x` and its centre `c` relative to the
      mean.

    Raises: ValueError when `features` is not [N, D], the budget is not in [0, N], there is nowhere
      to begin, labelled rows or `start` are not rows of the pool, or features of a candidate or a
      labelled row are not finite.

    Source: Sener, Savarese, ICLR 2018; Gonzalez 1985; Eq. 7 of Aggarwal, Popescu, Hudelot, WACV
      2020. Differs from the widely copied 2018 code in the random cold start, which that code never
      reaches. Twin: `k_center` in tests/reference.py.

    >>> centers = k_center(jnp.array([[0.0], [1.0], [5.0], [9.0]]), 3, start=0)
    >>> centers.indices.tolist(), centers.radii.tolist()
    ([0, 3, 2], [9.0, 4.0, 1.0])
    """
    features, budget = check.feature_table(features), check.whole_number("budget", budget)
    num_rows = len(features)
    if not 0 <= budget <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and the {num_rows} rows of the pool, got {budget}"
        )
    if labelled is None and start is None and key is None:
        raise ValueError(
            "k_center needs somewhere to begin: pass labelled rows, start=row, or "
            "key=jax.random.key(seed)"
        )
    candidates = check.mask("candidates", candidates, size=num_rows)
    if labelled is not None:
        labelled = check.rows("labelled", labelled, size=num_rows, padded=True)
    if start is not None:
        start = check.rows("start", start, size=num_rows, axes=0)
    if key is not None:
        check.key(key)
    centers, finite = _k_center(features, budget, labelled, candidates, start, key)
    # Values that are no numbers, seen in the distances that were taken anyway.
    if not isinstance(finite, Tracer) and not finite:
        matter = jnp.ones(num_rows, bool) if candidates is None else jnp.asarray(candidates)
        if labelled is not None:
            matter = matter.at[jnp.where(labelled >= 0, labelled, num_rows)].set(True, mode="drop")
        check.features(features, candidates=matter, varied=False)
    return centers


@partial(jax.jit, static_argnames="budget")
def _k_center(
    features, budget: int, labelled, candidates, start, key
) -> tuple[Centers, Bool[Array, ""]]:
    large = features.size * budget >= _LARGE and sharding.devices() == 1
    sizes = lazy.sizes_for(len(features), budget) if large else None
    return search(
        features,
        budget,
        labelled=labelled,
        candidates=candidates,
        start=start,
        key=key,
        sizes=sizes,
    )


def search(
    features, budget, *, labelled, candidates, start, key, sizes: lazy.Sizes | None
) -> tuple[Centers, Bool[Array, ""]]:
    """`k_center` after its checks, searched lazily if `sizes` are given; and whether all centres
    and candidates are at a finite distance from the first centre, which no row is that holds NaN
    or infinity."""
    num_rows = features.shape[0]
    candidates = askable(candidates, num_rows)
    labelled = (
        jnp.full(1, -1, jnp.int32)
        if labelled is None or len(labelled) == 0
        else jnp.asarray(labelled).astype(jnp.int32)
    )
    left = candidates.at[jnp.where(labelled >= 0, labelled, num_rows)].set(False, mode="drop")
    # The radius after a pick is the distance of the next one, so the search picks one row more than
    # the budget.
    centres = labelled_centres(labelled, room=budget + 1 + (sizes.chunk if sizes else 0))
    labels = centres.count
    goal = labels + jnp.minimum(budget + 1, jnp.sum(left, dtype=jnp.int32))

    matter = candidates.at[jnp.where(labelled >= 0, labelled, num_rows)].set(True, mode="drop")
    centres, left = _first_pick(centres, left, start, key)
    nearest = squared_distances(features, sharding.fetch(features, centres.rows[0]))
    finite = jnp.all((nearest < jnp.inf) | ~matter)
    if sizes:
        centres, left = lazy.pick(features, centres, left, goal, nearest, sizes)
    elif features.size <= _SMALL and sharding.devices() == 1:
        centres, left = products.pick(features, centres, left, goal)
    centres = pick_by_passes(features, centres, left, goal, nearest)
    indices = jax.lax.dynamic_slice(centres.rows, (labels,), (budget,))
    radii = jnp.sqrt(jax.lax.dynamic_slice(centres.distances, (labels + 1,), (budget,)))
    return Centers(indices, radii), finite


def pick_by_passes(features, centres: Centres, left, goal, nearest) -> Centres:
    """The plain algorithm: until there are `goal` centres, the next one is the row left that is
    farthest from its nearest centre. `nearest` holds the squared distances to the first centre."""

    def pick(carry):
        centres, nearest, seen, left = carry
        # All centres there are at first, then the last pick.
        nearest = jax.lax.fori_loop(
            seen,
            centres.count,
            lambda number, nearest: jnp.minimum(
                nearest,
                squared_distances(features, sharding.fetch(features, centres.rows[number])),
            ),
            nearest,
        )
        row = argmax(nearest, left)
        seen = centres.count
        centres = add_centre(centres, row, sharding.fetch(nearest, row), row >= 0)
        return centres, nearest, seen, left.at[row].set(False)

    carry = centres, nearest, jnp.int32(1), left
    return jax.lax.while_loop(lambda carry: carry[0].count < goal, pick, carry)[0]


def _first_pick(centres: Centres, left, start, key) -> tuple[Centres, Bool[Array, " N"]]:
    """The centres with the first pick, and the rows left. It is `start` if that may be picked;
    otherwise, if there is no centre yet, a drawn row or the lowest one."""
    first = jnp.where(centres.count > 0, -1, first_true(left))
    if key is not None:
        drawn = argmax(sampling.random_bits(key, len(left)), left)
        first = jnp.where(centres.count > 0, first, drawn)
    if start is not None:
        possible = (start >= 0) & (start < len(left)) & sharding.fetch(left, start)
        first = jnp.where(possible, start, first).astype(jnp.int32)
    first = jnp.where(jnp.any(left), first, -1)
    left = left.at[jnp.where(first >= 0, first, len(left))].set(False, mode="drop")
    return add_centre(centres, first, 0.0, first >= 0), left
