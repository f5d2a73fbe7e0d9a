"""Random sampling and the uncertainty strategies: `random`, `ent`, `ms`, `lc` and their inverted
and diversified forms."""

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, Real

from balal import check
from balal.kernels import sampling
from balal.kernels.diversity import diversify
from balal.kernels.ordering import argsort
from balal.strategies.base import Ordered
from balal.types import Labelled, Pool, available

Score = Literal["entropy", "margin", "least_confidence"]
# What rows that are no candidates get in place of a number drawn, so that they come last.
_LAST = jnp.iinfo(jnp.int32).max


@dataclass(frozen=True)
class Random(Ordered):
    """Asks candidates in random order."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        drawn = jnp.minimum(
            (sampling.random_bits(key, pool.size) >> 1).astype(jnp.int32), _LAST - 1
        )
        return _smallest_first(drawn, budget, available(pool, labelled))


@dataclass(frozen=True)
class Uncertainty(Ordered):
    """Asks by a score of the source model: the most uncertain row first, or, inverted, the most
    certain.

    score: which of `Scores`. inverted: most certain first. diversified: predicted source classes
    take turns (see `balal.diversify`).

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 1 to 6.
    """

    score: Score = "entropy"
    inverted: bool = False
    diversified: bool = False

    def __post_init__(self) -> None:
        check.option("score", self.score, Score)

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        del key
        scores = pool.scores
        if scores is None:
            raise ValueError(
                f"{self} needs source-class scores: make the pool with balal.pool(features, "
                f"logits=...)"
            )
        values = getattr(scores, self.score)
        values = values if self.inverted else -values
        candidates = available(pool, labelled)
        if self.diversified:
            return diversify(values, scores.predicted, budget, candidates=candidates)
        return _smallest_first(values, budget, candidates)


def _smallest_first(
    values: Real[Array, " N"], budget: int, candidates: Bool[Array, " N"]
) -> Int[Array, " budget"]:
    last = jnp.inf if jnp.issubdtype(values.dtype, jnp.floating) else _LAST
    order = argsort(jnp.where(candidates, values, last), budget)
    return jnp.where(candidates[order], order, -1)
