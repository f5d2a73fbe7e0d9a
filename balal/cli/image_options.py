"""The flags that name a program's images and the network that looks at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from absl import flags

from balal.cli import lists
from balal.data import paper_datasets
from balal.wording import first_few

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
