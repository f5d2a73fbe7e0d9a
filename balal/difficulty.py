"""Which labels a head does not come to rest on: the variance of gradients while it is trained."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int, Integer, Real

from balal import check
from balal.label_errors import checked


@dataclass(frozen=True)
class GradientVariance:
    """What `gradient_variance` finds.

    Attributes:
      order: int [B], the labelled rows, those with the largest variance first.
      variance: float32 [B], of each labelled row.
    """

    order: Int[np.ndarray, " B"]
    variance: Float[np.ndarray, " B"]


def gradient_variance(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    C: float | int = 10.0,
    checkpoints: int = 20,
    steps: int = 10,
) -> GradientVariance:
    """VoG: the labelled rows in the order of how much their gradient varies while a linear head is
    trained, the most first.

    The gradient of the loss of row i in its features, at checkpoint t of T, is
    `G_it = W_t' (p_it - e_i)`, with `p_it` the softmax of `W_t x_i + b_t` and `e_i` the label as
    0-1, and

        V_i = sum_t |G_it - mean_s G_is|^2 / T

    The head minimises `|W|^2 / 2 + C sum_i loss_i` from 0 by Nesterov's gradient steps over all
    rows, which are centred and divided by their root mean square norm.

    Of use where one wants the rows that a head learns late and at the others' expense: hard rows on
    a border, rare looks, and wrong labels. It does not say which of these a row is, and for wrong
    labels alone `suspects` is the better order.

    Args:
      features: [B, D], of the labelled rows.
      labels: int [B], their target classes, not negative.
      C: inverse strength of the penalty.
      checkpoints: `T`, at least 2.
      steps: of the training between two checkpoints.

    Raises: ValueError as `suspects` does, and for a `C` that is not positive, fewer than 2
      checkpoints, or no steps.

    Source: Agarwal, D'souza, Hooker, *Estimating example difficulty using variance of gradients*,
      CVPR 2022. There the gradient is that of the logit of the class in the pixels. That of a
      linear head is `w_c`, the same for all rows of a class, so the loss takes its place and the
      features that of the pixels. Twin: `variances` in tests/test_difficulty.py.

    >>> rows = np.array([[0.0, 1.0], [0.1, 1.0], [0.2, 1.0], [1.0, 0.0], [1.0, 0.1], [1.0, 0.2]])
    >>> int(gradient_variance(rows, np.array([0, 0, 1, 1, 1, 1])).order[0])
    2
    """
    rows, answers = checked(features, labels)
    C = float(check.positive("C", C))
    checkpoints = check.whole_number("checkpoints", checkpoints, least=2)
    steps = check.whole_number("steps", steps, least=1)
    classes, columns = np.unique(answers, return_inverse=True)
    rows = rows - rows.mean(axis=0)
    norm = np.sqrt(np.mean(np.sum(np.square(rows), axis=1)))
    rows = np.column_stack([rows / (norm or 1.0), np.ones(len(rows))])
    gram = rows @ rows.T if len(rows) < rows.shape[1] else rows.T @ rows
    # The Hessian of the softmax is at most 1/2.
    rate = 1 / (1 + C / 2 * np.linalg.eigvalsh(gram)[-1])
    variance = np.asarray(
        _variance(
            jnp.asarray(rows, jnp.float32),
            jnp.asarray(columns, jnp.int32),
            jnp.float32(C),
            jnp.float32(rate),
            num_classes=len(classes),
            checkpoints=checkpoints,
            steps=steps,
        )
    )
    return GradientVariance(np.argsort(-variance, kind="stable"), variance)


@partial(jax.jit, static_argnames=("num_classes", "checkpoints", "steps"))
def _variance(
    rows: Float[Array, "B D"],
    labels: Int[Array, " B"],
    strength: Float[Array, ""],
    rate: Float[Array, ""],
    *,
    num_classes: int,
    checkpoints: int,
    steps: int,
) -> Float[Array, " B"]:
    """The variances, of a head whose intercept is the weight of the last column, one."""
    own = jax.nn.one_hot(labels, num_classes, dtype=jnp.float32)
    penalty = jnp.ones(rows.shape[1], jnp.float32).at[-1].set(0.0)[None, :]
    product = partial(jnp.matmul, precision="highest")

    def errors(weights):
        return jax.nn.softmax(product(rows, weights.T), axis=1) - own

    def step(carry, number):
        weights, ahead = carry
        gradient = strength * product(errors(ahead).T, rows) + penalty * ahead
        moved = ahead - rate * gradient
        return (moved, moved + number / (number + 3) * (moved - weights)), None

    def checkpoint(carry, number):
        """Welford's sums, so that no more than one gradient of each row is held."""
        head, mean, squares = carry
        first = steps * number
        head, _ = lax.scan(step, head, first + jnp.arange(steps, dtype=jnp.float32))
        gradients = product(errors(head[0]), head[0][:, :-1])
        before = gradients - mean
        mean = mean + before / (number + 1)
        return (head, mean, squares + jnp.sum(before * (gradients - mean), axis=1)), None

    zeros = jnp.zeros((num_classes, rows.shape[1]), jnp.float32)
    start = (zeros, zeros), jnp.zeros_like(rows[:, :-1]), jnp.zeros(len(rows), jnp.float32)
    (_, _, squares), _ = lax.scan(checkpoint, start, jnp.arange(checkpoints, dtype=jnp.float32))
    return squares / checkpoints
