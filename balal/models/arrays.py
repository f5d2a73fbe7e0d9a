"""Described tensors as arrays: never a byte beyond their storage, and never more of them than the
file justifies."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from balal.models.tensors import Storage, Tensor, shown


def views(
    table: dict[str, Tensor], content: Callable[[Storage], bytes], size: int
) -> dict[str, np.ndarray]:
    """The tensors of a table as arrays that cannot be written to: views of their storages where
    they lie contiguously there, else copies.

    Args:
      content: gives the bytes of a storage; asked once for each that is needed.
      size: bytes of the file, which neither one tensor nor all copies together may exceed. Strides
        of 0 repeat numbers at no cost to the file, and a hostile one would fill the memory with
        them.

    Raises: ValueError naming the tensor.
    """
    contents: dict[str, bytes] = {}
    counts: dict[tuple[str, np.dtype], int] = {}
    arrays, copied = {}, 0
    for name, tensor in table.items():
        addressable(name, tensor.shape)
        key, dtype, shape = tensor.storage.key, tensor.dtype, tensor.shape
        if key not in contents:
            contents[key] = content(tensor.storage)
        if (key, dtype) not in counts:
            counts[key, dtype] = len(numbers(contents[key], dtype))
        if 0 in shape:
            arrays[name] = np.empty(shape, dtype)
            continue
        # A dimension of one entry is never stepped along, and PyTorch may write any stride for it.
        strides = tuple(
            stride if length > 1 else 0
            for length, stride in zip(shape, tensor.strides, strict=True)
        )
        last = tensor.offset + sum(
            (length - 1) * stride for length, stride in zip(shape, strides, strict=True)
        )
        if last >= counts[key, dtype]:
            raise ValueError(
                f"tensor {shown(name)} reaches to number {last} of storage {shown(key)}, which "
                f"has {counts[key, dtype]}"
            )
        if math.prod(shape) * dtype.itemsize > size:
            raise ValueError(
                f"tensor {shown(name)} of shape {list(shape)} repeats numbers until it is larger "
                f"than the file of {size} bytes"
            )
        steps = tuple(stride * dtype.itemsize for stride in strides)
        array = np.ndarray(shape, dtype, contents[key], tensor.offset * dtype.itemsize, steps)
        if not array.flags.c_contiguous:
            copied += array.nbytes
            if copied > size:
                raise ValueError(
                    f"its tensors, laid out one after another, would be larger than the file of "
                    f"{size} bytes"
                )
            array = np.ascontiguousarray(array)
            array.flags.writeable = False
        arrays[name] = array
    return arrays


def numbers(content: bytes, dtype: np.dtype) -> np.ndarray:
    """Bytes as a flat array that cannot be written to; ValueError where they are no whole number of
    numbers, or no truth values."""
    if len(content) % dtype.itemsize:
        raise ValueError(
            f"it has a storage of {len(content)} bytes, which is no whole number of {dtype}"
        )
    if dtype.kind == "b" and content.translate(None, b"\0\1"):
        raise ValueError("it holds truth values other than 0 and 1")
    return np.frombuffer(content, dtype)


def addressable(name: str, shape: Sequence[int]) -> None:
    """ValueError for a shape that NumPy has no addresses for, which it refuses for empty arrays as
    well."""
    if math.prod(length for length in shape if length) >= 2**58:
        raise ValueError(f"tensor {shown(name)} of shape {list(shape)} is larger than any memory")
