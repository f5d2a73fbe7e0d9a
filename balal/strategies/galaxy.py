"""GALAXY: in the target model's order for each class in turn, find where the labels change, and
label around it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from balal import labelled_set, metrics
from balal.kernels import class_orders, sampling
from balal.kernels.ordering import argmax, first_true
from balal.strategies.base import Budget, Names, Strategy
from balal.strategies.fields import target_logits
from balal.types import Labelled, Pick, Pool, available


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `Galaxy` knows so far.

    Attributes:
      orders: int32 [C, N], the rows in the target model's order for each class.
      labels: int32 [N], the answer to each row, -1 where there is none.
      counts: int32 [C], labels of each class.
      key: of the rows that are drawn.
    """

    orders: Int[Array, "*S C N"]
    labels: Int[Array, "*S N"]
    counts: Int[Array, "*S C"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Galaxy(Strategy):
    """Classes take turns; in the order of the rows by their margin for the class whose turn it is,
    it halves the smallest gap between a label of the class and one of another, and once there is
    none, asks for the row nearest to such a change. That balances rows of rare classes with those
    that are confused with them.

    A turn goes to the classes that have a label, as long as another has one as well; before, rows
    are drawn. With two classes there is one order, as the other is the same read backwards. Rows
    that wait for their answer divide their gap (`balal.kernels.class_orders.bisect_or_expand`).

    Costs `O(N C)` memory, one sort of the pool for each class at the beginning and `O(N)` per pick.

    Source: Zhang, Katz-Samuels, Nowak, GALAXY: Graph-based Active Learning at the Extreme, ICML
      2022, algorithm 1.

    Differs from the authors' code in its second step, which measures distances to the changes in
    the present order (there the order of a graph rises, and stays risen for all classes), the lower
    one of two middle rows, and classes without labels, which get no turn. The version in LabelBench
    sorts the other way round and draws rows where this one expands.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",)

    @property
    def target_model(self) -> bool:
        return True

    @property
    def uses_chance(self) -> bool:
        return True

    @property
    def nested(self) -> bool:
        return True

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        del budget
        return Memory(
            orders=class_orders.class_orders(target_logits(pool, num_classes, name="galaxy")),
            labels=labelled_set.by_row(labelled, pool.num_rows),
            counts=metrics.class_counts(labelled.labels, num_classes=num_classes),
            key=key,
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        free = available(pool, labelled)
        turns = self._turns(memory.counts)
        number = jnp.sum(turns, dtype=jnp.int32)

        def searched():
            # The class whose turn it is, counted by the labels that are spent.
            turn = labelled.count.astype(jnp.int32) % jnp.maximum(number, 1)
            label = first_true(jnp.cumsum(turns, dtype=jnp.int32) == turn + 1)
            order = memory.orders[label]
            answers = memory.labels[order]
            values = jnp.where(answers >= 0, (answers == label).astype(jnp.int32), -1)
            waiting = labelled_set.contains(labelled, pool.num_rows) & (memory.labels < 0)
            return order[class_orders.bisect_or_expand(values, waiting[order], free[order])]

        def drawn():
            return argmax(sampling.random_bits(memory.key, pool.num_rows), free)

        index = jax.lax.cond(number > 0, searched, drawn)
        return Pick(jnp.where(jnp.any(free), index, -1), jnp.int32(-1)), memory

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        del pool
        there = label >= 0
        row = jnp.where(there, index, len(memory.labels))
        column = jnp.where(there, label, len(memory.counts))
        return replace(
            memory,
            labels=memory.labels.at[row].set(label, mode="drop"),
            counts=memory.counts.at[column].add(1, mode="drop"),
        )

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Of the orders; all that follows compares.
        return 8.0 * num_rows * num_classes

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        rows = np.asarray(picks.index)
        if not np.any(self._turns(memory.counts)):
            return ["drawn by chance, as labels of two classes are needed first"] * len(rows)
        logits = target_logits(pool, len(memory.counts), name="galaxy")[rows]
        probs = np.asarray(jax.nn.softmax(logits, axis=1))
        return [
            f"near a change between classes; {names.of_target(int(top))} to the target model "
            f"({share[top]:.2f})"
            for top, share in zip(probs.argmax(axis=1), probs, strict=True)
        ]

    def _turns(self, counts: Int[Array, " C"]) -> Bool[Array, " C"]:
        """The classes that have their turn: bool [C]."""
        contested = (counts > 0) & (counts < jnp.sum(counts, dtype=jnp.int32))
        return contested.at[0].set(False) if len(counts) == 2 else contested
