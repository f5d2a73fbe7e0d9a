"""A linear SVM on frozen features, one-vs-rest, squared hinge and L2: the objective of
scikit-learn's `LinearSVC`.

    head = svm.fit(features[indices], labels[indices], num_classes=100)
    predicted = svm.predict(head, test_features)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal.heads import fitting, svm_solver

# Largest duality gaps, as shares of the objective: what the solver aims for, and what
# `Head.converged` guarantees.
_TOLERANCE, _PROMISED = 1e-4, 1e-3
_LADDER = 4


@dataclass(frozen=True)
class Head:
    """A fitted linear SVM, as plain arrays. `k` is the number of classes seen among the labels.

    Attributes:
      coef: float64 [k, D], one row for each class seen.
      intercept: float64 [k].
      classes: int [k], their ids, ascending.
      counts: int [k], labels of each class.
      num_classes: how many target classes there are.
      C: inverse strength of the penalty, the chosen one if there was a choice.
      accuracies: (C, held-out accuracy) of every C tried, empty if no rows were held out.
      temperature: what margins are divided by to become logits, None if the head was not
        calibrated.
      converged: whether every objective, in the fit and in the folds of the chosen C, is proven to
        be within 0.1 % of the optimum.
    """

    coef: Float[np.ndarray, "k D"]
    intercept: Float[np.ndarray, " k"]
    classes: Int[np.ndarray, " k"]
    counts: Int[np.ndarray, " k"]
    num_classes: int
    C: float
    accuracies: tuple[tuple[float, float], ...]
    temperature: float | None
    converged: bool


def fit(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    num_classes: int,
    C: float | int | Sequence[float | int] = 10.0,
    folds: int = 10,
    seed: int = 0,
    calibrate: bool = False,
) -> Head:
    """A `Head` fitted to labelled features. The same input gives the same head.

    One program solves every class, fold and value of `C` in float32 (`balal.heads.svm_solver`). It
    is compiled once for similar numbers of rows, up to an eighth apart, so that later heads of the
    same budget need no compilation.

    Args:
      features: [B, D]. `C = 10` is good for rows of norm about 1, see `balal.heads.scaling`.
      labels: int [B], in [0, num_classes); classes may be absent, and a single one is always
        predicted.
      num_classes: how many target classes there are.
      C: inverse strength of the L2 penalty. Of several, the one with the best accuracy on held-out
        rows is taken, the smallest of equals.
      folds: of that cross-validation; at most one per row. Shuffled, not stratified: a class whose
        only labels are held out cannot be predicted there and counts as wrong.
      seed: of the folds.
      calibrate: also fit a temperature to the held-out margins, which
        `predict(..., thresholding=True)` needs.

    Raises: ValueError for no rows, wrong shapes, labels out of range, features that are not finite
      or beyond 1e17, a `C` that is not positive or fewer than 2 folds.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Section 4.1 (C by 10-fold cross-validation).

    >>> head = fit(np.array([[-1.0], [1.0], [2.0]]), np.array([4, 7, 7]), num_classes=10)
    >>> predict(head, np.array([[-3.0], [3.0]])).tolist()
    [4, 7]
    """
    rows, answers = fitting.checked(features, labels, num_classes)
    choices = fitting.choices(C, folds)

    classes, answers, counts = np.unique(answers, return_inverse=True, return_counts=True)
    chosen, accuracies, temperature = 0, (), 1.0 if calibrate else None
    held_out = len(answers) > 1 and (len(choices) > 1 or calibrate)
    fold = fitting.folds_of(len(answers), folds, seed) if held_out else np.full(len(answers), -1)
    margins, solution = _solved(
        rows, answers, fold, choices, max(fitting.power_of_two(len(classes)), 8)
    )
    if held_out:
        correct = [float(np.mean(values.argmax(axis=1) == answers)) for values in margins]
        chosen, accuracies = int(np.argmax(correct)), tuple(zip(choices, correct, strict=True))
        temperature = fitting.temperature(margins[chosen], answers) if calibrate else None

    coef = np.asarray(solution.coef, np.float64)[chosen, : len(classes), : rows.shape[1]]
    intercept = np.asarray(solution.intercept, np.float64)[chosen, : len(classes)]
    converged = bool(np.all(np.asarray(solution.gap)[:, chosen] <= _PROMISED))
    return Head(
        coef,
        intercept,
        classes,
        counts,
        num_classes,
        choices[chosen],
        accuracies,
        temperature,
        converged,
    )


def predict(
    head: Head, features: Real[Array | np.ndarray, "M D"], *, thresholding: bool = False
) -> Int[np.ndarray, " M"]:
    """The class of every row: int64 [M], only classes that the head has seen.

    Args:
      head: from `fit`.
      features: [M, D], scaled as those of `fit` were.
      thresholding: divide the class probabilities by the priors of the labelled set, for test sets
        that are balanced when the labelled set is not. Probabilities are the softmax of the margins
        divided by the head's temperature; priors are smoothed, `(n_c + 1) / (B + k)`.

    Raises: ValueError where the number of columns differs, or for thresholding with a head that was
      fitted without `calibrate=True`: raw margins are not probabilities, and dividing them by
      priors hurts more often than it helps.

    Source: Buda, Maki, Mazurowski, Neural Networks 2018 (thresholding); Guo et al., ICML 2017
      (temperature).
    """
    values = margins(head, features)
    if thresholding:
        if head.temperature is None:
            raise ValueError(
                "thresholding needs calibrated probabilities: fit the head with calibrate=True"
            )
        # The softmax's denominator is the same for every class of a row, so dividing by priors
        # means subtracting their logarithms.
        values = values / head.temperature - np.log((head.counts + 1) / np.sum(head.counts + 1))
    return head.classes[np.argmax(values, axis=1)]


def margins(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Float[np.ndarray, "M k"]:
    """Signed distances to the head's hyperplanes, in units of the margin: float64 [M, k], columns
    in the order of `head.classes`.

    Raises: ValueError where the number of columns differs from that of `fit`.
    """
    return fitting.columns(features, head.coef) @ head.coef.T + head.intercept


def _solved(
    rows, answers, fold, choices: list[float], num_classes: int
) -> tuple[np.ndarray, svm_solver.Solution]:
    """Margins of held-out rows [G, B, k], -inf for classes unknown to their run, and everything
    that the solver found."""
    size, num_folds = len(answers), int(fold.max()) + 1
    more, columns = fitting.bucket(size) - size, -rows.shape[1] % 8
    # Steps of ten, from a strength at which even a row of ordinary length has little effect.
    strengths = np.concatenate([choices[0] * 10.0 ** np.arange(-_LADDER, 0), choices])
    begin = np.searchsorted(
        strengths[:_LADDER], 0.1 / (1 + np.mean(np.sum(np.square(rows), axis=1)))
    )
    found = svm_solver.solve(
        jnp.asarray(np.pad(rows, ((0, more), (0, columns))), jnp.float32),
        jnp.asarray(np.pad(answers, (0, more)), jnp.int32),
        jnp.asarray(np.pad(np.ones(size), (0, more)), jnp.float32),
        jnp.asarray(np.pad(fold, (0, more), constant_values=-1), jnp.int32),
        jnp.asarray(strengths, jnp.float32),
        jnp.float32(_TOLERANCE),
        jnp.int32(begin),
        num_classes=num_classes,
        num_folds=num_folds,
        ladder=_LADDER,
    )
    known = fitting.known(answers, fold, num_classes)
    margins = np.where(
        known[None], np.asarray(found.held_out)[:, :, :size].transpose(0, 2, 1), -np.inf
    )
    return margins, found
