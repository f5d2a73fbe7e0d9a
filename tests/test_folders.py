"""Folders of photographs: what becomes of good, odd and hostile files."""

import io
import os
import struct
import tempfile
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from balal import data
from balal.cli import images
from balal.folder_lock import locked


def photo(width: int = 40, height: int = 24) -> Image.Image:
    """A smooth picture, the same every time: red grows to the right, green downwards."""
    across, down = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return Image.fromarray(
        np.stack([across, down, np.full_like(across, 60)], axis=2).astype(np.uint8)
    )


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def claiming(width: int, height: int) -> bytes:
    """A PNG file of a hundred bytes whose header says it has so many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + name
            + content
            + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 50))
        + chunk(b"IEND", b"")
    )


JPEG = encoded(photo(), "JPEG", quality=95)


@pytest.fixture
def pets(tmp_path) -> Path:
    """Two classes of two photographs each."""
    for name in ("dog/b.jpg", "dog/a.jpg", "cat/z.png", "cat/y.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encoded(photo(), "PNG") if name.endswith("png") else JPEG)
    return tmp_path


def test_directories_are_classes_in_the_order_of_their_names(pets):
    (pets / "ape").mkdir()
    found = data.folder(pets)
    assert found.ids == ("cat/y.jpg", "cat/z.png", "dog/a.jpg", "dog/b.jpg")
    assert found.class_names == ("ape", "cat", "dog")
    assert found.labels.tolist() == [1, 1, 2, 2]
    assert found.labels.dtype == np.int32
    assert (found.name, found.skipped, len(found)) == (pets.name, (), 4)
    np.testing.assert_array_equal(found.read(1), np.asarray(photo()))


def test_images_that_lie_in_the_folder_itself_are_unlabelled(tmp_path):
    (tmp_path / "one.jpg").write_bytes(JPEG)
    found = data.folder(tmp_path)
    assert (found.ids, found.labels.tolist(), found.class_names) == (("one.jpg",), [-1], ())
    for skip_damaged in (False, True):
        with pytest.raises(
            ValueError,
            match=r"must have a directory for each class, but holds only files \(one\.jpg, \.\.\.",
        ):
            data.folder(tmp_path, labelled=True, skip_damaged=skip_damaged)


def test_labelled_false_takes_every_image_below(pets):
    (pets / "dog" / "young").mkdir()
    (pets / "dog" / "young" / "c.jpg").write_bytes(JPEG)
    (pets / "stray.jpg").write_bytes(JPEG)
    found = data.folder(pets, labelled=False)
    assert found.ids == (
        "cat/y.jpg",
        "cat/z.png",
        "dog/a.jpg",
        "dog/b.jpg",
        "dog/young/c.jpg",
        "stray.jpg",
    )
    assert set(found.labels.tolist()) == {-1}


def test_files_beside_directories_are_a_question_not_a_guess(pets):
    (pets / "stray.jpg").write_bytes(JPEG)
    message = (
        r"both files \(stray\.jpg, \.\.\.\) and directories \(cat, \.\.\.\): move the files away "
        r".*, use labelled=False"
    )
    with pytest.raises(ValueError, match=message):
        data.folder(pets)
    with pytest.raises(ValueError, match=r"stray\.jpg \(it is not in the directory of a class\)"):
        data.folder(pets, labelled=True)
    assert data.folder(pets, labelled=True, skip_damaged=True).skipped == ("stray.jpg",)


def test_a_directory_may_be_called_like_an_image(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    (tmp_path / "x.jpg" / "one.jpg").write_bytes(JPEG)
    found = data.folder(tmp_path)
    assert (found.ids, found.class_names) == (("x.jpg/one.jpg",), ("x.jpg",))


def test_classes_without_images_are_known_whether_empty_or_all_damaged(pets):
    (pets / "ape").mkdir()
    (pets / "bat").mkdir()
    (pets / "bat" / "Thumbs.db").write_bytes(b"?")
    (pets / "cow").mkdir()
    (pets / "cow" / "a.jpg").write_bytes(b"")
    found = data.folder(pets, skip_damaged=True)
    assert found.empty_classes == ("ape", "bat", "cow")
    told = images.without_images(found)
    assert told == "\nClasses without images (3): ape, bat, cow (all damaged)."
    assert images.without_images(data.folder(pets / "dog")) == ""


def test_classes_with_names_that_look_alike_are_told(pets):
    (pets / "Cat").mkdir()
    (pets / "Cat" / "a.jpg").write_bytes(JPEG)
    assert "look alike (1): 'Cat' and 'cat'." in images.left_out(data.folder(pets))


def test_only_what_is_chosen_is_opened(pets):
    (pets / "cat" / "a.jpg").write_bytes(b"damaged")
    asked = []

    def choose(ids, labels):
        asked.append((ids, labels.tolist()))
        return [4, 1]

    found = data.folder(pets, choose=choose)
    assert asked == [
        (("cat/a.jpg", "cat/y.jpg", "cat/z.png", "dog/a.jpg", "dog/b.jpg"), [0, 0, 0, 1, 1])
    ]
    assert (found.ids, found.labels.tolist()) == (("cat/y.jpg", "dog/b.jpg"), [0, 1])
    with pytest.raises(ValueError, match=r"cat/a\.jpg \(it is not an image"):
        data.folder(pets, choose=lambda ids, _: range(len(ids)))


def test_what_lies_in_one_directory_stays_together(tmp_path):
    for name in ("a", "a b", "a-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(JPEG)
    assert data.folder(tmp_path).labels.tolist() == [0, 1, 2]


def test_hidden_files_are_not_looked_at(pets):
    (pets / ".DS_Store").write_bytes(b"?")
    (pets / "cat" / "._y.jpg").write_bytes(b"?")
    (pets / ".thumbnails").mkdir()
    assert len(data.folder(pets)) == 4


def test_all_damaged_files_are_listed_at_once(pets):
    (pets / "cat" / "cut.jpg").write_bytes(JPEG[: len(JPEG) // 2])
    (pets / "cat" / "text.jpg").write_text("not a photograph")
    (pets / "dog" / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match="3 of the files in") as caught:
        data.folder(pets)
    said = str(caught.value)
    assert "cat/cut.jpg (it cannot be decoded: " in said
    assert "cat/text.jpg (it is not an image in a supported format" in said
    assert "dog/empty.png (it is empty)" in said
    assert said.endswith("repair or remove them, or leave them out with skip_damaged=True")


def test_of_many_damaged_files_the_first_few_and_their_number_are_listed(tmp_path):
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    with pytest.raises(ValueError, match=r"4\.jpg \(it is empty\), \.\.\. \(8 in all\); repair"):
        data.folder(tmp_path)
    with pytest.raises(ValueError, match="there are no images in"):
        data.folder(tmp_path, skip_damaged=True)


def test_the_progress_of_the_check_is_reported(pets):
    told = []
    found = data.folder(
        pets, skip_damaged=True, progress=lambda number, total: told.append((number, total))
    )
    total = len(found) + len(found.skipped)
    assert told == [(number, total) for number in range(1, total + 1)]


def test_skipped_files_leave_no_hole(pets):
    (pets / "cat" / "a.jpg").write_bytes(b"")
    found = data.folder(pets, skip_damaged=True)
    assert (found.skipped, found.ids[0], len(found)) == (("cat/a.jpg",), "cat/y.jpg", 4)


def test_without_a_check_damage_shows_when_an_image_is_read(pets):
    (pets / "cat" / "a.jpg").write_bytes(JPEG[:300])
    found = data.folder(pets, check=False)
    assert len(found) == 5
    with pytest.raises(
        ValueError, match=r"image 'cat/a\.jpg' \(row 0\) of .* cannot be read: it cannot be decoded"
    ):
        list(data.batches(found, 2))
    seen = list(data.batches(found, 2, skip_damaged=True))
    assert [batch.rows.tolist() for batch in seen] == [[1], [2, 3], [4]]
    assert [damage.id for batch in seen for damage in batch.damaged] == ["cat/a.jpg"]


@pytest.mark.parametrize("kept", [0.02, 0.1, 0.3, 0.6, 0.8])
@pytest.mark.parametrize("form", ["JPEG", "progressive", "PNG", "WEBP", "GIF"])
def test_a_quick_look_finds_every_cut_that_decoding_finds(form, kept):
    whole = (
        encoded(photo(), "JPEG", progressive=True)
        if form == "progressive"
        else encoded(photo(), form)
    )
    for quick in (False, True):
        with pytest.raises(ValueError, match="it "):
            data.decode(whole[: int(len(whole) * kept)], quick=quick)
        data.decode(whole, quick=quick)


def test_broken_bytes_never_raise_anything_but_a_sentence():
    chance = np.random.default_rng(0)
    sources = [
        encoded(photo(16, 12), form)
        for form in ("JPEG", "PNG", "GIF", "TIFF", "BMP", "WEBP", "PPM")
    ]
    told = []
    for number in range(700):
        broken = bytearray(sources[number % len(sources)])
        for place in chance.integers(0, len(broken), size=3):
            broken[place] = chance.integers(256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                data.decode(bytes(broken))
            except ValueError as error:
                told.append(str(error))
    assert len(told) > 50
    assert all(sentence.startswith(("it ", "its ")) for sentence in told)


def test_a_file_that_claims_too_many_pixels_is_refused_before_they_are_made():
    with pytest.raises(ValueError, match="more than 89478485 pixels"):
        data.decode(claiming(60_000, 60_000))
    with warnings.catch_warnings():
        # Pillow itself only warns of such a size.
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="it claims 10000 x 10000 pixels"):
            data.decode(claiming(10_000, 10_000))


def test_grey_becomes_three_equal_channels():
    grey = photo().convert("L")
    pixels = data.decode(encoded(grey, "PNG"))
    assert pixels.shape == (24, 40, 3)
    np.testing.assert_array_equal(pixels, np.repeat(np.asarray(grey)[:, :, None], 3, axis=2))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_of_sixteen_bits_the_upper_eight_are_kept(form):
    deep = np.array([[0, 255, 256], [32768, 65279, 65535]], np.uint16)
    pixels = data.decode(encoded(Image.fromarray(deep), form))
    assert pixels[:, :, 1].tolist() == [[0, 0, 1], [128, 254, 255]]


def test_pixels_of_no_agreed_range_are_refused():
    for values, told in (
        (np.zeros((2, 2), np.float32), "floating-point"),
        (np.zeros((2, 2), np.int32), "32-bit integers"),
    ):
        with pytest.raises(ValueError, match=f"its pixels are {told}, whose range is unknown"):
            data.decode(encoded(Image.fromarray(values), "TIFF"))


def test_cmyk_is_seen_in_its_colours():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    np.testing.assert_allclose(data.decode(encoded(red, "JPEG"))[8, 8], [255, 0, 0], atol=3)


def test_what_is_transparent_is_white():
    clear = Image.new("RGBA", (2, 1), (10, 20, 30, 0))
    clear.putpixel((1, 0), (10, 20, 30, 255))
    assert data.decode(encoded(clear, "PNG")).tolist() == [[[255, 255, 255], [10, 20, 30]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([200, 0, 0, 0, 200, 0])
    palette.putpixel((1, 0), 1)
    for form in ("PNG", "GIF"):
        assert data.decode(encoded(palette, form, transparency=0)).tolist() == [
            [[255, 255, 255], [0, 200, 0]]
        ]


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    for form in ("GIF", "WEBP", "PNG"):
        moving = encoded(
            frames[0],
            form,
            save_all=True,
            append_images=frames[1:],
            **({"lossless": True} if form == "WEBP" else {}),
        )
        assert data.decode(moving)[0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright_by_their_exif_tag(orientation):
    upright = np.asarray(photo())
    # How a camera stores the picture, from the definition of the tag: where row 0 and column 0 of
    # what is stored are seen.
    turned = upright.swapaxes(0, 1)
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: turned, 6: turned[::-1], 7: turned[::-1, ::-1], 8: turned[:, ::-1],
    }[orientation]  # fmt: skip
    tag = Image.Exif()
    tag[0x0112] = orientation
    np.testing.assert_array_equal(
        data.decode(encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=tag)),
        upright,
    )


def test_broken_exif_says_nothing_about_whole_pixels():
    pixels = data.decode(
        encoded(photo(), "PNG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xffrubbish")
    )
    np.testing.assert_array_equal(pixels, np.asarray(photo()))


def test_one_pixel_is_an_image(tmp_path):
    (tmp_path / "dot.png").write_bytes(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG"))
    assert data.folder(tmp_path).read(0).tolist() == [[[1, 2, 3]]]


def test_a_name_that_is_not_utf8_has_an_id_that_can_be_saved(tmp_path):
    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.jpg")
    with open(name, "wb") as file:
        file.write(JPEG)
    found = data.folder(tmp_path)
    assert found.ids == ("caf\\xe9.jpg",)
    assert found.ids[0].encode("utf-8")
    assert found.read(0).shape == (24, 40, 3)


def test_two_files_of_one_id_are_reported(tmp_path):
    for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg"):
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(JPEG)
    with pytest.raises(
        ValueError, match=r"caf\\xe9\.jpg \(another file has the same id; rename one\)"
    ):
        data.folder(tmp_path)


def test_links_are_followed_but_not_in_circles(pets):
    (pets / "cat" / "circle").symlink_to(pets)
    (pets / "cat" / "self").symlink_to("self")
    (pets / "cat" / "nowhere").symlink_to(pets / "gone.jpg")
    (pets / "dog" / "friend.png").symlink_to(pets / "cat" / "z.png")
    with pytest.raises(ValueError, match="3 of the files in") as caught:
        data.folder(pets)
    assert "cat/circle (it is a link to a folder that holds it)" in str(caught.value)
    assert "cat/nowhere (it is a broken link or may not be read: No such file or directory)" in str(
        caught.value
    )
    found = data.folder(pets, skip_damaged=True)
    assert found.ids[-1] == "dog/friend.png"
    assert found.skipped == ("cat/circle", "cat/nowhere", "cat/self")


def test_a_file_far_larger_than_a_photograph_is_not_read(pets):
    with (pets / "cat" / "huge.jpg").open("wb") as file:
        file.truncate(600 * 2**20)
    with pytest.raises(
        ValueError,
        match=r"cat/huge\.jpg \(it has 629145600 bytes, more than the 536870912 that are read\)",
    ):
        data.folder(pets)


def test_pipes_are_not_waited_for(pets):
    os.mkfifo(pets / "cat" / "pipe.jpg")
    assert data.folder(pets, skip_damaged=True).skipped == ("cat/pipe.jpg",)


def test_what_may_not_be_read_is_listed():
    data.decode(JPEG)  # Pillow is loaded before rights are given up.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        for file in ("open.jpg", "locked.jpg"):
            (place / file).write_bytes(JPEG)
        (place / "closet").mkdir()
        for locked in ("locked.jpg", "closet"):
            (place / locked).chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)
            found = data.folder(place, labelled=False, skip_damaged=True)
            with pytest.raises(
                ValueError,
                match=r"closet \(it cannot be opened: Permission denied\), locked\.jpg \(it "
                r"cannot be opened: Perm",
            ):
                data.folder(place, labelled=False)
        finally:
            os.seteuid(user)
    assert (found.ids, found.skipped) == (("open.jpg",), ("closet", "locked.jpg"))


def test_the_folder_must_be_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nothing"):
        data.folder(tmp_path / "nothing")
    (tmp_path / "one.jpg").write_bytes(JPEG)
    with pytest.raises(NotADirectoryError, match=r"one\.jpg is a file: give the folder"):
        data.folder(tmp_path / "one.jpg")


def test_the_fingerprint_changes_with_the_content_and_with_nothing_else(pets, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "pets"
    elsewhere.mkdir()
    for file in pets.rglob("*.*g"):
        (elsewhere / file.relative_to(pets)).parent.mkdir(exist_ok=True)
        (elsewhere / file.relative_to(pets)).write_bytes(file.read_bytes())
    first, sizes = data.folder(pets).fingerprint, data.folder(pets, check=False).fingerprint
    assert data.folder(elsewhere).fingerprint == first
    same_size = encoded(Image.fromarray(np.asarray(photo())[:, ::-1]), "PNG", compress_level=0)
    (pets / "cat" / "z.png").write_bytes(encoded(photo(), "PNG", compress_level=0))
    before = (data.folder(pets).fingerprint, data.folder(pets, check=False).fingerprint)
    (pets / "cat" / "z.png").write_bytes(same_size)
    after = (data.folder(pets).fingerprint, data.folder(pets, check=False).fingerprint)
    assert before[0] != after[0]
    assert before[1] == after[1], "sizes tell nothing of the contents, and the fingerprint says so"
    assert first.startswith("contents-")
    assert sizes.startswith("sizes-")


@pytest.mark.data
def test_a_folder_of_photographs_is_read_as_it_is(shared):
    found = data.folder(shared / "data" / "imagenet_sample", skip_damaged=True)
    assert (len(found), found.ignored) == (100, ("labels.csv",))
    assert sum(len(batch.images) for batch in data.batches(found, 16, rows=range(4, 100))) == 96


def test_where_a_program_is_writing_are_no_images(pets):
    with locked(pets), locked(pets / "results"):
        (pets / "results" / "plot.png").write_bytes(b"half")
        images = data.folder(pets)
    assert (images.class_names, images.ignored, len(images)) == (("cat", "dog"), (), 4)
