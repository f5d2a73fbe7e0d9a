"""The posterior rule, around any strategy or on its own: ask where a rare or unseen class is likely and much is still to be learnt."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

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
    """first: the memory of the first strategy. process: of all answers. typicality: [N], of every row of the pool. key: of the
    very first pick. wanted: what the last pick hoped for."""

    first: Any
    process: posterior.GaussianProcess
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
    those known from the outset included. typical: the share of its worth that the least typical row loses. sharpness, scale, noise: see
    `balal.posterior.explain` and `begin`. target: what a label of each class is worth, numbers of at least 0, beside the fall with n
    (None: 1 for all); unseen classes are then worth their mean. landmarks: None: exact while its columns hold at most 2^30 numbers, with
    1,024 landmarks above.

    Costs `O(N (C + b))` memory and, for pick m, `O(N (D + C + m))`; at the beginning `O(N^2 D)` once, which a pool made with
    `balal.pool(..., typicality=True)` has done already.

    Source: this library.
    """

    first: Strategy | None = None
    start: int = 10
    typical: float = 0.5
    sharpness: int = 2
    scale: float = 1.0
    noise: float = 0.1
    target: tuple[float, ...] | None = None
    landmarks: int | None = None

    def __post_init__(self) -> None:
        if self.first is not None:
            check.strategy(self.first)
        for name, least in (("start", 0), ("sharpness", 1)):
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

        def start(place, process):
            return posterior.update(process, labelled.indices[place], labelled.labels[place])

        return Memory(
            first=self.first.init(pool, labelled, budget, num_classes, key) if self.first else None,
            process=jax.lax.fori_loop(jnp.int32(0), labelled.count.astype(jnp.int32), start, process),
            typicality=posterior.typicality(pool.features, candidates=pool.candidates) if pool.typicality is None else pool.typicality,
            # `first` has the key itself, so that a strategy begins with the same picks whatever takes over from it.
            key=jax.random.fold_in(key, 1),
            wanted=jnp.int32(-1),
        )

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Int[Array, ""], Memory]:
        process = memory.process
        worth, unseen = self._worth(process.counts)

        def choose():
            # Before any label all rows are worth the same: the first one is drawn.
            values = jax.lax.cond(
                process.count > 0,
                lambda: posterior.utility(process, worth, unseen, sharpness=self.sharpness) * (1 - self.typical * (1 - memory.typicality)),
                lambda: chance.per_row(memory.key, pool.size).astype(jnp.float32),
            )
            pick = largest(values, available(pool, labelled), tolerance=_TIE)
            return pick, memory.first, self._wanted(process, worth, unseen, pick)

        def follow():
            assert self.first is not None
            return *self.first.ask(memory.first, pool, labelled), jnp.int32(-1)

        if self.first is None:
            pick, first, wanted = choose()
        else:
            pick, first, wanted = jax.lax.cond(labelled.count >= self.start, choose, follow)
        return pick, replace(memory, first=first, wanted=wanted)

    def tell(self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]) -> Memory:
        first = self.first.tell(memory.first, pool, index, label) if self.first else None
        return replace(memory, first=first, process=posterior.update(memory.process, index, label))

    def guess(self, memory: Memory, pool: Pool, index: Int[Array, ""]) -> Int[Array, ""]:
        del pool, index
        return memory.wanted

    def grow(self, memory: Memory, num_classes: int) -> Memory:
        process = memory.process
        more = num_classes - process.counts.shape[0]
        process = replace(process, mean=jnp.pad(process.mean, ((0, more), (0, 0))), counts=jnp.pad(process.counts, (0, more)))
        return replace(memory, first=self.first.grow(memory.first, num_classes) if self.first else None, process=process)

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

    def _wanted(self, process: posterior.GaussianProcess, worth, unseen, pick) -> Int[Array, ""]:
        """The class a pick is asked in the hope of: that with the largest share in its utility.

        A pick that hopes for something unseen stands for the first class without a label, so that the next picks of a batch look elsewhere.
        """
        one = replace(process, mean=process.mean[:, pick][:, None], variance=process.variance[pick][None])
        probabilities, unexplained = posterior.explain(one, sharpness=self.sharpness)
        shares = probabilities[0] * worth
        free = jnp.argmax(process.counts == 0)
        hope_unseen = (unexplained[0] * unseen >= jnp.max(shares)) & jnp.any(process.counts == 0)
        return jnp.where(hope_unseen, free, jnp.argmax(shares)).astype(jnp.int32)
