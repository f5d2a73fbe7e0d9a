"""Feature caches: what a source model made of every image, as plain arrays in a folder, together with what made it.

    manifest.json    what the columns depend on: model, weights, preprocessing, data set, dtype
    rows.json        an id and a label for every row, the names of the classes
    features.npy     [N, D], and other columns with one entry for each row
    progress.json    how many rows are finished; when all are, the sha256 of every column

Columns are written where they belong, a shard of rows at a time, so memory is bounded by a shard. After a kill the unfinished shard is
written again; the finished folder is byte for byte what an undisturbed run leaves.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Num

_MANIFEST, _ROWS, _PROGRESS = "manifest.json", "rows.json", "progress.json"


@dataclass(frozen=True)
class Cache:
    """A whole feature cache. labels: int32 [N], -1: unknown. columns: arrays of N entries, memory-mapped, `features` [N, D] among them.

    sha256: of the file of every column."""

    manifest: dict[str, Any]
    ids: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    class_names: tuple[str, ...]
    columns: dict[str, Num[np.ndarray, "N ..."]]
    sha256: dict[str, str]


def begin(
    folder: Path | str,
    manifest: Mapping[str, Any],
    columns: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    ids: tuple[str, ...],
    labels: Int[np.ndarray, " N"],
    class_names: tuple[str, ...] = (),
) -> int:
    """Makes a folder ready for `write`; returns how many rows are finished there: 0 in a new one, N in a whole one.

    Args:
      folder: a new one, or one of the same manifest and rows.
      manifest: JSON values; everything the columns depend on beside the images.
      columns: shape and dtype of an entry of each, as `dict(features=((1280,), "float16"), margin=((), "float32"))`.
      ids, labels, class_names: of the rows, in order.

    Raises: ValueError where the folder holds something else, with what differs: nothing is mixed or thrown away.
    """
    folder, rows = Path(folder), _rows(ids, labels, class_names)
    manifest = json.loads(json.dumps({**manifest, "columns": {name: [list(shape), dtype] for name, (shape, dtype) in columns.items()}}))
    if not (folder / _MANIFEST).exists():
        # Without a manifest, what is there may be left from a kill in these lines, but nothing else.
        own = {_ROWS, _PROGRESS, *(f"{name}.npy" for name in columns)}
        if folder.exists() and {path.name for path in folder.iterdir() if not path.name.startswith(".")} - own:
            raise ValueError(f"{folder} holds other files and no feature cache: name a new folder")
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _ROWS, rows)
        _write(folder / _PROGRESS, dict(rows=0))
        for name, (shape, dtype) in columns.items():
            np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(len(ids), *shape)).flush()
        _write(folder / _MANIFEST, manifest)
        return 0
    _compare(folder, _json(folder / _MANIFEST), manifest)
    if _json(folder / _ROWS) != rows:
        raise ValueError(f"the feature cache {folder} is of other images or labels: name another folder, or delete this one")
    return _json(folder / _PROGRESS)["rows"]


def write(folder: Path | str, first: int, shard: Mapping[str, Num[np.ndarray, "n ..."]]) -> None:
    """Puts the columns of the rows from `first` on into place, and counts them as finished once they are on the disk.

    Raises: ValueError for columns that do not fit, or where the shard does not follow on the rows that are finished.
    """
    folder = Path(folder)
    done, manifest = _json(folder / _PROGRESS)["rows"], _json(folder / _MANIFEST)
    (size,) = {len(values) for values in shard.values()}
    total = len(_json(folder / _ROWS)["ids"])
    if first != done or first + size > total or set(shard) != set(manifest["columns"]):
        raise ValueError(
            f"the feature cache {folder} has {done} of {total} rows with the columns {', '.join(manifest['columns'])}, and a shard of "
            f"{size} rows from {first} on with {', '.join(shard)} does not go on from there"
        )
    for name, values in shard.items():
        column = np.lib.format.open_memmap(folder / f"{name}.npy", mode="r+")
        column[first : first + size] = values
        column.flush()
    digests = {name: _sha256(folder / f"{name}.npy") for name in shard} if first + size == total else None
    _write(folder / _PROGRESS, dict(rows=first + size) | (dict(sha256=digests) if digests else {}))


def read(folder: Path | str, *, manifest: Mapping[str, Any] | None = None, verify: bool = True) -> Cache:
    """A whole feature cache.

    Args:
      manifest: what it must have been made from, as far as it is said here.
      verify: compare the columns with their sha256; takes a second for each gigabyte.

    Raises: FileNotFoundError where there is none; ValueError for one that is not finished, is damaged, or was made from something else.
    """
    folder = Path(folder)
    if not (folder / _MANIFEST).exists():
        raise FileNotFoundError(f"there is no feature cache at {folder}")
    found, progress, rows = (_json(folder / name) for name in (_MANIFEST, _PROGRESS, _ROWS))
    if manifest is not None:
        _compare(folder, {name: found.get(name) for name in manifest}, json.loads(json.dumps(dict(manifest))))
    ids = tuple(rows["ids"])
    if "sha256" not in progress:
        raise ValueError(
            f"the feature cache {folder} has {progress['rows']} of {len(ids)} rows: run the extraction again, it goes on there"
        )
    columns = {}
    for name, (shape, dtype) in found["columns"].items():
        path = folder / f"{name}.npy"
        try:
            columns[name] = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is missing or damaged ({error}): delete the folder and extract again") from error
        wrong = columns[name].shape != (len(ids), *shape) or columns[name].dtype != np.dtype(dtype)
        if wrong or (verify and _sha256(path) != progress["sha256"][name]):
            raise ValueError(f"{path} is not what the extraction wrote: it is damaged or was changed; delete the folder and extract again")
    return Cache(found, ids, np.array(rows["labels"], np.int32), tuple(rows["class_names"]), columns, progress["sha256"])


def _rows(ids, labels, class_names) -> dict[str, Any]:
    return dict(ids=list(ids), labels=np.asarray(labels).tolist(), class_names=list(class_names))


def _compare(folder: Path, found: Any, wanted: Any) -> None:
    """Names every part of the manifest that differs, from the outside in."""
    differences = list(_differences(found, wanted, ""))
    if differences:
        told = "; ".join(differences[:5]) + (f"; and {len(differences) - 5} more" if len(differences) > 5 else "")
        raise ValueError(f"the feature cache {folder} was made from something else: {told}. Name another folder, or delete this one")


def _differences(found: Any, wanted: Any, name: str):
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif found != wanted:
        yield f"{name} was {_short(found)} and is {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"the feature cache {path.parent} lacks {path.name}: delete the folder and extract again") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete the folder and extract again") from error


def _write(path: Path, value: Any) -> None:
    """In one step: a reader, or a kill, sees the old file or the new one."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
