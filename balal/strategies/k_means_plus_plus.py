"""The start of k-means as a strategy: rows drawn in proportion to their squared distance."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from balal.kernels import k_means
from balal.strategies import fields
from balal.strategies.base import Names, Ordered
from balal.types import Labelled, Pick, Pool, available


@dataclass(frozen=True)
class KMeansPlusPlus(Ordered):
    """Asks for a candidate drawn in proportion to its squared distance from the nearest labelled or
    already picked row; for the very first one at random.

    Costs a pass over the features for each pick.

    Source: Arthur, Vassilvitskii, *k-means++: the advantages of careful seeding*, SODA 2007.

    Differs from the paper in that labelled rows are the first centres.
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
        rows = k_means.k_means_plus_plus(
            key,
            fields.features(pool, name="k_means_plus_plus"),
            budget,
            labelled=labelled.indices,
            candidates=pool.candidates,
        )
        left = jnp.sum(available(pool, labelled))
        return jnp.where(jnp.arange(budget) < left, rows, -1)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return 2.0 * num_rows * num_features * budget

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["drawn by chance, among rows far from everything before it"] * len(picks.index)
