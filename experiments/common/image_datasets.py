"""Images as a data set for the experiments: labelled, as features of a source model, with a test
set."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import jax
import numpy as np
from absl import flags

from balal import data
from balal.cli import images, remarks
from balal.cli.image_options import ImageOptions
from balal.wording import first_few
from experiments.common import buying
from experiments.common.datasets import Dataset


def refuse_both(options: ImageOptions, held_out: "HeldOut", **files: str | None) -> None:
    """Raises ValueError where both images and, with these other flags, files of features are
    named, or where there are flags for images and no images."""
    named = [flag for flag, value in files.items() if value]
    if options.data_dir is not None and named:
        raise ValueError(
            f"--data_dir says that the features are those of images, but --{named[0]} that they "
            f"are in a file: give only one of them"
        )
    about_images = {
        "test_dir": options.test_dir,
        "files": options.files,
        "labels": options.labels,
        "test_per_class": held_out.per_class,
        "dataset": None if options.dataset == "folder" else options.dataset,
    }
    alone = [flag for flag, value in about_images.items() if value is not None]
    if options.data_dir is None and alone:
        raise ValueError(
            f"--{alone[0]} says something about images, but there are none: name them with "
            f"--data_dir"
        )


@dataclass(frozen=True)
class HeldOut:
    """Which of the images are the test set, where they have none of their own.

    Attributes:
      share: of every class.
      per_class: so many images of each class instead; None: that share.
    """

    share: float
    per_class: int | None = None


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags behind `HeldOut`."""
    flags.DEFINE_float(
        "test_share",
        0.2,
        "For images without a test set: the share of every class that is held out for one.",
        0,
        0.9,
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "test_per_class",
        None,
        "Instead of --test_share: so many images of each class.",
        lower_bound=1,
        flag_values=flag_values,
    )


def read_options(flag_values: flags.FlagValues) -> HeldOut:
    """The values of the flags."""
    number = flag_values.test_per_class
    if number is not None and not flag_values["test_share"].using_default_value:
        raise ValueError(
            "--test_share and --test_per_class both say how many images are held out: give only "
            "one of them"
        )
    return HeldOut(flag_values.test_share, number)


def dataset(
    options: ImageOptions, *, seed: int, held_out: HeldOut, budgets: Sequence[int]
) -> Dataset:
    """The images as a labelled pool and a test set of features.

    A data set of the paper is as imbalanced as there and has its own test set. Other images are
    divided as `held_out` says, unless `options` names test images. Prints what is odd about the
    files.

    Raises: ValueError where images have no labels, where the test set would be empty, where a class
      has too few images, or the pool too few for the largest of `budgets`, the last.
    """
    if held_out.per_class is not None and images.has_tests(options):
        raise ValueError(
            "--test_per_class holds images out of the pool, but there are test images already: "
            "leave it out"
        )
    images.refuse_network(options)
    with images.looked_at(options):
        return _seen(options, seed=seed, held_out=held_out, budgets=budgets)


def _seen(
    options: ImageOptions, *, seed: int, held_out: HeldOut, budgets: Sequence[int]
) -> Dataset:
    def early(_: Sequence[str], chosen: Collection[str]) -> Collection[str]:
        buying.check_budgets(budgets, len(chosen))
        return []

    key = jax.random.key(seed)
    pool = images.read_pool(options, key=key, labelled=True, also=early)
    _refuse_unlabelled(pool, options)
    tests = images.read_tests(options, class_names=pool.class_names)
    if tests is not None:
        _refuse_unlabelled(tests, options)
    rows, aside = (
        _divide(key, pool, held_out)
        if tests is None
        else (np.arange(len(pool)), np.arange(len(tests)))
    )
    buying.check_budgets(budgets, len(rows))
    parts = data.select(pool, rows), data.select(pool if tests is None else tests, aside)
    files = [remarks.left_out(chosen) for chosen in (pool, tests) if chosen is not None]
    for told in dict.fromkeys([*files, repeated(*parts)]):
        if told:
            print(told)
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
        network=networks.Network(model, *parts),
    )


def divide(key: jax.Array, labels: np.ndarray, held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a pool and of a test set with that share of every class, rounded, or that number of
    each; at least one of each class stays in the pool.

    >>> labels = np.array([0, 0, 0, 0, 1])
    >>> pool, test = divide(jax.random.key(0), labels, HeldOut(share=0.5))
    >>> len(pool), labels[test].tolist()
    (3, [0, 0])
    """
    order, aside = np.asarray(jax.random.permutation(key, len(labels))), np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = order[labels[order] == label]
        number = held_out.per_class or round(held_out.share * len(rows))
        aside[rows[: min(number, len(rows) - 1)]] = True
    return np.flatnonzero(~aside), np.flatnonzero(aside)


def repeated(pool: data.Images, tests: data.Images) -> str:
    """Lines on photographs that are in the pool and in the test set, byte for byte, and on those
    that are in two classes; empty where there are none, or where contents are not known."""
    in_pool = dict(zip(pool.contents, pool.ids, strict=False))
    leaks = [
        f"{file} of {in_pool[content]}"
        for file, content in zip(tests.ids, tests.contents, strict=False)
        if content in in_pool
    ]
    classes: dict[bytes, dict[str, str]] = defaultdict(dict)
    for part in (pool, tests):
        for file, label, content in zip(part.ids, part.labels, part.contents, strict=False):
            classes[content].setdefault(part.class_names[label], file)
    torn = [first_few(list(files.values())) for files in classes.values() if len(files) > 1]
    lines = []
    if leaks:
        lines.append(
            f"Test images that are copies of images in the pool ({len(leaks)}): "
            f"{first_few(leaks)}. The accuracy on them is not that on new images."
        )
    if torn:
        lines.append(f"Photographs in several classes ({len(torn)}): {'; '.join(torn[:5])}.")
    return "\n".join(lines)


def _divide(key: jax.Array, pool: data.Images, held_out: HeldOut) -> tuple[np.ndarray, np.ndarray]:
    """As `divide`; ValueError where nothing would be held out, or a class has too few images."""
    sizes, number = np.bincount(pool.labels, minlength=len(pool.class_names)), held_out.per_class
    if number is not None and sizes.min() <= number:
        short = np.flatnonzero(sizes <= number)
        few = [f"{pool.class_names[row]} has {sizes[row]}" for row in short]
        raise ValueError(
            f"--test_per_class={number} needs {number + 1} images of each class of {pool.name}, as "
            f"one stays in the pool, but {first_few(few)}: lower it, or leave these classes out"
        )
    rows, aside = divide(key, pool.labels, held_out)
    if not len(aside):
        raise ValueError(
            f"a test set is needed, but a share of {held_out.share:g} of each class of {pool.name} "
            f"is not a single image: raise --test_share, or name test images with --test_dir"
        )
    return rows, aside


def _refuse_unlabelled(found: data.Images, options: ImageOptions) -> None:
    unlabelled = [name for name, label in zip(found.ids, found.labels, strict=True) if label < 0]
    if not found.class_names or unlabelled:
        how = (
            "give the file an array of labels"
            if options.dataset == "arrays"
            else "make a directory for each class, or name a table with --labels"
        )
        raise ValueError(
            f"{found.name} must have a label for every image, but {len(unlabelled)} have none "
            f"({first_few(unlabelled)}): {how}; balal pick needs none"
        )
