"""Rows about which the members of an ensemble disagree: BALD and the variation ratio."""

from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal import check
from balal.kernels import disagreement
from balal.kernels.ordering import argsort
from balal.strategies.base import Names, Ordered
from balal.types import Labelled, Pick, Pool, available

Measure = Literal["bald", "variation_ratio"]
# Roots of the mutual information are compared in steps of this size, a hundred times their error in
# float32, so that rows which differ only in their last digits are level.
_STEP = 2.0**-17


@dataclass(frozen=True)
class Bald(Ordered):
    """Asks first for the rows about which the members of an ensemble disagree most.

    Attributes:
      measure: "bald", the mutual information between the label and the member, or
        "variation_ratio", the share of members outvoted, ties by the mutual information; see
        `balal.kernels.disagreement`.

    Needs logits [N, M, K]: of several heads, or of one network with dropout several times.

    Source: Houlsby, Huszar, Ghahramani, Lengyel, 2011; Gal, Islam, Ghahramani, ICML 2017. Differs
      from widely copied code in averaging probabilities, not logits, and in being 0, not NaN,
      where a probability is 0.
    """

    measure: Measure = "bald"

    def __post_init__(self) -> None:
        check.option("measure", self.measure, Measure)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",)

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
        logits = disagreement.members(self.measure, pool.logits)
        free = available(pool, labelled)
        last = jnp.iinfo(jnp.int32).max
        # The error of the root is the same for small and large values.
        shared = jnp.round(jnp.sqrt(disagreement.bald(logits)) / _STEP).astype(jnp.int32)
        order = argsort(jnp.where(free, -shared, last), pool.num_rows)
        if self.measure == "variation_ratio":
            share = disagreement.variation_ratio(logits)
            outvoted = jnp.round(share * logits.shape[1]).astype(jnp.int32)
            order = order[argsort(jnp.where(free, -outvoted, last)[order], pool.num_rows)]
        order = order[:budget]
        return jnp.where(free[order], order, -1)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Like the scores, a pass over the logits; sorting only compares.
        return 0.0

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        logits = disagreement.members(self.measure, pool.logits)[jnp.asarray(picks.index)]
        shared = np.asarray(disagreement.bald(logits)).tolist()
        outvoted = np.asarray(disagreement.variation_ratio(logits)).tolist()
        return [
            f"the members disagree: mutual information {nats:.3g}, {share:.0%} of them outvoted"
            for nats, share in zip(shared, outvoted, strict=True)
        ]
