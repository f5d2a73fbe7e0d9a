"""How rows are related, in bounded memory: through landmarks, a few rows of the pool that explain
most of it."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from balal import sharding
from balal.kernels.gaussian_process.columns import empty, put, take, unexplained

# The noise of a landmark: far below that of a label, and far above what float32 cannot tell.
_NOISE = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Landmarks:
    """How rows are related through r landmarks.

    columns: [r, N], features of which the kernel is nearly the inner product.
    inner: [r, r], posterior covariance of their weights.
    apart: [N], the prior variance that they leave out.
    """

    columns: Float[Array, "*S r N"]
    inner: Float[Array, "*S r r"]
    apart: Float[Array, "*S N"]


def begin(
    units: Float[Array, "N D"],
    bandwidth: Float[Array, ""],
    candidates: Bool[Array, " N"],
    number: int,
) -> Landmarks:
    """The relation before any label: the columns are those of almost noiseless looks at one
    landmark after another, each the candidate of which most is unexplained."""

    def look(index, carry):
        columns, variance = carry
        row = jnp.argmax(jnp.where(candidates, variance, -1))
        cosines = jnp.matmul(units, sharding.fetch(units, row), precision="highest")
        prior = jnp.exp((cosines - 1) / bandwidth)
        left = unexplained(prior[None, :], columns, index, row[None])[0]
        step = left / jnp.sqrt(sharding.fetch(variance, row) + _NOISE)
        return put(columns, index, step[None]), jnp.maximum(variance - jnp.square(step), 0)

    nothing = empty(number, len(units), bandwidth), jnp.ones(len(units), jnp.float32)
    columns, apart = jax.lax.fori_loop(0, number, look, nothing)
    columns = jnp.concatenate(columns)
    return Landmarks(columns, jnp.eye(len(columns), dtype=jnp.float32), apart)


def covariance(
    relation: Landmarks, count: Int[Array, ""], rows: Int[Array, " p"]
) -> tuple[Float[Array, "p N"], Float[Array, "p r"]]:
    """Posterior covariance of every row with some, and of the weights of the landmarks with
    them."""
    del count
    weights = jnp.matmul(relation.columns[:, rows].T, relation.inner, precision="highest")
    covariance = jnp.matmul(weights, relation.columns, precision="highest")
    return covariance.at[jnp.arange(len(rows)), rows].add(relation.apart[rows]), weights


def learn(
    relation: Landmarks, count: Int[Array, ""], steps, weights: Float[Array, "p r"]
) -> Landmarks:
    """The relation after some more labels: so much more is known of the weights."""
    del count, steps
    explained = jnp.matmul(weights.T, weights, precision="highest")
    return replace(relation, inner=relation.inner - explained)


def restrict(relation: Landmarks, count: Int[Array, ""], rows: Int[Array, " n"]) -> Landmarks:
    """The relation of some rows."""
    del count
    return replace(relation, columns=take(relation.columns, rows), apart=relation.apart[rows])
