"""Arrays of other libraries as NumPy's or JAX's, in `array` and nowhere else: `floats`, `integers`
and all that follows build on it."""

from numbers import Real
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from balal import sharding
from balal.check.faults import concrete, refuse, some
from balal.wording import quoted

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
    if not np.can_cast(found.dtype, np.int32) and concrete(found):
        values = sharding.whole(found)
        wide = values != values.astype(np.int32)
        if wide.any():
            raise ValueError(
                f"{name} must be integers that int32 holds, but {some(values[wide], 'value')} not"
            )
    return found if found.dtype == np.int32 else _cast(found, np.int32)


def whole_number(name: str, value: Any, *, least: int | None = None) -> int:
    """`value` if it is a whole number, and not below `least`; ValueError otherwise, so for
    booleans, floats and traced values too."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or (least is not None and value < least):
        of_at_least = "" if least is None else f" of at least {least}"
        raise ValueError(f"{name} must be a whole number{of_at_least}, got {value!r}")
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
    if not concrete(found):
        return found
    values = sharding.whole(found)
    bad = (values < (-1 if padded else 0)) | (values >= size)
    if bad.any():
        raise ValueError(
            f"{name} must be {of}, 0 to {size - 1}{', or -1 for none' * padded}, but "
            f"{some(values[bad], 'value')} outside"
        )
    if distinct:
        each, times = np.unique(values[values >= 0], return_counts=True)
        if np.any(times > 1):
            raise ValueError(
                f"{name} must be distinct, but {some(each[times > 1], 'row')} more than once"
            )
    return found


def option(name: str, value: Any, literal: Any) -> None:
    """ValueError unless `value` is one of those of a `Literal` type."""
    if value not in literal.__args__:
        raise ValueError(
            f"{name} must be one of {', '.join(map(repr, literal.__args__))}, got {value!r}"
        )


def _read(name: str, value: Any, lists: bool) -> Any:
    """A value as an array of NumPy, or of JAX where only DLPack can read it."""
    if type(value) in (np.ndarray, np.memmap) and value.dtype.isnative and value.itemsize <= 8:
        return value
    kind = type(value).__name__
    if np.ma.isMaskedArray(value) and np.ma.is_masked(value):
        masked = np.ma.getmaskarray(value).reshape(len(value) if value.ndim else 1, -1)
        refuse(
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
    if not concrete(value):
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
