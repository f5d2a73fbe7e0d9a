"""NumPy files of images: what their shapes mean, and files that lie."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from balal import data
from balal.cli import remarks

CHANCE = np.random.default_rng(0)
PIXELS = CHANCE.integers(0, 256, size=(5, 4, 6, 3), dtype=np.uint8)


def saved(tmp_path: Path, **arrays) -> Path:
    np.savez_compressed(tmp_path / "set.npz", **arrays)
    return tmp_path / "set.npz"


def header(text: str) -> bytes:
    """The beginning of an .npy file with that header."""
    line = text.encode() + b" " * (117 - len(text)) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(line).to_bytes(2, "little") + line


def test_an_npz_gives_images_labels_ids_and_names(tmp_path):
    names = np.array(["cat", "dog"])
    path = saved(
        tmp_path,
        images=PIXELS,
        labels=np.array([0, 1, -1, 1, 0]),
        ids=np.array(list("vwxyz")),
        class_names=names,
    )
    found = data.arrays(path)
    assert (found.name, found.ids, found.class_names) == (
        "set",
        ("v", "w", "x", "y", "z"),
        ("cat", "dog"),
    )
    assert (found.labels.tolist(), found.labels.dtype) == ([0, 1, -1, 1, 0], np.int32)
    np.testing.assert_array_equal(next(data.batches(found, 5)).images, PIXELS)


def test_what_an_npz_does_not_say_is_counted(tmp_path):
    found = data.arrays(saved(tmp_path, images=PIXELS, labels=np.array([2, 0, 0, 0, 0])))
    assert (found.ids, found.class_names) == (("0", "1", "2", "3", "4"), ("0", "1", "2"))
    found = data.arrays(saved(tmp_path, images=PIXELS, ids=np.arange(5) + 100))
    assert (found.ids, found.labels.tolist(), found.class_names) == (
        ("100", "101", "102", "103", "104"),
        [-1] * 5,
        (),
    )


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1)])
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_grey_becomes_three_equal_channels(tmp_path, shape, kind):
    grey = PIXELS[..., 0].reshape(shape)
    np.save(tmp_path / "set.npy", grey)
    found = data.arrays(tmp_path / "set.npy" if kind == "npy" else saved(tmp_path, images=grey))
    image = found.read(3)
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    np.testing.assert_array_equal(image, np.repeat(PIXELS[3, :, :, :1], 3, axis=2))


def test_an_npy_is_mapped_and_read_row_by_row(tmp_path):

    whole = np.lib.format.open_memmap(
        tmp_path / "set.npy", mode="w+", dtype=np.uint8, shape=(3, 4, 6, 3)
    )
    whole[:] = PIXELS[:3]
    whole.flush()
    np.save(tmp_path / "labels.npy", np.array([1, 0, 1]))
    found = data.arrays(tmp_path / "set.npy", labels=str(tmp_path / "labels.npy"))
    image = found.read(2)
    assert image.flags.owndata
    assert image.flags.writeable
    np.testing.assert_array_equal(image, PIXELS[2])
    assert found.labels.tolist() == [1, 0, 1]


def test_a_choice_of_arrays_is_left_to_the_caller(tmp_path):
    path = saved(
        tmp_path, x_train=PIXELS, y_train=np.arange(5), x_test=PIXELS[:2], y_test=np.arange(2)
    )
    with pytest.raises(
        ValueError,
        match=r"holds the images: x_train \(5, 4, 6, 3\), y_train \(5,\), .*; save it under the "
        r"name images, or in Python",
    ):
        data.arrays(path)
    with pytest.raises(ValueError, match="has no array 'y'; it has x_train"):
        data.arrays(path, images="x_train", labels="y")
    found = data.arrays(path, images="x_test", labels="y_test")
    assert (len(found), found.labels.tolist()) == (2, [0, 1])
    assert len(data.arrays(saved(tmp_path, x=PIXELS, y=np.arange(5)))) == 5


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (PIXELS.astype(np.float32) / 255, "must be uint8, 0 to 255, got float32 in .*: round "
                                          "values between 0 and 1 after multiplying"),
        (PIXELS.astype(np.uint16), "must be uint8, 0 to 255, got uint16 in .*: scale them to 0 to "
                                   "255"),
        (PIXELS.transpose(0, 3, 1, 2), r"got \(5, 3, 4, 6\) in .*; channels first: transpose them "
                                       r"to the end"),
        (np.zeros((5, 4, 6, 4), np.uint8), r"got \(5, 4, 6, 4\) in .*; remove a fourth, "
                                           r"transparent channel"),
        (PIXELS[0], r"got \(4, 6, 3\) in .*; a single image is \[1, h, w, 3\]"),
        (PIXELS[:0], r"there are no images in .*: the shape is \(0, 4, 6, 3\)"),
        (PIXELS[:, :0], r"there are no images in .*: the shape is \(5, 0, 6, 3\)"),
    ],
)  # fmt: skip
def test_what_is_not_an_array_of_images_is_refused_with_what_to_do(tmp_path, pixels, told):
    np.save(tmp_path / "set.npy", pixels)
    for path in (tmp_path / "set.npy", saved(tmp_path, images=pixels)):
        with pytest.raises(ValueError, match=told):
            data.arrays(path)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"labels": np.arange(4)}, r"labels of .* must be one whole number an image, \[5\], got "
                                   r"int64 \(4,\)"),
        ({"labels": np.eye(5)}, r"got float64 \(5, 5\)"),
        ({"labels": np.array([0, 1, -2, 0, 0])}, "must be class ids from 0, or -1 for none, got "
                                                 "-2 to 1"),
        ({"labels": np.array([0, 1, 2**40, 0, 0])}, "got 0 to 1099511627776"),
        ({"labels": np.array([0, 1, 2**31 - 2, 0, 0])}, "number the classes 0, 1, 2, .*, at most "
                                                        "1000000$"),
        # A thousand of them are packed into one byte.
        ({"class_names": np.zeros(2_000_000, "S1")}, "has 2000000 class names, more than 1000000"),
        ({"labels": np.arange(5), "class_names": np.array(["a"])}, "must lie between -1 and 0, "
                                                                   "its last class, but 1 does "
                                                                   "not"),
        ({"ids": np.array(list("aabcd"))}, "some are repeated in set: a"),
        ({"ids": np.arange(3)}, r"ids of .* must be strings or whole numbers, \[5\], got int64 "
                                r"\(3,\)"),
        ({"ids": np.array([b"\xff"] * 5)}, "ids of .* must be UTF-8"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_images_is_refused(tmp_path, more, told):
    with pytest.raises(ValueError, match=told):
        data.arrays(saved(tmp_path, images=PIXELS, **more))


def test_names_of_arrays_reach_no_terminal_as_they_are(tmp_path):
    path = saved(tmp_path, **{"\x1b[31m": PIXELS, "b": PIXELS})
    with pytest.raises(ValueError, match=r": \\x1b\[31m \(5, 4, 6, 3\), b \(5, 4, 6, 3\); save it"):
        data.arrays(path)


def test_objects_are_never_unpickled(tmp_path):
    things = np.array([print, None], dtype=object)
    np.save(tmp_path / "set.npy", things, allow_pickle=True)
    with pytest.raises(ValueError, match=r"set\.npy .* it holds Python objects"):
        data.arrays(tmp_path / "set.npy")
    with pytest.raises(
        ValueError,
        match="array 'labels': it holds Python objects: save it again as an array of numbers",
    ):
        data.arrays(saved(tmp_path, images=PIXELS, labels=things))


def test_a_zip_bomb_is_refused_by_what_it_claims(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as file,
        file.open("images.npy", "w") as member,
    ):
        member.write(
            header("{'descr': '|u1', 'fortran_order': False, 'shape': (64, 1024, 1024, 1)}")
        )
        for _ in range(64):
            member.write(bytes(2**20))
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(
        ValueError,
        match=r"claims 67108864 bytes, more than 16777216; if that is right, .* in Python pass a "
        r"larger largest=",
    ):
        data.arrays(tmp_path / "bomb.npz", largest=2**24)


@pytest.mark.parametrize(
    "shape",
    [
        "(1000000000000, 32, 32, 3)",
        "(4611686018427387904, 4, 1, 3)",
        "(1, 2, 99, 3)",
        "(-1, 2, 99, 3)",
    ],
)
def test_a_header_that_claims_more_than_there_is_reserves_nothing(tmp_path, shape):
    content = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}") + bytes(100)
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as file:
        file.writestr("images.npy", content)
    with pytest.raises(ValueError, match="array 'images': it has 228 bytes, but its header says"):
        data.arrays(tmp_path / "set.npz")
    (tmp_path / "set.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"set\.npy .* it has 228 bytes, but its header says"):
        data.arrays(tmp_path / "set.npy")


def test_every_cut_of_a_file_is_reported_in_one_sentence(tmp_path):
    np.save(tmp_path / "whole.npy", PIXELS)
    for whole in (
        saved(tmp_path, images=PIXELS, labels=np.arange(5)).read_bytes(),
        (tmp_path / "whole.npy").read_bytes(),
    ):
        for kept in {*range(0, 140), *range(140, len(whole), 11)}:
            (tmp_path / "cut").write_bytes(whole[:kept])
            with pytest.raises(ValueError, match=r"cut is not an \.npy or \.npz file of images"):
                data.arrays(tmp_path / "cut")


def test_damage_within_a_zip_is_found(tmp_path):
    broken = bytearray(saved(tmp_path, images=PIXELS).read_bytes())
    broken[len(broken) // 2] ^= 255
    (tmp_path / "set.npz").write_bytes(broken)
    with pytest.raises(ValueError, match=r"set\.npz is not .*, or is damaged"):
        data.arrays(tmp_path / "set.npz")


def test_other_files_are_refused_by_their_beginning(tmp_path):
    (tmp_path / "set.npz").write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(ValueError, match=r"it is neither an \.npy nor an \.npz file"):
        data.arrays(tmp_path / "set.npz")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        data.arrays(tmp_path / "none.npz")


def test_the_fingerprint_covers_every_pixel_and_label(tmp_path):
    labels = np.array([0, 1, 0, 1, 0])
    first = data.arrays(saved(tmp_path, images=PIXELS, labels=labels)).fingerprint
    assert (
        data.arrays(
            saved(tmp_path, labels=labels.astype(np.uint8), images=np.asfortranarray(PIXELS))
        ).fingerprint
        == first
    )
    other = PIXELS.copy()
    other[4, 3, 5, 2] ^= 1
    assert data.arrays(saved(tmp_path, images=other, labels=labels)).fingerprint != first
    assert data.arrays(saved(tmp_path, images=PIXELS, labels=1 - labels)).fingerprint != first


@pytest.mark.data
def test_the_shared_cifar_pool_is_read_in_its_order(shared):
    found = data.arrays(shared / "data" / "cifar100_pool_images.npz")
    assert len(found) == 17168
    assert found.read(0).shape == (32, 32, 3)
    assert np.bincount(found.labels).tolist() == list(data.info("cifar100").counts)


def test_labels_that_count_from_one_are_told(tmp_path):
    pixels = np.arange(4 * 12, dtype=np.uint8).reshape(4, 2, 2, 3)
    content = dict(images=pixels, labels=np.array([1, 2, 2, 3]))
    np.savez(tmp_path / "a.npz", **content)
    found = data.arrays(tmp_path / "a.npz")
    assert found.empty_classes == ("0",)
    assert "(1): 0. Labels count from 0: subtract 1 if yours" in remarks.without_images(found)
    np.savez(tmp_path / "b.npz", class_names=np.array(["a", "b", "c"]), **content)
    with pytest.raises(
        ValueError, match="are they counted from 1\\? Then subtract 1; look at rows"
    ):
        data.arrays(tmp_path / "b.npz")


def test_a_number_that_is_no_class_id_is_refused_before_names_are_made(tmp_path):
    pixels = np.zeros((2, 2, 2, 3), np.uint8)
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.array([7, 20_260_101]))
    with pytest.raises(ValueError, match=r"or -1 for none, got 7 to 20260101; number the classes"):
        data.arrays(tmp_path / "a.npz")


def test_copies_are_known_by_their_pixels(tmp_path):
    pixels = np.array([1, 2, 1], np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    first, second, third = data.arrays(tmp_path / "a.npy").contents
    assert first == third != second
