"""BADGE: rows whose gradients in the head are large and far apart."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal.kernels.gradients import far_gradients
from balal.strategies import fields
from balal.strategies.base import Names, Ordered
from balal.types import Labelled, Pick, Pool, available


@dataclass(frozen=True)
class Badge(Ordered):
    """Asks for the row with the largest gradient of the last layer, as if the predicted class were
    its label, and then draws rows in proportion to their squared distance from the nearest gradient
    before them.

    It takes the logits as they are: those of the current target model, or of the source model
    before there is one; of an ensemble the mean prediction.

    Attributes:
      conditioned: whether the gradients of labelled rows are there from the outset, so that it
        stays away from them too.

    Costs `O(N (K + D))` memory and time per pick; gradients, of K D numbers, are never made.

    Source: Ash, Zhang, Krishnamurthy, Langford, Agarwal, ICLR 2020, Algorithm 1. Differs from the
      authors' code in never drawing a row twice, and in what it does once all distances are 0: the
      largest gradient is next, where that code divides 0 by 0.
    """

    conditioned: bool = False

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features", "logits")

    @property
    def uses_chance(self) -> bool:
        return True

    @property
    def nested(self) -> bool:
        return True

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        return far_gradients(
            fields.features(pool, name="badge"),
            fields.logits(pool, name="badge"),
            budget,
            labelled=labelled.indices if self.conditioned else None,
            candidates=available(pool, labelled),
            key=key,
        ).indices

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Two products for each pick.
        return 2.0 * num_rows * (num_features + num_classes) * budget

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        logits = fields.logits(pool, name="badge")[picks.index].astype(jnp.float32)
        largest = np.asarray(jax.nn.softmax(logits).max(axis=1))
        return [
            f"the top class at {share:.0%}: a gradient that is large and unlike those before it"
            for share in largest.tolist()
        ]
