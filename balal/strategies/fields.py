"""The fields of a pool that a strategy reads, or a sentence that says what the pool lacks. All of
it runs inside jit.

`name` is that of the strategy, for the sentence.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from balal.kernels.distances import directions
from balal.kernels.uncertainty import mixture
from balal.types import Pool, Scores, askable


def features(pool: Pool, *, name: str) -> Float[Array, "N D"]:
    """The features: [N, D].

    Raises: ValueError if there are none.

    >>> features(Pool(jnp.ones((2, 1))), name="core_set").shape
    (2, 1)
    """
    if pool.features is None:
        raise ValueError(f"{name} needs features: make the pool with balal.pool(features)")
    return pool.features


def unit_rows(pool: Pool, *, name: str) -> Float[Array, "N D"]:
    """The features as unit rows, centred by the mean of the candidates first, [N, D]: what the
    methods measure distances between whose authors normalise the features.

    Those authors do not centre them; but what all rows of a network's features have in common is
    often most of their length, and then all of them look alike.

    Raises: as `features`.

    >>> unit_rows(Pool(jnp.array([[1.0, 5.0], [3.0, 5.0]])), name="max_herding").tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    return directions(features(pool, name=name), askable(pool.candidates, pool.num_rows))


def scores(pool: Pool, *, name: str) -> Scores:
    """The scores, [N] each.

    Raises: ValueError if there are none.

    >>> scores(Pool(None), name="ent")
    Traceback (most recent call last):
    ValueError: ent needs scores: make the pool with balal.pool(features, logits=...)
    """
    if pool.scores is None:
        raise ValueError(
            f"{name} needs scores: make the pool with balal.pool(features, logits=...)"
        )
    return pool.scores


def logits(pool: Pool, *, name: str) -> Float[Array, "N K"]:
    """The logits, of an ensemble those of its mean prediction: [N, K].

    Raises: ValueError if there are none.

    >>> logits(Pool(None, logits=jnp.zeros((2, 3, 4))), name="badge").shape
    (2, 4)
    """
    if pool.logits is None:
        raise ValueError(
            f"{name} needs logits: make the pool with balal.pool(features, logits=..., "
            f"keep_logits=True)"
        )
    return mixture(pool.logits) if pool.logits.ndim == 3 else pool.logits


def target_logits(pool: Pool, num_classes: int, *, name: str) -> Float[Array, "N C"]:
    """The logits as those of the target classes: float32 [N, C], `-inf` for classes that the target
    model does not know.

    Args:
      pool: with logits [N, K] of the target model, column c those of target class c, or
        [N, M, K] of an ensemble; K may be below C while the model knows only the first classes.
      num_classes: `C`.

    Raises: ValueError if there are none, or more columns than target classes.

    >>> target_logits(Pool(None, logits=jnp.zeros((2, 2))), 3, name="cbal").tolist()[0]
    [0.0, 0.0, -inf]
    """
    found = pool.logits
    if found is None or found.shape[-1] > num_classes:
        came = "there are none" if found is None else f"got {found.shape[-1]} columns"
        raise ValueError(
            f"{name} needs the target model's predictions, a column for each of the "
            f"{num_classes} target classes, and {came}: pass what a head fitted to the labels "
            f"predicts, balal.pool(features, logits=..., keep_logits=True)"
        )
    missing = (0, 0), (0, num_classes - found.shape[-1])
    known = logits(pool, name=name).astype(jnp.float32)
    return jnp.pad(known, missing, constant_values=-jnp.inf)
