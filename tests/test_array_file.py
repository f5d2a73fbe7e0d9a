"""Arrays in files: what is wrong with one ends in one sentence, before anything is allocated."""

import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest

from balal import array_file

KIND = "an .npz file"


def read(path, **options):
    return array_file.read(path, kind=KIND, **options)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


def test_only_what_is_wanted_is_unpacked(path):
    np.savez_compressed(path, small=np.arange(3), large=np.zeros(10**7))
    tracemalloc.start()
    found = read(path, names=["small", "none"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert {name: value.tolist() for name, value in found.items()} == {"small": [0, 1, 2]}
    assert peak < 10**6
    assert array_file.headers(path, kind=KIND)["large"][0] == (10**7,)


def packed(path, content: bytes, *, method=zipfile.ZIP_STORED, name="a.npy"):
    with zipfile.ZipFile(path, "w", method) as file:
        file.writestr(name, content)


def header(shape, dtype="<f4") -> bytes:
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_of_packing_are_refused(path, method):
    packed(path, header((3,)) + bytes(12), method=method)
    with pytest.raises(ValueError, match="'a' is packed by another method than NumPy's"):
        read(path)


def test_what_is_encrypted_is_refused(path):
    packed(path, header((3,)) + bytes(12))
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'a' is encrypted: save it without a password"):
        read(path)


def test_what_is_claimed_must_be_there(path):
    packed(path, header((10**12, 10**3)) + bytes(12))
    with pytest.raises(ValueError, match=r"it has \d+ bytes, but its header says 4000000000000000"):
        read(path)
    # A directory of the zip that claims it, too.
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02") + 24
    content[at : at + 4] = struct.pack("<I", 2**32 - 2)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="'a' claims 4294967294 bytes, more than its"):
        read(path)


def test_what_is_no_array_of_numbers_is_told(path, tmp_path):
    np.savez(path, a=np.zeros(3, [("x", "f4"), ("y", "i4")]))
    with pytest.raises(ValueError, match="'a': it holds records or raw bytes"):
        read(path)
    np.save(tmp_path / "b.npy", np.zeros(3, ml_dtypes.bfloat16))
    with pytest.raises(ValueError, match="as NumPy saves bfloat16: save it again as float32"):
        read(tmp_path / "b.npy")
    np.savez(path, a=np.array([{}]))
    with pytest.raises(ValueError, match="'a': it holds Python objects"):
        read(path)
    with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning, match="Duplicate name"):
        file.writestr("a.npy", header((3,)) + bytes(12))
    with pytest.raises(ValueError, match=r"it holds Python objects|two arrays of the name 'a'"):
        read(path)
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none"):
        read(tmp_path / "none")
    with pytest.raises(ValueError, match=r"is a folder, not an \.npz file"):
        read(tmp_path)


def test_every_damage_ends_in_one_sentence(path):
    """One byte changed anywhere, and every length."""
    rng = np.random.default_rng(0)
    content = dict(a=rng.normal(size=(5, 3)), b=np.array("text"), c=np.zeros(400, np.int32))
    np.savez_compressed(path, **content)
    whole = path.read_bytes()
    told = []
    for trial in range(1500):
        broken = bytearray(whole)
        broken[rng.integers(len(whole))] = rng.integers(256)
        path.write_bytes(broken if trial % 3 else whole[: rng.integers(len(whole))])
        try:
            found = read(path)
        except ValueError as error:
            told.append(str(error))
        else:
            # Dates, names and the like may change without harm to the numbers.
            assert all(
                name not in content or np.array_equal(value, content[name])
                for name, value in found.items()
            )
    assert len(told) > 800
    assert all(each.startswith(f"{path} is not an .npz file, or is damaged: ") for each in told)
    assert not any("\n" in each for each in told)
