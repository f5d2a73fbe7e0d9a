"""Which labels may be wrong: those that the other labels speak against."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from balal import check

# Of the Gaussian process: the noise of a label, as wrong ones are among them; and how many labels
# are judged together, as its matrix has a row and a column for each.
_NOISE, _TOGETHER = 0.3, 4096
# Of the share of wrong labels: as if so many had been found right before; and the largest share.
_RIGHT, _MOST = 10, 0.5


@dataclass(frozen=True)
class Suspects:
    """What `suspects` finds.

    Attributes:
      order: int [B], the labelled rows, the most suspicious first.
      doubt: [B], for each labelled row what the others leave to doubt: 1 less the probability of
        its own class in what they predict, 0 to 1.
      said: int [B], the class that the others predict.
      wrong: [B], how probable it is that each label is wrong, 0 to 1. Their mean estimates the
        share of wrong labels.
    """

    order: Int[np.ndarray, " B"]
    doubt: Float[np.ndarray, " B"]
    said: Int[np.ndarray, " B"]
    wrong: Float[np.ndarray, " B"]

    @property
    def again(self) -> Int[np.ndarray, " n"]:
        """The rows whose labels are more probably wrong than right, most probably first: a second
        answer to one of them is worth more than the label of a new row."""
        first = np.argsort(-self.wrong, kind="stable")
        return first[: int(np.sum(self.wrong > 0.5))]


def suspects(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    probs: Real[Array | np.ndarray, "given C"] | None = None,
) -> Suspects:
    """The labels in the order in which to check them: first those that the others contradict.

    Each label is predicted by a Gaussian process from all others, in closed form: with `A` the
    inverse of the kernel matrix of the labelled rows plus noise `s2`, and `Y` their labels as 0-1
    columns, the prediction without row i is `F_i = Y_i - (A Y)_i / A_ii`, and its probabilities
    `softmax(F_i / t)`, with the temperature `t` under which the labels are most likely. The kernel
    is that of the posterior: `exp(-|z - z'|^2 / 2 h)` of directions from the mean, `h` their
    variance.

    A second opinion, such as `balal.heads.logistic.held_out`, is calibrated in the same way, and
    the two are mixed in the proportion under which the labels are most likely (stacking). It finds
    more where there are many classes with a dozen labels or more each.

    Whether a label is wrong is another question than how surprising it is. Taking a share e of the
    labels to be wrong, each other class as likely, a label that was given probability p is wrong
    with probability `(e / C) / ((1 - e) p + e / C)`. The share, and a power to which the
    predictions are raised, as they were softened by the wrong labels, are those under which the
    labels are most likely, ten more having been right. The only label of a class says nothing, and
    mistakes that are always the same look like classes that overlap.

    More than 4,096 labels are judged in groups of at most that many, each with every g-th row.

    Args:
      features: [B, D], of the labelled rows.
      labels: int [B], their target classes, not negative.
      probs: [B, C], the probabilities of all target classes by any model that has not seen the
        label of the row.

    Raises: ValueError for fewer than two rows, other shapes, features that are not finite, negative
      labels, or `probs` that are no probabilities or lack a class.

    Source: this library; leave-one-out in closed form: Rasmussen, Williams, *Gaussian processes for
      machine learning*, 2006, section 5.4.2; stacking: Yao et al., *Bayesian Analysis* 2018.
      Twin: `left_out` in tests/test_label_errors.py.

    >>> rows = np.array([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
    >>> found = suspects(rows, np.array([0, 0, 1, 1, 1, 1]))
    >>> int(found.order[0]), int(found.said[2])
    (2, 0)
    """
    rows, answers = checked(features, labels)
    classes, columns = np.unique(answers, return_inverse=True)
    if probs is not None:
        probs = np.asarray(check.array("probs", probs), np.float64)
        if probs.ndim != 2 or len(probs) != len(rows) or probs.shape[1] <= classes[-1]:
            raise ValueError(
                f"probs must have a row for each of {len(rows)} labels and a column for each class "
                f"up to {classes[-1]}, got shape {probs.shape}"
            )
        check.probs(probs)
        probs = probs[:, classes]
    groups = -(-len(rows) // _TOGETHER)
    doubt, wrong, said = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for first in range(groups):
        group = slice(first, None, groups)
        own = columns[group]
        found = _calibrated(_left_out(rows[group], own, len(classes)), own)
        if probs is not None:
            with np.errstate(divide="ignore"):
                second = _calibrated(np.log(probs[group]), own)
            found = _stacked(found, second, own)
        doubt[group] = 1 - found[np.arange(len(own)), own]
        said[group] = classes[found.argmax(axis=1)]
        wrong[group] = _wrong(found, own)
    return Suspects(np.argsort(-doubt, kind="stable"), doubt, said, wrong)


def checked(features: Any, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Features of labelled rows in float64 and their labels in int64; ValueError as in
    `suspects`."""
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
    return rows, answers


def _left_out(rows: np.ndarray, columns: np.ndarray, num_classes: int) -> np.ndarray:
    """What the others predict of each row, [n, k]."""
    directions = rows - rows.mean(axis=0)
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.divide(directions, lengths, out=np.zeros_like(directions), where=lengths > 0)
    # 0 where all rows are one.
    variance = max(1 - float(np.sum(np.square(directions.mean(axis=0)))), 1e-6)
    squares = np.sum(np.square(directions), axis=1)
    apart = squares[:, None] + squares[None, :] - 2 * directions @ directions.T
    kernel = np.exp(-np.maximum(apart, 0) / (2 * variance))
    kernel[np.diag_indices(len(rows))] += _NOISE
    targets = np.eye(num_classes)[columns]
    inverse = cho_solve(cho_factor(kernel, overwrite_a=True), np.eye(len(rows)))
    return targets - inverse @ targets / np.diag(inverse)[:, None]


def _calibrated(logits: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Probabilities [n, k] from logits, at the temperature under which the labels are most likely;
    those held impossible have no say."""
    each = np.arange(len(columns))
    said = np.isfinite(logits[each, columns])

    def loss(logarithm: float) -> float:
        values = log_softmax(logits[said] / np.exp(logarithm), axis=1)
        return -float(np.mean(values[np.arange(len(values)), columns[said]]))

    found: Any = minimize_scalar(loss, bounds=(-7.0, 7.0), method="bounded") if said.any() else None
    return np.exp(log_softmax(logits / (np.exp(found.x) if found else 1.0), axis=1))


def _stacked(first: np.ndarray, second: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """The mixture of two opinions [n, k] under which the labels are most likely."""
    one, other = (opinion[np.arange(len(columns)), columns] for opinion in (first, second))

    def loss(share: float) -> float:
        return -float(np.mean(np.log(share * other + (1 - share) * one + 1e-300)))

    found: Any = minimize_scalar(loss, bounds=(0.0, 1.0), method="bounded")
    return found.x * second + (1 - found.x) * first


def _wrong(found: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """How probable it is that each label is wrong, [n], by what the others predict, [n, k]."""
    number, num_classes = found.shape
    each, logs = np.arange(number), np.log(found + 1e-300)
    telling = np.bincount(columns)[columns] > 1
    if not telling.any() or num_classes < 2:
        return np.zeros(number)

    def given(power: float) -> np.ndarray:
        return np.exp(log_softmax(np.exp(power) * logs, axis=1)[each, columns])

    def share(own: np.ndarray) -> Any:
        def loss(share: float) -> float:
            likely = (1 - share) * own[telling] + share / num_classes
            return -float(np.sum(np.log(likely)) + _RIGHT * np.log1p(-share))

        return minimize_scalar(loss, bounds=(0.0, _MOST), method="bounded")

    # Not one valley: the best of some powers, refined.
    step = 0.25
    powers = np.arange(-1, 3, step)
    start = powers[np.argmin([share(given(power)).fun for power in powers])]
    power: Any = minimize_scalar(
        lambda power: share(given(power)).fun, bounds=(start - step, start + step), method="bounded"
    )
    own = given(power.x)
    e = share(own).x
    likely = e / num_classes / ((1 - e) * own + e / num_classes)
    return np.where(telling, likely, e)
