"""Balancing, once it has taken over: which class to aim at (the wanted class) and which row to ask
for (the choice, Eq. 9). When it takes over, `switch` decides.

Counts are over the labels so far; a class is *known* once it has a label.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from balal import check
from balal.kernels import sampling
from balal.kernels.ordering import argmax

Denominator = Literal["min", "max", "mean", "none"]
Ties = Literal["lowest", "first_found", "random"]


def misses(
    labels: Int[Array | np.ndarray, " B"],
    wanted: Int[Array | np.ndarray, " B"],
    *,
    num_classes: int,
) -> Int[Array, " C"]:
    """How many times in a row each class was wanted and another one came: int32 [C].

    A pick that turns out to be of the wanted class resets that class to 0, and a miss adds one to
    it. Classes that were not aimed at keep their count.

    Args:
      labels: int [B], the answers in order, -1 = padding or not answered yet.
      wanted: int [B], the class that each pick hoped for, -1 = none.

    Source: this library. Twin: `misses` in tests/reference.py.

    >>> misses(jnp.array([0, 1, 1, 0]), jnp.array([2, 1, 2, 1]), num_classes=3).tolist()
    [0, 1, 2]
    """
    num_classes = check.whole_number("num_classes", num_classes)
    labels = check.rows("labels", labels, size=num_classes, of="classes", padded=True)
    wanted = check.rows("wanted", wanted, size=num_classes, of="classes", padded=True)
    if labels.shape != wanted.shape or labels.ndim != 1:
        raise ValueError(
            f"labels and wanted must both be [B], got shapes {labels.shape} and {wanted.shape}"
        )
    return _misses(labels, wanted, num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _misses(labels, wanted, num_classes: int) -> Int[Array, " C"]:
    number = jnp.arange(labels.shape[0])
    aimed = (wanted >= 0) & (labels >= 0)
    # Padding goes to class `num_classes`, which does not exist, and is dropped.
    target = jnp.where(aimed, wanted, num_classes)
    hit = jnp.where(labels == wanted, target, num_classes)
    last_hit = jnp.full(num_classes, -1).at[hit].max(number, mode="drop")
    since = aimed & (number > last_hit[jnp.clip(wanted, 0, num_classes - 1)])
    missed = jnp.where(since, target, num_classes)
    return jnp.zeros(num_classes, jnp.int32).at[missed].add(1, mode="drop")


def wanted_class(
    counts: Int[Array | np.ndarray, " C"],
    missed: Int[Array | np.ndarray, " C"],
    rank: Int[Array | np.ndarray, " C"],
    *,
    patience: int | None = 3,
) -> Int[Array, ""]:
    """The known class to aim at: the one with the fewest labels, -1 if no class is known.

    A class that was missed `patience` times in a row drops behind the others: the order is by
    `(missed // patience, count, rank, class id)`, smallest first.

    Args:
      counts: int [C], labels of each class.
      missed: int [C], as `misses` counts them.
      rank: int [C], breaks ties between equal counts; see `tie_rank`.
      patience: misses in a row before a class drops back; None: it never does, as printed.

    Raises: ValueError for a patience below 1.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, section 3.3. Differs from the paper in the
      patience: its rule, taken literally, keeps asking the same wrong neighbourhood, because a miss
      changes neither the wanted class's count nor its mean. Twin: `wanted_class` in
      tests/reference.py.

    >>> counts, none = jnp.array([2, 1, 1]), jnp.zeros(3, int)
    >>> int(wanted_class(counts, none, none))
    1
    >>> int(wanted_class(counts, jnp.array([0, 3, 0]), none))
    2
    """
    patient(patience)
    names = ("counts", "missed", "rank")
    values = [
        check.integers(name, value)
        for name, value in zip(names, (counts, missed, rank), strict=True)
    ]
    if len({value.shape for value in values}) > 1 or values[0].ndim != 1:
        raise ValueError(
            f"counts, missed and rank must be [C], got shapes "
            f"{', '.join(str(value.shape) for value in values)}"
        )
    return _wanted_class(*values, patience)


@partial(jax.jit, static_argnames="patience")
def _wanted_class(counts, missed, rank, patience: int | None) -> Int[Array, ""]:
    level = jnp.zeros_like(missed) if patience is None else missed // patience
    known = counts > 0
    eligible = known
    for value in (level, counts, rank):
        eligible &= value == jnp.min(jnp.where(eligible, value, jnp.iinfo(value.dtype).max))
    return jnp.where(jnp.any(known), jnp.argmax(eligible), -1).astype(jnp.int32)


def patient(patience: int | None) -> None:
    """Raises ValueError for a patience that is neither None nor at least 1.

    >>> patient(3)
    """
    if patience is not None and (
        isinstance(patience, bool) or not isinstance(patience, int) or patience < 1
    ):
        raise ValueError(
            f"patience must be a whole number of at least 1, or None for endless patience, got "
            f"{patience!r}"
        )


def tie_rank(
    labels: Int[Array | np.ndarray, " B"],
    *,
    num_classes: int,
    key: Key[Array, ""],
    ties: Ties = "lowest",
) -> Int[Array, " C"]:
    """Ranks that break ties between classes of equal count, smallest first: int32 [C].

    "lowest" leaves ties to the class id, "first_found" prefers the class whose first label came
    first, "random" draws with `key`.

    >>> key = jax.random.key(0)
    >>> tie_rank(jnp.array([2, 0, 2]), num_classes=3, key=key, ties="first_found").tolist()
    [1, 3, 0]
    """
    check.option("ties", ties, Ties)
    labels = check.rows("labels", labels, size=num_classes, of="classes", padded=True)
    if ties == "random":
        check.key(key)
        return (sampling.random_bits(key, num_classes) >> 1).astype(jnp.int32)
    if ties == "lowest":
        return jnp.zeros(num_classes, jnp.int32)
    number = jnp.arange(labels.shape[0], dtype=jnp.int32)
    found = jnp.where(labels >= 0, labels, num_classes)
    never = jnp.full(num_classes, labels.shape[0], jnp.int32)
    return never.at[found].min(number, mode="drop")


def choose(
    distances: Float[Array | np.ndarray, "C N"],
    wanted: Int[Array | np.ndarray, ""] | int | np.integer,
    over: Bool[Array | np.ndarray, " C"],
    candidates: Bool[Array | np.ndarray, " N"],
    *,
    denominator: Denominator = "min",
) -> Int[Array, ""]:
    """The candidate to ask for: near the mean of the wanted class, far from those of the
    over-represented ones; -1 without candidates.

    `argmin_x d(mean_wanted, x) / R(x)` with `R(x)` the smallest, largest or mean distance to the
    means of the over-represented classes. Without such a class, or with "none", it is the candidate
    nearest to the wanted mean. Where `R(x) = 0` the ratio is infinite. Ties go to the lowest row. A
    wanted class that is itself over-represented (all rarer ones have dropped back) counts in `R`
    like the others: with "min" the rows nearest to its mean then tie at 1. Leaving it out finds
    fewer classes.

    Args:
      distances: [C, N], *squared* distances of the rows to the class means; those of classes that
        are neither wanted nor over-represented are ignored.
      wanted: the wanted class.
      over: bool [C], the over-represented classes.
      candidates: bool [N].
      denominator: "max" is Eq. 9 as printed; "min" is what the sentence under the equation says.

    Raises: ValueError when shapes disagree, or `wanted` is no class.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 9. `O(N C)`. Twin: the least `choice_ratio`
      in tests/reference.py.

    >>> distances = jnp.array([[1.0, 4.0, 9.0], [9.0, 1.0, 4.0]])
    >>> int(choose(distances, 0, jnp.array([False, True]), jnp.array([True, True, True])))
    0
    """
    distances = check.floats("distances", distances)
    if distances.ndim != 2:
        raise ValueError(f"distances must be [C, N], got shape {distances.shape}")
    num_classes, num_rows = distances.shape
    wanted = check.rows("wanted", wanted, size=num_classes, of="classes", axes=0)
    over = check.mask("over", check.array("over", over, lists=True), size=num_classes)
    candidates = check.array("candidates", candidates, lists=True)
    candidates = check.mask("candidates", candidates, size=num_rows)
    check.option("denominator", denominator, Denominator)
    return _choose(distances, wanted, over, candidates, denominator)


@partial(jax.jit, static_argnames="denominator")
def _choose(distances, wanted, over, candidates, denominator: Denominator) -> Int[Array, ""]:
    return argmax(-ratios(distances, wanted, over, denominator=denominator), candidates)


def ratios(
    distances: Float[Array, "C N"],
    wanted: Int[Array, ""] | int,
    over: Bool[Array, " C"],
    *,
    denominator: Denominator = "min",
) -> Float[Array, " N"]:
    """What `choose` compares, [N]: numbers in the order of `d(mean_wanted, x) / R(x)`, never NaN.
    Runs inside jit.

    Squares are compared for "min" and "max", roots for "mean". There the sum stands for the mean,
    as the number of over-represented classes is the same for every row.

    Args: as in `choose`.

    Source: as in `choose`. Twin: `choice_ratio` in tests/reference.py.

    >>> distances = jnp.array([[1.0, 4.0, 9.0], [9.0, 1.0, 4.0]])
    >>> ratios(distances, 0, jnp.array([False, True]), denominator="max").tolist()[1:]
    [4.0, 2.25]
    """
    check.option("denominator", denominator, Denominator)
    ratio = distances[wanted]
    if denominator != "none":
        reduce, nothing = {
            "min": (jnp.min, jnp.inf),
            "max": (jnp.max, 0.0),
            "mean": (jnp.sum, 0.0),
        }[denominator]
        transform = jnp.sqrt if denominator == "mean" else lambda squares: squares
        bottom = reduce(jnp.where(over[:, None], transform(distances), nothing), axis=0)
        divided = transform(ratio) / jnp.where(bottom > 0, bottom, 1)
        divided = jnp.where(bottom > 0, divided, jnp.inf)
        ratio = jnp.where(jnp.any(over), divided, ratio)
    return jnp.where(jnp.isnan(ratio), jnp.inf, ratio)
