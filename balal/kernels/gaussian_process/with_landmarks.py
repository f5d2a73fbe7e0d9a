"""How rows are related, in bounded memory: through landmarks, a few rows that explain most of the
pool."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.gaussian_process.columns import empty, put, take, unexplained
from balal.kernels.gaussian_process.exact import prior

# The noise of a landmark: far below that of a label, and far above the rounding of float32.
_NOISE = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Landmarks:
    """How rows are related through r landmarks.

    Attributes:
      columns: [r, N], features whose inner product is nearly the kernel.
      inner: [r, r], posterior covariance of their weights.
      apart: [N], the prior variance that they leave unexplained.
      bandwidths: the kernel is the mean of one Gaussian for each.
    """

    columns: Float[Array, "*S r N"]
    inner: Float[Array, "*S r r"]
    apart: Float[Array, "*S N"]
    bandwidths: Float[Array, "*S w"]


def begin(
    units: Float[Array, "N D"],
    bandwidths: Float[Array, " w"],
    candidates: Bool[Array, " N"],
    number: int,
) -> Landmarks:
    """The relation before any label: the columns are those of almost noiseless observations of one
    landmark after another, each the candidate with the most variance unexplained."""

    def look(index, carry):
        columns, variance = carry
        row = jnp.argmax(jnp.where(candidates, variance, -1))
        cosines = jnp.matmul(units, sharding.fetch(units, row), precision="highest")
        before = prior(cosines, bandwidths)
        left = unexplained(before[None, :], columns, index, row[None])[0]
        step = left / jnp.sqrt(sharding.fetch(variance, row) + _NOISE)
        return put(columns, index, step[None]), jnp.maximum(variance - jnp.square(step), 0)

    nothing = empty(number, len(units), jnp.max(bandwidths)), jnp.ones(len(units), jnp.float32)
    columns, apart = jax.lax.fori_loop(0, number, look, nothing)
    columns = jnp.concatenate(columns)
    return Landmarks(columns, jnp.eye(len(columns), dtype=jnp.float32), apart, bandwidths)


def covariance(
    relation: Landmarks, count: Int[Array, ""], rows: Int[Array, " p"]
) -> tuple[Float[Array, "p N"], Float[Array, "p r"]]:
    """Posterior covariance of every row with the given ones, and of the landmarks' weights with
    them."""
    del count
    weights = jnp.matmul(relation.columns[:, rows].T, relation.inner, precision="highest")
    covariance = jnp.matmul(weights, relation.columns, precision="highest")
    return covariance.at[jnp.arange(len(rows)), rows].add(relation.apart[rows]), weights


def learn(
    relation: Landmarks, count: Int[Array, ""], steps, weights: Float[Array, "p r"]
) -> Landmarks:
    """The relation after some more labels, which explain part of the weights' covariance."""
    del count, steps
    explained = jnp.matmul(weights.T, weights, precision="highest")
    return replace(relation, inner=relation.inner - explained)


def restrict(relation: Landmarks, count: Int[Array, ""], rows: Int[Array, " n"]) -> Landmarks:
    """The relation of some rows."""
    del count
    return replace(relation, columns=take(relation.columns, rows), apart=relation.apart[rows])
