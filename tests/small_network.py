"""A source model of two blocks, a file with its weights, and photographs for it to see."""

import json

import jax
import numpy as np
from PIL import Image

from balal.models import sources
from balal.models.mobilenet import MOBILENET_V2, Mobile

SMALL = sources.Source(Mobile(MOBILENET_V2[:2]), image_size=32, padding="same", num_classes=12)


def state_dict(
    source: sources.Source, layout: str = "torchvision", *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random tensors with the names and shapes of a layout, such that activations neither vanish
    nor grow."""
    rng = np.random.default_rng(seed)
    entries, found = sources._state_dict_entries(source, layout), {}
    for path, leaf in jax.tree.leaves_with_path(sources.shapes(source)):
        name, axes = entries[sources._keys(path)]
        shape = tuple(leaf.shape[axis] for axis in np.argsort(axes))
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            values = rng.uniform(0.5, 1.5, shape)
        else:
            values = rng.normal(size=shape) * np.sqrt(1.5 / max(1, np.prod(shape[1:])))
        found[name] = values.astype(np.float32)
    return found


def save(tensors: dict[str, np.ndarray], path) -> None:
    """A safetensors file: the length of a JSON header, the header, and the numbers."""
    header, end = {}, 0
    for name, values in tensors.items():
        header[name] = dict(
            dtype="F32", shape=list(values.shape), data_offsets=[end, end + values.nbytes]
        )
        end += values.nbytes
    text = json.dumps(header).encode()
    path.write_bytes(
        len(text).to_bytes(8, "little")
        + text
        + b"".join(values.astype("<f4").tobytes() for values in tensors.values())
    )


def photographs(folder, number: int, *, classes: int = 1):
    """The folder, with images of noise in mixed sizes, some grey: nested in a directory for each
    class where there are several."""
    rng = np.random.default_rng(0)
    for row in range(number):
        place = folder / f"class{row % classes}" if classes > 1 else folder
        place.mkdir(parents=True, exist_ok=True)
        height, width = rng.integers(20, 60, 2)
        pixels = rng.integers(
            0, 256, (height, width) if row % 5 == 0 else (height, width, 3), np.uint8
        )
        # A tint of its own for each class.
        pixels = (pixels // 2 + 20 * (row % classes)).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{row:03}.png")
    return folder
