"""Features of the same images, made worse step by step, with the logits of the source model that
belong to them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from balal import array_file
from balal.extras import Extra
from experiments.common import pools

with Extra("models"):
    from balal.models import sources, weights

# Standard deviations of the noise, as multiples of a feature's own; 0 is what they came as.
NOISES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
RANDOM = ("efficientnet_lite0", "mobilenet_v2", "resnet18")
# Images that a network sees at a time.
_TOGETHER = 250


@dataclass(frozen=True)
class Images:
    """A pool and a test set of images, with the features of a trained network and its classifier.

    Attributes:
      images: uint8 [N + M, h, w, 3], the pool's and then those of the test set.
      features: float32 [N + M, D].
      kernel: [D, K], of the classifier.
      bias: [K].
      labels: int [N].
      test_labels: int [M].
      files: the sha256 of every file it came from, by name.
    """

    images: np.ndarray
    features: np.ndarray
    kernel: np.ndarray
    bias: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray
    files: dict[str, str]


@dataclass(frozen=True)
class Version:
    """Features of the pool [N, D] and of the test set [M, D], and logits of the pool [N, K], None
    where there is no source model."""

    features: np.ndarray
    tests: np.ndarray
    logits: np.ndarray | None


def cifar100(rows: int, *, seed: int) -> Images:
    """`rows` images of the long-tailed CIFAR-100 pool, drawn at random, and 2,000 test images, with
    features of EfficientNet-Lite0. Raises FileNotFoundError without the folder BALAL_SHARED."""
    names = (
        "cifar100_pool_images.npz",
        "cifar100_test_images_2000.npz",
        "cifar100_efficientnet_lite0_features.npz",
    )
    paths = [pools.shared_file("the degraded features", name) for name in names]
    kind = "an npz file of plain arrays"
    pool, test, seen = (array_file.read(path, kind=kind) for path in paths)
    if not np.array_equal(pool["labels"], seen["pool_labels"]):
        raise ValueError(f"{paths[0]} and {paths[2]} have different labels: they are of other rows")
    if not 1 <= rows <= len(pool["labels"]):
        raise ValueError(f"--rows must lie between 1 and {len(pool['labels'])}, got {rows}")
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pool["labels"]))[:rows])
    name = "efficientnet_lite0"
    classifier = sources.load(sources.SOURCES[name], weights.installed(name))["classifier"]
    features = [seen["pool_features"][chosen], seen["test_features"][test["test_row"]]]
    return Images(
        np.concatenate([pool["images"][chosen], test["images"]]),
        np.concatenate(features).astype(np.float32),
        np.asarray(classifier["kernel"]),
        np.asarray(classifier["bias"]),
        pool["labels"][chosen].astype(np.int64),
        test["labels"].astype(np.int64),
        {path.name: weights.sha256(Path(path)) for path in paths},
    )


def versions(images: Images) -> dict[str, Callable[[int], Version]]:
    """Ways to make the features worse, by name; each takes a seed for what it draws."""
    found: dict[str, Any] = {
        f"noise {noise:g}" if noise else "as they came": lambda seed, noise=noise: noisy(
            images, noise, seed
        )
        for noise in NOISES
    }
    found |= {
        f"random {name}": lambda seed, name=name: untrained(images, name, seed) for name in RANDOM
    }
    return found | {"pixels": lambda seed: pixels(images)}


def noisy(images: Images, noise: float, seed: int) -> Version:
    """Gaussian noise added to each feature, and what the classifier makes of it."""
    rng = np.random.default_rng(seed)
    scale = noise * images.features[: len(images.labels)].std(axis=0)
    drawn = rng.normal(size=images.features.shape).astype(np.float32)
    features = images.features + scale * drawn
    return _version(images, features, features @ images.kernel + images.bias)


def untrained(images: Images, name: str, seed: int) -> Version:
    """A source model with random weights, which sees the images at the size that they have."""
    source = sources.SOURCES[name]
    params = sources.initial(source, key=jax.random.key(seed))

    parts = [
        source.apply(params, images.images[first : first + _TOGETHER])
        for first in range(0, len(images.images), _TOGETHER)
    ]
    features, logits = (np.concatenate([np.asarray(part[at]) for part in parts]) for at in (0, 1))
    return _version(images, features, logits)


def pixels(images: Images) -> Version:
    """The grey levels themselves, of which there are no source classes."""
    return _version(images, images.images.reshape(len(images.images), -1) / np.float32(255), None)


def _version(images: Images, features: np.ndarray, logits: np.ndarray | None) -> Version:
    rows = len(images.labels)
    return Version(features[:rows], features[rows:], None if logits is None else logits[:rows])
