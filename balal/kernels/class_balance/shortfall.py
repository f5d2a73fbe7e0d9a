"""What each class is short of."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from balal import check
from balal.kernels.class_balance.arguments import numbers


def deficits(
    counts: Int[Array | np.ndarray, " C"],
    budget: int | np.integer | Int[Array | np.ndarray, ""],
    *,
    target: Float[Array | np.ndarray, " C"] | None = None,
    known: Bool[Array | np.ndarray, " C"] | None = None,
) -> Float[Array, " C"]:
    """How many labels each class is short of its share of all labels, once `budget` more are there:
    float32 [C].

    `D_c = max(t_c (n + b) - n_c, 0)` with `n` labels so far, `n_c` of class c, and `t` the target
    over the known classes.

    Args:
      counts: int [C], labels of each class.
      budget: how many more there will be.
      target: [C], shares of the classes in any unit (None: equal ones).
      known: bool [C], the classes to be balanced (None: all); the others have no deficit.

    Raises: ValueError when shapes disagree, or for a target that is negative or not finite.

    Source: Bengar et al., WACV 2022, where shares are rounded down. Twin: `deficits` in
      tests/reference.py.

    >>> deficits(jnp.array([4, 1, 0]), 4).tolist()
    [0.0, 2.0, 3.0]
    """
    counts = check.integers("counts", counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must be one number for each class, got shape {counts.shape}")
    budget = check.integers("budget", budget)
    if target is None:
        target = np.ones(counts.shape, np.float32)
    target = numbers("target", target, counts.shape)
    return _deficits(counts, budget, target, check.mask("known", known, size=len(counts)))


@jax.jit
def _deficits(counts, budget, target, known) -> Float[Array, " C"]:
    target = jnp.asarray(target, jnp.float32)
    target = target if known is None else jnp.where(known, target, 0)
    labels = (jnp.sum(counts, dtype=jnp.int32) + budget).astype(jnp.float32)
    # Divided at the end: with equal whole weights nothing else is rounded.
    total = jnp.sum(target)
    short = jnp.maximum(target * labels - counts.astype(jnp.float32) * total, 0)
    return short / jnp.where(total > 0, total, 1)
