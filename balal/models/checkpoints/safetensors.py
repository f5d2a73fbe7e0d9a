"""The safetensors format.

Reads no more than the file's `num_bytes`: what a header declares is compared with them before
anything is read or allocated. Errors are ValueErrors without the path, which
`balal.models.weights.read` adds.

Source: the format section of the safetensors documentation.
"""

import io
import json
import math
from typing import Any

import numpy as np

from balal.models.checkpoints.arrays import check_addressable, from_bytes
from balal.models.checkpoints.tensors import (
    DTYPES,
    LONGEST_DESCRIPTION,
    MOST_DIMENSIONS,
    quoted,
)

_SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}


def safetensors(file: io.BufferedReader, num_bytes: int) -> dict[str, np.ndarray]:
    """Every tensor of a safetensors file: eight bytes with the length of the header, the header, a
    JSON object, and the numbers, which it must describe without gaps.

    Args:
      file: whose ninth byte is the "{" of that object.
      num_bytes: of the file.

    Raises: ValueError.
    """
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    start = 8 + length
    if length > LONGEST_DESCRIPTION or start > num_bytes:
        raise ValueError(
            f"its header claims to be {length} bytes long, in a file of {num_bytes}; at most "
            f"{LONGEST_DESCRIPTION} are read"
        )
    try:
        header = json.loads(
            file.read(length).decode(),
            object_pairs_hook=_without_duplicates,
            parse_int=_whole,
            parse_constant=_no_number,
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"its header is not JSON: {str(error)[-100:]}") from None
    except RecursionError:
        raise ValueError("its header is nested too deeply to describe tensors") from None
    header.pop("__metadata__", None)
    spans = {name: _span(name, entry) for name, entry in header.items()}
    end = 0
    for name, (dtype, shape, first, last) in sorted(spans.items(), key=lambda item: item[1][2:]):
        if first != end:
            raise ValueError(
                f"tensor {quoted(name)} begins at byte {first} of the numbers, but the ones before "
                f"it end at {end}"
            )
        if last - first != dtype.itemsize * math.prod(shape):
            raise ValueError(
                f"tensor {quoted(name)} has {last - first} bytes, too many or too few for {dtype} "
                f"{list(shape)}"
            )
        end = last
    if start + end != num_bytes:
        raise ValueError(
            f"its tensors take {end} bytes but the file has {num_bytes - start} for them: it is "
            f"truncated or has extra data"
        )
    tensors = {}
    for name, (dtype, shape, first, last) in spans.items():
        file.seek(start + first)
        tensors[name] = from_bytes(file.read(last - first), dtype).reshape(shape)
    return tensors


def _whole(digits: str) -> int:
    # Longer ones take Python time that grows with the square of their length.
    if len(digits) > 20:
        raise ValueError(f"its header has a number of {len(digits)} digits")
    return int(digits)


def _no_number(name: str) -> None:
    raise ValueError(f"its header is not JSON: it has {name} as a number")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        seen = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"its header has {quoted(twice)} twice")
    return found


def _span(name: str, entry: Any) -> tuple[np.dtype, tuple[int, ...], int, int]:
    """The dtype, the shape, the first byte and the one after the last, of an entry in a safetensors
    header."""
    match entry:
        case {
            "dtype": str(kind),
            "shape": list(shape),
            "data_offsets": [int(first), int(last)],
        } if len(shape) <= MOST_DIMENSIONS:
            pass
        case _:
            raise ValueError(
                f"tensor {quoted(name)} must have a dtype, a shape of at most {MOST_DIMENSIONS} "
                f"sizes and two data_offsets"
            )
    if kind not in _SAFETENSORS:
        raise ValueError(
            f"tensor {quoted(name)} has dtype {quoted(kind)}; known are {', '.join(_SAFETENSORS)}"
        )
    for value in (*shape, first, last):
        if type(value) is not int or not 0 <= value < 2**62:
            raise ValueError(
                f"tensor {quoted(name)} has {quoted(value)} as a size or an offset, which must be "
                f"integers in [0, 2**62)"
            )
    if first > last:
        raise ValueError(f"tensor {quoted(name)} ends at byte {last}, before its first, {first}")
    check_addressable(name, shape)
    return DTYPES[_SAFETENSORS[kind]], tuple(shape), first, last
