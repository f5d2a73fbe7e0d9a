"""What the target model predicts, for the strategies that ask it."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from balal.kernels.uncertainty import mixture
from balal.types import Pool


def target_logits(pool: Pool, num_classes: int, *, name: str) -> Float[Array, "N C"]:
    """The pool's logits as those of the target classes: float32 [N, C], `-inf` for classes that
    the target model does not know. Runs inside jit.

    Args:
      pool: with logits [N, K] of the target model, column c those of target class c, or
        [N, M, K] of an ensemble, whose mean prediction is taken; K may be below C while the model
        knows only the first classes.
      num_classes: `C`.
      name: of the strategy, for the error.

    Raises: ValueError if there are none, or more columns than target classes.

    >>> target_logits(Pool(None, logits=jnp.zeros((2, 2))), 3, name="cbal").tolist()[0]
    [0.0, 0.0, -inf]
    """
    logits = pool.logits
    if logits is None or logits.shape[-1] > num_classes:
        came = "there are none" if logits is None else f"got {logits.shape[-1]} columns"
        raise ValueError(
            f"{name} needs the target model's predictions, a column for each of the "
            f"{num_classes} target classes, and {came}: pass what a head fitted to the labels "
            f"predicts, balal.pool(features, logits=..., keep_logits=True)"
        )
    logits = mixture(logits) if logits.ndim == 3 else logits.astype(jnp.float32)
    missing = (0, 0), (0, num_classes - logits.shape[-1])
    return jnp.pad(logits, missing, constant_values=-jnp.inf)
