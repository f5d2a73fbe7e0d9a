"""From the bytes of an image file to its pixels, with Pillow."""

import io

import numpy as np
from jaxtyping import UInt8

from balal.extras import Extra

# The formats of photographs and web pages. Others are left out: some of Pillow's readers start
# programs, and most are hardly ever tested.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
# Pillow's own limit, above which it warns: 256 MiB of RGB. A file of a few kilobytes can claim a
# thousand times that.
MOST_PIXELS = 89_478_485


def decode(data: bytes, *, quick: bool = False) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of an image file as a person sees them: uint8 [h, w, 3], RGB.

    The image is turned upright by its EXIF orientation; of several frames the first is read. Grey
    and palette images become RGB, transparent parts white; CMYK is converted without its colour
    profile, and no colour profile is applied. Of 16 bits the upper 8 are kept.

    Args:
      data: AVIF (where Pillow has it), BMP, GIF, JPEG, JPEG 2000, PNG, PPM, TIFF or WebP.
      quick: only check that it can be decoded: JPEG images come eight times smaller each way, in a
        fraction of the time, though the data is still read to its end.

    Raises: ValueError, one sentence, for data that is empty, not an image, cut off, of more than
      89,478,485 pixels, or of a pixel type without an agreed range (32-bit and floating-point).
      Damage inside a JPEG file may be repaired silently by libjpeg.

    >>> decode(b"P6 2 1 255 abcdef").tolist()
    [[[97, 98, 99], [100, 101, 102]]]
    """
    with Extra("photos"):
        from PIL import Image, UnidentifiedImageError

    if not data:
        raise ValueError("it is empty")
    Image.init()
    try:
        image = Image.open(
            io.BytesIO(data), formats=[name for name in FORMATS if name in Image.OPEN]
        )
    except UnidentifiedImageError:
        raise ValueError("it is not an image in a supported format") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"it claims more than {MOST_PIXELS} pixels; make it smaller") from error
    except Exception as error:
        raise _undecodable(error) from error
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"it claims {image.width} x {image.height} pixels, more than {MOST_PIXELS} in all; "
            f"make it smaller"
        )
    # Older versions of Pillow give 16-bit PNG and PPM files this mode.
    if image.mode == "F" or (image.mode == "I" and image.format not in ("PNG", "PPM")):
        raise ValueError(
            f"its pixels are {'32-bit integers' if image.mode == 'I' else 'floating-point'}, "
            f"whose range is unknown; save it with 8 bits a channel"
        )
    try:
        if quick:
            image.draft(None, (1, 1))
        image.load()
        return _pixels(image)
    except Exception as error:
        raise _undecodable(error) from error


def _undecodable(error: Exception) -> ValueError:
    """One error for whatever broken files make Pillow's readers raise: struct.error, SyntaxError,
    KeyError, zlib.error, OSError, ..."""
    return ValueError(f"it cannot be decoded: {str(error) or type(error).__name__}")


def _pixels(image) -> np.ndarray:
    """uint8 [h, w, 3] of a loaded Pillow image."""
    from PIL import Image

    _turn_upright(image)
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 instead of scaling.
        return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        seen = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
    return np.array(image.convert("RGB"))


def _turn_upright(image) -> None:
    from PIL import ImageOps

    try:
        ImageOps.exif_transpose(image, in_place=True)
    except Exception:
        # An unreadable EXIF block is as good as none: the pixels are intact.
        return
