"""MaxHerding: greedy coverage of the pool under a Gaussian similarity."""

from dataclasses import dataclass
from typing import Any

from jaxtyping import Array, Int, Key

from balal import check
from balal.kernels.herding import herding
from balal.strategies.base import Names, Ordered
from balal.strategies.fields import unit_rows
from balal.types import Labelled, Pick, Pool


@dataclass(frozen=True)
class MaxHerding(Ordered):
    """Asks for the candidate that adds the most to how similar every row is to its nearest labelled
    or already picked one.

    Attributes:
      radius: `h` of the similarity `exp(-(d / h)^2)` between unit rows.

    Costs one product of all pairs of rows, and the memory for it, `4 N^2` bytes; above 23,170 rows
    about ten such products and no such memory (see `balal.kernels.herding`).

    Source: Bae, Noh, Sutherland, *Generalized coverage for more robust low-budget active learning*,
      ECCV 2024, Eq. 4.

    Differs from the authors' code in that rows are centred before they are normalised, and that all
    rows are covered, not a sample; once nothing is left to gain, the farthest row is asked for.
    """

    radius: float = 1.0

    def __post_init__(self) -> None:
        check.positive("radius", self.radius)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

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
        return herding(
            unit_rows(pool, name="max_herding"),
            budget,
            radius=self.radius,
            labelled=labelled.indices,
            candidates=pool.candidates,
        ).indices

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return herding_flops(num_rows, num_features, budget)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["most like the rows that nothing before it is like"] * len(picks.index)


def herding_flops(num_rows: int, num_features: int, budget: int) -> float:
    """Operations of the plain greedy search: the gains of all rows for each pick.

    >>> herding_flops(10, 2, 1)
    800.0
    """
    return (2.0 * num_features + 4.0) * num_rows**2 * budget
