"""DIRECT: find the most accurate threshold in the target model's order for each class, and label
around it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key

from balal import check, labelled_set, metrics
from balal.kernels import class_orders, sampling
from balal.kernels.ordering import argmax
from balal.strategies.base import Budget, Names, Strategy
from balal.strategies.fields import target_logits
from balal.types import Labelled, Pick, Pool, askable, available

_LAST = jnp.iinfo(jnp.int32).max


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `Direct` knows so far.

    Attributes:
      orders: int32 [C, N], the rows in the target model's order for each class.
      labels: int32 [N], the answer to each row, -1 where there is none.
      number: int32 [N], how many answers of this budget came before that to each row; -1 for rows
        labelled, or asked, when it began; meaningless for rows without an answer.
      begun: int32 [C], labels of each class among the rows labelled when the budget began.
      counts: int32 [C], labels of each class.
      told: how many answers of this budget there are.
      before: how many rows were labelled or asked when the budget began.
      total: labels that the budget buys.
      key: of all chance.
    """

    orders: Int[Array, "*S C N"]
    labels: Int[Array, "*S N"]
    number: Int[Array, "*S N"]
    begun: Int[Array, "*S C"]
    counts: Int[Array, "*S C"]
    told: Int[Array, "*S"]
    before: Int[Array, "*S"]
    total: Int[Array, "*S"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Direct(Strategy):
    """Half of the budget, one after another for the classes with the fewest labels, draws rows from
    the stretch of the class's order in which labels change, and shortens it after every few
    answers; the other half, all classes in turn, asks for the row nearest to the most accurate
    threshold. Wrong labels move it little.

    Only classes that have a label count. Without any, rows are drawn.

    Attributes:
      parallel: labels between two looks at the stretch, those of one class that are asked for
        together.
      least: labels for a class in the first half, so `budget / (2 least)` classes have a part in
        it, at least 1.

    Costs `O(N C)` memory, one sort of the pool for each class at the beginning and `O(N)` per pick
    and for each look.

    Source: Nuggehalli, Zhang, Jain, Nowak, Direct: Deep Active Learning under Imbalance and Label
      Noise, ICML 2025, algorithms 1 and 2.

    Differs from the authors' code in the classes of the first half, which that code never
    restricts; in the second half, where the threshold follows every answer and classes take turns
    instead of following one another; and where both ends of a stretch are equally good: they move
    in equal parts rather than by chance. Where a stretch has no row left, the nearest to the
    threshold is asked.
    """

    parallel: int = 20
    least: int = 60

    def __post_init__(self) -> None:
        for name in ("parallel", "least"):
            if check.whole_number(name, getattr(self, name)) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",)

    @property
    def target_model(self) -> bool:
        return True

    @property
    def uses_chance(self) -> bool:
        return True

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        counts = metrics.class_counts(labelled.labels, num_classes=num_classes)
        capacity = labelled.indices.shape[0]
        there = labelled_set.contains(labelled, pool.num_rows)
        return Memory(
            orders=class_orders.class_orders(target_logits(pool, num_classes, name="direct")),
            labels=labelled_set.by_row(labelled, pool.num_rows),
            number=jnp.where(there, jnp.int32(-1), jnp.int32(_LAST)),
            begun=counts,
            counts=counts,
            told=jnp.int32(0),
            before=labelled.count.astype(jnp.int32),
            # In the middle of a budget there is only room for the rest of it.
            total=jnp.minimum(jnp.asarray(budget, jnp.int32), capacity - labelled.count),
            key=key,
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        free = available(pool, labelled)
        asked = labelled_set.contains(labelled, pool.num_rows)
        waiting = asked & (memory.labels < 0)
        there = asked | askable(pool.candidates, pool.num_rows)
        spent = labelled.count - memory.before
        classes, each = self._first_half(memory)
        number = spent - classes * each

        def narrowed():
            turn = spent // each
            label = _nth(memory.begun, memory.begun > 0, turn)
            return self._narrow(memory, label, turn * each, spent, each, there, waiting, free)

        def around():
            known = memory.counts > 0
            # By class, so that room for more classes changes no turn.
            drawn = sampling.random_bits(jax.random.fold_in(memory.key, 1), len(memory.counts))
            turn = number % jnp.maximum(jnp.sum(known, dtype=jnp.int32), 1)
            label = _nth((drawn >> 1).astype(jnp.int32), known, turn)
            order = memory.orders[label]
            values = _values(memory.labels, label)[order]
            place = class_orders.nearest_to_threshold(values, waiting[order], free[order])
            return order[place]

        def drawn():
            return argmax(sampling.random_bits(memory.key, pool.num_rows), free)

        way = jnp.where(number < 0, 0, jnp.where(jnp.any(memory.counts > 0), 1, 2))
        index = jax.lax.switch(way, (narrowed, around, drawn))
        return Pick(jnp.where(jnp.any(free), index, -1), jnp.int32(-1)), memory

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        del pool
        there = label >= 0
        row = jnp.where(there, index, len(memory.labels))
        column = jnp.where(there, label, len(memory.counts))
        old = memory.number[index] < 0
        return replace(
            memory,
            labels=memory.labels.at[row].set(label, mode="drop"),
            number=memory.number.at[row].set(jnp.where(old, -1, memory.told), mode="drop"),
            begun=memory.begun.at[column].add(old.astype(jnp.int32), mode="drop"),
            counts=memory.counts.at[column].add(1, mode="drop"),
            told=memory.told + (there & ~old).astype(jnp.int32),
        )

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Of the orders; all that follows compares.
        return 8.0 * num_rows * num_classes

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        if not np.any(memory.counts):
            return ["drawn by chance, as there are no labels yet"] * len(picks.index)
        classes, each = self._first_half(memory)
        first = np.asarray(labelled.count - memory.before) + np.arange(len(picks.index))
        turns = np.minimum(first // max(int(each), 1), max(int(classes) - 1, 0)).tolist()
        rows = np.asarray(memory.begun)
        rarest = np.argsort(np.where(rows > 0, rows, _LAST), kind="stable")
        return [
            f"drawn where labels of {names.of_target(int(rarest[turn]))} begin and end"
            if number < int(classes * each)
            else "nearest to the threshold of a class"
            for turn, number in zip(turns, first.tolist(), strict=True)
        ]

    def _first_half(self, memory: Memory) -> tuple[Int[Array, ""], Int[Array, ""]]:
        """How many classes have a part in the first half of the budget, and how many labels."""
        known = jnp.sum(memory.begun > 0, dtype=jnp.int32)
        classes = jnp.minimum(known, jnp.maximum(1, memory.total // (2 * self.least)))
        return classes, memory.total // (2 * jnp.maximum(classes, 1))

    def _narrow(
        self,
        memory: Memory,
        label: Int[Array, ""],
        begin: Int[Array, ""],
        spent: Int[Array, ""],
        each: Int[Array, ""],
        there: Bool[Array, " N"],
        waiting: Bool[Array, " N"],
        free: Bool[Array, " N"],
    ) -> Int[Array, ""]:
        """The row to ask in the first half, for a class whose part began with `begin` labels spent.

        The stretch follows from the answers in their order alone.
        """
        order = memory.orders[label]
        there, waiting, free = there[order], waiting[order], free[order]
        labels, number = memory.labels[order], memory.number[order]

        def values(until):
            return _values(jnp.where(number < until, labels, -1), label)

        def look(turn, ends):
            rounds = (each - turn * self.parallel) // self.parallel
            return class_orders.shrink(
                ends, values(begin + (turn + 1) * self.parallel), there, rounds
            )

        turn = (spent - begin) // self.parallel
        ends = jax.lax.fori_loop(0, turn, look, class_orders.uncertain(values(begin), there))
        inside = free & class_orders.within(ends, there)
        drawn = sampling.random_bits(
            jax.random.fold_in(memory.key, 2 + begin + turn * self.parallel), len(order)
        )
        row = argmax(drawn, jnp.zeros(len(order), bool).at[order].set(inside))
        near = class_orders.nearest_to_threshold(_values(labels, label), waiting, free)
        return jnp.where(row >= 0, row, order[near])


def _values(labels: Int[Array, " N"], label: Int[Array, ""]) -> Int[Array, " N"]:
    """1 for labels of the class, 0 for those of others, -1 where there is none: int32 [N]."""
    return jnp.where(labels >= 0, (labels == label).astype(jnp.int32), -1)


def _nth(
    values: Int[Array, " C"], among: Bool[Array, " C"], turn: Int[Array, ""]
) -> Int[Array, ""]:
    """The class with the smallest value but `turn` ones, ties by the lowest: int32."""
    return jnp.argsort(jnp.where(among, values, _LAST), stable=True)[turn].astype(jnp.int32)
