"""Compiler workarounds, each in one place: plain operations in the form that XLA makes fast.

Each was needed with jaxlib 0.10.2 on CPUs, where it saves a copy of a large array or work that is
thrown away; on accelerators it does no harm. None changes a result, and when a later XLA no longer
needs one, its function can become the plain operation named in its docstring. All run inside jit.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# Where Linux says how many memory maps a process may have.
_MOST_MAPS = Path("/proc/sys/vm/max_map_count")


def run_if(
    condition: Bool[Array, ""], function: Callable[..., Any], carry: Any, *inputs: Any
) -> Any:
    """`function(carry, *inputs)` if the condition holds, otherwise the carry: a branch that copies
    nothing and computes nothing ahead of time. Plain operation: `jax.lax.cond`.

    Why: a branch of `cond` copies what it passes through unchanged. A loop of one round or none
    changes large arrays in place. But XLA moves whatever does not depend on the loop counter out of
    a loop, and would always compute it: `inputs` reach the function as if they depended on it.

    Args:
      condition: whether to run the function.
      function: from the carry and the inputs to a new carry.
      carry: a pytree, like the result.
      inputs: arrays that the function's costly work starts from.

    >>> run_if(jnp.array(True), lambda table, one: table + one, jnp.zeros(2), jnp.ones(2)).tolist()
    [1.0, 1.0]
    >>> run_if(jnp.array(False), lambda table, one: table + one, jnp.zeros(2), jnp.ones(2)).tolist()
    [0.0, 0.0]
    """

    def turn(number, carry):
        return function(carry, *(after(value, number) for value in inputs))

    return jax.lax.fori_loop(0, condition.astype(jnp.int32), turn, carry)


def after(value: Array | float, known: Float[Array, ""] | Int[Array, ""]) -> Array:
    """The value, but not before another one is known. Plain operation: the value.

    Why: XLA starts whatever it can at once. A table that is filled too early needs memory next to
    arrays that would be freed by then; work that does not depend on the loop counter is moved out
    of a loop. Adding a 0 that XLA does not know to be 0 makes it wait.

    Args:
      value: to return.
      known: a number that is never below 0.

    >>> float(after(2.5, jnp.float32(7)))
    2.5
    """
    value = jnp.asarray(value)
    return value + jnp.where(known < 0, 1, 0).astype(value.dtype)


def opaque(value: Array) -> Array:
    """The value, hidden from the compiler. Plain operation: the value.

    Why: XLA evaluates whatever follows from constants at compile time, which takes ten seconds for
    a mask of a million rows; and it fuses operations that are slower together, such as a product
    and the transposition after it.

    >>> opaque(jnp.ones(2)).tolist()
    [1.0, 1.0]
    """
    return jax.lax.optimization_barrier(value)


def in_place(table: Array, where: Array) -> tuple[Array, Array]:
    """The table and the place of some of its rows, before these are read in a loop. Plain
    operation: both as they are.

    Why: on CPUs rows of a bfloat16 table are read by converting the table to float32, which does
    not depend on the loop and is moved out of it: two copies in size. Here the table waits for
    the place, and only the rows are converted.

    >>> in_place(jnp.arange(3.0), jnp.int32(1))[0].tolist()
    [0.0, 1.0, 2.0]
    """
    if table.dtype != jnp.bfloat16:
        return table, where
    return jax.lax.optimization_barrier((table, where))


def map_tiles(function: Callable[..., Any], *arrays: Array, height: int, axis: int = 0) -> Any:
    """`function(*arrays)`, one tile of `height` rows after another. Plain operation: the call.

    Why: on CPUs a chain of operations runs as several passes over memory, which is many times
    faster on tiles that stay in the cache. The last tile ends with the last row and shares some
    rows with the one before: padding the arrays or cutting off the rest would copy them.

    Args:
      function: treats each row separately; its result is a pytree of arrays with rows along `axis`.
      arrays: [N, ...] each, N at least 1.
      height: at least 1; fewer rows are one tile.
      axis: of the rows in the results.

    >>> map_tiles(lambda rows: rows.sum(axis=1), jnp.arange(6.0).reshape(3, 2), height=2).tolist()
    [1.0, 5.0, 9.0]
    """
    num_rows = arrays[0].shape[0]
    height = min(height, num_rows)

    def tile(number, results):
        begin = jnp.minimum(number * height, num_rows - height)
        found = function(*(_slice(array, begin, height) for array in arrays))
        return jax.tree.map(
            lambda result, part: jax.lax.dynamic_update_slice_in_dim(result, part, begin, axis),
            results,
            found,
        )

    def empty(part):
        shape = list(part.shape)
        shape[axis] = num_rows
        return jnp.zeros(shape, part.dtype)

    # Only the shapes of this first tile are used, so the compiler drops its computation.
    results = jax.tree.map(empty, function(*(array[:height] for array in arrays)))
    return jax.lax.fori_loop(0, -(-num_rows // height), tile, results)


def sum_tiles(
    function: Callable[[Array, Int[Array, " h"]], Array], array: Array, *, height: int
) -> Array:
    """The sum of all numbers in `function(array, numbers of its rows)`, tile by tile. Plain
    operation: `jnp.sum`.

    Why: on CPUs the terms of a sum are written out before they are added up, and those of a whole
    array take as much memory as the array. Here each tile is added to the one before, in the cache,
    and only the last is summed.

    Args:
      function: treats each row separately; its result has as many rows, and a dtype whose sums do
        not depend on their order.
      array: [N, ...], N at least 1.
      height: at least 1; fewer rows are one tile.

    >>> int(sum_tiles(lambda rows, number: rows * number, jnp.array([5, 6, 7]), height=2))
    20
    """
    num_rows = array.shape[0]
    height = min(height, num_rows)

    def tile(number, total):
        begin = jnp.minimum(number * height, num_rows - height)
        rows = begin + jnp.arange(height, dtype=jnp.int32)
        terms = function(_slice(array, begin, height), rows)
        # Rows that the last tile shares with the one before are counted.
        turn = (rows >= number * height).reshape(height, *[1] * (terms.ndim - 1))
        return total + jnp.where(turn, terms, 0)

    rows = jnp.arange(height, dtype=jnp.int32)
    first = jax.eval_shape(function, array[:height], rows)
    total = jnp.zeros(first.shape, first.dtype)
    return jnp.sum(jax.lax.fori_loop(0, -(-num_rows // height), tile, total), dtype=first.dtype)


def all_tiles(
    function: Callable[[Array], Bool[Array, "..."]], array: Array, *, height: int
) -> Bool[Array, ""]:
    """Whether `function(array)` is true throughout, tile by tile up to the first that is not. Plain
    operation: `jnp.all`.

    Why: on CPUs all truth values are written out before they are looked at.

    Args:
      function: treats each row separately.
      array: [N, ...], N at least 1.
      height: at least 1; fewer rows are one tile.

    >>> bool(all_tiles(lambda rows: rows > 5, jnp.array([6, 7, 8]), height=2))
    True
    """
    num_rows = array.shape[0]
    height = min(height, num_rows)

    def tile(carry):
        number, _ = carry
        begin = jnp.minimum(number * height, num_rows - height)
        return number + 1, jnp.all(function(_slice(array, begin, height)))

    def go_on(carry):
        number, true = carry
        return true & (number < -(-num_rows // height))

    return jax.lax.while_loop(go_on, tile, (jnp.int32(0), jnp.array(True)))[1]


def update_tiles(
    function: Callable[..., Array], table: Array, *arrays: Array, height: int, axis: int = 0
) -> Array:
    """`function(table, *arrays)`, written into the table one tile of `height` rows after another.
    Plain operation: the call.

    Why: a product that is added to a whole table is another table of that size; tile by tile it is
    only the size of a tile. Rows of the last tile that were updated before stay as they are.

    Args:
      function: treats each row separately.
      table: [N, ...], N at least 1.
      arrays: with N rows each along `axis`.
      height: at least 1; fewer rows are one tile.

    >>> update_tiles(jnp.add, jnp.zeros(3), jnp.arange(3.0), height=2).tolist()
    [0.0, 1.0, 2.0]
    """
    num_rows = table.shape[0]
    height = min(height, num_rows)

    def tile(number, table):
        begin = jnp.minimum(number * height, num_rows - height)
        rows = _slice(table, begin, height)
        changed = function(rows, *(_slice(array, begin, height, axis) for array in arrays))
        turn = begin + jnp.arange(height) >= number * height
        turn = turn.reshape(height, *[1] * (table.ndim - 1))
        return jax.lax.dynamic_update_slice_in_dim(table, jnp.where(turn, changed, rows), begin, 0)

    return jax.lax.fori_loop(0, -(-num_rows // height), tile, table)


def make_room() -> None:
    """Forgets all programs that this process has compiled (`jax.clear_caches`) once it has used
    half of the memory maps that Linux allows it. Plain operation: nothing. It stands where a large
    program is traced, which is right before it is compiled.

    Why: a program holds up to 600 maps, and with too many of them LLVM ends the process with a
    segmentation fault, though memory is free. Programs that are still needed are compiled again.
    Other systems have no such limit.

    Raises: RuntimeError where nearly all maps are taken by something else.
    """
    used, most = _maps()
    if used > most / 2:
        jax.clear_caches()
        used, _ = _maps()
    if used > 0.9 * most:
        raise RuntimeError(
            f"this process has {used} memory maps, and Linux allows it {most:.0f}, so compiling "
            f"could end it: close files that are mapped into memory, delete compiled programs "
            f"(jax.stages.Compiled), or raise the limit: sysctl -w vm.max_map_count={4 * most:.0f}"
        )


def _maps() -> tuple[int, float]:
    """How many memory maps this process has, and how many it may have; without a limit 0 and
    infinity."""
    try:
        most = float(_MOST_MAPS.read_text())
        return Path("/proc/self/maps").read_bytes().count(b"\n"), most
    except (OSError, ValueError):
        return 0, math.inf


def _slice(array: Array, begin: Int[Array, ""], height: int, axis: int = 0) -> Array:
    array, begin = in_place(array, begin)
    return jax.lax.dynamic_slice_in_dim(array, begin, height, axis)
