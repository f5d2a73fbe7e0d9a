"""Uncertainty of a source model: entropy, margin and least confidence of its logits (Eq. 1 to 3 of the paper).

With `t` the top-1 class, `d_k = l_t - l_k >= 0` and `r = sum_{k != t} exp(-d_k)`:

    least confidence  1 - p1         = r / (1 + r)
    margin            1 - (p1 - p2)  = (r + exp(-d_2)) / (1 + r)
    entropy           H              = log1p(r) + sum_{k != t} d_k exp(-d_k) / (1 + r)

Nothing cancels in these forms: a row whose softmax rounds to 1.0 in float32 still has its scores to full relative precision as long as
`exp(-d_2)` does not underflow (`d_2` up to 87). Inverted strategies live at exactly that end.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from balal.types import Scores

# XLA's CPU backend runs these expressions as several passes over memory; a tile of this many rows stays in cache between them.
_TILE = 64


@jax.jit
def score(logits: Float[Array, "N K"]) -> Scores:
    """Entropy, margin, least confidence and predicted class of every row, in one pass over the logits.

    Args:
      logits: [N, K], float32, bfloat16 or float16 (computed in float32). `-inf` is allowed, so `jnp.log(probs)` is a valid argument; a
        row of nothing else, a `+inf` or a NaN is not, and gives NaN here (`balal.check.logits` names such rows).

    Returns: `Scores`, larger = more uncertain. `predicted` is the lowest of tied classes. Two rows whose top classes lead by more than 87
      may tie at 0.

    Raises: ValueError if `logits` is not [N, K] with K >= 1.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 1 to 3 (there as probabilities).

    >>> scores = score(jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.8, 0.1, 0.1]])))
    >>> [round(float(value), 3) for value in scores.entropy], scores.predicted.tolist()
    ([0.693, 0.639], [0, 0])
    """
    if logits.ndim != 2 or logits.shape[1] < 1:
        raise ValueError(f"logits must be [N, K] with at least one source class, got shape {logits.shape}")
    if logits.shape[0] == 0:
        return Scores(**jax.vmap(_score_row)(logits))
    return Scores(**jax.lax.map(_score_row, logits, batch_size=_TILE))


@jax.jit
def entropy(logits: Float[Array, "N K"]) -> Float[Array, " N"]:
    """Entropy of the source model's prediction, in nats: [N] from logits [N, K], Eq. 1. See `score`.

    >>> entropy(jnp.array([[0.0, 0.0], [200.0, 0.0]])).round(3).tolist()
    [0.6930000185966492, 0.0]
    """
    return score(logits).entropy


@jax.jit
def margin(logits: Float[Array, "N K"]) -> Float[Array, " N"]:
    """Margin as an uncertainty, `1 - (p1 - p2)` with the two largest probabilities: [N] from logits [N, K], Eq. 2. See `score`.

    >>> margin(jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))).tolist()
    [1.0, 0.5]
    """
    return score(logits).margin


@jax.jit
def least_confidence(logits: Float[Array, "N K"]) -> Float[Array, " N"]:
    """Least confidence, `1 - p1` with the largest probability: [N] from logits [N, K], Eq. 3. See `score`.

    >>> least_confidence(jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))).tolist()
    [0.5, 0.25]
    """
    return score(logits).least_confidence


def _score_row(logits: Float[Array, " K"]) -> dict[str, Array]:
    logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    classes = jnp.arange(logits.shape[0])
    largest = jnp.max(logits)
    # Two passes (max, then the first place that holds it) are many times faster than argmax on CPUs. A NaN equals nothing: the `min`
    # keeps the class in range.
    predicted = jnp.minimum(jnp.min(jnp.where(logits == largest, classes, logits.shape[0])), logits.shape[0] - 1)
    # The top class is left out by its index, not by its value, so that a tied second class still counts.
    other = classes != predicted
    lead = jnp.where(other, largest - logits, jnp.inf)
    weight = jnp.exp(-lead)
    rest = jnp.sum(weight)
    weighted_lead = jnp.where(weight > 0, lead * weight, jnp.where(jnp.isnan(lead), jnp.nan, 0.0))
    least = rest / (1 + rest)
    return dict(
        entropy=jnp.log1p(rest) + jnp.sum(weighted_lead) / (1 + rest),
        margin=least + jnp.max(weight) / (1 + rest),
        least_confidence=least,
        predicted=predicted,
    )
