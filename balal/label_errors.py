"""Which labels may be wrong: those that the other labels speak against."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real
from scipy.linalg import cho_factor, cho_solve

from balal import check

# Of the Gaussian process: the noise of a label, as in the posterior; and how many labels are judged
# together, as its matrix has a row and a column for each.
_NOISE, _TOGETHER = 0.1, 4096


@dataclass(frozen=True)
class Suspects:
    """What `suspects` finds.

    Attributes:
      order: int [B], the labelled rows, the most suspicious first.
      doubt: [B], for each labelled row what the others leave to doubt: 1 less the share of its own
        class in what they predict, 0 to 1.
      said: int [B], the class that the others predict.
    """

    order: Int[np.ndarray, " B"]
    doubt: Float[np.ndarray, " B"]
    said: Int[np.ndarray, " B"]


def suspects(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
) -> Suspects:
    """The labels in the order in which to check them: first those that the others contradict.

    Each label is predicted by a Gaussian process from all others, in closed form: with `A` the
    inverse of the kernel matrix of the labelled rows plus noise `s2`, and `Y` their labels as 0-1
    columns, the prediction without row i is `F_i = Y_i - (A Y)_i / A_ii`. The share of class c in
    it is that of the likelihoods of a 0-1 label with that noise, `exp(F_ic / s2)`. The kernel is
    that of the posterior: `exp(-|z - z'|^2 / 2 h)` of directions from the mean, `h` their variance.

    More than 4,096 labels are judged in groups of at most that many, each with every g-th row.

    Args:
      features: [B, D], of the labelled rows.
      labels: int [B], their target classes, not negative.

    Raises: ValueError for fewer than two rows, other shapes, features that are not finite, or
      negative labels.

    Source: this library; leave-one-out in closed form: Rasmussen, Williams, *Gaussian processes for
      machine learning*, 2006, section 5.4.2. Twin: `left_out` in tests/test_label_errors.py.

    >>> rows = np.array([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
    >>> found = suspects(rows, np.array([0, 0, 1, 1, 1, 1]))
    >>> int(found.order[0]), int(found.said[2])
    (2, 0)
    """
    rows = np.asarray(check.feature_table(features), np.float64)
    check.features(rows, varied=False)
    answers = np.asarray(check.integers("labels", labels), np.int64)
    if answers.shape != (len(rows),) or len(rows) < 2:
        raise ValueError(
            f"labels must be one class for each of at least two rows, got shape {answers.shape} "
            f"for {len(rows)} rows of features"
        )
    if answers.min() < 0:
        raise ValueError(
            f"labels must not be negative, but row {int(np.argmin(answers))} has {answers.min()}: "
            f"leave out rows without a label"
        )
    groups = -(-len(rows) // _TOGETHER)
    doubt, said = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for first in range(groups):
        own = slice(first, None, groups)
        doubt[own], said[own] = _left_out(rows[own], answers[own])
    return Suspects(np.argsort(-doubt, kind="stable"), doubt, said)


def _left_out(rows: np.ndarray, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The doubt about each label, and the class that the others say, [n] each."""
    directions = rows - rows.mean(axis=0)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.divide(directions, lengths, out=np.zeros_like(directions), where=lengths > 0)
    # 0 where all rows are one.
    variance = max(1 - float(np.sum(np.square(directions.mean(axis=0)))), 1e-6)
    squares = np.sum(np.square(directions), axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * directions @ directions.T
    kernel = np.exp(-np.maximum(apart, 0) / (2 * variance))
    kernel[np.diag_indices(len(rows))] += _NOISE
    classes, columns = np.unique(answers, return_inverse=True)
    targets = np.eye(len(classes))[columns]
    inverse = cho_solve(cho_factor(kernel, overwrite_a=True), np.eye(len(rows)))
    predicted = targets - inverse @ targets / np.diag(inverse)[:, None]
    weights = np.exp((predicted - predicted.max(axis=1, keepdims=True)) / _NOISE)
    shares = weights / weights.sum(axis=1, keepdims=True)
    return 1 - shares[np.arange(len(rows)), columns], classes[predicted.argmax(axis=1)]
