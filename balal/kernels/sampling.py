"""Random numbers, one for each row, so that padding or growing a pool changes none of them."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key, UInt32

from balal import check


def random_bits(key: Key[Array, ""], num_rows: int) -> UInt32[Array, " num_rows"]:
    """One uniform 32-bit number for each row; row `n` gets the same one however many rows there
    are.

    >>> key = jax.random.key(0)
    >>> bool((random_bits(key, 5) == random_bits(key, 9)[:5]).all())
    True
    """
    check.key(key)
    return _random_bits(key, check.whole_number("num_rows", num_rows))


@partial(jax.jit, static_argnames="num_rows")
def _random_bits(key, num_rows: int) -> UInt32[Array, " num_rows"]:
    return jax.vmap(lambda row: jax.random.bits(jax.random.fold_in(key, row), dtype=jnp.uint32))(
        jnp.arange(num_rows)
    )
