"""The process on a few rows, with the covariances of some of them kept: what an answer would teach
about the others can then be read off, and learning it is cheap."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from balal.kernels.gaussian_process.process import GaussianProcess, covariance, restrict, with_hits


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Local:
    """What `localise` makes and `learn` updates.

    Attributes:
      mean: [C, n], posterior mean of the one-hot label of every row.
      variance: [n].
      covariance: [m, n], of the first m rows with all.
      counts: int32 [C], labels of each class.
      count: labels so far.
      hits: as in `GaussianProcess`.
      noise: variance of a label around its mean.
    """

    mean: Float[Array, "*S C n"]
    variance: Float[Array, "*S n"]
    covariance: Float[Array, "*S m n"]
    counts: Int[Array, "*S C"]
    count: Int[Array, "*S"]
    hits: Float[Array, "*S 2"]
    noise: Float[Array, "*S"]


def localise(process: GaussianProcess, rows: Int[Array, " n"], number: int) -> Local:
    """The process on some rows, with the covariances of the first `number` of them. Runs inside
    jit.

    >>> from balal.kernels.gaussian_process import begin
    >>> process = begin(jnp.eye(2), capacity=1, num_classes=2)
    >>> localise(process, jnp.array([1, 0]), 1).covariance.round(2).tolist()
    [[1.0, 0.14000000059604645]]
    """
    few = restrict(process, rows)
    return Local(
        mean=few.mean,
        variance=few.variance,
        covariance=covariance(few, jnp.arange(number, dtype=jnp.int32)),
        counts=few.counts,
        count=few.count,
        hits=few.hits,
        noise=few.noise,
    )


def learn(local: Local, place: Int[Array, ""], label: Int[Array, ""]) -> Local:
    """The same after one more label, of the row at a place among those whose covariances are kept.
    Runs inside jit.

    Source: Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, equation 2.19.
      Twin: `posterior` in tests/reference.py, by one solve.

    >>> from balal.kernels.gaussian_process import begin
    >>> local = localise(begin(jnp.eye(2), capacity=1, num_classes=2), jnp.array([0, 1]), 2)
    >>> local = learn(local, jnp.int32(0), jnp.int32(1))
    >>> local.mean.round(2)[1].tolist(), local.counts.tolist()
    ([0.9099999666213989, 0.11999999731779099], [0, 1])
    """
    variance = local.variance[place]
    # Where a duplicate was labelled without noise there is nothing left to learn.
    share = jnp.where(variance > 0, 1 / jnp.sqrt(jnp.maximum(variance + local.noise, 1e-12)), 0)
    expected = local.mean[:, place]
    surprise = (jax.nn.one_hot(label, len(local.counts), dtype=jnp.float32) - expected) * share
    step = local.covariance[place] * share
    among = step[: len(local.covariance)]
    return replace(
        local,
        mean=local.mean + surprise[:, None] * step[None, :],
        variance=jnp.maximum(local.variance - jnp.square(step), 0),
        covariance=local.covariance - among[:, None] * step[None, :],
        counts=local.counts.at[label].add(1),
        count=local.count + 1,
        hits=with_hits(local.hits, expected[None, :], label[None]),
    )


def coverage_gain(
    local: Local, worth: Float[Array, " n"], best: Float[Array, " n"]
) -> Float[Array, " m"]:
    """How much an answer of each of the first m rows is expected to explain of the others that
    nothing explains yet: [m]. Runs inside jit.

    An answer raises the mean of its class at row j by up to `rho = covariance / (variance + noise)`
    of what it was short of. That counts as far as it goes beyond the class that explains j best,
    `sum_j worth_j max(rho_ij - best_j, 0)`, the row's own share left out.

    Args:
      worth: [n], of each row; 0 leaves it out.
      best: [n], how far one class explains it.

    Source: this library. Twin: `coverage_gain` in tests/reference.py.

    >>> from balal.kernels.gaussian_process import begin
    >>> local = localise(begin(jnp.eye(2), capacity=1, num_classes=2), jnp.array([0, 1]), 2)
    >>> coverage_gain(local, jnp.ones(2), jnp.array([0.0, 0.1])).round(2).tolist()
    [0.019999999552965164, 0.11999999731779099]
    """
    number = len(local.covariance)
    share = 1 / (local.variance[:number] + local.noise)
    gained = jnp.maximum(local.covariance * share[:, None] - best[None, :], 0)
    own = jnp.maximum(local.variance[:number] * share - best[:number], 0) * worth[:number]
    return jnp.maximum(jnp.matmul(gained, worth, precision="highest") - own, 0)
