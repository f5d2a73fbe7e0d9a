"""Random sampling and the uncertainty strategies: `random`, `ent`, `ms`, `lc` and their inverted
and diversified forms."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Key, Real

from balal import check
from balal.kernels import sampling
from balal.kernels.diversity import diversify
from balal.kernels.ordering import argsort
from balal.strategies import fields
from balal.strategies.base import Names, Ordered
from balal.types import Labelled, Pick, Pool, available

Score = Literal["entropy", "margin", "least_confidence"]
# Rows that are not candidates get this instead of a drawn number, so that they come last.
_LAST = jnp.iinfo(jnp.int32).max


@dataclass(frozen=True)
class Random(Ordered):
    """Asks for candidates in random order."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ()

    @property
    def uses_chance(self) -> bool:
        return True

    @property
    def nested(self) -> bool:
        return True

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        drawn = jnp.minimum(
            (sampling.random_bits(key, pool.num_rows) >> 1).astype(jnp.int32), _LAST - 1
        )
        return _smallest_first(drawn, budget, available(pool, labelled))

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Sorting only compares.
        return 0.0

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["drawn by chance"] * len(picks.index)


@dataclass(frozen=True)
class Uncertainty(Ordered):
    """Asks by a score of the source model: the most uncertain row first, or the most certain if
    inverted.

    Attributes:
      score: which field of `Scores`.
      inverted: most certain first.
      diversified: predicted source classes take turns (see `balal.diversify`).

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 1 to 6.
    """

    score: Score = "entropy"
    inverted: bool = False
    diversified: bool = False

    def __post_init__(self) -> None:
        check.option("score", self.score, Score)

    @property
    def uses_chance(self) -> bool:
        return False

    @property
    def nested(self) -> bool:
        return True

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        del key
        scores = fields.scores(pool, name=str(self))
        values = getattr(scores, self.score)
        values = values if self.inverted else -values
        candidates = available(pool, labelled)
        if self.diversified:
            return diversify(values, scores.predicted, budget, candidates=candidates)
        return _smallest_first(values, budget, candidates)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return 0.0

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        scores = fields.scores(pool, name=str(self))
        values, predicted = (
            np.asarray(getattr(scores, name)) for name in (self.score, "predicted")
        )
        rows = np.asarray(picks.index).tolist()
        rising = np.argsort(values if self.inverted else -values, kind="stable")
        rank = np.empty(len(values), np.int64)
        rank[rising] = np.arange(len(values))
        kind = "most certain" if self.inverted else "most uncertain"
        score = self.score.replace("_", " ")
        reasons = [
            f"{score} {values[r]:.3g}, {_ordinal(int(rank[r]) + 1)} {kind} of all" for r in rows
        ]
        if not self.diversified:
            return reasons
        turns = [int(np.sum(predicted[rows[: n + 1]] == predicted[r])) for n, r in enumerate(rows)]
        return [
            f"{_ordinal(turn)} of {names.of_source(int(predicted[row]))}; {text}"
            for turn, row, text in zip(turns, rows, reasons, strict=True)
        ]


def _ordinal(number: int) -> str:
    """
    >>> _ordinal(1), _ordinal(12), _ordinal(23)
    ('1st', '12th', '23rd')
    """
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{number}{'th' if number % 100 in (11, 12, 13) else endings.get(number % 10, 'th')}"


def _smallest_first(
    values: Real[Array, " N"], budget: int, candidates: Bool[Array, " N"]
) -> Int[Array, " budget"]:
    last = jnp.inf if jnp.issubdtype(values.dtype, jnp.floating) else _LAST
    order = argsort(jnp.where(candidates, values, last), budget)
    return jnp.where(candidates[order], order, -1)
