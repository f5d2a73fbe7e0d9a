"""Scaling features for a head by statistics of the pool: they use no labels, so they give nothing
away, and every row of a table is scaled alike."""

import numpy as np
from jaxtyping import Array, Float, Real

from balal import check


def standardise(
    features: Real[Array | np.ndarray, "M D"], *, pool: Real[Array | np.ndarray, "N columns"]
) -> Float[np.ndarray, "M D"]:
    """Features with the pool's mean subtracted and its standard deviations divided out, column by
    column: float32 [M, D].

    Args:
      features: [M, D], of the pool itself, of a test set, or of any part of either.
      pool: [N, D], the features that the mean and the standard deviations come from. A column that
        is constant there is only shifted.

    Raises: ValueError where the numbers of columns differ or the pool has no rows.

    >>> standardise(np.array([[3.0, 7.0]]), pool=np.array([[0.0, 7.0], [2.0, 7.0]])).tolist()
    [[2.0, 0.0]]
    """
    features, pool = _checked(features, pool)
    mean, deviation = pool.mean(axis=0, dtype=np.float64), pool.std(axis=0, dtype=np.float64)
    return ((features - mean) / np.where(deviation > 0, deviation, 1.0)).astype(np.float32)


def shrink(
    features: Real[Array | np.ndarray, "M D"], *, pool: Real[Array | np.ndarray, "N columns"]
) -> Float[np.ndarray, "M D"]:
    """Features divided by one number, the root mean square norm of the pool's rows: float32 [M, D].

    Rows then have norm 1 on average, whatever `D` is, so that one `C` of a linear head means the
    same for every network. Meant for features that are already whitened or reduced, where
    standardising would amplify the noise of the last components.

    Args:
      features: [M, D], of the pool itself, of a test set, or of any part of either.
      pool: [N, D], the features that the norm comes from.

    Raises: ValueError where the numbers of columns differ, the pool has no rows, or all its
    features are 0.

    >>> shrink(np.array([[5.0, 10.0]]), pool=np.array([[0.0, 5.0], [4.0, 3.0]])).tolist()
    [[1.0, 2.0]]
    """
    features, pool = _checked(features, pool)
    norm = np.sqrt(np.sum(np.square(pool, dtype=np.float64)) / len(pool))
    if norm == 0:
        raise ValueError(
            "every feature of the pool is 0, so there is no norm to divide by; were the features "
            "extracted correctly?"
        )
    return (features / norm).astype(np.float32)


def _checked(features, pool) -> tuple[np.ndarray, np.ndarray]:
    features, pool = (
        np.asarray(check.array(name, values, lists=True))
        for name, values in (("features", features), ("pool", pool))
    )
    if features.ndim != 2 or pool.ndim != 2:
        raise ValueError(
            f"features must be [M, D] and the pool [N, D], got shapes {features.shape} and "
            f"{pool.shape}"
        )
    if features.shape[1] != pool.shape[1]:
        raise ValueError(
            f"features have {features.shape[1]} columns and the pool has {pool.shape[1]}: both "
            f"must come from one network"
        )
    if len(pool) == 0:
        raise ValueError("the pool has no rows to take statistics of")
    return features, pool
