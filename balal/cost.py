"""What a simulation costs, before anything is allocated: memory at its peak, and arithmetic."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from balal import check, simulation
from balal.strategies.base import Strategy, member
from balal.types import Pool, Scores

# About how many operations the scores take per logit: exponential, products, comparisons.
_A_LOGIT = 10


@dataclass(frozen=True)
class Cost:
    """What a simulation takes.

    Attributes:
      bytes: peak memory, including the pool.
      flops: floating-point operations, counting additions and products separately; None if the
        strategy does not say.
    """

    bytes: int
    flops: float | None


def estimate(
    strategy: Strategy,
    num_rows: int,
    num_features: int,
    num_source_classes: int,
    num_classes: int,
    budget: int,
    *,
    dtype: DTypeLike = jnp.float32,
    limit: int | None = None,
) -> Cost:
    """What `balal.simulate` would cost on the present device, without a pool: nothing of its size
    is allocated.

    The memory is what the compiler reserves for the program, so this takes as long as compiling it,
    a few seconds. It does not include the working memory of the libraries that XLA calls, which on
    CPUs can be a third of the features if a small pool is searched by plain passes. The operations
    are those of the plain form of each rule, which evaluates every row at every pick; k-center and
    balancing take far fewer if their bounds are tight.

    Args:
      strategy: any; without its `flops`, operations are unknown.
      num_rows, num_features, num_source_classes, num_classes: `N`, `D`, `K`, `C`; no features or
        source classes for a pool without features or scores.
      budget: labels to be bought.
      dtype: of the features.
      limit: bytes available. A job that needs more is refused.

    Raises: ValueError for sizes that are not whole numbers, for a strategy that needs what the pool
      lacks, and if the memory would exceed `limit`; RuntimeError if the compiler for this device
      does not report what a program takes.

    >>> from balal.strategies import strategy
    >>> cost = estimate(strategy("random"), 1000, 4, 0, 3, 10)
    >>> cost.bytes > 1000 * 4 * 4, cost.flops
    (True, 0.0)
    """
    sizes = dict(
        num_rows=num_rows,
        num_features=num_features,
        num_source_classes=num_source_classes,
        num_classes=num_classes,
        budget=budget,
    )
    for name, value in sizes.items():
        least = 0 if name in ("num_features", "num_source_classes") else 1
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    check.strategy(strategy)
    needs = dict(features=num_features, scores=num_source_classes, logits=num_source_classes)
    missing = [name for name in strategy.needs if not needs[name]]
    if missing:
        raise ValueError(
            f"{strategy!r} needs {' and '.join(missing)}: pass num_features and num_source_classes "
            f"above 0"
        )
    flops = member(strategy, "flops")(num_rows, num_features, num_classes, budget)
    if flops is not None:
        flops += float(_A_LOGIT) * num_rows * num_source_classes

    def column(kind):
        return jax.ShapeDtypeStruct((num_rows,), kind)

    fields = dict(candidates=column(jnp.bool_))
    if num_features:
        fields["features"] = jax.ShapeDtypeStruct((num_rows, num_features), dtype)
    if "logits" in strategy.needs:
        fields["logits"] = jax.ShapeDtypeStruct((num_rows, num_source_classes), jnp.float32)
    scores = [column(jnp.float32)] * 3 + [column(jnp.int32)] if num_source_classes else []

    def program(fields, scores, labels, key):
        pool = Pool(**dict(features=None) | fields, scores=Scores(*scores) if scores else None)
        return simulation.simulate(
            strategy, pool, labels, budget=budget, num_classes=num_classes, key=key
        )

    key = jax.eval_shape(lambda: jax.random.key(0))
    memory = (
        jax.jit(program).lower(fields, scores, column(jnp.int32), key).compile().memory_analysis()
    )
    if memory is None:
        raise RuntimeError(
            f"the compiler for {jax.default_backend()} does not report what memory a program takes"
        )
    needed = memory.argument_size_in_bytes + memory.temp_size_in_bytes + memory.output_size_in_bytes
    if limit is not None and needed > limit:
        raise ValueError(
            f"{num_rows:,} x {num_features:,} with {num_classes:,} classes and a budget of "
            f"{budget:,} needs {needed / 1e9:.2f} GB, more than the limit of {limit / 1e9:.2f} GB: "
            f"lower the budget or num_classes, keep fewer features, or choose a strategy that "
            f"needs less"
        )
    return Cost(int(needed), flops)
