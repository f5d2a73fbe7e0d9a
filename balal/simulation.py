"""A whole budget spent at once, with known labels, in one compiled program."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Float, Int, Key

from balal import check, labelled_set, loop, metrics, preparation, sharding, xla
from balal.strategies.base import Budget, Strategy
from balal.types import Labelled, Pool


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Result:
    """What a simulation bought. With a capacity, `b` is the capacity, and entries that were not
    bought are -1 at the end. A vmap over `S` seeds adds a leading axis to each.

    Attributes:
      indices: int32 [b], in order.
      labels: int32 [b].
      wanted: int32 [b], the class that each pick hoped for, -1 for none.
      switched_at: number of labels (including a labelled start) when a rule took over, -1: never.
      counts: int32 [C], of all labels, including a labelled start, as are the next two.
      classes_found: int32.
      imbalance_ratio: population std over mean of the counts.
    """

    indices: Int[Array, "*S b"]
    labels: Int[Array, "*S b"]
    wanted: Int[Array, "*S b"]
    switched_at: Int[Array, "*S"]
    counts: Int[Array, "*S C"]
    classes_found: Int[Array, "*S"]
    imbalance_ratio: Float[Array, "*S"]


def simulate(
    strategy: Strategy,
    pool: Pool,
    labels: Int[Array, " N"] | np.ndarray,
    *,
    budget: Budget,
    num_classes: int,
    key: Key[Array, ""],
    labelled: Labelled | tuple[Any, Any] | None = None,
    capacity: int | None = None,
) -> Result:
    """The whole budget spent one label at a time, as one compiled program: what `ask(size=1)` and
    `tell` would do, pick for pick.

    Can be jitted, and vmapped over keys, pools or labels; the lanes of a vmap run one after the
    other inside one program, so that each pays only for what its own picks need.

    Args:
      strategy, pool, budget, num_classes, key, labelled: as in `init`. The padding of a `Labelled`
        is room for a larger one, which the same program serves.
      labels: int [N], the true target classes; -1 for a row that is not a candidate and whose class
        is not known.
      capacity: the largest budget that there is room for. With it the budget may be an array: one
        program serves all budgets, and they can be vmapped over as well. None: the budget itself.

    Raises: ValueError as `init` does, and for labels outside [0, num_classes). Under jit or vmap
      only shapes can be checked, not values.
    """
    check.capacity(budget, capacity)
    most = budget if capacity is None else capacity
    start = loop.checked_start(
        strategy, pool, labelled, budget=most, num_classes=num_classes, key=key, padded=True
    )
    labels = check.labels(
        "labels",
        labels,
        num_classes=num_classes,
        size=check.rows_in(pool),
        needed=pool.candidates,
    )
    pool = preparation.prepare_missing(strategy, preparation.fresh(strategy, pool))
    spent = None if capacity is None else jnp.asarray(budget, jnp.int32)
    labels = jnp.asarray(labels, jnp.int32)
    return _simulate(strategy, most, num_classes, pool, labels, start, key, spent)


def one_shot(
    strategy: Strategy,
    pool: Pool,
    labels: Int[Array, " N"] | np.ndarray,
    *,
    budget: Budget,
    num_classes: int,
    key: Key[Array, ""],
    capacity: int | None = None,
) -> Result:
    """`simulate` from an empty labelled set: the paper's one-shot scenario.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from balal import pool, strategy
    >>> rows = pool(None, logits=jnp.outer(jnp.arange(8.0), jnp.array([1.0, 0.0])))
    >>> options = dict(budget=3, num_classes=2, key=jax.random.key(0))
    >>> result = one_shot(strategy("ent"), rows, jnp.arange(8) % 2, **options)
    >>> result.indices.tolist(), result.counts.tolist()
    ([0, 1, 2], [2, 1])
    """
    return simulate(
        strategy, pool, labels, budget=budget, num_classes=num_classes, key=key, capacity=capacity
    )


@partial(jax.jit, static_argnums=(0, 1, 2))
def _simulate(strategy, most, num_classes, pool, labels, start, key, spent) -> Result:
    xla.make_room()
    leaves, structure = jax.tree.flatten((pool, labels, start, key, spent))

    @sequential_vmap
    def run(*leaves):
        pool, labels, start, key, spent = jax.tree.unflatten(structure, leaves)
        budget = most if spent is None else spent

        def step(_, carry):
            memory, labelled = carry
            pick, memory = strategy.ask(memory, pool, labelled)
            label = jnp.where(pick.index >= 0, sharding.fetch(labels, pick.index), -1)
            memory = strategy.tell(memory, pool, pick.index, label)
            return memory, labelled_set.append(labelled, pick.index, label, pick.wanted)

        labelled = labelled_set.extend(start, most)
        memory = strategy.init(pool, labelled, budget, num_classes, key)
        _, labelled = jax.lax.fori_loop(0, budget, step, (memory, labelled))
        bought = jax.tree.map(
            lambda rows: jax.lax.dynamic_slice_in_dim(rows, start.count, most),
            labelled_set.columns(labelled),
        )
        counts = metrics.class_counts(labelled.labels, num_classes=num_classes)
        aimed = bought["wanted"] >= 0
        first = start.count + jnp.argmax(aimed).astype(jnp.int32)
        return dict(
            **bought,
            switched_at=jnp.where(jnp.any(aimed), first, -1),
            counts=counts,
            classes_found=metrics.classes_found(counts),
            imbalance_ratio=metrics.imbalance_ratio(counts),
        )

    return Result(**run(*leaves))
