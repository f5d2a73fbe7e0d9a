"""The switch: which classes are under- and which over-represented, and when balancing takes over
(Eq. 8).

Counts are over the labels so far, `m` labels in all; a class is *known* once it has a label.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from balal import check

AtMean = Literal["nowhere", "or", "ur"]
KnownClasses = Literal["found", "all"]


def represented(
    counts: Int[Array | np.ndarray, " C"],
    m: Int[Array | np.ndarray, ""] | int | np.integer,
    *,
    at_mean: AtMean = "nowhere",
    known_classes: KnownClasses = "found",
) -> tuple[Bool[Array, " C"], Bool[Array, " C"]]:
    """Which classes are under- and which over-represented: two masks, bool [C] each.

    Below the mean count `m / C_known` a class is under-represented, above it over-represented,
    compared in integers.

    Args:
      counts: int32 [C], labels of each class.
      m: labels in all; more than `sum(counts)` while answers are pending.
      at_mean: where classes whose count equals the mean go: to neither side ("nowhere"), to the
        over-represented ("or") or to the under-represented ("ur").
      known_classes: "found" considers the classes that have a label, "all" every one of the `C`.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, section 3.3. Twin: `represented` in
      tests/reference.py.

    >>> under, over = represented(jnp.array([1, 2, 3, 0]), 6)
    >>> under.tolist(), over.tolist()
    ([True, False, False, False], [False, False, True, False])
    """
    check.option("at_mean", at_mean, AtMean)
    check.option("known_classes", known_classes, KnownClasses)
    counts, m = _of_classes(counts), check.integers("m", m)
    return _represented(counts, m, at_mean=at_mean, known_classes=known_classes)


@partial(jax.jit, static_argnames=("at_mean", "known_classes"))
def _represented(counts, m, *, at_mean: AtMean, known_classes: KnownClasses):
    known = counts > 0 if known_classes == "found" else jnp.ones_like(counts, bool)
    difference = counts * jnp.sum(known, dtype=counts.dtype) - m
    under = known & ((difference <= 0) if at_mean == "ur" else (difference < 0))
    over = known & ((difference >= 0) if at_mean == "or" else (difference > 0))
    return under, over


def switches(
    counts: Int[Array | np.ndarray, " C"],
    m: Int[Array | np.ndarray, ""] | int | np.integer,
    left: Int[Array | np.ndarray, ""] | int | np.integer,
    *,
    at_mean: AtMean = "nowhere",
    known_classes: KnownClasses = "found",
) -> Bool[Array, ""]:
    """Whether balancing takes over now: the remaining labels would only just lift the
    under-represented classes to the mean of the over-represented ones.

    `left <= c_ur * (mean count of or - mean count of ur)`, multiplied out so that it is exact in
    int32: `left * c_or <= c_ur * S_or - c_or * S_ur` with numbers of classes `c` and sums of counts
    `S`. If no class is under-represented or none is over-represented, it does not switch.

    Args:
      counts, m, at_mean, known_classes: as in `represented`.
      left: labels still to be bought, `b - m` in the paper.

    Raises: ValueError for numbers that are not whole; `fits` checks that a budget and a number of
      classes keep the products within int32.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 8. Twin: `switches` in tests/reference.py.

    >>> bool(switches(jnp.array([1, 1, 7]), 9, 12)), bool(switches(jnp.array([1, 1, 7]), 9, 13))
    (True, False)
    """
    check.option("at_mean", at_mean, AtMean)
    check.option("known_classes", known_classes, KnownClasses)
    counts, m = _of_classes(counts), check.integers("m", m)
    left = check.integers("left", left)
    return _switches(counts, m, left, at_mean=at_mean, known_classes=known_classes)


@partial(jax.jit, static_argnames=("at_mean", "known_classes"))
def _switches(counts, m, left, *, at_mean: AtMean, known_classes: KnownClasses):
    under, over = _represented(counts, m, at_mean=at_mean, known_classes=known_classes)
    classes_under, classes_over = jnp.sum(under, dtype=jnp.int32), jnp.sum(over, dtype=jnp.int32)
    sum_under, sum_over = (
        jnp.sum(jnp.where(group, counts, 0), dtype=jnp.int32) for group in (under, over)
    )
    gap = classes_under * sum_over - classes_over * sum_under
    return (classes_over > 0) & (classes_under > 0) & (left * classes_over <= gap)


def fits(labels: int, num_classes: int) -> None:
    """Raises ValueError if `labels * num_classes`, the largest product of Eq. 8, would overflow
    int32.

    >>> fits(1_281_167, 1000)
    """
    if labels * num_classes >= 2**31:
        raise ValueError(
            f"the switch rule multiplies {labels} labels by {num_classes} classes, which is more "
            f"than int32 holds; lower the budget or num_classes"
        )


def _of_classes(counts):
    counts = check.integers("counts", counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must be one number for each class, got shape {counts.shape}")
    return counts
