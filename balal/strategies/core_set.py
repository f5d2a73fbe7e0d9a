"""Core-set: greedy k-center over the features, the labelled rows as first centres."""

from dataclasses import dataclass

from jaxtyping import Array, Int, Key

from balal.kernels.k_center import k_center
from balal.strategies.base import Ordered
from balal.types import Labelled, Pool


@dataclass(frozen=True)
class CoreSet(Ordered):
    """Asks the candidate farthest from every labelled or already picked row; the very first at
    random.

    Source: Sener, Savarese, ICLR 2018; Eq. 7 of Aggarwal, Popescu, Hudelot, WACV 2020.
    """

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        features = pool.features
        if features is None:
            raise ValueError("core_set needs features: make the pool with balal.pool(features)")
        return k_center(
            features, budget, labelled=labelled.indices, candidates=pool.candidates, key=key
        ).indices
