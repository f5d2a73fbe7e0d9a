"""Balancing around any strategy: follow it until the switch (Eq. 8), then aim every label at the
rarest class found (Eq. 9)."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from balal import check, labelled_set, sharding
from balal.kernels import balancing, class_means
from balal.strategies.base import Budget, Strategy, largest_budget
from balal.types import Labelled, Pool, available


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """first: the memory of the first strategy. counts: [C] and means: [C, D] of the answers.
    bounds: on the distances of the rows to the means. total: labels there will be when the budget
    is spent. wanted: what the last pick hoped for."""

    first: Any
    counts: Int[Array, "*S C"]
    means: Float[Array, "*S C D"]
    bounds: class_means.Bounds
    total: Int[Array, "*S"]
    key: Key[Array, "*S"]
    wanted: Int[Array, "*S"]


@dataclass(frozen=True)
class Balanced:
    """Follows `first`, then balances: each further pick lies near the mean of the known class with
    the fewest labels and far from the over-represented ones. The means follow every answer.

    first: the strategy to begin with. denominator, patience, ties: of the choice, see
    `balal.kernels.balancing.choose`, `wanted_class` and `tie_rank`. at_mean, known_classes: of the
    switch, see `balal.kernels.balancing.switches`. latch: once balancing, always balancing.

    The defaults are `min` with a patience of 3, which reach lower imbalance ratios than the rule as
    printed (`max`, endless patience) and do not get stuck; the latter is registered as
    `+balance_printed`.

    Costs `O(N C)` memory. A pick looks at all rows through bounds and measures one or two of them.
    A matrix product of `O(32 N D)` brings the bounds up to date every twenty picks or so; with few
    classes it is one pass over the features a pick (see `balal.kernels.class_means`).

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, section 3.3.
    """

    first: Strategy
    denominator: balancing.Denominator = "min"
    patience: int | None = 3
    ties: balancing.Ties = "lowest"
    at_mean: balancing.AtMean = "nowhere"
    known_classes: balancing.KnownClasses = "found"
    latch: bool = True

    def __post_init__(self) -> None:
        check.strategy(self.first)
        balancing.patient(self.patience)
        check.option("denominator", self.denominator, balancing.Denominator)
        check.option("ties", self.ties, balancing.Ties)
        check.option("at_mean", self.at_mean, balancing.AtMean)
        check.option("known_classes", self.known_classes, balancing.KnownClasses)

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.first.needs, "features")))

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        features = _features(pool)
        places = labelled.indices.shape[0]
        balancing.fits(places + largest_budget(labelled, budget), num_classes)
        memory = Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key),
            counts=jnp.zeros(num_classes, jnp.int32),
            means=jnp.zeros((num_classes, features.shape[1]), jnp.float32),
            bounds=class_means.begin(features, num_classes=num_classes, candidates=pool.candidates),
            # Begun anew in the middle of a budget, part of it is in `labelled` already: the record
            # has no room for more than the rest.
            total=jnp.minimum(labelled.count + budget, jnp.maximum(places, budget)),
            # `first` has the key itself, so that a strategy and its balanced form begin with the
            # same picks.
            key=jax.random.fold_in(key, 1),
            wanted=jnp.int32(-1),
        )

        def start(place, memory):
            return _add(memory, features, labelled.indices[place], labelled.labels[place])

        return jax.lax.fori_loop(jnp.int32(0), labelled.count.astype(jnp.int32), start, memory)

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Memory]:
        wanted_so_far = labelled_set.columns(labelled)["wanted"]
        rules = dict(at_mean=self.at_mean, known_classes=self.known_classes)
        switched = balancing.switches(
            memory.counts, labelled.count, memory.total - labelled.count, **rules
        )
        if self.latch:
            switched |= jnp.any(wanted_so_far >= 0)
        num_classes = memory.counts.shape[0]
        missed = balancing.misses(labelled.labels, wanted_so_far, num_classes=num_classes)
        tie_key = jax.random.fold_in(memory.key, labelled.count)
        rank = balancing.tie_rank(
            labelled.labels, num_classes=num_classes, key=tie_key, ties=self.ties
        )
        wanted = balancing.wanted_class(memory.counts, missed, rank, patience=self.patience)
        wanted = jnp.where(switched, wanted, -1)
        _, over = balancing.represented(memory.counts, labelled.count, **rules)
        pick, known = class_means.choose(
            memory.bounds,
            _features(pool),
            memory.means,
            wanted,
            over,
            available(pool, labelled),
            denominator=self.denominator,
        )
        # The bounds stay outside the branch, which would copy them.
        pick, first = jax.lax.cond(
            wanted >= 0,
            lambda: (pick, memory.first),
            lambda: self.first.ask(memory.first, pool, labelled),
        )
        return pick, replace(memory, first=first, bounds=known, wanted=wanted)

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        memory = replace(memory, first=self.first.tell(memory.first, pool, index, label))
        return _add(memory, _features(pool), index, label)

    def guess(self, memory: Memory, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        del pool, index
        return memory.wanted

    def grow(self, memory: Memory, num_classes: int) -> Memory:
        def pad(rows):
            return jnp.pad(rows, [(0, num_classes - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1))

        return replace(
            memory,
            first=self.first.grow(memory.first, num_classes),
            counts=pad(memory.counts),
            means=pad(memory.means),
            bounds=class_means.grow(memory.bounds, num_classes),
        )


def _add(
    memory: Memory, features: Float[Array, "N D"], index: Int[Array, ""], label: Int[Array, ""]
) -> Memory:
    """One answer enters its class's mean. Label -1: not answered yet."""
    place = jnp.where(label >= 0, label, memory.counts.shape[0])
    counts = memory.counts.at[place].add(1, mode="drop")
    # A running mean, not a sum: a large common offset of the features costs it no precision.
    before = memory.means[label]
    mean = before + (sharding.fetch(features, index).astype(jnp.float32) - before) / jnp.maximum(
        counts[label], 1
    )
    length = jnp.where(counts[label] == 1, jnp.inf, jnp.sqrt(jnp.sum(jnp.square(mean - before))))
    # A loop of one round or none, which begins once nothing reads the means as they were: the
    # compiler would copy them all otherwise.
    rounds = ((label >= 0) & (length >= 0)).astype(jnp.int32)
    means = jax.lax.fori_loop(
        0, rounds, lambda _, means: means.at[place].set(mean, mode="drop"), memory.means
    )
    return replace(
        memory,
        counts=counts,
        means=means,
        bounds=class_means.move(memory.bounds, place, length),
    )


def _features(pool: Pool) -> Float[Array, "N D"]:
    if pool.features is None:
        raise ValueError("balancing needs features: make the pool with balal.pool(features)")
    return pool.features
