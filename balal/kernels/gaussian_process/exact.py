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
      bandwidths: the kernel is the mean of one Gaussian for each.
      columns: one for each label, in parts [p, N].
    """

    units: Float[Array, "*S D N"]
    bandwidths: Float[Array, "*S w"]
    columns: tuple[Float[Array, "*S p N"], ...]


def begin(units: Float[Array, "N D"], bandwidths: Float[Array, " w"], capacity: int) -> Exact:
    """The relation before any label, with room for `capacity` labels."""
    return Exact(units.T, bandwidths, empty(capacity, len(units), jnp.max(bandwidths)))


def prior(cosines: Float[Array, "..."], bandwidths: Float[Array, " w"]) -> Float[Array, "..."]:
    """The kernel of unit rows with these cosines: how much they have in common before any label.

    >>> prior(jnp.array([1.0, 0.0]), jnp.array([1.0, 0.5])).round(3).tolist()
    [1.0, 0.25200000405311584]
    """
    total = jnp.zeros_like(cosines)
    # One loop over the rows for all of them; a mean along an axis would not be.
    for width in range(len(bandwidths)):
        total += jnp.exp((cosines - 1) / bandwidths[width])
    return total / len(bandwidths)


def covariance(
    relation: Exact, count: Int[Array, ""], rows: Int[Array, " p"]
) -> tuple[Float[Array, "p N"], Float[Array, "p 0"]]:
    """Posterior covariance of every row with the given ones, after `count` labels; and that of
    landmarks, of which there are none."""
    cosines = jnp.matmul(relation.units[:, rows].T, relation.units, precision="highest")
    before = prior(cosines, relation.bandwidths)
    return unexplained(before, relation.columns, count, rows), jnp.zeros(
        (len(rows), 0), jnp.float32
    )


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
