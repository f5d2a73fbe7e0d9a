"""SIMILAR: rows that resemble labelled rows of rare classes, and not one another."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from balal import check, labelled_set
from balal.kernels.query_information import facility_location
from balal.strategies.base import Names, Order, Ordered, Strategy, member
from balal.strategies.fields import unit_rows
from balal.strategies.planned import Plan, Planned
from balal.strategies.uncertainty import Random
from balal.types import Labelled, Pick, Pool, available

_FIRST = Random()


@dataclass(frozen=True)
class Similar(Planned):
    """Asks for rows that are similar to the labelled rows of rare classes, the queries, and that
    cover these between them. A class is rare if it has fewer labels than the mean of the classes
    that have any.

    Similarity is `(1 + cos) / 2` of the features relative to their mean. Where no class is rare,
    such as without labels, it follows `first`.

    Attributes:
      first: the strategy to follow without queries; one that ranks the pool in one shot.
      eta: weight of a row's own similarity against what it adds to the rows before it.

    Costs `O(N (B + b))` memory for B labelled rows and a budget of b, one matrix product of
    `O(N D (B + b))`, and about `O(N)` per pick.

    Source: Kothawade, Beck, Killamsetty, Iyer, SIMILAR: Submodular Information Measures Based
      Active Learning in Realistic Scenarios, NeurIPS 2021, FLQMI.

    Differs from the authors' code in finding out by itself which classes are rare, and in features
    instead of gradients of a target model.
    """

    first: Strategy = _FIRST
    eta: float = 1.0

    def __post_init__(self) -> None:
        check.strategy(self.first)
        if not isinstance(self.first, Ordered):
            raise ValueError(
                f"first must rank the pool in one shot (a balal.Ordered), got {self.first!r}"
            )
        if not 0 <= self.eta < float("inf"):
            raise ValueError(f"eta must be a finite number of at least 0, got {self.eta!r}")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.needs, "features")))

    @property
    def uses_chance(self) -> bool | None:
        return member(self.first, "uses_chance")

    @property
    def nested(self) -> bool:
        return member(self.first, "nested")

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        labelled = memory.begun
        queries = labelled_set.keep(labelled, _rare(labelled, memory.counts))
        free = available(pool, labelled)

        def covered():
            units = unit_rows(pool, name="similar")
            rows = units[jnp.maximum(queries.indices, 0)]
            near = (1 + jnp.matmul(units, rows.T, precision="highest")) / 2
            return facility_location(
                jnp.maximum(near, 0), queries.count, free, most=most, eta=self.eta
            )[0]

        def followed():
            assert isinstance(self.first, Ordered)
            return self.first.order(pool, labelled, most, memory.key).astype(jnp.int32)

        return jax.lax.cond(queries.count > 0, covered, followed)

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        # With as many queries as picks; in its plain form every row is looked at for each pick.
        return float(num_rows) * budget * (2 * num_features + 3 * budget)

    def reason(
        self, memory: Plan, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        begun = memory.begun
        rare = np.flatnonzero(_rare(begun, memory.counts))
        if not len(rare):
            order = Order(memory.indices)
            return member(self.first, "reason")(order, pool, labelled, picks, names)
        units, classes = np.asarray(unit_rows(pool, name="similar")), np.asarray(begun.labels)[rare]
        queries = units[np.asarray(begun.indices)[rare]]
        near = (1 + units[np.asarray(picks.index)] @ queries.T) / 2
        return [
            f"similar ({each.max():.2f}) to a label of {names.of_target(int(classes[best]))}, "
            f"which is rare so far"
            for best, each in zip(near.argmax(axis=1), near, strict=True)
        ]


def _rare(labelled: Labelled, counts: Int[Array, " C"]) -> Bool[Array, " B"]:
    """Which labelled rows are of a rare class: bool [B]."""
    known = jnp.sum(counts > 0, dtype=jnp.int32)
    return (labelled.labels >= 0) & (
        counts[labelled.labels] * known < jnp.sum(counts, dtype=jnp.int32)
    )
