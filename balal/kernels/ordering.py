"""Order: which row is picked, and which one among equals."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Real

from balal import sharding


def argmax(
    values: Real[Array, " N"], candidates: Bool[Array, " N"], *, tolerance: float = 0.0
) -> Int[Array, ""]:
    """The candidate with the largest value, the lowest row among several, int32; -1 without
    candidates. Runs inside jit.

    Args:
      values: [N], not NaN.
      candidates: bool [N].
      tolerance: values that fall short of the largest by no more than this share of it count as
        equal to it.

    Source: plain arithmetic. Twin: `argmax` in tests/reference.py.

    >>> int(argmax(jnp.array([3.0, 1.0, 3.0]), jnp.array([True, True, True])))
    0
    >>> int(argmax(jnp.array([0.999, 1.0]), jnp.array([True, True]), tolerance=0.01))
    0
    """
    nothing = (
        -jnp.inf if jnp.issubdtype(values.dtype, jnp.floating) else jnp.iinfo(values.dtype).min
    )
    top = jnp.max(jnp.where(candidates, values, nothing), initial=nothing)
    level = values == top
    if tolerance:
        level |= values >= top - tolerance * jnp.abs(top)
    return jnp.where(jnp.any(candidates), first_true(candidates & level), -1).astype(jnp.int32)


def first_true(mask: Bool[Array, "*S n"]) -> Int[Array, "*S"]:
    """The lowest true index along the last axis, int32, or the last index where none is true; many
    times faster than argmax on a CPU.

    >>> int(first_true(jnp.array([False, True, True])))
    1
    """
    index = jnp.broadcast_to(jnp.arange(mask.shape[-1], dtype=jnp.int32), mask.shape)
    return jnp.min(jnp.where(mask, index, mask.shape[-1] - 1), axis=-1)


def argsort(values: Real[Array, " N"], k: int) -> Int[Array, " k"]:
    """The rows of the `k` smallest values in ascending order, ties by the lowest row: int32 [k]
    from [N]. Runs inside jit.

    On CPUs XLA sorts a single array of integers four to six times as fast as floats or two arrays,
    and without extra memory. So each number, as an integer of the same order, becomes the upper
    half of a 64-bit integer whose lower half is its row; JAX's 64-bit mode is on for the sort
    alone. Where `k` is at most a tenth of the floats, they are found without a sort.

    Args:
      values: [N], floats that are not NaN, or integers that fit into int32. Zeros are equal
        whatever their sign, and so are numbers that the device flushes to zero, such as subnormals
        on CPUs.
      k: at most N.

    Source: this library. Twin: `ordered` in tests/reference.py.

    >>> argsort(jnp.array([0.5, -1.0, 0.5]), 3).tolist()
    [1, 0, 2]
    """
    if values.dtype.itemsize > 4:
        return jnp.argsort(values)[:k].astype(jnp.int32)
    num_rows, sign = values.shape[0], jnp.uint32(1 << 31)
    if jnp.issubdtype(values.dtype, jnp.floating):
        values = jnp.where(values == 0, 0, values).astype(jnp.float32)
        if k <= num_rows // 10:
            return sharding.top_k(-values, k)[1]
        bits = jax.lax.bitcast_convert_type(values, jnp.uint32)
        keys = jnp.where(bits < sign, bits | sign, ~bits)
    else:
        keys = jax.lax.bitcast_convert_type(values.astype(jnp.int32), jnp.uint32) ^ sign
    halves = jnp.stack([jax.lax.iota(jnp.uint32, num_rows), keys], axis=1)
    with jax.enable_x64(True):
        joined = jax.lax.bitcast_convert_type(halves, jnp.uint64)
        halves = jax.lax.bitcast_convert_type(jax.lax.sort(joined, is_stable=False), jnp.uint32)
    return halves[:k, 0].astype(jnp.int32)


def spread(candidates: Bool[Array, " N"], number: int) -> Int[Array, " number"]:
    """Evenly spaced candidates, each once, for a number below N; if there are fewer candidates, the
    remaining entries hold a row that is not one. Runs inside jit.

    >>> spread(jnp.array([True, False, True, True]), 2).tolist()
    [0, 3]
    """
    running = jnp.cumsum(candidates, dtype=jnp.int32)
    last = (running[-1] - 1).astype(jnp.float32)
    ranks = jnp.ceil(jnp.linspace(0, 1, number, dtype=jnp.float32) * last).astype(jnp.int32) + 1
    rows = jnp.searchsorted(running, ranks).astype(jnp.int32)
    twice = jnp.concatenate([jnp.zeros(1, bool), rows[1:] == rows[:-1]])
    return jnp.where(twice, jnp.argmin(candidates).astype(jnp.int32), rows)


def with_rows(mask: Bool[Array, " N"], rows: Int[Array, " B"]) -> Bool[Array, " N"]:
    """The mask, with some rows true as well, -1 = padding: bool [N]. Runs inside jit.

    >>> with_rows(jnp.zeros(3, bool), jnp.array([2, -1])).tolist()
    [False, False, True]
    """
    return mask.at[jnp.where(rows >= 0, rows, len(mask))].set(True, mode="drop")
