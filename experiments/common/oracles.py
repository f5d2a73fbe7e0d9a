"""Rules that look at the labels: not strategies, but an upper bound on what one could gain.

`oracle` switches when balancing does (Eq. 8), and then takes a random row of the rarest class
instead of guessing one. `balanced` fills up the classes from the first label on, and `best_batch`
takes of many batches the one that helps the target model most.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

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


def quotas(counts: np.ndarray, available: np.ndarray, budget: int) -> np.ndarray:
    """How many rows of each class make the counts most equal: int [C]. Peeks: it is told how many
    rows of each class are left.

    Each row goes to the class that has the fewest labels by then and rows left, ties to the lowest.

    Args:
      counts: int [C], labels so far. available: int [C], rows left.
      budget: rows to buy; fewer where the rows run out.

    >>> quotas(np.array([4, 1, 0]), np.array([50, 10, 1]), 6).tolist()
    [1, 4, 1]
    """
    counts, available = np.asarray(counts, np.int64), np.asarray(available, np.int64)
    quota = np.zeros_like(counts)
    for _ in range(min(budget, int(available.sum()))):
        quota[np.where(quota < available, counts + quota, np.iinfo(np.int64).max).argmin()] += 1
    return quota


def balanced(
    key: jax.Array,
    labels: np.ndarray,
    candidates: np.ndarray,
    *,
    counts: np.ndarray,
    budget: int,
) -> np.ndarray:
    """Rows that make the counts most equal, random ones of each class, in random order: int [b].
    Peeks.

    Differs from the code of Emam et al. 2021 in adding to the labels there are: theirs shares out
    each round on its own.

    Args:
      labels: int [N]. candidates: int, the rows that may be picked.
      counts: int [C], labels so far of each class.
    """
    drawn = np.asarray(balal.kernels.sampling.random_bits(key, len(labels)))
    order = candidates[np.argsort(drawn[candidates], kind="stable")]
    available = np.bincount(labels[order], minlength=len(counts))
    quota = quotas(counts, available, budget)
    place = np.zeros(len(order), np.int64)
    for label in range(len(counts)):
        own = labels[order] == label
        place[own] = np.arange(own.sum())
    return order[place < quota[labels[order]]]


@dataclass(frozen=True)
class Best:
    """What `best_batch` finds.

    Attributes:
      indices: int [b], the rows of the best batch.
      strategy: the number of the strategy that asked for it.
      scores: [batches], what the model fitted with each is worth.
    """

    indices: np.ndarray
    strategy: int
    scores: np.ndarray


def best_batch(
    key: jax.Array,
    strategies: Sequence[balal.Strategy],
    pool: balal.Pool,
    labels: np.ndarray,
    fit: Callable[[np.ndarray, np.ndarray], Any],
    score: Callable[[Any], float],
    *,
    labelled: np.ndarray,
    budget: int,
    num_classes: int,
    batches: int = 100,
    rows: int | None = None,
) -> Best:
    """Of many batches that strategies ask for, the one whose model scores best, the first of
    several. Peeks: models are fitted with true labels, and usually scored on the test set.

    Strategies take turns, each time with other random candidates: even one without chance then asks
    for other rows.

    Args:
      pool: with all that the strategies need. labels: int [N].
      fit: `fit(rows, their labels)`, with the labelled rows first, gives a model.
      score: what a model is worth; larger is better.
      labelled: int, the rows labelled so far. budget: rows in a batch.
      batches: how many to compare.
      rows: candidates for each batch, or all that are left if these are fewer (None: ten times the
        budget).

    Source: Huseljic, Hahn, Herde, Sandrock, Sick, BoSS, TMLR 2026.
    """
    free = np.ones(len(labels), bool) if pool.candidates is None else np.array(pool.candidates)
    free[labelled] = False
    left = np.flatnonzero(free)
    number = min(len(left), 10 * budget if rows is None else max(rows, budget))
    found, scores = [], []
    for turn in range(batches):
        draw, pick = jax.random.split(jax.random.fold_in(key, turn))
        drawn = np.asarray(balal.kernels.sampling.random_bits(draw, len(labels)))[left]
        chosen = np.zeros(len(labels), bool)
        chosen[left[np.argsort(drawn, kind="stable")[:number]]] = True
        result = balal.simulate(
            strategies[turn % len(strategies)],
            replace(pool, candidates=jnp.asarray(chosen), prepared={}),
            labels,
            budget=budget,
            num_classes=num_classes,
            key=pick,
            labelled=(labelled, labels[labelled]),
        )
        found.append(np.asarray(result.indices))
        known = np.concatenate([labelled, found[-1]])
        scores.append(score(fit(known, labels[known])))
    best = int(np.argmax(scores))
    return Best(found[best], best % len(strategies), np.array(scores))
