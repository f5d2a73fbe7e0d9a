"""From an image of any size to the input of a source model, in floating-point numbers
throughout."""

import numpy as np
from jaxtyping import Float, UInt8

from balal.extras import Extra
from balal.models.sources import Source

# Of a very long image, only so many image sizes around its middle are resized: an odd number, so
# that this part has the same middle as the whole.
_LONGEST = 9


def prepare(image: UInt8[np.ndarray, "h w 3"], source: Source) -> Float[np.ndarray, "s s 3"]:
    """The middle of an image at the size of a source model: float32 grey levels [s, s, 3] with
    `s = source.image_size`, for `Source.apply`.

    The shorter side is resized to `image_size / crop` pixels, with half-pixel centres and averaging
    where the image shrinks, unless it has that size already; then the middle is cut out. Grey
    levels are not rounded back to whole numbers: rounding changes the features (mean cosine 0.99 on
    CIFAR images enlarged to 224 pixels).

    Args:
      image: uint8 [h, w, 3].
      source: whose `image_size`, `crop` and `interpolation` are used.

    >>> from balal.models.sources import SOURCES
    >>> prepare(np.full((300, 400, 3), 7, np.uint8), SOURCES["resnet18"]).shape
    (224, 224, 3)
    """
    with Extra("models"):
        from PIL import Image

    height, width = image.shape[:2]
    shorter = round(source.image_size / source.crop)
    scale = shorter / min(height, width)
    if scale != 1:
        extent = np.array([width, height])
        shape = np.maximum(np.round(extent * scale).astype(int), shorter)
        # All of a photograph, but only the middle of an image far longer than wide: resizing all of
        # 1 x 6000 pixels would take 14 GB.
        kept = np.minimum(shape, _LONGEST * source.image_size)
        first = (shape - kept) // 2
        box = (np.stack([first, first + kept]) * extent / shape).ravel().tolist()
        method = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[
            source.interpolation
        ]
        # A channel at a time, as Pillow's floating-point images have only one.
        channels = [
            Image.fromarray(image[:, :, channel].astype(np.float32)).resize(
                kept.tolist(), method, box
            )
            for channel in range(3)
        ]
        image = np.stack([np.asarray(channel) for channel in channels], axis=2)
    top, left = ((length - source.image_size) // 2 for length in image.shape[:2])
    return image[top : top + source.image_size, left : left + source.image_size].astype(np.float32)
