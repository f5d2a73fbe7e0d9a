"""Arrays in files: named ones in plain `.npz`, with nothing pickled."""

import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from balal.atomic_files import atomic_write, settle
from balal.wording import quoted


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes the arrays; the file appears under its name only once it is complete, replacing any
    older one. Raises OSError if it cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    settle(path.parent)
    with atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def read(
    path: Path, *, kind: str, names: Iterable[str] | None = None, most: int | None = None
) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file, or the one of an `.npy` file under the name "", which is mapped and
    not loaded.

    Nothing is unpickled, nothing is unpacked but what is wanted, and nothing is allocated before
    the bytes of the file are known to hold what its headers claim.

    Args:
      path: of the file.
      kind: what it should be, for messages: "a saved state".
      names: of the arrays that are wanted, as far as there are any; None: all.
      most: bytes that these may take together; None: any number.

    Raises: FileNotFoundError; ValueError for a file that is not one of plain arrays, or is damaged.
    """
    found = headers(path, kind=kind)
    try:
        if "" in found:
            return {"": np.load(path, mmap_mode="r", allow_pickle=False)}
        with np.load(path, allow_pickle=False) as file:
            wanted = found if names is None else [name for name in names if name in found]
            claimed = sum(math.prod(found[name][0]) * found[name][1].itemsize for name in wanted)
            if most is not None and claimed > most:
                raise ValueError(f"its arrays take {claimed} bytes, more than {most}")
            return {name: file[name] for name in wanted}
    except MemoryError as error:
        raise ValueError(f"{path} does not fit into memory ({error})") from None
    except _FAULTS as error:
        raise _damaged(path, kind, error) from None


def headers(path: Path, *, kind: str) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """The shape and the dtype of every array of an `.npz` file, or of the one of an `.npy` file
    under the name "". Nothing is unpacked but headers. Arguments and errors are those of `read`."""
    try:
        with open(path, "rb") as file:
            start = file.read(6)
            if start == b"\x93NUMPY":
                file.seek(0)
                return {"": _header(file, os.fstat(file.fileno()).st_size)}
        if start[:4] not in (b"PK\x03\x04", b"PK\x05\x06"):
            raise ValueError("it is neither an .npy nor an .npz file")
        with zipfile.ZipFile(path) as file:
            return _members(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}: name {kind}") from None
    except IsADirectoryError:
        raise ValueError(f"{path} is a folder, not {kind}") from None
    except _FAULTS as error:
        raise _damaged(path, kind, error) from None


# What NumPy, zipfile and the decompressors raise for damaged files.
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)
# NumPy stores arrays or deflates them, which packs 1,032 bytes into one at best.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_RATIO, _MOST_MEMBERS = 1032, 10_000


def _damaged(path: Path, kind: str, error: BaseException) -> ValueError:
    said = " ".join(str(error).split()) or type(error).__name__
    return ValueError(f"{path} is not {kind}, or is damaged: {said}")


def _members(file: zipfile.ZipFile) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    entries, found = file.infolist(), {}
    if len(entries) > _MOST_MEMBERS:
        raise ValueError(f"it claims {len(entries)} arrays")
    for entry in entries:
        name = entry.filename.removesuffix(".npy")
        if name in found or not name:
            raise ValueError(f"it has two arrays of the name {quoted(name)}")
        if entry.flag_bits & 1:
            raise ValueError(f"its array {quoted(name)} is encrypted: save it without a password")
        if entry.compress_type not in _METHODS:
            raise ValueError(
                f"its array {quoted(name)} is packed by another method than NumPy's: save it with "
                f"np.savez"
            )
        if entry.file_size > _RATIO * entry.compress_size + 1000:
            raise ValueError(
                f"its array {quoted(name)} claims {entry.file_size} bytes, more than its "
                f"{entry.compress_size} packed bytes can hold"
            )
        with file.open(entry) as member:
            try:
                found[name] = _header(member, entry.file_size)
            except ValueError as error:
                raise ValueError(f"its array {quoted(name)}: {error}") from None
    return found


def _header(file: Any, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """What the header of an array of `size` bytes says, as far as these bytes can hold it."""
    version = np.lib.format.read_magic(file)
    read: Any = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects: save it again as an array of numbers")
    if dtype.kind == "V":
        raise ValueError(
            f"it holds records or raw bytes ({dtype}), as NumPy saves bfloat16: save it again as "
            f"float32"
        )
    # In Python's integers, which do not overflow.
    needed = math.prod(shape) * dtype.itemsize
    if needed > size or min(shape, default=0) < 0:
        raise ValueError(
            f"it has {size} bytes, but its header says {needed} for the shape {shape}: check that "
            f"it is complete"
        )
    return shape, dtype
