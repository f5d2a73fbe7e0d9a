"""What a checkpoint's pickle may describe: tensors, the storages that hold them, and the few names
and calls needed to describe them.

The names are those that `torch.save` writes for a state dict, as of PyTorch 2.13.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from balal.pickles import quoted, set_items

MOST_DIMENSIONS = 32
# The longest pickle, or header of a safetensors file, that is read. A tensor takes about 120 bytes
# of it, and a network of this library 350 tensors. This bounds the time (seconds) and the memory
# (300 MB) that a hostile one can take: two brackets make a list of 88 bytes.
LONGEST_DESCRIPTION = 4 * 2**20
# PyTorch's name of every dtype that is read, here and in safetensors.
DTYPES = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint64": np.dtype("<u8"),
    "uint32": np.dtype("<u4"),
    "uint16": np.dtype("<u2"),
    "uint8": np.dtype("u1"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}
_STORAGES = {
    "torch.DoubleStorage": "float64",
    "torch.FloatStorage": "float32",
    "torch.HalfStorage": "float16",
    "torch.BFloat16Storage": "bfloat16",
    "torch.LongStorage": "int64",
    "torch.IntStorage": "int32",
    "torch.ShortStorage": "int16",
    "torch.CharStorage": "int8",
    "torch.ByteStorage": "uint8",
    "torch.BoolStorage": "bool",
    "torch.ComplexFloatStorage": "complex64",
    "torch.ComplexDoubleStorage": "complex128",
    # Bytes, whose dtype is given by the tensor (`_rebuild_tensor_v3`).
    "torch.storage.UntypedStorage": "uint8",
}
_MOST_ARGUMENTS = 8  # Of `_rebuild_tensor_v3`.
_CALLED = (
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
)


@dataclass(frozen=True)
class Storage:
    """A run of numbers that the file keeps outside the pickle.

    Attributes:
      key: its name in the file.
      dtype: of the numbers.
      count: how many there are.
    """

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """A view of the numbers in a storage.

    Attributes:
      storage: that holds the numbers.
      dtype: of the numbers.
      offset: the first number, counted in `dtype`, as are the strides.
      shape: of the tensor.
      strides: one for each axis.

    `offset`, `shape` and `strides` are not negative; whether they lie within the storage is not
    checked here.
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Global:
    """A permitted name, such as `torch.FloatStorage`, which stands for itself.

    Attributes:
      name: module and attribute with a dot between.
    """

    name: str


def permitted_global(name: str) -> Global:
    """The `Global` of a permitted name, module and attribute with a dot between; ValueError for any
    other name."""
    if name in _CALLED or name in _STORAGES or name.removeprefix("torch.") in DTYPES:
        return Global(name)
    raise ValueError(
        f"it asks for {quoted(name)}, and nothing but tensors in plain containers is read, since a "
        f"pickle can run any program: save only the state dict, "
        f"torch.save(model.state_dict(), path)"
    )


def storage_of(persistent_id: Any) -> Storage:
    """The storage for a persistent id: ("storage", type, key, device, count), followed in the
    legacy layout by a view, which must be None."""
    match persistent_id:
        case ("storage", Global(kind), str(key), _, count) | (
            "storage",
            Global(kind),
            str(key),
            _,
            count,
            None,
        ) if kind in _STORAGES:
            return Storage(key, DTYPES[_STORAGES[kind]], _sizes((count,))[0])
        case ("storage", _, _, _, _, _):
            raise ValueError(
                "it has views of storages, as PyTorch wrote them before version 0.4; load it with "
                "such a version and save it again"
            )
    raise ValueError("its pickle refers to something outside it that is not a storage of numbers")


def call_global(name: str, arguments: tuple[Any, ...]) -> Any:
    """The result of calling a permitted name, from the arguments that matter for reading;
    ValueError for any other arguments."""
    if len(arguments) > _MOST_ARGUMENTS:  # Which would be copied at every call.
        raise ValueError(f"it calls {name} with {len(arguments)} arguments")
    match (name, *arguments):
        case ("collections.OrderedDict",):
            return OrderedDict()
        case ("collections.OrderedDict", list(pairs)) if all(
            type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs
        ):
            return set_items(OrderedDict(), [part for pair in pairs for part in pair])
        case ("torch.Size", tuple(sizes)):
            return sizes
        case ("torch._utils._rebuild_tensor", Storage() as numbers, offset, shape, strides):
            return _tensor(numbers, numbers.dtype, offset, shape, strides, [])
        case (
            "torch._utils._rebuild_tensor_v2",
            Storage() as numbers,
            offset,
            shape,
            strides,
            _,
            _,
            *more,
        ):
            return _tensor(numbers, numbers.dtype, offset, shape, strides, more)
        case (
            "torch._utils._rebuild_tensor_v3",
            Storage() as numbers,
            offset,
            shape,
            strides,
            _,
            _,
            Global(kind),
            *more,
        ):
            dtype = DTYPES.get(kind.removeprefix("torch."))
            if dtype is not None:
                return _tensor(numbers, dtype, offset, shape, strides, more)
        case (
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
            Tensor() as tensor,
            *_,
        ):
            return tensor
    raise ValueError(f"it calls {name} with arguments that PyTorch does not give it")


def _tensor(
    storage: Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any, more: list[Any]
) -> Tensor:
    if any(more):
        raise ValueError(
            "it holds a tensor that is stored as negated or conjugated; save "
            "tensor.resolve_neg().resolve_conj() instead"
        )
    if (
        type(shape) is not tuple
        or type(strides) is not tuple
        or len(shape) != len(strides)
        or len(shape) > MOST_DIMENSIONS
    ):
        raise ValueError(
            f"it holds a tensor without a shape and as many strides, at most {MOST_DIMENSIONS} of "
            f"each"
        )
    return Tensor(storage, dtype, _sizes((offset,))[0], _sizes(shape), _sizes(strides))


def _sizes(values: tuple[Any, ...]) -> tuple[int, ...]:
    for value in values:
        if type(value) is not int or not 0 <= value < 2**62:
            raise ValueError(
                f"it gives {quoted(value)} as a size, an offset or a stride, which must be "
                f"integers in [0, 2**62)"
            )
    return values
