"""Files of tensors, by layout: safetensors, PyTorch's zip (1.6 and later) and PyTorch's legacy
stream.

Every function takes a file of `num_bytes` bytes, open and seekable, and reads no more than it
holds: what a header declares is compared with `num_bytes` before anything is read or allocated.
Errors are ValueErrors without the path, which `balal.models.weights.read` adds.

Sources: the format section of the safetensors documentation; `torch/serialization.py` of PyTorch
2.13 (`_save`, `_legacy_save`).
"""

import io
import json
import math
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from balal.models.checkpoints import unpickling
from balal.models.checkpoints.arrays import as_arrays, check_addressable, from_bytes
from balal.models.checkpoints.tensors import DTYPES, MOST_DIMENSIONS, Storage, Tensor, quoted

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
# The safetensors library's own limit for a header.
_LONGEST_HEADER = 100_000_000
# A tensor takes about 120 bytes of pickle. This bounds the time (seconds) and the memory (a few
# hundred MB) that a hostile one can take.
_LONGEST_PICKLE = 4 * 2**20
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


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
    if length > _LONGEST_HEADER or start > num_bytes:
        raise ValueError(
            f"its header claims to be {length} bytes long, in a file of {num_bytes}; at most "
            f"{_LONGEST_HEADER} are read"
        )
    try:
        header = json.loads(file.read(length).decode(), object_pairs_hook=_without_duplicates)
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


def zipped(
    file: io.BufferedReader, num_bytes: int, choose: Callable[[Any], dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The tensors that `choose` picks from what `torch.save` wrote into a zip: NAME/data.pkl and
    NAME/data/KEY for every storage.

    Nothing is unpacked to disk, so the names in it are keys, not paths.

    Raises: ValueError.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            return _arrays(archive, num_bytes, choose)
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        OSError,
        struct.error,
        OverflowError,
        IndexError,
    ) as error:
        raise ValueError(f"its zip is damaged: {str(error)[:100]}") from None


def legacy(
    file: io.BufferedReader, num_bytes: int, choose: Callable[[Any], dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The tensors that `choose` picks from what `torch.save` wrote before version 1.6: pickles of a
    magic number, a protocol, the machine, the object and the order of its storages; then each
    storage, preceded by its count.

    Raises: ValueError.
    """
    file.seek(0)
    pickles = io.BytesIO(file.read(min(num_bytes, _LONGEST_PICKLE)))
    try:
        root, storages, order = _read_pickles(pickles)
    except ValueError:
        if pickles.tell() == _LONGEST_PICKLE:
            raise ValueError(
                f"its pickles are longer than the {_LONGEST_PICKLE} bytes that are read, or damaged"
            ) from None
        raise
    positions, position = {}, pickles.tell()
    for key in order:
        storage = storages[key]
        file.seek(position)
        count = int.from_bytes(file.read(8), "little")
        if count != storage.count:
            raise ValueError(
                f"storage {quoted(key)} has {count} numbers, but {storage.count} are described"
            )
        positions[key] = position + 8
        position += 8 + count * storage.dtype.itemsize
        if position > num_bytes:
            raise ValueError(
                f"it is truncated: its storages need at least {position} bytes and it has "
                f"{num_bytes}"
            )

    def read_storage(storage: Storage) -> bytes:
        if storage.key not in positions:
            raise ValueError(f"it lacks storage {quoted(storage.key)}")
        file.seek(positions[storage.key])
        return file.read(storage.count * storage.dtype.itemsize)

    return as_arrays(choose(root), read_storage, num_bytes)


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


def _read_pickles(pickles: io.BytesIO) -> tuple[Any, dict[str, Storage], list[str]]:
    """The object of a legacy file, its storages by key, and the order in which their numbers are
    stored."""
    magic, _ = unpickling.load(pickles)
    if type(magic) is not int or magic != _MAGIC:
        raise ValueError("it is a pickle, but not one that torch.save wrote")
    protocol, _ = unpickling.load(pickles)
    if type(protocol) is not int or protocol != _PROTOCOL:
        raise ValueError(
            f"it has protocol {quoted(protocol)} of PyTorch's legacy layout; only {_PROTOCOL} is "
            f"supported"
        )
    machine, _ = unpickling.load(pickles)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise ValueError(
            "it was written on a big-endian machine; save it again on a little-endian one"
        )
    root, storages = unpickling.load(pickles)
    order, _ = unpickling.load(pickles)
    if (
        type(order) is not list
        or not all(type(key) is str and key in storages for key in order)
        or len(set(order)) != len(order)
    ):
        raise ValueError("its list of storages does not match the tensors that it describes")
    return root, storages, order


def _arrays(
    archive: zipfile.ZipFile, num_bytes: int, choose: Callable[[Any], dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    members = {member.filename: member for member in archive.infolist()}
    if len(members) != len(archive.infolist()):
        raise ValueError("its zip has two members of the same name")
    # torch.save stores members uncompressed, so together they are no longer than the file: a zip
    # bomb is longer, or overlaps itself.
    packed = next(
        (
            member
            for member in members.values()
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1
        ),
        None,
    )
    if packed:
        raise ValueError(
            f"its member {quoted(packed.filename)} is compressed or encrypted, which torch.save "
            f"does not do: unpack and store it"
        )
    if sum(member.file_size for member in members.values()) > num_bytes or any(
        m.file_size != m.compress_size for m in members.values()
    ):
        raise ValueError(
            f"its members claim to be longer than the file, which has {num_bytes} bytes"
        )
    pickles = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError(
            f"it is a zip, but not a checkpoint: it has {len(pickles)} members data.pkl, not 1"
        )
    prefix = pickles[0].removesuffix("data.pkl")
    if f"{prefix}constants.pkl" in members:
        raise ValueError(
            "it is a TorchScript program; save the state dict instead: "
            "torch.save(model.state_dict(), path)"
        )
    if f"{prefix}byteorder" in members and archive.read(members[f"{prefix}byteorder"]) != b"little":
        raise ValueError(
            "it was written on a big-endian machine; save it again on a little-endian one"
        )
    if members[pickles[0]].file_size > _LONGEST_PICKLE:
        raise ValueError(
            f"its data.pkl has {members[pickles[0]].file_size} bytes; at most {_LONGEST_PICKLE} "
            f"are read"
        )
    root, _ = unpickling.load(io.BytesIO(archive.read(members[pickles[0]])))

    def read_storage(storage: Storage) -> bytes:
        member = members.get(f"{prefix}data/{storage.key}")
        if member is None:
            raise ValueError(f"it lacks storage {quoted(storage.key)}")
        if member.file_size != storage.count * storage.dtype.itemsize:
            raise ValueError(
                f"storage {quoted(storage.key)} has {member.file_size} bytes, but {storage.count} "
                f"{storage.dtype} are described"
            )
        return archive.read(member)

    return as_arrays(choose(root), read_storage, num_bytes)
