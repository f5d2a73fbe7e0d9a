"""The posterior rule, around any strategy or on its own: ask where a rare or unseen class is likely
and much is still to be learnt."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from balal import check, labelled_set, sharding, xla
from balal.kernels import gaussian_process, sampling, typicality
from balal.kernels.ordering import argmax
from balal.strategies.base import (
    Budget,
    Names,
    Strategy,
    largest_budget,
    member,
    plural,
    prepared,
    reasons_of_rule,
)
from balal.types import Labelled, Pick, Pool, askable, available

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
    """
    Attributes:
      first: the memory of the first strategy.
      answers: what was told, in that order; the process takes it in when it is asked next.
      process: of the answers there were at the last look at the whole pool.
      near: int32 [n], the rows that were worth most then, rising, and those answered until now but
        not in the process; -1: none.
      nearby: the process on those, of all answers.
      key: of the very first pick.
    """

    first: Any
    answers: Labelled
    process: gaussian_process.GaussianProcess
    near: Int[Array, "*S n"]
    nearby: gaussian_process.GaussianProcess
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Posterior(Strategy):
    """Follows `first` for a few labels, then asks the row whose label is expected to be worth most.

    A label of a class with n labels is worth `1 / (n + 1)`, and 1 where no label has shown what the
    row is. The expectation is that of a Gaussian process over the pool
    (`balal.kernels.gaussian_process`). It is multiplied by the variance left, so that a row which
    resembles labelled ones is not asked for what is known already, and falls by up to `typical` for
    rows that are not typical of their surroundings. Needs no source classifier of its own, no list
    of classes and no budget: the picks for a small one are the first ones of a larger one, as long
    as both are exact.

    Attributes:
      first: the strategy to begin with; None: the posterior from the very beginning.
      start: how many answers there are when it takes over, those known from the outset included.
      every, near: the whole pool is looked at after 1, 2, 4, ... answers, and after every `every`
        of them; in between, only the `near` rows that were worth most then. A pool of no more rows
        needs no such looks.
      typical: the share of its worth that the least typical row loses.
      sharpness, scale, noise: see `balal.kernels.gaussian_process.explain` and `begin`.
      target: what a label of each class is worth, numbers of at least 0, beside the fall with n
        (None: 1 for all); unseen classes and those beyond its end are worth its mean.
      landmarks: how many for the bounded form; None: exact up to 1,024 labels, or while the columns
        hold at most 2^30 numbers, and 1,024 landmarks above.

    Costs `O(N (D + C + b))` memory and, for label m, `O(N (D + C + m))` time, most of it in one
    matrix product for every 16 labels. What it prepares of a pool is the typicality of its rows,
    `O(N^2 D)` once.

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

    @property
    def uses_chance(self) -> bool | None:
        # Without an answer, the first row is drawn.
        own = self.first is None or self.start == 0
        return True if own else member(self.first, "uses_chance")

    @property
    def nested(self) -> bool:
        return self.first is None or member(self.first, "nested")

    @property
    def prepared_key(self) -> str:
        return "typicality"

    def landmarks_for(self, num_rows: int, capacity: int) -> int | None:
        """How many landmarks it takes for a pool of so many rows and so many labels; None: the
        exact form."""
        too_many = capacity > _LANDMARKS and num_rows * capacity > _EXACT
        return _LANDMARKS if self.landmarks is None and too_many else self.landmarks

    def prepare(self, pool: Pool) -> Float[Array, " N"]:
        return typicality.typicality_ranks(_features(pool), candidates=pool.candidates)

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        features = _features(pool)
        if self.target is not None and len(self.target) > num_classes:
            raise ValueError(f"target has {len(self.target)} weights for {num_classes} classes")
        room = labelled.indices.shape[0]
        capacity = max(room, largest_budget(labelled, budget))
        process = gaussian_process.begin(
            features,
            capacity=capacity,
            num_classes=num_classes,
            candidates=pool.candidates,
            # Typicality, where it is worked out here, needs the room that the tables take.
            scale=xla.after(jnp.float32(self.scale), jnp.max(prepared(self, pool))),
            noise=self.noise,
            landmarks=self.landmarks_for(pool.num_rows, capacity),
        )
        # Beside the rows to choose from there is room for those answered since the last look. Where
        # the whole pool is near, it stays so.
        near = jnp.full(self.near, -1, jnp.int32)
        if self._all_near(pool):
            near = jnp.arange(pool.num_rows, dtype=jnp.int32)
        near = jnp.pad(near, (0, self.every), constant_values=-1)
        return Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key) if self.first else None,
            answers=labelled_set.extend(labelled_set.answered(labelled), capacity - room),
            process=process,
            near=near,
            nearby=gaussian_process.restrict(process, jnp.maximum(near, 0)),
            # `first` has the key itself, so that a strategy begins with the same picks whatever
            # takes over from it.
            key=jax.random.fold_in(key, 1),
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        free, typical, answers = available(pool, labelled), prepared(self, pool), memory.answers
        number = jnp.arange(len(answers.indices), dtype=jnp.int32)
        chooses = jnp.bool_(self.first is None) | (answers.count >= self.start)
        looked_at = self._look_before(answers.count)
        inside = jnp.where(memory.near >= 0, memory.near, pool.num_rows)
        near = jnp.zeros(pool.num_rows, bool).at[inside].set(True, mode="drop")
        unlearnt = (number >= memory.nearby.count) & (number < answers.count)
        stale = (
            (memory.process.count < looked_at)
            | jnp.any(unlearnt & ~near[answers.indices])
            | ~jnp.any(free & near)
        )

        def learn(memory):
            row, label = (c[memory.nearby.count] for c in (answers.indices, answers.labels))
            here = jnp.argmax(memory.near == row)
            return replace(memory, nearby=gaussian_process.update(memory.nearby, here, label))

        if not self._all_near(pool):
            memory = xla.run_if(
                chooses & stale,
                lambda memory: self._look(memory, pool, typical, looked_at, free),
                memory,
            )
        memory = jax.lax.while_loop(
            lambda memory: chooses & (memory.nearby.count < answers.count), learn, memory
        )

        def choose():
            values = self._values(memory.key, memory.nearby, typical, memory.near)
            best = argmax(values, free[memory.near] & (memory.near >= 0), tolerance=_TIE)
            index = jnp.where(best >= 0, memory.near[best], -1)
            wanted = jnp.where(best >= 0, self._wanted(memory.nearby, best), -1)
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
        told = jnp.where(label >= 0, index, -1)
        return replace(
            memory, first=first, answers=labelled_set.append(memory.answers, told, label, -1)
        )

    def grow(self, memory: Memory, num_classes: int) -> Memory | None:
        first = member(self.first, "grow")(memory.first, num_classes) if self.first else None
        if first is None and memory.first is not None:
            return None

        def wider(process: gaussian_process.GaussianProcess) -> gaussian_process.GaussianProcess:
            more = num_classes - process.counts.shape[0]
            return replace(
                process,
                mean=jnp.pad(process.mean, ((0, more), (0, 0))),
                counts=jnp.pad(process.counts, (0, more)),
            )

        return replace(
            memory, first=first, process=wider(memory.process), nearby=wider(memory.nearby)
        )

    def stages(self) -> tuple[tuple[Strategy, int | None], ...]:
        # Apart, one program of the posterior serves all first strategies.
        if self.first is None or member(self.first, "adaptive"):
            return ((self, None),)
        return ((self.first, self.start), (replace(self, first=None), None))

    def aim(self, weights: tuple[float, ...]) -> "Posterior":
        return replace(self, target=weights)

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        """Neighbours once, columns and means for every label, utilities for every look."""
        if self.first is None:
            first = 0.0
        else:
            begun = min(self.start, budget)
            first = member(self.first, "flops")(num_rows, num_features, num_classes, begun)
        if first is None:
            return None
        near = min(self.near, num_rows)
        neighbours = 2.0 * num_rows * min(num_rows, typicality.AMONG) * num_features
        looks = math.ceil(budget / self.every) + math.ceil(math.log2(self.every + 1))
        landmarks = self.landmarks_for(num_rows, budget)

        def labels(rows: int) -> float:
            """Of all labels, on so many rows."""
            related = 2.0 * num_features + budget if landmarks is None else 2.0 * landmarks
            return float(budget) * rows * (related + 2 * num_classes)

        related = 0.0
        if landmarks is not None:
            related = float(num_rows) * landmarks * (2 * num_features + landmarks)
        utilities = 6.0 * num_classes * (looks * num_rows + budget * near)
        return first + neighbours + related + labels(num_rows) + labels(near) + utilities

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        answers = np.asarray(memory.answers.labels)
        counts = np.bincount(answers[answers >= 0], minlength=memory.process.counts.shape[0])

        def sentence(wanted: int) -> str:
            if wanted < 0 or not counts[wanted]:
                return "worth most now; like nothing labelled so far"
            known = f"{names.of_target(wanted)} ({plural(int(counts[wanted]), 'label')})"
            return f"worth most now; of what is labelled most like {known}"

        if self.first is None:
            return [sentence(wanted) for wanted in np.asarray(picks.wanted).tolist()]
        return reasons_of_rule(sentence, self.first, memory.first, pool, labelled, picks, names)

    def _all_near(self, pool: Pool) -> bool:
        """Whether the rows to choose from are the whole pool, which then needs no other look."""
        return self.near >= pool.num_rows

    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        """After how many of the answers the whole pool was last looked at: a whole power of 2, then
        a multiple of `every`."""
        power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(answers, 1)))
        return jnp.where(
            answers == 0,
            0,
            jnp.where(answers < self.every, power, answers // self.every * self.every),
        ).astype(jnp.int32)

    def _look(self, memory: Memory, pool: Pool, typical, looked_at, free) -> Memory:
        """The memory with a process of the first `looked_at` answers, the rows that are worth most
        by it, and those answered since, near.

        Made of the answers alone, so that it does not matter what was looked at before.
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
        learnt = jnp.arange(len(answers.indices)) < looked_at
        candidates = askable(pool.candidates, pool.num_rows)
        candidates = candidates.at[jnp.where(learnt, answers.indices, pool.num_rows)].set(
            False, mode="drop"
        )
        values = self._values(memory.key, process, typical)

        def best(among):
            among = jnp.where(among, values, -jnp.inf)
            return jnp.sort(sharding.top_k(among, memory.near.size - self.every)[1])

        def next_best(carry):
            candidates, near = carry
            candidates = candidates.at[near].set(False)
            return candidates, best(candidates)

        def all_taken(carry):
            # Banned, or waiting for their answers.
            candidates, near = carry
            return jnp.any(free & candidates) & ~jnp.any(free[near])

        _, near = jax.lax.while_loop(all_taken, next_best, (candidates, best(candidates)))
        there, rows, _ = some(looked_at, answers.count)
        near = jnp.concatenate([near, jnp.where(there, rows, -1)]).astype(jnp.int32)
        nearby = gaussian_process.restrict(process, jnp.maximum(near, 0))
        return replace(memory, process=process, near=near, nearby=nearby)

    def _values(
        self,
        key: Key[Array, ""],
        process: gaussian_process.GaussianProcess,
        typical: Float[Array, " N"],
        rows: Int[Array, " n"] | None = None,
    ) -> Float[Array, " n"]:
        """What asking each of some rows is worth, by the process on them (None: all)."""

        def of(values):
            return values if rows is None else values[rows]

        def expected():
            worth, unseen = self._worth(process.counts)
            values = gaussian_process.utility(process, worth, unseen, sharpness=self.sharpness)
            return values * (1 - self.typical * (1 - of(typical)))

        def drawn():
            # Before any label all rows are worth the same: the first one is drawn.
            return of(sampling.random_bits(key, len(typical))).astype(jnp.float32)

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


def _features(pool: Pool) -> Float[Array, "N D"]:
    if pool.features is None:
        raise ValueError("the posterior needs features: make the pool with balal.pool(features)")
    return pool.features
