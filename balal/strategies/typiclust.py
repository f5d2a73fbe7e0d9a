"""TypiClust: the most typical row of each cluster, the least labelled and largest clusters
first."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.k_means import k_means, k_means_plus_plus
from balal.kernels.ordering import argmax, first_true, with_rows
from balal.kernels.typicality import typicality_within
from balal.strategies.base import Names
from balal.strategies.fields import unit_rows
from balal.strategies.planned import Plan, Planned
from balal.types import Labelled, Pick, Pool, askable, available

# Rows whose typicality differs by no more than this share are equally typical.
_TIES = 1e-5


@dataclass(frozen=True)
class TypiClust(Planned):
    """Finds as many clusters as there will be labels, and asks for the most typical row of each,
    those with the fewest labels first, of these the largest.

    Attributes:
      most_clusters: there are no more clusters than that.
      neighbours: typicality is one over the mean distance to so many in the same cluster.
      least: smaller clusters are left out, unless all are that small.

    Once each cluster has been asked once, they are put in order again by the labels that they have
    then. Costs k-means with `min(L + b, 500)` clusters, and the distances within them.

    Source: Hacohen, Dekel, Weinshall, *Active learning on a budget: opposite strategies suit high
      and low budgets*, ICML 2022, Algorithm 1 and section 3.2.

    Differs from the authors' code in that distances are plain, not squared, labelled rows count as
    neighbours, clusters of exactly five rows stay in, k-means is Lloyd's at any number of clusters,
    and rows are centred before they are normalised.
    """

    most_clusters: int = 500
    neighbours: int = 20
    least: int = 5

    def __post_init__(self) -> None:
        for name in ("most_clusters", "neighbours", "least"):
            check.whole_number(name, getattr(self, name), least=1)

    @property
    def uses_chance(self) -> bool:
        return True

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        labelled, budget = memory.begun, memory.budget
        rows = unit_rows(pool, name="typiclust")
        members = with_rows(askable(pool.candidates, pool.num_rows), labelled.indices)
        room = min(labelled.indices.shape[0], self.most_clusters, pool.num_rows)
        active = jnp.minimum(labelled.count + budget, jnp.sum(members, dtype=jnp.int32))
        active = jnp.minimum(active, room)
        begin = k_means_plus_plus(memory.key, rows, room, candidates=members, active=active)
        clusters = k_means(rows, rows[begin], candidates=members, active=active).assigned
        return in_turns(
            typicality_within(rows, clusters, self.neighbours, candidates=members),
            jnp.where(members, clusters, -1),
            available(pool, labelled),
            budget,
            most=most,
            num_clusters=room,
            least=self.least,
        )

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # A hundred rounds of k-means, and a pass over all pairs at worst.
        clusters = min(budget, self.most_clusters)
        return 2.0 * num_rows * num_features * (100 * clusters + num_rows)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["the most typical row of a cluster with few labels"] * len(picks.index)


def in_turns(
    typical: Float[Array, " N"],
    clusters: Int[Array, " N"],
    left: Bool[Array, " N"],
    budget: Int[Array, ""],
    *,
    most: int,
    num_clusters: int,
    least: int,
) -> Int[Array, " most"]:
    """The most typical row left of each cluster in turn: those with the fewest labels first, of
    these the largest, of these the lowest number. Runs inside jit.

    Args:
      typical: [N].
      clusters: int [N], -1 for rows that belong to none.
      left: bool [N], the rows that may be asked; the others count as labelled.
      budget: how many rows are wanted; the rest are -1.
      most, num_clusters: bounds of `budget` and `clusters`.
      least: rows in a cluster that is not left out. Once the others have no rows left, those that
        were left out are asked as well.

    >>> typical, clusters = jnp.array([1.0, 2.0, 3.0, 1.0]), jnp.array([0, 0, 1, 1])
    >>> left, options = jnp.arange(4) < 3, dict(most=3, num_clusters=2, least=1)
    >>> in_turns(typical, clusters, left, jnp.int32(3), **options).tolist()
    [1, 2, 0]
    """

    def number_in(rows):
        where = jnp.where(rows & (clusters >= 0), clusters, num_clusters)
        return jnp.zeros(num_clusters, jnp.int32).at[where].add(1, mode="drop")

    sizes = number_in(jnp.ones(len(clusters), bool))

    def pick(number, carry):
        left, waiting, labels, picks = carry
        remaining = number_in(left)
        possible = remaining > 0
        possible &= (sizes >= least) | ~jnp.any(possible & (sizes >= least))
        # Once around, they are put in order anew.
        again = ~jnp.any(waiting & possible)
        waiting, labels = waiting | again, jnp.where(again, sizes - remaining, labels)
        first = waiting & possible
        first &= labels == jnp.min(jnp.where(first, labels, jnp.iinfo(jnp.int32).max))
        first &= sizes == jnp.max(jnp.where(first, sizes, -1))
        cluster = first_true(first)
        row = argmax(typical, left & (clusters == cluster), tolerance=_TIES)
        # -1 where there is none: no row at all is left then.
        gone = jnp.where(row >= 0, row, len(left))
        left = left.at[gone].set(False, mode="drop")
        return left, waiting.at[cluster].set(False), labels, picks.at[number].set(row)

    begin = (
        left,
        jnp.ones(num_clusters, bool),
        sizes - number_in(left),
        jnp.full(most, -1, jnp.int32),
    )
    return jax.lax.fori_loop(0, jnp.minimum(budget, most), pick, begin)[-1]
