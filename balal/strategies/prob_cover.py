"""ProbCover: balls of one radius around the labelled rows that cover the most rows."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from balal import check
from balal.kernels.herding import herding
from balal.kernels.k_means import k_means, k_means_plus_plus
from balal.kernels.radii import purity_radius
from balal.strategies.base import Names, Ordered
from balal.strategies.fields import unit_rows
from balal.strategies.max_herding import herding_flops
from balal.types import Labelled, Pick, Pool

# No radius is smaller, so that a row always covers itself.
_SMALLEST = 1e-4


@dataclass(frozen=True)
class ProbCover(Ordered):
    """Asks for the candidate whose ball holds the most rows that no ball of a labelled or already
    picked row holds yet; once all are covered, for the one farthest from all of these.

    Attributes:
      radius: of the balls, between unit rows; None: by `purity`.
      purity: the share of balls that should hold one class only.
      clusters: the classes by which purity is judged: so many clusters of k-means, or None: the
        source model's top-1 classes, which cost nothing and make smaller balls.

    Costs as `MaxHerding`, but a byte for a pair, and above 46,340 rows two products.

    Source: Yehuda, Dekel, Hacohen, Weinshall, *Active learning through a covering lens*, NeurIPS
      2022, Algorithm 1.

    Differs from the authors' code in that rows are centred before they are normalised, that every
    row has its ball, the last ones too, that no labelled row is asked again, and that the radius is
    found here, not tuned.
    """

    radius: float | None = None
    purity: float = 0.95
    clusters: int | None = None

    def __post_init__(self) -> None:
        check.share("purity", self.purity)
        if self.radius is not None:
            check.positive("radius", self.radius)
        if self.clusters is not None:
            check.whole_number("clusters", self.clusters, least=1)

    @property
    def needs(self) -> tuple[str, ...]:
        by_source = self.radius is None and self.clusters is None
        return ("features", "scores") if by_source else ("features",)

    @property
    def uses_chance(self) -> bool:
        return self.radius is None and self.clusters is not None

    @property
    def nested(self) -> bool:
        return True

    @property
    def counts_rows(self) -> bool:
        return True

    def order(
        self, pool: Pool, labelled: Labelled, budget: int, key: Key[Array, ""]
    ) -> Int[Array, " budget"]:
        rows = unit_rows(pool, name="prob_cover")
        if self.radius is None:
            classes = self._classes(pool, rows, key)
            radius = purity_radius(rows, classes, purity=self.purity, candidates=pool.candidates)
            radius = jnp.maximum(radius, _SMALLEST)
        else:
            radius = self.radius
        return herding(
            rows,
            budget,
            similarity="ball",
            radius=radius,
            labelled=labelled.indices,
            candidates=pool.candidates,
        ).indices

    def _classes(self, pool: Pool, rows, key) -> Int[Array, " N"]:
        if self.clusters is None:
            if pool.scores is None:
                raise ValueError(
                    "prob_cover needs the source model's top-1 classes, for the radius: make the "
                    "pool with balal.pool(features, logits=...), or set clusters= or radius="
                )
            return pool.scores.predicted
        number = min(self.clusters, pool.num_rows)
        begin = k_means_plus_plus(key, rows, number, candidates=pool.candidates)
        return k_means(rows, rows[begin], candidates=pool.candidates).assigned

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return herding_flops(num_rows, num_features, budget)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        return ["near the most rows that nothing before it is near"] * len(picks.index)
