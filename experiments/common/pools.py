"""The pools that experiments over many pools know by name."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np

from balal import imbalance
from balal.extras import Extra
from experiments.common import datasets

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
