"""What the loop is asked and told, and the records that it keeps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from balal import sharding
from balal.check.conversion import array, integers, rows, whole_number
from balal.check.faults import concrete, refuse, some
from balal.check.pools import rows_in
from balal.types import Labelled, Pool, State


def strategy(strategy: Any) -> None:
    """ValueError unless `strategy` is a strategy value, with the methods that have no default."""
    lacking = [name for name in ("needs", "init", "ask", "tell") if not hasattr(strategy, name)]
    if lacking or isinstance(strategy, type):
        how = "balal.strategy(name), or write the methods it lacks (see balal.Strategy)"
        if isinstance(strategy, str):
            how = f"balal.strategy({strategy!r})"
        elif isinstance(strategy, type) and not lacking:
            how = f"a value of it, {strategy.__name__}(...)"
        raise ValueError(
            f"expected a strategy value, got {strategy!r} without "
            f"{', '.join(lacking) or 'an instance'}: use {how}"
        )
    try:
        hash(strategy)
    except TypeError as error:
        raise ValueError(
            f"a strategy is a frozen value, and {strategy!r} cannot be hashed ({error}): make it a "
            "@dataclass(frozen=True) of plain settings"
        ) from None


def key(key: Key[Array, ""] | Any) -> None:
    """ValueError unless `key` is one new-style JAX key, `jax.random.key(seed)`."""
    how = "pass key=jax.random.key(seed)"
    if key is None or isinstance(key, int):
        raise ValueError(f"a key is needed wherever chance is used, got {key!r}: {how}")
    if not hasattr(key, "dtype") or not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        raise ValueError(
            f"this is not a typed JAX key (legacy jax.random.PRNGKey arrays are not accepted): "
            f"{how}"
        )
    if key.shape != ():
        raise ValueError(
            f"one key is needed, got an array of shape {key.shape}: vmap over keys, or index it"
        )


def budget(budget: Any, *, askable: int | None = None, num_classes: Any = 1) -> None:
    """ValueError unless `budget` and `num_classes` are whole numbers of at least 1 and the budget
    is within the askable rows."""
    for name, value in (("budget", budget), ("num_classes", num_classes)):
        whole_number(name, value, least=1)
    if askable is not None and budget > askable:
        raise ValueError(
            f"budget={budget} asks for more labels than the {askable} candidates that are not "
            f"labelled yet"
        )


def capacity(budget: Any, capacity: Any) -> None:
    """ValueError unless a capacity, if given, is a whole number that the budget, if its value is
    known, does not exceed."""
    if capacity is None:
        return
    whole_number("capacity", capacity, least=1)
    if not jnp.issubdtype(jnp.result_type(budget), jnp.integer):
        raise ValueError(f"budget must be a whole number, got {budget!r}")
    if np.ndim(budget):
        raise ValueError(
            f"budget must be one number, got shape {np.shape(budget)}; vmap over several"
        )
    if concrete(budget) and not 1 <= budget <= capacity:
        raise ValueError(f"budget must lie between 1 and the capacity, {capacity}, got {budget}")


def labels(
    name: str,
    labels: Any,
    *,
    num_classes: int,
    size: int | None = None,
    rows: np.ndarray | None = None,
    needed: Any = None,
) -> Any:
    """`labels` if they are integers in [0, num_classes), `size` of them; ValueError otherwise.

    Args:
      name: of the labels, for messages.
      labels: to check.
      num_classes: how many target classes there are.
      size: how many labels there must be (None: any number).
      rows: the row of the pool that each label belongs to (None: 0, 1, 2, ...).
      needed: bool, where a label must be known; elsewhere it may be -1 (None: everywhere).
    """
    labels = array(name, labels, lists=True)
    if labels.ndim != 1 or (size is not None and labels.shape[0] != size):
        raise ValueError(
            f"{name} must be one integer for each row{f', [{size}]' if size is not None else ''}, "
            f"got shape {labels.shape}"
        )
    labels = integers(name, labels)
    if concrete(labels) and concrete(needed):
        values = sharding.whole(labels)
        bad = (values < 0) | (values >= num_classes)
        if needed is not None:
            bad &= sharding.whole(needed) | (values != -1)
        found = f" (found {values[bad].min()} to {values[bad].max()})" if bad.any() else ""
        message = (
            f"{name} must lie in [0, {num_classes}), but {{}} others{found}; for more classes use "
            f"a larger num_classes or balal.grow"
        )
        refuse(bad, message, rows=rows, verb="have")
    return labels


def indices(name: str, indices: Any, *, size: int) -> np.ndarray:
    """`indices` as int NumPy array if they are distinct rows of a pool of `size`; ValueError
    otherwise."""
    return np.asarray(rows(name, indices, size=size, distinct=True)).astype(np.int64)


def labelled(
    start: Any, *, pool: Pool, num_classes: int
) -> Labelled | tuple[np.ndarray | Array, np.ndarray | Array]:
    """The rows and labels of a labelled start, given as a `Labelled`, a pair (indices, labels) or
    None; ValueError where they are not valid. A traced `Labelled` comes back as it is."""
    known = isinstance(start, Labelled | tuple) and all(map(concrete, jax.tree.leaves(start)))
    if isinstance(start, Labelled) and not known:
        return start
    if isinstance(start, tuple) and not known:
        shapes = [part.shape for part in start]
        if len(shapes) == 2 and shapes[0] == shapes[1] and len(shapes[0]) == 1:
            return start
    if start is None:
        found, answers = np.zeros(0, np.int32), np.zeros(0, np.int32)
    elif isinstance(start, Labelled):
        found, answers = (
            np.asarray(rows(f"labelled {name}", values, size=size, of=of, padded=True))
            for name, values, size, of in (
                ("indices", start.indices, rows_in(pool), "rows of the pool"),
                ("labels", start.labels, num_classes, "classes"),
            )
        )
        filled = found >= 0
        if filled.sum() != int(start.count) or not filled[: int(start.count)].all():
            raise ValueError(
                f"labelled: count says {int(start.count)} rows, then padding -1, but "
                f"{filled.sum()} indices are filled"
            )
        found, answers = found[filled], answers[filled]
    elif isinstance(start, tuple) and len(start) == 2:
        found, answers = start
    else:
        raise ValueError(
            f"labelled must be a balal.Labelled or a pair (indices, labels), got "
            f"{type(start).__name__}"
        )
    found = indices("labelled indices", found, size=rows_in(pool))
    answers = labels(
        "labelled labels", answers, num_classes=num_classes, size=len(found), rows=found
    )
    return found, answers


def record(name: str, rows: Labelled, *, size: int, num_classes: int, answered: bool) -> None:
    """ValueError unless a record read from a file is whole: distinct rows of a pool of `size`,
    labels in range, padding only at the end.

    answered: whether every row must have its label.
    """
    filled = np.asarray(rows.indices)[: int(rows.count)]
    if (
        int(rows.count) < 0
        or len(filled) != int(rows.count)
        or np.any(np.asarray(rows.indices)[int(rows.count) :] != -1)
    ):
        raise ValueError(
            f"{name} is damaged: count says {int(rows.count)} rows, but its indices do not"
        )
    indices(f"{name} indices", filled, size=size)
    for column in (rows.labels, rows.wanted):
        values = np.asarray(column)
        if values.shape != rows.indices.shape or np.any((values < -1) | (values >= num_classes)):
            raise ValueError(
                f"{name} is damaged: its labels do not lie in [0, {num_classes}) or are not as "
                f"many as its indices"
            )
    if answered and np.any(np.asarray(rows.labels)[: len(filled)] < 0):
        raise ValueError(f"{name} is damaged: some of its rows have no label")


def query_size(size: Any, state: State, pool: Pool) -> None:
    """ValueError unless `size` more rows may be asked: neither the budget nor the candidates run
    out."""
    whole_number("size", size, least=1)
    pending = int(state.pending.count)
    bought = state.budget - _left(state)
    if size > _left(state):
        raise ValueError(
            f"size={size} is more than what is left of the budget: {_left(state)} of "
            f"{state.budget} "
            f"({bought - pending} answered, {pending} pending)"
        )
    free = candidates_left(pool, state.labelled, state.pending)
    if size > free:
        raise ValueError(
            f"size={size} is more than the {free} candidates that are neither labelled nor pending"
        )


def candidates_left(pool: Pool, *taken: Labelled) -> int:
    """How many candidates are in none of the labelled sets `taken`."""
    free = (
        np.ones(rows_in(pool), bool)
        if pool.candidates is None
        else np.array(sharding.whole(pool.candidates))
    )
    for each in taken:
        found = np.asarray(each.indices)
        free[found[found >= 0]] = False
    return int(free.sum())


def answers(told: Any, given: Any, state: State, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Told rows and their labels as NumPy arrays, if every row was asked or labelled before;
    ValueError otherwise."""
    asked = np.concatenate([np.asarray(state.labelled.indices), np.asarray(state.pending.indices)])
    told = indices("told indices", told, size=size)
    given = labels("told labels", given, num_classes=state.num_classes, size=len(told), rows=told)
    withdrawn = told[np.asarray(state.withdrawn)[told]]
    if withdrawn.size:
        raise ValueError(
            f"{some(withdrawn, 'row', verb='were')} withdrawn: rows returned with balal.restore "
            f"may be asked again"
        )
    stray = told[~np.isin(told, asked)]
    if stray.size:
        raise ValueError(
            f"{some(stray, 'row', verb='were')} never asked; rows labelled elsewhere go into "
            f"init's labelled="
        )
    return told, np.asarray(given)


def among(rows: np.ndarray, allowed: Any, problem: str) -> None:
    """ValueError that names the rows which are not among the allowed ones, and their problem."""
    stray = rows[~np.isin(rows, np.asarray(allowed))]
    if stray.size:
        raise ValueError(f"{some(stray, 'row')} {problem}")


def row_map(indices: Any, *, old: int, new: int) -> np.ndarray:
    """`indices`, the new row of every old one, as int NumPy array; ValueError unless there is one
    for each, each new row comes once, and all lie in the new pool or are -1."""
    found = np.asarray(integers("a map of rows", indices))
    if found.shape != (old,):
        raise ValueError(
            f"a map of rows must have an integer for each of the {old} old rows, got shape "
            f"{found.shape}"
        )
    bad = np.flatnonzero((found < -1) | (found >= new))
    if bad.size:
        raise ValueError(
            f"new rows must lie between 0 and {new - 1}, or be -1 for one that is gone, but "
            f"{some(found[bad], 'value')} outside"
        )
    rows, times = np.unique(found[found >= 0], return_counts=True)
    if np.any(times > 1):
        raise ValueError(
            f"every new row must have one old one, but "
            f"{some(rows[times > 1], 'row', verb='have')} more"
        )
    return found.astype(np.int64)


def _left(state: State) -> int:
    return (
        int(state.labelled.indices.shape[0]) - int(state.labelled.count) - int(state.pending.count)
    )
