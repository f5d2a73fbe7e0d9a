"""Features, logits and probabilities, and the pool that holds them."""

import math
from dataclasses import fields
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from balal import sharding, xla
from balal.check.conversion import array, floats, mask
from balal.check.faults import concrete, refuse
from balal.types import Labelled, Pool, Scores

_SUM_TOLERANCE = 1e-3
# The squared distances of a whole pool add up in float32 where no number is larger than `_LARGEST`
# over the root of how many there are; and where the largest difference of two rows is at least
# `_SMALLEST`, the square of its last digit is a number above 0.
_LARGEST, _SMALLEST = 1e18, 1e-12
# Numbers that are checked at a time.
_TILE = 2**16
# Axes of the arrays of a pool that have more than one.
_SHAPES = {"features": ((2,), "[N, D]"), "logits": ((2, 3), "[N, K] or [N, M, K]")}


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
        and concrete(pool.candidates)
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
        axes, shape = _SHAPES.get(name, ((1,), "[N]"))
        if value.ndim not in axes:
            raise ValueError(f"{name} must be {shape}, got shape {value.shape}")
        whole = name == "scores.predicted"
        if name != "candidates" and not jnp.issubdtype(
            value.dtype, jnp.integer if whole else jnp.floating
        ):
            raise ValueError(
                f"{name} of a pool must be {'integers' if whole else 'floating-point numbers'}, "
                f"got dtype {value.dtype}: {how}"
            )


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


def features(
    features: Any, *, candidates: Array | np.ndarray | None = None, varied: bool = True
) -> Any:
    """`features` [N, D] as floating-point numbers; ValueError for values in a candidate row that
    are NaN, infinite or too large to be squared, or, if `varied`, for the same values in every row,
    or values that differ too little to be squared."""
    features = feature_table(features)
    if not concrete(features) or not concrete(candidates):
        return features
    finite, small, constant, apart = _computed(feature_faults, features)
    checked = np.ones(len(finite), bool) if candidates is None else sharding.whole(candidates)
    remedy = "fix these rows or take them out of candidates"
    refuse(
        ~finite & checked,
        f"features must be finite, but {{}} NaN or infinite values; {remedy}",
        verb="have",
    )
    refuse(
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


def asked_features(pool: Pool, rows: Labelled) -> None:
    """ValueError where a labelled or pending row has features that no distance can be taken to."""
    if pool.features is not None and concrete(rows.indices) and concrete(pool.features):
        found = np.asarray(rows.indices)
        asked = np.zeros(rows_in(pool), bool)
        asked[found[found >= 0]] = True
        # Without any, as is usual at the start, there is no need to read the features.
        if asked.any():
            features(pool.features, candidates=asked, varied=False)


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
    if not concrete(logits) or logits.shape[0] == 0:
        return
    bad, low, high, total = _computed(_logit_faults, logits)
    refuse(bad, "logits may be -inf but not NaN, +inf or -inf throughout, and {} so", offset=offset)
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
    if not concrete(probs) or probs.shape[0] == 0:
        return
    bad, low, _, total = _computed(_logit_faults, probs)
    refuse(bad, "probs must be finite, and {} not", offset=offset)
    if np.any(low < 0):
        refuse(
            low < 0,
            "probs must not be negative, but {}; were these logits? then pass logits=",
            offset=offset,
            verb="hold negative values",
        )
    refuse(
        ~(abs(total - 1) < _sum_tolerance(probs)),
        "every row of probs must sum to 1, but {} not; were these logits?",
        offset=offset,
        verb="do",
    )


def source_shape(name: str, values: Any, *, ensemble: bool = False) -> Any:
    """`values` as an array of real numbers [N, K] with K >= 1, or of an ensemble [N, M, K]
    with M >= 1; ValueError otherwise."""
    values = array(name, values)
    if values.ndim not in ((2, 3) if ensemble else (2,)) or min(values.shape[1:]) < 1:
        raise ValueError(
            f"{name} must be [N, K] with at least one source class, got shape {values.shape}"
        )
    return values


def scored(values: Any, scores: Any) -> None:
    """ValueError for rows of `values` [N, K] that are no logits, found by their scores [N]: NaN."""
    if concrete(scores) and np.isnan(sharding.whole(scores)).any():
        logits(values)


def known(name: str, values: Any, *, candidates: Any = None) -> None:
    """ValueError for values [N] that are NaN where a row is a candidate."""
    if concrete(values) and concrete(candidates):
        bad = np.isnan(sharding.whole(values))
        bad &= True if candidates is None else sharding.whole(candidates)
        refuse(bad, f"{name} must not be NaN, but {{}} so")


def weights(name: str, values: Any, *, size: int, candidates: Any = None) -> Any:
    """What each row is worth, as floating-point numbers [N]; ValueError unless those of the
    candidates are finite and none is negative."""
    values = floats(name, values)
    if values.shape != (size,):
        raise ValueError(
            f"{name} must be one number for each of the {size} rows, got shape {values.shape}"
        )
    if concrete(values) and concrete(candidates):
        found = np.asarray(values)
        checked = np.ones(size, bool) if candidates is None else np.asarray(candidates)
        bad = checked & ~(np.isfinite(found) & (found >= 0))
        refuse(bad, f"{name} must be finite and not negative, but {{}} not")
    return values


def positive(name: str, value: Any) -> Any:
    """`value`, a number; ValueError unless it is above 0."""
    if concrete(value) and not (np.ndim(value) == 0 and 0 < float(value) < np.inf):
        raise ValueError(f"{name} must be a number above 0, got {value!r}")
    return value


def finite(name: str, values: Any) -> None:
    """ValueError for rows of `values` [n, ...] that are not finite."""
    if concrete(values):
        found = np.isfinite(sharding.whole(floats(name, values)))
        refuse(~found.all(axis=tuple(range(1, found.ndim))), f"{name} must be finite, but {{}} not")


def share(name: str, value: Any) -> Any:
    """`value`, a share; ValueError unless it is above 0 and at most 1."""
    if not (np.ndim(value) == 0 and 0 < float(value) <= 1):
        raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
    return value


def _fields(pool: Pool) -> list[tuple[str, Any]]:
    """The arrays with a row for each image, by name."""
    found = [(name, getattr(pool, name)) for name in ("features", "logits", "candidates")]
    found = [(name, value) for name, value in found if value is not None]
    if pool.scores is not None:
        names = [each.name for each in fields(Scores)]
        found += [(f"scores.{name}", getattr(pool.scores, name)) for name in names]
    return found


def _computed(faults, values: Any) -> tuple[np.ndarray, ...]:
    """The faults as NumPy arrays, computed now even where a surrounding jit only traces."""
    with jax.ensure_compile_time_eval():
        values = jnp.asarray(floats("values", values))
        return tuple(sharding.whole(fault) for fault in faults(values, sharding.shares(values)))


def _sum_tolerance(values) -> float:
    coarse = jnp.issubdtype(values.dtype, jnp.floating)
    return max(_SUM_TOLERANCE, float(jnp.finfo(values.dtype).eps) if coarse else 0)


def _largest(features) -> float:
    return _LARGEST / math.sqrt(max(features.size, 1))


@partial(jax.jit, static_argnums=1)
def feature_faults(features, shares):
    """Whether each row of features [N, D] is finite, and small enough, bool [N] each; whether all
    rows are the same; and the largest difference from row 0. shares: as `sharding.shares` says."""
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
