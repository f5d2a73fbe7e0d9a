"""The posterior rule, around any strategy or on its own: ask where a rare or unseen class is likely and much is still to be learnt."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from balal import chance, check, posterior
from balal.strategies.base import Budget, Strategy, largest_budget
from balal.ties import largest
from balal.types import Labelled, Pool, available

# Numbers in the columns of the exact form above which it gives way to landmarks (4 GB), and how many these are.
_EXACT = 2**30
_LANDMARKS = 1024
# Utilities closer than this share are ties: sums over hundreds of float32 columns cannot tell them apart.
_TIE = 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """first: the memory of the first strategy. process: of the answers there were at the last look at the whole pool. near: [n], the
    rows that were worth most then, rising; -1 before any look. nearby: the process of all answers, on those. typicality: [N], of every
    row of the pool. key: of the very first pick. wanted: what the last pick hoped for."""

    first: Any
    process: posterior.GaussianProcess
    near: Int[Array, "*S n"]
    nearby: posterior.GaussianProcess
    typicality: Float[Array, "*S N"]
    key: Key[Array, "*S"]
    wanted: Int[Array, "*S"]


@dataclass(frozen=True)
class Posterior:
    """Follows `first` for a few labels, then asks the row whose label is expected to be worth most.

    A label of a class with n labels is worth `1 / (n + 1)`, and 1 where no label has shown what the row is. The expectation is that of a
    Gaussian process over the pool (`balal.posterior`). It is multiplied by the variance left, so that a row which resembles labelled ones
    is not asked for what is known already, and falls by up to `typical` for rows that are not typical of their surroundings. Needs no
    source classifier of its own, no list of classes and no budget: the picks for a small one are the first ones of a larger one.

    first: the strategy to begin with; None: the posterior from the very beginning. start: how many labels there are when it takes over,
    those known from the outset included. every, near: the whole pool is looked at after every so many labels; in between, only so many
    rows that were worth most then. typical: the share of its worth that the least typical row loses. sharpness, scale, noise: see
    `balal.posterior.explain` and `begin`. target: what a label of each class is worth, numbers of at least 0, beside the fall with n
    (None: 1 for all); unseen classes are then worth their mean. landmarks: None: exact while its columns hold at most 2^30 numbers, with
    1,024 landmarks above.

    Costs `O(N (C + b))` memory and, for pick m, `O(N (D + C + m))` time, most of it in one matrix product for every 16 labels; at the
    beginning `O(N^2 D)` once, which a pool made with
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
        for name, least in (("start", 0), ("every", 1), ("near", 1), ("sharpness", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if not 0 <= self.typical <= 1:
            raise ValueError(f"typical is a share, between 0 and 1, got {self.typical!r}")
        if not self.scale > 0 or not self.noise > 0:
            raise ValueError(f"scale and noise must be above 0, got {self.scale!r} and {self.noise!r}")
        if self.target is not None and not (isinstance(self.target, tuple) and all(worth >= 0 for worth in self.target)):
            raise ValueError(f"target must be a tuple of numbers of at least 0, one a class, got {self.target!r}")

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*(self.first.needs if self.first else ()), "features")))

    def init(self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]) -> Memory:
        if pool.features is None:
            raise ValueError("the posterior needs features: make the pool with balal.pool(features)")
        places = max(labelled.indices.shape[0], largest_budget(labelled, budget))
        landmarks = _LANDMARKS if self.landmarks is None and pool.size * places > _EXACT else self.landmarks
        process = posterior.begin(
            pool.features,
            capacity=places,
            num_classes=num_classes,
            candidates=pool.candidates,
            scale=self.scale,
            noise=self.noise,
            landmarks=landmarks,
        )

        return Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key) if self.first else None,
            process=process,
            near=jnp.full(min(self.near, pool.size), -1, jnp.int32),
            nearby=posterior.restrict(process, jnp.zeros(min(self.near, pool.size), jnp.int32)),
            typicality=posterior.typicality(pool.features, candidates=pool.candidates) if pool.typicality is None else pool.typicality,
            # `first` has the key itself, so that a strategy begins with the same picks whatever takes over from it.
            key=jax.random.fold_in(key, 1),
            wanted=jnp.int32(-1),
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Memory]:
        chooses = jnp.bool_(self.first is None) | (labelled.count >= self.start)
        free = available(pool, labelled)
        # At the beginning every label changes much.
        late = _told(labelled).sum() >= memory.process.count + jnp.clip(memory.process.count, 1, self.every)
        none_left = ~jnp.any(_of(free, memory.near))
        # A loop of one round or none: a branch would copy the process.
        looks = (chooses & (late | none_left)).astype(jnp.int32)
        memory = jax.lax.fori_loop(0, looks, lambda _, memory: self._look(memory, pool, labelled, free), memory)

        def choose():
            values = self._values(memory, memory.nearby, memory.near)
            place = largest(values, _of(free, memory.near), tolerance=_TIE)
            pick = jnp.where(place >= 0, memory.near[place], -1)
            return pick, memory.first, self._wanted(memory.nearby, place)

        def follow():
            assert self.first is not None
            return *self.first.ask(memory.first, pool, labelled), jnp.int32(-1)

        pick, first, wanted = choose() if self.first is None else jax.lax.cond(chooses, choose, follow)
        return pick, replace(memory, first=first, wanted=wanted)

    def tell(self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]) -> Memory:
        first = self.first.tell(memory.first, pool, index, label) if self.first else None
        here = memory.near == index
        known = jnp.any(here) | (label < 0)
        return replace(
            memory,
            first=first,
            nearby=posterior.update(memory.nearby, jnp.argmax(here), jnp.where(known, label, -1)),
            # What the label of another row says about the near ones is worked out by the next look.
            near=jnp.where(known, memory.near, -1),
        )

    def guess(self, memory: Memory, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        del pool, index
        return memory.wanted

    def grow(self, memory: Memory, num_classes: int) -> Memory:
        def wider(process: posterior.GaussianProcess) -> posterior.GaussianProcess:
            more = num_classes - process.counts.shape[0]
            return replace(process, mean=jnp.pad(process.mean, ((0, more), (0, 0))), counts=jnp.pad(process.counts, (0, more)))

        first = self.first.grow(memory.first, num_classes) if self.first else None
        return replace(memory, first=first, process=wider(memory.process), nearby=wider(memory.nearby))

    def _look(self, memory: Memory, pool: Pool, labelled: Labelled, free: Bool[Array, " N"]) -> Memory:
        """The memory with a process of all answers, and with the rows that are worth most now near."""
        told = _told(labelled)
        number = jnp.cumsum(told)

        def learn(process):
            (places,) = jnp.nonzero(told & (number > process.count), size=self.every, fill_value=-1)
            labels = jnp.where(places >= 0, labelled.labels[places], -1)
            return posterior.update(process, jnp.maximum(labelled.indices[places], 0), labels)

        process = jax.lax.while_loop(lambda process: process.count < number[-1], learn, memory.process)
        values = jnp.where(free, self._values(memory, process, jnp.arange(pool.size)), -jnp.inf)
        near = jnp.sort(jax.lax.top_k(values, memory.near.size)[1])
        return replace(memory, process=process, near=near, nearby=posterior.restrict(process, near))

    def _values(self, memory: Memory, process: posterior.GaussianProcess, rows: Int[Array, " n"]) -> Float[Array, " n"]:
        """What asking each of some rows is worth, by the process on them."""

        def expected():
            worth, unseen = self._worth(process.counts)
            values = posterior.utility(process, worth, unseen, sharpness=self.sharpness)
            return values * (1 - self.typical * (1 - memory.typicality[rows]))

        def drawn():
            # Before any label all rows are worth the same: the first one is drawn.
            return chance.per_row(memory.key, memory.typicality.size)[rows].astype(jnp.float32)

        return jax.lax.cond(process.count > 0, expected, drawn)

    def _worth(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        """What one more label of each class is worth, [C], and one of a class not seen yet."""
        worth = 1 / (counts + 1).astype(jnp.float32)
        if self.target is None:
            return worth, jnp.float32(1)
        target = jnp.asarray(self.target, jnp.float32)
        if target.shape != counts.shape:
            raise ValueError(f"target has {target.shape[0]} weights for {counts.shape[0]} classes")
        missing = counts == 0
        return worth * target, jnp.sum(jnp.where(missing, target, 0)) / jnp.maximum(jnp.sum(missing), 1)

    def _wanted(self, process: posterior.GaussianProcess, pick: Int[Array, ""]) -> Int[Array, ""]:
        """The class a pick is asked in the hope of: that with the largest share in its utility.

        A pick that hopes for something unseen stands for the first class without a label, so that the next picks of a batch look elsewhere.
        """
        worth, unseen = self._worth(process.counts)
        one = replace(process, mean=process.mean[:, pick][:, None], variance=process.variance[pick][None])
        probabilities, unexplained = posterior.explain(one, sharpness=self.sharpness)
        shares = probabilities[0] * worth
        free = jnp.argmax(process.counts == 0)
        hope_unseen = (unexplained[0] * unseen >= jnp.max(shares)) & jnp.any(process.counts == 0)
        return jnp.where(hope_unseen, free, jnp.argmax(shares)).astype(jnp.int32)


def _told(labelled: Labelled) -> Bool[Array, " b"]:
    return labelled.labels >= 0


def _of(free: Bool[Array, " N"], near: Int[Array, " n"]) -> Bool[Array, " n"]:
    """Which of the near rows are free."""
    return free[near] & (near >= 0)
