"""A set of images that can be read one by one: every source makes one, and everything else takes
one."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Array, Int32, Integer

from balal import check
from balal.wording import first_few


@dataclass(frozen=True, eq=False)
class Images:
    """`N` images with names and labels, each read on demand.

    Attributes:
      name: of the set, for messages.
      ids: one a row, distinct and stable: the same image has the same id in the next run and on
        another machine.
      labels: int32 [N], class ids, -1 = unlabelled.
      class_names: one a class id, empty where nothing is labelled.
      read: takes a row, returns uint8 [h, w, 3]; may be called from several threads at once.
      fingerprint: equal for equal content; the function that made the set says what it covers.
      skipped: names of files that were left out as damaged.
      ignored: names of what was passed over as no image at all, such as `Thumbs.db`.
      contents: a digest of the file of each image, by which copies are found; empty: not known.
      unlabelled: names of images that were left out for want of a label.

    Raises: ValueError unless there are images, as many labels as ids, distinct ids and a name for
    every label.

    >>> def read(row):
    ...     return np.zeros((2, 2, 3), np.uint8)
    >>> two = Images("two", ("a", "b"), np.array([0, -1], np.int32), ("cat",), read, "of nothing")
    >>> len(two), two.read(1).shape
    (2, (2, 2, 3))
    """

    name: str
    ids: tuple[str, ...]
    labels: Int32[np.ndarray, " N"]
    class_names: tuple[str, ...]
    read: Callable[[int], np.ndarray]
    fingerprint: str
    skipped: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    contents: tuple[bytes, ...] = ()
    unlabelled: tuple[str, ...] = ()

    def __post_init__(self):
        if not self.ids:
            raise ValueError(f"there are no images in {self.name}")
        if not isinstance(self.labels, np.ndarray) or self.labels.dtype != np.int32:
            raise ValueError(
                f"labels of {self.name} must be a NumPy array of int32, got "
                f"{getattr(self.labels, 'dtype', type(self.labels))}"
            )
        if len(self.labels) != len(self.ids):
            raise ValueError(
                f"every image of {self.name} needs one label, -1 where it has none: "
                f"{len(self.ids)} ids, {len(self.labels)} labels"
            )
        if len(set(self.ids)) < len(self.ids):
            seen: set[str] = set()
            twice = [name for name in self.ids if name in seen or seen.add(name)]
            raise ValueError(
                f"ids must be distinct, but some are repeated in {self.name}: "
                f"{first_few(twice)}; rename one of each"
            )
        wrong = np.flatnonzero((self.labels < -1) | (self.labels >= len(self.class_names)))
        if wrong.size:
            from_one = self.labels.max() == len(self.class_names) and 0 not in self.labels
            raise ValueError(
                f"labels of {self.name} must lie between -1 and {len(self.class_names) - 1}, its "
                f"last class, but {self.labels[wrong[0]]} does not; "
                + ("are they counted from 1? Then subtract 1; " if from_one else "")
                + f"look at rows {first_few(wrong)}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """The names of the classes without images."""
        used = set(self.labels.tolist())
        return tuple(name for label, name in enumerate(self.class_names) if label not in used)


def select(images: Images, rows: Sequence[int] | Integer[Array | np.ndarray, " b"]) -> Images:
    """The images of some rows, in that order: say, a pool drawn from a larger set. Nothing is read.

    The fingerprint is made from that of the whole set and from the chosen ids.

    Raises: ValueError for rows that do not exist or are repeated.

    >>> def read(row):
    ...     return np.full((1, 1, 3), row, np.uint8)
    >>> three = Images("three", tuple("abc"), np.zeros(3, np.int32), ("cat",), read, "of nothing")
    >>> last = select(three, [2, 0])
    >>> last.ids, int(last.read(0)[0, 0, 0])
    (('c', 'a'), 2)
    """
    chosen = check.indices("rows", rows, size=len(images))
    ids, labels = tuple(images.ids[row] for row in chosen), images.labels[chosen]
    mark = fingerprint(ids, labels, images.class_names, [images.fingerprint.encode()])
    return Images(
        images.name,
        ids,
        labels,
        images.class_names,
        partial(_read_chosen, images.read, chosen),
        mark,
        images.skipped,
        images.ignored,
        tuple(images.contents[row] for row in chosen) if images.contents else (),
        images.unlabelled,
    )


def relabel(images: Images, labels: Mapping[str, str]) -> Images:
    """The images with other labels: the names of their classes by id, -1 for those that have none.
    Classes are in the order of their names. Nothing is read.

    >>> def read(row):
    ...     return np.full((1, 1, 3), row, np.uint8)
    >>> three = Images("three", tuple("abc"), np.zeros(3, np.int32), ("x",), read, "of nothing")
    >>> pets = relabel(three, dict(a="dog", c="cat"))
    >>> pets.labels.tolist(), pets.class_names
    ([1, -1, 0], ('cat', 'dog'))
    """
    names = tuple(sorted(set(labels.values())))
    numbers = {name: number for number, name in enumerate(names)}
    found = [numbers[labels[file]] if file in labels else -1 for file in images.ids]
    answers = np.array(found, np.int32)
    mark = fingerprint(images.ids, answers, names, [images.fingerprint.encode()])
    return replace(images, labels=answers, class_names=names, fingerprint=mark)


def fingerprint(
    ids: Sequence[str], labels: np.ndarray, class_names: Sequence[str], contents: Iterable[bytes]
) -> str:
    """A hash of ids, labels, class names and the `contents` of the images: the first 16 hex digits
    of SHA-256.

    contents: some bytes for each image, usually its digest.
    """
    digest = hashlib.sha256(json.dumps([list(ids), list(class_names)]).encode())
    digest.update(np.asarray(labels, "<i4").tobytes())
    for piece in contents:
        # The length tells where one piece ends and the next begins.
        digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:16]


def _read_chosen(read: Callable[[int], np.ndarray], chosen: np.ndarray, row: int) -> np.ndarray:
    return read(int(chosen[row]))
