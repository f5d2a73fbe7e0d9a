"""One program at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows has none, and nothing is locked there.
    fcntl = None

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if need be, until the block ends or the process does, in
    whatever way. A folder that is read-only is not held.

    Raises: ValueError at once where another process holds it, with its number.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name, locked(Path(name)):
    ...     with locked(Path(name)):
    ...         pass
    Traceback (most recent call last):
    ValueError: ... wait until it has ended, or name another folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    file = _open(folder / _NAME)
    if file is None:
        yield
        return
    with file:
        _lock(file, folder)
        file.truncate(0)
        file.write(f"process {os.getpid()}".encode())
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _open(path: Path) -> BinaryIO | None:
    """The file that is locked; None where it cannot be written, as nobody writes there then. It is
    kept afterwards: a file that is deleted can be locked twice."""
    try:
        return path.open("a+b")
    except OSError:
        return None


def _lock(file: BinaryIO, folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read(100).decode("ascii", "replace")
        raise ValueError(
            f"{folder} is in use by {holder or 'another process'}: wait until it has ended, or "
            f"name another folder"
        ) from None
    except OSError:
        pass  # Some network drives have no locks.
