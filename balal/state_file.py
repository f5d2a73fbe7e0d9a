"""A state in one safe file: plain arrays in `.npz`, nothing pickled, written whole or not at
all."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from balal import check, host
from balal.loop import rebuild
from balal.strategies.base import Strategy
from balal.types import Labelled, Pool, State

_FORMAT = 1
_RECORDS = ("labelled", "pending", "start")


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Writes the ordered answers, the pending rows, the key and the sizes; the memory is not
    written, `load` rebuilds it.

    The file appears under its name only once it is whole, in place of any older one.

    Raises: OSError where the file cannot be written.
    """
    path = Path(path)
    arrays: dict[str, Any] = {
        f"{record}_{name}": np.asarray(getattr(getattr(state, record), name))
        for record in _RECORDS
        for name in ("indices", "labels", "count", "wanted")
    }
    arrays |= dict(
        format=np.int64(_FORMAT),
        key=np.asarray(jax.random.key_data(state.key)),
        key_kind=np.str_(str(jax.random.key_impl(state.key))),
        pool=np.asarray(state.pool),
        budget=np.int64(state.budget),
        num_classes=np.int64(state.num_classes),
        strategy=np.str_(state.strategy),
    )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent} to save {path.name} in")
    with host.atomic_write(path) as file:
        np.savez_compressed(file, **arrays)


def load(strategy: Strategy, pool: Pool, path: str | os.PathLike[str]) -> State:
    """The state that `save` wrote; it goes on as if nothing had happened.

    The memory is rebuilt from the pool that is given here by telling the strategy every answer
    again.

    Raises: FileNotFoundError; ValueError for a file that is not a saved state, is damaged, or
    belongs to another strategy.
    """
    arrays = _read(Path(path))
    try:
        if int(arrays["format"]) != _FORMAT:
            raise ValueError(
                f"it has format {int(arrays['format'])}, and this version reads format {_FORMAT}"
            )
        budget, num_classes, name = (
            int(arrays["budget"]),
            int(arrays["num_classes"]),
            str(arrays["strategy"]),
        )
        check.budget(budget, num_classes=num_classes)
        records = {
            record: Labelled(
                **{
                    name: jnp.asarray(arrays[f"{record}_{name}"])
                    for name in ("indices", "labels", "count", "wanted")
                }
            )
            for record in _RECORDS
        }
        key = jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl=str(arrays["key_kind"]))
        for record, rows in records.items():
            check.record(
                record, rows, pool=pool, num_classes=num_classes, answered=record == "labelled"
            )
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is not a saved state, is damaged, or belongs to another pool: {error}"
        ) from None
    if repr(strategy) != name:
        raise ValueError(f"{path} was saved with {name}, not with {strategy!r}")
    check.pool(pool, needs=strategy.needs)
    fingerprint = jnp.asarray(arrays["pool"], jnp.uint32)
    state = State(
        memory=None,
        key=key,
        pool=fingerprint,
        budget=budget,
        num_classes=num_classes,
        strategy=name,
        **records,
    )
    return rebuild(strategy, pool, state)


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no saved state at {path}") from None
    except (
        ValueError,
        TypeError,
        KeyError,
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"{path} is not a saved state, or is damaged: {error}") from None
