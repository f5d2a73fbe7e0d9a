"""Which head? The one that does best on labelled rows that it has not seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Int, Integer

from balal.heads import fitting

Predict = Callable[[Int[np.ndarray, " train"], Int[np.ndarray, " held"]], np.ndarray]
"""Fits a head to the first rows and returns the classes it predicts for the second ones."""


@dataclass(frozen=True)
class Choice:
    """What `choose` finds.

    Attributes:
      name: of the best head.
      accuracies: of every head by name, the share of labelled rows that it predicted correctly
        without having seen them.
    """

    name: str
    accuracies: dict[str, float]


def choose(
    heads: Mapping[str, Predict],
    labels: Integer[Array | np.ndarray, " B"],
    *,
    folds: int = 10,
    seed: int = 0,
) -> Choice:
    """The head with the best accuracy in cross-validation on the labelled set, the first one of
    equals. All heads use the same folds.

    Args:
      heads: by name, for example a linear SVM on frozen features and a fine-tuned network, as
        functions of two arrays of indices into the labelled set: rows to fit to, rows to predict.
      labels: int [B].
      folds: at most one per row; shuffled, not stratified, as many classes may have a single label.
      seed: of the folds.

    Raises: ValueError for no heads, fewer than 2 labels or folds, or predictions that are not one
      class for each row.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Section 3.4 (transfer or fine-tuning, whichever
    is better in cross-validation).

    >>> heads = dict(zeros=lambda rows, held: 0 * held, ones=lambda rows, held: 0 * held + 1)
    >>> choose(heads, np.array([0, 1, 1, 1]), folds=2)
    Choice(name='ones', accuracies={'zeros': 0.25, 'ones': 0.75})
    """
    answers = fitting.classes("labels", labels)
    if not heads or len(answers) < 2 or folds < 2:
        raise ValueError(
            f"choosing a head needs at least 1 head, 2 labels and 2 folds, got {len(heads)}, "
            f"{len(answers)} and {folds}"
        )
    fold = fitting.folds_of(len(answers), folds, seed)
    accuracies = {}
    for name, predict in heads.items():
        right = 0
        for number in range(fold.max() + 1):
            rows, held = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
            predicted = fitting.classes(f"predictions of head {name}", predict(rows, held))
            if predicted.shape != held.shape:
                raise ValueError(
                    f"head {name} must predict one class for each of {len(held)} rows, got shape "
                    f"{predicted.shape}"
                )
            right += int(np.sum(predicted == answers[held]))
        accuracies[name] = right / len(answers)
    return Choice(max(accuracies, key=lambda name: accuracies[name]), accuracies)
