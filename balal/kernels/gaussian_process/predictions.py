"""What a Gaussian process says of every row: how probable each class is, and what its label is
expected to be worth."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from balal import check
from balal.kernels.gaussian_process.process import GaussianProcess

# Classes that are summed over at once.
_TOGETHER = 20


def explain(
    process: GaussianProcess, *, sharpness: int = 2
) -> tuple[Float[Array, "N C"], Float[Array, " N"]]:
    """How probable each class is for each row, and the mass that the labels leave unexplained: [N,
    C] and [N], which sum to 1.

    The explained mass is the sum of the positive class means, at most 1. It is shared out in
    proportion to the means' `sharpness`-th powers, 1 to 8: larger ones underflow.

    Source: this library. Twin: `explain` in tests/reference.py.

    >>> from balal.kernels.gaussian_process import begin, update
    >>> process = update(begin(jnp.eye(2), capacity=1, num_classes=2, noise=0.25), 0, 1)
    >>> probabilities, unexplained = explain(process)
    >>> probabilities[0].round(3).tolist(), unexplained[:1].round(3).tolist()
    ([0.0, 0.800000011920929], [0.20000000298023224])
    """
    return _explain(process, check.whole_number("sharpness", sharpness))


@partial(jax.jit, static_argnames="sharpness")
def _explain(process: GaussianProcess, sharpness: int):
    positive = jnp.maximum(process.mean.T, 0)
    explained = jnp.minimum(jnp.sum(positive, axis=1), 1)
    powers = positive**sharpness
    total = jnp.sum(powers, axis=1)
    return powers * (explained / jnp.where(total > 0, total, 1))[:, None], 1 - explained


def utility(
    process: GaussianProcess,
    worth: Float[Array | np.ndarray, " C"],
    unseen: Float[Array | np.ndarray, ""] | float,
    *,
    sharpness: int = 2,
) -> Float[Array, " N"]:
    """What the label of each row is expected to be worth, times what there is still to learn about
    the row: [N].

    `(sum_c P_c worth_c + unexplained * unseen) * variance`, with the probabilities of `explain`.

    Args:
      process: of the labels so far.
      worth: [C], of one more label of each class.
      unseen: worth of a label of a class not seen yet.
      sharpness: as in `explain`.

    Source: this library. Twin: `utility` in tests/reference.py.

    >>> from balal.kernels.gaussian_process import begin, update
    >>> process = update(begin(jnp.eye(2), capacity=1, num_classes=2, noise=0.0), 0, 1)
    >>> utility(process, jnp.array([0.0, 0.5]), 1.0).argmax().tolist()
    1
    """
    worth = check.floats("worth", worth)
    if worth.shape != process.counts.shape:
        raise ValueError(
            f"worth must have a number for each of {len(process.counts)} classes, got shape "
            f"{worth.shape}"
        )
    return _utility(process, worth, unseen, check.whole_number("sharpness", sharpness))


@partial(jax.jit, static_argnames="sharpness")
def _utility(process: GaussianProcess, worth, unseen, sharpness: int) -> Float[Array, " N"]:
    expected, _ = expected_worth(process.mean, worth, unseen, sharpness=sharpness)
    return expected * process.variance


def expected_worth(
    mean: Float[Array, "C n"],
    worth: Float[Array, " C"],
    unseen: Float[Array, ""] | float,
    *,
    sharpness: int,
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """What the label of each row is expected to be worth, and how far one class explains it: both
    [n], `sum_c P_c worth_c + unexplained * unseen` and `max_c mean_c`, at least 0. Runs inside jit.

    Args:
      mean: [C, n], the class means of some rows.
      worth, unseen, sharpness: as in `utility`.

    >>> found = expected_worth(jnp.array([[0.0, 0.5], [0.0, 0.1]]), jnp.ones(2), 2.0, sharpness=2)
    >>> [part.round(2).tolist() for part in found]
    [[2.0, 1.399999976158142], [0.0, 0.5]]
    """

    def add(begin, sums, number):
        mass, power, worthy, best = sums
        for label in range(number):
            positive = jnp.maximum(mean[begin + label], 0)
            raised = positive**sharpness
            mass, power = mass + positive, power + raised
            worthy = worthy + raised * worth[begin + label]
            best = jnp.maximum(best, positive)
        return mass, power, worthy, best

    # Several classes at a time and all sums at once: reductions would not be vectorised.
    sums, groups = (jnp.zeros(mean.shape[1:], jnp.float32),) * 4, len(worth) // _TOGETHER
    sums = jax.lax.fori_loop(
        0, groups, lambda group, sums: add(group * _TOGETHER, sums, _TOGETHER), sums
    )
    mass, power, worthy, best = add(groups * _TOGETHER, sums, len(worth) % _TOGETHER)
    explained = jnp.minimum(mass, 1)
    return worthy * explained / jnp.where(power > 0, power, 1) + (1 - explained) * unseen, best
