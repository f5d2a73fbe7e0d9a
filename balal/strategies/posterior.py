"""The posterior rule, around any strategy or on its own: ask for the row whose answer explains most
of what is worth knowing and not explained yet."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from balal import sharding
from balal.kernels import gaussian_process
from balal.kernels.neighbours import Neighbours
from balal.strategies.looks import Memory, ProcessRule, Surroundings, in_common


@dataclass(frozen=True)
class Posterior(ProcessRule):
    """Follows `first` for a few labels, then asks for the row whose answer explains most of what is
    worth knowing.

    What the answers say of every row is a Gaussian process over the pool
    (`balal.kernels.gaussian_process`). An answer explains other rows of its class as far as no
    class explains them better already. Each row counts by what its label is expected to be worth:
    `1 / (n + 1)` for a class with n labels, and for the part of a row that is like nothing labelled
    so far the mean of that over the answers, or 1 as far as Chao's estimate says that there are
    classes without a label. The row asked about counts itself only as far as the row nearest to it
    is like it, and rows that are not typical of their surroundings lose up to `typical` of their
    worth: both the less, the more of the last answers were of the class that had been guessed.

    It needs no source classifier, no list of classes and no budget: the picks of a small budget are
    the first ones of a larger one, as long as both use the exact form.

    The rows of a larger pool that are chosen from are those of which, and of whose nearest rows,
    most is left open, and others are drawn in proportion to what is left open of them. Looks are
    made after 1, 2, ... 8, 10, 12, 14, 16, 20, 24, ... answers, a quarter of a power of 2 apart,
    and at last every `every`. The attributes are those of `balal.strategies.looks.ProcessRule`.

    Source: this library. The estimate of unseen classes is Chao, Scandinavian Journal of Statistics
    1984, with the correction of Chao 2005.
    """

    def _look_before(self, answers: Int[Array, ""]) -> Int[Array, ""]:
        """How many answers there were at the last look at the whole pool."""
        power = jnp.left_shift(1, 31 - jax.lax.clz(jnp.maximum(answers, 1)))
        step = jnp.clip(power // 4, 1, self.every)
        return (answers // step * step).astype(jnp.int32)

    def _promising(
        self,
        key: Key[Array, ""],
        process: gaussian_process.GaussianProcess,
        surroundings: Surroundings,
        candidates: Bool[Array, " N"],
    ) -> tuple[Float[Array, " N"], Float[Array, " N"]]:
        """Whether rows are worth choosing from: by what answers leave open of them and of the rows
        nearest to them; and what they leave open of each row itself."""
        del key
        worth, best = self._expected_worth(process)
        worth = jnp.where(candidates, worth, 0)
        left = worth * jnp.maximum(1 - best, 0)
        typical, found = surroundings

        def explained(indices, distances, worth, best, bandwidths, noise):
            rows = jnp.maximum(indices, 0)
            beyond = in_common(Neighbours(indices, distances), bandwidths) / (1 + noise)
            return jnp.sum(worth[rows] * jnp.maximum(beyond - best[rows], 0), axis=1)

        # Each device for its own rows; the rows nearest to them may be anywhere.
        nearby = sharding.by_rows(explained, (0, 0, None, None, None, None), 0)(
            *(found.indices, found.distances, worth, best),
            *(process.relation.bandwidths, process.noise),
        )
        return (nearby + left) * self._trust(process.hits, typical), left

    def _gains(self, memory: Memory) -> Float[Array, " m"]:
        """What an answer of each of the rows to choose from is expected to explain."""
        near, process = memory.near, memory.near.process
        number = len(process.covariance)
        worth, best = self._expected_worth(process)
        copies, hits = near.copies[:number], _rate(process.hits)
        own = (copies + (1 - copies) * hits) * worth[:number] * jnp.maximum(1 - best[:number], 0)
        gains = gaussian_process.coverage_gain(process, worth * near.weights, best) + own
        return gains * self._trust(process.hits, near.typical[:number])

    def _trust(self, hits: Float[Array, "2"], typical: Float[Array, " n"]) -> Float[Array, " n"]:
        """The share of its worth that a row keeps, typical or not."""
        return 1 - self.typical * (1 - _rate(hits)) * (1 - typical)

    def _worth(self, counts: Int[Array, " C"]) -> tuple[Float[Array, " C"], Float[Array, ""]]:
        """What one more label of each class is worth, [C], and of what no label explains."""
        worth, of_unseen = self._of_classes(counts)
        labels = counts.astype(jnp.float32)
        once, twice, seen = (
            jnp.sum(which, dtype=jnp.float32) for which in (counts == 1, counts == 2, counts > 0)
        )
        missing = once * (once - 1) / (2 * (twice + 1))
        share = jnp.where(seen > 0, missing / jnp.maximum(missing + seen, 1), 1)
        of_seen = jnp.sum(labels * worth) / jnp.maximum(jnp.sum(labels), 1)
        return worth, share * of_unseen + (1 - share) * of_seen


def _rate(hits: Float[Array, "2"]) -> Float[Array, ""]:
    """How often the last labels were of the likeliest class."""
    return hits[0] / (1 + hits[1])
