"""A linear SVM on frozen features: scikit-learn's `LinearSVC` (one-vs-rest, squared hinge, L2) as a pair of functions.

head = svm.fit(features[indices], labels[indices], num_classes=100)
predicted = svm.predict(head, test_features)
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold
from sklearn.svm import LinearSVC


@dataclass(frozen=True)
class Head:
    """A fitted linear SVM, as plain arrays. `k` is the number of classes seen among the labels.

    coef: float64 [k, D] and intercept: float64 [k], one row a class seen. classes: int [k], their ids, rising. counts: int [k], labels of
    each. C: of the fit, the chosen one where there was a choice. accuracies: (C, held-out accuracy) of every C tried, empty where none
    was held out. temperature: what margins are divided by to become logits, None where the head was not calibrated. converged: whether
    the solver reached its tolerance in the fit and in the folds of the chosen C.
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
    max_iter: int = 10_000,
) -> Head:
    """A `Head` fitted to labelled features. Same input, same head.

    Args:
      features: [B, D], computed with in float64. `C = 10` is good for rows of norm about 1, see `balal.heads.scaling`.
      labels: int [B], in [0, num_classes); any part of the classes may be absent, and one alone is predicted always.
      num_classes: how many target classes there are.
      C: inverse strength of the L2 penalty. Of several, the one with the best accuracy on held-out rows is taken, the smallest of equals.
      folds: of that cross-validation; as many as there are rows where there are fewer. Shuffled, not stratified: a class whose only
        labels are held out cannot be predicted there and counts as wrong.
      seed: of the folds and of the solver.
      calibrate: also fit a temperature to the held-out margins, which `predict(..., thresholding=True)` needs.
      max_iter: passes of the solver over the rows, at most. Whether they sufficed is told in `Head.converged`; nothing is warned.

    Raises: ValueError for no rows, wrong shapes, labels out of range, features that are not finite, a `C` that is not positive or fewer
      than 2 folds.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Section 4.1 (C by 10-fold cross-validation).

    Not for several threads at once: liblinear draws from one random generator for the whole process, and so would not repeat itself. Use
    processes.

    >>> head = fit(np.array([[-1.0], [1.0], [2.0]]), np.array([4, 7, 7]), num_classes=10)
    >>> predict(head, np.array([[-3.0], [3.0]])).tolist()
    [4, 7]
    """
    rows, answers = _checked(features, labels, num_classes)
    choices = sorted({float(value) for value in (C if isinstance(C, Sequence) else [C])})
    if not choices or not all(0 < value < np.inf for value in choices):
        raise ValueError(f"C must be positive and finite, got {C}")
    if folds < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {folds}")

    best, accuracies, temperature, converged = choices[0], (), None, True
    if len(answers) > 1 and (len(choices) > 1 or calibrate):
        tried = [_held_out(rows, answers, num_classes, value, folds, seed, max_iter) for value in choices]
        accuracies = tuple(
            (value, float(np.mean(margins.argmax(axis=1) == answers))) for value, (margins, _) in zip(choices, tried, strict=True)
        )
        place = int(np.argmax([accuracy for _, accuracy in accuracies]))
        best, (margins, converged) = choices[place], tried[place]
        temperature = _temperature(margins, answers) if calibrate else None
    elif calibrate:
        temperature = 1.0

    coef, intercept, classes, done = _train(rows, answers, best, seed, max_iter)
    counts = np.bincount(answers, minlength=num_classes)[classes]
    return Head(coef, intercept, classes, counts, num_classes, best, accuracies, temperature, converged and done)


def predict(head: Head, features: Real[Array | np.ndarray, "M D"], *, thresholding: bool = False) -> Int[np.ndarray, " M"]:
    """The class of every row: int64 [M], only classes that the head has seen.

    Args:
      features: [M, D], scaled as those of `fit` were.
      thresholding: divide the class probabilities by the priors of the labelled set, for test sets that are balanced where the labelled
        set is not. Probabilities are the softmax of the margins over the head's temperature; priors are smoothed, `(n_c + 1) / (B + k)`.

    Raises: ValueError where the number of columns differs, or for thresholding with a head that was fitted without `calibrate=True`:
      raw margins are no probabilities, and dividing them by priors costs more often than it helps.

    Source: Buda, Maki, Mazurowski, Neural Networks 2018 (thresholding); Guo et al., ICML 2017 (temperature).
    """
    values = margins(head, features)
    if thresholding:
        if head.temperature is None:
            raise ValueError("thresholding needs calibrated probabilities: fit the head with calibrate=True")
        # The softmax's denominator is the same for every class of a row, so dividing by priors is subtracting their logarithms.
        values = values / head.temperature - np.log((head.counts + 1) / np.sum(head.counts + 1))
    return head.classes[np.argmax(values, axis=1)]


def margins(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Float[np.ndarray, "M k"]:
    """Signed distances to the head's hyperplanes, in units of the margin: float64 [M, k], columns in the order of `head.classes`.

    Raises: ValueError where the number of columns differs from that of `fit`.
    """
    rows = np.asarray(features, np.float64)
    if rows.shape[1] != head.coef.shape[1]:
        raise ValueError(f"the head was fitted on {head.coef.shape[1]} columns, and these features have {rows.shape[1]}")
    return rows @ head.coef.T + head.intercept


def _train(rows, answers, C: float, seed: int, max_iter: int):
    """One plain fit: coef [k, D], intercept [k], classes [k] and whether it converged."""
    classes = np.unique(answers)
    if len(classes) == 1:
        return np.zeros((1, rows.shape[1])), np.zeros(1), classes, True
    with warnings.catch_warnings():
        # Said by `converged` instead: a warning cannot be stored beside the figure it concerns.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Many classes among few labels is what we are here for, not a regression by mistake.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        # `dual` may be "auto" or a boolean; type checkers see only the default.
        machine = LinearSVC(C=C, dual=True, random_state=seed, max_iter=max_iter)  # pyright: ignore[reportArgumentType]
        machine.fit(rows, answers)
    coef, intercept = np.asarray(machine.coef_, np.float64), np.asarray(machine.intercept_, np.float64)
    if len(classes) == 2:
        # Two classes share one hyperplane, whose positive side is the second.
        coef, intercept = np.concatenate([-coef, coef]), np.concatenate([-intercept, intercept])
    return coef, intercept, classes, bool(np.max(machine.n_iter_) < max_iter)


def _held_out(rows, answers, num_classes: int, C: float, folds: int, seed: int, max_iter: int):
    """Margins of every row by a head that has not seen it, [B, C], -inf for classes that head does not know, and whether all converged."""
    values, converged = np.full((len(answers), num_classes), -np.inf), True
    for kept, left in KFold(min(folds, len(answers)), shuffle=True, random_state=seed).split(rows):
        coef, intercept, classes, done = _train(rows[kept], answers[kept], C, seed, max_iter)
        values[np.ix_(left, classes)] = rows[left] @ coef.T + intercept
        converged &= done
    return values, converged


def _temperature(values, answers) -> float:
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


def _checked(features, labels, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    rows, answers = np.asarray(features, np.float64), np.asarray(labels, np.int64)
    if len(rows) == 0:
        raise ValueError("there are no labelled rows to fit a head to")
    if len(rows) != len(answers):
        raise ValueError(f"features have {len(rows)} rows and labels {len(answers)}: give one label for each row")
    wrong = np.flatnonzero((answers < 0) | (answers >= num_classes))
    if wrong.size:
        raise ValueError(f"labels must lie in [0, {num_classes}), but {wrong.size} do not: rows {wrong[:5].tolist()}")
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if wrong.size:
        raise ValueError(f"features must be finite, but {wrong.size} rows are not: rows {wrong[:5].tolist()}")
    return rows, answers
