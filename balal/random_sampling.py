"""What random sampling without replacement gives, in closed form: the baseline in every plot over
budgets. On the host, in float64.

When `b` of the `N` rows of a pool are drawn and class `c` has `n_c` rows, its number of labels
`k_c` is hypergeometric.
"""

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Array, Float, Integer

from balal import check

_log_gamma = np.vectorize(math.lgamma, otypes=[np.float64])


def classes_found(
    sizes: Integer[Array | np.ndarray, " C"],
    budget: int | np.integer | Integer[Array | np.ndarray, "*budgets"],
) -> Float[np.ndarray, "*budgets"]:
    """Expected number of classes with at least one label, `sum_c 1 - C(N - n_c, b) / C(N, b)`:
    float64, shaped as `budget`.

    Args:
      sizes: int [C], rows of each class in the pool.
      budget: labels drawn at random, one number or any array of them.

    Raises: ValueError when a size is negative or a budget is not in [0, N].

    >>> round(float(classes_found(np.array([5, 3, 2]), 2)), 4)
    1.6889
    """
    rows, pool, draws = _checked(sizes, budget)
    rest, draws = pool - rows, draws[..., None]
    # The logarithm of C(N - n_c, b) / C(N, b), the probability of missing the class. With more
    # draws than other rows the class is certain to be found.
    common = _log_gamma(pool - draws + 1) - _log_gamma(pool + 1)
    missed = _log_gamma(rest + 1) - _log_gamma(np.maximum(rest - draws, 0) + 1) + common
    return np.asarray(
        np.sum(np.where(draws > rest, 1.0, -np.expm1(np.minimum(missed, 0.0))), axis=-1)
    )


def imbalance_ratio(
    sizes: Integer[Array | np.ndarray, " C"],
    budget: int | np.integer | Integer[Array | np.ndarray, "*budgets"],
) -> Float[np.ndarray, "*budgets"]:
    """Expected imbalance ratio, `sqrt(E[ir^2])`: float64, shaped as `budget`; nan where the budget
    is 0.

    `E[ir^2] = (1/C) sum_c (Var[k_c] + (E[k_c] - b/C)^2) / (b/C)^2` with `E[k_c] = b n_c / N` and
    `Var[k_c] = b (n_c / N) (1 - n_c / N) (N - b) / (N - 1)`. A little above `E[ir]`, by
    less than 0.003 on the paper's sets and budgets.

    Args:
      sizes: int [C], rows of each class in the pool.
      budget: labels drawn at random, one number or any array of them.

    Raises: ValueError when a size is negative or a budget is not in [0, N].

    >>> round(float(imbalance_ratio(np.array([6, 2]), 8)), 4)
    0.5
    """
    rows, pool, draws = _checked(sizes, budget)
    share, draws = rows / pool, np.where(draws == 0, np.nan, draws)
    mean = draws / rows.size
    variance = draws * (pool - draws) / max(pool - 1, 1) * np.sum(share * (1 - share))
    offset = draws**2 * np.sum((share - 1 / rows.size) ** 2)
    return np.asarray(np.sqrt((variance + offset) / rows.size) / mean)


def labels_until(
    size: int | np.integer, rows: int | np.integer, *, m: int = 1, probability: float | int = 0.95
) -> int:
    """The smallest budget that holds at least `m` rows of a class with the given probability, when
    drawn at random.

    Args:
      size: rows of the class.
      rows: `N`, rows of the pool.
      m: how many of the class are wanted.
      probability: in (0, 1], taken as it is written: 0.1 is a tenth.

    Returns: the smallest `b` with `P[Hypergeom(N, size, b) >= m] >= probability`, in whole-number
    arithmetic, so exact.

    Raises: ValueError when the class has fewer than `m` rows or an argument is out of range.

    >>> labels_until(1, 100), labels_until(5, 100, m=5, probability=1.0)
    (95, 100)
    """
    size, rows, m = (
        check.whole_number(name, value)
        for name, value in (("size", size), ("rows", rows), ("m", m))
    )
    if not 0 <= size <= rows:
        raise ValueError(f"size must lie between 0 and the {rows} rows of the pool, got {size}")
    if m < 1:
        raise ValueError(f"m must be at least 1, got {m}")
    if m > size:
        raise ValueError(f"a class with {size} rows can never give {m}: lower m")
    if not 0 < probability <= 1:
        raise ValueError(f"probability must lie in (0, 1], got {probability}")
    wanted = Fraction(str(float(probability)))
    # With `m` draws more than there are other rows it is certain. Doubling first keeps the numbers
    # small if few labels suffice.
    low, high, certain = m - 1, m, rows - size + m
    while high < certain and not _likely(m, size, high, rows, wanted):
        low, high = high, min(2 * high, certain)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _likely(m, size, middle, rows, wanted) else (middle, high)
    return high


def _checked(sizes, budget) -> tuple[np.ndarray, int, np.ndarray]:
    rows, draws = (
        np.asarray(check.integers(name, values), np.int64)
        for name, values in (("sizes", sizes), ("budget", budget))
    )
    if rows.ndim != 1:
        raise ValueError(f"sizes must be one number for each class, got shape {rows.shape}")
    if not rows.size or rows.min() < 0 or not rows.sum():
        raise ValueError(
            f"sizes must be the rows of each class, none negative and not all 0, got "
            f"{rows[:3].tolist()} ({rows.size} classes)"
        )
    pool = int(rows.sum())
    if draws.size and not 0 <= draws.min() <= draws.max() <= pool:
        raise ValueError(
            f"budget must lie between 0 and the {pool} rows of the pool, got {draws.min()} to "
            f"{draws.max()}"
        )
    return rows, pool, draws


def _likely(m: int, size: int, budget: int, pool: int, wanted: Fraction) -> bool:
    """Whether `P[Hypergeom(N, size, b) >= m] >= wanted`. Class and draws may be swapped: the
    smaller one first gives smaller numbers."""
    few, many = sorted((size, budget))
    fewer = sum(
        math.comb(many, k) * math.comb(pool - many, few - k) for k in range(min(m, few + 1))
    )
    ways = math.comb(pool, few)
    return (ways - fewer) * wanted.denominator >= ways * wanted.numerator
