"""Are the features of the source model of any use for this pool? Measures of it, with labels and
without."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from balal import check
from balal.kernels.neighbours import nearest
from balal.types import Pool

# Neighbours of a row, and the rows that are looked at: more of them change nothing but the time.
_NEIGHBOURS, _LOOKED_AT = 10, 2**14
# The ratio alpha / beta is looked for between these multiples of the mean squared singular value.
_LOWEST, _HIGHEST, _GRID, _GOLDEN = 1e-8, 1e8, 161, 60


@dataclass(frozen=True)
class Transferability:
    """What `transferability` finds; None where the pool lacks what a measure needs.

    Attributes:
      source_classes: the effective number of source classes that are predicted, `exp(H)` of their
        shares of the pool: how finely the source model divides it.
      certainty: the mean probability of the predicted source class.
      agreement: how often a row and its nearest neighbours are predicted as the same source class,
        0 where not more often than by chance, 1 always.
      logme: the log evidence a label of a linear model of the target classes, larger = the labels
        are easier to tell from the features; comparable between features of the same labelled rows.
      boundary: whether that is the limit of a model that ignores the features, or fits the labels
        exactly, for some class; such values do not compare.
      labelled_agreement: how often labelled rows and their nearest labelled neighbours have the
        same target class, each class counting alike, 0 by chance and 1 always.
    """

    source_classes: float | None
    certainty: float | None
    agreement: float | None
    logme: float | None
    boundary: bool | None
    labelled_agreement: float | None


def transferability(
    pool: Pool, labels: Int[Array | np.ndarray, " N"] | None = None
) -> Transferability:
    """How well the source model suits a pool.

    Without labels it can only tell that the source model is lost: few classes predicted, no
    certainty, neighbours that disagree. With some labels, `logme` and `labelled_agreement` tell
    whether the target classes can be told apart.

    Args:
      pool: with features, scores, or both.
      labels: int [N], -1 for rows without; None: none.

    Neighbours are looked for among the candidates, at most 16,384 of them, evenly spaced.

    Raises: ValueError for a pool without features and scores, and for labels of another length.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, section 4.6, for the histogram of source classes;
      You, Liu, Wang, Long, *LogME*, ICML 2021, as `log_evidence`.

    >>> pool = Pool(jnp.array([[0.0], [0.1], [5.0], [5.1]]))
    >>> transferability(pool, np.array([0, 0, 1, 1])).labelled_agreement
    1.0
    """
    check.pool(pool)
    size = check.rows_in(pool)
    candidates = (
        np.ones(size, bool) if pool.candidates is None else np.asarray(pool.candidates, bool)
    )
    classes = certainty = agreement = logme = boundary = labelled = None
    if pool.scores is not None:
        predicted = np.asarray(pool.scores.predicted)
        shares = np.bincount(predicted[candidates]) / candidates.sum()
        shares = shares[shares > 0]
        classes = float(np.exp(-np.sum(shares * np.log(shares))))
        certainty = 1 - float(np.mean(np.asarray(pool.scores.least_confidence)[candidates]))
        if pool.features is not None:
            agreement = _agreement(pool.features, predicted, np.flatnonzero(candidates))
    if labels is not None:
        found = np.asarray(check.integers("labels", labels), np.int64)
        if found.shape != (size,):
            raise ValueError(
                f"labels must be [N] for the {size} rows of the pool, -1 for those without, got "
                f"shape {found.shape}"
            )
        rows = np.flatnonzero(found >= 0)
        if len(rows) > 1 and pool.features is not None:
            features = np.asarray(pool.features)[rows]
            logme, boundary = log_evidence(features, found[rows])
            labelled = _agreement(pool.features, found, rows, by_class=True)
    return Transferability(classes, certainty, agreement, logme, boundary, labelled)


def log_evidence(
    features: Float[np.ndarray, "B D"], labels: Int[np.ndarray, " rows"]
) -> tuple[float, bool]:
    """LogME: the mean over classes of the largest log evidence a row, of a linear model of whether
    a row is of the class; and whether some class has its largest at the end of the range.

    With the singular values `s_i` and left singular vectors `U` of the features [B, D], `x = U't`
    for the 0-1 target `t` of a class, and `r = alpha / beta` the ratio of the precisions of weights
    and noise, the evidence is largest over `beta` at `beta = B / q(r)`, where

        q(r) = sum_i x_i^2 / (1 + s_i^2 / r) + |t|^2 - |x|^2
        L(r) = (B log(B / q(r)) - sum_i log(1 + s_i^2 / r) - B - B log 2 pi) / (2 B)

    which is then searched for the best `r`, in float64. Classes that are not among the labels do
    not count.

    Args:
      features: [B, D].
      labels: int [B], target classes.

    Raises: ValueError for no rows, or labels of another length.

    Source: You, Liu, Wang, Long, ICML 2021. The published code leaves out `(D - k) log alpha` where
      there are fewer rows than features.

    >>> rows = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.0, 2.0], [1.0, 2.0], [2.0, 0.0]])
    >>> value, boundary = log_evidence(rows, np.array([0, 0, 1, 1, 1, 0]))
    >>> round(value, 6), boundary
    (-0.794308, False)
    """
    rows, answers = np.asarray(features, np.float64), np.asarray(labels, np.int64)
    if rows.ndim != 2 or len(rows) == 0 or answers.shape != (len(rows),):
        raise ValueError(
            f"features must be [B, D] with one label for each row, got shapes {rows.shape} and "
            f"{answers.shape}"
        )
    size = len(rows)
    left, singular, _ = np.linalg.svd(rows, full_matrices=False)
    real = singular > singular[0] * max(rows.shape) * np.finfo(np.float64).eps
    squares = np.square(singular[real])
    if not len(squares):
        squares, left = np.ones(1), np.zeros((size, 1))
        real = np.ones(1, bool)
    targets = (answers[:, None] == np.unique(answers)).astype(np.float64)
    parts = np.square(left[:, real].T @ targets)
    rest = np.maximum(targets.sum(axis=0) - parts.sum(axis=0), 0)

    def evidence(logarithm: np.ndarray) -> np.ndarray:
        """L at a log r for each class, [classes]."""
        shrunk = 1 + squares[:, None] / np.exp(logarithm)[None, :]
        left_over = np.maximum(np.sum(parts / shrunk, axis=0) + rest, 1e-300)
        value = size * np.log(size / left_over) - np.sum(np.log(shrunk), axis=0)
        return (value - size - size * np.log(2 * np.pi)) / (2 * size)

    scale = np.log(squares.mean())
    grid = scale + np.linspace(np.log(_LOWEST), np.log(_HIGHEST), _GRID)
    table = np.stack([evidence(np.full(targets.shape[1], at)) for at in grid])
    best = table.argmax(axis=0)
    boundary = bool(np.any((best == 0) | (best == _GRID - 1)))
    low, high = grid[np.maximum(best - 1, 0)], grid[np.minimum(best + 1, _GRID - 1)]
    golden = (np.sqrt(5) - 1) / 2
    for _ in range(_GOLDEN):
        first, second = high - golden * (high - low), low + golden * (high - low)
        left_is_better = evidence(first) >= evidence(second)
        low, high = np.where(left_is_better, low, first), np.where(left_is_better, second, high)
    found = np.maximum(evidence((low + high) / 2), table.max(axis=0))
    return float(found.mean()), boundary


def _agreement(
    features: Float[Array, "N D"],
    classes: Int[np.ndarray, " N"],
    rows: Int[np.ndarray, " n"],
    *,
    by_class: bool = False,
) -> float | None:
    """The share of a row's nearest rows that are of its class, up to ten and at most as many as
    there are, corrected for chance; None where there is no choice."""
    if len(rows) > _LOOKED_AT:
        rows = rows[np.linspace(0, len(rows) - 1, _LOOKED_AT).astype(np.int64)]
    if len(rows) < 2:
        return None
    own = classes[rows]
    counts = np.bincount(own)
    # A row of a class of three has two neighbours to agree with.
    looked_at = np.minimum(counts - 1, _NEIGHBOURS)[own]
    found = nearest(jnp.asarray(features)[rows], min(_NEIGHBOURS, len(rows) - 1))
    same = own[np.asarray(found.indices)] == own[:, None]
    same &= np.arange(same.shape[1])[None, :] < looked_at[:, None]
    chance = (counts[own] - 1) / (len(rows) - 1)
    kept = looked_at > 0
    if not kept.any() or len(counts[counts > 0]) == 1:
        return None
    each = np.ones(len(rows)) if not by_class else 1 / counts[own]
    above = same.sum(axis=1)[kept] / looked_at[kept] - chance[kept]
    return float(np.sum(each[kept] * above) / np.sum(each[kept] * (1 - chance[kept])))
