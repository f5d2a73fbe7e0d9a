"""The posterior over target classes: what the labels so far say about every row of the pool, and
how much they leave unexplained.

Gaussian-process regression of one-hot labels with prior mean 0. Far from every label all class
means are near 0: the mass that is missing there belongs to something no label has shown yet, so
that no list of classes is needed. Labels enter by one exact step, one or several at a time; nothing
is ever solved anew.

    process = posterior.begin(features, capacity=500, num_classes=100)
    process = posterior.update(process, row, label)
    probabilities, unexplained = posterior.explain(process)
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.distances import directions, mean
from balal.types import askable

# Columns lie in up to so many parts of at least so many. Those not filled yet are not read, and a
# part is read at full speed, being an array of its own.
_PARTS, _PART = 4, 64
# Classes whose probabilities are summed in one go.
_TOGETHER = 20
# The means of all classes are moved along in so many groups of them.
_GROUPS = 8
# The noise of a landmark: far below that of a label, and far above what float32 cannot tell.
_LANDMARK_NOISE = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exact:
    """How rows are related, exactly. units: [D, N], unit rows of the centred features. columns: one
    for each label, in parts [p, N]."""

    units: Float[Array, "*S D N"]
    bandwidth: Float[Array, "*S"]
    columns: tuple[Float[Array, "*S p N"], ...]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Landmarks:
    """How rows are related through r landmarks. columns: [r, N], features of which the kernel is
    nearly the inner product. inner: [r, r], posterior covariance of their weights. apart: [N], the
    prior variance that they leave out."""

    columns: Float[Array, "*S r N"]
    inner: Float[Array, "*S r r"]
    apart: Float[Array, "*S N"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianProcess:
    """What `begin` makes and `update` carries on.

    mean: [C, N], of the one-hot label of every row. variance: [N], 1 before the first label.
    counts: int32 [C], labels of each class.
    count: labels so far. noise: variance of a label around its mean. relation: how rows are
    related.
    """

    mean: Float[Array, "*S C N"]
    variance: Float[Array, "*S N"]
    counts: Int[Array, "*S C"]
    count: Int[Array, "*S"]
    noise: Float[Array, "*S"]
    relation: Exact | Landmarks


@partial(jax.jit, static_argnames=("capacity", "num_classes", "landmarks"))
def begin(
    features: Float[Array, "N D"],
    *,
    capacity: int,
    num_classes: int,
    candidates: Bool[Array, " N"] | None = None,
    scale: float | Float[Array, ""] = 1.0,
    noise: float | Float[Array, ""] = 0.1,
    landmarks: int | None = None,
) -> GaussianProcess:
    """The process before any label.

    The kernel is `exp(-|z - z'|^2 / (2 bandwidth))` on the unit rows `z` of the centred features.
    Its bandwidth is half the mean squared distance of two rows of the pool, which is 1 less the
    squared length of their mean: it needs no label.

    Args:
      features: [N, D], float32, bfloat16 or float16.
      capacity: how many labels there will be at most. num_classes: room for target classes, `C`.
      candidates: bool [N], the rows that say what the pool's mean and bandwidth are (None: all);
        the others may be padding.
      scale: multiplies the bandwidth. noise: variance of a label around the mean of its row.
      landmarks: None for the exact form, `O(N (D + C + capacity))` memory and `O(N (D + C + m))`
        time for label m. A number r of landmarks for the bounded form, `O(N (C + r))` memory and
        time, `O(r^2)` more: rows are related through the r rows of the pool that explain most of
        it, and what these leave out is taken for independent from row to row. Exact where they
        leave out nothing.

    Raises: ValueError when `features` is not [N, D], the capacity is negative or the number of
    landmarks below 1.

    Source: Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, chapter 2; the
      bounded form is the fully independent conditional of its section 8.3.4, landmarks chosen by
      largest remaining variance (pivoted Cholesky).

    >>> process = begin(jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]]), capacity=2, num_classes=2, noise=0.0)
    >>> process = update(process, 0, 1)
    >>> process.mean[:, :2].T.round(3).tolist(), process.variance[:2].tolist()
    ([[0.0, 1.0], [0.0, 1.0]], [0.0, 0.0])
    """
    if features.ndim != 2:
        raise ValueError(f"features must be [N, D], got shape {features.shape}")
    if capacity < 0 or (landmarks is not None and landmarks < 1):
        raise ValueError(
            f"capacity must be at least 0, and landmarks at least 1 or None; got {capacity} and "
            f"{landmarks}"
        )
    size = features.shape[0]
    candidates = askable(candidates, size)
    units = directions(features, candidates)
    middle = mean(units, candidates)
    # Rows that all coincide have no distances: any bandwidth relates them fully.
    bandwidth = jnp.float32(scale) * jnp.maximum(1 - jnp.sum(jnp.square(middle)), 1e-3)
    places = capacity if landmarks is None else min(landmarks, size)
    parts = min(_PARTS, -(-places // _PART) or 1)
    empty = (jnp.full((-(-places // parts), size), _nothing(bandwidth)),) * parts
    if landmarks is None:
        relation, last = Exact(units.T, bandwidth, empty), bandwidth
    else:
        relation = _landmarks(units, bandwidth, candidates, places, empty)
        last = jnp.max(jnp.square(relation.columns[0]))
    return GaussianProcess(
        mean=jnp.full((num_classes, size), _nothing(last)),
        variance=jnp.ones(size, jnp.float32),
        counts=jnp.zeros(num_classes, jnp.int32),
        count=jnp.int32(0),
        noise=jnp.float32(noise),
        relation=relation,
    )


@jax.jit
def update(
    process: GaussianProcess, rows: Int[Array, "*p"] | int, labels: Int[Array, "*p"] | int
) -> GaussianProcess:
    """The process after one more label, or after p of them, by one exact step of rank p.

    Args:
      rows: [p], the rows that were labelled, or one. labels: [p], their classes; -1 changes nothing
        (padding).

    The exact form has no room for more labels than its capacity: what it says after more of them is
    wrong. The bounded form does not carry on what a label says of its own row beyond the landmarks.

    Source: Rasmussen, Williams, 2006, the conditional of equation 2.19, some labels at a time.

    >>> process = update(begin(jnp.eye(3), capacity=2, num_classes=2), jnp.array([0, 1, 2]), jnp.array([-1, 0, 1]))
    >>> int(process.count)
    2
    """
    rows, labels = jnp.atleast_1d(rows), jnp.atleast_1d(labels)
    # Those that say something come first: their columns lie without gaps.
    order = jnp.argsort(labels < 0, stable=True)
    rows, labels = rows[order], labels[order]
    told = labels >= 0

    def learn():
        covariance, weights = _covariance(process, rows)
        apart = _whitener(
            jnp.where(told[:, None] & told[None, :], covariance[:, rows], 0), process.noise
        )
        surprise = jax.nn.one_hot(labels, len(process.counts)) - process.mean[:, rows].T
        return tuple(
            jnp.matmul(apart, table, precision="highest")
            for table in (covariance, weights, surprise)
        )

    # A branch, so that what is learnt is worked out once: in a single fused loop it would be worked
    # out anew for each of its uses.
    nothing = partial(jax.tree.map, jnp.zeros_like, jax.eval_shape(learn))
    steps, weights, surprise = jax.lax.cond(jnp.any(told), learn, nothing)
    relation = process.relation
    if isinstance(relation, Exact):
        relation = replace(relation, columns=_with(relation.columns, process.count, steps))
    else:
        relation = replace(
            relation, inner=relation.inner - jnp.matmul(weights.T, weights, precision="highest")
        )
    return replace(
        process,
        mean=_moved(process.mean, surprise, steps),
        variance=jnp.maximum(
            process.variance - jnp.matmul(jnp.ones(len(rows)), jnp.square(steps)), 0
        ),
        counts=process.counts.at[jnp.where(told, labels, len(process.counts))].add(1, mode="drop"),
        count=process.count + jnp.sum(told, dtype=jnp.int32),
        relation=relation,
    )


@jax.jit
def restrict(process: GaussianProcess, rows: Int[Array, " n"]) -> GaussianProcess:
    """The same process on some rows of the pool only: exact there, and as much cheaper as they are
    fewer.

    Args:
      rows: [n], which are 0 to n - 1 from now on; a row may come twice.

    Source: a Gaussian process on a part of the rows is the part of the process.

    >>> process = update(begin(jnp.eye(3), capacity=2, num_classes=2), 0, 1)
    >>> bool(jnp.all(restrict(process, jnp.array([2, 0])).mean == process.mean[:, jnp.array([2, 0])]))
    True
    """

    def of(table, number=None):
        # Line by line, so that lines stay what lies together in memory.
        def take(line, taken):
            entries = table[line].at[rows].get(mode="promise_in_bounds")
            return jax.lax.dynamic_update_slice_in_dim(taken, entries[None], line, axis=0)

        return jax.lax.fori_loop(
            0,
            len(table) if number is None else number,
            take,
            jnp.zeros((len(table), len(rows)), table.dtype),
        )

    relation = process.relation
    if isinstance(relation, Exact):
        sizes = [len(part) for part in relation.columns]
        filled = [
            jnp.clip(process.count - sum(sizes[:number]), 0, size)
            for number, size in enumerate(sizes)
        ]
        relation = replace(
            relation, units=of(relation.units), columns=tuple(map(of, relation.columns, filled))
        )
    else:
        relation = replace(relation, columns=of(relation.columns), apart=relation.apart[rows])
    return replace(
        process, mean=of(process.mean), variance=process.variance[rows], relation=relation
    )


@partial(jax.jit, static_argnames="sharpness")
def explain(
    process: GaussianProcess, *, sharpness: int = 2
) -> tuple[Float[Array, "N C"], Float[Array, " N"]]:
    """How probable each class is for each row, and the mass that the labels leave unexplained: [N,
    C] and [N], together 1.

    The explained mass is the sum of the positive class means, at most 1. It is shared out in
    proportion to their `sharpness`-th powers,
    1 to 8: larger ones underflow.
    Source: this library.

    >>> process = update(begin(jnp.eye(2), capacity=1, num_classes=2, noise=0.25), 0, 1)
    >>> probabilities, unexplained = explain(process)
    >>> probabilities[0].round(3).tolist(), unexplained[:1].round(3).tolist()
    ([0.0, 0.800000011920929], [0.20000000298023224])
    """
    positive = jnp.maximum(process.mean.T, 0)
    explained = jnp.minimum(jnp.sum(positive, axis=1), 1)
    powers = positive**sharpness
    total = jnp.sum(powers, axis=1)
    return powers * (explained / jnp.where(total > 0, total, 1))[:, None], 1 - explained


@partial(jax.jit, static_argnames="sharpness")
def utility(
    process: GaussianProcess,
    worth: Float[Array, " C"],
    unseen: Float[Array, ""] | float,
    *,
    sharpness: int = 2,
) -> Float[Array, " N"]:
    """What the label of each row is expected to be worth, times what is still to be learnt about
    the row: [N].

    `(sum_c P_c worth_c + unexplained * unseen) * variance`, with the probabilities of `explain`.
    Source: this library.

    Args:
      worth: [C], of one more label of each class. unseen: of a label of a class not seen yet.

    >>> process = update(begin(jnp.eye(2), capacity=1, num_classes=2, noise=0.0), 0, 1)
    >>> utility(process, jnp.array([0.0, 0.5]), 1.0).argmax().tolist()
    1
    """

    def add(begin, sums, number):
        mass, power, worthy = sums
        for place in range(number):
            positive = jnp.maximum(process.mean[begin + place], 0)
            raised = positive**sharpness
            mass, power, worthy = (
                mass + positive,
                power + raised,
                worthy + raised * worth[begin + place],
            )
        return mass, power, worthy

    # Sums over classes, many at a time and all three at once: reductions would not be vectorised.
    sums, groups = (jnp.zeros_like(process.variance),) * 3, len(worth) // _TOGETHER
    sums = jax.lax.fori_loop(
        0, groups, lambda group, sums: add(group * _TOGETHER, sums, _TOGETHER), sums
    )
    mass, power, worthy = add(groups * _TOGETHER, sums, len(worth) % _TOGETHER)
    explained = jnp.minimum(mass, 1)
    return (
        worthy * explained / jnp.where(power > 0, power, 1) + (1 - explained) * unseen
    ) * process.variance


def _covariance(
    process: GaussianProcess, rows: Int[Array, " p"]
) -> tuple[Float[Array, "p N"], Float[Array, "p r"]]:
    """Posterior covariance of every row with some, and of the weights of the landmarks with them,
    none in the exact form."""
    relation = process.relation
    if isinstance(relation, Landmarks):
        weights = jnp.matmul(relation.columns[:, rows].T, relation.inner, precision="highest")
        covariance = jnp.matmul(weights, relation.columns, precision="highest")
        return covariance.at[jnp.arange(len(rows)), rows].add(relation.apart[rows]), weights
    cosines = jnp.matmul(relation.units[:, rows].T, relation.units, precision="highest")
    covariance = jnp.exp((cosines - 1) / relation.bandwidth)
    return _unexplained(covariance, relation.columns, process.count, rows), jnp.zeros(
        (len(rows), 0)
    )


def _unexplained(
    covariance: Float[Array, "p N"], columns, count, rows: Int[Array, " p"]
) -> Float[Array, "p N"]:
    """The covariance of every row with some, less what the first `count` columns have explained of
    it."""

    def explained(part):
        return jnp.matmul(part[:, rows].T, part, precision="highest")

    def nothing(part):
        return jnp.zeros_like(covariance)

    for number, part in enumerate(columns):
        covariance -= jax.lax.cond(count > number * len(part), explained, nothing, part)
    return covariance


def _whitener(covariance: Float[Array, "p p"], noise: Float[Array, ""]) -> Float[Array, "p p"]:
    """The matrix that makes steps, one label after another, of covariances with rows that have
    these among themselves."""
    size = len(covariance)

    def eliminate(place, carry):
        left, whitener = carry
        variance = left[place, place] + noise
        # Where a duplicate was labelled without noise there is nothing left to learn.
        share = jnp.where(
            left[place, place] > 0, 1 / jnp.sqrt(jnp.where(variance > 0, variance, 1)), 0
        )
        step, row = share * left[place], share * whitener[place]
        left -= step[:, None] * step[None, :]
        later = jnp.where(jnp.arange(size) > place, step, 0)
        return left, (whitener - later[:, None] * row[None, :]).at[place].set(row)

    return jax.lax.fori_loop(
        0, size, eliminate, (covariance, jnp.eye(size, dtype=covariance.dtype))
    )[1]


def _with(
    columns: tuple[Float[Array, "p N"], ...], place, added: Float[Array, "q N"]
) -> tuple[Float[Array, "p N"], ...]:
    """The columns with some put in their places from `place` on, as far as there is room."""

    def put(number, part):
        inside = place - number * len(part)
        height = min(len(added), len(part))
        nearest = jnp.clip(inside, 0, len(part) - height)
        source = nearest + jnp.arange(height) - inside
        # Always so many rows, read and written in place: a scatter or a branch would copy the part.
        kept = jax.lax.dynamic_slice_in_dim(part, nearest, height)
        kept = jnp.where(((source >= 0) & (source < len(added)))[:, None], added[source], kept)
        return jax.lax.dynamic_update_slice_in_dim(part, kept, nearest, axis=0)

    return tuple(put(number, part) for number, part in enumerate(columns))


def _moved(
    mean: Float[Array, "C N"], surprise: Float[Array, "p C"], steps: Float[Array, "p N"]
) -> Float[Array, "C N"]:
    """The mean of every row along some steps, each times its surprise. In place, some classes at a
    time: a product of all is a copy."""
    if not len(mean):
        return mean
    height = -(-len(mean) // _GROUPS)

    def move(group, mean):
        first_line = jnp.minimum(group * height, len(mean) - height)
        # Those of the last group that had their turn already stay as they are.
        turn = first_line + jnp.arange(height) >= group * height
        moves = jax.lax.dynamic_slice_in_dim(surprise, first_line, height, axis=1) * turn[None, :]
        lines = jax.lax.dynamic_slice_in_dim(mean, first_line, height)
        return jax.lax.dynamic_update_slice_in_dim(
            mean, lines + jnp.matmul(moves.T, steps, precision="highest"), first_line, axis=0
        )

    return jax.lax.fori_loop(0, -(-len(mean) // height), move, mean)


def _nothing(positive: Float[Array, ""]) -> Float[Array, ""]:
    """0, but not before a number of at least 0 is known: until then copies of the features need the
    room of the table it fills."""
    return jnp.where(positive < 0, 1.0, 0.0).astype(jnp.float32)


def _landmarks(
    units: Float[Array, "N D"],
    bandwidth: Float[Array, ""],
    candidates: Bool[Array, " N"],
    number: int,
    empty,
) -> Landmarks:
    """Features of which the kernel is nearly the inner product: the columns of almost noiseless
    looks at one landmark after another.

    empty: the columns before there are any, in parts with room for at least so many.
    """

    def look(place, carry):
        columns, variance = carry
        row = jnp.argmax(jnp.where(candidates, variance, -1))
        covariance = jnp.exp(
            (jnp.matmul(units, sharding.fetch(units, row), precision="highest") - 1) / bandwidth
        )
        left = _unexplained(covariance[None, :], columns, place, row[None])[0]
        step = left / jnp.sqrt(sharding.fetch(variance, row) + _LANDMARK_NOISE)
        return _with(columns, place, step[None]), jnp.maximum(variance - jnp.square(step), 0)

    columns, apart = jax.lax.fori_loop(0, number, look, (empty, jnp.ones(len(units), jnp.float32)))
    columns = jnp.concatenate(columns)
    return Landmarks(columns, jnp.eye(len(columns), dtype=jnp.float32), apart)
