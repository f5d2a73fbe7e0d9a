"""Feature caches: what a source model computed for every image, as plain arrays in a folder,
together with what they were computed from.

    manifest.json    what the columns depend on: model, weights, preprocessing, data set, dtype
    rows.json        an id and a label for every row, the names of the classes
    features.npy     [N, D], and other columns with one entry for each row
    progress.json    how many rows are finished, and their CRC-32 in every column;
                     once all are finished, the sha256 of every column's file

Columns are written in place, a shard of rows at a time, so memory is bounded by a shard. After an
interruption the finished rows are compared with their CRC-32 and the unfinished shard is written
again; the finished folder is byte for byte what an uninterrupted run leaves.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int, Num

from balal import check
from balal.atomic_files import atomic_write, naming, settle
from balal.types import Scores
from balal.wording import first_few

_MANIFEST, _ROWS, _PROGRESS = "manifest.json", "rows.json", "progress.json"
_AGAIN = "damaged or changed since; delete the folder and extract again"


@dataclass(frozen=True)
class Cache:
    """A finished feature cache.

    Attributes:
      manifest: what it was made from.
      ids: of the rows.
      labels: int32 [N], -1 = unlabelled.
      class_names: of the labels.
      columns: arrays of N entries, memory-mapped: `features` [N, D] and, if a source model made
        them, the fields of `Scores`.
      sha256: of the file of every column.
    """

    manifest: dict[str, Any]
    ids: tuple[str, ...]
    labels: Int[np.ndarray, " N"]
    class_names: tuple[str, ...]
    columns: dict[str, Num[np.ndarray, "N ..."]]
    sha256: dict[str, str]

    @property
    def features(self) -> Num[np.ndarray, "N D"]:
        """[N, D], memory-mapped."""
        return self.columns["features"]

    @property
    def scores(self) -> Scores | None:
        """The source model's scores of every row, or None if they were not kept."""
        names = [field.name for field in fields(Scores)]
        if not set(names) <= set(self.columns):
            return None
        return Scores(*(jnp.asarray(self.columns[name]) for name in names))


def begin(
    folder: Path | str,
    manifest: Mapping[str, Any],
    columns: Mapping[str, tuple[tuple[int, ...], str]],
    *,
    ids: tuple[str, ...],
    labels: Int[np.ndarray, " N"],
    class_names: tuple[str, ...] = (),
) -> int:
    """Prepares a folder for `write`; returns how many rows are finished there: 0 in a new one, N in
    a finished one.

    Args:
      folder: a new one, or one with the same manifest and rows.
      manifest: JSON values; everything the columns depend on besides the images.
      columns: shape and dtype of an entry of each, as
        `dict(features=((1280,), "float16"), margin=((), "float32"))`.
      ids, labels, class_names: of the rows, in order.

    Raises: ValueError if the folder holds something else, with what differs, or if finished rows
      are damaged: nothing is mixed or deleted.
    """
    folder, rows = Path(folder), _rows(ids, labels, class_names)
    manifest = json.loads(
        json.dumps(
            {
                **manifest,
                "columns": {name: [list(shape), dtype] for name, (shape, dtype) in columns.items()},
            }
        )
    )
    if not (folder / _MANIFEST).exists():
        # The manifest is written last, so only an interruption here leaves a folder without one,
        # and its progress then says 0 rows.
        progress = json.dumps(dict(rows=0, crc32=dict.fromkeys(columns, 0)))
        begun = (folder / _PROGRESS).is_file() and (
            folder / _PROGRESS
        ).read_bytes() == progress.encode()
        own = {_ROWS, _PROGRESS, *(f"{name}.npy" for name in columns)} if begun else set()
        others = (
            sorted({path.name for path in folder.iterdir() if not path.name.startswith(".")} - own)
            if folder.exists()
            else []
        )
        if others:
            raise ValueError(
                f"{folder} holds other files ({first_few(others)}) and no {_MANIFEST} of a "
                f"feature cache: choose a new folder"
            )
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / _PROGRESS, progress)
        _write(folder / _ROWS, json.dumps(rows))
        for name, (shape, dtype) in columns.items():
            path = folder / f"{name}.npy"
            with naming(path):
                np.lib.format.open_memmap(
                    path, mode="w+", dtype=dtype, shape=(len(ids), *shape)
                ).flush()
            _reserve(path)
        _write(folder / _MANIFEST, json.dumps(manifest))
        return 0
    settle(folder)
    _compare(folder, _json(folder / _MANIFEST, columns=dict), manifest)
    if _json(folder / _ROWS) != rows:
        raise ValueError(
            f"the feature cache {folder} has other images or labels: choose another folder, or "
            f"delete this one"
        )
    progress, found = _json(folder / _PROGRESS, rows=int), _columns(folder, manifest, len(ids))
    if "sha256" not in progress or progress["rows"] != len(ids):
        _compare_finished(folder, found, progress)
    return progress["rows"]


def write(folder: Path | str, first: int, shard: Mapping[str, Num[np.ndarray, "n ..."]]) -> None:
    """Writes the columns of the rows from `first` on, and counts them as finished once they are on
    disk.

    Raises: ValueError for columns that do not fit or are damaged, or a shard that does not start
      right after the finished rows.
    """
    folder = Path(folder)
    progress, manifest = (
        _json(folder / _PROGRESS, rows=int),
        _json(folder / _MANIFEST, columns=dict),
    )
    shard = {name: check.array(f"column {name}", values) for name, values in shard.items()}
    (size,) = {len(values) for values in shard.values()}
    done, total = progress["rows"], len(_json(folder / _ROWS, ids=list)["ids"])
    if first != done or first + size > total or set(shard) != set(manifest["columns"]):
        raise ValueError(
            f"the feature cache {folder} has {done} of {total} rows with the columns "
            f"{', '.join(manifest['columns'])}, and a shard of {size} rows from {first} on with "
            f"{', '.join(shard)} does not continue it"
        )
    columns, last = _columns(folder, manifest, total), first + size
    for name, column in columns.items():
        _overwrite(folder / f"{name}.npy", column, first, np.asarray(shard[name], column.dtype))
    sums = {
        name: zlib.crc32(column[first:last].data, progress["crc32"][name])
        for name, column in columns.items()
    }
    progress = dict(rows=last, crc32=sums)
    if last == total:
        _compare_finished(folder, columns, progress)
        progress = dict(
            rows=total, sha256={name: _sha256(folder / f"{name}.npy") for name in columns}
        )
    _write(folder / _PROGRESS, json.dumps(progress))


def read(
    folder: Path | str, *, manifest: Mapping[str, Any] | None = None, verify: bool = True
) -> Cache:
    """A finished feature cache.

    Args:
      folder: of the cache.
      manifest: what it must have been made from; entries left out are not compared.
      verify: compare the columns with their sha256, which takes a second per gigabyte.

    Raises: FileNotFoundError if there is none; ValueError for one that is not finished, is damaged,
      or was made from something else.
    """
    folder = Path(folder)
    if not (folder / _MANIFEST).exists():
        raise FileNotFoundError(f"there is no feature cache at {folder}")
    found, progress = _json(folder / _MANIFEST, columns=dict), _json(folder / _PROGRESS, rows=int)
    rows = _json(folder / _ROWS, ids=list, labels=list, class_names=list)
    if manifest is not None:
        _compare(
            folder,
            {name: found.get(name) for name in manifest},
            json.loads(json.dumps(dict(manifest))),
        )
    ids = tuple(rows["ids"])
    if not isinstance(progress.get("sha256"), dict):
        raise ValueError(
            f"the feature cache {folder} has {progress['rows']} of {len(ids)} rows: run the "
            f"extraction again to finish it"
        )
    columns = _columns(folder, found, len(ids))
    for path in [folder / f"{name}.npy" for name in columns] if verify else []:
        if _sha256(path) != progress["sha256"].get(path.stem):
            raise ValueError(f"{path} is not what the extraction wrote: {_AGAIN}")
    return Cache(
        found,
        ids,
        np.array(rows["labels"], np.int32),
        tuple(rows["class_names"]),
        columns,
        progress["sha256"],
    )


def _rows(ids, labels, class_names) -> dict[str, Any]:
    return dict(
        ids=list(ids),
        labels=check.integers("labels", labels).tolist(),
        class_names=list(class_names),
    )


def _compare(folder: Path, found: Any, wanted: Any) -> None:
    """ValueError that lists the parts of the manifest that differ, from the outside in."""
    differences = list(_differences(found, wanted, ""))
    if differences:
        listed = "; ".join(differences[:5]) + (
            f"; and {len(differences) - 5} more" if len(differences) > 5 else ""
        )
        raise ValueError(
            f"the feature cache {folder} was made from something else: {listed}. Choose another "
            f"folder, or delete this one"
        )


def _differences(found: Any, wanted: Any, name: str):
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            yield from _differences(
                found.get(key), wanted.get(key), f"{name}.{key}" if name else key
            )
    elif found != wanted:
        yield f"{name} was {_short(found)} and is {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _columns(folder: Path, manifest: Mapping[str, Any], total: int) -> dict[str, Any]:
    """The columns, memory-mapped, after checking header and size."""
    columns = {}
    for name, (shape, dtype) in manifest["columns"].items():
        path = folder / f"{name}.npy"
        try:
            column = np.lib.format.open_memmap(path, mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(
                f"{path} is missing or damaged ({error}): delete the folder and extract again"
            ) from error
        like = (
            column.shape == (total, *shape)
            and column.dtype == np.dtype(dtype)
            and column.flags.c_contiguous
        )
        if not like or path.stat().st_size != column.offset + column.nbytes:
            raise ValueError(f"{path} is not what the extraction wrote: {_AGAIN}")
        columns[name] = column
    return columns


def _overwrite(path: Path, column: Any, first: int, values: np.ndarray) -> None:
    """Writes rows of a column where they belong, on the disk before this returns. Through the file:
    what goes wrong while mapped memory is written ends the process."""
    with naming(path), path.open("r+b") as file:
        file.seek(column.offset + first * column.strides[0])
        file.write(np.ascontiguousarray(values).data)
        file.flush()
        os.fsync(file.fileno())


def _reserve(path: Path) -> None:
    """Takes the room on the disk for the whole file, so that a full disk is known before anything
    is computed."""
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            raise ValueError(
                f"{path} needs {size} bytes of disk, which cannot be had ({error.strerror}): make "
                f"room, or name a folder on another disk"
            ) from error


def _compare_finished(folder: Path, columns: dict[str, Any], progress: dict[str, Any]) -> None:
    rows = progress["rows"]
    if progress.get("crc32") != {
        name: zlib.crc32(column[:rows].data) for name, column in columns.items()
    }:
        raise ValueError(
            f"the {rows} finished rows of the feature cache {folder} are not those that "
            f"{_PROGRESS} counts: {_AGAIN}"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json(path: Path, **kinds: type) -> Any:
    """The value in a file, which must be an object with entries of these kinds if any are given."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        wrong = [
            name
            for name, kind in kinds.items()
            if not isinstance(value, dict) or not isinstance(value.get(name), kind)
        ]
        if wrong:
            raise ValueError(f"it does not say {', '.join(wrong)}")
    except FileNotFoundError:
        raise ValueError(
            f"the feature cache {path.parent} lacks {path.name}: delete the folder and extract "
            f"again"
        ) from None
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete the folder and extract again"
        ) from error
    return value


def _write(path: Path, text: str) -> None:
    """Writes a file in one step: readers and interrupted runs see either the old file or the new
    one."""
    with atomic_write(path) as file:
        file.write(text.encode())
