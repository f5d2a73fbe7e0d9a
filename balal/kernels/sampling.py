"""Random numbers, one for each row, so that padding or growing a pool changes none of them, and
draws with them."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from balal import check, sharding


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


def race(key: Key[Array, ""], rates: Float[Array, " N"]) -> Float[Array, " N"]:
    """Numbers of which the largest is that of a row drawn in proportion to its rate: [N], 0 where
    the rate is 0. Runs inside jit.

    An exponential race: each row's clock runs at its rate, and the first to ring is drawn, so that
    the order in which rates are added up does not matter.

    Args:
      key: of the draw.
      rates: [N], not negative.

    Source: Efraimidis, Spirakis, IPL 2006.

    >>> int(jnp.argmax(race(jax.random.key(0), jnp.array([0.0, 2.0, 0.0]))))
    1
    """
    # It takes all 32 bits, as the first of many clocks rings very early.
    bits = jax.random.bits(key, rates.shape, jnp.uint32)
    waiting = -jnp.log1p(-(bits.astype(jnp.float32) + 0.5) * 2.0**-32)
    # Times 2^33, so that no quotient is larger than the rate, which might overflow.
    return rates / (waiting * 2.0**33)


def draw(
    key: Key[Array, ""], rates: Float[Array, " N"], number: int
) -> tuple[Int[Array, " number"], Float[Array, " number"]]:
    """Rows drawn in proportion to their rates, each once: [number], and [number] weights by which
    sums over these rows estimate sums over all, without bias. Runs inside jit.

    A weight is the inverse of how probable the row was to come among the first `number` of an
    exponential race, given when the next one came: 1 for all if there are no others. Where fewer
    rows have a rate above 0, other rows fill up with weight 0.

    Args:
      key: of the draw.
      rates: [N], not negative.
      number: how many, below N.

    Source: Cohen, Kaplan, *Summarizing data using bottom-k sketches*, PODC 2007.

    >>> rows, weights = draw(jax.random.key(0), jnp.array([0.0, 2.0, 0.0]), 1)
    >>> rows.tolist(), weights.tolist()
    ([1], [1.0])
    """
    came, rows = sharding.top_k(race(key, rates), number + 1)
    # A row with this rate comes within 1 / (2^33 next) with probability 1 - exp(-rate / ...).
    time = 1 / (jnp.where(came[-1] > 0, came[-1], 1) * 2.0**33)
    within = jnp.where(came[-1] > 0, -jnp.expm1(-rates[rows[:-1]] * time), 1)
    drawn = came[:-1] > 0
    return rows[:-1].astype(jnp.int32), jnp.where(drawn, 1 / jnp.where(drawn, within, 1), 0)
