"""The posterior rule of balal 0.1, around any strategy or on its own: ask where a rare or unseen
class is likely and there is still much to learn about the row itself."""

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
# Utilities closer than this share are ties: sums over hundreds of float32 columns cannot
# distinguish them.
_TIE = 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `Posterior01` knows so far.

    Attributes:
      first: the memory of the first strategy.
      answers: the answers in order; the process takes them in at the next `ask`.
      process: of the answers at the last look at the whole pool.
      near: int32 [n], the rows that were worth most at that look, ascending, and those answered
        since but not in the process; -1: none.
      nearby: the process on the rows in `near`, with all answers.
      key: of the very first pick.
    """

    first: Any
    answers: Labelled
    process: gaussian_process.GaussianProcess
    near: Int[Array, "*S n"]
    nearby: gaussian_process.GaussianProcess
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class Posterior01(Strategy):
    """Follows `first` for a few labels, then asks for the row whose label is expected to be worth
    most.

    A label of a class with n labels is worth `1 / (n + 1)`, and 1 if the row is like nothing
    labelled so far. The expectation is that of a Gaussian process over the pool
    (`balal.kernels.gaussian_process`). It is multiplied by the remaining variance, so that a row
    that resembles labelled ones is not asked for what is known already, and reduced by up to
    `typical` for rows that are not typical of their surroundings. It needs no source classifier of
    its own, no list of classes and no budget: the picks of a small budget are the first ones of a
    larger one, as long as both use the exact form.

    Attributes:
      first: the strategy to begin with; None: the posterior from the very beginning.
      start: how many answers there are when it takes over, including those known at the start.
      every: the whole pool is evaluated after 1, 2, 4, ... answers up to `every`, and from then on
        after each `every` answers.
      near: in between, only the `near` rows that were worth most are evaluated. A pool with no more
        rows than that is always evaluated as a whole.
      typical: the share of its worth that the least typical row loses.
      sharpness: see `balal.kernels.gaussian_process.explain`.
      scale: see `balal.kernels.gaussian_process.begin`.
      noise: see `balal.kernels.gaussian_process.begin`.
      target: weights of the classes, at least 0, by which the worth of their labels is multiplied
        (None: 1 for all). Classes beyond its end get its mean; the unknown class that a row may be
        of gets the mean of all unseen classes.
      landmarks: how many for the bounded form; None: exact up to 1,024 labels, or while the columns
        hold at most 2^30 numbers, and 1,024 landmarks above.

    Costs `O(N (D + C + b))` memory and, for label m, `O(N (D + C + m))` time, most of it in one
    matrix product for every 16 labels. It prepares the typicality of a pool's rows, `O(N^2 D)`
    once.

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
            raise ValueError(f"typical must be a share between 0 and 1, got {self.typical!r}")
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
                f"target must be a tuple of finite numbers of at least 0, one for each class, got "
                f"{self.target!r}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.first.needs if self.first else ()), "features")))

    @property
    def uses_chance(self) -> bool | None:
        # The first row is drawn if there is no answer yet.
        own = self.first is None or self.start == 0
        return True if own else member(self.first, "uses_chance")

    @property
    def nested(self) -> bool:
        return self.first is None or member(self.first, "nested")

    @property
    def prepared_key(self) -> str:
        return "typicality"

    def landmarks_for(self, num_rows: int, capacity: int) -> int | None:
        """How many landmarks it uses for so many rows and labels; None: the exact form."""
        too_many = capacity > _LANDMARKS and num_rows * capacity > _EXACT
        return _LANDMARKS if self.landmarks is None and too_many else self.landmarks

    def prepare(self, pool: Pool) -> Float[Array, " N"]:
        return typicality.typicality_ranks(
            fields.features(pool, name="posterior_0_1"), candidates=pool.candidates
        )

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        features = fields.features(pool, name="posterior_0_1")
        if self.target is not None and len(self.target) > num_classes:
            raise ValueError(f"target has {len(self.target)} weights for {num_classes} classes")
        room = labelled.indices.shape[0]
        capacity = max(room, largest_budget(labelled, budget))
        process = gaussian_process.begin(
            features,
            capacity=capacity,
            num_classes=num_classes,
            candidates=pool.candidates,
            # Typicality, if it is computed here, needs the memory that the tables take afterwards.
            scale=xla.after(jnp.float32(self.scale), jnp.max(prepared(self, pool))),
            noise=self.noise,
            landmarks=self.landmarks_for(pool.num_rows, capacity),
        )
        # Besides the rows to choose from there is room for those answered since the last look. If
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
            # `first` gets the key itself, so that a strategy begins with the same picks whatever
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
        answered = jnp.where(label >= 0, index, -1)
        return replace(
            memory, first=first, answers=labelled_set.append(memory.answers, answered, label, -1)
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
        # Separate, so that one program of the posterior serves all first strategies.
        if self.first is None or member(self.first, "adaptive"):
            return ((self, None),)
        return ((self.first, self.start), (replace(self, first=None), None))

    def aim(self, weights: tuple[float, ...]) -> "Posterior01":
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
            """Operations for all labels, on so many rows."""
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
        """Whether the rows to choose from are the whole pool, which then needs no separate look."""
        return self.near >= pool.num_rows

    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        """How many answers there were at the last look at the whole pool: a power of 2, later a
        multiple of `every`."""
        power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(answers, 1)))
        return jnp.where(
            answers == 0,
            0,
            jnp.where(answers < self.every, power, answers // self.every * self.every),
        ).astype(jnp.int32)

    def _look(self, memory: Memory, pool: Pool, typical, looked_at, free) -> Memory:
        """The memory with a process of the first `looked_at` answers and, as `near`, the rows that
        are worth most by it and those answered since.

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
        values = self._values(memory.key, process, typical)

        def best(among):
            among = jnp.where(among, values, -jnp.inf)
            return jnp.sort(sharding.top_k(among, memory.near.size - self.every)[1])

        def next_best(carry):
            candidates, near = carry
            candidates = candidates.at[near].set(False)
            return candidates, best(candidates)

        def all_taken(carry):
            # All of them are excluded, or waiting for their answers.
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
        """What asking for each of the rows is worth, by the process on them (None: all rows)."""

        def of(values):
            return values if rows is None else values[rows]

        def expected():
            worth, unseen = self._worth(process.counts)
            values = gaussian_process.utility(process, worth, unseen, sharpness=self.sharpness)
            return values * (1 - self.typical * (1 - of(typical)))

        def drawn():
            # Before any label all rows are worth the same, so the first pick is drawn.
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
        number = jnp.maximum(jnp.sum(missing), 1).astype(jnp.float32)
        return worth * target, jnp.sum(jnp.where(missing, target, 0)) / number

    def _wanted(
        self, process: gaussian_process.GaussianProcess, pick: Int[Array, ""]
    ) -> Int[Array, ""]:
        """The class that a pick hopes for: the one with the largest share in its utility.

        A pick that hopes for an unseen class stands for the first class without a label, as long as
        there is one, so that the next picks of a batch look elsewhere.
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
