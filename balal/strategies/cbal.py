"""Class-balanced active learning: rows that are uncertain, or far from what is labelled, and that
by the target model's predictions bring every class to its share."""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal.kernels.balanced_k_center import balanced_k_center
from balal.kernels.class_balance import Batch, balanced_batch, deficits
from balal.kernels.uncertainty import entropy
from balal.strategies.base import Names
from balal.strategies.fields import features, target_logits
from balal.strategies.planned import Plan, Planned
from balal.types import Labelled, Pick, Pool, State, available
from balal.wording import plural


@dataclass(frozen=True)
class Cbal(Planned):
    """Asks for the batch of most entropy, less `weight` times the distance of its expected class
    counts from what each class is short of. Both are taken of the target model's predictions.

    Attributes:
      weight: of the balance against the entropy, in nats a label. A row of classes that are short
        of labels is worth `2 * weight` more than one of the others. Published are 0.6 with 10
        classes and 2 with 100; the latter is the default, as balance is what an imbalanced pool
        lacks.
      target: weights for the labels of each class (None: equal ones).

    Balanced are the classes that the target model knows or that have a label. A class that it does
    not know has probability 0, and what it is short of changes nothing.

    Costs `O(N C)` memory, and `O(N C^2)` time for each of up to 40 steps.

    Source: Bengar, van de Weijer, Fuentes, Raducanu, WACV 2022, Eq. 5.
    Differs from the authors' code in solving the dual, with a bound on what the best batch could
    gain (`certificate`), not a mixed-integer program within a time limit; in targets that are not
    rounded down; and in classes without a label, with which that code breaks.
    """

    weight: float = 2.0
    target: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _checked(self.weight, self.target)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("logits",)

    @property
    def target_model(self) -> bool:
        return True

    @property
    def uses_chance(self) -> bool:
        return False

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        return self.batch(pool, memory, most=most).indices

    def batch(self, pool: Pool, memory: Plan, *, most: int) -> Batch:
        """The plan, with its certificate. Runs inside jit. Args: as of `plan`."""
        logits, probs, short = _prediction(pool, memory, self.target, "cbal")
        return balanced_batch(
            -entropy(logits),
            probs,
            short,
            memory.budget,
            weight=jnp.float32(self.weight),
            candidates=available(pool, memory.begun),
            most=most,
        )

    def aim(self, weights: tuple[float, ...]) -> "Cbal":
        return replace(self, target=weights)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        # For each of 40 steps a product of the predictions with themselves and two with vectors.
        return 40.0 * 2 * num_rows * num_classes * (num_classes + 2)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        rows = np.asarray(picks.index)
        logits = _of_rows(pool, rows, len(memory.counts), "cbal")
        entropies = np.asarray(entropy(logits)) if len(rows) else []
        adds = _additions(memory, pool, logits, self.target, names, "cbal")
        return [f"entropy {e:.3g}; {add}" for e, add in zip(entropies, adds, strict=True)]


@dataclass(frozen=True)
class CbalCoreSet(Planned):
    """Asks for the row farthest from all labelled and picked ones, less `weight` times the distance
    of the picks' expected class counts from what each class is short of: the k-center form of
    `Cbal`.

    Attributes:
      weight: of the balance against the distance, in units of the median distance to a labelled row
        when the budget begins. Published is 0.5 (5 with 10 classes and 50 with 100, divided by
        them) in units of the features.
      target: weights for the labels of each class (None: equal ones).

    Classes count as in `Cbal`. Without a labelled row the first pick goes by the classes alone,
    and is drawn among equals.

    Costs `O(N (D + C))` time a pick.

    Source: Bengar, van de Weijer, Fuentes, Raducanu, WACV 2022.
    Differs from the authors' code in the unit of the weight, in features that are not rounded to
    two decimals, and as `Cbal` does in the targets.
    """

    weight: float = 0.5
    target: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _checked(self.weight, self.target)

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features", "logits")

    @property
    def target_model(self) -> bool:
        return True

    @property
    def uses_chance(self) -> bool:
        return True

    def plan(self, pool: Pool, memory: Plan, *, most: int) -> Int[Array, " most"]:
        _, probs, short = _prediction(pool, memory, self.target, "cbal_core_set")
        return balanced_k_center(
            features(pool, name="cbal_core_set"),
            probs,
            short,
            memory.budget,
            weight=jnp.float32(self.weight),
            labelled=memory.begun.indices,
            candidates=pool.candidates,
            key=memory.key,
            most=most,
        )

    def aim(self, weights: tuple[float, ...]) -> "CbalCoreSet":
        return replace(self, target=weights)

    def flops(self, num_rows: int, num_features: int, num_classes: int, budget: int) -> float:
        return 3.0 * budget * num_rows * (num_features + num_classes)

    def reason(
        self, memory: Any, pool: Pool, labelled: Labelled, picks: Pick, names: Names
    ) -> list[str]:
        logits = _of_rows(pool, np.asarray(picks.index), len(memory.counts), "cbal_core_set")
        adds = _additions(memory, pool, logits, self.target, names, "cbal_core_set")
        return [f"far from everything before it; {add}" for add in adds]


def certificate(strategy: Cbal, pool: Pool, state: State) -> Batch:
    """What the query of a state rests on: its rows, their objective, and how much lower that of the
    best batch could be.

    Args:
      strategy: a `Cbal`, plain.
      pool: the pool.
      state: of the loop, as `balal.init`, `ask` and `tell` return it.

    Raises: ValueError if the state is not one of a plain `Cbal`.

    >>> import balal
    >>> probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8]], np.float32)
    >>> pool = balal.pool(None, probs=probs, keep_logits=True)
    >>> options = dict(budget=1, num_classes=2, key=jax.random.key(0), labelled=([0], [0]))
    >>> state = balal.init(Cbal(), pool, **options)
    >>> batch = certificate(Cbal(), pool, state)
    >>> batch.indices.tolist(), round(float(batch.gap), 3)
    ([2], 0.0)
    """
    memory = state.memory
    if not (isinstance(strategy, Cbal) and isinstance(memory, Plan)):
        raise ValueError(
            f"only the query of a Cbal has a certificate, got {type(strategy).__name__} and a "
            f"state of {state.strategy}"
        )
    most = min(len(memory.indices), pool.num_rows)
    return strategy.batch(pool, memory, most=most)


def _prediction(
    pool: Pool, memory: Plan, target: tuple[float, ...] | None, name: str
) -> tuple[Float[Array, "N C"], Float[Array, "N C"], Float[Array, " C"]]:
    """Logits and probabilities of the target classes, and what each class is short of."""
    num_classes = len(memory.counts)
    logits = target_logits(pool, num_classes, name=name)
    if target is not None and len(target) > num_classes:
        raise ValueError(f"target has {len(target)} weights for {num_classes} classes")
    weights = np.ones(num_classes, np.float32)
    if target is not None:
        weights = np.pad(np.asarray(target, np.float32), (0, num_classes - len(target)))
    free = available(pool, memory.begun)
    known = _finite_somewhere(logits, free) | (memory.counts > 0)
    short = deficits(memory.counts, memory.budget, target=weights, known=known)
    # Rows that may not be asked may hold anything.
    logits = jnp.where(free[:, None], logits, 0)
    return logits, jax.nn.softmax(logits, axis=1), short


def _finite_somewhere(
    logits: Float[Array, "N C"], candidates: Bool[Array, " N"]
) -> Bool[Array, " C"]:
    return jnp.any(candidates[:, None] & (logits > -jnp.inf), axis=0)


def _of_rows(pool: Pool, rows: np.ndarray, num_classes: int, name: str) -> Float[Array, "n C"]:
    logits = None if pool.logits is None else pool.logits[rows]
    return target_logits(Pool(None, logits=logits), num_classes, name=name)


def _additions(
    memory: Plan,
    pool: Pool,
    logits: Float[Array, "n C"],
    target: tuple[float, ...] | None,
    names: Names,
    name: str,
) -> list[str]:
    """What each row, by its prediction, adds to the classes that are short of labels."""
    _, _, lacking = _prediction(pool, memory, target, name)
    short, counts = np.asarray(lacking), np.asarray(memory.counts)
    if not np.any(short > 0):
        return ["no class is short of labels"] * len(logits)
    added = np.asarray(jax.nn.softmax(logits, axis=1)) * (short > 0)
    return [
        f"adds {total:.2f} to classes short of labels, most to {names.of_target(most)} "
        f"({plural(int(counts[most]), 'label')}, {short[most]:.1f} short)"
        for total, most in zip(added.sum(axis=1), added.argmax(axis=1).tolist(), strict=True)
    ]


def _checked(weight: float, target: tuple[float, ...] | None) -> None:
    if (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not 0 <= weight < math.inf
    ):
        raise ValueError(f"weight must be a finite number of at least 0, got {weight!r}")
    if target is not None and not (
        isinstance(target, tuple) and sum(target) > 0 and all(0 <= w < math.inf for w in target)
    ):
        raise ValueError(
            f"target must be a tuple of finite numbers of at least 0, one for each class and not "
            f"all 0, got {target!r}"
        )
