"""The tensors of a checkpoint as arrays, which never reach beyond their storage and never take more
memory than the size of the file justifies."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from balal.models.checkpoints.tensors import Storage, Tensor, quoted


def as_arrays(
    table: dict[str, Tensor], read_storage: Callable[[Storage], bytes], num_bytes: int
) -> dict[str, np.ndarray]:
    """The tensors of a table as read-only arrays: views of their storages if they are contiguous
    there, otherwise copies.

    Args:
      table: the tensors by name.
      read_storage: gives the bytes of a storage; called once for each that is needed.
      num_bytes: of the file, which neither one tensor nor all copies together may exceed. Strides
        of 0 repeat numbers at no cost to the file, so a hostile one could fill the memory with
        them.

    Raises: ValueError naming the tensor.
    """
    contents: dict[str, bytes] = {}
    counts: dict[tuple[str, np.dtype], int] = {}
    arrays, copied = {}, 0
    for name, tensor in table.items():
        check_addressable(name, tensor.shape)
        key, dtype, shape = tensor.storage.key, tensor.dtype, tensor.shape
        if key not in contents:
            contents[key] = read_storage(tensor.storage)
        if (key, dtype) not in counts:
            counts[key, dtype] = len(from_bytes(contents[key], dtype))
        if 0 in shape:
            arrays[name] = np.empty(shape, dtype)
            continue
        # The stride of a dimension with one entry is never used, and PyTorch may write any number.
        strides = tuple(
            stride if length > 1 else 0
            for length, stride in zip(shape, tensor.strides, strict=True)
        )
        last = tensor.offset + sum(
            (length - 1) * stride for length, stride in zip(shape, strides, strict=True)
        )
        if last >= counts[key, dtype]:
            raise ValueError(
                f"tensor {quoted(name)} reaches to number {last} of storage {quoted(key)}, which "
                f"has {counts[key, dtype]}"
            )
        if math.prod(shape) * dtype.itemsize > num_bytes:
            raise ValueError(
                f"tensor {quoted(name)} of shape {list(shape)} repeats numbers until it is larger "
                f"than the file of {num_bytes} bytes"
            )
        steps = tuple(stride * dtype.itemsize for stride in strides)
        array = np.ndarray(shape, dtype, contents[key], tensor.offset * dtype.itemsize, steps)
        if not array.flags.c_contiguous:
            copied += array.nbytes
            if copied > num_bytes:
                raise ValueError(
                    f"its tensors, laid out one after another, would be larger than the file of "
                    f"{num_bytes} bytes"
                )
            array = np.ascontiguousarray(array)
            array.flags.writeable = False
        arrays[name] = array
    return arrays


def from_bytes(content: bytes, dtype: np.dtype) -> np.ndarray:
    """Bytes as a flat read-only array; ValueError if they are not a whole number of numbers, or
    booleans other than 0 and 1."""
    if len(content) % dtype.itemsize:
        raise ValueError(
            f"it has a storage of {len(content)} bytes, which is not a whole number of {dtype}"
        )
    if dtype.kind == "b" and content.translate(None, b"\0\1"):
        raise ValueError("it holds booleans other than 0 and 1")
    return np.frombuffer(content, dtype)


def check_addressable(name: str, shape: Sequence[int]) -> None:
    """ValueError for a shape beyond NumPy's address range, which it refuses even for empty
    arrays."""
    if math.prod(length for length in shape if length) >= 2**58:
        raise ValueError(f"tensor {quoted(name)} of shape {list(shape)} is larger than any memory")
