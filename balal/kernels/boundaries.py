"""Distances of rows from the decision boundaries of a linear head, in the space of its features."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from balal import check
from balal.kernels.distances import squared_distances
from balal.kernels.ordering import first_true


def boundary_distances(
    logits: Float[Array | np.ndarray, "N K"], weights: Float[Array | np.ndarray, "K D"]
) -> Float[Array, "N K"]:
    """How far each row is from the boundary of each class: [N, K]; of its predicted class, how far
    from the nearest boundary. `O(N K + K^2 D)` time.

    With the predicted class q the boundary to class c is `(z_q - z_c) / |w_q - w_c|` away. The
    smallest of a row is its score in MASE, smallest first; BASE lets classes take turns, each
    taking the rows nearest to its own boundary.

    Args:
      logits: [N, K], `z = h w' + bias`; `-inf` for classes that the head does not know, which are
        infinitely far.
      weights: [K, D] of the head. Classes of the same weights have no boundary between them.

    Raises: ValueError when shapes disagree, logits are no logits or weights are not finite.

    Source: Emam, Chu, Chiang, Czaja, Leapman, Goldblum, Goldstein, *Active learning at the ImageNet
      scale*, 2021, section 3. Twin: `boundary_distances` in tests/reference.py.

    >>> boundary_distances(jnp.array([[3.0, 0.0]]), jnp.array([[1.0, 0.0], [-0.5, 0.0]])).tolist()
    [[2.0, 2.0]]
    """
    logits = check.floats("logits", check.source_shape("logits", logits))
    weights = check.floats("weights", weights)
    if weights.ndim != 2 or len(weights) != logits.shape[1]:
        raise ValueError(
            f"weights must be [K, D] with a row for each of the {logits.shape[1]} classes of the "
            f"logits, got shape {weights.shape}"
        )
    check.logits(logits)
    check.finite("weights", weights)
    return _boundary_distances(logits, weights)


@jax.jit
def _boundary_distances(logits, weights) -> Float[Array, "N K"]:
    logits, classes = logits.astype(jnp.float32), jnp.arange(logits.shape[1], dtype=jnp.int32)
    gaps = jnp.sqrt(jax.lax.map(lambda point: squared_distances(weights, point), weights))
    largest = jnp.max(logits, axis=1, keepdims=True)
    predicted = first_true(logits == largest)
    apart = gaps[predicted]
    distances = jnp.where(apart > 0, (largest - logits) / jnp.where(apart > 0, apart, 1), jnp.inf)
    nearest = jnp.min(distances, axis=1, keepdims=True)
    return jnp.where(classes[None, :] == predicted[:, None], nearest, distances)
