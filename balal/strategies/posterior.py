"""The posterior rule, around any strategy or on its own: ask where a rare or unseen class is likely
and much is still to be learnt."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from balal import check, sharding
from balal.kernels import gaussian_process, sampling
from balal.kernels.ordering import argmax
from balal.kernels.typicality import typicality_ranks
from balal.strategies.base import Budget, Strategy, largest_budget
from balal.types import Labelled, Pool, available

# Numbers in the columns of the exact form above which it gives way to landmarks (4 GB), and how
# many these are.
_EXACT = 2**30
_LANDMARKS = 1024
# Utilities closer than this share are ties: sums over hundreds of float32 columns cannot tell them
# apart.
_TIE = 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """first: the memory of the first strategy. process: of the answers there were at the last look
    at the whole pool. near: [n], the rows that were worth most then, rising, and those answered
    until then but not in the process; -1: none. nearby: the process on those, of all answers.
    typicality: [N], of every row of the pool. key: of the very first pick. wanted: what the last
    pick hoped for."""

    first: Any
    process: gaussian_process.GaussianProcess
    near: Int[Array, "*S n"]
    nearby: gaussian_process.GaussianProcess
    typicality: Float[Array, "*S N"]
    key: Key[Array, "*S"]
    wanted: Int[Array, "*S"]


@dataclass(frozen=True)
class Posterior:
    """Follows `first` for a few labels, then asks the row whose label is expected to be worth most.

    A label of a class with n labels is worth `1 / (n + 1)`, and 1 where no label has shown what the
    row is. The expectation is that of a Gaussian process over the pool
    (`balal.kernels.gaussian_process`). It is multiplied by the variance left, so that a row which
    resembles labelled ones is not asked for what is known already, and falls by up to `typical` for
    rows that are not typical of their surroundings. Needs no source classifier of its own, no list
    of classes and no budget: the picks for a small one are the first ones of a larger one, as long
    as both are exact.

    first: the strategy to begin with; None: the posterior from the very beginning. start: how many
    answers there are when it takes over, those known from the outset included. every, near: the
    whole pool is looked at after 1, 2, 4, ... answers, and after every `every` of them; in between,
    only the `near` rows that were worth most then. A pool of no more rows needs no such looks.
    typical: the share of its worth that the least typical row loses. sharpness, scale, noise: see
    `balal.kernels.gaussian_process.explain` and `begin`. target: what a label of each class is
    worth, numbers of at least 0, beside the fall with n (None: 1 for all); unseen classes and those
    beyond its end are worth its mean. landmarks: how many for the bounded form; None: exact up to
    1,024 labels, or while the columns hold at most 2^30 numbers, and 1,024 landmarks above.

    Costs `O(N (D + C + b))` memory and, for label m, `O(N (D + C + m))` time, most of it in one
    matrix product for every 16 labels; at the beginning `O(N^2 D)` once, which a pool made with
    `balal.pool(..., typicality=True)` has done already.

    Source: this library.
    """

    first: Strategy | None = None
    start: int = 10
    every: int = 16
    near: int = 2048
    typical: float = 0.5
    sharpness: int = 2
    scale: float = 1.0
    noise: float = 0.1
    target: tuple[float, ...] | None = None
    landmarks: int | None = None

    def __post_init__(self) -> None:
        if self.first is not None:
            check.strategy(self.first)
        whole = dict(start=0, every=1, near=1, sharpness=1) | (
            {} if self.landmarks is None else dict(landmarks=1)
        )
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if self.sharpness > 8:
            raise ValueError(
                f"sharpness must be at most 8, or powers of small means underflow, got "
                f"{self.sharpness}"
            )
        if not 0 <= self.typical <= 1:
            raise ValueError(f"typical is a share, between 0 and 1, got {self.typical!r}")
        if not 0 < self.scale < math.inf or not 0 < self.noise < math.inf:
            raise ValueError(
                f"scale and noise must be above 0 and finite, got {self.scale!r} and {self.noise!r}"
            )
        if self.target is not None and not (
            isinstance(self.target, tuple)
            and self.target
            and all(0 <= w < math.inf for w in self.target)
        ):
            raise ValueError(
                f"target must be a tuple of finite numbers of at least 0, one a class, got "
                f"{self.target!r}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.first.needs if self.first else ()), "features")))

    def landmarks_for(self, rows: int, places: int) -> int | None:
        """How many landmarks it takes for a pool of so many rows and so many labels; None: the
        exact form."""
        too_many = places > _LANDMARKS and rows * places > _EXACT
        return _LANDMARKS if self.landmarks is None and too_many else self.landmarks

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        if pool.features is None:
            raise ValueError(
                "the posterior needs features: make the pool with balal.pool(features)"
            )
        if self.target is not None and len(self.target) > num_classes:
            raise ValueError(f"target has {len(self.target)} weights for {num_classes} classes")
        places = max(labelled.indices.shape[0], largest_budget(labelled, budget))
        typicality = (
            typicality_ranks(pool.features, candidates=pool.candidates)
            if pool.typicality is None
            else pool.typicality
        )
        process = gaussian_process.begin(
            pool.features,
            capacity=places,
            num_classes=num_classes,
            candidates=pool.candidates,
            # Plus 0: the tables begin when typicality, a share, is known, which needs the room
            # before.
            scale=self.scale + jnp.where(jnp.max(typicality) > 2, 1.0, 0.0),
            noise=self.noise,
            landmarks=self.landmarks_for(pool.size, places),
        )
        # Beside the rows to choose from there is room for those answered since the last look. Where
        # the whole pool is near, it stays so.
        rows = (
            jnp.arange(pool.size, dtype=jnp.int32)
            if self._all_near(pool)
            else jnp.full(self.near, -1, jnp.int32)
        )
        near = jnp.pad(rows, (0, self.every), constant_values=-1)
        return Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key) if self.first else None,
            process=process,
            near=near,
            nearby=gaussian_process.restrict(process, jnp.maximum(near, 0)),
            typicality=typicality,
            # `first` has the key itself, so that a strategy begins with the same picks whatever
            # takes over from it.
            key=jax.random.fold_in(key, 1),
            wanted=jnp.int32(-1),
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Memory]:
        told, free = labelled.labels >= 0, available(pool, labelled)
        number = jnp.cumsum(told, dtype=jnp.int32)
        answers = number[-1]
        chooses = jnp.bool_(self.first is None) | (answers >= self.start)
        looked_at = self._look_before(answers)
        near_rows = (
            jnp.zeros(pool.size, bool)
            .at[jnp.where(memory.near >= 0, memory.near, pool.size)]
            .set(True, mode="drop")
        )
        answered_elsewhere = jnp.any(
            told & (number > memory.nearby.count) & ~near_rows[labelled.indices]
        )
        stale = (memory.process.count < looked_at) | answered_elsewhere | ~jnp.any(free & near_rows)

        # A loop of one round or none: a branch would copy the process.
        def look(_, memory):
            return self._look(memory, pool, labelled, number, looked_at, free)

        def learn(memory):
            place = jnp.argmax(told & (number == memory.nearby.count + 1))
            here = jnp.argmax(memory.near == labelled.indices[place])
            return replace(
                memory, nearby=gaussian_process.update(memory.nearby, here, labelled.labels[place])
            )

        if not self._all_near(pool):
            memory = jax.lax.fori_loop(0, (chooses & stale).astype(jnp.int32), look, memory)
        memory = jax.lax.while_loop(
            lambda memory: chooses & (memory.nearby.count < answers), learn, memory
        )

        def choose():
            values = self._values(memory, memory.nearby, memory.near)
            place = argmax(values, free[memory.near] & (memory.near >= 0), tolerance=_TIE)
            pick = jnp.where(place >= 0, memory.near[place], -1)
            return pick, memory.first, jnp.where(place >= 0, self._wanted(memory.nearby, place), -1)

        def follow():
            assert self.first is not None
            pick, first = self.first.ask(memory.first, pool, labelled)
            return pick, first, self.first.guess(first, pool, pick)

        pick, first, wanted = (
            choose() if self.first is None else jax.lax.cond(chooses, choose, follow)
        )
        return pick, replace(memory, first=first, wanted=wanted)

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        # The process learns of it when it is asked next.
        return (
            replace(memory, first=self.first.tell(memory.first, pool, index, label))
            if self.first
            else memory
        )

    def guess(self, memory: Memory, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        del pool, index
        return memory.wanted

    def grow(self, memory: Memory, num_classes: int) -> Memory:
        def wider(process: gaussian_process.GaussianProcess) -> gaussian_process.GaussianProcess:
            more = num_classes - process.counts.shape[0]
            return replace(
                process,
                mean=jnp.pad(process.mean, ((0, more), (0, 0))),
                counts=jnp.pad(process.counts, (0, more)),
            )

        first = self.first.grow(memory.first, num_classes) if self.first else None
        return replace(
            memory, first=first, process=wider(memory.process), nearby=wider(memory.nearby)
        )

    def _all_near(self, pool: Pool) -> bool:
        """Whether the rows to choose from are the whole pool, which then needs no other look."""
        return self.near >= pool.size

    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        """After how many of the answers the whole pool was last looked at: a whole power of 2, then
        a multiple of `every`."""
        power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(answers, 1)))
        return jnp.where(
            answers == 0,
            0,
            jnp.where(answers < self.every, power, answers // self.every * self.every),
        ).astype(jnp.int32)

    def _look(
        self, memory: Memory, pool: Pool, labelled: Labelled, number, looked_at, free
    ) -> Memory:
        """The memory with a process of the first `looked_at` answers, the rows that are worth most
        by it, and those answered since, near.

        Made of the answers alone, so that it does not matter what was looked at before. number:
        [B], of each answer in their order.
        """
        told = labelled.labels >= 0

        def some(begin, end):
            (places,) = jnp.nonzero(
                told & (number > begin) & (number <= end), size=self.every, fill_value=-1
            )
            return places >= 0, labelled.indices[places], labelled.labels[places]

        def learn(process):
            here, rows, labels = some(process.count, looked_at)
            return gaussian_process.update(
                process, jnp.where(here, rows, 0), jnp.where(here, labels, -1)
            )

        process = jax.lax.while_loop(
            lambda process: process.count < looked_at, learn, memory.process
        )
        known = (
            jnp.zeros(pool.size, bool)
            .at[jnp.where(told & (number <= looked_at), labelled.indices, pool.size)]
            .set(True, mode="drop")
        )
        candidates = ~known if pool.candidates is None else pool.candidates & ~known
        values = self._values(memory, process)

        def best(among):
            return jnp.sort(
                sharding.top_k(jnp.where(among, values, -jnp.inf), memory.near.size - self.every)[1]
            )

        def next_best(carry):
            candidates, near = carry
            candidates = candidates.at[near].set(False)
            return candidates, best(candidates)

        def all_taken(carry):
            # Banned, or waiting for their answers.
            candidates, near = carry
            return jnp.any(free & candidates) & ~jnp.any(free[near])

        _, near = jax.lax.while_loop(all_taken, next_best, (candidates, best(candidates)))
        here, rows, _ = some(looked_at, number[-1])
        near = jnp.concatenate([near, jnp.where(here, rows, -1)]).astype(jnp.int32)
        return replace(
            memory,
            process=process,
            near=near,
            nearby=gaussian_process.restrict(process, jnp.maximum(near, 0)),
        )

    def _values(
        self,
        memory: Memory,
        process: gaussian_process.GaussianProcess,
        rows: Int[Array, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """What asking each of some rows is worth, by the process on them (None: all)."""

        def of(values):
            return values if rows is None else values[rows]

        def expected():
            worth, unseen = self._worth(process.counts)
            values = gaussian_process.utility(process, worth, unseen, sharpness=self.sharpness)
            return values * (1 - self.typical * (1 - of(memory.typicality)))

        def drawn():
            # Before any label all rows are worth the same: the first one is drawn.
            return of(sampling.random_bits(memory.key, memory.typicality.size)).astype(jnp.float32)

        return jax.lax.cond(process.count > 0, expected, drawn)

    def _worth(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        """What one more label of each class is worth, [C], and one of a class not seen yet."""
        worth = 1 / (counts + 1).astype(jnp.float32)
        if self.target is None:
            return worth, jnp.float32(1)
        target = jnp.asarray(self.target, jnp.float32)
        target = jnp.concatenate([target, jnp.full(len(counts) - len(target), jnp.mean(target))])
        missing = counts == 0
        return worth * target, jnp.sum(jnp.where(missing, target, 0)) / jnp.maximum(
            jnp.sum(missing), 1
        )

    def _wanted(
        self, process: gaussian_process.GaussianProcess, pick: Int[Array, ""]
    ) -> Int[Array, ""]:
        """The class a pick is asked in the hope of: that with the largest share in its utility.

        A pick that hopes for something unseen stands for the first class without a label, while
        there is room for one, so that the next picks of a batch look elsewhere.
        """
        worth, unseen = self._worth(process.counts)
        one = replace(
            process, mean=process.mean[:, pick][:, None], variance=process.variance[pick][None]
        )
        probabilities, unexplained = gaussian_process.explain(one, sharpness=self.sharpness)
        shares = probabilities[0] * worth
        free = jnp.argmax(process.counts == 0)
        hope_unseen = (unexplained[0] * unseen >= jnp.max(shares)) & jnp.any(process.counts == 0)
        return jnp.where(hope_unseen, free, jnp.argmax(shares)).astype(jnp.int32)
