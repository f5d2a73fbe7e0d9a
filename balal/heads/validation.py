"""What the heads share: checks of what they are given, folds, sizes to compile for, and the temperature of held-out logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from sklearn.model_selection import KFold

_LARGEST = 1e17


def checked(features, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features in float64 and labels in int64; ValueError for what no head can be fitted to."""
    rows, answers = np.asarray(features, np.float64), np.asarray(labels, np.int64)
    if len(rows) == 0:
        raise ValueError("there are no labelled rows to fit a head to")
    if len(rows) != len(answers):
        raise ValueError(f"features have {len(rows)} rows and labels {len(answers)}: give one label for each row")
    wrong = np.flatnonzero((answers < 0) | (answers >= num_classes))
    if wrong.size:
        raise ValueError(f"labels must lie in [0, {num_classes}), but {wrong.size} do not: rows {wrong[:5].tolist()}")
    wrong = np.flatnonzero(~(np.abs(rows) < _LARGEST).all(axis=1))
    if wrong.size:
        raise ValueError(f"features must be finite and within {_LARGEST:g}, but {wrong.size} rows are not: rows {wrong[:5].tolist()}")
    return rows, answers


def choices(C: float | int | Sequence[float | int], folds: int) -> list[float]:
    """The values of `C`, rising and distinct; ValueError where one is not positive or there are fewer than 2 folds."""
    values = sorted({float(value) for value in (C if isinstance(C, Sequence) else [C])})
    if not values or not all(0 < value < np.inf for value in values):
        raise ValueError(f"C must be positive and finite, got {C}")
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {folds}")
    return values


def folds_of(size: int, folds: int, seed: int) -> np.ndarray:
    """The fold that holds each row out: int [B]."""
    fold = np.empty(size, np.int64)
    for number, (_, left) in enumerate(KFold(min(folds, size), shuffle=True, random_state=seed).split(fold)):
        fold[left] = number
    return fold


def known(answers: np.ndarray, fold: np.ndarray, num_classes: int) -> np.ndarray:
    """Whether the run that leaves a row out has rows of a class: bool [B, num_classes]. Rows of fold -1 are left out by none."""
    # The last run leaves nothing out, and is where -1 points to.
    return np.array([np.bincount(answers[fold != number], minlength=num_classes) > 0 for number in range(fold.max() + 2)])[fold]


def bucket(size: int) -> int:
    """The next number of at least 128 that is an eighth, or less, above the one before it."""
    step = max(power_of_two(size) // 16, 16)
    return max(-(-size // step) * step, 128)


def power_of_two(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def temperature(values, answers) -> float:
    """The temperature under which held-out margins, as logits, are likeliest. Rows of classes their head did not know have no say."""
    known = np.isfinite(values[np.arange(len(answers)), answers])
    if not known.any():
        return 1.0
    values, answers = values[known], answers[known]

    def loss(logarithm: float) -> float:
        logits = values / np.exp(logarithm)
        return float(np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(answers)), answers]))

    found: Any = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded")
    return float(np.exp(found.x))
