"""What fitting any head takes: checks of the input, folds, sizes to compile for, and the
temperature of held-out logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from balal import check
from balal.wording import first_few

_LARGEST = 1e17


def checked(features, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Features in float64 and labels in int64; ValueError if no head can be fitted to them."""
    rows, answers = numbers("features", features), classes("labels", labels)
    if rows.ndim != 2:
        raise ValueError(
            f"features must be [B, D] and labels [B], got shapes {rows.shape} and {answers.shape}"
        )
    if len(rows) == 0:
        raise ValueError("there are no labelled rows to fit a head to")
    if len(rows) != len(answers):
        raise ValueError(
            f"features have {len(rows)} rows and labels {len(answers)}: give one label for each row"
        )
    require((answers >= 0) & (answers < num_classes), f"labels must be in [0, {num_classes})")
    require(
        (np.abs(rows) < _LARGEST).all(axis=1), f"features must be finite and within {_LARGEST:g}"
    )
    return rows, answers


def numbers(name: str, values) -> np.ndarray:
    """Any array of real numbers, or list of them, in float64; ValueError for what is none."""
    return np.asarray(check.array(name, values, lists=True), np.float64)


def classes(name: str, values) -> np.ndarray:
    """Any array of integers [n], or list of them, in int64; ValueError for what is none."""
    found = np.asarray(check.integers(name, values), np.int64)
    if found.ndim != 1:
        raise ValueError(f"{name} must be one class for each row, got shape {found.shape}")
    return found


def require(right, rule: str, what: str = "rows") -> None:
    """ValueError that says which entries break a rule, if any do."""
    wrong = np.flatnonzero(~right)
    if wrong.size:
        raise ValueError(f"{rule}, but these {what} are not: {first_few(wrong)}")


def of_classes(name: str, values, num_classes: int, *, axes: int = 1) -> np.ndarray:
    """The values in float64; ValueError unless there are `axes` axes, the last with one number for
    each class."""
    found = numbers(name, values)
    if found.ndim != axes or found.shape[-1] != num_classes:
        raise ValueError(
            f"{name} must have a number for each of {num_classes} classes, got shape {found.shape}"
        )
    return found


def columns(features, coef: np.ndarray) -> np.ndarray:
    """Features in float64; ValueError if they have another number of columns than the head was
    fitted on."""
    rows = numbers("features", features)
    if rows.ndim != 2 or rows.shape[1] != coef.shape[1]:
        raise ValueError(
            f"the head was fitted on {coef.shape[1]} columns, and these features have shape "
            f"{rows.shape}"
        )
    return rows


def choices(C: float | int | Sequence[float | int], folds: int) -> list[float]:
    """The values of `C`, ascending and distinct; ValueError if one is not positive or there are
    fewer than 2 folds."""
    values = sorted({float(value) for value in (C if isinstance(C, Sequence) else [C])})
    if not values or not all(0 < value < np.inf for value in values):
        raise ValueError(f"C must be positive and finite, got {C}")
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {folds}")
    return values


def folds_of(size: int, folds: int, seed: int) -> np.ndarray:
    """The fold that holds each row out: int [B]."""
    fold = np.empty(size, np.int64)
    # As scikit-learn's shuffled KFold divides them.
    shuffled = np.random.RandomState(seed).permutation(size)
    for number, rows in enumerate(np.array_split(shuffled, min(folds, size))):
        fold[rows] = number
    return fold


def known(answers: np.ndarray, fold: np.ndarray, num_classes: int) -> np.ndarray:
    """Whether the run that leaves a row out has rows of a class: bool [B, num_classes]. No run
    leaves out rows of fold -1."""
    # The last run leaves nothing out, and index -1 points to it.
    return np.array(
        [
            np.bincount(answers[fold != number], minlength=num_classes) > 0
            for number in range(fold.max() + 2)
        ]
    )[fold]


def bucket(size: int) -> int:
    """The next number of at least 128 that is an eighth, or less, above the one before it."""
    step = max(power_of_two(size) // 16, 16)
    return max(-(-size // step) * step, 128)


def power_of_two(size: int) -> int:
    """The next power of two."""
    return 1 << (size - 1).bit_length()


def temperature(values, answers) -> float:
    """The temperature under which the labels of held-out rows are most likely, with margins as
    logits. Rows of classes unknown to their head are ignored."""
    known = np.isfinite(values[np.arange(len(answers)), answers])
    if not known.any():
        return 1.0
    values, answers = values[known], answers[known]

    def loss(logarithm: float) -> float:
        logits = values / np.exp(logarithm)
        return float(
            np.mean(np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(answers)), answers])
        )

    found: Any = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded")
    return float(np.exp(found.x))
