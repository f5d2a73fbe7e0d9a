"""The input doctor: checks on the host, one clear ValueError each, with the first offending rows
and how many there are.

Nothing is repaired. Shapes and dtypes are always checked; values only if they are known, which
they are not under jit and vmap. The loop's entry points, every experiment and the kernels that
users call go through these functions; what is compiled does not.

Arrays of other libraries become NumPy's or JAX's in `array`, and nowhere else: `floats`, `integers`
and all that follows build on it.
"""

import math
from dataclasses import fields
from functools import partial
from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Key

from balal import sharding, xla
from balal.types import Labelled, Pool, Scores, State
from balal.wording import first_few, quoted

_SUM_TOLERANCE = 1e-3
# The squared distances of a whole pool add up in float32 where no number is larger than `_LARGEST`
# over the root of how many there are; and where the largest difference of two rows is at least
# `_SMALLEST`, the square of its last digit is a number above 0.
_LARGEST, _SMALLEST = 1e18, 1e-12
# Numbers that are checked at a time.
_TILE = 2**16
_REAL = (jnp.integer, jnp.floating, jnp.bool_)
# Any of these and NumPy can read it.
_READABLE = ("__array__", "__array_interface__", "__dlpack__")
# What to do about numbers that are not real ones, by the kind of their dtype.
_REMEDIES = {
    "c": "take their real parts or absolute values",
    "M": "turn dates into numbers first",
    "m": "divide durations by one of them, such as np.timedelta64(1, 'D')",
    "V": "take the fields of a structured array one by one",
}
_TEXT = (
    "number names with np.unique(names, return_inverse=True)[1] (pandas: .cat.codes), read digits "
    "with .astype(float)"
)


def array(name: str, value: Any, *, lists: bool = False) -> Any:
    """`value` as an array of NumPy or JAX that holds real numbers in the byte order of this
    machine; what is one already comes back as it is.

    Whatever NumPy can read is converted: columns and tables of pandas, tensors of PyTorch and
    TensorFlow in host memory, long doubles (to float64), either byte order. ValueError for all
    else, with the way to convert it: masked entries, sparse matrices, complex numbers, text, dates,
    objects, missing values, structured arrays, tensors with a gradient or on another device.

    Args:
      name: of the array, for messages.
      value: to convert.
      lists: whether numbers and lists of numbers are taken as well.
    """
    if not isinstance(value, jax.Array):
        value = _read(name, value, lists)
    # JAX's own types, such as those of keys, have no kind; NumPy takes durations for integers.
    kind = getattr(value.dtype, "kind", "")
    if kind == "m" or not any(jnp.issubdtype(value.dtype, real) for real in _REAL):
        remedy = _REMEDIES.get(kind, _TEXT)
        held = _unreadable(value) if value.dtype == object else ""
        raise ValueError(f"{name} must hold real numbers, got dtype {value.dtype}{held}: {remedy}")
    return value


def floats(name: str, value: Any, *, lists: bool = False) -> Any:
    """`value` as floating-point numbers, from whatever `array` takes. Integers and booleans become
    float32 here: on its way to a device a 64-bit integer would lose its upper half."""
    value = array(name, value, lists=lists)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return _cast(value, np.float32)
    if isinstance(value, np.ndarray) and value.dtype == np.float64:
        # What float32 does not hold becomes infinite, which is looked for elsewhere.
        with np.errstate(over="ignore"):
            return value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)
    return value


def integers(name: str, value: Any) -> Any:
    """`value` as int32, from whatever `array` takes and from lists; ValueError for other numbers
    and for integers that int32 does not hold."""
    found = array(name, value, lists=True)
    if not found.size:
        # An empty list has no dtype of its own.
        return _cast(found, np.int32)
    if not jnp.issubdtype(found.dtype, jnp.integer):
        remedy = (
            "use .astype(int) for classes 0 and 1, np.flatnonzero for the rows of a mask"
            if found.dtype == bool
            else "use .astype(int) if they are whole and none is missing"
        )
        raise ValueError(f"{name} must be integers, got dtype {found.dtype}: {remedy}")
    if not np.can_cast(found.dtype, np.int32) and _concrete(found):
        values = sharding.whole(found)
        wide = values != values.astype(np.int32)
        if wide.any():
            raise ValueError(
                f"{name} must be integers that int32 holds, but {_some(values[wide], 'value')} not"
            )
    return found if found.dtype == np.int32 else _cast(found, np.int32)


def whole_number(name: str, value: Any) -> int:
    """`value` if it is a whole number; ValueError otherwise, so for booleans, floats and traced
    values too."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be a whole number, got {value!r}")
    return int(value)


def mask(name: str, value: Any, *, size: int) -> Any:
    """`value` as a boolean mask [size]; None stays None. ValueError for anything else."""
    if value is None:
        return None
    value = array(name, value, lists=True)
    if value.dtype != bool:
        raise ValueError(
            f"{name} must be a boolean mask [N], got dtype {value.dtype}: use .astype(bool) if it "
            f"holds 0 and 1, np.isin(np.arange({size}), rows) if it holds rows"
        )
    if value.shape != (size,):
        raise ValueError(f"{name} must have one entry for each of {size} rows, got {value.shape}")
    return value


def rows(
    name: str,
    value: Any,
    *,
    size: int,
    of: str = "rows of the pool",
    axes: int | None = 1,
    padded: bool = False,
    distinct: bool = False,
) -> Any:
    """`value` as integers in [0, size); ValueError otherwise.

    Args:
      name: of the rows, for messages.
      value: to check.
      size: how many rows there are.
      of: what they are if not rows, such as classes.
      axes: how many axes they have: 1 for a list, 0 for a single one, None for any.
      padded: whether -1 may stand between them.
      distinct: whether each may come only once.
    """
    found = integers(name, value)
    if axes is not None and found.ndim != axes:
        raise ValueError(
            f"{name} must be {f'a list of {of}, [n]' if axes else 'one number'}, got shape "
            f"{found.shape}"
        )
    if not _concrete(found):
        return found
    values = sharding.whole(found)
    bad = (values < (-1 if padded else 0)) | (values >= size)
    if bad.any():
        raise ValueError(
            f"{name} must be {of}, 0 to {size - 1}{', or -1 for none' * padded}, but "
            f"{_some(values[bad], 'value')} outside"
        )
    if distinct:
        each, times = np.unique(values[values >= 0], return_counts=True)
        if np.any(times > 1):
            raise ValueError(
                f"{name} must be distinct, but {_some(each[times > 1], 'row')} more than once"
            )
    return found


def known(name: str, values: Any, *, candidates: Any = None) -> None:
    """ValueError for values [N] that are NaN where a row is a candidate."""
    if _concrete(values) and _concrete(candidates):
        bad = np.isnan(sharding.whole(values))
        bad &= True if candidates is None else sharding.whole(candidates)
        _refuse(bad, f"{name} must not be NaN, but {{}} so")


def finite(name: str, values: Any) -> None:
    """ValueError for rows of `values` [n, ...] that are not finite."""
    if _concrete(values):
        found = np.isfinite(sharding.whole(floats(name, values)))
        _refuse(
            ~found.all(axis=tuple(range(1, found.ndim))), f"{name} must be finite, but {{}} not"
        )


def scored(values: Any, scores: Any) -> None:
    """ValueError for rows of `values` [N, K] that are no logits, found by their scores [N]: NaN."""
    if _concrete(scores) and np.isnan(sharding.whole(scores)).any():
        logits(values)


def rows_in(pool: Pool) -> int:
    """`N` of a pool; ValueError where its arrays disagree about it or there are none."""
    sizes = {name: leaf.shape[0] if leaf.ndim else 0 for name, leaf in _fields(pool)}
    if not sizes:
        raise ValueError(
            "the pool is empty: it has neither features nor scores; make one with "
            "balal.pool(features, logits=...)"
        )
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} has {size}" for name, size in sizes.items())
        raise ValueError(f"every array of the pool must have one entry for each row, but {listed}")
    size = next(iter(sizes.values()))
    if size == 0:
        raise ValueError("the pool is empty: its arrays have no rows")
    return size


def pool(pool: Pool, *, needs: tuple[str, ...] = ()) -> None:
    """ValueError unless shapes agree, values are finite, some row is a candidate, and every field
    in `needs` is there.

    Features that are the same in every row are refused if they are needed: no strategy can
    distinguish such rows.
    """
    arrays_of(pool)
    for name in needs:
        if getattr(pool, name) is None:
            how = (
                "balal.pool(features, logits=...)"
                if name != "logits"
                else "balal.pool(features, logits=..., keep_logits=True)"
            )
            raise ValueError(
                f"this strategy needs {name}, which the pool lacks: make the pool with {how}"
            )
    if (
        pool.candidates is not None
        and _concrete(pool.candidates)
        and not np.any(sharding.whole(pool.candidates))
    ):
        raise ValueError(
            "no row of the pool is a candidate: the candidates mask is False everywhere"
        )
    if pool.features is not None:
        features(pool.features, candidates=pool.candidates, varied="features" in needs)
    if pool.scores is not None:
        for name, leaf in _fields(pool):
            if name.startswith("scores."):
                finite(name, leaf)


def arrays_of(pool: Pool) -> None:
    """ValueError unless `pool` is a `Pool` of arrays that `balal.pool` would have made: NumPy's or
    JAX's, of the right types and shapes. Values are not read."""
    if not isinstance(pool, Pool):
        raise ValueError(
            f"expected a balal.Pool, got {type(pool).__name__}; make one with "
            f"balal.pool(features, logits=...)"
        )
    if not isinstance(pool.scores, Scores | None):
        raise ValueError(
            f"the scores of a pool must be balal.Scores, got {type(pool.scores).__name__}: make "
            f"the pool with balal.pool(features, logits=...)"
        )
    how = "make the pool with balal.pool, which converts what it can"
    for name, value in _fields(pool):
        if array(name, value) is not value:
            raise ValueError(
                f"{name} of a pool must be an array of NumPy or JAX in the byte order of this "
                f"machine, got {type(value).__name__}: {how}"
            )
    size = rows_in(pool)
    mask("candidates", pool.candidates, size=size)
    for name, value in _fields(pool):
        axes = 2 if name in ("features", "logits") else 1
        if value.ndim != axes:
            raise ValueError(
                f"{name} must be {'[N, D]' if axes == 2 else '[N]'}, got shape {value.shape}"
            )
        whole = name == "scores.predicted"
        if name != "candidates" and not jnp.issubdtype(
            value.dtype, jnp.integer if whole else jnp.floating
        ):
            raise ValueError(
                f"{name} of a pool must be {'integers' if whole else 'floating-point numbers'}, "
                f"got dtype {value.dtype}: {how}"
            )


def features(
    features: Any, *, candidates: Array | np.ndarray | None = None, varied: bool = True
) -> Any:
    """`features` [N, D] as floating-point numbers; ValueError for values in a candidate row that
    are NaN, infinite or too large to be squared, or, if `varied`, for the same values in every row,
    or values that differ too little to be squared."""
    features = feature_table(features)
    if not _concrete(features) or not _concrete(candidates):
        return features
    finite, small, constant, apart = _computed(_feature_faults, features)
    checked = np.ones(len(finite), bool) if candidates is None else sharding.whole(candidates)
    remedy = "fix these rows or take them out of candidates"
    _refuse(
        ~finite & checked,
        f"features must be finite, but {{}} NaN or infinite values; {remedy}",
        verb="have",
    )
    _refuse(
        finite & ~small & checked,
        f"features must lie within {_largest(features):.1e}, so that the squared distances of a "
        f"pool of this size add up in float32, but {{}} not; {remedy}, or divide all features",
        verb="do",
    )
    if varied and features.shape[0] > 1 and constant:
        raise ValueError(
            "features are constant: every row equals row 0, so there is nothing to choose by; "
            "were they extracted correctly?"
        )
    if varied and 0 < apart < _SMALLEST:
        raise ValueError(
            f"features differ by {apart:.2g} at most, too little for squared distances in float32: "
            f"subtract their mean and multiply them by 2.0**{-math.frexp(apart)[1]}"
        )
    return features


def feature_table(features: Any) -> Any:
    """`features` as floating-point numbers; ValueError unless they are [N, D]. Values are
    not read."""
    features = floats("features", features)
    if features.ndim != 2 or features.shape[1] < 1:
        raise ValueError(
            f"features must be [N, D] with at least one column, got shape {features.shape}"
        )
    return features


def logits(logits: Any, *, offset: int = 0) -> None:
    """ValueError unless `logits` [N, K] are logits: no NaN, no +inf, no row of nothing but -inf,
    and not probabilities.

    offset: the row number of the first row, for blocks of a larger array.
    """
    logits = source_shape("logits", logits)
    if not _concrete(logits) or logits.shape[0] == 0:
        return
    bad, low, high, total = _computed(_logit_faults, logits)
    _refuse(bad, "logits may be -inf but not NaN, +inf or -inf throughout, and {} so", offset)
    # A single row proves nothing.
    if (
        offset == 0
        and min(logits.shape) > 1
        and low.min() >= 0
        and high.max() <= 1
        and np.all(abs(total - 1) < _sum_tolerance(logits))
    ):
        raise ValueError(
            "these logits look like probabilities (none negative, every row sums to 1): pass them "
            "as probs=, or take jnp.log"
        )


def probs(probs: Any, *, offset: int = 0) -> None:
    """ValueError unless every row of `probs` [N, K] is a distribution: no NaN, none negative, sum 1
    within 0.001, or within the precision of bfloat16, 0.008, where they are of that type.

    offset: the row number of the first row, for blocks of a larger array.
    """
    probs = source_shape("probs", probs)
    if not _concrete(probs) or probs.shape[0] == 0:
        return
    bad, low, _, total = _computed(_logit_faults, probs)
    _refuse(bad, "probs must be finite, and {} not", offset)
    if np.any(low < 0):
        _refuse(
            low < 0,
            "probs must not be negative, but {}; were these logits? then pass logits=",
            offset,
            verb="hold negative values",
        )
    _refuse(
        ~(abs(total - 1) < _sum_tolerance(probs)),
        "every row of probs must sum to 1, but {} not; were these logits?",
        offset,
        verb="do",
    )


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
    if _concrete(labels) and _concrete(needed):
        values = sharding.whole(labels)
        bad = (values < 0) | (values >= num_classes)
        if needed is not None:
            bad &= sharding.whole(needed) | (values != -1)
        found = f" (found {values[bad].min()} to {values[bad].max()})" if bad.any() else ""
        message = (
            f"{name} must lie in [0, {num_classes}), but {{}} not{found}; for more classes use a "
            f"larger num_classes or balal.grow"
        )
        _refuse(bad, message, rows=rows, noun="those of row")
    return labels


def indices(name: str, indices: Any, *, size: int) -> np.ndarray:
    """`indices` as int NumPy array if they are distinct rows of a pool of `size`; ValueError
    otherwise."""
    return np.asarray(rows(name, indices, size=size, distinct=True)).astype(np.int64)


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
        if whole_number(name, value) < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
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
    if isinstance(capacity, bool) or not isinstance(capacity, int | np.integer) or capacity < 1:
        raise ValueError(f"capacity must be a whole number of at least 1, got {capacity!r}")
    if not jnp.issubdtype(jnp.result_type(budget), jnp.integer):
        raise ValueError(f"budget must be a whole number, got {budget!r}")
    if np.ndim(budget):
        raise ValueError(
            f"budget must be one number, got shape {np.shape(budget)}; vmap over several"
        )
    if _concrete(budget) and not 1 <= budget <= capacity:
        raise ValueError(f"budget must lie between 1 and the capacity, {capacity}, got {budget}")


def option(name: str, value: Any, literal: Any) -> None:
    """ValueError unless `value` is one of those of a `Literal` type."""
    if value not in literal.__args__:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, literal.__args__))}, got {value!r}"
        )


def labelled(
    start: Any, *, pool: Pool, num_classes: int
) -> Labelled | tuple[np.ndarray | Array, np.ndarray | Array]:
    """The rows and labels of a labelled start, given as a `Labelled`, a pair (indices, labels) or
    None; ValueError where they are not valid. A traced `Labelled` comes back as it is."""
    known = isinstance(start, Labelled | tuple) and all(map(_concrete, jax.tree.leaves(start)))
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
    if isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1:
        raise ValueError(f"size must be a whole number of at least 1, got {size!r}")
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
    for rows in taken:
        found = np.asarray(rows.indices)
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
            f"{_some(withdrawn, 'row', 'were')} withdrawn: rows returned with balal.restore may be "
            f"asked again"
        )
    stray = told[~np.isin(told, asked)]
    if stray.size:
        raise ValueError(
            f"{_some(stray, 'row', 'were')} never asked; rows labelled elsewhere go into init's "
            f"labelled="
        )
    return told, np.asarray(given)


def among(rows: np.ndarray, allowed: Any, problem: str) -> None:
    """ValueError that names the rows which are not among the allowed ones, and their problem."""
    stray = rows[~np.isin(rows, np.asarray(allowed))]
    if stray.size:
        raise ValueError(f"{_some(stray, 'row')} {problem}")


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
            f"{_some(found[bad], 'value')} outside"
        )
    rows, times = np.unique(found[found >= 0], return_counts=True)
    if np.any(times > 1):
        raise ValueError(
            f"every new row must have one old one, but {_some(rows[times > 1], 'row', 'have')} more"
        )
    return found.astype(np.int64)


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


def asked_features(pool: Pool, rows: Labelled) -> None:
    """ValueError where a labelled or pending row has features that no distance can be taken to."""
    if pool.features is not None and _concrete(rows.indices) and _concrete(pool.features):
        found = np.asarray(rows.indices)
        asked = np.zeros(rows_in(pool), bool)
        asked[found[found >= 0]] = True
        # Without any, as is usual at the start, there is no need to read the features.
        if asked.any():
            features(pool.features, candidates=asked, varied=False)


def _left(state: State) -> int:
    return (
        int(state.labelled.indices.shape[0]) - int(state.labelled.count) - int(state.pending.count)
    )


def _fields(pool: Pool) -> list[tuple[str, Any]]:
    """The arrays with a row for each image, by name."""
    found = [(name, getattr(pool, name)) for name in ("features", "logits", "candidates")]
    found = [(name, value) for name, value in found if value is not None]
    if pool.scores is not None:
        names = [each.name for each in fields(Scores)]
        found += [(f"scores.{name}", getattr(pool.scores, name)) for name in names]
    return found


def source_shape(name: str, values: Any) -> Any:
    """`values` as an array of real numbers [N, K] with K >= 1; ValueError otherwise."""
    values = array(name, values)
    if values.ndim != 2 or values.shape[1] < 1:
        raise ValueError(
            f"{name} must be [N, K] with at least one source class, got shape {values.shape}"
        )
    return values


def _read(name: str, value: Any, lists: bool) -> Any:
    """A value as an array of NumPy, or of JAX where only DLPack can read it."""
    if type(value) in (np.ndarray, np.memmap) and value.dtype.isnative and value.itemsize <= 8:
        return value
    kind = type(value).__name__
    if np.ma.isMaskedArray(value) and np.ma.is_masked(value):
        masked = np.ma.getmaskarray(value).reshape(len(value) if value.ndim else 1, -1)
        _refuse(
            masked.any(axis=1),
            f"{name} must be known throughout, but {{}} masked entries: leave these rows out, or "
            f"use .filled(value)",
            verb="have",
        )
    for way in ("toarray", "todense"):
        if hasattr(value, way):
            raise ValueError(f"{name} must be dense, got {kind}: pass its .{way}()")
    listed = lists and isinstance(value, list | tuple | range | int | float)
    if not listed and not any(hasattr(value, way) for way in _READABLE):
        raise ValueError(
            f"{name} must be a NumPy or JAX array, got {kind}; convert it with np.asarray first"
        )
    try:
        found = np.asarray(getattr(value, "to_numpy", lambda: value)())
    # Whatever another library raises.
    except Exception as error:
        found = _through_dlpack(value)
        if found is None:
            said = " ".join(str(error).split())
            raise ValueError(
                f"{name} cannot be read by NumPy, got {kind} ({said}): convert it to a NumPy array "
                f"first"
            ) from None
    if found.dtype.kind == "f" and found.dtype.itemsize > 8:
        with np.errstate(over="ignore"):
            found = found.astype(np.float64)
    return found if found.dtype.isnative else found.astype(found.dtype.newbyteorder("="))


def _cast(value: Any, dtype: Any) -> Any:
    """The array in another type; known values stay known even where a surrounding jit only
    traces."""
    if not _concrete(value):
        return value.astype(dtype)
    with jax.ensure_compile_time_eval():
        return value.astype(dtype)


def _through_dlpack(value: Any) -> Array | None:
    """The array, or None: DLPack also knows bfloat16, which NumPy does not."""
    try:
        return jnp.from_dlpack(value)
    except Exception:
        return None


def _unreadable(values: Any) -> str:
    """The first object that is no number, for messages."""
    for place, value in np.ndenumerate(values):
        if not isinstance(value, Real | np.bool_):
            return f" ({f'row {place[0]} holds ' if place else ''}{quoted(str(value))})"
    return ""


def _concrete(value: Any) -> bool:
    return not isinstance(value, Tracer)


def _refuse(
    bad: Any,
    message: str,
    offset: int = 0,
    *,
    verb: str = "are",
    noun: str = "row",
    rows: np.ndarray | None = None,
) -> None:
    """Raises with the first offending rows put into the message's braces."""
    if bad.any():
        found = np.flatnonzero(bad) + offset if rows is None else rows[bad]
        raise ValueError(message.format(_some(found, noun, verb)))


def _some(values: np.ndarray, noun: str, verb: str | None = None) -> str:
    one = {
        "are": "is",
        "were": "was",
        "have": "has",
        "do": "does",
        "hold negative values": "holds negative values",
    }
    verb = verb or "are"
    if len(values) > 1:
        return f"{noun}s {first_few(values)} {verb}"
    return f"{noun} {first_few(values)} {one[verb]}"


def _computed(faults, values: Any) -> tuple[np.ndarray, ...]:
    """The faults as NumPy arrays, computed now even where a surrounding jit only traces."""
    with jax.ensure_compile_time_eval():
        values = jnp.asarray(floats("values", values))
        return tuple(sharding.whole(fault) for fault in faults(values, sharding.shares(values)))


def _sum_tolerance(values) -> float:
    coarse = jnp.issubdtype(values.dtype, jnp.floating)
    return max(_SUM_TOLERANCE, float(jnp.finfo(values.dtype).eps) if coarse else 0)


# XLA's minimum and maximum of a row skip NaN on CPUs (jaxlib 0.10), so neither can detect one.


def _largest(features) -> float:
    return _LARGEST / math.sqrt(max(features.size, 1))


@partial(jax.jit, static_argnums=1)
def _feature_faults(features, shares):
    height = max(1, _TILE // features.shape[1])

    def of_rows(rows):
        sizes = jnp.abs(rows.astype(jnp.float32))
        apart = jnp.abs(known(rows) - known(first))
        return jnp.max(jnp.where(jnp.isnan(sizes), jnp.inf, sizes), axis=1), jnp.max(apart, axis=1)

    def known(rows):
        return jnp.where(jnp.isfinite(rows), rows, 0).astype(jnp.float32)

    def of_share(rows, _):
        sizes, apart = xla.map_tiles(of_rows, rows, height=height)
        same = xla.all_tiles(lambda rows: rows == first, rows, height=height)
        return sizes, jnp.max(apart), same

    first = sharding.fetch(features, jnp.int32(0))[None, :]
    sizes, apart, same = sharding.by_shares(of_share, features, number=shares)
    sizes = sizes.reshape(-1)
    return sizes < jnp.inf, sizes <= _largest(features), jnp.all(same), jnp.max(apart)


@partial(jax.jit, static_argnums=1)
def _logit_faults(values, shares):
    height = max(1, _TILE // values.shape[1])

    def of_rows(rows):
        rows = rows.astype(jnp.float32)
        high = jnp.max(jnp.where(jnp.isnan(rows), jnp.inf, rows), axis=1)
        return jnp.min(rows, axis=1), high, jnp.sum(rows, axis=1)

    def of_share(rows, _):
        return xla.map_tiles(of_rows, rows, height=height)

    found = sharding.by_shares(of_share, values, number=shares)
    low, high, total = (part.reshape(-1) for part in found)
    return (high == jnp.inf) | (high == -jnp.inf), low, high, total
