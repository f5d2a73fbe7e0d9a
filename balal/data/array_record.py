"""A data set that TensorFlow Datasets has prepared as ArrayRecord files, read without
TensorFlow."""

import hashlib
import os
import shlex
from functools import partial
from typing import Any

import numpy as np

from balal.data.decoding import decode
from balal.data.images import Images, fingerprint
from balal.extras import Extra


def tfds(
    name: str,
    *,
    split: str,
    data_dir: str | os.PathLike[str] | None = None,
    image: str = "image",
    label: str | None = "label",
    ids: str | None = "id",
) -> Images:
    """One split of a prepared TensorFlow Data Set as `Images`. TensorFlow is neither needed nor
    imported, and nothing is downloaded.

    Records are read in any order from ArrayRecord files; their images are decoded by `decode`, as
    in folders. To learn ids and labels, every record is read once, without decoding its image.

    Args:
      name: as in TensorFlow Datasets: `cifar100`, `name/config`, `name:1.0.0`.
      split: `train`, `test`, `train[:1000]`, `train+test`.
      data_dir: where it was prepared; None: `~/tensorflow_datasets`.
      image: the name of the feature that holds the image.
      label: the name of the class label; where there is no such feature, the images are unlabelled.
      ids: the name of the feature that holds ids; where there is none, an id is `<split>/<row>`.

    The fingerprint covers ids, labels, class names and the encoded bytes of every image.

    Raises: ModuleNotFoundError with what to install; FileNotFoundError, with the command that
      prepares it, for a data set that is missing or prepared in another format; ValueError for a
      split or a feature that it does not have.
    """
    with Extra("data"):
        # Imported now, or its absence would show only at the first record.
        import array_record.python.array_record_data_source  # noqa: F401  # pyright: ignore[reportMissingImports]
        import tensorflow_datasets  # pyright: ignore[reportMissingImports]
        from tensorflow_datasets.core import read_only_builder, registered  # pyright: ignore[reportMissingImports]
    path = os.path.expanduser(os.fspath(data_dir or "~/tensorflow_datasets"))
    try:
        builder: Any = read_only_builder.builder_from_files(name, data_dir=path)
    except registered.DatasetNotFoundError as error:
        raise FileNotFoundError(f"{name} is not prepared in {path}; {_how(name, path)}") from error
    if builder.info.file_format is None or builder.info.file_format.value != "array_record":
        form = getattr(builder.info.file_format, "value", "an unknown format")
        raise FileNotFoundError(
            f"{name} is prepared in {path} as {form}, which has no random access; "
            f"{_how(name, path + '_array_record')}"
        )
    classes = _class_names(name, builder.info.features, image, label)
    skip: Any = {image: tensorflow_datasets.decode.SkipDecoding()}
    try:
        records: Any = builder.as_data_source(split=split, decoders=skip)
    except ValueError as error:
        raise ValueError(
            f"split must be made of {', '.join(builder.info.splits)}, in the notation of "
            f"TensorFlow Datasets, got {split!r} for {name}"
        ) from error
    found, labels, digests = [], np.full(len(records), -1, np.int32), []
    for row in range(len(records)):
        record = records[row]
        found.append(_text(record[ids]) if ids in record else f"{split}/{row}")
        labels[row] = record[label] if classes else -1
        digests.append(hashlib.sha256(record[image]).digest())
    mark = "contents-" + fingerprint(found, labels, classes, digests)
    return Images(
        f"{name} {split}",
        tuple(found),
        labels,
        classes,
        partial(_read, records, image),
        mark,
        contents=tuple(digests),
    )


def _how(name: str, path: str) -> str:
    command = (
        f"tfds build {shlex.quote(name)} --file_format=array_record --data_dir={shlex.quote(path)}"
    )
    return (
        f"prepare it once, in any environment that has TensorFlow (reading it needs none): "
        f"{command}"
    )


def _class_names(name: str, features: Any, image: str, label: str | None) -> tuple[str, ...]:
    """The names of the classes, none where there is no label; ValueError where the image or the
    label has the wrong type."""
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    if kinds.get(image) != "Image" or features[image].np_dtype != np.uint8:
        raise ValueError(
            f"{name} has no feature {image!r} that is an image of uint8; pass image=, its "
            f"features are {kinds}"
        )
    if label not in kinds:
        return ()
    if kinds[label] != "ClassLabel":
        raise ValueError(
            f"{label!r} of {name} is {kinds[label]}, not a class label; pass label=, its features "
            f"are {kinds}"
        )
    return tuple(features[label].names)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _read(records: Any, image: str, row: int) -> np.ndarray:
    return decode(records[row][image])
