"""Files that are written whole or not at all: one of them (`atomic_write`), or several that belong
together (`together`)."""

import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Files that an interruption may leave behind end with this, and begin with a dot.
UNFINISHED = ".unfinished"
# The folders in which files that belong together are written, and from which they are moved.
_STAGED, _READY = ".together" + UNFINISHED, ".together.ready"


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` when the block ends: readers and interrupted runs
    see either the old file or the new one.

    If the block raises, `path` stays as it was. What a process leaves that dies meanwhile, `settle`
    deletes.

    Raises: OSError, which names the file, where it cannot be written.

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
        with naming(path):
            with unfinished.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
            _sync(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def together(folder: Path, *, first: str) -> Iterator[Path]:
    """A folder to write files to, which replace those of the same names in `folder` when the block
    ends, the one called `first` before the others.

    Where the process dies before `first` is replaced, none is. Where it dies later, `settle`
    replaces the others. So what somebody did to `first` in between is never lost.

    Raises: OSError, which names the file, where something cannot be written; then all is as it was,
    or `settle` makes it so.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with together(Path(folder), first="picks.csv") as staged:
    ...         for name in ("picks.csv", "page.html"):
    ...             _ = (staged / name).write_text(name)
    ...     sorted(path.name for path in Path(folder).iterdir())
    ['page.html', 'picks.csv']
    """
    folder.mkdir(parents=True, exist_ok=True)
    settle(folder, first=first)
    staged, ready = folder / _STAGED, folder / _READY
    staged.mkdir()
    try:
        yield staged
        for path in staged.iterdir():
            _sync(path)
        _sync(staged)
        os.rename(staged, ready)
        _sync(folder)
    except BaseException:
        shutil.rmtree(staged, ignore_errors=True)
        raise
    os.replace(ready / first, folder / first)
    settle(folder, first=first)


def settle(folder: Path, *, first: str | None = None) -> None:
    """Deletes what processes that have died left of the files that they were writing, and finishes
    what `together` had begun to replace.

    first: as for `together`; None: only single files are looked at.
    """
    ready = folder / _READY
    if first is not None:
        if (ready / first).exists():
            shutil.rmtree(ready)
        elif ready.is_dir():
            for path in sorted(ready.iterdir()):
                os.replace(path, folder / path.name)
            _sync(folder)
            ready.rmdir()
        shutil.rmtree(folder / _STAGED, ignore_errors=True)
    _clear(folder)


def _clear(folder: Path) -> None:
    for name in os.listdir(folder):
        process = re.fullmatch(rf"\..+\.(\d+)-\d+{re.escape(UNFINISHED)}", name)
        if process and not _runs(int(process[1])):
            (folder / name).unlink(missing_ok=True)


def _runs(process: int) -> bool:
    if os.name == "nt":  # Where this would be a signal.
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _sync(path: Path) -> None:
    """Has a file, or what a folder lists, written to the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # A folder, on Windows.
        return
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Has an OSError of the block that names no file, as where writing fails, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            raise type(error)(error.errno, error.strerror, str(path)) from None
        raise
