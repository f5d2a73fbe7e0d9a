"""CIFAR-100 as its official archives hold it: the binary version, and the Python version, whose
pickles are read as data (`balal.pickles`).

Source: Krizhevsky, Learning multiple layers of features from tiny images, 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes both versions.
"""

import hashlib
import io
import math
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from balal import pickles
from balal.data.images import Images, fingerprint
from balal.pickles import of, quoted
from balal.wording import first_few

_SIDE, _CHANNELS = 32, 3
_PIXELS = _CHANNELS * _SIDE * _SIDE
# A record of the binary version is a coarse label, a fine one, and the pixels.
_RECORD = 2 + _PIXELS
# The larger file has 155 MB.
_LARGEST_PICKLE = 2**30


def binary(root: Path, split: Literal["train", "test"]) -> Images:
    """A split of the binary version: `train.bin` or `test.bin`, and `fine_label_names.txt`.

    Pixels are mapped, not loaded. Ids are `<split>/<row>`, the same as of the Python version.

    Raises: ValueError for a file that is missing or not of this layout.
    """
    path = root / f"{split}.bin"
    size = _size(path)
    if not size or size % _RECORD:
        raise ValueError(
            f"{path} must hold records of {_RECORD} bytes, but has {size} bytes: unpack the "
            f"archive again"
        )
    records = np.memmap(path, np.uint8, "r").reshape(-1, _RECORD)
    names = root / "fine_label_names.txt"
    _size(names)
    try:
        classes = tuple(names.read_text(encoding="utf-8").split())
    except UnicodeDecodeError as error:
        raise ValueError(f"{names} is not UTF-8 text: unpack the archive again") from error
    return _images(path, split, records[:, 2:], records[:, 1], classes)


def python(root: Path, split: Literal["train", "test"]) -> Images:
    """A split of the Python version: the pickles `train` or `test`, and `meta`.

    Raises: ValueError for a file that is missing, damaged, or holds anything that this layout does
      not need.
    """
    path = root / split
    found, meta = _unpickled(path), _unpickled(root / "meta")
    data, labels = found.get("data"), found.get("fine_labels")
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise ValueError(
            f"{path} must hold data and fine_labels, as the Python version of CIFAR-100 does, and "
            f"holds {first_few(list(found)) or 'nothing'}"
        )
    if data.shape != (len(labels), _PIXELS) or len(data.content) != math.prod(data.shape):
        raise ValueError(
            f"{path} must have {_PIXELS} bytes for each of its {len(labels)} labels, but its data "
            f"are {data.shape} with {len(data.content)} bytes"
        )
    pixels = np.frombuffer(data.content, np.uint8).reshape(data.shape)
    if any(type(label) is not int or not 0 <= label < 256 for label in labels):
        raise ValueError(f"{path} has fine_labels that are no class ids: unpack the archive again")
    classes = meta.get("fine_label_names")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError(f"{root / 'meta'} must hold fine_label_names: unpack the archive again")
    return _images(path, split, pixels, np.array(labels), tuple(classes))


def _size(path: Path) -> int:
    if not path.is_file():
        raise ValueError(f"there is no file {path}: unpack the whole archive")
    return path.stat().st_size


def _images(
    path: Path, split: str, pixels: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]
) -> Images:
    if labels.max() >= len(classes):
        raise ValueError(
            f"{path} has a class {labels.max()}, but there are only {len(classes)} names of "
            f"classes beside it: unpack the archive again"
        )
    ids = tuple(f"{split}/{row}" for row in range(len(labels)))
    digests = tuple(hashlib.sha256(image.tobytes()).digest() for image in pixels)
    return Images(
        f"cifar100 {split}",
        ids,
        labels.astype(np.int32),
        classes,
        partial(_read, pixels),
        "contents-" + fingerprint(ids, labels, classes, digests),
        contents=digests,
    )


def _read(pixels: np.ndarray, row: int) -> np.ndarray:
    return np.array(pixels[row].reshape(_CHANNELS, _SIDE, _SIDE).transpose(1, 2, 0), order="C")


class _Array:
    """A NumPy array of bytes, as a pickle describes it."""

    shape: tuple[int, ...] = ()
    content = b""


_MOST_AXES = 4
_MAKE_ARRAY, _ARRAY, _DTYPE = "make array", "array", "dtype"
_NAMES = {
    "numpy.core.multiarray._reconstruct": _MAKE_ARRAY,
    "numpy._core.multiarray._reconstruct": _MAKE_ARRAY,
    "numpy.ndarray": _ARRAY,
    "numpy.dtype": _DTYPE,
}


def _unpickled(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2: of text, whole numbers, lists, and `_Array`."""
    if _size(path) > _LARGEST_PICKLE:
        raise ValueError(f"{path} is larger than any file of CIFAR-100: unpack the archive again")
    try:
        stream = io.BytesIO(path.read_bytes())
        return of(
            dict, pickles.load(stream, named=_named, called=_called, built=_built), "a dictionary"
        )
    except ValueError as error:
        raise ValueError(
            f"{path} is not a pickle of the Python version of CIFAR-100, or damaged ({error}): "
            f"unpack the archive again, or take the binary version"
        ) from error


def _named(name: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"it names {quoted(name)}, which is not looked up")
    return _NAMES[name]


def _called(function: Any, arguments: tuple[Any, ...]) -> Any:
    if function == _MAKE_ARRAY:
        return _Array()
    if function == _DTYPE and arguments[:1] in (("u1",), ("uint8",), ("|u1",)):
        return _DTYPE
    raise ValueError("it holds something else than bytes")


def _built(target: Any, state: Any) -> None:
    if not isinstance(target, _Array):
        if target != _DTYPE:
            raise ValueError("it changes something else than an array")
        return
    match state:
        case (_, tuple(shape), "dtype", False, str(content)) if len(shape) <= _MOST_AXES:
            target.shape = tuple(of(int, size, "a whole number") for size in shape)
            # Text of Python 2 is bytes, which are decoded so that this gives them back.
            target.content = content.encode("latin-1")
        case _:
            raise ValueError("its array is not of bytes in rows")
