"""Strategies that plan a whole query at once, from the answers there are when it begins.

`Ordered` is for those whose order neither the answers nor the budget change."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from balal import metrics
from balal.strategies.base import Budget, Strategy, largest_budget
from balal.types import Labelled, Pick, Pool, available


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Plan:
    """Memory of a planned strategy.

    Attributes:
      indices: int32 [b], the rows in the order in which they will be asked, -1 where there are no
        more.
      begun: the rows labelled when the budget began, with the answers to them that are known by
        now, -1 for those still to come.
      counts: int32 [C], these answers by class.
      budget: labels to be planned for, at most b.
      outdated: whether an answer has come since the plan was made.
      key: of all chance.
    """

    indices: Int[Array, "*S b"]
    begun: Labelled
    counts: Int[Array, "*S C"]
    budget: Int[Array, "*S"]
    outdated: Bool[Array, "*S"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Planned(Strategy):
    """Base of the strategies that choose all rows of a budget together: implement `plan`, and
    `needs` if they need something other than the features.

    The plan follows from the rows labelled when the budget began and the answers to them, however
    late these come. Answers to the rows of the plan itself change nothing: the next budget, or a
    pool that has changed, begins with them.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    @property
    def adaptive(self) -> bool:
        return False

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        """The rows to ask for, in order: at least `memory.budget` distinct candidates that were not
        labelled when the budget began, if there are as many; then anything of that kind, or -1.

        Args:
          pool: the pool.
          memory: `begun`, `counts`, `budget` and `key` are what there is to plan by. The budget is
            data, so that one program serves every budget.
          most: the largest budget, which sets the shape.
        """
        raise TypeError(f"{type(self).__name__} must implement plan(pool, memory, *, most)")

    def init(
        self,
        pool: Pool,
        labelled: Labelled,
        budget: Budget,
        num_classes: int,
        key: Key[Array, ""],
    ) -> Plan:
        most, capacity = largest_budget(labelled, budget), labelled.indices.shape[0]
        return Plan(
            indices=jnp.full(most, -1, jnp.int32),
            begun=labelled,
            counts=metrics.class_counts(labelled.labels, num_classes=num_classes),
            # In the middle of a budget there is only room for the rest of it.
            budget=jnp.minimum(jnp.asarray(budget, jnp.int32), capacity - labelled.count),
            outdated=jnp.bool_(True),
            key=key,
        )

    def ask(self, memory: Plan, pool: Pool, labelled: Labelled) -> tuple[Pick, Plan]:
        most = memory.indices.shape[0]
        possible = min(most, pool.num_rows)

        def planned() -> Int[Array, " b"]:
            rows = self.plan(pool, memory, most=possible)
            return jnp.pad(rows, (0, most - possible), constant_values=-1)

        rows = jax.lax.cond(memory.outdated, planned, lambda: memory.indices)
        askable = (rows >= 0) & available(pool, labelled)[rows]
        index = jnp.where(jnp.any(askable), rows[jnp.argmax(askable)], -1).astype(jnp.int32)
        return Pick(index, jnp.int32(-1)), replace(
            memory, indices=rows, outdated=jnp.zeros_like(memory.outdated)
        )

    def tell(self, memory: Plan, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]) -> Plan:
        begun = memory.begun
        here = (begun.indices == index) & (index >= 0) & (label >= 0)
        known = replace(begun, labels=jnp.where(here, label, begun.labels))
        return replace(
            memory,
            begun=known,
            counts=metrics.class_counts(known.labels, num_classes=len(memory.counts)),
            outdated=memory.outdated | jnp.any(here & (begun.labels != label)),
        )

    def grow(self, memory: Plan, num_classes: int) -> Plan:
        more = num_classes - memory.counts.shape[0]
        return replace(
            memory,
            counts=jnp.pad(memory.counts, (0, more)),
            outdated=jnp.ones_like(memory.outdated),
        )
