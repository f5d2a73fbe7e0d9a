"""The features that strategies measure distances between."""

from jaxtyping import Array, Float

from balal.kernels.distances import directions
from balal.types import Pool, askable


def known_features(pool: Pool, *, name: str) -> Float[Array, "N D"]:
    """The pool's features.

    Args:
      name: of the strategy, for the error.

    Raises: ValueError if there are none.

    >>> import jax.numpy as jnp
    >>> known_features(Pool(jnp.ones((2, 1))), name="core_set").shape
    (2, 1)
    """
    if pool.features is None:
        raise ValueError(f"{name} needs features: make the pool with balal.pool(features)")
    return pool.features


def unit_rows(pool: Pool, *, name: str) -> Float[Array, "N D"]:
    """The features as unit rows, centred by the mean of the candidates first: what the methods
    measure distances between whose authors normalise the features. Runs inside jit.

    Those authors do not centre them; but what all rows of a network's features have in common is
    often most of their length, and then all of them look alike.

    Args, Raises: as `known_features`.

    >>> import jax.numpy as jnp
    >>> unit_rows(Pool(jnp.array([[1.0, 5.0], [3.0, 5.0]])), name="max_herding").tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    features = known_features(pool, name=name)
    return directions(features, askable(pool.candidates, pool.num_rows))
