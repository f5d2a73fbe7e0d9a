"""How data sets of images lie on disk: as their archives unpack, in folders of classes, or prepared
by TensorFlow Datasets."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from balal.data import cifar
from balal.data.array_record import tfds
from balal.data.folders import Choose, folder
from balal.data.images import Images, select
from balal.wording import first_few

Part = Literal["pool", "test"]


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a data set before it is loaded.

    Attributes:
      name: a short one.
      num_classes: `C`.
      layout: of a set of your own: `tfds`, prepared by TensorFlow Datasets; `folders`, two folders
        with a directory a class; `list`, one such folder, `Images`, and a list of the test images.
        `load` knows the layouts of the four.
      pool, test: the name of the split, folder or list of that part; a pool of None is everything
        that is not on the list of test images.
      crop: what a network should see of an image: `whole` where it is all subject, `centre` for
        photographs.
      counts: how many images of each class the pool should have.
    """

    name: str
    num_classes: int
    layout: Literal["tfds", "folders", "list"]
    pool: str | None
    test: str
    crop: Literal["whole", "centre"]
    counts: tuple[int, ...] = ()


def load(
    info: DatasetInfo,
    path: str | os.PathLike[str],
    *,
    part: Part,
    choose: Choose | None = None,
    skip_damaged: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Images:
    """The pool, before it is made imbalanced, or the test set of a data set, as `Images`.

    The layout is recognised, in the folder or in that of the unpacked archive below it:

    - `cifar100`: `cifar-100-binary` or `cifar-100-python`;
    - `food101`: `food-101`, with `images` and the lists in `meta`;
    - `mit67`: `Images` and `TestImages.txt`;
    - all: folders `train` and `test` (or `val`, `validation`) with a directory a class;
    - `cifar100`, `food101`: prepared by TensorFlow Datasets, in its data directory.

    Args:
      info: from `info`, or one of your own, which has the layout that it says.
      path: the folder.
      part: `pool` or `test`.
      choose: as of `folder`, among the images of that part; only what it returns is checked.
        Damaged files that are skipped come again as unlabelled, so that others are drawn for them.
      skip_damaged, progress: as of `folder`.

    Raises: what `folder` and `tfds` raise; FileNotFoundError, with the layouts that would do, where
      none is found; ValueError where the number of classes is not the known one, or a listed image
      is missing.
    """
    if part not in ("pool", "test"):
        raise ValueError(f"part must be 'pool' or 'test', got {part!r}")
    path = Path(path).expanduser()
    layout, root = _recognised(info, path)
    wanted = _Wanted(info, root, path, part, choose, skip_damaged, progress)
    images = layout.read(wanted)
    if len(images.class_names) != info.num_classes:
        empty = images.empty_classes
        raise ValueError(
            f"{info.name} has {info.num_classes} classes, but {len(images.class_names)} "
            f"were found in {path}"
            + (f", {len(empty)} of them without images: {first_few(empty)}" if empty else "")
        )
    return images


class _Wanted(NamedTuple):
    """What `load` was asked for, and the folder that has the layout."""

    info: DatasetInfo
    root: Path
    path: Path
    part: Part
    choose: Choose | None
    skip_damaged: bool
    progress: Callable[[int, int], None] | None


class _Layout(NamedTuple):
    """A way in which data sets lie in a folder.

    what: in words; `{name}` is the data set's, `{path}` the folder.
    below: the folder that its archive unpacks to.
    is_at: whether it is in a folder, given what is known of the data set.
    read: the part that is wanted.
    """

    what: str
    below: str
    is_at: Callable[[Path, DatasetInfo], bool]
    read: Callable[[_Wanted], Images]


def _recognised(info: DatasetInfo, path: Path) -> tuple[_Layout, Path]:
    layouts = _LAYOUTS.get(info.name) or (_OWN[info.layout],)
    for layout in layouts:
        for root in (path, path / layout.below):
            if layout.is_at(root, info):
                return layout, root
    if path.is_file():
        raise NotADirectoryError(f"{path} is a file: name the folder that holds {info.name}")
    if not path.exists():
        raise FileNotFoundError(f"there is no folder {path}")
    names = _names_in(path)
    packed = [name for name in names if re.search(r"\.(tar|tgz|zip|tar\.\w+)$", name)]
    unpacked = [name for name in names if name in {layout.below for layout in layouts}]
    raise FileNotFoundError(
        f"{info.name} is not in {path}. It may lie there as "
        + "; or as ".join(each.what.format(name=info.name, path=path) for each in layouts)
        + f". Found there: {first_few(names) or 'nothing'}"
        + "".join(f"; in {name}: {first_few(_names_in(path / name))}" for name in unpacked)
        + (f"; unpack {packed[0]} first" if packed else "")
        + (f"; name {path.parent} instead" if _is_above(path, layouts, info) else "")
    )


def _names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir() if not each.name.startswith("."))


def _is_above(path: Path, layouts: Sequence["_Layout"], info: DatasetInfo) -> bool:
    """Whether the folder that holds this one has a layout of an archive."""
    return any(layout.below and layout.is_at(path.resolve().parent, info) for layout in layouts)


def _read_cifar(read: Callable[..., Images], wanted: _Wanted) -> Images:
    return _select(read(wanted.root, "train" if wanted.part == "pool" else "test"), wanted.choose)


def _read_tfds(wanted: _Wanted) -> Images:
    info = wanted.info
    images = tfds(info.name, split=str(getattr(info, wanted.part)), data_dir=wanted.root)
    return _select(images, wanted.choose)


def _select(images: Images, choose: Choose | None) -> Images:
    if choose is None:
        return images
    return select(images, np.sort(choose(images.ids, images.labels)))


def _read_folders(wanted: _Wanted) -> Images:
    own = getattr(wanted.info, wanted.part)
    names = [own, "train"] if wanted.part == "pool" else [own, "test", "val", "validation"]
    places = [wanted.root / name for name in names if name]
    place = next((place for place in places if place.is_dir()), places[0])
    return _read_folder(place, wanted.choose, wanted)


def _read_lists(images: str, pool: str | None, test: str | None, wanted: _Wanted) -> Images:
    """The images of one folder that a list names. pool: None: all but the test images. test: None:
    what the data set says."""
    place, name = wanted.root / images, pool if wanted.part == "pool" else None
    excluded = wanted.part == "pool" and name is None
    name = name or test or wanted.info.test
    # Some copies of MIT-67 have the lists beside the folder of the archive.
    lists = [folder / name for folder in (wanted.root, wanted.path)]
    path = next((each for each in lists if each.is_file()), lists[0])

    def choose(ids: tuple[str, ...], labels: np.ndarray) -> np.ndarray:
        rows = np.flatnonzero(_listed(path, place, ids) ^ excluded)
        if wanted.choose is None:
            return rows
        return rows[np.asarray(wanted.choose(tuple(ids[row] for row in rows), labels[rows]))]

    return _read_folder(place, choose, wanted)


def _listed(path: Path, place: Path, ids: tuple[str, ...]) -> np.ndarray:
    """Which images a list names, with or without the end of their names: bool [N]."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no list of the images, {path}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, as a list of images must be") from error
    names = {line.strip() for line in lines if line.strip()}
    found = np.array([bool({name, name.rpartition(".")[0]} & names) for name in ids], bool)
    there = {form for name in ids for form in (name, name.rpartition(".")[0])}
    # What is there but cannot be opened is reported, or left out, as damaged.
    missing = sorted(
        name
        for name in names - there
        if not any(os.path.lexists(place / f"{name}{end}") for end in ("", ".jpg"))
    )
    if missing:
        raise ValueError(
            f"{path} lists {len(missing)} images that are missing: {first_few(missing)}"
        )
    return found


def _read_folder(path: Path, choose: Choose | None, wanted: _Wanted) -> Images:
    """The chosen images of a folder; for damaged ones that are left out, others are chosen."""
    damaged: set[str] = set()
    seen: set[str] = set()

    def of_sound(ids: tuple[str, ...], labels: np.ndarray) -> np.ndarray:
        assert choose is not None
        seen.update(ids)
        unusable = np.array([name in damaged for name in ids], bool)
        rows = np.asarray(choose(ids, np.where(unusable, -1, labels)), int)
        return rows[~unusable[rows]]

    while True:
        images = folder(
            path,
            labelled=True,
            choose=of_sound if choose else None,
            skip_damaged=wanted.skip_damaged,
            progress=wanted.progress,
        )
        further = seen.intersection(images.skipped)
        if not further - damaged:
            return replace(
                images,
                name=f"{wanted.info.name} {wanted.part}",
                skipped=tuple(sorted({*images.skipped, *damaged})),
            )
        damaged |= further


_CIFAR = (
    _Layout(
        "cifar-100-binary/, with train.bin and test.bin",
        "cifar-100-binary",
        lambda root, _: (root / "train.bin").is_file(),
        partial(_read_cifar, cifar.binary),
    ),
    _Layout(
        "cifar-100-python/, with train, test and meta",
        "cifar-100-python",
        lambda root, _: (root / "train").is_file(),
        partial(_read_cifar, cifar.python),
    ),
)
_FOOD = _Layout(
    "food-101/, with images/ and meta/",
    "food-101",
    lambda root, _: (root / "images").is_dir() and (root / "meta").is_dir(),
    partial(_read_lists, "images", "meta/train.txt", "meta/test.txt"),
)
_LIST = _Layout(
    "Images/, with a directory a class, and a list of the test images beside it",
    "indoorCVPR_09",
    lambda root, _: (root / "Images").is_dir(),
    partial(_read_lists, "Images", None, None),
)
_FOLDERS = _Layout(
    "train/ and test/, each with a directory a class",
    "",
    lambda root, info: (root / (info.pool or "train")).is_dir(),
    _read_folders,
)
_TFDS = _Layout(
    "{name}/, which `tfds build {name} --file_format=array_record --data_dir={path}` prepares",
    "",
    lambda root, info: (root / re.split("[:/]", info.name)[0]).is_dir(),
    _read_tfds,
)
_LAYOUTS = {
    "cifar100": (*_CIFAR, _FOLDERS, _TFDS),
    "food101": (_FOOD, _FOLDERS, _TFDS),
    "imagenet100": (_FOLDERS,),
    "mit67": (_LIST, _FOLDERS),
}
_OWN = {"tfds": _TFDS, "folders": _FOLDERS, "list": _LIST}
