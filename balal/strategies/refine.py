"""REFINE: rows that some strategy asks for again and again, and of these those that cover them."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key

from balal import check
from balal.kernels import sampling
from balal.strategies.base import Names, Order, Ordered, Strategy, member
from balal.strategies.core_set import CoreSet
from balal.strategies.planned import Plan, Planned
from balal.strategies.uncertainty import Uncertainty
from balal.types import Labelled, Pick, Pool, available
from balal.wording import plural

_COVER = CoreSet()


@dataclass(frozen=True)
class Refine(Planned):
    """Filters the pool before it chooses: round by round, only those rows stay that one of several
    strategies asks for in one of several random parts of what is left. From the rest `cover`
    chooses.

    Attributes:
      strategies: what filters; each ranks the pool in one shot.
      cover: what chooses in the end; it ranks the pool in one shot as well.
      rounds: of filtering. A round that would leave fewer rows than the budget does not count.
      batches: parts for each strategy and round, in each of which it asks for a whole budget.
      share: the probability of a row to be in such a part.

    Costs `rounds batches` rankings by each strategy, and one by `cover`.

    Source: Huseljic, Herde, Rauch, Hahn, Sick, Cleaning the Pool: Progressive Filtering of
      Unlabeled Pools in Deep Active Learning, CVPR 2026.

    Differs from the paper in its defaults, the most uncertain rows and the most certain ones of
    each class, covered by k-center (there more and costlier strategies, covered by UHerding), and
    in drawing each row of a part on its own, so that its size is not fixed.
    """

    strategies: tuple[Strategy, ...] = (
        Uncertainty("margin"),
        Uncertainty("margin", inverted=True, diversified=True),
    )
    cover: Strategy = _COVER
    rounds: int = 5
    batches: int = 10
    share: float = 0.4

    def __post_init__(self) -> None:
        if not isinstance(self.strategies, tuple) or not self.strategies:
            raise ValueError(
                f"strategies must be a tuple of at least one strategy, got {self.strategies!r}"
            )
        for strategy in (*self.strategies, self.cover):
            if not isinstance(strategy, Ordered):
                raise ValueError(
                    f"strategies and cover must rank the pool in one shot (a balal.Ordered), got "
                    f"{strategy!r}"
                )
        check.whole_number("rounds", self.rounds)
        if check.whole_number("batches", self.batches) < 1:
            raise ValueError(f"batches must be at least 1, got {self.batches}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must lie above 0 and be at most 1, got {self.share!r}")

    @property
    def needs(self) -> tuple[str, ...]:
        every = (*self.strategies, self.cover)
        return tuple(dict.fromkeys(need for each in every for need in each.needs))

    @property
    def uses_chance(self) -> bool:
        return True

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        labelled, budget, key = memory.begun, memory.budget, memory.key
        wanted = jnp.arange(most, dtype=jnp.int32) < budget

        def asked(kept: Bool[Array, " N"], key: Key[Array, ""]) -> Bool[Array, " N"]:
            """What any strategy asks for in a random part of the rows, one part for each."""
            found = jnp.zeros_like(kept)
            for number, strategy in enumerate(self.strategies):
                drawn, own = jax.random.split(jax.random.fold_in(key, number))
                bits = sampling.random_bits(drawn, pool.num_rows)
                part = kept & (bits <= jnp.uint32(self.share * (2**32 - 1)))
                rows = _order(strategy, pool, labelled, part, most, own)
                found |= _marked(jnp.where(wanted, rows, -1), pool.num_rows)
            return found

        def filtered(turn, kept):
            ours = jax.random.fold_in(key, turn)

            def batch(number, found):
                return found | asked(kept, jax.random.fold_in(ours, number))

            left = jax.lax.fori_loop(0, self.batches, batch, jnp.zeros_like(kept))
            return jnp.where(jnp.sum(left, dtype=jnp.int32) >= budget, left, kept)

        kept = jax.lax.fori_loop(0, self.rounds, filtered, available(pool, labelled))
        return _order(self.cover, pool, labelled, kept, most, jax.random.fold_in(key, self.rounds))

    def flops(
        self, num_rows: int, num_features: int, num_classes: int, budget: int
    ) -> float | None:
        sizes = num_rows, num_features, num_classes, budget
        each = [member(one, "flops")(*sizes) for one in (*self.strategies, self.cover)]
        if any(one is None for one in each):
            return None
        return self.rounds * self.batches * sum(each[:-1]) + each[-1]

    def reason(
        self, memory: Plan, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        cover = member(self.cover, "reason")(Order(memory.indices), pool, labelled, picks, names)
        filters = plural(self.rounds, "round")
        return [f"left after {filters} of filtering; {sentence}" for sentence in cover]


def _order(
    strategy: Strategy,
    pool: Pool,
    labelled: Labelled,
    rows: Bool[Array, " N"],
    most: int,
    key: Key[Array, ""],
) -> Int[Array, " most"]:
    """The strategy's order of some of the rows; -1 at the end if there are too few."""
    assert isinstance(strategy, Ordered)
    return strategy.order(replace(pool, candidates=rows), labelled, most, key)


def _marked(rows: Int[Array, " most"], num_rows: int) -> Bool[Array, " N"]:
    """Whether each row of the pool is among some, of which -1 is none: bool [N]."""
    return jnp.zeros(num_rows, bool).at[jnp.where(rows >= 0, rows, num_rows)].set(True, mode="drop")
