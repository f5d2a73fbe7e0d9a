"""UHerding: greedy coverage of the rows that the target model is uncertain of."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal import check
from balal.kernels.herding import herding
from balal.kernels.radii import separation
from balal.strategies.base import Names, Ordered
from balal.strategies.fields import scores, unit_rows
from balal.strategies.max_herding import herding_flops
from balal.types import Labelled, Pick, Pool


@dataclass(frozen=True)
class UHerding(Ordered):
    """Asks for the candidate that adds the most to how similar the uncertain rows are to the
    nearest labelled or already picked one.

    A row counts by its margin score, `1 - (p1 - p2)`, in `pool.scores`, which should be that of the
    target model, fitted to the labels so far and with its temperature calibrated; while nothing is
    labelled, all rows count alike. The radius shrinks as labels come: it is the smallest distance
    between two labelled rows.

    Attributes:
      radius: `h` of the similarity `exp(-(d / h)^2)` between unit rows; None: the smallest distance
        between labelled rows, but no less than 99 % of the rows have to their nearest neighbour;
        1 with fewer than two labels.

    Costs as `MaxHerding`.

    Source: Bae, Oliveira, Sutherland, *Uncertainty herding: one active learning method for all
      label budgets*, ICLR 2025, Algorithm 1.

    Differs from the authors' code in that rows are centred before they are normalised, that all
    rows are covered, not a sample, that the radius has a floor, and that the temperature is the
    caller's concern.
    """

    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None:
            check.positive("radius", self.radius)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features", "scores")

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
        rows = unit_rows(pool, name="u_herding")
        margin = scores(pool, name="u_herding").margin.astype(jnp.float32)
        return herding(
            rows,
            budget,
            radius=separation(rows, labelled.indices, candidates=pool.candidates)
            if self.radius is None
            else self.radius,
            weights=jnp.where(labelled.count > 0, margin, jnp.ones_like(margin)),
            labelled=labelled.indices,
            candidates=pool.candidates,
        ).indices

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return herding_flops(num_rows, num_features, budget)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        margin = np.asarray(scores(pool, name="u_herding").margin)[np.asarray(picks.index)]
        return [f"margin {m:.3g}, among uncertain rows like nothing before it" for m in margin]
