"""The flags that name a program's images and the network that looks at them, and what these stand
for."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from absl import flags

from balal import data, imbalance
from balal.cli import lists, progress, remarks
from balal.data import layouts, paper_datasets
from balal.extras import Extra
from balal.feature_cache import Cache
from balal.wording import first_few

Also = Callable[[Sequence[str], Collection[str]], Collection[str]]

KINDS = ("folder", "arrays", *paper_datasets.NAMES)


@dataclass(frozen=True)
class ImageOptions:
    """Which images, which network looks at them, and where its results are kept.

    Attributes:
      dataset: what is at `data_dir`, one of `KINDS`.
      data_dir: the folder or file; None: no images.
      test_dir: the folder or file of the test images, where the data set has none of its own.
      files: a list of the only images that are meant; None: all of them.
      labels: a table of their labels; None: directories are classes, or nothing is labelled.
      skip_damaged: leave out files that cannot be read.
      source: the name of the source model.
      weights: the file of its weights; None: that of an installed package.
      entry: which entry of that file holds them; None: the only one that can.
      crop: share of the shorter side that it sees; None: as in its training, or all of CIFAR.
      cache: the folder in which each set of images has a feature cache of its own.
      batch_size: images on each device at a time.
      dtype: of the stored features.
    """

    dataset: str
    data_dir: Path | None
    test_dir: Path | None
    files: Path | None
    labels: lists.LabelTable | None
    skip_damaged: bool
    source: str
    weights: Path | None
    entry: str | None
    crop: float | None
    cache: Path
    batch_size: int
    dtype: Literal["float16", "float32"]


def define_flags(flag_values: flags.FlagValues, *, tests: bool = True, labels: bool = True) -> None:
    """The flags behind `ImageOptions`. tests, labels: whether there are those for test images and
    for a table of labels."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_enum(
        "dataset",
        "folder",
        KINDS,
        "What is at --data_dir: images, an array file, or a data set of the paper.",
        **own,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "The folder or file with the images; for a data set of the paper, the folder with its "
        "unpacked archive, with train/ and test/, or the data directory of TensorFlow Datasets.",
        **own,
    )
    if tests:
        flags.DEFINE_string(
            "test_dir",
            None,
            "Test images, where --dataset is folder or arrays.",
            **own,
        )
    flags.DEFINE_string(
        "files",
        None,
        "A text file with the name of an image on each line, as it is below --data_dir: only these "
        "are meant.",
        **own,
    )
    if labels:
        flags.DEFINE_string(
            "labels",
            None,
            "A CSV file with the label of each file below --data_dir, instead of a directory a "
            "class.",
            **own,
        )
        flags.DEFINE_string(
            "file_column", "file", "The column of --labels with the names of the files.", **own
        )
        flags.DEFINE_string(
            "label_column", "label", "The column of --labels with the labels.", **own
        )
        flags.DEFINE_bool(
            "distinct_labels",
            False,
            "Labels in --labels that differ by case, white space or the like alone are different "
            "classes.",
            **own,
        )
    flags.DEFINE_bool(
        "skip_damaged", False, "Leave out damaged files and list them, instead of stopping.", **own
    )
    flags.DEFINE_string(
        "source", "efficientnet_lite0", "The source model that looks at the images.", **own
    )
    flags.DEFINE_string(
        "weights",
        None,
        "Its weights, .safetensors or .pth. Default: those of an installed package.",
        **own,
    )
    flags.DEFINE_string(
        "entry",
        None,
        "The entry of a training checkpoint that holds the weights, with / between levels.",
        **own,
    )
    flags.DEFINE_float(
        "crop",
        None,
        "Share of the shorter side that the source model sees. Default: as in its training, or all "
        "of CIFAR.",
        **own,
    )
    flags.DEFINE_string(
        "cache",
        "results/features",
        "Folder for computed features; each model looks at a set of images once.",
        **own,
    )
    flags.DEFINE_integer("batch_size", 32, "Images on each device at a time.", lower_bound=1, **own)
    flags.DEFINE_enum("dtype", "float16", ["float16", "float32"], "Dtype of the features.", **own)


def read_options(flag_values: flags.FlagValues, *, words: Sequence[str] = ()) -> ImageOptions:
    """The values of the flags.

    Args:
      words: the arguments that are not flags: at most one, instead of `--data_dir`.
    """
    if len(words) > 1:
        raise ValueError(
            f"only one folder or file of images can be named, got {first_few(words)}; write "
            f"lists with commas and without spaces"
        )
    if words and flag_values.data_dir not in (None, *words):
        raise ValueError(
            f"the images are named twice, {words[0]} and --data_dir={flag_values.data_dir}: give "
            f"only one"
        )

    def path(name: str) -> Path | None:
        value = flag_values[name].value if name in flag_values else None
        if value is not None and not value.strip():
            raise ValueError(f"--{name} is empty: name a file or folder, or leave it out")
        return None if value is None else Path(value).expanduser()

    table = path("labels")

    return ImageOptions(
        dataset=flag_values.dataset,
        data_dir=Path(words[0]) if words else path("data_dir"),
        test_dir=path("test_dir"),
        files=path("files"),
        labels=table
        and lists.LabelTable(
            table,
            flag_values.file_column,
            flag_values.label_column,
            flag_values.distinct_labels,
        ),
        skip_damaged=flag_values.skip_damaged,
        source=flag_values.source,
        weights=path("weights"),
        entry=flag_values.entry,
        crop=flag_values.crop,
        cache=Path(flag_values.cache).expanduser(),
        batch_size=flag_values.batch_size,
        dtype=flag_values.dtype,
    )


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
