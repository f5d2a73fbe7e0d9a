"""Pools spread over devices: every kernel makes the same picks as on one device, and each row stays
on its device.

    mesh = balal.sharding.mesh()                      # all devices of all processes
    with jax.set_mesh(mesh):
        pool = balal.sharding.spread(mesh, balal.pool(features))
        picks = balal.k_center(pool.features, 1000, key=key, candidates=pool.candidates).indices

Inside that `with`, what a kernel does row by row runs on each device for its own rows (`by_rows`),
single rows are fetched from whichever device has them (`fetch`), and the largest values of each
device are compared (`top_k`). Everything else is arithmetic on whole arrays, which the compiler
divides by itself. Without a mesh these functions are the plain operations.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Real

from balal import xla
from balal.types import Pool, askable

# The axis of a mesh along which pools are spread.
AXIS = "pool"


def mesh(*, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh with one axis, "pool", for `jax.set_mesh`.

    Args:
      devices: None: all, of all processes that `jax.distributed.initialize` has brought together.

    >>> mesh(devices=jax.devices()[:1]).shape["pool"]
    1
    """
    return Mesh(
        np.array(jax.devices() if devices is None else devices),
        (AXIS,),
        axis_types=(AxisType.Auto,),
    )


def rows(mesh: Mesh) -> NamedSharding:
    """The sharding of arrays with one entry for each row, for `jax.device_put` and
    `jax.make_array_from_process_local_data`.

    >>> rows(mesh(devices=jax.devices()[:1])).spec[0]
    'pool'
    """
    return NamedSharding(mesh, PartitionSpec(AXIS))


def spread(mesh: Mesh, pool: Pool) -> Pool:
    """The pool with its rows divided equally among the devices of the mesh, padded at the end with
    rows of zeros that are not candidates.

    Every process must pass the same pool, made by `balal.pool`. If each has read a part of it, join
    the parts with `jax.make_array_from_process_local_data`.

    >>> spread(mesh(devices=jax.devices()[:1]), Pool(jnp.eye(3))).candidates.tolist()
    [True, True, True]
    """
    for leaf in jax.tree.leaves(replace(pool, prepared={})):
        plain = type(leaf) in (np.ndarray, np.memmap) and leaf.dtype.isnative
        # The floats of eight and sixteen bits that NumPy lacks are of kind V.
        if not isinstance(leaf, jax.Array) and not (plain and leaf.dtype.kind in "biufV"):
            raise ValueError(
                f"the arrays of a pool must be NumPy's or JAX's, got {type(leaf).__name__}: make "
                f"the pool with balal.pool, which converts what it can"
            )
    candidates = askable(pool.candidates, pool.num_rows)
    more = -pool.num_rows % mesh.shape[AXIS]

    def put(leaf):
        return jax.device_put(np.pad(leaf, ((0, more),) + ((0, 0),) * (leaf.ndim - 1)), rows(mesh))

    # What was prepared is for the old pool: it is prepared again.
    return jax.tree.map(put, replace(pool, candidates=candidates, prepared={}))


def whole(values: Any) -> np.ndarray:
    """The whole array as NumPy, in every process, even if its rows are on devices of several. All
    processes must call this.

    >>> whole(jnp.arange(2)).tolist()
    [0, 1]
    """
    if (
        isinstance(values, jax.Array)
        and not values.is_fully_addressable
        and not values.is_fully_replicated
    ):
        return multihost_utils.process_allgather(values, tiled=True)
    return np.asarray(values)


def devices() -> int:
    """Over how many devices the kernels spread the rows of a pool, here: 1 outside `jax.set_mesh`.

    Raises: ValueError where the axis "pool" is Explicit, the kind that `jax.make_mesh` makes unless
    told otherwise.

    >>> devices()
    1
    """
    around = jax.sharding.get_abstract_mesh()
    kinds = dict(zip(around.axis_names, around.axis_types, strict=True))
    if kinds.get(AXIS) == AxisType.Explicit:
        raise ValueError(
            f'the axis "{AXIS}" of this mesh is Explicit, but kernels need it to be Auto: make the '
            f"mesh with balal.sharding.mesh()"
        )
    # Within `by_rows` the axis is Manual: every device is alone with its rows.
    return around.shape[AXIS] if kinds.get(AXIS) == AxisType.Auto else 1


def by_rows(function: Callable[..., Any], inputs: Any, outputs: Any) -> Callable[..., Any]:
    """`function`, which treats each row separately, run on every device for its own rows by
    `jax.shard_map`. Runs inside jit.

    Args:
      function: of arrays or pytrees of arrays.
      inputs: for each argument the axis of its rows, None if it is the same for all devices; for a
        pytree one axis, or one for each leaf.
      outputs: the same for the result.

    Raises: ValueError, when called, if the rows cannot be divided evenly.

    >>> multiply = by_rows(lambda table, point: table @ point, (0, None), 0)
    >>> multiply(jnp.eye(2), jnp.arange(2.0)).tolist()
    [0.0, 1.0]
    """
    number = devices()
    if number == 1:
        return function

    def lie(axes):
        return jax.tree.map(
            lambda axis: PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS),
            axes,
            is_leaf=lambda axis: axis is None,
        )

    shared = jax.shard_map(function, in_specs=lie(inputs), out_specs=lie(outputs), check_vma=False)

    def run(*arguments):
        for argument, axis in zip(arguments, inputs, strict=True):
            size = argument.shape[axis] if isinstance(axis, int) else 0
            if size % number:
                raise ValueError(
                    f"a pool of {size} rows cannot be shared by {number} devices: fill it up with "
                    f"balal.sharding.spread"
                )
        return shared(*arguments)

    return run


def shares(array: Any) -> int:
    """Among how many devices the rows of an array are divided, inside `jax.set_mesh` or not.

    >>> shares(jnp.ones(3)), shares(np.ones(3))
    (1, 1)
    """
    if isinstance(array, Tracer):
        number = devices()
        return 1 if array.shape[0] % number else number
    if not isinstance(array, jax.Array) or not array.size:
        return 1
    return array.shape[0] // array.sharding.shard_shape(array.shape)[0]


def by_shares(
    function: Callable[[Array, Int[Array, ""]], Any], array: Array, *, number: int
) -> Any:
    """`function(rows, number of the first row)` for each share of the rows: results with a leading
    axis [number]. Runs inside jit.

    Unlike `by_rows` it needs no mesh around it. A loop over tiles of a share stays on its device;
    one over tiles of the whole array would gather it.

    Args:
      function: of some rows; it may loop over them.
      array: [N, ...], divided as `shares` says.
      number: of the shares.

    >>> by_shares(lambda rows, first: (first, jnp.sum(rows)), jnp.ones(4), number=2)[1].tolist()
    [2.0, 2.0]
    """
    height = array.shape[0] // number
    divided = array.reshape(number, height, *array.shape[1:])
    return jax.vmap(function)(divided, jnp.arange(number, dtype=jnp.int32) * height)


def fetch(table: Array, row: Int[Array, ""]) -> Array:
    """`table[row]`, wherever the row lies: [...] of a table [N, ...]. Runs inside jit.

    >>> fetch(jnp.arange(3.0), jnp.int32(1)).tolist()
    1.0
    """
    # One index is a slice, for which all devices would gather the whole table; of several each
    # looks for its own.
    table, row = xla.in_place(table, jnp.asarray(row))
    return table[row] if devices() == 1 else table[row[None]][0]


def summed(parts: Any) -> Any:
    """Within `by_rows`: arrays that each device has added up over its own rows, added up over all
    devices.

    >>> summed(jnp.arange(2)).tolist()
    [0, 1]
    """
    return (
        parts
        if AXIS not in jax.sharding.get_abstract_mesh().manual_axes
        else jax.lax.psum(parts, AXIS)
    )


def top_k(values: Real[Array, " N"], k: int) -> tuple[Real[Array, " k"], Int[Array, " k"]]:
    """`jax.lax.top_k` of [N]: the k largest values and their places, both [k], the lowest place
    first of equals. Runs inside jit.

    >>> [part.tolist() for part in top_k(jnp.array([1.0, 3.0, 3.0]), 2)]
    [[3.0, 3.0], [1, 2]]
    """
    if devices() == 1:
        best, places = jax.lax.top_k(values, k)
        return best, places

    def own(values):
        best, places = jax.lax.top_k(values, min(k, len(values)))
        return best, places + jax.lax.axis_index(AXIS) * len(values)

    best, places = by_rows(own, (0,), (0, 0))(values)
    # Those of lower places come first still, so that of equal ones they are taken.
    best, chosen = jax.lax.top_k(best, k)
    return best, places[chosen]
