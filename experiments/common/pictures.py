"""The flags of the programs that begin with images, and what they stand for: sets of images, a
source model, feature caches."""

from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import data, host
from balal.data.cache import Cache
from experiments.common.datasets import Dataset

PROFILES = ("cifar100", "food101", "mit67", "imagenet100")

DATASET = flags.DEFINE_enum(
    "dataset",
    "folder",
    ["folder", "arrays", *PROFILES],
    "What is at --data_dir: images, an array file, or a data set of the paper.",
)
DATA_DIR = flags.DEFINE_string(
    "data_dir",
    None,
    "Their folder or file; of cifar100 and food101 the data directory of TensorFlow Datasets.",
)
_TEST_DIR = flags.DEFINE_string(
    "test_dir",
    None,
    "Images to test on, of a folder or array file. Default: a share of every class is held out.",
)
_SOURCE = flags.DEFINE_string(
    "source", "efficientnet_lite0", "The source model that sees the images."
)
_WEIGHTS = flags.DEFINE_string(
    "weights", None, "Its weights, .safetensors or .pth. Default: those of an installed package."
)
_CROP = flags.DEFINE_float(
    "crop",
    None,
    "Share of the shorter side that the source model sees. Default: as it was trained, or all of "
    "CIFAR.",
)
_CACHE = flags.DEFINE_string(
    "cache",
    "results/features",
    "Folder for computed features; a set of images is seen once by each model.",
)
_SKIP = flags.DEFINE_bool(
    "skip_damaged", False, "Leave out damaged files, and say which, instead of stopping."
)
_BATCH = flags.DEFINE_integer("batch", 32, "Images on each device at a time.", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "Of the stored features.")


def only(**files: str | None) -> None:
    """Raises ValueError where images are named, and files of features by these other flags as
    well."""
    named = [flag for flag, value in files.items() if value]
    if DATA_DIR.value is not None and named:
        raise ValueError(
            f"--data_dir says that the features are those of images, and --{named[0]} that they "
            f"are in a file: give one of them"
        )


def pool(*, key: jax.Array | None = None, labelled: bool | None = None) -> data.Images:
    """The images to choose from: all of a folder or file, the pool of a data set of the paper.

    Args:
      key: draws the images that make a data set of the paper as unbalanced as there; None: all its
        images.
      labelled: whether a folder's directories are classes; None: as it looks.
    """
    name, place = _place()
    if name not in PROFILES:
        return _read(name, place, labelled=labelled)
    known = data.profile(name)
    images = data.load(known, place, part="pool", skip_damaged=_SKIP.value)
    if key is None or name == "mit67":  # which is as unbalanced as it comes
        return images
    return data.select(
        images, np.asarray(balal.imbalance.subsample(key, images.labels, np.array(known.counts)))
    )


def test(class_names: tuple[str, ...] | None) -> data.Images | None:
    """The balanced test images of a data set of the paper, or those that were named; None: a part
    of the pool has to be held out.

    class_names: of the pool, which the test images that were named must have too; None: any.

    Raises: ValueError where these have others.
    """
    name, place = _place()
    if name in PROFILES:
        if _TEST_DIR.value is not None:
            raise ValueError(f"{name} has test images of its own: leave out --test_dir")
        return data.load(data.profile(name), place, part="test", skip_damaged=_SKIP.value)
    if _TEST_DIR.value is None:
        return None
    images = _read(name, Path(_TEST_DIR.value).expanduser(), labelled=True)
    if class_names is not None and images.class_names != class_names:
        differ = sorted(set(images.class_names) ^ set(class_names))
        told = (
            f"these are in one of them only: {host.first_few(differ)}"
            if differ
            else "they come in another order"
        )
        raise ValueError(f"--test_dir must have the classes of --data_dir, but {told}")
    return images


def features(images: data.Images, *, folder: Path | None = None) -> tuple[Path, Cache]:
    """What the source model makes of images, and the folder where it is kept: made first where it
    has not seen them yet."""
    extraction, (source, weights) = _extraction(), _source()
    made_from = extraction.manifest(source, _SOURCE.value, weights, images)
    if folder is None:
        folder = Path(_CACHE.value) / extraction.folder_name(made_from, _DTYPE.value)
    return folder, extraction.extract(
        source, weights, images, folder, made_from, batch=_BATCH.value, dtype=_DTYPE.value
    )


def dataset(*, seed: int, test_share: float) -> Dataset:
    """The images as a labelled pool and a test set of features.

    A data set of the paper is as unbalanced as there and has its own test set; of other images that
    share of every class is held out.

    Raises: ValueError where images have no labels, or none is left for one of the two.
    """
    key = jax.random.key(seed)
    images = pool(key=key, labelled=True)
    if not images.class_names or images.labels.min() < 0:
        raise ValueError(
            f"{images.name} must have a label for every image, a directory for each class; to "
            f"pick among others: experiments.pick"
        )
    tests = test(images.class_names)
    rows, aside = (
        held_out(key, images.labels, share=test_share)
        if tests is None
        else (np.arange(len(images)), np.arange(len(tests)))
    )
    if not len(aside):
        told = f"a test set is needed, and a share of {test_share:g} of each class of {images.name} is no image"
        raise ValueError(f"{told}: raise --test_share, or name test images with --test_dir")
    tell_skipped(images)
    _, seen = features(images)
    tested = seen
    if tests is not None:
        tell_skipped(tests)
        _, tested = features(tests)
    from experiments.common import networks  # needs Flax, as the features did

    return Dataset(
        features=np.asarray(seen.columns["features"])[rows],
        labels=seen.labels[rows],
        test_features=np.asarray(tested.columns["features"])[aside],
        test_labels=tested.labels[aside],
        scores=scores(seen, rows),
        num_classes=len(images.class_names),
        compact=False,
        files={
            f"{cache.manifest['images']['name']}, {what}, by {cache.manifest['source']}": cache.sha256[
                "features"
            ]
            for what, cache in (("pool", seen), ("test", tested))
        },
        network=networks.Network(
            *_source(),
            data.select(images, rows),
            data.select(images if tests is None else tests, aside),
        ),
    )


def held_out(key: jax.Array, labels: np.ndarray, *, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a pool and of a test set with that share of every class, rounded; at least one of
    each class stays in the pool.

    >>> pool, test = held_out(jax.random.key(0), np.array([0, 0, 0, 0, 1]), share=0.5)
    >>> len(pool), np.array([0, 0, 0, 0, 1])[test].tolist()
    (3, [0, 0])
    """
    order, aside = np.asarray(jax.random.permutation(key, len(labels))), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        aside[rows[: min(round(share * len(rows)), len(rows) - 1)]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def tell_skipped(images: data.Images) -> None:
    """Prints what was left out, where something was."""
    if images.skipped:
        print(
            f"\nLeft out as damaged or no image ({len(images.skipped)}): "
            f"{', '.join(images.skipped)}."
        )


def scores(cache: Cache, rows: Any = slice(None)) -> balal.Scores:
    """The source model's scores of some rows of a cache."""
    return balal.Scores(
        *(jnp.asarray(cache.columns[field.name][rows]) for field in fields(balal.Scores))
    )


def _extraction() -> ModuleType:
    """The module that needs Flax, which a program that was given features can do without."""
    try:
        from experiments.common import extraction
    except ModuleNotFoundError as error:
        raise ValueError(
            f"images need a source model ({error}): pip install 'balal[efficientnet-lite0]'"
        ) from error
    return extraction


def _source() -> tuple[Any, Path]:
    """The source model of the flags and the file of its weights."""
    whole = DATASET.value in PROFILES and data.profile(DATASET.value).crop == "whole"
    return _extraction().source(
        _SOURCE.value, _WEIGHTS.value, crop=1.0 if _CROP.value is None and whole else _CROP.value
    )


def _read(kind: str, place: Path, *, labelled: bool | None) -> data.Images:
    if kind == "arrays":
        return data.arrays(place)
    try:
        with tqdm(unit="file", desc=f"checking {place.name}", leave=False, disable=None) as bar:

            def tell(number: int, total: int) -> None:
                bar.total = total
                bar.update(number - bar.n)

            return data.folder(place, labelled=labelled, skip_damaged=_SKIP.value, progress=tell)
    except ValueError as error:
        told = (
            str(error)
            .replace("skip_damaged=True", "--skip_damaged")
            .replace("labelled=False", "experiments.pick")
        )
        raise ValueError(told) from error


def _place() -> tuple[str, Path]:
    if DATA_DIR.value is None:
        raise ValueError("--data_dir is missing: the folder or file with the images")
    return DATASET.value, Path(DATA_DIR.value).expanduser()
