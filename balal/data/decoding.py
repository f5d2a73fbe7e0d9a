"""From the bytes of an image file to its pixels, with Pillow."""

import io
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import UInt8

from balal.data import pixels, png_chunks, room
from balal.extras import Extra
from balal.wording import printable

# The formats of photographs and web pages. Others are left out: some of Pillow's readers start
# programs, and most are hardly ever tested.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
_BEGINNINGS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*", b"BM", b"\xff\x4f\xff\x51")
# Pillow's own limit, above which it warns: 256 MiB of RGB. A file of a few kilobytes can claim a
# thousand times that.
MOST_PIXELS = 89_478_485
# A progressive JPEG has about ten scans, each of which visits every pixel. A hostile one has
# thousands, of ten bytes each.
_MOST_SCANS = 100


def decode(data: bytes, *, quick: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file as a person sees them: uint8 [h, w, 3], RGB.

    The image is turned upright by its EXIF orientation; of several frames the first is read. Grey
    and palette images become RGB, transparent parts white; CMYK is converted without its colour
    profile, and no colour profile is applied. Of 16 bits the upper 8 are kept; of grey TIFF images
    that say they have 9 to 15 bits (BitsPerSample, SMaxSampleValue, MaxSampleValue), the upper 8 of
    these. What only describes the pixels, such as texts and profiles, may be damaged.

    Threads share the memory: those with large images wait for one another, so that all images being
    decoded at a time take a quarter of the machine's memory, or are only one. What they have become
    takes 3 bytes a pixel, as long as the caller keeps it.

    Args:
      data: AVIF (where Pillow has it), BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP.
      quick: only check that it can be decoded: JPEG images come eight times smaller each way, in a
        fraction of the time, though the data is still read to its end.

    Raises: ValueError, one sentence, for data that is empty, not an image, cut off, of more than
      89,478,485 pixels, of a pixel type without an agreed range (with a sign, 32-bit and
      floating-point), or of 16 bits that are all below 16384, as cameras of 12 bits leave them.
      Damage inside a JPEG file may be repaired silently by libjpeg.

    >>> decode(b"P6 2 1 255 abcdef").tolist()
    [[[97, 98, 99], [100, 101, 102]]]
    """
    if not data:
        raise ValueError("it is empty")
    with _without_warnings():
        try:
            return _decode(data, quick)
        except ValueError:
            bare = png_chunks.needed(data) if data.startswith(png_chunks.SIGNATURE) else data
            if len(bare) == len(data):
                raise
        return _decode(bare, quick)


def _decode(data: bytes, quick: bool) -> np.ndarray:
    image = _open(data)
    with _undecodable():
        if quick:
            image.draft(None, (1, 1))
    # Before loading, after which Pillow has forgotten it.
    rawmode = pixels.rawmode(image)
    _check_strips(image)
    area = pixels.tag(image, "TileWidth", 0) * pixels.tag(image, "TileLength", 0)
    if area > MOST_PIXELS:
        raise ValueError(f"its tiles have {area} pixels each; save it without tiles")
    with room.of_pixels().taken(max(image.width * image.height, area)):
        with _undecodable():
            image.load()
        _check_complete(image, data)
        _turn_upright(image)
        pixels.check_depth(image, rawmode)
        with _undecodable():
            return pixels.rgb(image, rawmode)


def _open(data: bytes) -> Any:
    """A Pillow image that is not loaded yet, of a size and a kind of pixels that are read."""
    with Extra("photos"):
        from PIL import Image, UnidentifiedImageError

    Image.init()
    try:
        with _undecodable(but=(UnidentifiedImageError, Image.DecompressionBombError)):
            image = Image.open(
                io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]
            )
    except UnidentifiedImageError:
        raise ValueError(
            "it begins like an image, but is cut off, damaged, or has pixels of a kind that is not "
            "read"
            if data.startswith(_BEGINNINGS)
            else "it is not an image in a supported format"
        ) from None
    except Image.DecompressionBombError as error:
        raise ValueError(f"it claims more than {MOST_PIXELS} pixels; make it smaller") from error
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"it claims {image.width} x {image.height} pixels, more than {MOST_PIXELS} in all; "
            f"make it smaller"
        )
    kind = None
    if image.mode == "F":
        kind = "floating-point"
    # Older versions of Pillow give 16-bit PNG and PPM files the mode of 32 bits.
    elif image.mode == "I" and image.format not in ("PNG", "PPM"):
        kind = (
            "32-bit integers" if pixels.tag(image, "BitsPerSample", 32) > 16 else "signed integers"
        )
    elif pixels.tag(image, "SampleFormat", 1) == 2:
        kind = "signed integers"
    if kind:
        raise ValueError(
            f"its pixels are {kind}, whose range is unknown; save it with 8 bits a channel"
        )
    if image.format in ("JPEG", "MPO") and _scans(data) > _MOST_SCANS:
        raise ValueError(f"it has more than {_MOST_SCANS} scans, each over the whole image")
    return image


def _scans(data: bytes) -> int:
    """How many scans a JPEG file has, at least if they are few."""
    scans, place = data.count(b"\xff\xda"), 2
    if scans <= _MOST_SCANS:
        return scans
    # Some of these may lie in other segments or behind the image, such as a film.
    scans = 0
    while marker := re.compile(rb"\xff[^\0\x01\xd0-\xd8\xff]").search(data, place):
        if marker[0] == b"\xff\xd9":
            break
        scans += marker[0] == b"\xff\xda"
        place = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return scans


def _check_strips(image: Any) -> None:
    """Raises a ValueError for an unpacked TIFF file that does not say where all its pixels are:
    Pillow makes the others black, whereas libtiff, which reads packed ones, refuses them."""
    if image.format == "TIFF" and image.tile and image.tile[0][0] == "raw":
        planes = len(image.getbands()) if pixels.tag(image, "PlanarConfiguration", 1) == 2 else 1
        found = sum((right - left) * (low - top) for _, (left, top, right, low), *_ in image.tile)
        if found < image.width * image.height * planes:
            raise ValueError("it is cut off: some of its strips or tiles are missing")


def _check_complete(image: Any, data: bytes) -> None:
    """Raises a ValueError where Pillow has made up pixels that are missing."""
    if image.format == "PNG":
        last = image.crop((0, max(0, image.height - 2), image.width, image.height))
        if not np.asarray(last).reshape(last.height, -1).any(axis=1).all():
            with _undecodable():
                lacks_rows = png_chunks.lacks_rows(data)
            if lacks_rows:
                raise ValueError("it is cut off: its last rows are missing")
    elif image.format == "JPEG2000":
        start = data.rfind(b"\xff\x4f\xff\x51")
        if b"\xff\xd9" not in data[start:]:
            raise ValueError("it is cut off: the end of its data is missing")


def _turn_upright(image: Any) -> None:
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        # An unreadable EXIF block is as good as none: the pixels are intact.
        return


@contextmanager
def _undecodable(*, but: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """One error for whatever broken files make Pillow's readers raise: struct.error, SyntaxError,
    KeyError, zlib.error, OSError, ..."""
    try:
        yield
    except but:
        raise
    except Exception as error:
        said = printable(" ".join(str(error).split())[:200]) or type(error).__name__
        raise ValueError(f"it cannot be decoded: {said}") from error


# Pillow warns of damage that does not touch the pixels, without the name of the file.
_SILENCE = ("ignore", None, Warning, re.compile(r"PIL\b"), 0)
_silent, _lock = [0], threading.Lock()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Pillow warns of nothing while any thread is in such a block. `warnings.catch_warnings` would
    restore what other threads have changed."""
    filters: Any = warnings.filters
    with _lock:
        _silent[0] += 1
        if _SILENCE not in filters:
            filters.insert(0, _SILENCE)
    try:
        yield
    finally:
        filters = warnings.filters
        with _lock:
            _silent[0] -= 1
            if not _silent[0] and _SILENCE in filters:
                filters.remove(_SILENCE)
