"""Images that Pillow has loaded as the pixels that a person sees, whatever their depth."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

# 16 bits whose upper two are never used, dark as night, come from a camera of fewer bits.
_DARKEST = 2**14
# Pixels that are converted at a time.
_BLOCK = 2**20
_TAGS = {
    "BitsPerSample": 258,
    "PhotometricInterpretation": 262,
    "MaxSampleValue": 281,
    "PlanarConfiguration": 284,
    "TileWidth": 322,
    "TileLength": 323,
    "SampleFormat": 339,
    "SMaxSampleValue": 341,
}


def rgb(image: Any, rawmode: str) -> UInt8[np.ndarray, "h w 3"]:
    """uint8 [h, w, 3] of a loaded Pillow image: white where it is transparent, and of more than 8
    bits the upper 8.

    Args:
      image: loaded, of a depth that `check_depth` accepts.
      rawmode: from `rawmode`.
    """
    if image.mode.startswith("I"):
        return _grey(image)
    if rawmode in ("L;2", "L;4") and isinstance(image.info.get("transparency"), int):
        # Pillow has scaled the pixels to 8 bits, but not the one value that is transparent.
        image.info["transparency"] *= {"L;2": 85, "L;4": 17}[rawmode]
    return _colours(image)


def rawmode(image: Any) -> str:
    """How a PNG, TIFF or PPM file stores its pixels, in Pillow's words: "L;4", "RGB;16B". To be
    asked for before the image is loaded, after which Pillow has forgotten it."""
    if image.format not in ("PNG", "TIFF", "PPM") or not image.tile:
        return ""
    arguments = image.tile[0][3]
    arguments = arguments if isinstance(arguments, tuple) and arguments else (arguments,)
    # A PPM file has the largest value beside it, to which Pillow scales the others.
    return f"{image.mode};16" if 2**16 - 1 in arguments else str(arguments[0])


def tag(image: Any, name: str, default: int) -> int:
    """The first number of a tag of a TIFF file; the default where it has none, or a damaged one."""
    try:
        value = image.tag_v2[_TAGS[name]]
    except Exception:
        return default
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else default


def check_depth(image: Any, rawmode: str) -> None:
    """Raises a ValueError for 16 bits that hold fewer without saying so, which would be seen nearly
    black, and where too little is left of 16."""
    if image.mode.startswith("I"):
        highest = int(np.asarray(image).max())
        if _bits(image, highest) == 16 and highest < _DARKEST:
            raise _dark(highest)
        return
    if ";16" not in rawmode:
        return
    bands = zip(image.getbands(), image.getextrema(), strict=True)
    highest = max(high for band, (_, high) in bands if band != "A")
    if highest < _DARKEST >> 8:
        raise _dark(highest << 8)
    if image.format == "PNG" and "transparency" in image.info:
        raise ValueError("its transparent colour has 16 bits a channel; save it with 8")


def _grey(image: Any) -> np.ndarray:
    """Of 9 to 16 bits: Pillow's own conversion clips at 255 instead of scaling."""
    values = np.asarray(image)
    bits = _bits(image, int(values.max()))
    if tag(image, "PhotometricInterpretation", 1) == 0:
        values = 2**bits - 1 - values
    grey = (values >> bits - 8).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return np.repeat(grey[:, :, None], 3, axis=2)


def _colours(image: Any) -> np.ndarray:
    """A block of rows at a time, since each conversion copies."""
    from PIL import Image

    pixels = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _BLOCK // image.width)
    for top in range(0, image.height, rows):
        block = image.crop((0, top, image.width, min(top + rows, image.height)))
        if image.has_transparency_data:
            seen = block.convert("RGBA")
            block = Image.alpha_composite(Image.new("RGBA", seen.size, "white"), seen)
        pixels[top : top + rows] = np.asarray(block.convert("RGB"))
    return pixels


def _bits(image: Any, highest: int) -> int:
    """How many bits of 16 a TIFF file says that its pixels use, unless the highest of them shows
    that this is not so; 16 for other files."""
    # Other numbers than all ones are the largest of the image, not of the camera.
    most = [tag(image, name, 0) for name in ("SMaxSampleValue", "MaxSampleValue")]
    said = [
        tag(image, "BitsPerSample", 16),
        *(bits for bits in range(9, 16) if 2**bits - 1 in most),
    ]
    return next((bits for bits in said if 8 < bits < 16 and highest < 2**bits), 16)


def _dark(highest: int) -> ValueError:
    return ValueError(
        f"its 16-bit pixels are nearly black, at most about {highest} of 65535, as where a camera "
        f"of 12 or 14 bits wrote them: scale them to 65535, or save it with 8 bits a channel"
    )
