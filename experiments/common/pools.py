"""The pools that experiments over many pools know by name."""

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from balal import imbalance
from balal.extras import Extra
from experiments.common import datasets, program

with Extra("experiments"):
    from sklearn.datasets import load_digits

# Of the long-tailed digits: the largest class over the smallest, and the test rows of each digit,
# together half of all rows.
DIGITS_RATIO, DIGITS_TEST = 20, 89


def lite0() -> datasets.Dataset:
    """The embedded long-tailed CIFAR-100, features of EfficientNet-Lite0."""
    return datasets.load()


def digits() -> datasets.Dataset:
    """The 8 x 8 digits of scikit-learn, pixels as features, made long-tailed; half of them are a
    class-balanced test set. There are no scores.

    Which rows are used and which digits are rare is fixed, whatever the seed of an experiment.
    """
    images = load_digits()
    features, labels = (images.data / 16).astype(np.float32), images.target.astype(np.int32)
    test_key, class_key, pool_key = jax.random.split(jax.random.key(0), 3)
    test = imbalance.subsample(test_key, labels, np.full(10, DIGITS_TEST))
    rest = np.setdiff1d(np.arange(len(labels)), test)
    sizes = imbalance.exponential(
        10, largest=int(np.bincount(labels[rest]).min()), rho=DIGITS_RATIO
    )
    # So that the class id does not give away the size.
    sizes = sizes[np.asarray(jax.random.permutation(class_key, 10))]
    pool = rest[imbalance.subsample(pool_key, labels[rest], sizes)]
    digest = hashlib.sha256(features.tobytes() + labels.tobytes()).hexdigest()
    return datasets.Dataset(
        features[pool],
        labels[pool],
        features[test],
        labels[test],
        None,
        10,
        False,
        {"digits of scikit-learn": digest},
    )


def shared(name: str, file: str) -> datasets.Dataset:
    """A pool in the folder BALAL_SHARED (default ../shared). Raises FileNotFoundError without
    it."""
    return datasets.load(str(shared_file(f"the pool {name}", file)))


def shared_file(what: str, file: str) -> Path:
    """The path of a file that something needs in the folder BALAL_SHARED (default ../shared).
    Raises FileNotFoundError without it."""
    path = Path(os.environ.get("BALAL_SHARED", "../shared"), "data", file)
    if not path.exists():
        raise FileNotFoundError(
            f"{what} needs {path}: set BALAL_SHARED to the folder that has data/{file}"
        )
    return path


# mnv2: the images of lite0, seen by MobileNetV2. caltech101 and grocery: natural pools of everyday
# objects and of groceries on shelves, by the same network.
_SHARED = {
    "mnv2": "cifar100_mnv2_compact_pool.npz",
    "caltech101": "caltech101_pool.npz",
    "grocery": "grocery_pool.npz",
}
NAMED: dict[str, Callable[[], datasets.Dataset]] = {
    "lite0": lite0,
    **{name: partial(shared, name, file) for name, file in _SHARED.items()},
    "digits": digits,
}


def define_flags(flag_values: flags.FlagValues, *, default: Sequence[str]) -> None:
    """--pools, with `default`, --features and --labels; `loaded` reads what they name."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_list(
        "pools",
        list(default),
        f"all, or some of {', '.join(NAMED)}; all but lite0 and digits need the folder "
        f"BALAL_SHARED.",
        **own,
    )
    flags.DEFINE_list(
        "features",
        [],
        "More pools, named by their file name: npz files in either layout of experiments.one_shot, "
        "or with --labels .npy files of an array [N, D].",
        **own,
    )
    flags.DEFINE_list(
        "labels",
        [],
        "An .npy file of int [N] for each .npy file of --features; a fifth of each class is the "
        "test set.",
        **own,
    )


def listed(values: Sequence[str]) -> list[str]:
    """The value of --pools, which may be empty."""
    return list(values) and program.listed("pools", values, NAMED)


def loaded(
    names: Sequence[str],
    features: Sequence[str],
    labels: Sequence[str],
    *,
    optional: bool = False,
) -> dict[str, datasets.Dataset]:
    """The pools that are known by name, and those of files, by the files' names.

    Args:
      features: npz files as in `datasets.load`, and .npy files of features.
      labels: an .npy file of labels for each of those.
      optional: leave out what is not in the folder BALAL_SHARED, with a note on stderr.

    Raises: ValueError for lists that do not match, two pools of one name, or none at all;
      FileNotFoundError.
    """
    arrays = [path for path in features if path.endswith(".npy")]
    if len(arrays) != len(labels):
        raise ValueError(
            f"--labels names {len(labels)} files, and --features {len(arrays)} that end in .npy: "
            f"each of those needs one"
        )
    found: dict[str, datasets.Dataset] = {}
    for name in names:
        try:
            found[name] = NAMED[name]()
        except FileNotFoundError as error:
            if not optional:
                raise
            print(f"note: {error}; it is left out", file=sys.stderr)
    answers = iter(labels)
    for path in features:
        name = Path(path).stem
        if name in found:
            raise ValueError(
                f"two pools are called {name!r}: rename {path}, or leave one of them out"
            )
        dataset = (
            datasets.from_arrays(path, next(answers)) if path in arrays else datasets.load(path)
        )
        if absent := datasets.absent_classes(dataset):
            print(f"note: {path}: {' '.join(absent.splitlines())}", file=sys.stderr)
        found[name] = dataset
    if not found:
        raise ValueError("there is no pool: name some with --pools or --features")
    return found
