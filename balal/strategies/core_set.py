"""Core-set: greedy k-center over the features, with the labelled rows as first centres."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Int, Key

from balal.kernels.k_center import k_center
from balal.strategies import fields
from balal.strategies.base import Names, Ordered
from balal.types import Labelled, Pick, Pool


@dataclass(frozen=True)
class CoreSet(Ordered):
    """Asks for the candidate farthest from every labelled or already picked row; for the very first
    one at random.

    Source: Sener, Savarese, ICLR 2018; Eq. 7 of Aggarwal, Popescu, Hudelot, WACV 2020.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    @property
    def uses_chance(self) -> bool:
        return True

    @property
    def nested(self) -> bool:
        return True

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        return k_center(
            fields.features(pool, name="core_set"),
            budget,
            labelled=labelled.indices,
            candidates=pool.candidates,
            key=key,
        ).indices

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # A pass for each centre, three operations per number.
        return 3.0 * num_rows * num_features * budget

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["farthest from everything before it"] * len(picks.index)
