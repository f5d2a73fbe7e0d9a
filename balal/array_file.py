"""Files that are written whole or not at all: any file (`atomic_write`), and named arrays in one
safe file (`write`, `read`), plain `.npz` with nothing pickled."""

import os
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

# Files that an interruption may leave behind end with this, and begin with a dot.
UNFINISHED = ".unfinished"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` when the block ends: readers and interrupted runs
    see either the old file or the new one.

    If the block raises, `path` stays as it was.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "answers.txt")
    ...     with atomic_write(path) as file:
    ...         _ = file.write(b"cat")
    ...     path.read_text()
    'cat'
    """
    # No two writers share a name.
    mark = f"{os.getpid()}-{threading.get_ident()}"
    unfinished = path.with_name(f".{path.name}.{mark}{UNFINISHED}")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes the arrays; the file appears under its name only once it is complete, replacing any
    older one. Raises OSError if it cannot be written."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    with atomic_write(path) as file:
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
