"""The images that a program's flags name, and what the network sees in them."""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from balal import data, folder_lock, imbalance
from balal.cli import lists, progress, remarks
from balal.cli.image_options import ImageOptions
from balal.data import layouts, paper_datasets
from balal.extras import Extra
from balal.feature_cache import Cache

Also = Callable[[Sequence[str], Collection[str]], Collection[str]]


def read_pool(
    options: ImageOptions,
    *,
    key: jax.Array | None = None,
    labelled: bool | None = None,
    also: Also | None = None,
) -> data.Images:
    """The images to choose from: all of a folder or file, those of them that a list names, or the
    pool of a data set of the paper.

    Args:
      key: draws from a data set of the paper a pool as imbalanced as there; None: all its images.
      labelled: whether the directories in a folder are classes; None: as for `data.folder`. With a
        table of labels: whether images without one are left out.
      also: takes the ids of all images, and of those that are listed, before a file is opened, and
        returns the ids that are read besides; not called for a data set of the paper.
    """
    path = _data_dir(options)
    if options.dataset in paper_datasets.NAMES:
        return _read_paper_pool(options, path, key)
    names = None if options.files is None else lists.read_list(options.files)
    lines = None if options.labels is None else lists.read_table(options.labels)
    if options.labels is not None and options.dataset != "folder":
        raise ValueError(
            "--labels gives labels to the images of a folder: leave out --labels or --dataset"
        )
    if options.labels is not None and labelled is False:
        raise ValueError("--labels and --nolabelled contradict each other: leave one of them out")
    labels: dict[str, str] = {}
    unlabelled: list[str] = []

    def choose(ids: tuple[str, ...], _: np.ndarray) -> list[int]:
        chosen = set(ids)
        if options.files is not None and names is not None:
            chosen = set(lists.find(options.files, names, ids, path.name))
        if also is not None:
            chosen.update(also(ids, chosen))
        if options.labels is not None and lines is not None:
            labels.update(lists.labels_of(options.labels, lines, ids, path.name))
            if labelled:
                unlabelled.extend(name for name in ids if name in chosen - labels.keys())
                chosen &= labels.keys()
        return [row for row, name in enumerate(ids) if name in chosen]

    images = _read(options, path, labelled=False if lines else labelled, choose=choose)
    if not labels:
        return images
    return replace(data.relabel(images, labels), unlabelled=tuple(unlabelled))


def has_tests(options: ImageOptions) -> bool:
    """Whether there are test images: in a data set of the paper, or named."""
    return options.dataset in paper_datasets.NAMES or options.test_dir is not None


def read_tests(
    options: ImageOptions, *, class_names: tuple[str, ...] | None = None
) -> data.Images | None:
    """The balanced test images of a data set of the paper, or those in `test_dir`; None where there
    are neither.

    Args:
      class_names: of the pool; those in `test_dir` must be the same. None: any.

    Raises: ValueError where the class names differ.
    """
    path = _data_dir(options)
    if options.dataset in paper_datasets.NAMES:
        if options.test_dir is not None:
            raise ValueError(f"{options.dataset} has test images of its own: leave out --test_dir")
        images, of_pool, of_tests = _load(options, path, part="test"), "the pool", "the test set"
    elif options.test_dir is None:
        return None
    else:
        images = _read(options, options.test_dir, labelled=True)
        of_pool, of_tests = "--data_dir", "--test_dir"
    if class_names is not None and images.class_names != class_names:
        how = remarks.how_they_differ({of_pool: class_names, of_tests: images.class_names})
        raise ValueError(f"{of_tests} must have the classes of {of_pool}, but {how}")
    return images


def pretrained(options: ImageOptions) -> Any:
    """The source model with its weights: a `balal.models.sources.Pretrained`."""
    with Extra("photos"):
        from balal.models import sources

    if options.weights is not None and not options.weights.is_file():
        raise FileNotFoundError(f"there is no file of weights {options.weights}")
    crop = options.crop
    if crop is None and options.dataset in paper_datasets.NAMES:
        crop = 1.0 if data.info(options.dataset).crop == "whole" else None
    return sources.pretrained(
        options.source, weights=options.weights, entry=options.entry, crop=crop
    )


def refuse_network(options: ImageOptions) -> None:
    """Raises what `pretrained` raises, if there are images at all: before they are read."""
    if options.data_dir is not None and options.data_dir.exists():
        pretrained(options)


@contextmanager
def looked_at(options: ImageOptions, *, folder: Path | None = None) -> Iterator[None]:
    """In which nobody else reads these images for this network and this place: who comes second is
    told at once, not when all images have been checked.

    folder: as in `extract`.

    Raises: ValueError where somebody does.
    """
    if options.data_dir is None or not options.data_dir.exists():
        yield  # Which is told by what reads it.
        return
    made_from = (
        str(options.data_dir.resolve()),
        options.dataset,
        options.source,
        str(options.weights),
        str(folder and folder.resolve()),
    )
    name = hashlib.sha256("\0".join(made_from).encode(errors="surrogateescape")).hexdigest()[:16]
    with folder_lock.locked(
        options.cache / f".reading-{name}",
        read_only=True,
        held=str(options.data_dir),
        instead="name another --cache" if folder is None else "name another --out",
    ):
        yield


def extract(
    images: data.Images, options: ImageOptions, *, folder: Path | None = None
) -> tuple[Path, Cache]:
    """The folder that holds what the source model sees in the images, and that itself, computed
    where it is not there yet.

    Args:
      folder: None: one below `options.cache`, named after what it is made from.
    """
    model = pretrained(options)
    from balal import features  # needs Flax, which is there

    if folder is None:
        folder = options.cache / features.folder_name(images, source=model, dtype=options.dtype)
    with progress.bar(f"{model.name} sees {images.name}", unit="image") as tell:
        found = features.extract(
            images,
            folder,
            source=model,
            batch_size=options.batch_size,
            dtype=options.dtype,
            progress=tell,
        )
    return folder, found


def _read_paper_pool(options: ImageOptions, path: Path, key: jax.Array | None) -> data.Images:
    known = data.info(options.dataset)
    if options.files is not None:
        raise ValueError(f"{options.dataset} has a pool of its own: leave out --files")
    if options.labels is not None:
        raise ValueError(f"{options.dataset} has labels of its own: leave out --labels")

    def as_imbalanced(_: tuple[str, ...], labels: np.ndarray) -> np.ndarray:
        assert key is not None
        try:
            return imbalance.subsample(key, labels, np.array(known.counts))
        except ValueError as error:
            raise ValueError(
                f"the pool of the paper cannot be drawn from {known.name} in {path}, which is not "
                f"whole: {error}".removesuffix("; lower their counts")
            ) from error

    # A pool without a name of its own comes imbalanced.
    drawn = key is not None and known.pool is not None
    return _load(options, path, part="pool", choose=as_imbalanced if drawn else None)


def _read(
    options: ImageOptions,
    path: Path,
    *,
    labelled: bool | None,
    choose: data.Choose | None = None,
) -> data.Images:
    if options.dataset == "arrays":
        images = data.arrays(path)
        rows = range(len(images)) if choose is None else choose(images.ids, images.labels)
        return images if len(rows) == len(images) else data.select(images, rows)
    with progress.bar(f"checking {path.name}", unit="file", leave=False) as tell:
        return data.folder(
            path,
            labelled=labelled,
            choose=choose,
            skip_damaged=options.skip_damaged,
            progress=tell,
        )


def _load(
    options: ImageOptions,
    path: Path,
    *,
    part: layouts.Part,
    choose: data.Choose | None = None,
) -> data.Images:
    known = data.info(options.dataset)
    with progress.bar(f"checking {known.name}", unit="file", leave=False) as tell:
        return data.load(
            known,
            path,
            part=part,
            choose=choose,
            skip_damaged=options.skip_damaged,
            progress=tell,
        )


def _data_dir(options: ImageOptions) -> Path:
    if options.data_dir is None:
        raise ValueError("--data_dir is missing: name the folder or file with the images")
    return options.data_dir
