"""PyTorch's two formats: a zip (1.6 and later) and the legacy stream before it.

Reads no more than the file's `num_bytes`: what a header declares is compared with them before
anything is read or allocated. Errors are ValueErrors without the path, which
`balal.models.weights.read` adds.

Source: `torch/serialization.py` of PyTorch 2.13 (`_save`, `_legacy_save`).
"""

import io
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from balal.models.checkpoints import unpickling
from balal.models.checkpoints.arrays import as_arrays
from balal.models.checkpoints.tensors import LONGEST_DESCRIPTION, Storage, Tensor, quoted

_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


def zipped(
    file: io.BufferedReader, num_bytes: int, choose: Callable[[Any], dict[str, Tensor]]
) -> dict[str, np.ndarray]:
    """The tensors that `choose` picks from what `torch.save` wrote into a zip: NAME/data.pkl and
    NAME/data/KEY for every storage.

    Nothing is unpacked to disk, so the names in it are keys, not paths.

    Raises: ValueError.
    """
    size = _directory_size(file, num_bytes)
    if size > LONGEST_DESCRIPTION:
        raise ValueError(
            f"its zip claims a directory of {size} bytes; at most {LONGEST_DESCRIPTION} are read"
        )
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
        UnicodeDecodeError,
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
    pickles = io.BytesIO(file.read(min(num_bytes, LONGEST_DESCRIPTION)))
    try:
        root, storages, order = _read_pickles(pickles)
    except ValueError:
        if pickles.tell() == LONGEST_DESCRIPTION:
            raise ValueError(
                f"its pickles are longer than the {LONGEST_DESCRIPTION} bytes that are read, or "
                f"damaged"
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
        or not all(type(key) is str for key in order)
        # First, so that each key is compared with one of a storage only once.
        or len(set(order)) != len(order)
        or not all(key in storages for key in order)
    ):
        raise ValueError("its list of storages does not match the tensors that it describes")
    return root, storages, order


def _directory_size(file: io.BufferedReader, num_bytes: int) -> int:
    """How long a zip says its list of members is, which `zipfile` reads whole and makes objects of
    that take 15 times the memory. Looks where `zipfile` does."""
    file.seek(max(0, num_bytes - 22 - 2**16))
    tail = file.read()
    whole = tail[-22:].startswith(b"PK\5\6") and tail.endswith(b"\0\0")
    end = len(tail) - 22 if whole else tail.rfind(b"PK\5\6")
    if end < 0:
        return 0
    if tail[max(0, end - 20) :].startswith(b"PK\6\7"):  # In front of it, a larger one.
        return int.from_bytes(tail[end - 36 : end - 28], "little")
    return int.from_bytes(tail[end + 12 : end + 16], "little")


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
    if members[pickles[0]].file_size > LONGEST_DESCRIPTION:
        raise ValueError(
            f"its data.pkl has {members[pickles[0]].file_size} bytes; at most "
            f"{LONGEST_DESCRIPTION} are read"
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
