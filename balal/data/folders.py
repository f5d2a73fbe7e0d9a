"""A folder of photographs as `Images`: one directory a class, or no classes at all."""

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from balal import folder_lock
from balal.check import indices as check_rows
from balal.data.batching import map_ahead, thread_count
from balal.data.decoding import decode
from balal.data.images import Images, fingerprint
from balal.data.room import Room
from balal.wording import first_few

# What systems and network drives leave in folders, in lower case, and what people and programs lay
# beside photographs. Names that begin with a dot are passed over, too.
_SYSTEM = frozenset(
    {
        *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
    }
)
_BESIDE = (".csv", ".tsv", ".txt", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".npy", ".npz")

# Far above any photograph; files are read into memory whole, four such at a time.
_LARGEST_FILE = 512 * 2**20
_ROOM = Room(4 * _LARGEST_FILE)

Choose = Callable[[tuple[str, ...], np.ndarray], Sequence[int] | np.ndarray]
"""From ids and labels, int32 [N], to the rows that are wanted."""


def folder(
    path: str | os.PathLike[str],
    *,
    labelled: bool | None = None,
    choose: Choose | None = None,
    check: bool = True,
    skip_damaged: bool = False,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    r"""The images under a folder, in the order of their names, as `Images`.

    Ids are paths below the folder with `/` between the parts; bytes of a name that are not UTF-8
    are written `\xe9` there. Links are followed. Names that begin with a dot, what operating
    systems leave in folders, and tables, texts and arrays are passed over and listed in
    `Images.ignored`.

    Args:
      path: the folder.
      labelled: True: each directory in it is a class, however deep its images lie; sorted names
        give class ids 0, 1, ..., and an empty directory is a class without images. False: all
        images below the folder, unlabelled. None: True where it holds only directories, False where
        it holds only files; a mixture is refused.
      choose: takes the ids and the labels of all files, int32 [N], before one of them is opened,
        and returns the rows that are wanted. The others are neither checked nor among the images.
        None: all.
      check: True: open and decode every file once, now, on threads, so that damage is known before
        anything is computed; JPEG files take a fraction of their decoding time. False: open
        nothing; damaged files are found when they are read.
      skip_damaged: leave out what cannot be used and list it in `Images.skipped`, instead of
        raising.
      threads: to check with; None: as many as there are cores that this process may use.
      progress: called after each file with how many have been checked, and how many there are.

    The fingerprint covers ids, labels, class names and the contents of all files or, with
    `check=False`, only their sizes; its first word says which.

    Raises: FileNotFoundError or NotADirectoryError for the folder; one ValueError that lists all
      files that are damaged, not images, unreadable, in no class, not regular files, or links that
      are broken or circular; and one for a folder without images. What `decode` refuses counts as
      damaged.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     (Path(parent) / "cat").mkdir()
    ...     _ = (Path(parent) / "cat" / "one.ppm").write_bytes(b"P6 1 1 255 abc")
    ...     pictures = folder(parent)
    >>> pictures.ids, pictures.class_names
    (('cat/one.ppm',), ('cat',))
    """
    root = Path(path).expanduser()
    if not root.exists():
        raise FileNotFoundError(f"there is no folder {root}")
    if not root.is_dir():
        raise NotADirectoryError(f"{root} is a file: give the folder that holds the images")
    files, directories, faults, ignored = _walk(root)
    outside = [name for name in files if "/" not in name]
    if labelled is None and outside and directories:
        raise ValueError(
            f"{root} holds both files ({outside[0]}, ...) and directories ({directories[0]}, "
            f"...): move the files away if the directories are classes; if nothing is labelled, "
            f"use labelled=False"
        )
    if labelled and outside and not directories:
        raise ValueError(
            f"{root} must have a directory for each class, but holds only files ({outside[0]}, "
            f"...); if nothing is labelled, use labelled=False"
        )
    labelled = bool(directories) if labelled is None else labelled
    if labelled:
        faults |= dict.fromkeys(outside, "it is not in the directory of a class")
    sound = [name for name in files if name not in faults]
    classes = {name: number for number, name in enumerate(directories)} if labelled else {}

    def labels_of(names: Sequence[str]) -> np.ndarray:
        found = [classes[name.split("/")[0]] if labelled else -1 for name in names]
        return np.array(found, np.int32)

    if choose is not None and sound:
        rows = check_rows("rows", choose(tuple(sound), labels_of(sound)), size=len(sound))
        sound = [sound[row] for row in np.sort(rows)]
    contents = _examine(
        {name: files[name] for name in sound},
        check,
        thread_count(threads),
        faults,
        progress,
    )
    if faults and not skip_damaged:
        named = [f"{name} ({fault})" for name, fault in sorted(faults.items())]
        raise ValueError(
            f"{len(faults)} of the files in {root} cannot be used: {first_few(named)}; "
            f"repair or remove them, or leave them out with skip_damaged=True"
        )
    if not contents and ignored and not faults:
        raise ValueError(
            f"there are no images in {root}, only what is passed over: {first_few(ignored)}"
        )
    ids = tuple(contents)
    labels = labels_of(ids)
    return Images(
        name=root.resolve().name,
        ids=ids,
        labels=labels,
        class_names=tuple(classes),
        read=partial(_read, tuple(files[name] for name in ids)),
        fingerprint=("contents-" if check else "sizes-")
        + fingerprint(ids, labels, tuple(classes), contents.values()),
        skipped=tuple(sorted(faults)),
        ignored=tuple(ignored),
        contents=tuple(contents.values()) if check else (),
    )


def _walk(root: Path) -> tuple[dict[str, str], list[str], dict[str, str], list[str]]:
    """Regular files by id, sorted; the names of directories directly in the root, sorted; what is
    wrong with anything else; and what is no image by its name, sorted."""
    files: dict[tuple[str, ...], str] = {}
    directories, faults, ignored = [], {}, []
    left: list[tuple[str, tuple[str, ...], frozenset]] = [
        (os.fspath(root), (), frozenset([_identity(os.stat(root))]))
    ]
    while left:
        path, above, holders = left.pop()
        try:
            names = sorted(os.listdir(path))
        except OSError as error:
            faults["/".join(above) or "."] = f"it cannot be opened: {error.strerror}"
            continue
        if above and folder_lock.NAME in names:  # A program is writing its results there.
            if len(above) == 1:
                directories.remove(above[0])
            continue
        taken = set()
        for name in names:
            parts, full = (*above, _written(name)), os.path.join(path, name)
            fault = None
            if name == folder_lock.NAME:
                continue
            if name.startswith(".") or name.lower() in _SYSTEM:
                ignored.append("/".join(parts))
                continue
            try:
                status = os.stat(full)
            except OSError as error:
                status, fault = None, f"it is a broken link or may not be read: {error.strerror}"
            if parts in taken:
                fault = "another file has the same id; rename one"
            elif status and stat.S_ISDIR(status.st_mode):
                if _identity(status) in holders:
                    fault = "it is a link to a folder that holds it"
                else:
                    left.append((full, parts, holders | {_identity(status)}))
                    directories += [parts[0]] if not above else []
            elif status and stat.S_ISREG(status.st_mode):
                if name.lower().endswith(_BESIDE):
                    ignored.append("/".join(parts))
                else:
                    files[parts] = full
            elif status:
                fault = "it is neither a file nor a folder"
            taken.add(parts)
            if fault:
                faults["/".join(parts)] = fault
    # Sorted by parts, so that the files of one directory stay together whatever its name.
    found = {"/".join(parts): files[parts] for parts in sorted(files)}
    return found, sorted(directories), faults, sorted(ignored)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _written(name: str) -> str:
    """A file name as text that can be saved anywhere."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _examine(
    files: dict[str, str], check: bool, threads: int, faults: dict[str, str], progress
) -> dict[str, bytes]:
    """What the fingerprint covers of each sound file, in order; the faults of the others are added
    to `faults`."""
    contents = {}
    results = map_ahead(
        _checked if check else _sized, files.values(), threads=threads, waiting=4 * threads
    )
    for number, (name, (content, fault)) in enumerate(zip(files, results, strict=True), start=1):
        if fault:
            faults[name] = fault
        else:
            contents[name] = content
        if progress is not None:
            progress(number, len(files))
    return contents


def _checked(path: str) -> tuple[bytes, str]:
    try:
        with _content(path) as data:
            decode(data, quick=True)
            return hashlib.sha256(data).digest(), ""
    except OSError as error:
        return b"", f"it cannot be opened: {error.strerror}"
    except ValueError as error:
        return b"", str(error)


def _sized(path: str) -> tuple[bytes, str]:
    try:
        return str(os.stat(path).st_size).encode(), ""
    except OSError as error:
        return b"", f"it may not be read: {error.strerror}"


def _read(paths: tuple[str, ...], row: int) -> np.ndarray:
    with _content(paths[row]) as data:
        return decode(data)


@contextmanager
def _content(path: str) -> Iterator[bytes]:
    size = os.stat(path).st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"it has {size} bytes, more than the {_LARGEST_FILE} that are read")
    with _ROOM.taken(size), open(path, "rb") as file:
        yield file.read(size)
