"""What a simulation costs, before anything is allocated: memory at its peak, and arithmetic."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from balal import check, loop
from balal.kernels import typicality
from balal.strategies import Balanced, Ordered, Posterior, Strategy
from balal.strategies.core_set import CoreSet
from balal.types import Pool, Scores

# Operations that one logit takes on its way into the scores, about: exponential, products,
# comparisons.
_A_LOGIT = 10


@dataclass(frozen=True)
class Cost:
    """bytes: memory at the peak of a simulation, its pool included. flops: floating-point
    operations, additions and products apart."""

    bytes: int
    flops: float


def estimate(
    strategy: Strategy,
    rows: int,
    size: int,
    source_classes: int,
    num_classes: int,
    budget: int,
    *,
    dtype: DTypeLike = jnp.float32,
    limit: int | None = None,
) -> Cost:
    """What `balal.simulate` would cost on the present device, without a pool: nothing of its size
    is allocated.

    The memory is what the compiler reserves for the program, so that this takes as long as
    compiling it, some seconds; not counted is what the libraries below it take while they work,
    which on CPUs can be a third of the features where a small pool is passed over plainly. The
    operations are those of the plain form of each rule, which looks at every row at every pick;
    k-center and balancing take far fewer where their bounds hold.

    Args:
      strategy: one of this library's, composed as you like.
      rows, size, source_classes, num_classes: `N`, `D`, `K`, `C`; a size or source classes of 0 for
        a pool without features or scores.
      budget: labels to be bought.
      dtype: of the features.
      limit: bytes there are. A job that needs more is refused.

    Raises: ValueError for sizes that are not whole numbers, for a strategy that needs what the pool
      lacks or that is not known here, and where the memory would exceed `limit`; RuntimeError where
      the compiler for this device does not say what a program takes.

    >>> from balal.strategies import strategy
    >>> cost = estimate(strategy("random"), 1000, 4, 0, 3, 10)
    >>> cost.bytes > 1000 * 4 * 4, cost.flops
    (True, 0.0)
    """
    sizes = dict(
        rows=rows, size=size, source_classes=source_classes, num_classes=num_classes, budget=budget
    )
    for name, value in sizes.items():
        least = 0 if name in ("size", "source_classes") else 1
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    check.strategy(strategy)
    needs = dict(features=size, scores=source_classes, logits=source_classes)
    missing = [name for name in strategy.needs if not needs[name]]
    if missing:
        raise ValueError(
            f"{strategy!r} needs {' and '.join(missing)}: pass a size and source_classes above 0"
        )
    flops = (
        _flops(strategy, rows, size, num_classes, budget) + float(_A_LOGIT) * rows * source_classes
    )

    def column(kind):
        return jax.ShapeDtypeStruct((rows,), kind)

    fields = dict(candidates=column(jnp.bool_))
    if size:
        fields["features"] = jax.ShapeDtypeStruct((rows, size), dtype)
    if "logits" in strategy.needs:
        fields["logits"] = jax.ShapeDtypeStruct((rows, source_classes), jnp.float32)
    scores = [column(jnp.float32)] * 3 + [column(jnp.int32)] if source_classes else []

    def program(fields, scores, labels, key):
        pool = Pool(**dict(features=None) | fields, scores=Scores(*scores) if scores else None)
        return loop.simulate(
            strategy, pool, labels, budget=budget, num_classes=num_classes, key=key
        )

    key = jax.eval_shape(lambda: jax.random.key(0))
    memory = (
        jax.jit(program).lower(fields, scores, column(jnp.int32), key).compile().memory_analysis()
    )
    if memory is None:
        raise RuntimeError(
            f"the compiler for {jax.default_backend()} does not say what memory a program takes"
        )
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    if limit is not None and needed > limit:
        raise ValueError(
            f"{rows:,} x {size:,} with {num_classes:,} classes and a budget of {budget:,} needs "
            f"{needed / 1e9:.2f} GB, more than the limit "
            f"of {limit / 1e9:.2f} GB: lower the budget or num_classes, keep fewer features, or "
            f"choose a strategy that needs less"
        )
    return Cost(int(needed), flops)


def _flops(strategy: Strategy, rows: int, size: int, num_classes: int, budget: int) -> float:
    """Operations of the plain form of a rule after the scores."""
    if isinstance(strategy, Posterior):
        begun = min(strategy.start, budget) if strategy.first else 0
        first = _flops(strategy.first, rows, size, num_classes, begun) if strategy.first else 0.0
        return first + _posterior(strategy, rows, size, num_classes, budget)
    if isinstance(strategy, Balanced):
        # At a pick: distances to one mean, three operations a number, and one ratio for each class
        # and row.
        return _flops(strategy.first, rows, size, num_classes, budget) + float(budget) * rows * (
            3 * size + 3 * num_classes
        )
    if isinstance(strategy, CoreSet):
        return 3.0 * rows * size * budget
    if isinstance(strategy, Ordered):
        # Sorting compares, it does not calculate.
        return 0.0
    raise ValueError(
        f"the cost of {type(strategy).__name__} is not known: estimate knows the strategies of "
        f"balal, composed as you like"
    )


def _posterior(strategy: Posterior, rows: int, size: int, num_classes: int, budget: int) -> float:
    """Operations of the posterior: neighbours once, columns and means for every label, utilities
    for every look."""
    neighbours = 2.0 * rows * min(rows, typicality.AMONG) * size
    looks = math.ceil(budget / strategy.every) + math.ceil(math.log2(strategy.every + 1))
    landmarks = strategy.landmarks_for(rows, budget)

    def labels(number: int) -> float:
        """Of all labels, on so many rows."""
        related = 2.0 * size + budget if landmarks is None else 2.0 * landmarks
        return float(budget) * number * (related + 2 * num_classes)

    prepared = 0.0 if landmarks is None else float(rows) * landmarks * (2 * size + landmarks)
    utilities = 6.0 * num_classes * (looks * rows + budget * min(strategy.near, rows))
    return neighbours + prepared + labels(rows) + labels(min(strategy.near, rows)) + utilities
