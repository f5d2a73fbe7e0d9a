"""What Pillow does not do with the chunks of PNG files: leave out damaged ones that the pixels do
not need, and notice that rows are missing.

Source: PNG (Third Edition), W3C, sections 5 and 7.
"""

import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# Where the pixels of each pass of an interlaced image begin and how far they lie apart, across and
# down.
_PASSES = (
    (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # fmt: skip
_AT_ONCE = 2**16


def needed(data: bytes) -> bytes:
    """A PNG file without what only describes its pixels: texts, profiles, animations. EXIF data
    stays where its checksum is right."""
    kept = [
        chunk
        for name, chunk in _chunks(data)
        if name in _NEEDED
        or (name == b"eXIf" and zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big"))
    ]
    return SIGNATURE + b"".join(kept)


def lacks_rows(data: bytes) -> bool:
    """Whether a PNG file that can be decoded holds fewer bytes than its pixels take: Pillow makes
    what is missing black or transparent. Unpacks the file once more, in little memory."""
    # Of several headers, Pillow follows the last.
    *_, header = (chunk[8:-4].tobytes() for name, chunk in _chunks(data) if name == b"IHDR")
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:8], "big")
    bits, interlaced = header[8] * _CHANNELS[header[9]], header[12]
    missing = sum(
        # Each row begins with the number of its filter.
        rows * (1 + (columns * bits + 7) // 8)
        for left, top, across, down in (_PASSES if interlaced else ((0, 0, 1, 1),))
        if (columns := max(0, -(-(width - left) // across)))
        and (rows := max(0, -(-(height - top) // down)))
    )
    unpack = zlib.decompressobj()
    for name, chunk in _chunks(data):
        packed = chunk[8:-4] if name == b"IDAT" else b""
        for start in range(0, len(packed), _AT_ONCE):
            piece = packed[start : start + _AT_ONCE]
            while piece and missing > 0:
                missing -= len(unpack.decompress(piece, _AT_ONCE))
                piece = unpack.unconsumed_tail
    return missing > 0 and missing > len(unpack.flush())


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The name of every chunk, and all its bytes: length, name, content and checksum."""
    whole, place = memoryview(data), len(SIGNATURE)
    while place < len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        yield data[place + 4 : place + 8], whole[place:end]
        place = end
