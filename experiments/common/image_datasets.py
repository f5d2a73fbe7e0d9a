"""Images as a data set for the experiments: labelled, as features of a source model, with a test
set."""

import jax
import numpy as np

from balal import data
from balal.cli import images
from balal.cli.images import ImageOptions
from experiments.common.datasets import Dataset


def refuse_both(options: ImageOptions, **files: str | None) -> None:
    """Raises ValueError where both images and, with these other flags, files of features are
    named."""
    named = [flag for flag, value in files.items() if value]
    if options.data_dir is not None and named:
        raise ValueError(
            f"--data_dir says that the features are those of images, but --{named[0]} that they "
            f"are in a file: give only one of them"
        )


def dataset(options: ImageOptions, *, seed: int, test_share: float) -> Dataset:
    """The images as a labelled pool and a test set of features.

    A data set of the paper is as imbalanced as there and has its own test set. For other images,
    `test_share` of every class is held out, unless `options` names test images.

    Raises: ValueError where images have no labels, or where the test set would be empty.
    """
    key = jax.random.key(seed)
    pool = _labelled(options, key)
    tests = images.read_tests(options, class_names=pool.class_names)
    rows, aside = (
        held_out(key, pool.labels, share=test_share)
        if tests is None
        else (np.arange(len(pool)), np.arange(len(tests)))
    )
    if not len(aside):
        raise ValueError(
            f"a test set is needed, but a share of {test_share:g} of each class of {pool.name} is "
            f"not a single image: raise --test_share, or name test images with --test_dir"
        )
    for chosen in (pool, tests):
        if chosen is not None and images.left_out(chosen):
            print(images.left_out(chosen))
    _, seen = images.extract(pool, options)
    tested = seen if tests is None else images.extract(tests, options)[1]
    from experiments.common import networks  # needs Flax, as the features did

    model = images.pretrained(options)
    return Dataset(
        features=np.asarray(seen.features)[rows],
        labels=seen.labels[rows],
        test_features=np.asarray(tested.features)[aside],
        test_labels=tested.labels[aside],
        scores=jax.tree.map(lambda values: values[rows], seen.scores),
        num_classes=len(pool.class_names),
        compact=False,
        files={
            ", ".join(
                [cache.manifest["images"]["name"], part, f"by {cache.manifest['source']}"]
            ): cache.sha256["features"]
            for part, cache in (("pool", seen), ("test", tested))
        },
        network=networks.Network(
            model,
            data.select(pool, rows),
            data.select(pool if tests is None else tests, aside),
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


def _labelled(options: ImageOptions, key: jax.Array) -> data.Images:
    """The pool, every image with its label."""
    pool = images.read_pool(options, key=key, labelled=True)
    if not pool.class_names or pool.labels.min() < 0:
        raise ValueError(
            f"{pool.name} must have a label for every image: make a directory for each class, or "
            f"use balal pick for images without labels"
        )
    return pool
