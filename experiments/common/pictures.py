"""The flags of the programs that begin with images, and what they stand for: sets of images, a source model, feature caches."""

from pathlib import Path

import jax
import numpy as np
from absl import flags

import balal
from balal import data
from balal.data.cache import Cache
from experiments.common import extraction

PROFILES = ("cifar100", "food101", "mit67", "imagenet100")

DATASET = flags.DEFINE_enum(
    "dataset", "folder", ["folder", "arrays", *PROFILES], "What is at --data_dir: images, an array file, or a data set of the paper."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Their folder or file; of cifar100 and food101 the data directory of TensorFlow Datasets.")
_SOURCE = flags.DEFINE_string("source", "efficientnet_lite0", "The source model that sees the images.")
_WEIGHTS = flags.DEFINE_string("weights", None, "Its weights, .safetensors or .pth. Default: those of an installed package.")
_CROP = flags.DEFINE_float(
    "crop", None, "Share of the shorter side that the source model sees. Default: as it was trained, or all of CIFAR."
)
_CACHE = flags.DEFINE_string("cache", "results/features", "Folder for computed features; a set of images is seen once by each model.")
_SKIP = flags.DEFINE_bool("skip_damaged", False, "Leave out damaged files, and say which, instead of stopping.")
_BATCH = flags.DEFINE_integer("batch", 32, "Images on each device at a time.", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "Of the stored features.")


def pool(*, key: jax.Array | None = None, labelled: bool | None = None) -> data.Images:
    """The images to choose from: all of a folder or file, the pool of a data set of the paper.

    Args:
      key: draws the images that make a data set of the paper as unbalanced as there; None: all its images.
      labelled: whether a folder's directories are classes; None: as it looks.
    """
    name, place = _place()
    if name == "folder":
        return data.folder(place, labelled=labelled, skip_damaged=_SKIP.value)
    if name == "arrays":
        return data.arrays(place)
    known = data.profile(name)
    images = data.load(known, place, part="pool", skip_damaged=_SKIP.value)
    if key is None or name == "mit67":  # which is as unbalanced as it comes
        return images
    return data.select(images, np.asarray(balal.imbalance.subsample(key, images.labels, np.array(known.counts))))


def test() -> data.Images | None:
    """The balanced test images of a data set of the paper; of others None: a part of theirs has to be held out."""
    name, place = _place()
    return data.load(data.profile(name), place, part="test", skip_damaged=_SKIP.value) if name in PROFILES else None


def held_out(key: jax.Array, images: data.Images, *, share: float) -> tuple[data.Images, data.Images]:
    """Pool and test set, with that share of every class in the test set, rounded, and at least one image of each in the pool."""
    order = np.asarray(jax.random.permutation(key, len(images)))
    aside = []
    for label in range(len(images.class_names)):
        rows = order[images.labels[order] == label]
        aside.extend(rows[: min(round(share * len(rows)), max(len(rows) - 1, 0))].tolist())
    kept = sorted(set(range(len(images))) - set(aside))
    return data.select(images, kept), data.select(images, sorted(aside))


def features(images: data.Images, *, folder: Path | None = None) -> tuple[Path, Cache]:
    """What the source model makes of images, and the folder where it is kept: made first where it has not seen them yet."""
    whole = DATASET.value in PROFILES and data.profile(DATASET.value).crop == "whole"
    source, weights = extraction.source(_SOURCE.value, _WEIGHTS.value, crop=1.0 if _CROP.value is None and whole else _CROP.value)
    made_from = extraction.manifest(source, _SOURCE.value, weights, images)
    if folder is None:
        folder = Path(_CACHE.value) / extraction.folder_name(made_from, _DTYPE.value)
    return folder, extraction.extract(source, weights, images, folder, made_from, batch=_BATCH.value, dtype=_DTYPE.value)


def tell_skipped(images: data.Images) -> None:
    """Prints what was left out, where something was."""
    if images.skipped:
        print(f"\nLeft out as damaged or no image, {len(images.skipped)} files: {', '.join(images.skipped)}.")


def scores(cache: Cache) -> balal.Scores:
    """The source model's scores in a cache."""
    return balal.Scores(*(np.asarray(cache.columns[score]) for score in extraction.SCORES))


def _place() -> tuple[str, Path]:
    if DATA_DIR.value is None:
        raise ValueError("--data_dir is missing: the folder or file with the images")
    return DATASET.value, Path(DATA_DIR.value).expanduser()
