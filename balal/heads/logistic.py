"""Softmax regression on frozen features, L2-penalised: the objective of scikit-learn's
`LogisticRegression`.

    head = logistic.fit(features[indices], labels[indices], num_classes=100)
    predicted = logistic.predict(head, test_features)
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Integer, Real
from scipy.special import softmax as _softmax

from balal import check
from balal.heads import fitting, softmax

# How much another Newton step may still lower the objective, as a share of it: what the solver aims
# for, and what `Head.converged` guarantees.
_TOLERANCE, _PROMISED = 1e-5, 1e-4


@dataclass(frozen=True)
class Head:
    """A fitted softmax regression, as plain arrays. `k` is the number of classes seen among the
    labels.

    Attributes:
      coef: float64 [k, D], one row for each class seen.
      intercept: float64 [k].
      classes: int [k], their ids, ascending.
      counts: int [k], labels of each class.
      num_classes: how many target classes there are, `C` in the shapes.
      C: inverse strength of the penalty, the chosen one if there was a choice.
      accuracies: (C, held-out accuracy) of every C tried, empty if no rows were held out.
      temperature: what logits are divided by, 1 if the head was not calibrated.
      converged: whether the solver reached its tolerance in the fit and in the folds of the chosen
        C.
    """

    coef: Float[np.ndarray, "k D"]
    intercept: Float[np.ndarray, " k"]
    classes: Int[np.ndarray, " k"]
    counts: Int[np.ndarray, " k"]
    num_classes: int
    C: float
    accuracies: tuple[tuple[float, float], ...]
    temperature: float
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
    balanced: bool = False,
    weights: Real[Array | np.ndarray, " rows"] | None = None,
    adjustment: Real[Array | np.ndarray, " C"] | None = None,
    given: Bool[Array | np.ndarray, " rows"] | None = None,
    before: Head | None = None,
) -> Head:
    """A `Head` fitted to labelled features. The same input gives the same head. One program solves
    all folds and values of `C` in float32.

    Args:
      features: [B, D].
      labels: int [B], in [0, num_classes); classes without labels are never predicted.
      num_classes: how many target classes there are.
      C: inverse strength of the L2 penalty. Of several, the one with the best accuracy on held-out
        rows is taken, the smallest of equals.
      folds: of that cross-validation, shuffled; at most one per row.
      seed: of the folds.
      calibrate: also fit a temperature to the held-out logits.
      balanced: choose `C` by the mean accuracy over classes, not over rows.
      weights: [B], how much each row counts in the loss; see `balal.heads.rebalance` for weights of
        classes. None: 1.
      adjustment: [num_classes], added to the logits in the loss only, for example
        `rebalance.adjustment(counts)` for the balanced softmax.
      given: bool [B], the labels that a person gave (None: all). The others, such as pseudo-labels,
        are not counted and have no say in the choice of `C` and the temperature.
      before: a head fitted to other labels of the same pool, such as fewer of them, from which the
        solver begins; it changes how long a fit takes, and nothing else beyond the tolerance.

    Raises: ValueError for no rows, wrong shapes, labels out of range, features that are not finite
      or beyond 1e17, a `C` that is not positive, fewer than 2 folds, weights that are negative or
      all 0, an adjustment that is not finite for classes with labels, or `given` without one
      boolean per row or without a true one.

    >>> head = fit(np.array([[-1.0], [1.0], [2.0]]), np.array([4, 7, 7]), num_classes=10)
    >>> predict(head, np.array([[-3.0], [3.0]])).tolist()
    [4, 7]
    """
    rows, answers = fitting.checked(features, labels, num_classes)
    choices = fitting.choices(C, folds)
    counted = np.ones(len(answers)) if weights is None else fitting.numbers("weights", weights)
    wrong = np.flatnonzero(~(np.isfinite(counted) & (counted >= 0)))
    if counted.shape != answers.shape or wrong.size or not counted.any():
        raise ValueError(
            f"weights must be one number for each row, none negative and not all 0, got "
            f"shape {counted.shape}; wrong rows: {wrong[:5].tolist()}"
        )
    shift = fitting.of_classes(
        "adjustment", np.zeros(num_classes) if adjustment is None else adjustment, num_classes
    )
    unseen = np.bincount(answers, minlength=num_classes) == 0
    fitting.require(
        unseen | np.isfinite(shift),
        "adjustment must be finite for classes that have labels",
        "classes",
    )
    mask = check.mask("given", given, size=len(answers))
    real = np.ones(len(answers), bool) if mask is None else np.asarray(mask)
    if not real.any():
        raise ValueError("given must be one boolean for each row, some of them true, and none is")

    classes, answers = np.unique(answers, return_inverse=True)
    counts = np.bincount(answers[real], minlength=len(classes))
    chosen, accuracies, temperature = 0, (), 1.0
    held_out = len(answers) > 1 and (len(choices) > 1 or calibrate)
    fold = fitting.folds_of(len(answers), folds, seed) if held_out else np.full(len(answers), -1)
    begin = _begin(before, classes, rows.shape[1])
    values, solution = _solved(rows, answers, counted, fold, choices, shift[classes], begin)
    if held_out:
        values, judges = [logits[real] for logits in values], answers[real]
        each = 1 / counts[judges] if balanced else np.ones(len(judges))
        correct = [
            float(np.average(logits.argmax(axis=1) == judges, weights=each)) for logits in values
        ]
        chosen, accuracies = int(np.argmax(correct)), tuple(zip(choices, correct, strict=True))
        temperature = fitting.temperature(values[chosen], judges) if calibrate else 1.0
    coef = np.asarray(solution.coef, np.float64)[chosen, : len(classes), : rows.shape[1]]
    intercept = np.asarray(solution.intercept, np.float64)[chosen, : len(classes)]
    converged = bool(np.all(np.asarray(solution.decrease)[:, chosen] <= _PROMISED))
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


def predict(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Int[np.ndarray, " M"]:
    """The class of every row: int64 [M], only classes that the head has seen.

    For imbalanced labels:
    `head.classes[rebalance.adjust(logits(head, features), head.counts).argmax(axis=1)]`.
    """
    return head.classes[np.argmax(logits(head, features), axis=1)]


def probabilities(
    head: Head, features: Real[Array | np.ndarray, "M D"]
) -> Float[np.ndarray, "M k"]:
    """The probability of every class seen: float64 [M, k], rows sum to 1, columns in the order of
    `head.classes`."""
    return _softmax(logits(head, features), axis=1)


def logits(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Float[np.ndarray, "M k"]:
    """Logits divided by the temperature: float64 [M, k], columns in the order of `head.classes`.

    Raises: ValueError where the number of columns differs from that of `fit`.
    """
    return (fitting.columns(features, head.coef) @ head.coef.T + head.intercept) / head.temperature


def class_logits(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Float[np.ndarray, "M C"]:
    """`logits` with a column for each target class: float64 [M, C], `-inf` for classes that the
    head has not seen. What strategies that ask the target model take as logits of the pool."""
    found = np.full((len(features), head.num_classes), -np.inf)
    found[:, head.classes] = logits(head, features)
    return found


def held_out(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    num_classes: int,
    C: float | int = 10.0,
    folds: int = 5,
    seed: int = 0,
) -> Float[np.ndarray, "B C"]:
    """The probabilities of all target classes for every row, by a head fitted to the other folds:
    float64 [B, num_classes], 0 for classes that those folds lack. `balal.suspects` takes them as
    `probs`.

    Args and errors are those of `fit`; at least two rows.

    >>> rows = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> held_out(rows, np.array([0, 0, 1, 1]), num_classes=2, folds=4).argmax(axis=1).tolist()
    [0, 0, 1, 1]
    """
    rows, answers = fitting.checked(features, labels, num_classes)
    strengths = fitting.choices(C, folds)
    if len(answers) < 2:
        raise ValueError("one label leaves no other to predict it from")
    classes, answers = np.unique(answers, return_inverse=True)
    fold = fitting.folds_of(len(answers), folds, seed)
    none, begin = np.zeros(len(classes)), _begin(None, classes, rows.shape[1])
    values, _ = _solved(rows, answers, np.ones(len(answers)), fold, strengths, none, begin)
    found = np.zeros((len(answers), num_classes))
    found[:, classes] = _softmax(values[0][:, : len(classes)], axis=1)
    return found


def _begin(before: Head | None, classes: np.ndarray, size: int) -> np.ndarray:
    """Coefficients [k, D + 1] of these classes in another head, 0 where it does not know them."""
    begin = np.zeros((len(classes), size + 1))
    if before is None:
        return begin
    if before.coef.shape[1] != size:
        raise ValueError(
            f"`before` was fitted on {before.coef.shape[1]} columns, and these features have {size}"
        )
    _, new, old = np.intersect1d(classes, before.classes, return_indices=True)
    begin[new] = np.column_stack([before.coef, before.intercept])[old]
    return begin


def _solved(
    rows, answers, weights, fold, choices: list[float], shift, begin
) -> tuple[np.ndarray, softmax.Solution]:
    """Logits of held-out rows [G, B, k], -inf for classes unknown to their run, and everything that
    the solver found."""
    size, num_classes = len(answers), max(fitting.power_of_two(len(shift)), 8)
    more, columns = fitting.bucket(size) - size, -rows.shape[1] % 8
    found = softmax.solve(
        jnp.asarray(np.pad(rows, ((0, more), (0, columns))), jnp.float32),
        jnp.asarray(np.pad(answers, (0, more)), jnp.int32),
        jnp.asarray(np.pad(weights, (0, more)), jnp.float32),
        jnp.asarray(np.pad(fold, (0, more), constant_values=-1), jnp.int32),
        jnp.asarray(choices, jnp.float32),
        jnp.asarray(np.pad(shift, (0, num_classes - len(shift))), jnp.float32),
        jnp.float32(_TOLERANCE),
        # The intercept stays in the last column.
        jnp.asarray(
            np.insert(
                np.pad(begin, ((0, num_classes - len(shift)), (0, 0))),
                [rows.shape[1]] * columns,
                0,
                axis=1,
            ),
            jnp.float32,
        ),
        num_folds=int(fold.max()) + 1,
    )
    known = fitting.known(answers, fold, num_classes)
    return np.where(known[None], np.asarray(found.held_out)[:, :size], -np.inf), found
