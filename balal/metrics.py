"""From labels and predictions to the numbers in the tables: how balanced a labelled set is, how
good a head is.

Counts are `[..., C]`, one number for every target class, 0 for those never found; leading axes
(seeds, strategies) pass through. Without any label there is nothing to compare: what divides by the
number of labels is nan.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal import check

_Labels = Integer[Array | np.ndarray, " B"]
_Predicted = Integer[Array | np.ndarray, " P"]
_Counts = Real[Array | np.ndarray, "*batch C"]
_Percent = Real[Array | np.ndarray, "..."] | Sequence[Any] | float | int


def class_counts(labels: _Labels, *, num_classes: int) -> Int[Array, " C"]:
    """How many labels each target class has: int32 [C].

    `labels` is int [B], a class id a row; padding (-1) is not counted, and neither is an id of
    `num_classes` or more. Raises ValueError when `num_classes` is less than 1.

    >>> class_counts(jnp.array([0, 2, 2, -1]), num_classes=3).tolist()
    [1, 0, 2]
    """
    labels, num_classes = _checked(num_classes, labels=labels)
    return _class_counts(labels, num_classes=num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _class_counts(labels: _Labels, *, num_classes: int) -> Int[Array, " C"]:
    return jnp.zeros(num_classes, jnp.int32).at[_in_range(labels, num_classes)].add(1, mode="drop")


def classes_found(counts: _Counts) -> Int[Array, "*batch"]:
    """How many target classes have at least one label: int32 [...] from counts [..., C].

    >>> int(classes_found(jnp.array([3, 0, 1])))
    2
    """
    return jnp.sum(_float32("counts", counts) > 0, axis=-1, dtype=jnp.int32)


def imbalance_ratio(counts: _Counts) -> Float[Array, "*batch"]:
    """Population standard deviation over mean of the class counts: [...], from 0 (balanced) to
    `sqrt(C - 1)` (all of one class).

    nan without labels. `counts` must hold every class of the data set, absent ones as 0: only so do
    Tables 4 and 5 of the paper come out.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Tables 1, 4 and 5.

    >>> float(imbalance_ratio(jnp.array([2, 2, 0, 0])))
    1.0
    """
    counts = _float32("counts", counts)
    return jnp.std(counts, axis=-1) / jnp.mean(counts, axis=-1)


def entropy(counts: _Counts) -> Float[Array, "*batch"]:
    """Entropy of the class frequencies in nats: [...] from counts [..., C]; `log C` when balanced,
    nan without labels.

    >>> round(float(entropy(jnp.array([5, 5, 0]))), 4)
    0.6931
    """
    counts = _float32("counts", counts)
    return jnp.sum(
        jax.scipy.special.entr(counts / jnp.sum(counts, axis=-1, keepdims=True)), axis=-1
    )


def effective_classes(counts: _Counts) -> Float[Array, "*batch"]:
    """How many equally frequent classes have the same entropy, `exp(entropy)`: [...] from counts
    [..., C]; nan without labels.

    >>> round(float(effective_classes(jnp.array([5, 5, 0]))), 4)
    2.0
    """
    return jnp.exp(entropy(counts))


def max_over_min(counts: _Counts) -> Float[Array, "*batch"]:
    """The largest class over the smallest: [...] from counts [..., C]; inf when a class is absent.

    >>> float(max_over_min(jnp.array([6, 3, 2]))), float(max_over_min(jnp.array([6, 0])))
    (3.0, inf)
    """
    counts = _float32("counts", counts)
    smallest = jnp.min(counts, axis=-1)
    # The inner `where` keeps 0 / 0 from happening at all: a run that hunts for nans would stop
    # there.
    return jnp.where(
        smallest > 0, jnp.max(counts, axis=-1) / jnp.where(smallest > 0, smallest, 1.0), jnp.inf
    )


def confusion(labels: _Labels, predicted: _Predicted, *, num_classes: int) -> Int[Array, "C C"]:
    """How often each true class (row) was predicted as each class (column): int32 [C, C].

    Args:
      labels: int [B], true classes, -1 = padding.
      predicted: int [B], what the head says. A prediction that is no class (-1, or `num_classes`
        and more) has no column and is left out here; `balanced_accuracy` and `macro_f1` count it as
        wrong.

    Raises: ValueError when the lengths differ or `num_classes` is less than 1.

    >>> confusion(jnp.array([0, 0, 1]), jnp.array([0, 1, 1]), num_classes=2).tolist()
    [[1, 1], [0, 1]]
    """
    labels, predicted, num_classes = _checked(num_classes, labels=labels, predicted=predicted)
    return _confusion(labels, predicted, num_classes=num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _confusion(labels, predicted, *, num_classes: int) -> Int[Array, "C C"]:
    cells = _in_range(labels, num_classes), _in_range(predicted, num_classes)
    return jnp.zeros((num_classes, num_classes), jnp.int32).at[cells].add(1, mode="drop")


def balanced_accuracy(
    labels: _Labels, predicted: _Predicted, *, num_classes: int
) -> Float[Array, ""]:
    """Mean, over the classes of the test set, of the share of their rows that is predicted right:
    in [0, 1], nan without labels.

    A class that has test rows and was never discovered is never predicted and counts 0; a class
    without test rows does not count. Arguments and errors as in `confusion`.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020 (top-1 accuracy averaged over the classes).

    >>> float(balanced_accuracy(jnp.array([0, 0, 0, 1]), jnp.array([0, 0, 0, 0]), num_classes=5))
    0.5
    """
    labels, predicted, num_classes = _checked(num_classes, labels=labels, predicted=predicted)
    return _balanced_accuracy(labels, predicted, num_classes=num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _balanced_accuracy(labels, predicted, *, num_classes: int) -> Float[Array, ""]:
    hits, rows, _ = _tallies(labels, predicted, num_classes)
    return jnp.sum(hits / jnp.maximum(rows, 1)) / jnp.sum(rows > 0).astype(jnp.float32)


def macro_f1(labels: _Labels, predicted: _Predicted, *, num_classes: int) -> Float[Array, ""]:
    """Mean, over the classes of the test set, of F1 = `2 hits / (true rows + rows predicted so)`:
    in [0, 1], nan without labels.

    Arguments and errors as in `confusion`.

    >>> round(float(macro_f1(jnp.array([0, 0, 1, 1]), jnp.array([0, 1, 1, 1]), num_classes=2)), 4)
    0.7333
    """
    labels, predicted, num_classes = _checked(num_classes, labels=labels, predicted=predicted)
    return _macro_f1(labels, predicted, num_classes=num_classes)


@partial(jax.jit, static_argnames="num_classes")
def _macro_f1(labels, predicted, *, num_classes: int) -> Float[Array, ""]:
    hits, rows, guesses = _tallies(labels, predicted, num_classes)
    shares = 2 * hits / jnp.maximum(rows + guesses, 1)
    return jnp.sum(shares) / jnp.sum(rows > 0).astype(jnp.float32)


def area_under_curve(
    budgets: Real[Array | np.ndarray, " points"],
    accuracies: Real[Array | np.ndarray, "*batch values"],
) -> Float[Array, "*batch"]:
    """Mean height of a learning curve over its range of budgets, by trapezoids: [...], a constant
    curve gives its constant.

    `budgets` [points] rise; `accuracies` [..., points] may be in any unit. Raises ValueError when
    there are fewer than two points or the two do not fit together.

    >>> float(area_under_curve(jnp.array([0, 1, 4]), jnp.array([0.0, 1.0, 1.0])))
    0.875
    """
    budgets, accuracies = _float32("budgets", budgets), _float32("accuracies", accuracies)
    if budgets.ndim != 1 or len(budgets) < 2 or accuracies.shape[-1:] != budgets.shape:
        raise ValueError(
            f"give two budgets or more and one accuracy for each, got shapes {budgets.shape} and "
            f"{accuracies.shape}"
        )
    return _area_under_curve(budgets, accuracies)


@jax.jit
def _area_under_curve(budgets, accuracies) -> Float[Array, "*batch"]:
    heights = (accuracies[..., 1:] + accuracies[..., :-1]) / 2
    shares = jnp.broadcast_to(jnp.diff(budgets) / (budgets[-1] - budgets[0]), heights.shape)
    # A sum and not a matrix product, which accelerators do in fewer bits.
    return jnp.sum(heights * shares, axis=-1)


def g_al(accuracy: _Percent, full: _Percent) -> float:
    """Mean over configurations of `(accuracy - full) / (100 - full)`: 0 = as good as labelling
    everything, negative = worse.

    On the host, in float64, so that the digits of a table are safe.

    Args:
      accuracy: percent, any shape, one number for each configuration (data set and budget).
      full: percent, broadcast to `accuracy`: the accuracy with the whole pool labelled.

    Raises: ValueError when `full` does not broadcast to `accuracy` or is 100, a number is not
    within 0 to 100, or there is none.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 10.

    >>> g_al([[50.0, 60.0], [70.0, 80.0]], 80.0)
    -0.75
    """
    achieved, ceiling = (
        np.asarray(check.array(name, values, lists=True), np.float64)
        for name, values in (("accuracy", accuracy), ("full", full))
    )
    for name, values in (("accuracy", achieved), ("full", ceiling)):
        wrong = values[~((values >= 0) & (values <= 100))]
        if wrong.size or not values.size:
            raise ValueError(
                f"{name} must be in percent, 0 to 100, got {wrong[:3].tolist()} ({wrong.size} of "
                f"{values.size} are not)"
            )
    if np.any(ceiling == 100):
        raise ValueError(
            "full is 100, which leaves nothing to gain and g_al undefined: leave such "
            "configurations out"
        )
    try:
        ceiling = np.broadcast_to(ceiling, achieved.shape)
    except ValueError as error:
        raise ValueError(
            f"full of shape {ceiling.shape} does not broadcast to accuracy of shape "
            f"{achieved.shape}: reshape it"
        ) from error
    return float(np.mean((achieved - ceiling) / (100 - ceiling)))


def _checked(num_classes: int, **classes: Any) -> list[Any]:
    """The class ids as integers, and how many classes there are."""
    num_classes = check.whole_number("num_classes", num_classes)
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, got {num_classes}")
    found = {name: check.integers(name, values) for name, values in classes.items()}
    for name, values in found.items():
        if values.ndim != 1:
            raise ValueError(f"{name} must be one class id for each row, got shape {values.shape}")
    if len({len(values) for values in found.values()}) > 1:
        raise ValueError(
            f"labels has {len(found['labels'])} rows and predicted {len(found['predicted'])}: give "
            f"one prediction for each label"
        )
    return [*found.values(), num_classes]


def _float32(name: str, values: Any) -> Array:
    found = jnp.asarray(check.floats(name, values, lists=True), jnp.float32)
    if not found.ndim:
        raise ValueError(f"{name} must have one axis or more, got a single number")
    return found


def _in_range(classes: _Labels, num_classes: int) -> Array:
    """Class ids, int32; all that is no class goes to `num_classes`, where `drop` ignores it (-1
    would wrap round to the last class)."""
    classes = jnp.asarray(classes, jnp.int32)
    return jnp.where((classes >= 0) & (classes < num_classes), classes, num_classes)


def _tallies(
    labels: _Labels, predicted: _Predicted, num_classes: int
) -> tuple[Array, Array, Array]:
    """Of each class the rows predicted right, the true rows and the rows predicted so: float32 [C]
    each."""
    labels, predicted = _in_range(labels, num_classes), _in_range(predicted, num_classes)
    count = partial(_class_counts, num_classes=num_classes)
    hits = jnp.where(labels == predicted, labels, num_classes)
    guesses = jnp.where(labels < num_classes, predicted, num_classes)
    hits, rows, guesses = (count(each).astype(jnp.float32) for each in (hits, labels, guesses))
    return hits, rows, guesses
