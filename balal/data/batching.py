"""Batches of images in order, decoded on threads ahead of their use."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Array, Int32, Int64, Integer

from balal import check, machine
from balal.data import room
from balal.data.images import Images

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Damage:
    """An image that could not be read.

    Attributes:
      row, id: of the image.
      reason: why, in a few words.
    """

    row: int
    id: str
    reason: str


@dataclass(frozen=True, eq=False)
class Batch:
    """Up to `batch_size` consecutive images, and what else is known of them.

    Attributes:
      rows: int64 [n], row numbers in the set.
      ids: n of them.
      labels: int32 [n].
      images: [n, ...] where all have one shape and dtype, else a tuple of n arrays.
      damaged: images from among these that could not be read.
    """

    rows: Int64[np.ndarray, " n"]
    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " n"]
    images: np.ndarray | tuple[np.ndarray, ...]
    damaged: tuple[Damage, ...] = ()


def batches(
    images: Images,
    batch_size: int,
    *,
    rows: Sequence[int] | Integer[Array | np.ndarray, " b"] | None = None,
    prepare: Callable[[np.ndarray], Any] | None = None,
    threads: int | None = None,
    skip_damaged: bool = False,
) -> Generator[Batch, None, None]:
    """The images in order, `batch_size` at a time; the last batch is shorter where they do not
    divide evenly.

    Threads decode up to two batches ahead and begin another image only when one is taken, so at
    most four batches are in memory: two ahead, one being assembled, and the one handed out.
    Leaving the loop, or `close()`, ends the threads.

    Args:
      images: any `Images`.
      batch_size: images in a batch.
      rows: which rows, in which order; None: all of them. `rows=range(start, len(images))`
        continues where an earlier run stopped.
      prepare: applied to every image on the threads, uint8 [h, w, 3] to an array; with one output
        shape for all, batches are stacked.
      threads: how many; None: as many as there are cores that this process may use.
      skip_damaged: leave out images that cannot be read and list them in `Batch.damaged`, instead
        of raising at the first. Which rows a batch covers does not change: it may be shorter, or
        empty.

    Raises: ValueError at once for rows that do not exist or are repeated, and for a batch size or
      threads below 1; from within the loop, after the batches before it, one that names the image
      that cannot be read or on which `prepare` fails, with the cause.

    >>> def read(row):
    ...     return np.full((2, 2, 3), row, np.uint8)
    >>> four = Images("four", tuple("abcd"), np.zeros(4, np.int32), ("cat",), read, "of nothing")
    >>> [(batch.ids, batch.images.shape) for batch in batches(four, 3)]
    [(('a', 'b', 'c'), (3, 2, 2, 3)), (('d',), (1, 2, 2, 3))]
    """
    if isinstance(batch_size, bool) or batch_size < 1:
        raise ValueError(f"batch_size must be a whole number of at least 1, got {batch_size}")
    wanted = (
        np.arange(len(images)) if rows is None else check.indices("rows", rows, size=len(images))
    )
    return _batches(images, batch_size, wanted, prepare, thread_count(threads), skip_damaged)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, threads: int, waiting: int
) -> Generator[Result, None, None]:
    """`function(item)` for every item, in order, computed on threads; at most `waiting` results are
    begun or ready at a time.

    What a call raises is raised where its result would come. The threads end when the generator
    does, however it ends.
    """
    left = iter(items)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="balal.data")
    try:
        futures = deque(pool.submit(function, item) for item in islice(left, waiting))
        while futures:
            result = futures.popleft().result()
            futures.extend(pool.submit(function, item) for item in islice(left, 1))
            yield result
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def thread_count(threads: int | None) -> int:
    """`threads`, or as many as there are cores that this process may use where that is None;
    ValueError below 1."""
    if threads is None:
        return machine.cores()
    if isinstance(threads, bool) or threads < 1:
        raise ValueError(f"threads must be a whole number of at least 1, got {threads}")
    return threads


def reason(error: Exception) -> str:
    """The message of an exception, or its type where it has none."""
    return str(error) or type(error).__name__


def _batches(
    images: Images, batch_size: int, rows: np.ndarray, prepare, threads: int, skip_damaged: bool
) -> Generator[Batch, None, None]:
    def load(row: int) -> np.ndarray | Damage:
        try:
            image = images.read(row)
        except Exception as error:
            if skip_damaged:
                return Damage(row, images.ids[row], reason(error))
            raise ValueError(
                f"image {images.ids[row]!r} (row {row}) of {images.name} cannot be read: "
                f"{reason(error)}"
            ) from error
        try:
            if prepare is None:
                return image
            with room.of_pixels().taken(int(np.prod(np.shape(image)[:2]))):
                return np.asarray(prepare(image))
        except Exception as error:
            raise ValueError(
                f"prepare fails on image {images.ids[row]!r} (row {row}, shape {image.shape}) of "
                f"{images.name}: {reason(error)}"
            ) from error

    waiting = 2 * max(batch_size, threads)
    loaded = map_ahead(load, rows.tolist(), threads=threads, waiting=waiting)
    try:
        for start in range(0, len(rows), batch_size):
            # In a function of its own, so that nothing here keeps the images alive while the caller
            # works.
            yield _batch(images, rows[start : start + batch_size], loaded)
    finally:
        loaded.close()


def _batch(images: Images, rows: np.ndarray, loaded: Iterator[np.ndarray | Damage]) -> Batch:
    results = list(islice(loaded, len(rows)))
    arrays = tuple(result for result in results if not isinstance(result, Damage))
    kept = rows[[not isinstance(result, Damage) for result in results]].astype(np.int64)
    alike = len({(array.shape, array.dtype) for array in arrays}) == 1
    return Batch(
        rows=kept,
        ids=tuple(images.ids[row] for row in kept),
        labels=images.labels[kept],
        images=np.stack(arrays) if alike else arrays,
        damaged=tuple(result for result in results if isinstance(result, Damage)),
    )
