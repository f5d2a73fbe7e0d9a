"""One program at a time in a folder."""

import errno
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from balal.atomic_files import settle

try:
    import fcntl
except ImportError:  # Windows has none, and nothing is locked there.
    fcntl = None

# The file by which a folder is held, while it is.
NAME = ".lock"
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


@contextmanager
def locked(
    folder: Path,
    *,
    first: str | None = None,
    read_only: bool = False,
    held: str | None = None,
    instead: str = "name another folder",
) -> Iterator[None]:
    """Holds a folder until the block ends or the process does, in whatever way.

    The folder is made if need be, and goes again if nothing is written there. What a process that
    was killed left unfinished in it is settled first.

    Args:
      folder: to hold.
      first: as in `atomic_files.settle`.
      read_only: a folder that cannot be written need not be held, as nobody else writes there.
      held: what is held, where that is not the folder itself, for the sentence.
      instead: what to do where it is held already, other than to wait.

    Raises: ValueError at once where another process holds it, with its number and its machine;
      NotADirectoryError where it is a file; OSError where it cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name, locked(Path(name)):
    ...     with locked(Path(name)):
    ...         pass
    Traceback (most recent call last):
    ValueError: ... wait until it has ended, or name another folder
    """
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file: name a folder to write to")
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _held(folder, f"{held or folder} is in use by", instead)
    except OSError as error:
        if not (read_only and error.errno in _READ_ONLY):
            raise
        yield
        return
    try:
        with suppress(OSError):  # On a full disk the others are refused without its number.
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}".encode())
        settle(folder, first=first)
        yield
    finally:
        # While it is held, so that nobody holds a file that is gone.
        with suppress(OSError):
            (folder / NAME).unlink()
        file.close()
        for path in made:
            with suppress(OSError):  # It is not empty.
                path.rmdir()


def _held(folder: Path, sentence: str, instead: str) -> Any:
    """The file that is locked."""
    path = folder / NAME
    while True:
        file = path.open("a+b", buffering=0)
        if fcntl is None:
            return file
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(300).decode("ascii", "replace")
            file.close()
            raise ValueError(
                f"{sentence} {holder or 'another process'}: wait until it has ended, or {instead}"
            ) from None
        except OSError:
            return file  # Some network drives have no locks.
        try:
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        # The one before deleted it between the two calls.
        file.close()
