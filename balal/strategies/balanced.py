"""Balancing around any strategy: follow it until the switch (Eq. 8), then aim every label at the
rarest class found (Eq. 9)."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from balal import check, labelled_set, sharding, xla
from balal.kernels import balancing, class_means, switch
from balal.strategies import fields
from balal.strategies.base import (
    Budget,
    Names,
    Strategy,
    largest_budget,
    member,
    reasons_of_rule,
)
from balal.types import Labelled, Pick, Pool, available
from balal.wording import plural


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `Balanced` knows so far.

    Attributes:
      first: the memory of the first strategy.
      counts: int32 [C], labels of each class.
      means: [C, D], of the features of each class.
      bounds: on the distances of the rows to the means.
      labels: int32 [N], the answer to each row, -1 where there is none.
      total: how many labels there will be once the budget is spent.
      key: breaks ties between classes.
    """

    first: Any
    counts: Int[Array, "*S C"]
    means: Float[Array, "*S C D"]
    bounds: class_means.Bounds
    labels: Int[Array, "*S N"]
    total: Int[Array, "*S"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Balanced(Strategy):
    """Follows `first`, then balances: each further pick lies near the mean of the known class with
    the fewest labels and far from the over-represented ones. The means follow every answer.

    Attributes:
      first: the strategy to begin with.
      denominator: of Eq. 9, see `balal.kernels.balancing.choose`.
      patience: misses before a class drops back, see `balal.kernels.balancing.wanted_class`.
      ties: between classes of equal count, see `balal.kernels.balancing.tie_rank`.
      at_mean: classes at the mean count, see `balal.kernels.switch.represented`.
      known_classes: classes that count as known, see `balal.kernels.switch.represented`.
      latch: once balancing, always balancing.

    The defaults are `min` with a patience of 3, which reach lower imbalance ratios than the rule as
    printed (`max`, endless patience) and do not get stuck; the latter is registered as
    `+balance_printed`.

    Costs `O(N C)` memory. A pick compares bounds of all rows and measures one or two rows. A matrix
    product of `O(32 N D)` brings the bounds up to date every twenty picks or so; with few classes
    it is one pass over the features per pick (see `balal.kernels.class_means`).

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, section 3.3.
    """

    first: Strategy
    denominator: balancing.Denominator = "min"
    patience: int | None = 3
    ties: balancing.Ties = "lowest"
    at_mean: switch.AtMean = "nowhere"
    known_classes: switch.KnownClasses = "found"
    latch: bool = True

    def __post_init__(self) -> None:
        check.strategy(self.first)
        balancing.patient(self.patience)
        check.option("denominator", self.denominator, balancing.Denominator)
        check.option("ties", self.ties, balancing.Ties)
        check.option("at_mean", self.at_mean, switch.AtMean)
        check.option("known_classes", self.known_classes, switch.KnownClasses)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.needs, "features")))

    @property
    def uses_chance(self) -> bool | None:
        return True if self.ties == "random" else member(self.first, "uses_chance")

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        features = fields.features(pool, name="balancing")
        capacity = labelled.indices.shape[0]
        switch.fits(capacity + largest_budget(labelled, budget), num_classes)
        memory = Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key),
            counts=jnp.zeros(num_classes, jnp.int32),
            means=jnp.zeros((num_classes, features.shape[1]), jnp.float32),
            bounds=class_means.begin(features, num_classes=num_classes, candidates=pool.candidates),
            labels=jnp.full(pool.num_rows, -1, jnp.int32),
            # When restarted in the middle of a budget, part of it is in `labelled` already, which
            # has room only for the rest.
            total=jnp.minimum(labelled.count + budget, jnp.maximum(capacity, budget)),
            # `first` gets the key itself, so that a strategy and its balanced form begin with the
            # same picks.
            key=jax.random.fold_in(key, 1),
        )

        def learn(number, memory):
            return _learn(memory, features, labelled.indices[number], labelled.labels[number])

        return jax.lax.fori_loop(jnp.int32(0), labelled.count.astype(jnp.int32), learn, memory)

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        rules: dict[str, Any] = dict(at_mean=self.at_mean, known_classes=self.known_classes)
        answers = jnp.where(labelled.indices >= 0, memory.labels[labelled.indices], -1)
        hopes = labelled_set.columns(labelled)["wanted"]
        left = memory.total - labelled.count
        switched = switch.switches(memory.counts, labelled.count, left, **rules)
        if self.latch:
            switched |= jnp.any(hopes >= 0)
        num_classes = memory.counts.shape[0]
        missed = balancing.misses(answers, hopes, num_classes=num_classes)
        tie_key = jax.random.fold_in(memory.key, labelled.count)
        rank = balancing.tie_rank(answers, num_classes=num_classes, key=tie_key, ties=self.ties)
        wanted = balancing.wanted_class(memory.counts, missed, rank, patience=self.patience)
        wanted = jnp.where(switched, wanted, -1)
        _, over = switch.represented(memory.counts, labelled.count, **rules)
        nearest, bounds = class_means.choose(
            memory.bounds,
            fields.features(pool, name="balancing"),
            memory.means,
            wanted,
            over,
            available(pool, labelled),
            denominator=self.denominator,
        )

        def follow():
            pick, first = self.first.ask(memory.first, pool, labelled)
            return pick.index, first

        # The bounds stay outside the branch, as it would copy them.
        index, first = jax.lax.cond(wanted >= 0, lambda: (nearest, memory.first), follow)
        return Pick(index, wanted), replace(memory, first=first, bounds=bounds)

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        memory = replace(memory, first=self.first.tell(memory.first, pool, index, label))
        return _learn(memory, fields.features(pool, name="balancing"), index, label)

    def grow(self, memory: Memory, num_classes: int) -> Memory | None:
        first = member(self.first, "grow")(memory.first, num_classes)
        if first is None and memory.first is not None:
            return None

        def pad(rows):
            return jnp.pad(rows, [(0, num_classes - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1))

        return replace(
            memory,
            first=first,
            counts=pad(memory.counts),
            means=pad(memory.means),
            bounds=class_means.grow(memory.bounds, num_classes),
        )

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        first = member(self.first, "flops")(num_rows, num_features, num_classes, budget)
        # Per pick: distances to one mean, three operations per number, and one ratio for each class
        # and row.
        own = float(budget) * num_rows * (3 * num_features + 3 * num_classes)
        return None if first is None else first + own

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        counts = np.asarray(memory.counts)

        def sentence(wanted: int) -> str:
            known = f"{names.of_target(wanted)} ({plural(int(counts[wanted]), 'label')})"
            return f"aimed at {known}, which is rare so far"

        return reasons_of_rule(sentence, self.first, memory.first, pool, labelled, picks, names)


def _learn(
    memory: Memory, features: Float[Array, "N D"], index: Int[Array, ""], label: Int[Array, ""]
) -> Memory:
    """Adds one answer to the mean of its class. Label -1: not answered yet."""
    answered, num_classes = label >= 0, memory.counts.shape[0]
    column = jnp.where(answered, label, num_classes)
    counts = memory.counts.at[column].add(1, mode="drop")
    # A running mean, not a sum: a large common offset of the features costs it no precision.
    before = memory.means[label]
    row = sharding.fetch(features, index).astype(jnp.float32)
    mean = before + (row - before) / jnp.maximum(counts[label], 1).astype(jnp.float32)
    length = jnp.sqrt(jnp.sum(jnp.square(mean - before)))
    length = jnp.where(counts[label] == 1, jnp.inf, length)
    means = xla.run_if(
        # Runs once nothing reads the old means any more: the compiler would copy them otherwise.
        answered & (length >= 0),
        lambda means: means.at[column].set(mean, mode="drop"),
        memory.means,
    )
    return replace(
        memory,
        counts=counts,
        means=means,
        bounds=class_means.move(memory.bounds, column, length),
        labels=memory.labels.at[jnp.where(answered, index, len(memory.labels))].set(
            label, mode="drop"
        ),
    )
