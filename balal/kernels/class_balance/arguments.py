"""Checks of what the kernels of class balance are given."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Int

from balal import check, sharding


def sizes(
    budget: Any, most: int | None, *, num_rows: int
) -> tuple[Int[Array | np.ndarray, ""], int]:
    """A budget as data, and the largest one, which sets the shape.

    Raises: ValueError unless `0 <= budget <= most <= num_rows`.

    >>> [int(size) for size in sizes(3, None, num_rows=5)]
    [3, 3]
    """
    largest = check.whole_number("budget", budget) if most is None else most
    largest = check.whole_number("most", largest)
    budget = check.integers("budget", budget)
    least = 0 if isinstance(budget, Tracer) else int(budget)
    if not 0 <= least <= largest <= num_rows:
        raise ValueError(
            f"budget must lie between 0 and most, and most not above the {num_rows} rows of the "
            f"pool, got {budget} and {largest}"
        )
    return budget, largest


def numbers(name: str, value: Any, shape, *, candidates=None, negative: bool = False) -> Any:
    """`value` as floating-point numbers of a shape, finite and, unless `negative`, not below 0;
    ValueError otherwise."""
    found = check.floats(name, value, lists=True)
    if found.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {found.shape}")
    seen = of_candidates(found, candidates, 0)
    if not isinstance(seen, Tracer):
        seen = sharding.whole(seen).reshape(-1)
        check.finite(name, seen)
        if not negative and np.any(seen < 0):
            raise ValueError(f"{name} must not be negative, but the least is {seen.min():.3g}")
    return found


def of_candidates(values: Any, candidates: Any, instead: Any) -> Any:
    """The values, with others where a row is no candidate, which may hold anything."""
    if candidates is None:
        return values
    mask = jnp.asarray(candidates).reshape(-1, *[1] * (values.ndim - 1))
    return jnp.where(mask, values, jnp.asarray(instead, values.dtype))
