"""Data sets with a chosen imbalance: class sizes first, then the rows to match. On the host, in
NumPy.

Sizes are in descending order, class 0 being the largest; permute them if the class order must not
reveal the size.
"""

import hashlib
from collections.abc import Callable

import numpy as np
from jaxtyping import Array, Int, Integer, Key

from balal import check
from balal.kernels import sampling


def counts(
    num_classes: int,
    *,
    total: int | np.integer,
    capacity: int | Integer[Array | np.ndarray, " C"],
    ratio: float | int | None = None,
    std: float | int | None = None,
    smallest: int = 1,
    tolerance: float | int = 0.005,
) -> Int[np.ndarray, " C"]:
    """Class sizes with a given total (so also mean) and imbalance, falling exponentially within the
    capacities: int64 [C].

    This makes sets like those of Table 1 of Aggarwal, Popescu, Hudelot, WACV 2020. The sizes are
    `clip(A exp(-k rank / C), smallest, capacity)`. For each `k` there is one `A` that gives the
    total, and the standard deviation rises with `k`, so bisection finds both. After rounding, whole
    images move between classes until the std is right too.

    Args:
      num_classes: `C`.
      total: the number of images, met exactly.
      capacity: the most that each class can give, one number or int [C]. With several, the roomiest
        class becomes the largest.
      ratio: the wanted imbalance ratio, population std over mean; or
      std: the wanted population std, in images. Give exactly one of the two.
      smallest: the least images of any class.
      tolerance: how far the std may be off, in images. The default suits two printed decimals.

    Raises: ValueError if the capacities do not allow the total or the std, or whole images cannot
      come within the tolerance.

    >>> sizes = counts(100, total=17168, std=126.98, capacity=500)
    >>> int(sizes.sum()), round(float(sizes.std()), 2), round(float(sizes.std() / sizes.mean()), 3)
    (17168, 126.98, 0.74)
    """
    rooms = np.asarray(check.integers("capacity", capacity), np.int64)
    if num_classes < 1 or rooms.shape not in ((), (num_classes,)):
        raise ValueError(
            f"give one capacity, or one for each of num_classes={num_classes} classes (1 or "
            f"more), got shape {rooms.shape}"
        )
    rooms = np.broadcast_to(rooms, num_classes)
    if not 0 <= smallest <= rooms.min():
        raise ValueError(
            f"smallest must lie between 0 and the least capacity, {rooms.min()}, got {smallest}"
        )
    least = max(num_classes * smallest, 1)
    if not least <= total <= rooms.sum():
        raise ValueError(
            f"total must lie between {least} and {rooms.sum()}, the sum of the capacities, got "
            f"{total}"
        )
    if std is None and ratio is not None:
        std = ratio * float(total) / num_classes
    elif std is None or ratio is not None:
        raise ValueError(f"give either ratio or std, got ratio={ratio} and std={std}")
    by_room = np.argsort(-rooms, kind="stable")
    falling = _profile(rooms[by_room], float(total), float(std), smallest)
    if not abs(falling.std() - std) <= tolerance + 1e-6:
        raise ValueError(
            f"a std of {std:.4f} is out of reach, the nearest is {falling.std():.4f}: change it, "
            f"the total or the capacities"
        )
    sizes = np.empty(num_classes, np.int64)
    sizes[by_room] = _repair(_whole(falling, int(total)), rooms[by_room], float(std), smallest)
    if abs(sizes.std() - std) > tolerance:
        raise ValueError(
            f"whole images come no nearer to a std of {std:.4f} than {sizes.std():.4f}: raise the "
            f"tolerance of {tolerance}"
        )
    return sizes


def exponential(num_classes: int, *, largest: int, rho: float | int) -> Int[np.ndarray, " C"]:
    """Class sizes `largest * rho^(-c / (C - 1))`, cut to whole images, from `largest` down to
    `largest / rho`: int64 [C].

    `rho` is the largest over the smallest class, at least 1. Raises ValueError when it is not, when
    there is no class, or when the smallest class would be left with no image.

    Source: Cui et al., CVPR 2019; `largest=500, rho=100` with 100 classes is the long-tailed
    CIFAR-100 of the literature.

    >>> exponential(5, largest=100, rho=16).tolist()
    [100, 50, 25, 12, 6]
    """
    _check_profile(num_classes, largest, rho)
    return _cut(largest * float(rho) ** -(np.arange(num_classes) / max(num_classes - 1, 1)))


def step(
    num_classes: int, *, largest: int, rho: float | int, minority: float | int
) -> Int[np.ndarray, " C"]:
    """Class sizes `largest` and, for the last `minority` share of the classes, `largest / rho`,
    cut: int64 [C].

    `minority` is between 0 and 1 and rounded to whole classes; the other arguments and the errors
    are as in `exponential`.

    Source: Buda, Maki, Mazurowski, Neural Networks 2018.

    >>> step(5, largest=100, rho=10, minority=0.4).tolist()
    [100, 100, 100, 10, 10]
    """
    _check_profile(num_classes, largest, rho)
    if not 0 <= minority <= 1:
        raise ValueError(f"minority must be a share of the classes between 0 and 1, got {minority}")
    small = np.arange(num_classes) >= num_classes - round(minority * num_classes)
    return _cut(np.where(small, largest / rho, largest))


def subsample(
    key: Key[Array, ""],
    labels: Integer[Array | np.ndarray, " N"],
    counts: Integer[Array | np.ndarray, " C"],
) -> Int[np.ndarray, " b"]:
    """Row indices of a random subset with exactly `counts[c]` rows of each class, sorted: int64
    [sum(counts)].

    Each row draws a number and each class keeps the rows with its smallest ones, so rows appended
    at the end change nothing for the other classes, and a smaller count keeps a subset of what a
    larger one keeps.

    Args:
      labels: int [N], class ids; -1 = unlabelled, never drawn.
      counts: int [C], rows wanted of each class.

    Raises: ValueError that names the classes with too few rows, or labels and counts that are out
    of range.

    >>> import jax
    >>> subsample(jax.random.key(0), np.array([0, 0, 1, 1, 1]), np.array([2, 0])).tolist()
    [0, 1]
    """
    rows, wanted = (
        np.asarray(check.integers(name, values), np.int64)
        for name, values in (("labels", labels), ("counts", counts))
    )
    if rows.size and (rows.min() < -1 or rows.max() >= wanted.size):
        raise ValueError(
            f"labels must lie between -1 and {wanted.size - 1}, the last class of counts, got "
            f"{rows.min()} to {rows.max()}"
        )
    if wanted.size and wanted.min() < 0:
        raise ValueError(
            f"counts must not be negative, got {wanted.min()} for class {wanted.argmin()}"
        )
    available = np.bincount(rows[rows >= 0], minlength=wanted.size)
    short = np.flatnonzero(available < wanted)
    if short.size:
        first = ", ".join(f"class {c} has {available[c]} of {wanted[c]}" for c in short[:5])
        raise ValueError(
            f"{short.size} classes have too few rows: {first}{', ...' if short.size > 5 else ''}; "
            f"lower their counts"
        )
    order = np.lexsort((np.asarray(sampling.random_bits(key, rows.size)), rows))[
        np.count_nonzero(rows < 0) :
    ]
    rank = np.arange(order.size) - np.repeat(np.cumsum(available) - available, available)
    return np.sort(order[rank < wanted[rows[order]]])


def fingerprint(indices: Integer[Array | np.ndarray, " b"]) -> str:
    """A hash of a list of row indices, to be saved next to it: the first 16 hex digits of SHA-256
    over them as little-endian int64.

    The integer type does not matter, the order does.

    >>> fingerprint(np.array([3, 1, 4]))
    '0057aef4fe5ef616'
    """
    return hashlib.sha256(
        np.asarray(check.integers("indices", indices)).astype("<i8").tobytes()
    ).hexdigest()[:16]


def _check_profile(num_classes: int, largest: int, rho: float | int) -> None:
    if num_classes < 1 or not rho >= 1:
        raise ValueError(
            f"num_classes and rho, the largest class over the smallest, must be at least 1, got "
            f"{num_classes} and {rho}"
        )
    if largest / rho < 1:
        raise ValueError(
            f"the smallest class would have {largest / rho:.3g} images: lower rho={rho} or raise "
            f"largest={largest}"
        )


def _cut(sizes: np.ndarray) -> np.ndarray:
    """Rounded down; numbers that are whole up to the rounding of a power, a quotient or a bisection
    stay whole."""
    return np.floor(sizes + 1e-6).astype(np.int64)


def _profile(rooms: np.ndarray, total: float, std: float, smallest: int) -> np.ndarray:
    """The real-valued sizes, descending: float64 [C]. If the std is out of reach, those with the
    nearest one possible."""
    ranks, logs = np.arange(rooms.size) / rooms.size, np.log(np.maximum(rooms, 1e-9))

    def sizes(steepness: float) -> np.ndarray:
        def at(height: float) -> np.ndarray:
            return np.clip(np.exp(np.minimum(height - steepness * ranks, logs)), smallest, rooms)

        return at(
            _bisect(lambda height: at(height).sum(), total, -30.0, float(logs.max()) + steepness)
        )

    # At 0 all sizes are as equal as the capacities allow, at 40 C one class after another is full;
    # in between, a steeper profile crosses a flatter one of the same total just once, so the std
    # only rises.
    return sizes(_bisect(lambda steepness: sizes(steepness).std(), std, 0.0, 40.0 * rooms.size))


def _bisect(rising: Callable, wanted: float, low: float, high: float) -> float:
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return high


def _whole(sizes: np.ndarray, total: int) -> np.ndarray:
    """Rounded down, with the largest remainders rounded up until the total is right."""
    whole = _cut(sizes)
    whole[np.argsort(whole - sizes, kind="stable")[: total - whole.sum()]] += 1
    return whole


def _repair(sizes: np.ndarray, rooms: np.ndarray, std: float, smallest: int) -> np.ndarray:
    """Moves whole images between classes, always by the move that brings the sum of squares closest
    to its target, until none brings it closer."""
    wanted = round(sizes.size * std**2 + sizes.sum() ** 2 / sizes.size)
    # 128 evenly spread classes offer enough moves for any std, and their pairs fit in memory.
    some = np.unique(np.linspace(0, sizes.size - 1, 128).astype(int))
    sizes = sizes.copy()
    # One image at a time keeps the profile smooth; more are needed only with few classes.
    for most in (1, 8):
        amount = np.arange(1, most + 1)[:, None, None]
        while missing := wanted - int(np.sum(sizes**2)):
            giver, taker = sizes[some][None, :, None], sizes[some][None, None, :]
            possible = (
                (giver - amount >= smallest)
                & (taker + amount <= rooms[some])
                & ~np.eye(some.size, dtype=bool)
            )
            left = np.abs(missing - 2 * amount * (taker - giver + amount))
            left[~possible] = abs(missing)
            best = np.unravel_index(np.argmin(left), left.shape)
            if left[best] >= abs(missing):
                break
            sizes[some[best[1]]] -= best[0] + 1
            sizes[some[best[2]]] += best[0] + 1
    # Sorted sizes still fit the sorted capacities, and the largest comes first again.
    return -np.sort(-sizes)
