"""Fine-tuning: the whole source network is trained on the labelled images, with a tenth of the
learning rate of its first training.

    head = finetune.fit(source, params, images, labels, num_classes=100, key=key)
    predicted = finetune.predict(head, test_images)
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Key, Real

from balal import array_file, check
from balal.atomic_files import atomic_write
from balal.extras import Extra
from balal.heads import fitting

with Extra("models"):
    import optax
    from flax import nnx


@dataclass(frozen=True)
class Recipe:
    """How a network is fine-tuned.

    Attributes:
      epochs: passes over the labelled images.
      batch: images per step; all of them if there are fewer.
      learning_rate: at the start; 0.1 is usual for training from scratch.
      momentum: Nesterov's, of stochastic gradient descent.
      decay: shares of the epochs after which the learning rate falls to a tenth.
      weight_decay: of the kernels; norms and biases have none.
      flip: mirror half of the images.
      shift: move images by up to this share of their size, repeating the border.
      bfloat16: compute in bfloat16, twice as fast on accelerators; parameters stay float32.
    """

    epochs: int = 60
    batch: int = 32
    learning_rate: float = 0.01
    momentum: float = 0.9
    decay: tuple[float, ...] = (0.5, 0.75)
    weight_decay: float = 1e-4
    flip: bool = True
    shift: float = 0.125
    bfloat16: bool = False


@dataclass(frozen=True)
class Head:
    """A fine-tuned network.

    Attributes:
      source: with `num_classes` outputs.
      params: of the source.
      known: bool [C], the classes that were among the labels.
      losses: float64 [epochs], the mean training loss of each epoch.
    """

    source: Any
    params: Any
    known: np.ndarray
    losses: Float[np.ndarray, " epochs"]


def fit(
    source: Any,
    params: Any,
    images: Real[np.ndarray, "B ..."],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    num_classes: int,
    key: Key[Array, ""],
    recipe: Recipe | None = None,
    weights: Sequence[float] | Real[np.ndarray, " C"] | None = None,
    adjustment: Real[np.ndarray, " C"] | None = None,
    checkpoint: Path | str | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Head:
    """The network of `source`, trained on labelled images starting from `params`. The same input
    and key give the same head.

    The classifier is replaced by zeros for `num_classes` classes; classes without labels take no
    part. A step takes `batch` images, epochs are shuffled, and the last step of an epoch is filled
    up from the epoch's beginning.

    Args:
      source: a `balal.models.Source`.
      params: its parameters.
      images: [B, h, w, 3], grey levels, prepared for the source.
      labels: int [B], in [0, num_classes).
      key: of the order of the images and of their augmentation.
      recipe: the paper's where None.
      weights: [C], how much the loss of each class counts (`balal.heads.rebalance`), above 0 for
        classes with labels; None: 1.
      adjustment: [C], added to the logits in the loss only, for logit adjustment; None: 0.
      checkpoint: a file in which the training is saved after every epoch, and from which it
        resumes; it belongs to a single training.
      progress: called with the number of finished epochs and the loss of the last one.

    Raises: ValueError for no images, wrong shapes, labels out of range, weights or an adjustment
      that are not usable, an invalid recipe, or a checkpoint of another training;
      FloatingPointError when the loss is no longer finite.

    Source: Aggarwal, Popescu, Hudelot, WACV 2020, Section 3.4 (fine-tuning with a tenth of the
      source's learning rate).
    """
    recipe = Recipe() if recipe is None else recipe
    images, answers = _checked(images, labels, num_classes, recipe)
    known = np.bincount(answers, minlength=num_classes) > 0
    counted = fitting.of_classes(
        "weights", np.ones(num_classes) if weights is None else weights, num_classes
    )
    added = fitting.of_classes(
        "adjustment", np.zeros(num_classes) if adjustment is None else adjustment, num_classes
    )
    # All images of a batch may be of one class, and its loss is divided by the weights.
    positive = (counted > 0) & np.isfinite(counted)
    fitting.require(
        ~known | positive,
        "weights must be positive and finite for classes that have labels",
        "classes",
    )
    fitting.require(
        ~known | np.isfinite(added),
        "adjustment must be finite for classes that have labels",
        "classes",
    )
    # Classes without labels have probability 0, and so no gradient.
    added = jnp.asarray(np.where(known, added, -np.inf), jnp.float32)
    counted = jnp.asarray(counted, jnp.float32)

    source = replace(source, num_classes=num_classes)
    features = params["classifier"]["kernel"].shape[0]
    classifier = dict(kernel=jnp.zeros((features, num_classes)), bias=jnp.zeros(num_classes))
    batch = min(recipe.batch, len(answers))
    steps = -(-len(answers) // batch)
    state = _begin(source, {**params, "classifier": classifier}, recipe, steps)
    training = (
        _fingerprint(images, answers, source, recipe, key, counted, added, state)
        if checkpoint is not None
        else ""
    )
    state, losses = _resumed(checkpoint, training, state)

    for epoch in range(len(losses), recipe.epochs):
        order = np.resize(
            jax.random.permutation(jax.random.fold_in(key, epoch), len(answers)), steps * batch
        )
        total = []
        for step, rows in enumerate(order.reshape(steps, batch)):
            step_key = jax.random.fold_in(jax.random.fold_in(key, epoch), step + 1)
            state, loss = _step(
                source, recipe, steps, state, images[rows], answers[rows], step_key, counted, added
            )
            total.append(loss)
        losses.append(float(np.mean(np.asarray(total, np.float64))))
        if not np.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the loss was no longer finite in epoch {epoch}: lower the learning rate of "
                f"{recipe.learning_rate:g}"
            )
        if checkpoint is not None:
            _save(Path(checkpoint), training, state, losses)
        if progress is not None:
            progress(epoch + 1, losses[-1])
    trainable, statistics, _ = state
    tuned = nnx.to_pure_dict(nnx.merge_state(trainable, statistics))
    return Head(source, tuned, known, np.array(losses))


def predict(
    head: Head, images: Real[np.ndarray, "M h w 3"], *, batch: int = 64
) -> Int[np.ndarray, " M"]:
    """The class of every image, prepared as those of `fit` were: int64 [M], only classes that were
    among the labels."""
    return np.argmax(logits(head, images, batch=batch), axis=1)


def logits(
    head: Head, images: Real[np.ndarray, "M h w 3"], *, batch: int = 64
) -> Float[np.ndarray, "M C"]:
    """The network's outputs, `batch` images at a time: float32 [M, C], -inf for classes without
    labels."""
    images = np.asarray(check.array("images", images))
    found = np.full((len(images), len(head.known)), -np.inf, np.float32)
    for first in range(0, len(images), batch):
        some = images[first : first + batch]
        filled = np.pad(some, ((0, batch - len(some)), (0, 0), (0, 0), (0, 0)))
        found[first : first + batch] = np.asarray(head.source.apply(head.params, filled)[1])[
            : len(some)
        ]
    return np.where(head.known[None, :], found, -np.inf).astype(np.float32)


def _begin(source: Any, params: Any, recipe: Recipe, steps: int) -> tuple:
    """What training changes: the trainable parameters, the running statistics, the optimizer's
    memory."""
    graph, state = nnx.split(nnx.eval_shape(source.module))
    # Copies, as each step overwrites the one before in memory.
    nnx.replace_by_pure_dict(state, jax.tree.map(partial(jnp.array, copy=True), params))
    _, trainable, statistics = nnx.split(nnx.merge(graph, state), nnx.Param, nnx.BatchStat)
    return trainable, statistics, _optimizer(recipe, steps).init(trainable)


def _optimizer(recipe: Recipe, steps: Int[Array, ""] | int) -> optax.GradientTransformation:
    def passed(count, share):
        end = jnp.float32(share * recipe.epochs) * jnp.asarray(steps, jnp.float32)
        return (jnp.asarray(count, jnp.float32) >= end).astype(jnp.float32)

    def schedule(count):
        return recipe.learning_rate * 0.1 ** sum(passed(count, share) for share in recipe.decay)

    return optax.chain(
        # Kernels, of the convolutions and the classifier, have two axes or more.
        optax.add_decayed_weights(
            recipe.weight_decay, mask=lambda tree: jax.tree.map(lambda leaf: leaf.ndim > 1, tree)
        ),
        optax.sgd(schedule, recipe.momentum, nesterov=True),
    )


@partial(jax.jit, static_argnames=("source", "recipe"), donate_argnames="state")
def _step(source: Any, recipe: Recipe, steps, state, images, labels, key, weights, adjustment):
    trainable, statistics, memory = state
    graph, _ = nnx.split(
        nnx.eval_shape(
            partial(source.module, dtype=jnp.bfloat16 if recipe.bfloat16 else jnp.float32)
        )
    )
    images = source.normalised(_augmented(images.astype(jnp.float32), recipe, key))

    def loss(trainable):
        # A copy, as training changes the statistics.
        model = nnx.merge(graph, trainable, statistics, copy=True)
        model.train()
        values = jax.nn.log_softmax(model(images)[1] + adjustment[None, :])
        counted = weights[labels]
        mean = -jnp.sum(
            counted * jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]
        ) / jnp.sum(counted)
        return mean, nnx.state(model, nnx.BatchStat)

    (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(trainable)
    change, memory = _optimizer(recipe, steps).update(gradient, memory, trainable)
    return (optax.apply_updates(trainable, change), statistics, memory), value


def _augmented(images, recipe: Recipe, key):
    """Images [B, h, w, 3], each mirrored and shifted at random."""
    flips, moves = jax.random.split(key)
    if recipe.flip:
        images = jnp.where(
            jax.random.bernoulli(flips, shape=(len(images), 1, 1, 1)), images[:, :, ::-1], images
        )
    most = round(recipe.shift * images.shape[1])
    if most:
        around = jnp.pad(images, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
        corners = jax.random.randint(moves, (len(images), 2), 0, 2 * most + 1)
        images = jax.vmap(
            lambda image, corner: jax.lax.dynamic_slice(image, (*corner, 0), images.shape[1:])
        )(around, corners)
    return images


def _checked(
    images, labels, num_classes: int, recipe: Recipe
) -> tuple[Real[np.ndarray, "B h w 3"], Int[np.ndarray, " B"]]:
    images = np.asarray(check.array("images", images))
    answers = fitting.classes("labels", labels)
    if not len(answers):
        raise ValueError("there are no labelled images to train on")
    if images.ndim != 4 or images.shape[3] != 3 or len(images) != len(answers):
        raise ValueError(
            f"images must be [B, h, w, 3] with one label for each, got shape {images.shape} and "
            f"{len(answers)} labels"
        )
    fitting.require(
        (answers >= 0) & (answers < num_classes), f"labels must be in [0, {num_classes})"
    )
    if (
        recipe.epochs < 1
        or recipe.batch < 1
        or not recipe.learning_rate > 0
        or not 0 <= recipe.shift < 0.5
    ):
        raise ValueError(
            f"a recipe must have epochs, batch and learning_rate above 0 and a shift of at least 0 "
            f"and below 0.5, got {recipe}"
        )
    return images, answers


def _fingerprint(*parts: Any) -> str:
    """A hash that identifies a training: its data, its settings and its initial state."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, np.ndarray | jax.Array):
            digest.update(f"{leaf.shape} {leaf.dtype}".encode() + np.asarray(leaf).tobytes())
        else:
            digest.update(repr(leaf).encode())
    return digest.hexdigest()


def _resumed(
    checkpoint: Path | str | None, training: str, state: tuple
) -> tuple[tuple, list[float]]:
    """The state and the losses so far, from the checkpoint if there is one."""
    if checkpoint is None or not Path(checkpoint).exists():
        return state, []
    leaves, form = jax.tree.flatten(state)
    try:
        file = array_file.read(Path(checkpoint), kind="a checkpoint")
        found, losses = str(file["training"]), file["losses"].tolist()
        kept = [jnp.asarray(file[f"leaf{number}"]) for number in range(len(leaves))]
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint, or is damaged ({error}): delete it to start over"
        ) from error
    if found != training:
        raise ValueError(
            f"{checkpoint} belongs to another training (other images, labels, source, recipe or "
            f"key): choose another file or delete it"
        )
    return jax.tree.unflatten(form, kept), losses


def _save(path: Path, training: str, state: tuple, losses: list[float]) -> None:
    leaves: dict[str, Any] = {
        f"leaf{number}": np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(state))
    }
    with atomic_write(path) as file:
        np.savez(file, **leaves, training=np.str_(training), losses=np.array(losses))
