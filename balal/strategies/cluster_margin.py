"""Cluster-Margin: of the rows that the target model is least sure of, a few from every cluster."""

import math
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from balal import check
from balal.kernels.distances import centred
from balal.kernels.diversity import take_turns
from balal.kernels.k_center import k_center
from balal.kernels.k_means import k_means
from balal.kernels.ordering import argmax, argsort
from balal.strategies import fields
from balal.strategies.base import Names, prepared
from balal.strategies.planned import Plan, Planned
from balal.types import Labelled, Pick, Pool, askable, available


@dataclass(frozen=True)
class ClusterMargin(Planned):
    """Takes the rows with the smallest margins, somewhat more than it asks for, and lets their
    clusters take turns: one row of each, the cluster with the fewest of these rows first, then a
    second one of each, and so on. Within a cluster the smallest margin goes first.

    Attributes:
      margin_set: how many rows with small margins there are to choose from, for each that is asked
        for. The paper's is 1.25 for CIFAR and SVHN and 10 for Open Images.
      clusters: of the pool, at most.
      rounds: of k-means, at most.

    It prepares the clusters of a pool, `O(N D clusters)` once a round of k-means. A plan is a sort.

    Source: Citovsky, DeSalvo, Gentile, Karydas, Rajagopalan, Rostamizadeh, Kumar, *Batch active
      learning at scale*, NeurIPS 2021, Algorithm 1. Differs from the paper in the clusters, which
      are those of k-means begun at k-center's picks where the paper links all pairs of rows,
      `O(N^2)`; and within a cluster in going by the margin, where the paper draws.
    """

    margin_set: float = 1.25
    clusters: int = 500
    rounds: int = 25

    def __post_init__(self) -> None:
        for name in ("clusters", "rounds"):
            check.whole_number(name, getattr(self, name), least=1)
        number = isinstance(self.margin_set, int | float) and not isinstance(self.margin_set, bool)
        if not number or not 1 <= self.margin_set < math.inf:
            raise ValueError(
                f"margin_set must be a number of at least 1, rows to choose from for each that is "
                f"asked for, got {self.margin_set!r}"
            )

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features", "scores")

    @property
    def uses_chance(self) -> bool:
        return False

    @property
    def prepared_key(self) -> str:
        return f"{self.clusters} clusters of {self.rounds} rounds"

    def prepare(self, pool: Pool) -> Int[Array, " N"]:
        features = fields.features(pool, name="cluster_margin")
        # Begun without chance, as the pool is all there is to go by, and at the same rows wherever
        # they stand in it.
        points, lengths, _ = centred(features, candidates=pool.candidates)
        outermost = argmax(lengths, askable(pool.candidates, len(points)))
        rows = k_center(
            features,
            min(self.clusters, pool.num_rows),
            candidates=pool.candidates,
            start=jnp.maximum(outermost, 0),
        ).indices
        # If there are fewer candidates, the first centre stands for those that are missing.
        begin = features[jnp.where(rows >= 0, rows, rows[0])]
        return k_means(features, begin, candidates=pool.candidates, rounds=self.rounds).assigned

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        free = available(pool, memory.begun)
        uncertain = jnp.where(free, fields.scores(pool, name="cluster_margin").margin, -jnp.inf)
        rows = argsort(-uncertain, min(math.ceil(self.margin_set * most), pool.num_rows))
        size = jnp.round(memory.budget.astype(jnp.float32) * self.margin_set).astype(jnp.int32)
        chosen = jnp.arange(len(rows), dtype=jnp.int32) < size
        order = take_turns(prepared(self, pool)[rows], chosen & free[rows])[:most]
        return jnp.where(order >= 0, rows[order], -1)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # Distances to all centres, for k-center once and in every round of k-means.
        clusters = min(self.clusters, num_rows)
        return (3.0 + 2.0 * self.rounds) * num_rows * num_features * clusters

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        scores = fields.scores(pool, name="cluster_margin")
        margins = 1 - np.asarray(scores.margin)[np.asarray(picks.index)]
        return [f"margin {margin:.3g}, and the turn of its cluster" for margin in margins.tolist()]
