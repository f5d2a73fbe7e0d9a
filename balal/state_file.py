"""A state in one safe file: plain arrays in `.npz`, nothing pickled, written in one step."""

import ast
import hashlib
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from balal import array_file, check, loop
from balal.pools import checksums
from balal.strategies.base import Strategy, describe, is_default
from balal.types import Labelled, Pool, State
from balal.wording import plural

# Format 1 had the `repr` of the strategy, with every setting, and no withdrawn rows.
_FORMAT = 2
_RECORDS = ("labelled", "pending", "start")
_COLUMNS = ("indices", "labels", "count", "wanted")
# Three records of three columns for each row and its place in the budget, and which are withdrawn.
_ROW_BYTES = 100


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Writes the ordered answers, the pending and withdrawn rows, the key and the sizes; the memory
    is not written, `load` rebuilds it.

    The file appears under its name only once it is whole, in place of any older one. It names the
    strategy by its type, version and the settings that differ from the defaults.

    Raises: OSError where the file cannot be written.
    """
    records = {
        f"{record}_{column}": np.asarray(getattr(getattr(state, record), column))
        for record in _RECORDS
        for column in _COLUMNS
    }
    others = dict(
        format=np.int64(_FORMAT),
        key=np.asarray(jax.random.key_data(state.key)),
        key_kind=np.str_(str(jax.random.key_impl(state.key))),
        withdrawn=np.asarray(state.withdrawn),
        pool=np.asarray(state.pool),
        budget=np.int64(state.budget),
        num_classes=np.int64(state.num_classes),
        strategy=np.str_(state.strategy),
    )
    arrays = {name: np.asarray(value) for name, value in (records | others).items()}
    array_file.write(Path(path), arrays | dict(sha256=np.str_(_sha256(arrays))))


def load(
    strategy: Strategy,
    pool: Pool,
    path: str | os.PathLike[str],
    *,
    rows: Int[Array, " N"] | Any = None,
) -> State:
    """The state that `save` wrote; it continues as if nothing had happened.

    The memory is rebuilt from the given pool by telling the strategy every answer again. Since the
    state was saved, rows may have been added at the end of the pool, and candidates and scores may
    have changed.

    Args:
      strategy: with which it was saved.
      pool: with which it was saved.
      path: of the file.
      rows: for a pool whose rows are others now, as in `remap`: int [N], the new row of every old
        one, -1 where it is gone. `np.arange(N)` says that they are the same images, with other
        features.

    Raises: FileNotFoundError; ValueError for a file that is not a saved state, is damaged, or
    belongs to another strategy, and for a pool of other features unless `rows` is given.
    """
    path = Path(path)
    check.strategy(strategy)
    check.rows_in(pool)
    members = [f"{record}_{column}" for record in _RECORDS for column in _COLUMNS]
    members += ["format", "key", "key_kind", "withdrawn", "pool", "budget", "num_classes"]
    most = _ROW_BYTES * (pool.num_rows + 1_000_000)
    names = [*members, "strategy", "sha256"]
    arrays = array_file.read(path, kind="a saved state", names=names, most=most)
    try:
        written = arrays.pop("sha256", None)  # Earlier versions wrote none.
        if written is not None and str(written) != _sha256(arrays):
            raise ValueError("its contents are not those that were saved")
        found = _whole(arrays, "format")
        if found not in (1, _FORMAT):
            raise ValueError(f"it has format {found}, and this version reads up to {_FORMAT}")
        budget, num_classes = _whole(arrays, "budget"), _whole(arrays, "num_classes")
        check.budget(budget, num_classes=num_classes)
        records = {name: _record(arrays, name) for name in _RECORDS}
        withdrawn = np.asarray(arrays["withdrawn"]) if found > 1 else np.zeros(pool.num_rows, bool)
        if withdrawn.dtype != bool or withdrawn.ndim != 1:
            raise ValueError("its withdrawn rows are not a boolean mask")
        fingerprint = arrays["pool"]
        if fingerprint.dtype != np.uint32 or fingerprint.ndim != 1:
            raise ValueError("its pool is not a list of checksums")
        key = jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl=str(arrays["key_kind"]))
        for name, record in records.items():
            check.record(
                name,
                record,
                size=len(withdrawn),
                num_classes=num_classes,
                answered=name == "labelled",
            )
        for record in ("labelled", "pending"):
            taken = np.asarray(records[record].indices)
            allowed = np.flatnonzero(~withdrawn)
            check.among(taken[taken >= 0], allowed, f"withdrawn and {record} at once")
        _fit_together(**records, budget=budget)
        saved_with = str(arrays["strategy"])
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"{path} is not a saved state, is damaged, or belongs to another pool: {error}"
        ) from None
    same = saved_with == describe(strategy) if found > 1 else _written_as(strategy, saved_with)
    if not same:
        raise ValueError(f"{path} was saved with {saved_with}, not with {describe(strategy)}")
    state = State(
        memory=None,
        key=key,
        withdrawn=jnp.asarray(withdrawn),
        prepared={},
        pool=jnp.asarray(fingerprint),
        budget=budget,
        num_classes=num_classes,
        strategy=describe(strategy),
        **records,
    )
    if rows is None:
        _refuse_other_rows(path, pool, state)
    else:
        state = loop.remap(state, rows, num_rows=pool.num_rows)
    return loop.catch_up(strategy, pool, state)[1]


def _sha256(arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return digest.hexdigest()


def _whole(arrays: Mapping[str, np.ndarray], name: str) -> int:
    if arrays[name].shape or arrays[name].dtype.kind not in "iu":
        raise ValueError(f"its {name} is not one whole number")
    return int(arrays[name])


def _record(arrays: Mapping[str, np.ndarray], name: str) -> Labelled:
    for column in ("indices", "labels", "wanted"):
        if arrays[f"{name}_{column}"].dtype.kind not in "iu":
            raise ValueError(f"its {name} {column} are not whole numbers")
    _whole(arrays, f"{name}_count")
    return Labelled(**{column: jnp.asarray(arrays[f"{name}_{column}"]) for column in _COLUMNS})


def _refuse_other_rows(path: Path, pool: Pool, state: State) -> None:
    """ValueError unless the rows of the saved pool are the first of this one."""
    old = len(state.withdrawn)
    how = f"say with rows= where each of the {old} old rows is now, as for balal.remap"
    if pool.num_rows < old:
        raise ValueError(
            f"{path} belongs to a pool of {plural(old, 'row')}, and this one has "
            f"{pool.num_rows}: {how}"
        )
    # The first checksum is that of the features, or of the first scores where there are none.
    name = "scores" if pool.features is None else "features"
    values = jax.tree.leaves(replace(pool, prepared={}))[0]
    values = values if pool.num_rows == old else values[:old]
    if state.pool.size and int(checksums(values)[0]) != int(state.pool[0]):
        raise ValueError(
            f"{path} belongs to a pool of other {name}: {how}; if they are the same images in the "
            f"same order, with other {name}, rows=np.arange({old})"
        )


def _fit_together(labelled: Labelled, pending: Labelled, start: Labelled, budget: int) -> None:
    """ValueError where rows are labelled and pending at once, where more was bought and asked than
    the budget allows, or where the labels that it started from are not the first ones."""
    answered, asked = (
        rows[rows >= 0] for rows in (np.asarray(labelled.indices), np.asarray(pending.indices))
    )
    check.among(asked, np.setdiff1d(asked, answered), "labelled and pending at once")
    room = labelled.indices.shape[0]
    left = room - len(answered) - len(asked)
    if room < budget or not 0 <= left <= budget:
        raise ValueError(
            f"its budget of {budget} does not fit its {len(answered)} labelled and {len(asked)} "
            f"pending rows in {room} places"
        )
    begun = int(np.sum(np.asarray(start.labels) >= 0))
    for first, all_of_them in ((start.indices, labelled.indices), (start.labels, labelled.labels)):
        if not np.array_equal(first[:begun], all_of_them[:begun]):
            raise ValueError("the rows that it started from are not the first labelled ones")


# What the first format calls strategies that have another name by now.
_FORMERLY = {"Posterior01": "Posterior"}


def _written_as(strategy: Any, text: str) -> bool:
    """Whether a `repr` is that of the strategy as an older version wrote it: type and settings are
    the same, and settings that have come since have their defaults."""

    def same(value: Any, node: ast.expr) -> bool:
        if is_dataclass(value) and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            written = {keyword.arg: keyword.value for keyword in node.keywords}
            settings = {field.name: field for field in fields(value)}
            return (
                node.func.id == _FORMERLY.get(type(value).__name__, type(value).__name__)
                and written.keys() <= settings.keys()
                and all(
                    same(getattr(value, name), written[name])
                    if name in written
                    else is_default(field, getattr(value, name))
                    for name, field in settings.items()
                )
            )
        try:
            return value == ast.literal_eval(node)
        except ValueError:
            return False

    try:
        return same(strategy, ast.parse(text, mode="eval").body)
    except SyntaxError:
        return False
