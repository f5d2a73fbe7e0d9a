"""Images stored in a NumPy file as one array."""

import hashlib
import math
import os
from functools import partial
from pathlib import Path

import numpy as np

from balal import array_file
from balal.data.images import Images, fingerprint
from balal.wording import printable

_KIND = "an .npy or .npz file of images"
_SHOWN = 20
# Every class has a name in memory, and one number in a file can claim any number of classes.
_MOST_CLASSES = 1_000_000
_IDS = "ids"
_CLASS_NAMES = "class_names"


def arrays(
    path: str | os.PathLike[str],
    *,
    images: str | None = None,
    labels: str | None = None,
    largest: int = 16 * 2**30,
) -> Images:
    """The images of an `.npz` or `.npy` file: uint8 [N, h, w, 3], or grey, [N, h, w] or [N, h, w,
    1].

    An `.npz` may also hold `ids` (strings or whole numbers, one an image) and `class_names`
    (strings, one a class). Without them an id is the row number, a class name the class id. An
    `.npy` is mapped, not loaded: it may be larger than the memory.

    Args:
      path: the file.
      images: the entry of an `.npz` that holds the images; None: `images`, or the only one with
        three or four dimensions.
      labels: the entry with whole numbers [N], -1 = unlabelled; None: `labels`, and no labels where
        there is no such entry. Of an `.npy`: the `.npy` file with the labels.
      largest: the most bytes that the entries of an `.npz` may claim to unpack to, all together; a
        small file can claim any size.

    The fingerprint covers ids, labels, class names and all pixels, which are read once for it.

    Raises: FileNotFoundError; ValueError for a file that is damaged, too large, or holds objects
    or no images, with what was found in it.

    >>> import tempfile
    >>> content = dict(images=np.zeros((3, 8, 8), np.uint8), labels=np.array([1, 0, 1]))
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     np.savez(Path(parent) / "digits.npz", **content)
    ...     digits = arrays(Path(parent) / "digits.npz")
    >>> digits.ids, digits.labels.tolist(), digits.read(2).shape
    (('0', '1', '2'), [1, 0, 1], (8, 8, 3))
    """
    path = Path(path).expanduser()
    found = array_file.headers(path, kind=_KIND)
    shapes = {name: shape for name, (shape, _) in found.items()}
    if "" in shapes:
        pixels = array_file.read(path, kind=_KIND)[""]
        rest = {"labels": _npy(Path(labels).expanduser())} if labels else {}
    else:
        claimed = sum(math.prod(shape) * dtype.itemsize for shape, dtype in found.values())
        if claimed > largest:
            raise ValueError(
                f"{path} claims {claimed} bytes, more than {largest}; if that is right, save the "
                f"images as an .npy file, or in Python pass a larger largest="
            )
        pixels, rest = _unpacked(path, shapes, images, labels)
    pixels = _checked(path, pixels)
    ids = _texts(path, _IDS, rest.get(_IDS, np.arange(len(pixels))), len(pixels))
    answers = _labels(path, rest.get("labels"), len(pixels))
    classes = max(int(answers.max(initial=-1)) + 1, 0)
    names = _texts(path, _CLASS_NAMES, rest.get(_CLASS_NAMES, np.arange(classes)), None)

    digests = tuple(
        hashlib.sha256(image.tobytes()).digest() + str(image.shape).encode() for image in pixels
    )
    return Images(
        path.stem,
        ids,
        answers,
        names,
        partial(_read, pixels),
        "contents-" + fingerprint(ids, answers, names, digests),
        contents=digests,
    )


def _npy(path: Path) -> np.ndarray:
    arrays = array_file.read(path, kind=_KIND)
    if "" not in arrays:
        raise ValueError(f"{path} must be an .npy file, as that of the images is")
    return arrays[""]


def _unpacked(
    path: Path, shapes: dict[str, tuple[int, ...]], images: str | None, labels: str | None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The images of an .npz file, and its labels, ids and class names as far as it has them."""
    listed = ", ".join(
        f"{printable(name)} {shape}" for name, shape in list(shapes.items())[:_SHOWN]
    )
    if images is None:
        several = [name for name, shape in shapes.items() if len(shape) in (3, 4)]
        images = "images" if "images" in shapes else several[0] if len(several) == 1 else None
        if images is None:
            raise ValueError(
                f"{path} does not say which of its arrays holds the images: {listed}; save it "
                f"under the name images, or in Python name it with images="
            )
    for name in (images, labels):
        if name is not None and name not in shapes:
            raise ValueError(f"{path} has no array {name!r}; it has {listed}")
    wanted = {"labels": labels or "labels", _IDS: _IDS, _CLASS_NAMES: _CLASS_NAMES}
    found = array_file.read(path, kind=_KIND, names=[images, *wanted.values()])
    return found[images], {role: found[name] for role, name in wanted.items() if name in found}


def _checked(path: Path, pixels: np.ndarray) -> np.ndarray:
    """The images as [N, h, w, 3] or [N, h, w, 1], a view; ValueError where they are not images."""
    shape = pixels.shape
    if pixels.ndim == 3 and shape[2] not in (1, 3, 4):
        pixels = pixels[:, :, :, None]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        ways = {
            1: "channels first: transpose them to the end",
            3: "channels first: transpose them to the end",
        }
        advice = (
            ways.get(shape[1], "remove a fourth, transparent channel")
            if len(shape) == 4
            else "a single image is [1, h, w, 3]"
        )
        raise ValueError(
            f"images must be [N, h, w, 3], [N, h, w, 1] or [N, h, w], got {shape} in {path}; "
            f"{advice}"
        )
    if 0 in pixels.shape:
        raise ValueError(f"there are no images in {path}: the shape is {shape}")
    if pixels.dtype != np.uint8:
        advice = (
            "round values between 0 and 1 after multiplying by 255"
            if pixels.dtype.kind == "f"
            else "scale them to 0 to 255"
        )
        raise ValueError(
            f"images must be uint8, 0 to 255, got {pixels.dtype} in {path}: {advice}, and save "
            f"them as uint8"
        )
    return pixels


def _labels(path: Path, found: np.ndarray | None, size: int) -> np.ndarray:
    if found is None:
        return np.full(size, -1, np.int32)
    if found.shape == (size, 1):
        found = found[:, 0]
    if found.shape != (size,) or found.dtype.kind not in "iu":
        raise ValueError(
            f"labels of {path} must be one whole number an image, [{size}], got {found.dtype} "
            f"{found.shape}"
        )
    if found.min() < -1 or found.max() >= _MOST_CLASSES:
        raise ValueError(
            f"labels of {path} must be class ids from 0, or -1 for none, got {found.min()} to "
            f"{found.max()}; number the classes 0, 1, 2, ..., at most {_MOST_CLASSES}"
        )
    return found.astype(np.int32)


def _texts(path: Path, name: str, found: np.ndarray, size: int | None) -> tuple[str, ...]:
    if found.ndim != 1 or found.dtype.kind not in "USiu" or size not in (None, len(found)):
        raise ValueError(
            f"{name} of {path} must be strings or whole numbers, [{size or 'C'}], got "
            f"{found.dtype} {found.shape}"
        )
    if size is None and len(found) > _MOST_CLASSES:
        raise ValueError(f"{path} has {len(found)} class names, more than {_MOST_CLASSES}")
    try:
        return tuple(
            value.decode() if isinstance(value, bytes) else str(value) for value in found.tolist()
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} of {path} must be UTF-8: {error}") from error


def _read(pixels: np.ndarray, row: int) -> np.ndarray:
    image = pixels[row]
    return np.array(image) if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)
