"""Named arrays in one safe file: plain `.npz`, nothing pickled, written whole or not at all."""

import os
import time
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes the arrays; the file appears under its name only once it is whole, in place of any
    older one. Raises OSError where it cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")
    try:
        with open(temporary, "xb") as file:
            np.savez_compressed(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path, *, kind: str) -> dict[str, Any]:
    """The arrays of a file.

    Args:
      kind: what it should be, for messages: "saved state".

    Raises: FileNotFoundError; ValueError for a file that is no `.npz` of plain arrays.
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
