"""What rules that ask by a Gaussian process of all answers have in common: what they keep, and when
they look at the whole pool."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check, labelled_set, sharding, xla
from balal.kernels import gaussian_process, sampling, typicality
from balal.kernels.neighbours import Neighbours
from balal.kernels.ordering import argmax
from balal.strategies import fields
from balal.strategies.base import (
    Budget,
    Names,
    Strategy,
    largest_budget,
    member,
    prepared,
    reasons_of_rule,
)
from balal.types import Labelled, Pick, Pool, askable, available
from balal.wording import plural

# With more than `_EXACT` numbers in its columns (4 GB) the exact form gives way to `_LANDMARKS`
# landmarks.
_EXACT = 2**30
_LANDMARKS = 1024
# How many of a row's nearest rows say whether it is worth looking at.
_NEIGHBOURS = 16
# Gains closer than this share are ties: sums over thousands of float32 numbers cannot distinguish
# them.
_TIE = 1e-5


# Ranks of typicality [N], and the rows nearest to each.
Surroundings = tuple[Float[Array, " N"], Neighbours]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Near:
    """What is looked at between two looks at the whole pool: rows to choose from, those answered
    since, and rows that stand for the others.

    Attributes:
      rows: int32 [n], of the pool; -1: none. The first m may be asked for, or have been.
      weights: [n], how many rows of the pool each stands for; 0 for those that are answered.
      typical: [n], ranks of typicality.
      copies: [n], what an answer of a row says of the row nearest to it.
      process: the Gaussian process on them, with all answers, as the rule's `_localise` makes it.
    """

    rows: Int[Array, "*S n"]
    weights: Float[Array, "*S n"]
    typical: Float[Array, "*S n"]
    copies: Float[Array, "*S n"]
    process: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What a rule knows so far.

    Attributes:
      first: the memory of the first strategy.
      answers: the answers in order; the process takes them in at the next `ask`.
      process: of the answers at the last look at the whole pool.
      near: what was chosen at that look, and learnt since.
      key: of the draws.
    """

    first: Any
    answers: Labelled
    process: gaussian_process.GaussianProcess
    near: Near
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class ProcessRule(Strategy, ABC):
    """Follows `first` for a few labels, then asks by what a Gaussian process over the pool makes of
    all answers.

    Small pools are always seen as a whole. Of others the whole is looked at now and then; in
    between, rows are chosen from those that promised most, and their gains are found on them and on
    others that stand for the pool. What a look finds follows from the answers alone.

    Attributes:
      first: the strategy to begin with; None: the rule from the very beginning.
      start: how many answers there are when it takes over, including those known at the start.
      target: weights of the classes, at least 0, by which the worth of their labels is multiplied
        (None: 1 for all). Classes beyond its end get its mean; an unknown class gets the mean of
        all unseen classes.
      near: how many rows are chosen from between two looks at the whole pool. A pool with no more
        rows than that is always looked at as a whole.
      drawn: how many rows are drawn to stand for the others of the pool then.
      every: the most answers between two looks, a power of 2.
      typical: the share of its worth that the least typical row loses.
      sharpness: see `balal.kernels.gaussian_process.explain`.
      scale: see `balal.kernels.gaussian_process.begin`.
      noise: see `balal.kernels.gaussian_process.begin`.
      landmarks: how many for the bounded form; None: exact up to 1,024 labels, or while the columns
        hold at most 2^30 numbers, and 1,024 landmarks above.

    Costs `O(N (D + C + b))` memory and, for label m, `O(near (near + drawn) + N (D + C + m))` time,
    the latter in one matrix product for all labels between two looks. It prepares the surroundings
    of a pool's rows once, see `balal.kernels.typicality.typicality_ranks`.
    """

    first: Strategy | None = None
    start: int = 10
    target: tuple[float, ...] | None = None
    near: int = 256
    drawn: int = 1792
    every: int = 64
    typical: float = 0.5
    sharpness: int = 2
    scale: float | tuple[float, ...] = (2.0, 1.0, 0.5)
    noise: float = 0.1
    landmarks: int | None = None

    def __post_init__(self) -> None:
        if self.first is not None:
            check.strategy(self.first)
        whole = dict(start=0, every=1, near=1, drawn=0, sharpness=1) | (
            {} if self.landmarks is None else dict(landmarks=1)
        )
        for name, least in whole.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if self.every & (self.every - 1):
            raise ValueError(f"every must be a power of 2, got {self.every}")
        if self.sharpness > 8:
            raise ValueError(
                f"sharpness must be at most 8, or powers of small means underflow, got "
                f"{self.sharpness}"
            )
        if not 0 <= self.typical <= 1:
            raise ValueError(f"typical must be a share between 0 and 1, got {self.typical!r}")
        scales = self.scale if isinstance(self.scale, tuple) else (self.scale,)
        if not scales or not all(0 < value < math.inf for value in (*scales, self.noise)):
            raise ValueError(
                f"scale and noise must be above 0 and finite, got {self.scale!r} and {self.noise!r}"
            )
        if self.target is not None and not (
            isinstance(self.target, tuple)
            and self.target
            and all(0 <= w < math.inf for w in self.target)
        ):
            raise ValueError(
                f"target must be a tuple of finite numbers of at least 0, one for each class, got "
                f"{self.target!r}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.first.needs if self.first else ()), "features")))

    @property
    def uses_chance(self) -> bool | None:
        # Large pools are represented by rows that are drawn.
        own = self.first is None or self.start == 0
        return True if own else member(self.first, "uses_chance")

    @property
    def nested(self) -> bool:
        return self.first is None or member(self.first, "nested")

    @property
    def prepared_key(self) -> str:
        return "surroundings"

    def landmarks_for(self, num_rows: int, capacity: int) -> int | None:
        """How many landmarks it uses for so many rows and labels; None: the exact form."""
        too_many = capacity > _LANDMARKS and num_rows * capacity > _EXACT
        return _LANDMARKS if self.landmarks is None and too_many else self.landmarks

    def prepare(self, pool: Pool) -> Surroundings:
        features = fields.features(pool, name="the posterior")
        return typicality.surroundings(jnp.asarray(features), pool.candidates, k=_NEIGHBOURS)

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        features = fields.features(pool, name="the posterior")
        if self.target is not None and len(self.target) > num_classes:
            raise ValueError(f"target has {len(self.target)} weights for {num_classes} classes")
        room = labelled.indices.shape[0]
        capacity = max(room, largest_budget(labelled, budget))
        surroundings = prepared(self, pool)
        process = gaussian_process.begin(
            features,
            capacity=capacity,
            num_classes=num_classes,
            candidates=pool.candidates,
            # Surroundings, if they are computed here, need the memory that the tables take
            # afterwards.
            scale=xla.after(jnp.asarray(self.scale, jnp.float32), jnp.max(surroundings[0])),
            noise=self.noise,
            landmarks=self.landmarks_for(pool.num_rows, capacity),
        )
        everything = jnp.arange(pool.num_rows, dtype=jnp.int32)
        if self._all_near(pool):
            weights = askable(pool.candidates, pool.num_rows).astype(jnp.float32)
            near = self._near(process, surroundings, everything, weights, pool.num_rows)
        else:
            number = self.near + self.every + self._drawn(pool)
            near = self._near(
                process,
                surroundings,
                jnp.full(number, -1, jnp.int32),
                jnp.zeros(number, jnp.float32),
            )
        return Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key) if self.first else None,
            answers=labelled_set.extend(labelled_set.answered(labelled), capacity - room),
            process=process,
            near=near,
            # `first` gets the key itself, so that a strategy begins with the same picks whatever
            # takes over from it.
            key=jax.random.fold_in(key, 1),
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        free, answers = available(pool, labelled), memory.answers
        number = jnp.arange(len(answers.indices), dtype=jnp.int32)
        chooses = jnp.bool_(self.first is None) | (answers.count >= self.start)

        if not self._all_near(pool):
            looked_at, near = self._look_before(answers.count), memory.near
            inside = self._choosable(near)
            inside = jnp.zeros(pool.num_rows, bool).at[inside].set(True, mode="drop")
            unlearnt = (number >= near.process.count) & (number < answers.count)
            stale = (
                (memory.process.count < looked_at)
                | jnp.any(unlearnt & ~inside[answers.indices])
                | ~jnp.any(free & inside)
            )
            memory = xla.run_if(
                chooses & stale,
                lambda memory: self._look(memory, pool, prepared(self, pool), looked_at, free),
                memory,
            )
        memory = jax.lax.while_loop(
            lambda memory: chooses & (memory.near.process.count < answers.count),
            lambda memory: replace(memory, near=self._learn(memory.near, answers)),
            memory,
        )

        def choose():
            near = memory.near
            rows = self._choosable(near)
            best = argmax(
                self._gains(memory),
                (rows < pool.num_rows) & free[rows % pool.num_rows],
                tolerance=_TIE,
            )
            index = jnp.where(best >= 0, rows[best], -1)
            wanted = jnp.where(best >= 0, self._wanted(near.process, best), -1)
            return Pick(index, wanted), memory.first

        def follow():
            assert self.first is not None
            return self.first.ask(memory.first, pool, labelled)

        if self.first is None:
            pick, first = choose()
        else:
            pick, first = jax.lax.cond(chooses, choose, follow)
        return pick, replace(memory, first=first)

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        first = self.first.tell(memory.first, pool, index, label) if self.first else None
        answered = jnp.where(label >= 0, index, -1)
        return replace(
            memory, first=first, answers=labelled_set.append(memory.answers, answered, label, -1)
        )

    def grow(self, memory: Memory, num_classes: int) -> Memory | None:
        first = member(self.first, "grow")(memory.first, num_classes) if self.first else None
        if first is None and memory.first is not None:
            return None

        def wider(process):
            more = num_classes - process.counts.shape[0]
            return replace(
                process,
                mean=jnp.pad(process.mean, ((0, more), (0, 0))),
                counts=jnp.pad(process.counts, (0, more)),
            )

        near = replace(memory.near, process=wider(memory.near.process))
        return replace(memory, first=first, process=wider(memory.process), near=near)

    def stages(self) -> tuple[tuple[Strategy, int | None], ...]:
        # Separate, so that one program of the posterior serves all first strategies.
        if self.first is None or member(self.first, "adaptive"):
            return ((self, None),)
        return ((self.first, self.start), (replace(self, first=None), None))

    def aim(self, weights: tuple[float, ...]) -> "ProcessRule":
        return replace(self, target=weights)

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        """Neighbours once, columns and means for every label, covariances and utilities for every
        look, gains for every label."""
        if self.first is None:
            first = 0.0
        else:
            begun = min(self.start, budget)
            first = member(self.first, "flops")(num_rows, num_features, num_classes, begun)
        if first is None:
            return None
        near = min(self.near, num_rows)
        among = min(near + self.drawn, num_rows)
        neighbours = typicality.flops(num_rows, num_features)
        looks = min(budget, 4 * math.ceil(math.log2(4 * self.every))) + budget // self.every
        landmarks = self.landmarks_for(num_rows, budget)
        related = 2.0 * num_features + budget if landmarks is None else 2.0 * landmarks
        columns = float(budget) * num_rows * (related + 2 * num_classes)
        if landmarks is not None:
            columns += float(num_rows) * landmarks * (2 * num_features + landmarks)
        covariances = float(looks) * near * among * related
        gains = float(budget) * among * (7 * near + 6 * num_classes)
        utilities = 6.0 * looks * num_rows * num_classes
        return first + neighbours + columns + covariances + gains + utilities

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        answers = np.asarray(memory.answers.labels)
        counts = np.bincount(answers[answers >= 0], minlength=memory.process.counts.shape[0])

        def sentence(wanted: int) -> str:
            if wanted < 0 or not counts[wanted]:
                return "explains most; like nothing labelled so far"
            known = f"{names.of_target(wanted)} ({plural(int(counts[wanted]), 'label')})"
            return f"explains most; of what is labelled most like {known}"

        if self.first is None:
            return [sentence(wanted) for wanted in np.asarray(picks.wanted).tolist()]
        return reasons_of_rule(sentence, self.first, memory.first, pool, labelled, picks, names)

    def _all_near(self, pool: Pool) -> bool:
        """Whether the rows to choose from are the whole pool, which then needs no separate look."""
        return self.near >= pool.num_rows

    def _drawn(self, pool: Pool) -> int:
        """How many rows of a pool that is not near as a whole are drawn to stand for it."""
        return min(self.drawn, pool.num_rows - self.near)

    def _choosable(self, near: Near) -> Int[Array, " m"]:
        """The rows that may be asked for, or were since the last look; beyond the pool: none."""
        rows = near.rows[: self.near + self.every]
        return jnp.where(rows >= 0, rows, jnp.iinfo(jnp.int32).max)

    def _near(
        self,
        process: gaussian_process.GaussianProcess,
        surroundings: Surroundings,
        rows: Int[Array, " n"],
        weights: Float[Array, " n"],
        number: int | None = None,
    ) -> Near:
        """The rows with the process on them; the first `number` may be asked for."""
        there = jnp.maximum(rows, 0)
        typical, found = surroundings
        number = self.near + self.every if number is None else number
        return Near(
            rows=rows,
            weights=weights,
            typical=typical[there],
            copies=in_common(
                Neighbours(found.indices[there, :1], found.distances[there, :1]),
                process.relation.bandwidths,
            )[:, 0],
            process=self._localise(process, there, number),
        )

    def _learn(self, near: Near, answers: Labelled) -> Near:
        """With one more answer, of a row among those to choose from."""
        row, label = (c[near.process.count] for c in (answers.indices, answers.labels))
        here = jnp.argmax(self._choosable(near) == row)
        return replace(
            near,
            weights=jnp.where(near.rows == row, 0, near.weights),
            process=self._take_in(near.process, here, label),
        )

    def _look(
        self, memory: Memory, pool: Pool, surroundings: Surroundings, looked_at, free
    ) -> Memory:
        """The memory with a process of the first `looked_at` answers, and what is near by it.

        It depends on the answers alone, not on earlier looks.
        """
        answers = memory.answers

        def some(begin, end):
            number = begin + jnp.arange(self.every, dtype=jnp.int32)
            there = number < end
            number = jnp.minimum(number, len(answers.indices) - 1)
            return there, answers.indices[number], answers.labels[number]

        def learn(process):
            there, rows, labels = some(process.count, looked_at)
            return gaussian_process.update(
                process, jnp.where(there, rows, 0), jnp.where(there, labels, -1)
            )

        process = jax.lax.while_loop(
            lambda process: process.count < looked_at, learn, memory.process
        )
        learnt = jnp.arange(len(answers.indices), dtype=jnp.int32) < looked_at
        candidates = askable(pool.candidates, pool.num_rows)
        candidates = candidates.at[jnp.where(learnt, answers.indices, pool.num_rows)].set(
            False, mode="drop"
        )
        promising, left = self._promising(memory.key, process, surroundings, candidates)
        chosen = self._most_promising(promising, candidates, free)
        drawn, weights = sampling.draw(
            jax.random.fold_in(memory.key, looked_at),
            left.at[chosen].set(0),
            self._drawn(pool),
        )
        there, since, _ = some(looked_at, answers.count)
        since = jnp.where(there, since, -1)
        own = candidates[chosen].astype(jnp.float32)
        return replace(
            memory,
            process=process,
            near=self._near(
                process,
                surroundings,
                jnp.concatenate([chosen, since, drawn]).astype(jnp.int32),
                jnp.concatenate([own, jnp.zeros(self.every, jnp.float32), weights]),
            ),
        )

    def _most_promising(
        self,
        promising: Float[Array, " N"],
        candidates: Bool[Array, " N"],
        free: Bool[Array, " N"],
    ) -> Int[Array, " near"]:
        """The candidates that promise most, ascending; if none of them is free, the next ones."""

        def largest(among):
            return jnp.sort(sharding.top_k(jnp.where(among, promising, -jnp.inf), self.near)[1])

        def next_largest(carry):
            candidates, chosen = carry
            candidates = candidates.at[chosen].set(False)
            return candidates, largest(candidates)

        def all_taken(carry):
            # All of them are excluded, or waiting for their answers.
            candidates, chosen = carry
            return jnp.any(free & candidates) & ~jnp.any(free[chosen])

        return jax.lax.while_loop(all_taken, next_largest, (candidates, largest(candidates)))[1]

    def _localise(
        self, process: gaussian_process.GaussianProcess, rows: Int[Array, " n"], number: int
    ) -> Any:
        """The process on some rows, the first `number` of which may be asked for."""
        return gaussian_process.localise(process, rows, number)

    def _take_in(self, process: Any, place: Int[Array, ""], label: Int[Array, ""]) -> Any:
        """A process of `_localise` after one more answer, of the row at a place."""
        return gaussian_process.learn(process, place, label)

    # What a rule adds.

    @abstractmethod
    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        """How many answers there were at the last look at the whole pool: none after more than
        `every` others."""

    @abstractmethod
    def _promising(
        self,
        key: Key[Array, ""],
        process: gaussian_process.GaussianProcess,
        surroundings: Surroundings,
        candidates: Bool[Array, " N"],
    ) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        """How worthwhile it is to choose from each row until the next look; and the rates at which
        others are drawn to stand for the pool, 0 for those that are no candidates."""

    @abstractmethod
    def _gains(self, memory: Memory) -> Float[Array, " m"]:
        """What asking for each of the rows to choose from is worth."""

    @abstractmethod
    def _worth(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        """What one more label of each class is worth, [C], and of what no label explains."""

    def _expected_worth(self, process: Any) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        """What the label of each row is worth, and how far one class explains it."""
        worth, unseen = self._worth(process.counts)
        return gaussian_process.expected_worth(
            process.mean, worth, unseen, sharpness=self.sharpness
        )

    def _of_classes(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        """What one more label of each class is worth, [C], and one of a class not seen yet."""
        worth = 1 / (counts + 1).astype(jnp.float32)
        if self.target is None:
            return worth, jnp.float32(1)
        target = jnp.asarray(self.target, jnp.float32)
        target = jnp.concatenate([target, jnp.full(len(counts) - len(target), jnp.mean(target))])
        missing = counts == 0
        number = jnp.maximum(jnp.sum(missing, dtype=jnp.float32), 1)
        return worth * target, jnp.sum(jnp.where(missing, target, 0)) / number

    def _wanted(self, process: Any, pick: Int[Array, ""]) -> Int[Array, ""]:
        """The class that a pick hopes for: the one with the largest share in its worth.

        A pick that hopes for an unseen class stands for the first class without a label, as long as
        there is one, so that the next picks of a batch look elsewhere.
        """
        worth, unseen = self._worth(process.counts)
        positive = jnp.maximum(process.mean[:, pick], 0)
        explained, powers = jnp.minimum(jnp.sum(positive), 1), positive**self.sharpness
        total = jnp.sum(powers)
        shares = powers * worth * explained / jnp.where(total > 0, total, 1)
        free = jnp.argmax(process.counts == 0)
        hope_unseen = ((1 - explained) * unseen >= jnp.max(shares)) & jnp.any(process.counts == 0)
        return jnp.where(hope_unseen, free, jnp.argmax(shares)).astype(jnp.int32)


def in_common(found: Neighbours, bandwidths: Float[Array, " w"]) -> Float[Array, "n k"]:
    """What rows have in common with those nearest to them before any label; 0 where there are
    none."""
    there = found.indices >= 0
    cosines = 1 - jnp.square(jnp.where(there, found.distances, 0)) / 2
    return jnp.where(there, gaussian_process.prior(cosines, bandwidths), 0)
