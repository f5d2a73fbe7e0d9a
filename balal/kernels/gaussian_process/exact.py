"""How rows are related, exactly: the kernel itself, and for each label one column with what it has
explained."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from balal.kernels.gaussian_process.columns import empty, filled, put, take, unexplained


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exact:
    """How rows are related, exactly.

    Attributes:
      units: [D, N], unit rows of the centred features.
      bandwidth: of the kernel.
      columns: one for each label, in parts [p, N].
    """

    units: Float[Array, "*S D N"]
    bandwidth: Float[Array, "*S"]
    columns: tuple[Float[Array, "*S p N"], ...]


def begin(units: Float[Array, "N D"], bandwidth: Float[Array, ""], capacity: int) -> Exact:
    """The relation before any label, with room for `capacity` labels."""
    return Exact(units.T, bandwidth, empty(capacity, len(units), bandwidth))


def covariance(
    relation: Exact, count: Int[Array, ""], rows: Int[Array, " p"]
) -> tuple[Float[Array, "p N"], Float[Array, "p 0"]]:
    """Posterior covariance of every row with the given ones, after `count` labels; and that of
    landmarks, of which there are none."""
    cosines = jnp.matmul(relation.units[:, rows].T, relation.units, precision="highest")
    prior = jnp.exp((cosines - 1) / relation.bandwidth)
    return unexplained(prior, relation.columns, count, rows), jnp.zeros((len(rows), 0), jnp.float32)


def learn(relation: Exact, count: Int[Array, ""], steps: Float[Array, "p N"], weights) -> Exact:
    """The relation after some more labels: their steps are columns."""
    del weights
    return replace(relation, columns=put(relation.columns, count, steps))


def restrict(relation: Exact, count: Int[Array, ""], rows: Int[Array, " n"]) -> Exact:
    """The relation of some rows."""
    columns = tuple(
        take(part, rows, lines=lines)
        for part, lines in zip(relation.columns, filled(relation.columns, count), strict=True)
    )
    return replace(relation, units=take(relation.units, rows), columns=columns)
