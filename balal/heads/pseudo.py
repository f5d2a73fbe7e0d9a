"""Pseudo-labels: what a head is sure of in the unlabelled pool is taken for labels, the same number of each class at most.

rows, classes = pseudo.propose(probabilities, counts)
head = pseudo.fit(features[indices], labels[indices], features, num_classes=100)
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal.heads import logistic, rebalance


def propose(
    probabilities: Float[Array | np.ndarray, "N C"],
    counts: Integer[Array | np.ndarray, " C"],
    *,
    confidence: float = 0.95,
    cap: int | None = None,
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Rows of the pool that may be taken for labelled, and their classes: int64 [n] each, rows rising.

    Args:
      probabilities: [N, C], as if all classes were alike frequent; of rows that have labels already 0.
      counts: [C], labels of each class. One that has none gets none.
      confidence: the least probability.
      cap: rows of a class at most, its surest; None: the median number of labels of a class that has any.

    Source: Yang, Xu, NeurIPS 2020. Differs from the authors' code in the confidence and the cap: there every row is taken, and a pool that
      is not balanced makes the labels less so.

    >>> rows, classes = propose(np.array([[0.99, 0.01], [0.97, 0.03], [0.6, 0.4]]), np.array([1, 1]))
    >>> rows.tolist(), classes.tolist()
    ([0], [0])
    """
    shares, known = np.asarray(probabilities, np.float64), np.asarray(counts) > 0
    shares = np.where(known[None, :], shares, 0)
    most = int(np.median(np.asarray(counts)[known])) if cap is None else cap
    guess, sure = shares.argmax(axis=1), shares.max(axis=1, initial=0)
    taken = []
    for label in np.flatnonzero(known):
        rows = np.flatnonzero((guess == label) & (sure >= confidence))
        taken.extend(rows[np.argsort(-sure[rows], kind="stable")[:most]].tolist())
    rows = np.array(sorted(taken), np.int64)
    return rows, guess[rows]


def fit(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    pool: Real[Array | np.ndarray, "N D"],
    *,
    num_classes: int,
    C: float | int | Sequence[float | int] = 10.0,
    folds: int = 10,
    seed: int = 0,
    confidence: float = 0.95,
    weight: float = 0.5,
    rounds: int = 1,
) -> logistic.Head:
    """A logistic head fitted to the labels and to pseudo-labels of the pool, with the balanced softmax. Same input, same head.

    A first head, calibrated on held-out labels, proposes; the next is fitted to both. `counts` of the head are of the true labels: pseudo
    ones are neither bought nor found.

    Args:
      features, labels, num_classes, C, folds, seed: as of `balal.heads.logistic.fit`.
      pool: [N, D], the unlabelled rows.
      confidence: as of `propose`. weight: what a pseudo-label counts. rounds: of proposing and fitting.

    Raises: what `balal.heads.logistic.fit` raises.

    Source: Yang, Xu, NeurIPS 2020 (the value of labels), on frozen features.
    """
    features, labels, pool = np.asarray(features), np.asarray(labels), np.asarray(pool)
    counts = rebalance.counts_of(labels, num_classes=num_classes)

    def fitted(rows, classes):
        more = rebalance.counts_of(classes, num_classes=num_classes)
        return logistic.fit(
            np.concatenate([features, pool[rows]]),
            np.concatenate([labels, classes]),
            num_classes=num_classes,
            C=C,
            folds=folds,
            seed=seed,
            calibrate=True,
            weights=np.concatenate([np.ones(len(labels)), np.full(len(rows), weight)]),
            adjustment=rebalance.adjustment(counts + weight * more),
        )

    none = np.zeros(0, np.int64)
    head = fitted(none, none)
    for _ in range(rounds):
        shares = np.zeros((len(pool), num_classes))
        shares[:, head.classes] = logistic.probabilities(head, pool)
        head = fitted(*propose(shares, counts, confidence=confidence))
    return logistic.Head(**{**vars(head), "counts": counts[head.classes]})
