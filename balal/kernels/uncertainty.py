"""Uncertainty of a source model: entropy, margin and least confidence of its logits (Eq. 1 to 3 of
the paper).

With `t` the top-1 class, `d_k = l_t - l_k >= 0` and `r = sum_{k != t} exp(-d_k)`:

    least confidence  1 - p1         = r / (1 + r)
    margin            1 - (p1 - p2)  = (r + exp(-d_2)) / (1 + r)
    entropy           H              = log1p(r) + sum_{k != t} d_k exp(-d_k) / (1 + r)

Nothing cancels in these forms: a row whose softmax rounds to 1.0 in float32 still gets its scores
to full relative precision as long as `exp(-d_2)` does not underflow (`d_2` up to 87). Those are the
very rows that inverted strategies pick.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from balal import check, sharding, xla
from balal.types import Scores

# Numbers in a tile: on CPUs it stays in the cache of one core; accelerators need no tiles, and
# there a step of a loop costs more than a tile of that size.
_TILE = 2**15
_TILE_ON_ACCELERATORS = 2**27


def score(logits: Float[Array | np.ndarray, "N K"]) -> Scores:
    """Entropy, margin, least confidence and predicted class of every row, in one pass over the
    logits.

    Args:
      logits: [N, K], float32, bfloat16 or float16 (computed in float32). `-inf` is allowed, so
        `jnp.log(probs)` is a valid argument.

    Returns: `Scores`, larger = more uncertain. `predicted` is the lowest of tied classes. Two rows
      whose top classes lead by more than 87 may tie at 0.

    Raises: ValueError if `logits` is not [N, K] with K >= 1, or for rows with a NaN or `+inf` or of
      nothing but `-inf`. Where only shapes are known, as under jit, such a row scores NaN.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Eq. 1 to 3 (there as probabilities). Twin:
      `scores` in tests/reference.py.

    >>> scores = score(jnp.log(jnp.array([[0.5, 0.5, 0.0], [0.8, 0.1, 0.1]])))
    >>> [round(float(value), 3) for value in scores.entropy], scores.predicted.tolist()
    ([0.693, 0.639], [0, 0])
    """
    return _checked(logits, _score)


def entropy(logits: Float[Array | np.ndarray, "N K"]) -> Float[Array, " N"]:
    """Entropy of the source model's prediction, in nats: [N] from logits [N, K], Eq. 1. See
    `score`.

    >>> entropy(jnp.array([[0.0, 0.0], [200.0, 0.0]])).round(3).tolist()
    [0.6930000185966492, 0.0]
    """
    return _checked(logits, partial(_one, name="entropy"))


def margin(logits: Float[Array | np.ndarray, "N K"]) -> Float[Array, " N"]:
    """Margin as an uncertainty, `1 - (p1 - p2)` with the two largest probabilities: [N] from logits
    [N, K], Eq. 2. See `score`.

    >>> margin(jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))).tolist()
    [1.0, 0.5]
    """
    return _checked(logits, partial(_one, name="margin"))


def least_confidence(logits: Float[Array | np.ndarray, "N K"]) -> Float[Array, " N"]:
    """Least confidence, `1 - p1` with the largest probability: [N] from logits [N, K], Eq. 3. See
    `score`.

    >>> least_confidence(jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))).tolist()
    [0.5, 0.25]
    """
    return _checked(logits, partial(_one, name="least_confidence"))


def mixture(logits: Float[Array, "N M K"]) -> Float[Array, "N K"]:
    """The log of the mean prediction of an ensemble: float32 [N, K] from logits [N, M, K] of M
    members. Runs inside jit.

    Source: plain arithmetic. Twin: `mixture` in tests/reference.py.

    >>> mean = jnp.exp(mixture(jnp.log(jnp.array([[[0.9, 0.1], [0.5, 0.5]]]))))
    >>> [round(float(share), 3) for share in mean[0]]
    [0.7, 0.3]
    """
    members = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    # A class that no member thinks possible: the log of 0, without NaN on the way.
    largest = jnp.maximum(jnp.max(members, axis=1, keepdims=True), jnp.finfo(jnp.float32).min)
    mean = jnp.mean(jnp.exp(members - largest), axis=1)
    return jnp.log(mean) + largest[:, 0]


def _checked(logits: Any, program: Callable[[Any], Any]) -> Any:
    """What a compiled program makes of the logits."""
    logits = check.floats("logits", check.source_shape("logits", logits))
    found = program(logits)
    check.scored(logits, jax.tree.leaves(found)[0])
    return found


@jax.jit
def _score(logits: Float[Array, "N K"]) -> Scores:
    if logits.shape[0] == 0:
        return _score_rows(logits)

    def tiled(logits):
        return jax.lax.platform_dependent(
            logits,
            cpu=partial(_tiled, tile=_TILE),
            default=partial(_tiled, tile=_TILE_ON_ACCELERATORS),
        )

    return sharding.by_rows(tiled, (0,), 0)(logits)


@partial(jax.jit, static_argnames="name")
def _one(logits: Float[Array, "N K"], *, name: str) -> Float[Array, " N"]:
    return getattr(_score(logits), name)


def _tiled(logits: Float[Array, "N K"], *, tile: int) -> Scores:
    """The scores, in tiles of about `tile` numbers."""
    return xla.map_tiles(_score_rows, logits, height=max(1, tile // logits.shape[1]))


def _score_rows(logits: Float[Array, "n K"]) -> Scores:
    logits = logits.astype(jnp.float64 if logits.dtype == jnp.float64 else jnp.float32)
    num_classes, lowest = logits.shape[1], jnp.finfo(logits.dtype).min
    # Class ids as floats, exact up to 2^24, and two passes (the maximum, then the first class that
    # reaches it) are many times faster on CPUs than argmax. A NaN equals nothing: the `min` then
    # gives the last class.
    classes = jnp.arange(num_classes, dtype=logits.dtype)[None, :]
    largest = jnp.max(logits, axis=1, keepdims=True)
    predicted = jnp.min(
        jnp.where(logits == largest, classes, num_classes - 1), axis=1, keepdims=True
    )
    # An infinite lead would give 0 times infinity below. The top class is left out by its id, not
    # by its value, so that a tied second class still counts.
    behind = jnp.maximum(logits - largest, lowest)
    weight = jnp.where(classes != predicted, jnp.exp(behind), 0)
    # Adds 0, or NaN where the largest is infinite.
    rest = jnp.sum(weight, axis=1) + (largest - largest)[:, 0]
    least = rest / (1 + rest)
    return Scores(
        entropy=jnp.log1p(rest) - jnp.sum(weight * behind, axis=1) / (1 + rest),
        margin=least + jnp.max(weight, axis=1) / (1 + rest),
        least_confidence=least,
        predicted=predicted[:, 0].astype(jnp.int32),
    )
