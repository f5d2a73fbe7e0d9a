"""Statistics of paired runs: what a difference is worth, and how many labels an accuracy costs.
Pure functions of arrays, on the host.

Run `s` of one way to select and run `s` of another share their pool and key, so that their
difference says more than the two alone. `S` is the number of runs.
"""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

MOST_RUNS = 20


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error of `values` [S], S at least 2.

    >>> mean_and_error(np.array([1.0, 3.0]))
    (2.0, 1.0)
    """
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def interval(error: float, runs: int) -> float:
    """Half the width of Student's 95 % interval of a mean with this standard error.

    >>> round(interval(1.0, 10), 3)
    2.262
    """
    return float(stdtrit(runs - 1, 0.975)) * error


def sign_flip(differences: np.ndarray) -> float:
    """The probability of a mean as far from 0 as that of `differences` [S], were either sign of
    each equally likely: two-sided, exact.

    All `2^S` sign patterns count. The smallest possible value is `2 / 2^S`, reached where all
    differences have one sign.

    Raises: ValueError for no run or more than 20 of them.

    >>> sign_flip(np.array([1.0, 2.0, 3.0])), sign_flip(np.array([1.0, -1.0]))
    (0.25, 1.0)
    """
    if not 1 <= len(differences) <= MOST_RUNS:
        raise ValueError(
            f"the exact test takes 1 to {MOST_RUNS} paired runs, got {len(differences)}"
        )
    # A pattern and its opposite are equally far from 0, so the first sign can stay fixed.
    sums = np.asarray(differences[:1], np.float64)
    for difference in differences[1:]:
        sums = np.concatenate([sums + difference, sums - difference])
    # Equal sums may differ in their last bits, depending on the order of addition.
    rounding = 1e-9 * np.sum(np.abs(differences))
    return float(np.mean(np.abs(sums) >= abs(np.sum(differences)) - rounding))


def smallest_p(runs: int) -> float:
    """The smallest value that `sign_flip` can give.

    >>> smallest_p(10)
    0.001953125
    """
    return 2.0 ** (1 - runs)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction: p-values such that those at most `a` are together wrong with a probability
    of at most `a`.

    Source: Holm, Scandinavian Journal of Statistics 1979.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.02])]
    [0.03, 0.04, 0.04]
    """
    values = np.asarray(p_values, np.float64)
    order = np.argsort(values, kind="stable")
    raised = np.minimum(np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1)), 1.0)
    corrected = np.empty_like(raised)
    corrected[order] = raised
    return corrected.tolist()


def labels_for(
    accuracy: float, budgets: Sequence[int], accuracies: Sequence[float]
) -> tuple[float, str]:
    """How many labels a way to select needs for an accuracy, given what it reaches with each
    budget; and `=`, `<` or `>`.

    Between budgets the accuracy is taken for linear in the logarithm of the labels, and the first
    crossing counts. `<`: the smallest budget reaches it already; `>`: the largest does not; the
    number is then that budget.

    >>> labels_for(30.0, [100, 400], [20.0, 40.0]), labels_for(41.0, [100, 400], [20.0, 40.0])
    ((200.0, '='), (400.0, '>'))
    """
    if accuracy < accuracies[0]:
        return float(budgets[0]), "<"
    for index in range(len(budgets)):
        if accuracies[index] == accuracy:
            return float(budgets[index]), "="
        if index + 1 < len(budgets) and accuracies[index] < accuracy < accuracies[index + 1]:
            share = (accuracy - accuracies[index]) / (accuracies[index + 1] - accuracies[index])
            first, last = np.log(budgets[index]), np.log(budgets[index + 1])
            return round(float(np.exp(first + share * (last - first))), 6), "="
    return float(budgets[-1]), ">"


def share_of_gain(gain: float, most: float, error: float) -> float | None:
    """`gain / most`; None where the largest possible gain is not above its own standard error, so
    that the quotient says nothing.

    >>> share_of_gain(1.0, 4.0, 0.5), share_of_gain(1.0, 0.4, 0.5)
    (0.25, None)
    """
    return gain / most if most > max(error, 0.0) else None


def labels_until(labels: np.ndarray, targets: Sequence[int], at_least: int) -> int | None:
    """How many of `labels` [b], in their order, it took until every target class had `at_least` of
    them; None where there are too few.

    >>> labels_until(np.array([0, 1, 1, 0, 1]), [0, 1], 2)
    4
    >>> labels_until(np.array([0, 1]), [0, 1], 2) is None
    True
    """
    needed = [np.flatnonzero(labels == target)[at_least - 1 : at_least] for target in targets]
    return (
        None if any(last.size == 0 for last in needed) else int(max(last[0] for last in needed)) + 1
    )


def median_of_reached(needed: Sequence[int | None]) -> float | None:
    """The median of what every run needed, None meaning infinitely many; None where half of the
    runs or more never got there.

    >>> median_of_reached([300, None, 100]), median_of_reached([300, None])
    (300.0, None)
    """
    middle = float(np.median([np.inf if labels is None else labels for labels in needed]))
    return middle if np.isfinite(middle) else None
