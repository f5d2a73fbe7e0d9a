"""Plain Python that many modules need: files that are written whole, cores, lists in messages, and
packages that may be missing."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

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


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def first_few(values: Sequence | np.ndarray, *, shown: int = 5) -> str:
    """The first few of the offending values, and how many there are if there are more; for
    messages.

    >>> first_few("abcdefg")
    'a, b, c, d, e, ... (7 in all)'
    """
    first = ", ".join(str(value) for value in values[:shown])
    return f"{first}, ... ({len(values)} in all)" if len(values) > shown else first


@dataclass(frozen=True)
class Extra:
    """Wraps imports of packages that come with an extra of balal: if one is not installed, the
    error gives the command that installs it.

    Attributes:
      name: of the extra, in pyproject.toml.

    >>> with Extra("photos"):
    ...     import no_such_package
    Traceback (most recent call last):
    ModuleNotFoundError: no_such_package is not installed: python -m pip install 'balal[photos]'
    """

    name: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _, error: BaseException | None, __) -> None:
        if isinstance(error, ModuleNotFoundError):
            raise ModuleNotFoundError(
                f"{error.name} is not installed: {install(self.name)}", name=error.name
            ) from error


def install(extra: str) -> str:
    """The command that installs an extra of balal."""
    return f"python -m pip install 'balal[{extra}]'"
