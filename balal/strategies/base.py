"""What a strategy is: the protocol every one keeps, and the short form for those that do not look
at answers."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from balal.types import Labelled, Pool, available

Budget = int | Int[Array, ""]


def largest_budget(labelled: Labelled, budget: Budget) -> int:
    """How many labels `budget` may be at most: itself, or, where it is data, the places of
    `labelled`."""
    return labelled.indices.shape[0] if isinstance(budget, jax.Array) else budget


@runtime_checkable
class Strategy(Protocol):
    """A frozen value whose fields are hyper-parameters: equal strategies hash equal and share one
    compilation.

    All methods are pure and run inside jit. `memory` is any pytree that makes a pick cheap. What
    must survive saving, late answers and a changed pool has to follow from `init` and the `tell`s
    after it: whatever `ask` changes in the memory is a convenience that may be dropped. Where `ask`
    uses chance, it derives it from a key in the memory and from `labelled.count`.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        """The fields of `Pool` it reads: ("scores",), ("features",), ..."""
        ...

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Any:
        """The memory before at most `budget` new labels are bought. Rows of `labelled` may be
        unanswered yet: their label is -1.

        `labelled` has a place for each of them. The budget is a whole number, or, where one program
        serves several, data: what sets a shape is then the number of places (see `largest_budget`).

        In the middle of a budget, after the pool has changed, it is called again with all rows
        labelled and pending so far and with the
        same `budget`, of which part is spent then: `labelled` has no more free places than labels
        may still be bought.
        """
        ...

    def ask(self, memory: Any, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Any]:
        """One pick, int32, and the memory. `labelled` holds the answers so far and, with label -1
        or their guess, the pending rows."""
        ...

    def tell(self, memory: Any, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]) -> Any:
        """The memory after one answer."""
        ...

    def guess(self, memory: Any, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        """What the row that `ask` has just picked is taken for while its answer is pending; -1:
        nothing."""
        ...

    def grow(self, memory: Any, num_classes: int) -> Any:
        """The same memory with room for more classes."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Order:
    """Memory of an ordered strategy: the rows in the order in which they will be asked, int32 [b],
    -1 where candidates ran out."""

    indices: Int[Array, "*S b"]


@dataclass(frozen=True)
class Ordered:
    """Base of the strategies that rank the pool in one shot: implement `order`, and `needs` where
    it is not the scores."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ("scores",)

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        """The `budget` rows to ask, in order: distinct candidates outside `labelled`; -1 at the end
        where there are too few."""
        raise TypeError(f"{type(self).__name__} must implement order(pool, labelled, budget, key)")

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Order:
        del num_classes
        wanted = largest_budget(labelled, budget)
        possible = min(wanted, pool.size)
        return Order(
            jnp.pad(
                self.order(pool, labelled, possible, key),
                (0, wanted - possible),
                constant_values=-1,
            )
        )

    def ask(self, memory: Order, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Order]:
        free = available(pool, labelled)
        askable = (memory.indices >= 0) & free[memory.indices]
        first = memory.indices[jnp.argmax(askable)]
        return jnp.where(jnp.any(askable), first, -1).astype(jnp.int32), memory

    def tell(
        self, memory: Order, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Order:
        del pool, index, label
        return memory

    def guess(self, memory: Order, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        del memory, pool, index
        return jnp.int32(-1)

    def grow(self, memory: Order, num_classes: int) -> Order:
        del num_classes
        return memory
