"""A cosine head trained with label-distribution-aware margins and deferred re-weighting (LDAM-DRW).

head = ldam.fit(features[indices], labels[indices], num_classes=100)
predicted = ldam.predict(head, test_features)
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal.extras import Extra
from balal.heads import fitting, rebalance

with Extra("models"):
    import optax


@dataclass(frozen=True)
class Head:
    """A fitted cosine head. `k` is the number of classes seen among the labels.

    Attributes:
      coef: float64 [k, D], for each class a direction of length 1.
      classes: int [k], their ids, ascending.
      counts: int [k], labels of each class.
      losses: [steps], during training.
    """

    coef: Float[np.ndarray, "k D"]
    classes: Int[np.ndarray, " k"]
    counts: Int[np.ndarray, " k"]
    losses: Float[np.ndarray, " steps"]


def fit(
    features: Real[Array | np.ndarray, "B D"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    num_classes: int,
    steps: int = 200,
    learning_rate: float = 0.02,
    largest: float = 0.5,
    scale: float = 30.0,
    beta: float = 0.9999,
    deferred: float = 0.8,
) -> Head:
    """A `Head` fitted to labelled features by Adam on all rows at once, starting from the class
    means. The same input gives the same head.

    The weights of `rebalance.effective_weights` come in after the share `deferred` of the steps. A
    head that had converged would forget all that came before, so the number of steps is part of the
    method.

    Args:
      features, labels, num_classes: as in `balal.heads.svm.fit`. Only the direction of a row
        matters.
      steps: of Adam.
      learning_rate: of Adam.
      largest: the margin of the class with the fewest labels.
      scale: of the cosines.
      beta: of the weights, see `rebalance.effective_weights`.
      deferred: the share of the steps before the weights come in.

    Raises: ValueError for no rows, wrong shapes, labels out of range, features that are not finite,
      or no step.

    Source: Cao et al., NeurIPS 2019, on frozen features. Differs from the authors' code in training
      on all rows at once.

    >>> rows, labels = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), np.array([4, 4, 7])
    >>> head = fit(rows, labels, num_classes=10, steps=20)
    >>> predict(head, np.array([[2.0, 0.1], [0.1, 2.0]])).tolist()
    [4, 7]
    """
    rows, answers = fitting.checked(features, labels, num_classes)
    if steps < 1:
        raise ValueError(f"there must be at least one step, got {steps}")
    classes, answers, counts = np.unique(answers, return_inverse=True, return_counts=True)
    rows = _directions(rows)
    means = np.zeros((len(classes), rows.shape[1]))
    np.add.at(means, answers, rows)
    weights = rebalance.effective_weights(counts, beta=beta)
    each = np.stack(
        [
            rebalance.deferred(weights, progress=step / steps, start=deferred)[answers]
            for step in range(steps)
        ]
    )
    coef, losses = _train(
        jnp.asarray(rows, jnp.float32),
        jnp.asarray(answers),
        jnp.asarray(_directions(means), jnp.float32),
        jnp.asarray(each, jnp.float32),
        jnp.asarray(rebalance.ldam_margins(counts, largest=largest), jnp.float32),
        scale=float(scale),
        rate=float(learning_rate),
    )
    return Head(
        _directions(np.asarray(coef, np.float64)), classes, counts, np.asarray(losses, np.float64)
    )


def predict(head: Head, features: Real[Array | np.ndarray, "M D"]) -> Int[np.ndarray, " M"]:
    """The class with the largest cosine, among those seen: int64 [M].

    Raises: ValueError where the number of columns differs from that of `fit`.
    """
    return head.classes[np.argmax(fitting.columns(features, head.coef) @ head.coef.T, axis=1)]


@partial(jax.jit, static_argnames=("scale", "rate"))
def _train(rows, answers, coef, weights, margins, *, scale: float, rate: float):
    optimizer = optax.adam(rate)

    def loss(coef, weight):
        cosines = rows @ (coef / jnp.maximum(jnp.linalg.norm(coef, axis=1, keepdims=True), 1e-12)).T
        return jnp.sum(
            weight * rebalance.ldam_losses(cosines, answers, margins, scale=scale)
        ) / jnp.sum(weight)

    def step(carry, weight):
        coef, memory = carry
        value, gradient = jax.value_and_grad(loss)(coef, weight)
        # Adam takes powers of a float by a whole number of steps.
        with jax.numpy_dtype_promotion("standard"):
            change, memory = optimizer.update(gradient, memory)
        return (optax.apply_updates(coef, change), memory), value

    (coef, _), losses = jax.lax.scan(step, (coef, optimizer.init(coef)), weights)
    return coef, losses


def _directions(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1; rows of zeros stay as they are."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(length > 0, length, 1)
