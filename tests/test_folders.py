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
from balal.cli import remarks
from balal.data import pixels, room
from balal.data.room import Room
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


def chunk(name: str, content: bytes) -> bytes:
    named = name.encode() + content
    return struct.pack(">I", len(content)) + named + struct.pack(">I", zlib.crc32(named))


def png(
    shape: tuple[int, int],
    rows: bytes,
    *more: bytes,
    depth: int = 8,
    kind: int = 0,
    interlaced: int = 0,
    after: bytes = b"",
) -> bytes:
    """A PNG file of rows that each begin with the number of their filter, with more chunks before
    the pixels and after them. kind: 0 for grey, 2 for RGB, 3 for a palette."""
    header = struct.pack(">IIBBBBB", *shape, depth, kind, 0, 0, interlaced)
    chunks = (chunk("IHDR", header), *more, chunk("IDAT", zlib.compress(rows)), after)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk("IEND", b"")


def tiff(width: int, pixels: bytes, **tags: int) -> bytes:
    """A TIFF file of one row, grey with 16 bits a pixel where its tags do not say otherwise."""
    known = {
        "ImageWidth": 256, "ImageLength": 257, "BitsPerSample": 258, "Compression": 259,
        "PhotometricInterpretation": 262, "StripOffsets": 273, "SamplesPerPixel": 277,
        "RowsPerStrip": 278, "StripByteCounts": 279, "MaxSampleValue": 281,
        "TileWidth": 322, "TileLength": 323, "SampleFormat": 339, "SMaxSampleValue": 341,
    }  # fmt: skip
    values = {
        **dict(ImageWidth=width, ImageLength=1, BitsPerSample=16, Compression=1),
        **dict(PhotometricInterpretation=1, SamplesPerPixel=1, StripByteCounts=len(pixels)),
        **tags,
    }
    values["StripOffsets"] = 8 + 2 + 12 * (len(values) + 1) + 4
    entries = sorted((known[name], value) for name, value in values.items())
    return (
        b"II*\0"
        + struct.pack("<IH", 8, len(entries))
        + b"".join(struct.pack("<HHII", name, 4, 1, value) for name, value in entries)
        + bytes(4)
        + pixels
    )


def claiming(width: int, height: int) -> bytes:
    """A PNG file of a hundred bytes whose header says it has so many pixels."""
    return png((width, height), b"\0" * 50, kind=2)


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
    told = remarks.without_images(found)
    assert told == "\nClasses without images (3): ape, bat, cow (all damaged)."
    assert remarks.without_images(data.folder(pets / "dog")) == ""


def test_classes_with_names_that_look_alike_are_told(pets):
    (pets / "Cat").mkdir()
    (pets / "Cat" / "a.jpg").write_bytes(JPEG)
    assert "look alike (1): 'Cat' and 'cat'." in remarks.left_out(data.folder(pets))


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
        try:
            data.decode(bytes(broken))
        except ValueError as error:
            told.append(str(error))
    assert len(told) > 50
    assert all(sentence.startswith(("it ", "its ")) for sentence in told)


def test_a_file_that_claims_too_many_pixels_is_refused_before_they_are_made():
    with pytest.raises(ValueError, match="more than 89478485 pixels"):
        data.decode(claiming(60_000, 60_000))
    with pytest.raises(ValueError, match="it claims 10000 x 10000 pixels"):
        data.decode(claiming(10_000, 10_000))  # Pillow itself only warns of such a size.


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


GREYS = bytes([0, 10, 100, 255])


def greys(content: bytes) -> list[int]:
    pixels = data.decode(content)
    assert pixels.shape[2] == 3
    assert (pixels == pixels[:, :, :1]).all()
    return pixels[:, :, 0].ravel().tolist()


DESCRIPTIONS = {
    "a text": chunk("tEXt", b"a\0words")[:-1] + b"?",
    "a text that unpacks to 2 MB": chunk("zTXt", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    "a text packed in another way": chunk("zTXt", b"a\0\7words"),
    "a profile": chunk("iCCP", b""),
    "a profile that unpacks to 2 MB": chunk("iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000))),
    "a size": chunk("pHYs", b""),
    "an animation": chunk("acTL", b""),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_damage_in_what_describes_a_png_does_not_cost_its_pixels(name):
    turned = chunk("eXIf", b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\3\0\0\0" + bytes(4))
    assert greys(png((4, 1), b"\0" + GREYS, DESCRIPTIONS[name])) == list(GREYS)
    assert greys(png((4, 1), b"\0" + GREYS, turned, after=DESCRIPTIONS[name])) == list(GREYS[::-1])


def test_rows_that_a_png_lacks_are_not_made_up():
    rows = b"\0\1\2\3" * 3
    assert len(greys(png((3, 3), rows))) == 9
    assert greys(png((3, 3), bytes(12))) == [0] * 9
    for missing in (1, 4, 8):
        with pytest.raises(ValueError, match=r"it is cut off: its last rows are missing|truncated"):
            data.decode(png((3, 3), rows[:-missing]))
    larger = chunk("IHDR", struct.pack(">IIBBBBB", 3, 9, 8, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="its last rows are missing"):
        data.decode(png((3, 3), rows, larger))
    passes = b"\0\1" + b"\0\2" + b"\0\3\4" + b"\0\5" * 2 + b"\0\6\7\x08"
    assert greys(png((3, 3), passes, interlaced=1)) == [1, 5, 2, 6, 7, 8, 3, 5, 4]
    with pytest.raises(ValueError, match="its last rows are missing"):
        data.decode(png((3, 3), passes[:-4], interlaced=1))


@pytest.mark.parametrize("form", ["JPEG2000", "AVIF", "TIFF", "BMP", "PPM"])
def test_a_file_that_is_cut_off_anywhere_has_no_made_up_pixels(form):
    whole = encoded(photo(), form)
    for length in range(0, len(whole), len(whole) // 40):
        try:
            pixels = data.decode(whole[:length])
        except ValueError:
            continue
        np.testing.assert_array_equal(pixels, data.decode(whole))


def test_strips_that_an_unpacked_tiff_lacks_are_not_made_up():
    grey = dict(BitsPerSample=8, RowsPerStrip=1, StripByteCounts=4)
    assert greys(tiff(4, GREYS, **grey)) == list(GREYS)
    with pytest.raises(ValueError, match="it is cut off: some of its strips or tiles are missing"):
        data.decode(tiff(4, GREYS, **grey, ImageLength=2))


TWELVE = np.array([0, 160, 1600, 4095], "<u2").tobytes()
SIXTEEN = np.array([0, 2560, 25600, 65535], "<u2").tobytes()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (tiff(4, SIXTEEN), GREYS),
        (tiff(4, SIXTEEN, PhotometricInterpretation=0), [255, 245, 155, 0]),
        (tiff(4, GREYS, BitsPerSample=8, PhotometricInterpretation=0), [255, 245, 155, 0]),
        (tiff(4, b"\x00\x00\xa0\x64\x0f\xff", BitsPerSample=12), GREYS),
        (tiff(4, TWELVE, SMaxSampleValue=4095), GREYS),
        (tiff(4, TWELVE, MaxSampleValue=4095, PhotometricInterpretation=0), [255, 245, 155, 0]),
        # The largest value of the image, and one that is not true.
        (tiff(4, SIXTEEN, MaxSampleValue=60_000), GREYS),
        (tiff(4, SIXTEEN, SMaxSampleValue=4095), GREYS),
        (b"P5 4 1 4095\n" + np.array([0, 160, 1600, 4095], ">u2").tobytes(), GREYS),
    ],
)
def test_grey_of_any_depth_is_seen_at_its_brightness(content, wanted):
    assert greys(content) == list(wanted)


def test_sixteen_bits_that_hold_fewer_without_saying_so_are_refused():
    deep = np.frombuffer(TWELVE, "<u2").astype(">u2").tobytes()
    for content in (
        tiff(4, TWELVE),
        png((4, 1), b"\0" + deep, depth=16),
        png((1, 1), b"\0" + deep[2:], depth=16, kind=2),
        b"P6 1 1 65535\n" + deep[2:],
    ):
        with pytest.raises(ValueError, match="its 16-bit pixels are nearly black, at most about"):
            data.decode(content)
    assert data.decode(png((1, 1), b"\0\x40\0\0\0\0\0", depth=16, kind=2))[0, 0, 0] == 64


@pytest.mark.parametrize(("depth", "row"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01")])
def test_the_transparent_grey_of_a_png_is_found_at_every_depth(depth, row):
    found = greys(png((2, 1), b"\0" + row, chunk("tRNS", b"\0\1"), depth=depth))
    assert found == [0, 255]


def test_the_transparent_value_of_sixteen_bits_is_found_or_refused():
    deep = b"\0" + np.array([2560, 2561, 65535], ">u2").tobytes()
    assert greys(png((3, 1), deep, chunk("tRNS", b"\x0a\0"), depth=16)) == [255, 10, 255]
    with pytest.raises(ValueError, match="its transparent colour has 16 bits a channel"):
        data.decode(png((1, 1), deep, chunk("tRNS", deep[1:]), depth=16, kind=2))


def test_signed_pixels_are_refused():
    for bits in (8, 16):
        with pytest.raises(ValueError, match="its pixels are signed integers, whose range is unkn"):
            data.decode(tiff(4, TWELVE, BitsPerSample=bits, SampleFormat=2))


def test_what_begins_like_an_image_is_told_from_what_does_not():
    for content in (b"GIF89a", b"\xff\xd8\xff\xd9", tiff(2, bytes(8), BitsPerSample=64)):
        with pytest.raises(
            ValueError, match="it begins like an image, but is cut off, damaged, or"
        ):
            data.decode(content)


def test_files_that_cost_far_more_than_their_pixels_are_refused():
    with pytest.raises(ValueError, match="its tiles have 1600000000 pixels each"):
        data.decode(tiff(1, b"\0", BitsPerSample=8, TileWidth=40_000, TileLength=40_000))
    whole = encoded(photo(), "JPEG", progressive=True)
    scan, end = whole.rindex(b"\xff\xda"), whole.rindex(b"\xff\xd9")
    again = whole[:end] + whole[scan:end] * 100 + whole[end:]
    with pytest.raises(ValueError, match="it has more than 100 scans"):
        data.decode(again)
    # What lies behind an image, such as a film, is none of it.
    np.testing.assert_array_equal(data.decode(whole + again), data.decode(whole))


def test_damage_that_does_not_touch_the_pixels_raises_no_warning():
    before = list(warnings.filters)
    for exif in (
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff",
        b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\0\0\0\1\6\0\0\0",
    ):
        np.testing.assert_array_equal(
            data.decode(encoded(photo(), "JPEG", exif=exif, quality=95)), data.decode(JPEG)
        )
    assert list(warnings.filters) == before


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_an_image_of_several_blocks_is_the_same(mode, monkeypatch):
    image = photo().convert("P").convert("PA") if mode == "PA" else photo().convert(mode)
    content = encoded(image, "TIFF")
    whole = data.decode(content)
    monkeypatch.setattr(pixels, "_BLOCK", 100)
    np.testing.assert_array_equal(data.decode(content), whole)
    if mode in ("1", "L", "RGB", "CMYK"):
        np.testing.assert_array_equal(whole, np.asarray(image.convert("RGB")))


def test_every_image_takes_room_for_its_pixels_while_it_is_decoded(monkeypatch):
    asked = []

    class Recorded(Room):
        def taken(self, amount):
            asked.append(amount)
            return super().taken(amount)

    monkeypatch.setattr(room, "of_pixels", lambda: Recorded(100))
    assert data.decode(JPEG).shape == (24, 40, 3)
    data.decode(JPEG, quick=True)
    assert asked == [24 * 40, 3 * 5]


def test_every_image_takes_room_for_its_pixels_while_it_is_prepared(monkeypatch, tmp_path):
    asked = []

    class Recorded(Room):
        def taken(self, amount):
            asked.append(amount)
            return super().taken(amount)

    (tmp_path / "one.jpg").write_bytes(JPEG)
    images = data.folder(tmp_path)
    monkeypatch.setattr(room, "of_pixels", lambda: Recorded(100))
    (batch,) = data.batches(images, 1, prepare=lambda image: image[:2, :2])
    assert batch.images.shape == (1, 2, 2, 3)
    assert asked == [24 * 40, 24 * 40]


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
