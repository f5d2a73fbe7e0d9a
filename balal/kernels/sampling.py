"""Chance, drawn one number a row, so that padding or growing a pool changes nobody's number."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt32


def random_bits(key: Key[Array, ""], size: int) -> UInt32[Array, " size"]:
    """One uniform 32-bit number for each of `size` rows; row `n` gets the same one whatever `size`
    is.

    >>> key = jax.random.key(0)
    >>> bool((random_bits(key, 5) == random_bits(key, 9)[:5]).all())
    True
    """
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row)))(jnp.arange(size))
