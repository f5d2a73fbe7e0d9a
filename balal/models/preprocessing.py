"""From a picture of any size to what a source model sees, in floating-point numbers throughout."""

import numpy as np
from jaxtyping import Float, UInt8

from balal import host
from balal.models.sources import Source

# Sides of what is cut out, along the resized picture: an odd number, so that the middle of the
# middle is that of the whole.
_LONGEST = 9


def prepare(image: UInt8[np.ndarray, "h w 3"], source: Source) -> Float[np.ndarray, "s s 3"]:
    """The middle of an image at the size of a source model: float32 grey levels [s, s, 3] with
    `s = source.image_size`, for `Source.apply`.

    The shorter side is resized to `image_size / crop` pixels, half-pixel centres, averaging where
    the image shrinks, and not at all where it has that size; then the middle is cut out. Grey
    levels are not rounded back to whole numbers: features of rounded ones are others (mean cosine
    0.99 on CIFAR images enlarged to 224 pixels).

    Args:
      image: uint8 [h, w, 3].
      source: whose `image_size`, `crop` and `interpolation` are used.

    >>> from balal.models.sources import SOURCES
    >>> prepare(np.full((300, 400, 3), 7, np.uint8), SOURCES["resnet18"]).shape
    (224, 224, 3)
    """
    with host.Extra("models"):
        from PIL import Image

    height, width = image.shape[:2]
    shorter = round(source.image_size / source.crop)
    scale = shorter / min(height, width)
    if scale != 1:
        extent = np.array([width, height])
        shape = np.maximum(np.round(extent * scale).astype(int), shorter)
        # All of a photograph, and the middle of what is far longer than wide: the whole of 1 x 6000
        # pixels would take 14 GB.
        kept = np.minimum(shape, _LONGEST * source.image_size)
        first = (shape - kept) // 2
        box = (np.stack([first, first + kept]) * extent / shape).ravel().tolist()
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[
            source.interpolation
        ]
        # A channel at a time: that is how Pillow keeps floating-point numbers.
        channels = [
            Image.fromarray(image[:, :, channel].astype(np.float32)).resize(
                kept.tolist(), method, box
            )
            for channel in range(3)
        ]
        image = np.stack([np.asarray(channel) for channel in channels], axis=2)
    top, left = ((length - source.image_size) // 2 for length in image.shape[:2])
    return image[top : top + source.image_size, left : left + source.image_size].astype(np.float32)
