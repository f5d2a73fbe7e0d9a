"""Named arrays in one safe file: plain `.npz`, nothing pickled, written whole or not at all."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from balal import host


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes the arrays; the file appears under its name only once it is complete, replacing any
    older one. Raises OSError if it cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    with host.atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def read(path: Path, *, kind: str) -> dict[str, Any]:
    """The arrays of a file.

    Args:
      path: of the file.
      kind: what it should be, for messages: "saved state".

    Raises: FileNotFoundError; ValueError for a file that is not an `.npz` of plain arrays.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {kind} at {path}") from None
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path} is not a {kind}, or is damaged: {error}") from None
