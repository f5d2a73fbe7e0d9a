"""The steps of a Gaussian process over the pool: before any label, after some more, and restricted
to some of the rows."""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from balal import check, xla
from balal.kernels.distances import directions, mean
from balal.kernels.gaussian_process import exact, with_landmarks
from balal.kernels.gaussian_process.columns import take
from balal.kernels.gaussian_process.exact import Exact
from balal.kernels.gaussian_process.with_landmarks import Landmarks
from balal.types import askable

# The class means are updated in so many groups.
_GROUPS = 8
# `with_hits` looks back at as many labels as there are classes, and at least at so many.
_RECENT = 20
# What is expected less than this is expected not at all, but for rounding.
_EXPECTED = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianProcess:
    """What `begin` makes and `update` updates.

    Attributes:
      mean: [C, N], posterior mean of the one-hot label of every row.
      variance: [N], 1 before the first label.
      counts: int32 [C], labels of each class.
      count: labels so far.
      hits: [2], how many of the last labels were of the class that the labels before them made
        likeliest, and how many these last labels are; older ones count less and less.
      noise: variance of a label around its mean.
      relation: how rows are related, exactly or through landmarks.
    """

    mean: Float[Array, "*S C N"]
    variance: Float[Array, "*S N"]
    counts: Int[Array, "*S C"]
    count: Int[Array, "*S"]
    hits: Float[Array, "*S 2"]
    noise: Float[Array, "*S"]
    relation: Exact | Landmarks


def begin(
    features: Float[Array | np.ndarray, "N D"],
    *,
    capacity: int,
    num_classes: int,
    candidates: Bool[Array | np.ndarray, " N"] | None = None,
    scale: float | tuple[float, ...] | Float[Array | np.ndarray, "*w"] = 1.0,
    noise: float | Float[Array | np.ndarray, ""] = 0.1,
    landmarks: int | None = None,
) -> GaussianProcess:
    """The process before any label.

    The kernel is `exp(-|z - z'|^2 / (2 bandwidth))` on the unit rows `z` of the centred features,
    or the mean of several with different bandwidths, which relates rows near and far. A bandwidth
    is half the mean squared distance of two rows of the pool, which is 1 minus the squared length
    of their mean: it needs no label.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      capacity: how many labels there will be at most.
      num_classes: room for target classes, `C`.
      candidates: bool [N], the rows that determine the pool's mean and bandwidth (None: all); the
        others may be padding.
      scale: multiplies the bandwidth; several numbers: the kernel is the mean of theirs.
      noise: variance of a label around the mean of its row.
      landmarks: None for the exact form, `O(N (D + C + capacity))` memory and `O(N (D + C + m))`
        time for label m. A number r for the bounded form, `O(N (C + r))` memory and time, plus
        `O(r^2)`: rows are related through the r rows that explain most of the pool, and what these
        leave unexplained is taken as independent from row to row. Exact where that is nothing.

    Raises: ValueError when `features` is not [N, D], the capacity is negative, the number of
      landmarks below 1, or features of candidates are not finite.

    Source: Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, chapter 2; the
      bounded form is the fully independent conditional of its section 8.3.4, landmarks chosen by
      largest remaining variance (pivoted Cholesky). Twin: `posterior` in tests/reference.py, by one
      solve.

    >>> features = jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    >>> process = begin(features, capacity=2, num_classes=2, noise=0.0)
    >>> process = update(process, 0, 1)
    >>> process.mean[:, :2].T.round(3).tolist(), process.variance[:2].tolist()
    ([[0.0, 1.0], [0.0, 1.0]], [0.0, 0.0])
    """
    features = check.feature_table(features)
    capacity = check.whole_number("capacity", capacity)
    num_classes = check.whole_number("num_classes", num_classes)
    if landmarks is not None:
        landmarks = check.whole_number("landmarks", landmarks)
    if capacity < 0 or (landmarks is not None and landmarks < 1):
        raise ValueError(
            f"capacity must be at least 0, and landmarks at least 1 or None; got {capacity} and "
            f"{landmarks}"
        )
    candidates = check.mask("candidates", candidates, size=len(features))
    check.features(features, candidates=candidates, varied=False)
    return _begin(features, candidates, scale, noise, capacity, num_classes, landmarks)


@partial(jax.jit, static_argnames=("capacity", "num_classes", "landmarks"))
def _begin(
    features, candidates, scale, noise, capacity: int, num_classes: int, landmarks: int | None
) -> GaussianProcess:
    num_rows = features.shape[0]
    candidates = askable(candidates, num_rows)
    units = directions(features, candidates)
    # If all rows coincide their distances are 0: any bandwidth relates them fully.
    spread = jnp.maximum(1 - jnp.sum(jnp.square(mean(units, candidates))), 1e-3)
    bandwidths = spread * jnp.atleast_1d(jnp.asarray(scale, jnp.float32))
    if landmarks is None:
        relation, known = exact.begin(units, bandwidths, capacity), jnp.max(bandwidths)
    else:
        relation = with_landmarks.begin(units, bandwidths, candidates, min(landmarks, num_rows))
        known = jnp.max(jnp.square(relation.columns[0]))
    return GaussianProcess(
        # Only once the relation is known: until then copies of the features need the memory.
        mean=xla.after(jnp.zeros((num_classes, num_rows), jnp.float32), known),
        variance=jnp.ones(num_rows, jnp.float32),
        counts=jnp.zeros(num_classes, jnp.int32),
        count=jnp.int32(0),
        hits=jnp.zeros(2, jnp.float32),
        noise=jnp.float32(noise),
        relation=relation,
    )


def update(
    process: GaussianProcess,
    rows: Int[Array | np.ndarray, "*p"] | int | np.integer,
    labels: Int[Array | np.ndarray, "*p"] | int | np.integer,
) -> GaussianProcess:
    """The process after one more label, or after p of them, by one exact step of rank p.

    Args:
      process: before them.
      rows: [p], the rows that were labelled, or one.
      labels: [p], their classes; -1 changes nothing (padding).

    The exact form has no room for more labels than its capacity; where only shapes are known, as
    under jit, it is wrong after more of them. The bounded form does not keep what a label says of
    its own row beyond the landmarks.

    Raises: ValueError when there is not a label for each row, labels are no classes, rows with a
      label are none of the pool's, or there is no room for them.

    Source: Rasmussen, Williams, 2006, the conditional of equation 2.19, some labels at a time.
      Twin: `posterior` in tests/reference.py, by one solve.

    >>> process = begin(jnp.eye(3), capacity=2, num_classes=2)
    >>> int(update(process, jnp.array([0, 1, 2]), jnp.array([-1, 0, 1])).count)
    2
    """
    size = len(process.counts)
    classes = check.rows("labels", labels, size=size, of="classes", axes=None, padded=True)
    some = check.rows("rows", rows, size=len(process.variance), axes=None, padded=True)
    if some.shape != classes.shape or some.ndim > 1:
        raise ValueError(
            f"rows and labels must be one each or both [p], got shapes {some.shape} and "
            f"{classes.shape}"
        )
    if not any(isinstance(part, Tracer) for part in (some, classes, process.count)):
        filled = np.atleast_1d(classes) >= 0
        check.rows("rows with a label", np.atleast_1d(some)[filled], size=len(process.variance))
        room, count = _room(process), int(process.count) + int(filled.sum())
        if count > room:
            raise ValueError(
                f"this process has room for {room:.0f} labels, its capacity, and would have "
                f"{count}: begin it with a larger capacity"
            )
    return _update(process, some, classes)


@jax.jit
def _update(process: GaussianProcess, rows, labels) -> GaussianProcess:
    rows, labels = jnp.atleast_1d(rows), jnp.atleast_1d(labels)
    # Padding goes last, so that there are no gaps between the columns of the labels.
    order = jnp.argsort(labels < 0, stable=True)
    rows, labels = rows[order], labels[order]
    present = labels >= 0
    form = _form_of(process)

    def learn():
        covariance, weights = form.covariance(process.relation, process.count, rows)
        among = jnp.where(present[:, None] & present[None, :], covariance[:, rows], 0)
        whitener = _whitener(among, process.noise)
        truth = jax.nn.one_hot(labels, len(process.counts), dtype=jnp.float32)
        steps, weights, surprise = (
            jnp.matmul(whitener, table, precision="highest")
            for table in (covariance, weights, truth - process.mean[:, rows].T)
        )
        # What each label was expected to be once those before it were known.
        share = jnp.diagonal(whitener)
        expected = truth - surprise / jnp.where(share > 0, share, 1)[:, None]
        return steps, weights, surprise, expected

    # A branch, so that `learn` is computed once: in a single fused loop it would be recomputed for
    # each of its uses.
    nothing = partial(jax.tree.map, jnp.zeros_like, jax.eval_shape(learn))
    steps, weights, surprise, expected = jax.lax.cond(jnp.any(present), learn, nothing)
    explained = jnp.matmul(jnp.ones(len(rows), jnp.float32), jnp.square(steps))
    return replace(
        process,
        mean=_move(process.mean, surprise, steps),
        variance=jnp.maximum(process.variance - explained, 0),
        counts=process.counts.at[jnp.where(present, labels, len(process.counts))].add(
            1, mode="drop"
        ),
        count=process.count + jnp.sum(present, dtype=jnp.int32),
        hits=with_hits(process.hits, expected, labels),
        relation=form.learn(process.relation, process.count, steps, weights),
    )


def with_hits(
    hits: Float[Array, "2"], expected: Float[Array, "p C"], labels: Int[Array, " p"]
) -> Float[Array, "2"]:
    """The hits after some more labels, given what was expected of each: those of the last
    `max(C, 20)` or so count.

    Args:
      labels: [p], -1 for padding at the end.

    >>> with_hits(jnp.zeros(2), jnp.array([[0.1, 0.7]]), jnp.array([1])).tolist()
    [1.0, 1.0]
    """
    present = labels >= 0
    own = jnp.take_along_axis(expected, jnp.maximum(labels, 0)[:, None], axis=1)[:, 0]
    right = present & (own > _EXPECTED) & (own >= jnp.max(expected, axis=1))
    keep = jnp.float32(1 - 1 / max(expected.shape[1], _RECENT))
    # How many labels came after each, and at all.
    present = present.astype(jnp.float32)
    number = jnp.sum(present)
    counted = jnp.stack([right.astype(jnp.float32), present], axis=1)
    counted *= (keep ** (number - jnp.cumsum(present)))[:, None]
    return hits * keep**number + jnp.sum(counted, axis=0)


def restrict(process: GaussianProcess, rows: Int[Array | np.ndarray, " n"]) -> GaussianProcess:
    """The same process restricted to some rows of the pool: exact there, and cheaper in proportion.

    Args:
      process: on the whole pool.
      rows: [n], which become rows 0 to n - 1; a row may be repeated.

    Source: the marginal of a Gaussian process is the process on those rows. Twin: the rows of
      `posterior` in tests/reference.py.

    >>> process = update(begin(jnp.eye(3), capacity=2, num_classes=2), 0, 1)
    >>> rows = jnp.array([2, 0])
    >>> bool(jnp.all(restrict(process, rows).mean == process.mean[:, rows]))
    True
    """
    return _restrict(process, check.rows("rows", rows, size=len(process.variance)))


@jax.jit
def _restrict(process: GaussianProcess, rows) -> GaussianProcess:
    return replace(
        process,
        mean=take(process.mean, rows),
        variance=process.variance[rows],
        relation=_form_of(process).restrict(process.relation, process.count, rows),
    )


def covariance(process: GaussianProcess, rows: Int[Array, " p"]) -> Float[Array, "p N"]:
    """The posterior covariance of some rows with all: [p, N]. Runs inside jit.

    >>> process = update(begin(jnp.eye(2), capacity=1, num_classes=2, noise=0.0), 0, 1)
    >>> jnp.abs(covariance(process, jnp.array([0]))).round(5).tolist()
    [[0.0, 0.0]]
    """
    return _form_of(process).covariance(process.relation, process.count, rows)[0]


def _room(process: GaussianProcess) -> float:
    """How many labels it has room for."""
    relation = process.relation
    return float(sum(map(len, relation.columns))) if isinstance(relation, Exact) else math.inf


def _form_of(process: GaussianProcess) -> Any:
    """The module with the functions for its relation."""
    return exact if isinstance(process.relation, Exact) else with_landmarks


def _whitener(covariance: Float[Array, "p p"], noise: Float[Array, ""]) -> Float[Array, "p p"]:
    """The matrix that turns covariances with the labelled rows into steps, one label after another,
    given the covariances of these rows with each other."""
    number = len(covariance)

    def eliminate(row, carry):
        left, whitener = carry
        variance = left[row, row] + noise
        # Where a duplicate was labelled without noise there is nothing left to learn.
        share = jnp.where(left[row, row] > 0, 1 / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0)
        step, weights = share * left[row], share * whitener[row]
        left -= step[:, None] * step[None, :]
        later = jnp.where(jnp.arange(number) > row, step, 0)
        return left, (whitener - later[:, None] * weights[None, :]).at[row].set(weights)

    begin = covariance, jnp.eye(number, dtype=covariance.dtype)
    return jax.lax.fori_loop(0, number, eliminate, begin)[1]


def _move(
    mean: Float[Array, "C N"], surprise: Float[Array, "p C"], steps: Float[Array, "p N"]
) -> Float[Array, "C N"]:
    """The mean of every row plus each step times its surprise; a few classes at a time, as the
    product for all of them is as large as the means."""
    if not len(mean):
        return mean

    def along(mean, surprise):
        return mean + jnp.matmul(surprise.T, steps, precision="highest")

    return xla.update_tiles(along, mean, surprise, height=-(-len(mean) // _GROUPS), axis=1)
