"""The paper's data sets: their figures, and their parts on disk."""

import json
import pickle
import struct
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from PIL import Image

import balal
from balal import data
from balal.cli import image_options, images, inputs
from balal.data import paper_datasets

EMBEDDED = Path(__file__).parent.parent / "experiments" / "data"
NAMES = {
    "cifar100": "CIFAR-100",
    "food101": "Food-101",
    "imagenet100": "IMN-100",
    "mit67": "MIT-67",
}


@pytest.mark.parametrize("name", NAMES)
def test_counts_have_the_figures_of_the_papers_first_table(name):
    known = data.info(name)
    printed = json.loads((EMBEDDED / "aggarwal_tables.json").read_text())["table1"][NAMES[name]]
    sizes = np.array(known.counts)
    assert len(sizes) == known.num_classes == printed["classes"]
    assert sizes.sum() == printed["images"]
    # Printed figures are cut or rounded.
    assert sizes.mean() == pytest.approx(printed["mean"], abs=0.01)
    assert sizes.std() == pytest.approx(printed["std"], abs=0.01)
    assert float(balal.metrics.imbalance_ratio(sizes)) == pytest.approx(printed["ir"], abs=0.001)


def test_counts_are_those_that_the_experiments_embed(embedded):
    stored = json.loads((EMBEDDED / "induced_counts.json").read_text())
    for name in NAMES:
        assert data.info(name).counts == tuple(stored[name.replace("imagenet", "imn")]["counts"])
    _, _, labels = embedded
    assert np.bincount(labels).tolist() == list(data.info("cifar100").counts)


def test_small_images_are_seen_whole():
    assert data.info("cifar100").crop == "whole"
    assert {data.info(name).crop for name in ("food101", "imagenet100", "mit67")} == {"centre"}


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(
        ValueError,
        match="there is no data set 'cifar10'; there are cifar100, food101, imagenet100, mit67",
    ):
        data.info("cifar10")


def scenes(place: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (place / name).mkdir(parents=True)
        for number in range(size):
            Image.new("RGB", (2, 2), (number, 0, 0)).save(place / name / f"{number}.png")


def test_a_list_of_test_images_leaves_the_rest_to_the_pool(tmp_path):
    scenes(tmp_path / "Images", {"attic": 3, "bar": 2})
    (tmp_path / "TestImages.txt").write_text("attic/1.png\nbar/0.png\n")
    known = data.DatasetInfo("two_scenes", 2, "list", None, "TestImages.txt", "centre", (1, 1))
    test, pool = (data.load(known, tmp_path, part=part) for part in ("test", "pool"))
    assert (test.ids, test.labels.tolist()) == (("attic/1.png", "bar/0.png"), [0, 1])
    assert (pool.ids, pool.labels.tolist()) == (
        ("attic/0.png", "attic/2.png", "bar/1.png"),
        [0, 0, 1],
    )
    assert pool.read(1)[0, 0].tolist() == [2, 0, 0]
    unbalanced = data.select(
        pool, balal.imbalance.subsample(jax.random.key(0), pool.labels, np.array(known.counts))
    )
    assert np.bincount(unbalanced.labels).tolist() == [1, 1]
    (tmp_path / "TestImages.txt").write_text("attic/9.png\n")
    with pytest.raises(
        ValueError, match=r"TestImages\.txt lists 1 images that are missing: attic/9\.png"
    ):
        data.load(known, tmp_path, part="test")


def test_parts_may_be_folders_side_by_side(tmp_path):
    scenes(tmp_path / "train", {"attic": 3, "bar": 2})
    scenes(tmp_path / "test", {"attic": 1, "bar": 1})
    known = data.DatasetInfo("two_scenes", 2, "folders", "train", "test", "centre")
    assert [len(data.load(known, tmp_path, part=part)) for part in ("pool", "test")] == [5, 2]
    with pytest.raises(ValueError, match="imagenet100 has 100 classes, but 2 were found in"):
        data.load(data.info("imagenet100"), tmp_path, part="pool")
    (tmp_path / "test").rename(tmp_path / "val")
    assert len(data.load(known, tmp_path, part="test")) == 2


# The official archives, in small.


def classes_of(name: str) -> list[str]:
    return [f"c{label:03}" for label in range(data.info(name).num_classes)]


def cifar(place: Path, version: str, rows: int = 6) -> np.ndarray:
    """A split of so many images with labels 0, 1, ..., and their pixels, [N, 3, 32, 32]."""
    root, names = place / f"cifar-100-{version}", classes_of("cifar100")
    root.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 3, 32, 32), np.uint8)
    for split in ("train", "test"):
        if version == "binary":
            labels = np.stack([np.full(rows, 9), np.arange(rows)], axis=1).astype(np.uint8)
            records = np.concatenate([labels, pixels.reshape(rows, -1)], axis=1)
            (root / f"{split}.bin").write_bytes(records.tobytes())
        else:
            array = pickled_array(pixels.reshape(rows, -1))
            content = [(b"fine_labels", pickled_list(list(range(rows)))), (b"data", array)]
            (root / split).write_bytes(pickled_dict(content))
    if version == "binary":
        (root / "fine_label_names.txt").write_text("\n".join(names) + "\n")
    else:
        encoded = pickled_list([name.encode() for name in names])
        (root / "meta").write_bytes(pickled_dict([(b"fine_label_names", encoded)]))
    return pixels


# As Python 2 wrote them: text is bytes (U and T), nothing else is like the pickles of today.


def pickled(value: int | bytes) -> bytes:
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    return b"U" + bytes([len(value)]) + value


def pickled_list(values: list) -> bytes:
    return b"]q\x01(" + b"".join(map(pickled, values)) + b"e"


def pickled_dict(items: list[tuple[bytes, bytes]]) -> bytes:
    inside = b"".join(pickled(key) + value for key, value in items)
    return b"\x80\x02}q\x00(" + inside + b"u."


def pickled_array(values: np.ndarray) -> bytes:
    content, (rows, columns) = values.tobytes(), values.shape
    dtype = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNN"
    dtype += 2 * pickled(-1) + b"K\x00tb"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01"
        + pickled(rows)
        + pickled(columns)
        + b"\x86"
        + dtype
        + b"\x89T"
        + struct.pack("<i", len(content))
        + content
        + b"tb"
    )


@pytest.mark.parametrize("version", ["binary", "python"])
@pytest.mark.parametrize("named", ["archive", "parent"])
def test_cifar_is_read_as_its_archives_lie(tmp_path, version, named):
    pixels = cifar(tmp_path, version)
    place = tmp_path / f"cifar-100-{version}" if named == "archive" else tmp_path
    found = data.load(data.info("cifar100"), place, part="pool")
    assert (found.ids[:2], found.labels.tolist()) == (("train/0", "train/1"), [0, 1, 2, 3, 4, 5])
    assert found.class_names[5] == "c005"
    np.testing.assert_array_equal(found.read(4), pixels[4].transpose(1, 2, 0))
    chosen = data.load(data.info("cifar100"), place, part="test", choose=lambda _, rows: rows[3:])
    assert chosen.ids == ("test/3", "test/4", "test/5")


def test_both_versions_of_cifar_are_the_same_set(tmp_path):
    for version in ("binary", "python"):
        cifar(tmp_path / version, version)
    binary, python = (
        data.load(data.info("cifar100"), tmp_path / version, part="pool")
        for version in ("binary", "python")
    )
    assert binary.fingerprint == python.fingerprint


def test_both_tools_read_the_same_pickle(tmp_path):
    """What these tests write is what Python's own module takes for a pickle of Python 2."""
    pixels = cifar(tmp_path, "python", rows=2)
    content = (tmp_path / "cifar-100-python" / "train").read_bytes()
    found = pickle.loads(content, encoding="latin1")
    assert found["fine_labels"] == [0, 1]
    np.testing.assert_array_equal(found["data"], pixels.reshape(2, -1))


BAD_PICKLES = {
    "a program": (b"cos\nsystem\nU\x04true\x85R.", "it names 'os.system', which is not looked up"),
    "a program by its parts": (b"U\x02osU\x06system\x93.", "it names 'os.system', which"),
    "an instance": (
        b"(U\x04trueios\nsystem\n.",
        "the pickle instruction INST, which its data do not need",
    ),
    "an object": (b"cnumpy\nndarray\n)\x81.", "the pickle instruction NEWOBJ"),
    "other numbers": (
        b"cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R.",
        "it holds something else than bytes",
    ),
    "a nested shape": (
        b"cnumpy.core.multiarray\n_reconstruct\nK\x00\x85R"
        b"(K\x01K\x01\x85\x85U\x05dtype\x89U\x00tb.",
        "expected a whole number, got a tuple",
    ),
    "nothing": (b"", "pickle exhausted before seeing STOP"),
    "half": (pickled_dict([(b"data", pickled(b"x"))])[:-3], "or damaged"),
    "a list": (pickled_list([1]) + b".", "expected a dictionary, got a list"),
    "another set": (pickled_dict([(b"labels", pickled_list([1]))]), "and holds labels"),
    "a length that lies": (b"T\xff\xff\xff\x7fabc.", "or damaged"),
    "a key that is a list": (b"}]K\x01s.", "a dictionary with a list as a key"),
    "too few pixels": (
        pickled_dict(
            [
                (b"fine_labels", pickled_list([0, 1])),
                (b"data", pickled_array(np.zeros((1, 3072), np.uint8))),
            ]
        ),
        r"3072 bytes for each of its 2 labels, but its data are \(1, 3072\)",
    ),
}


@pytest.mark.parametrize(("content", "told"), BAD_PICKLES.values(), ids=BAD_PICKLES)
def test_nothing_in_a_pickle_is_run(tmp_path, content, told):
    cifar(tmp_path, "python", rows=1)
    (tmp_path / "cifar-100-python" / "train").write_bytes(content)
    with pytest.raises(ValueError, match=told):
        data.load(data.info("cifar100"), tmp_path, part="pool")


def test_a_cut_file_of_cifar_is_refused(tmp_path):
    cifar(tmp_path, "binary")
    path = tmp_path / "cifar-100-binary" / "train.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"records of 3074 bytes, but has 18443 bytes: unpack"):
        data.load(data.info("cifar100"), tmp_path, part="pool")
    (path.parent / "fine_label_names.txt").write_text("apple\n")
    with pytest.raises(ValueError, match="has a class 5, but there are only 1 names of classes"):
        data.load(data.info("cifar100"), tmp_path, part="test")
    (path.parent / "fine_label_names.txt").unlink()
    with pytest.raises(ValueError, match=r"there is no file .*fine_label_names\.txt: unpack the"):
        data.load(data.info("cifar100"), tmp_path, part="test")


@pytest.fixture
def food(tmp_path) -> Path:
    """Food-101 as its archive lies, with three images of a class, of which one is for testing."""
    root, names = tmp_path / "food-101", classes_of("food101")
    scenes(root / "images", dict.fromkeys(names, 3))
    (root / "meta").mkdir()
    for part, numbers in (("train", (0, 2)), ("test", (1,))):
        lines = [f"{name}/{number}" for name in names for number in numbers]
        (root / "meta" / f"{part}.txt").write_text("\n".join(lines))
    return tmp_path


def test_food_is_read_as_its_archive_lies(food):
    pool, test = (data.load(data.info("food101"), food, part=part) for part in ("pool", "test"))
    assert (len(pool), pool.ids[:2]) == (202, ("c000/0.png", "c000/2.png"))
    assert (len(test), test.ids[0], test.labels[-1]) == (101, "c000/1.png", 100)
    assert data.load(data.info("food101"), food / "food-101", part="test").ids == test.ids


def test_only_what_the_profile_keeps_is_opened_and_damage_is_drawn_again(food):
    root = food / "food-101" / "images"
    for name in ("c000/1.png", "c007/0.png", "c008/2.png"):
        (root / name).write_bytes(b"damaged")
    opened = []

    def choose(ids, labels):
        """Of each class the first."""
        return [int(np.flatnonzero(labels == label)[0]) for label in range(101)]

    options = dict(part="pool", choose=choose, progress=lambda done, of: opened.append(of))
    with pytest.raises(ValueError, match=r"1 of the files .* cannot be used: c007/0\.png"):
        data.load(data.info("food101"), food, **options)
    assert set(opened) == {101}, "two hundred images of the pool and the test images are not opened"
    found = data.load(data.info("food101"), food, **options, skip_damaged=True)
    assert found.skipped == ("c007/0.png",)
    assert (len(found), found.ids[7:9]) == (101, ("c007/2.png", "c008/0.png"))


def test_a_program_opens_only_the_pool_that_it_draws(food, monkeypatch):
    monkeypatch.setitem(paper_datasets._COUNTS, "food101", " ".join(["1"] * 101))
    flag_values = flags.FlagValues()
    image_options.define_flags(flag_values)
    flag_values(["program", "--dataset=food101", f"--data_dir={food}"])
    options = image_options.read_options(flag_values)
    assert inputs.asked_once(inputs.read(options, None), {}).any(), "and all of it may be asked"
    pool = images.read_pool(options, key=jax.random.key(0))
    whole = data.load(data.info("food101"), food, part="pool")
    drawn = balal.imbalance.subsample(jax.random.key(0), whole.labels, np.ones(101, int))
    assert pool.ids == data.select(whole, drawn).ids
    (food / "food-101" / "images" / whole.ids[drawn[0] ^ 1]).write_bytes(b"damaged")
    assert images.read_pool(options, key=jax.random.key(0)).ids == pool.ids
    assert len(images.read_tests(options, class_names=pool.class_names)) == 101
    with pytest.raises(
        ValueError, match="the test set must have the classes of the pool, but only"
    ):
        images.read_tests(options, class_names=("c000",))
    monkeypatch.setitem(paper_datasets._COUNTS, "food101", " ".join(["9"] * 101))
    with pytest.raises(ValueError, match=r"drawn from food101 in .*, which is not whole: 101 cl"):
        images.read_pool(options, key=jax.random.key(0))


def test_scenes_are_read_with_their_lists_beside_the_folder_of_the_archive(tmp_path):
    names = classes_of("mit67")
    scenes(tmp_path / "indoorCVPR_09" / "Images", dict.fromkeys(names, 2))
    lines = [f"{name}/1.png" for name in names]
    (tmp_path / "TestImages.txt").write_bytes(
        "\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode()
    )
    pool, test = (data.load(data.info("mit67"), tmp_path, part=part) for part in ("pool", "test"))
    assert (len(pool), pool.ids[0]) == (67, "c000/0.png")
    assert (len(test), test.ids[0]) == (67, "c000/1.png")
    (tmp_path / "TestImages.txt").write_bytes(b"\xff\xfe\xe9")
    with pytest.raises(ValueError, match=r"TestImages\.txt is not UTF-8 text"):
        data.load(data.info("mit67"), tmp_path, part="test")


@pytest.mark.parametrize("name", NAMES)
def test_where_no_layout_is_found_all_that_would_do_are_named(tmp_path, name):
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(b"?")
    with pytest.raises(
        FileNotFoundError, match=f"{name} is not in .* train/ and test/, each"
    ) as error:
        data.load(data.info(name), tmp_path, part="pool")
    told = str(error.value)
    assert told.endswith(
        "Found there: cifar-100-binary.tar.gz; unpack cifar-100-binary.tar.gz first"
    )
    assert ("cifar-100-python/" in told) == (name == "cifar100")
    assert (f"tfds build {name}" in told) == (name in ("cifar100", "food101"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        data.load(data.info(name), tmp_path / "nothing", part="pool")
    with pytest.raises(NotADirectoryError, match=r"tar\.gz is a file: name the folder that holds"):
        data.load(data.info(name), tmp_path / "cifar-100-binary.tar.gz", part="pool")


def test_a_folder_of_the_archive_is_told_to_be_one(tmp_path):
    (tmp_path / "food-101" / "images").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"Found there: food-101; in food-101: images$"):
        data.load(data.info("food101"), tmp_path, part="pool")
    (tmp_path / "food-101" / "meta").mkdir()
    with pytest.raises(FileNotFoundError, match=r"; name .*/food-101 instead$"):
        data.load(data.info("food101"), tmp_path / "food-101" / "images", part="pool")
