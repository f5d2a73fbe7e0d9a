"""Tail first: the most uncertain of the rows that the target model takes for the rarest class."""

from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal import check, metrics
from balal.kernels import balancing
from balal.kernels.ordering import argmax
from balal.strategies import fields
from balal.strategies.base import Budget, Names, Strategy
from balal.strategies.uncertainty import Score
from balal.types import Labelled, Pick, Pool, available
from balal.wording import plural

Ties = Literal["lowest", "random"]
_NAMES = {"entropy": "entropy", "margin": "margin", "least_confidence": "least confidence"}
# Values this close to the largest count as level with it.
_TIE = 1e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Memory:
    """What `TailFirst` knows so far.

    Attributes:
      counts: int32 [C], labels of each class.
      key: breaks ties between classes.
    """

    counts: Int[Array, "*S C"]
    key: Key[Array, "*S"]


@dataclass(frozen=True)
class TailFirst(Strategy):
    """Asks for the most uncertain row among those predicted as the known class with the fewest
    labels. Rows that were asked and not yet answered count as the class that they were asked for. A
    class as which no candidate is predicted steps aside; if that leaves none, the most uncertain
    row of all is asked for.

    Attributes:
      score: which field of `Scores`.
      ties: between classes of equal count: "lowest" class id first, or drawn, "random".

    The predicted classes are target classes: refresh `scores` with what the target model predicts.
    Those of a source model are refused where the logits are kept, which tell; otherwise predictions
    beyond the target classes are as good as none. Costs `O(N + C)` time per pick.

    Source: this library, after the idea in Aggarwal, Popescu, Hudelot, *Minority class oriented
      active learning for imbalanced datasets*, ICPR 2020, to ask for rows that are likely to be of
      minority classes.
    """

    score: Score = "margin"
    ties: Ties = "lowest"

    def __post_init__(self) -> None:
        check.option("score", self.score, Score)
        check.option("ties", self.ties, Ties)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("scores",)

    @property
    def target_model(self) -> bool:
        return True

    @property
    def uses_chance(self) -> bool:
        return self.ties == "random"

    @property
    def nested(self) -> bool:
        return True

    def init(
        self, pool: Pool, labelled: Labelled, budget: Budget, num_classes: int, key: Key[Array, ""]
    ) -> Memory:
        logits = pool.logits
        if logits is not None and logits.shape[-1] > num_classes:
            raise ValueError(
                f"tail_first needs the target model's predictions, of the {num_classes} target "
                f"classes, and these are of {logits.shape[-1]}: pass what a head fitted to the "
                f"labels predicts, balal.pool(features, logits=...)"
            )
        return Memory(metrics.class_counts(labelled.labels, num_classes=num_classes), key)

    def ask(self, memory: Memory, pool: Pool, labelled: Labelled) -> tuple[Pick, Memory]:
        scores, counts = fields.scores(pool, name="tail_first"), memory.counts
        num_classes, free = counts.shape[0], available(pool, labelled)
        predicted = scores.predicted.astype(jnp.int32)
        column = jnp.where(free & (predicted >= 0), predicted, num_classes)
        offered = jnp.zeros(num_classes, bool).at[column].set(True, mode="drop")
        rank = balancing.tie_rank(
            jnp.zeros(0, jnp.int32),
            num_classes=num_classes,
            key=jax.random.fold_in(memory.key, labelled.count),
            ties=self.ties,
        )
        wanted = balancing.wanted_class(
            # A class without a label is no known one.
            jnp.where(offered, counts, 0),
            jnp.zeros_like(counts),
            rank,
            patience=None,
        )
        among = free & ((predicted == wanted) | (wanted < 0))
        return Pick(argmax(getattr(scores, self.score), among, tolerance=_TIE), wanted), memory

    def tell(
        self, memory: Memory, pool: Pool, index: Int[Array, ""], label: Int[Array, ""]
    ) -> Memory:
        column = jnp.where(label >= 0, label, memory.counts.shape[0])
        return replace(memory, counts=memory.counts.at[column].add(1, mode="drop"))

    def grow(self, memory: Memory, num_classes: int) -> Memory:
        more = num_classes - memory.counts.shape[0]
        return replace(memory, counts=jnp.pad(memory.counts, (0, more)))

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # It only compares.
        return 0.0

    def reason(
        self, memory: Memory, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        scores = fields.scores(pool, name="tail_first")
        counts, values = np.asarray(memory.counts), np.asarray(getattr(scores, self.score))

        def sentence(row: int, wanted: int) -> str:
            uncertain = f"{_NAMES[self.score]} {values[row]:.3g}, the most uncertain"
            if wanted < 0:
                return f"{uncertain} of all: none is predicted as a class that has a label"
            known = f"{names.of_target(wanted)} ({plural(int(counts[wanted]), 'label')})"
            return f"{uncertain} that is predicted as {known}, the rarest class on offer"

        pairs = zip(
            np.asarray(picks.index).tolist(), np.asarray(picks.wanted).tolist(), strict=True
        )
        return [sentence(row, wanted) for row, wanted in pairs]
