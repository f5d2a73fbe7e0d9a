"""Rules that look at the labels: not strategies, but an upper bound on what balancing could gain.

They switch when balancing does (Eq. 8), and then take a random row of the rarest class instead of
guessing one.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

import balal

# The rarest class among those found so far, or among all.
ORACLES: dict[str, Literal["found", "all"]] = {"oracle_known": "found", "oracle_all": "all"}


def oracle(
    key: jax.Array,
    first: np.ndarray,
    labels: np.ndarray,
    candidates: np.ndarray,
    *,
    num_classes: int,
    classes: Literal["found", "all"],
) -> tuple[np.ndarray, np.ndarray]:
    """The picks [b], and the class that each was taken for [b], -1 before the switch.

    Ties between classes go to the lowest class id. A class without a candidate left gives way to
    the next rarest; "found" takes a class that is not found yet only when all others are used up.

    Args:
      key: draws the order in which the rows of a class are taken.
      first: int [b], distinct: the rows that the first strategy would pick with this budget,
        followed until the switch.
      labels: int [N]. candidates: int, the rows of the pool that may be picked, those in `first`
        among them.
      classes: the ones to choose from.
    """
    budget = len(first)
    counts = np.zeros((budget + 1, num_classes), np.int32)
    np.cumsum(labels[first][:, None] == np.arange(num_classes), axis=0, out=counts[1:])
    labels_so_far = jnp.arange(budget)
    switches = np.asarray(
        jax.vmap(balal.kernels.switch.switches)(
            jnp.asarray(counts[:-1]), labels_so_far, budget - labels_so_far
        )
    )
    if not switches.any():
        return first, np.full(budget, -1)
    switch = int(switches.argmax())

    order = candidates[
        np.argsort(
            np.asarray(balal.kernels.sampling.random_bits(key, len(labels)))[candidates],
            kind="stable",
        )
    ]
    order = order[~np.isin(order, first[:switch])]
    rows = [iter(order[labels[order] == label]) for label in range(num_classes)]
    left, count = np.bincount(labels[order], minlength=num_classes), counts[switch].astype(np.int64)
    late = len(labels) if classes == "found" else 0
    picks, wanted = first.copy(), np.full(budget, -1)
    for step in range(switch, budget):
        rarity = np.where(left > 0, count + late * (count == 0), np.iinfo(np.int64).max)
        wanted[step] = rarity.argmin()
        picks[step] = next(rows[wanted[step]])
        left[wanted[step]] -= 1
        count[wanted[step]] += 1
    return picks, wanted
