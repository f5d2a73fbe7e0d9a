"""Pseudo-labels: a head labels the rows of the pool that it is sure of, up to a number for each
class, and is fitted to them as well.

They never count as labels that a person gave: they spend no budget, find no class, and no strategy
sees them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal.heads import fitting, logistic, rebalance


@dataclass(frozen=True)
class PseudoLabels:
    """Rows of the pool with the labels that a head gives them.

    Attributes:
      rows: int [P], of the pool, the surest first within a class.
      labels: int [P], columns of the probabilities from `choose`, class ids from `fit`.
      confidence: [P], the probabilities of these labels.
    """

    rows: Int[np.ndarray, " P"]
    labels: Int[np.ndarray, " P"]
    confidence: Float[np.ndarray, " P"]


def choose(
    probabilities: Real[Array | np.ndarray, "M k"], *, most: int, confidence: float = 0.95
) -> PseudoLabels:
    """The rows with one sure class, at most `most` for each class, the surest first, ties to the
    lowest row.

    The same limit for every class keeps frequent or easy classes from drowning out the rest.

    Raises: ValueError for a confidence that is not a probability, or a negative bound.

    >>> choose(np.array([[0.97, 0.03], [0.99, 0.01], [0.5, 0.5]]), most=1).rows.tolist()
    [1]
    """
    if not 0 <= confidence <= 1:
        raise ValueError(f"confidence must be a probability, got {confidence}")
    if most < 0:
        raise ValueError(f"most must not be negative, got {most}")
    values = fitting.numbers("probabilities", probabilities)
    if values.ndim != 2 or not values.shape[1]:
        raise ValueError(
            f"probabilities must be [M, k] with at least one class, got shape {values.shape}"
        )
    fitting.require(np.isfinite(values).all(axis=1), "probabilities must be finite")
    labels, sure = values.argmax(axis=1), values.max(axis=1)
    order = np.lexsort((-sure, labels))
    order = order[sure[order] >= confidence]
    first = np.searchsorted(labels[order], labels[order])
    order = order[np.arange(len(order)) - first < most]
    return PseudoLabels(order, labels[order], sure[order])


def fit(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " B"],
    pool: Real[Array | np.ndarray, "M D"],
    *,
    num_classes: int,
    C: float | int | Sequence[float | int] = 10.0,
    confidence: float = 0.95,
    most: int | None = None,
    weight: float = 0.5,
    rounds: int = 1,
    folds: int = 10,
    seed: int = 0,
) -> tuple[logistic.Head, PseudoLabels]:
    """A head fitted to labels, then again to labels and pseudo-labels; and the pseudo-labels of the
    last round.

    Every fit uses the loss of the balanced softmax, so that its probabilities are those for a
    balanced pool; in later fits its priors include pseudo-labels at their weight. `head.counts` has
    only labels. `C`, by the mean accuracy over classes, and the temperature are chosen in the fit
    to labels alone and kept: later, held-out labels would be predicted with the help of
    pseudo-labels that they had a say in. For the same reason no round is evaluated: the last one is
    taken.

    Args:
      features: [B, D].
      labels: [B].
      pool: [M, D], rows without labels.
      num_classes: how many target classes there are. Pseudo-labels are only of classes among the
        labels.
      C: inverse strength of the penalty; of several, cross-validation takes the best.
      confidence: the least probability of a pseudo-label, after calibration on held-out rows.
      most: pseudo-labels per class (None: the median number of labels of the classes seen).
      weight: how much a pseudo-label counts compared with a label.
      rounds: how many times pseudo-labels are chosen, each time by the latest head.
      folds: for `C` and the temperature.
      seed: of the folds.

    Source: after Yang, Xu, NeurIPS 2020 (the value of labels), who take every row of the pool,
      whatever its confidence.

    >>> rows, labels = np.array([[-1.0], [1.0]] * 4), np.array([0, 1] * 4)
    >>> head, pseudo = fit(rows, labels, np.array([[-9.0], [0.0]]), num_classes=2)
    >>> pseudo.rows.tolist(), pseudo.labels.tolist()
    ([0], [0])
    """
    if rounds < 1:
        raise ValueError(f"there must be at least one round, got {rounds}")
    rows, answers, others = (
        fitting.numbers("features", features),
        fitting.classes("labels", labels),
        fitting.numbers("pool", pool),
    )
    shift = rebalance.adjustment(rebalance.counts_of(answers, num_classes=num_classes))
    # This first fit also checks labels and features.
    fit_head = partial(logistic.fit, num_classes=num_classes)
    first = head = fit_head(
        rows, answers, C=C, folds=folds, seed=seed, calibrate=True, balanced=True, adjustment=shift
    )
    bound = int(np.median(first.counts)) if most is None else most
    pseudo = PseudoLabels(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    for _ in range(rounds):
        found = choose(logistic.probabilities(head, others), most=bound, confidence=confidence)
        pseudo = PseudoLabels(found.rows, head.classes[found.labels], found.confidence)
        weights = np.concatenate([np.ones(len(answers)), np.full(len(pseudo.rows), weight)])
        together = np.concatenate([answers, pseudo.labels])
        shift = rebalance.adjustment(np.bincount(together, weights=weights, minlength=num_classes))
        everything = np.concatenate([rows, others[pseudo.rows]])
        given = np.arange(len(together)) < len(answers)
        head = fit_head(
            everything, together, C=first.C, weights=weights, adjustment=shift, given=given
        )
        converged = first.converged and head.converged
        head = replace(
            head, accuracies=first.accuracies, temperature=first.temperature, converged=converged
        )
    return head, pseudo
