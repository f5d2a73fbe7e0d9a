"""A state in one safe file: plain arrays in `.npz`, nothing pickled, written in one step."""

import ast
import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from balal import array_file, check, loop
from balal.strategies.base import Strategy, describe, is_default
from balal.types import Labelled, Pool, State

# Format 1 had the `repr` of the strategy, with every setting, and no withdrawn rows.
_FORMAT = 2
_RECORDS = ("labelled", "pending", "start")
_COLUMNS = ("indices", "labels", "count", "wanted")


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
    array_file.write(Path(path), records | others)


def load(strategy: Strategy, pool: Pool, path: str | os.PathLike[str]) -> State:
    """The state that `save` wrote; it continues as if nothing had happened.

    The memory is rebuilt from the given pool by telling the strategy every answer again.

    Raises: FileNotFoundError; ValueError for a file that is not a saved state, is damaged, or
    belongs to another strategy.
    """
    path = Path(path)
    check.strategy(strategy)
    members = [f"{record}_{column}" for record in _RECORDS for column in _COLUMNS]
    members += ["format", "key", "key_kind", "withdrawn", "pool", "budget", "num_classes"]
    arrays = array_file.read(path, kind="a saved state", names=[*members, "strategy"])
    try:
        found = _whole(arrays, "format")
        if found not in (1, _FORMAT):
            raise ValueError(f"it has format {found}, and this version reads up to {_FORMAT}")
        budget, num_classes = _whole(arrays, "budget"), _whole(arrays, "num_classes")
        check.budget(budget, num_classes=num_classes)
        records = {name: _record(arrays, name) for name in _RECORDS}
        withdrawn = np.asarray(arrays["withdrawn"]) if found > 1 else np.zeros(pool.num_rows, bool)
        if withdrawn.dtype != bool or withdrawn.ndim != 1:
            raise ValueError("its withdrawn rows are not a boolean mask")
        key = jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl=str(arrays["key_kind"]))
        for record, rows in records.items():
            check.record(
                record,
                rows,
                pool=pool,
                num_classes=num_classes,
                answered=record == "labelled",
            )
        for record in ("labelled", "pending"):
            rows = np.asarray(records[record].indices)
            rows = rows[(rows >= 0) & (rows < len(withdrawn))]
            check.among(rows, np.flatnonzero(~withdrawn), f"withdrawn and {record} at once")
        _fit_together(records["labelled"], records["pending"], budget)
        saved_with = str(arrays["strategy"])
        fingerprint = jnp.asarray(arrays["pool"], jnp.uint32)
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
        pool=fingerprint,
        budget=budget,
        num_classes=num_classes,
        strategy=describe(strategy),
        **records,
    )
    return loop.catch_up(strategy, pool, state)[1]


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


def _fit_together(labelled: Labelled, pending: Labelled, budget: int) -> None:
    """ValueError where rows are labelled and pending at once, or where more was bought and asked
    than the budget allows."""
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


def _written_as(strategy: Any, text: str) -> bool:
    """Whether a `repr` is that of the strategy as an older version wrote it: type and settings are
    the same, and settings that have come since have their defaults."""

    def same(value: Any, node: ast.expr) -> bool:
        if is_dataclass(value) and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            written = {keyword.arg: keyword.value for keyword in node.keywords}
            settings = {field.name: field for field in fields(value)}
            return (
                node.func.id == type(value).__name__
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
