"""What a checkpoint's pickle may describe: tensors, the storages they lie in, and the few names and
calls that lead to them.

The names are those that `torch.save` writes for a state dict, as of PyTorch 2.13.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

MOST_DIMENSIONS = 32
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
    # Bytes, whose dtype the tensor tells (`_rebuild_tensor_v3`).
    "torch.storage.UntypedStorage": "uint8",
}
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
    """A run of `count` numbers that the file keeps outside the pickle, under `key`."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """Numbers of a storage from `offset` on, by `shape` and `strides` (all in numbers of `dtype`).

    `offset`, `shape` and `strides` are integers that are not negative; whether they lie within the
    storage is not looked at here.
    """

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Global:
    """A permitted name, such as `torch.FloatStorage`, standing for itself."""

    name: str


def permitted_global(name: str) -> Global:
    """A permitted name, module and attribute with a dot between; ValueError for any other."""
    if name in _CALLED or name in _STORAGES or name.removeprefix("torch.") in DTYPES:
        return Global(name)
    raise ValueError(
        f"it asks for {quoted(name)}, and nothing but tensors in plain containers is read, since a "
        f"pickle can run any program: "
        "save the state dict alone, torch.save(model.state_dict(), path)"
    )


def storage_of(persistent_id: Any) -> Storage:
    """The storage of a persistent id: ("storage", type, key, device, count), and in the legacy
    layout a view, which must be None."""
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
                "it has views of storages, as PyTorch wrote them before version 0.4; load it "
                "there and save it again"
            )
    raise ValueError("its pickle refers to something outside it that is no storage of numbers")


def call_global(name: str, arguments: tuple[Any, ...]) -> Any:
    """What calling a permitted name gives, from those of its arguments that matter for reading;
    ValueError for any other arguments."""
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


def set_items(target: dict, items: list[Any]) -> dict:
    """`target` with `items`: key, value, key, value, ...; ValueError unless keys are strings or
    integers of 64 bits.

    These hash in a time that is known, where pairs of pairs of pairs take for ever.
    """
    if len(items) % 2:
        raise ValueError("its pickle is damaged: a dictionary has a key without a value")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not (type(key) is str or (type(key) is int and key.bit_length() <= 64)):
            raise ValueError(
                f"it has a dictionary with {quoted(key)} for a key; only names and integers of 64 "
                f"bits are read"
            )
        target[key] = value
    return target


def quoted(name: Any) -> str:
    """A name from a file, quoted and short enough for a sentence."""
    text = ascii(name) if isinstance(name, str | int) else f"a {type(name).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _tensor(
    storage: Storage, dtype: np.dtype, offset: Any, shape: Any, strides: Any, more: list[Any]
) -> Tensor:
    if any(more):
        raise ValueError(
            "it holds a tensor that is stored negated or conjugated; save "
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
                f"it gives {quoted(value)} for a size, an offset or a stride, which must be "
                f"integers in [0, 2**62)"
            )
    return values
