"""Situations that one pool can be turned into, so that a method is not judged on one kind of
imbalance alone.

A regime gives every paired run a `Trial`: which rows of the pool there are, what their classes are,
and what an annotator says of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from balal import imbalance
from experiments.common import datasets, draws

# The largest class over the smallest; the share of positives of two classes; the share of wrong
# answers.
TAIL, POSITIVES, WRONG = 200.0, 0.005, 0.1
# Labels before the first question where a positive is known: it, and rows that are none.
WARM = 10
# Fewer positives than that say little about a method.
FEWEST_POSITIVES = 8


@dataclass(frozen=True)
class Trial:
    """What one run sees.

    Attributes:
      draw: its rows of the pool and its keys.
      labels: int [N], the true classes of these rows.
      told: int [N], what an annotator says they are.
      num_classes: `C`.
      start: rows of the draw that are labelled before the first question, int.
      test_labels: int [M], the classes of the test set.
    """

    draw: draws.Draw
    labels: np.ndarray
    told: np.ndarray
    num_classes: int
    start: np.ndarray
    test_labels: np.ndarray


def natural(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """The pool as it is."""
    labels = dataset.labels[draw.rows]
    return Trial(
        draw, labels, labels, dataset.num_classes, np.zeros(0, np.int64), dataset.test_labels
    )


def tail(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """Class sizes that fall exponentially, the largest 200 times the smallest; which class has
    which size is drawn."""
    rooms = _rooms(dataset)
    places = np.flatnonzero(rooms)
    sizes = _falling(np.sort(rooms[places])[::-1])
    wanted, left = np.zeros_like(rooms), list(places)
    for size in sizes:
        fits = [label for label in left if rooms[label] >= size]
        wanted[fits[rng.integers(len(fits))]] = size
        left = [label for label in left if not wanted[label]]
    return natural(dataset, _drawn(dataset, draw, wanted), rng)


def equal(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """As many rows of every class as the smallest can give."""
    rooms = _rooms(dataset)
    wanted = np.where(rooms > 0, rooms[rooms > 0].min(), 0)
    return natural(dataset, _drawn(dataset, draw, wanted), rng)


def binary(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """One class, drawn, against all others together, with 0.5 % positives."""
    positives, labels = _positives(dataset), dataset.labels
    negatives = round(positives / POSITIVES) - positives
    sizes = dataset.sizes
    fits = np.flatnonzero((sizes >= positives) & (len(labels) - sizes >= negatives))
    if positives < FEWEST_POSITIVES or not len(fits):
        raise ValueError(
            f"{POSITIVES:.1%} positives are {positives} rows here, and no fewer than "
            f"{FEWEST_POSITIVES} say anything"
        )
    positive = fits[rng.integers(len(fits))]
    halves = (labels == positive).astype(np.int32)
    rows = imbalance.subsample(_rows_key(draw), halves, np.array([negatives, positives]))
    own = halves[rows]
    return Trial(
        replace(draw, rows=rows, kept={}),
        own,
        own,
        2,
        np.zeros(0, np.int64),
        (dataset.test_labels == positive).astype(np.int32),
    )


def binary_warm(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """The same, from one positive and nine negatives that are known."""
    trial = binary(dataset, draw, rng)
    positive = rng.choice(np.flatnonzero(trial.labels == 1), 1)
    negatives = rng.choice(np.flatnonzero(trial.labels == 0), WARM - 1, replace=False)
    return replace(trial, start=np.concatenate([positive, negatives]))


def wrong(dataset: datasets.Dataset, draw: draws.Draw, rng: np.random.Generator) -> Trial:
    """The pool as it is, and an answer in ten is wrong: any other class, each as likely."""
    trial = natural(dataset, draw, rng)
    others = rng.integers(1, trial.num_classes, len(trial.labels))
    mistaken = rng.random(len(trial.labels)) < WRONG
    told = np.where(mistaken, (trial.labels + others) % trial.num_classes, trial.labels)
    return replace(trial, told=told.astype(np.int32))


REGIMES: dict[str, Callable[[datasets.Dataset, draws.Draw, np.random.Generator], Trial]] = {
    "natural": natural,
    "tail": tail,
    "equal": equal,
    "binary": binary,
    "binary_warm": binary_warm,
    "wrong": wrong,
}


def trials(
    dataset: datasets.Dataset, regime: str, whole: Sequence[draws.Draw], *, seed: int
) -> list[Trial]:
    """One trial for each draw of the pool; those of a regime have equally many rows.

    Raises: ValueError where the pool is too small for the regime.
    """
    return [
        REGIMES[regime](dataset, draw, np.random.default_rng((seed, run)))
        for run, draw in enumerate(whole)
    ]


def is_binary(regime: str) -> bool:
    """Whether it has two classes, whatever the pool has."""
    return regime.startswith("binary")


def _rooms(dataset: datasets.Dataset) -> np.ndarray:
    """The most rows of each class that are drawn, so that runs differ in them: int [C]."""
    return np.floor(draws.SHARE * dataset.sizes + 1e-9).astype(np.int64)


def _positives(dataset: datasets.Dataset) -> int:
    return int(draws.SHARE * len(dataset.labels) * POSITIVES)


def _falling(rooms: np.ndarray) -> np.ndarray:
    """The largest sizes `L 200^(-r / (C - 1))`, rounded down and at least 1, that fit into `rooms`,
    both in descending order: int [C]."""
    shape = TAIL ** -np.linspace(0, 1, len(rooms))

    def sizes(largest: int) -> np.ndarray:
        return np.maximum(np.floor(largest * shape + 1e-9), 1).astype(np.int64)

    low, high = 1, int(rooms[0])
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if np.all(sizes(middle) <= rooms) else (low, middle - 1)
    return sizes(low)


def _drawn(dataset: datasets.Dataset, draw: draws.Draw, sizes: np.ndarray) -> draws.Draw:
    """A draw with as many rows of each class as `sizes` says."""
    rows = imbalance.subsample(_rows_key(draw), dataset.labels, sizes)
    return replace(draw, rows=rows, kept={})


def _rows_key(draw: draws.Draw) -> jax.Array:
    return jax.random.fold_in(draw.oracle_key, 1)
