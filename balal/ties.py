"""Ties: which of several rows that are equally good is picked."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Real


def largest(values: Real[Array, " N"], candidates: Bool[Array, " N"], *, tolerance: float = 0.0) -> Int[Array, ""]:
    """The candidate with the largest value, the lowest row among several, int32; -1 without candidates. Runs inside jit.

    Args:
      values: [N], not NaN. candidates: bool [N].
      tolerance: values that fall short of the largest by no more than this share of it are level with it.

    >>> int(largest(jnp.array([3.0, 1.0, 3.0]), jnp.array([True, True, True])))
    0
    >>> int(largest(jnp.array([0.999, 1.0]), jnp.array([True, True]), tolerance=0.01))
    0
    """
    nothing = -jnp.inf if jnp.issubdtype(values.dtype, jnp.floating) else jnp.iinfo(values.dtype).min
    top = jnp.max(jnp.where(candidates, values, nothing), initial=nothing)
    level = values == top
    if tolerance:
        level |= values >= top - tolerance * jnp.abs(top)
    return jnp.where(jnp.any(candidates), lowest(candidates & level), -1).astype(jnp.int32)


def lowest(mask: Bool[Array, "*S n"]) -> Int[Array, "*S"]:
    """The lowest true place of the last axis, int32, the last place where none is; many times faster than argmax on a CPU.

    >>> int(lowest(jnp.array([False, True, True])))
    1
    """
    places = jnp.arange(mask.shape[-1], dtype=jnp.int32)
    return jnp.min(jnp.where(mask, jnp.broadcast_to(places, mask.shape), mask.shape[-1] - 1), axis=-1)
