"""TAILOR: any strategies take turns, those more often that have found rows of rare classes."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from balal import check, labelled_set, metrics
from balal.strategies.base import Budget, Names, Strategy, describe, member
from balal.strategies.galaxy import Galaxy
from balal.strategies.uncertainty import Random, Uncertainty
from balal.types import Labelled, Pick, Pool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `Tailor` knows so far.

    Attributes:
      arms: the memory of each strategy.
      record: the rows that were labelled when the budget began, and those answered since.
      found: float32 [M, C], for each strategy how many labels of each class its rows have had, the
        older ones counting less.
      counts: int32 [C], labels of each class.
      told: how many answers of this budget there are.
      key: of all chance.
    """

    arms: tuple[Any, ...]
    record: Labelled
    found: Float[Array, "*S M C"]
    counts: Int[Array, "*S C"]
    told: Int[Array, "*S"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Tailor(Strategy):
    """Thompson sampling over strategies: each pick draws for every strategy the classes that its
    rows are likely to have, and follows the one whose draw is worth most. A label of a class with n
    labels is worth `1 / n`, and as much less than nothing once the class has more than half of all
    labels.

    The classes that a strategy's rows have had are counted from a prior of one for each class that
    has a label, and one for a class that is yet to be found, whose label is worth 1.

    Attributes:
      strategies: to choose from.
      decay: what the counts are multiplied by after every `batch` answers.
      batch: see `decay`.

    Costs a pick of every strategy for each answer, and one more.

    Source: Zhang, Shao, Verma, Nowak, Algorithm Selection for Deep Active Learning with Imbalanced
      Datasets, NeurIPS 2023, algorithm 2 and the diversity reward.

    Differs from the authors' code in who is credited with a label: not the strategy that was drawn
    but every strategy that would have asked for this row next, so that it follows from the answers
    alone (of rows asked together, answers in another order than that of the picks are credited to
    fewer); in counts that follow every answer, not every batch; in a prior of 1, not 2; and in not
    knowing how many classes there are.
    """

    strategies: tuple[Strategy, ...] = (Uncertainty("margin"), Galaxy(), Random())
    decay: float = 0.9
    batch: int = 100

    def __post_init__(self) -> None:
        if not isinstance(self.strategies, tuple) or not self.strategies:
            raise ValueError(
                f"strategies must be a tuple of at least one strategy, got {self.strategies!r}"
            )
        for strategy in self.strategies:
            check.strategy(strategy)
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be a share between 0 and 1, got {self.decay!r}")
        if check.whole_number("batch", self.batch) < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(need for each in self.strategies for need in each.needs))

    @property
    def uses_chance(self) -> bool | None:
        # Strategies that agree on every row leave nothing to draw.
        different = set(self.strategies)
        return True if len(different) > 1 else member(different.pop(), "uses_chance")

    @property
    def nested(self) -> bool:
        return all(member(each, "nested") for each in self.strategies)

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        return Memory(
            arms=tuple(
                each.init(pool, labelled, budget, num_classes, jax.random.fold_in(key, number))
                for number, each in enumerate(self.strategies)
            ),
            record=labelled_set.extend(labelled, 0),
            found=jnp.zeros((len(self.strategies), num_classes), jnp.float32),
            counts=metrics.class_counts(labelled.labels, num_classes=num_classes),
            told=jnp.int32(0),
            key=key,
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        key = jax.random.fold_in(memory.key, labelled.count)
        drawn = _drawn_rewards(key, memory.found, memory.counts)

        def follow(number: int) -> tuple[Pick, tuple[Any, ...]]:
            pick, arm = self.strategies[number].ask(memory.arms[number], pool, labelled)
            return pick, (*memory.arms[:number], arm, *memory.arms[number + 1 :])

        ways = [partial(follow, number) for number in range(len(self.strategies))]
        pick, arms = jax.lax.switch(jnp.argmax(drawn), ways)
        return pick, replace(memory, arms=arms)

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        record, num_classes = memory.record, memory.counts.shape[0]
        column = jnp.where(label >= 0, label, num_classes)
        new = (label >= 0) & ~jnp.any(record.indices == index)

        def credited() -> tuple[Array, tuple[Any, ...]]:
            asked = [
                each.ask(arm, pool, record)
                for each, arm in zip(self.strategies, memory.arms, strict=True)
            ]
            own = jnp.stack([pick.index == index for pick, _ in asked])
            found = memory.found.at[:, column].add(own.astype(jnp.float32), mode="drop")
            return found, tuple(arm for _, arm in asked)

        # Nobody asked for rows that were labelled when the budget began.
        found, arms = jax.lax.cond(new, credited, lambda: (memory.found, memory.arms))
        told = memory.told + new.astype(jnp.int32)
        over = new & (told % self.batch == 0)
        return replace(
            memory,
            arms=tuple(
                each.tell(arm, pool, index, label)
                for each, arm in zip(self.strategies, arms, strict=True)
            ),
            record=labelled_set.append(record, jnp.where(new, index, -1), label, -1),
            found=jnp.where(over, self.decay * found, found),
            counts=memory.counts.at[column].add(1, mode="drop"),
            told=told,
        )

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        each = [
            member(one, "flops")(num_rows, num_features, num_classes, budget)
            for one in self.strategies
        ]
        if any(one is None for one in each):
            return None
        # Each pick is made twice, and draws about twenty numbers for each strategy and class.
        return 2.0 * sum(each) + 20.0 * budget * num_classes * len(each)

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        worth, new = worths(memory.counts)
        known = (memory.counts > 0).astype(jnp.float32)
        mean = np.asarray(mean_rewards((1 + memory.found) * known[None, :], worth, new=new))
        best = describe(self.strategies[int(mean.argmax())])
        sentence = f"asked by one of {len(self.strategies)} strategies; {best} leads so far"
        return [f"{sentence} (expected worth {mean.max():.2f})"] * len(picks.index)


def worths(counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
    """What a label of each class is worth, float32 [C], and one of a class yet to be found.

    Source: Zhang, Shao, Verma, Nowak, NeurIPS 2023, the diversity reward.

    >>> worths(jnp.array([8, 4, 2, 0]))[0].tolist()
    [-0.125, 0.25, 0.5, 1.0]
    """
    worth = 1 / jnp.maximum(counts, 1).astype(jnp.float32)
    return jnp.where(2 * counts > jnp.sum(counts, dtype=jnp.int32), -worth, worth), jnp.float32(1)


def mean_rewards(
    found: Float[Array, "M C"], worth: Float[Array, " C"], *, new: Float[Array, ""] | None = None
) -> Float[Array, " M"]:
    """What the next row of each strategy is expected to be worth: float32 [M].

    Args:
      found: [M, C], the Dirichlet posterior over the classes.
      worth: [C], of a label of each class.
      new: of one of a class yet to be found, which has one count (None: there is none).

    >>> mean_rewards(jnp.array([[3.0, 1.0]]), jnp.array([0.0, 1.0])).tolist()
    [0.25]
    """
    prior = 0 if new is None else 1
    total = jnp.sum(found, axis=1) + prior
    return (jnp.matmul(found, worth, precision="highest") + (0 if new is None else new)) / total


def _drawn_rewards(
    key: Key[Array, ""], found: Float[Array, "M C"], counts: Int[Array, " C"]
) -> Float[Array, " M"]:
    """The rewards of one draw from the posterior of each strategy: float32 [M]."""
    worth, new = worths(counts)
    arms, num_classes = found.shape

    def gamma(arm, label, shape):
        # One key for each class, so that room for more classes changes no draw.
        own = jax.random.fold_in(jax.random.fold_in(key, arm), label)
        return jax.random.gamma(own, shape, dtype=jnp.float32)

    # Class C stands for the one yet to be found: it is number 0.
    number = jnp.arange(num_classes, dtype=jnp.int32) + 1
    each = jnp.arange(arms, dtype=jnp.int32)
    drawn = jax.vmap(lambda arm, row: jax.vmap(partial(gamma, arm))(number, row))(each, 1 + found)
    drawn = jnp.where((counts > 0)[None, :], drawn, 0)
    unseen = jax.vmap(lambda arm: gamma(arm, 0, jnp.float32(1)))(each)
    total = jnp.sum(drawn, axis=1) + unseen
    return (jnp.matmul(drawn, worth, precision="highest") + unseen * new) / total
