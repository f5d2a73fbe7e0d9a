"""Against imbalance among the labels: small functions of class counts, for any head with logits.

Each says the published rule; a class without labels is no output of a head, has no prior and no weight, and its places are left 0.
Before training: `balanced_weights`, `effective_weights`, `sampling` (what a row of each class counts), `adjustment` and `margins` (what is
put into the loss). Afterwards: `thresholded`, `logit_adjusted`, `tau_normalised`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Real

Counts = Integer[Array | np.ndarray, " C"]


def priors(counts: Counts, *, smoothing: float | int = 0.0) -> Float[np.ndarray, " C"]:
    """The share of each class among the labels, `(n_c + smoothing) / sum`, 0 for classes without labels: float64 [C].

    Raises: ValueError for counts that are negative or all 0.

    >>> priors(np.array([3, 0, 1])).tolist()
    [0.75, 0.0, 0.25]
    """
    number = np.asarray(counts, np.float64)
    if number.min(initial=0) < 0 or not number.sum():
        raise ValueError(f"counts must not be negative, and one label is needed, got {number.tolist()[:10]}")
    smoothed = np.where(number > 0, number + smoothing, 0)
    return smoothed / smoothed.sum()


def thresholded(
    probabilities: Float[Array | np.ndarray, "M C"], counts: Counts, *, smoothing: float | int = 0.0
) -> Float[np.ndarray, "M C"]:
    """Class probabilities divided by the priors of the labels, as shares again: float64 [M, C].

    For test sets that are balanced where the labels are not. The probabilities must be calibrated.

    Source: Buda, Maki, Mazurowski, Neural Networks 2018.

    >>> thresholded(np.array([[0.8, 0.2]]), np.array([9, 1])).round(3).tolist()
    [[0.308, 0.692]]
    """
    prior = priors(counts, smoothing=smoothing)
    scaled = np.asarray(probabilities, np.float64) * np.where(prior > 0, 1 / np.where(prior > 0, prior, 1), 0)
    return scaled / scaled.sum(axis=1, keepdims=True)


def adjustment(counts: Counts, *, tau: float | int = 1.0, smoothing: float | int = 0.0) -> Float[np.ndarray, " C"]:
    """`tau log prior`, 0 for classes without labels: float64 [C]. Added to the logits in the loss only it gives logit adjustment.

    With `tau = 1` this is the balanced softmax (Ren et al., NeurIPS 2020) by another name. A head trained with it is used as it is.

    Source: Menon et al., ICLR 2021. Differs from the authors' code in unseen classes, whose logarithm is floored there.

    >>> adjustment(np.array([1, 1, 0]), tau=2.0).round(3).tolist()
    [-1.386, -1.386, 0.0]
    """
    prior = priors(counts, smoothing=smoothing)
    return tau * np.log(np.where(prior > 0, prior, 1))


def logit_adjusted(logits: Float[Array | np.ndarray, "M C"], counts: Counts, *, tau: float | int = 1.0) -> Float[np.ndarray, "M C"]:
    """Logits of a plainly trained head less `tau log prior`: float64 [M, C]. With `tau = 1` the same as `thresholded`, before the softmax.

    Not for a head that was trained with `adjustment`. Source: Menon et al., ICLR 2021 (post hoc).

    >>> logit_adjusted(np.array([[1.0, 0.0]]), np.array([9, 1])).round(3).tolist()
    [[1.105, 2.303]]
    """
    return np.asarray(logits, np.float64) - adjustment(counts, tau=tau)


def cross_entropy(
    logits: Float[Array | np.ndarray, "M C"],
    labels: Integer[Array | np.ndarray, " M"],
    *,
    added: Real[Array | np.ndarray, " C"] | None = None,
) -> Float[Array, " M"]:
    """The loss of each row, `-log softmax(logits + added)` at its label: [M]. added: of `adjustment`.

    >>> cross_entropy(np.zeros((1, 2)), np.array([0])).round(3).tolist()
    [0.6930000185966492]
    """
    values = jnp.asarray(logits, jnp.float32)
    if added is not None:
        values = values + jnp.asarray(added, jnp.float32)[None, :]
    return -jnp.take_along_axis(jax.nn.log_softmax(values), jnp.asarray(labels)[:, None], axis=1)[:, 0]


def balanced_weights(counts: Counts) -> Float[np.ndarray, " C"]:
    """What a row of each class counts so that all classes count the same, `n / (C n_c)` over the classes with labels: float64 [C].

    A linear head refitted with them on frozen features is cRT, whose class-balanced sampling has this expectation.

    Source: Kang et al., ICLR 2020.

    >>> balanced_weights(np.array([3, 0, 1])).round(3).tolist()
    [0.667, 0.0, 2.0]
    """
    return sampling(counts, power=0.0)


def effective_weights(counts: Counts, *, beta: float | int = 0.99) -> Float[np.ndarray, " C"]:
    """Class weights by the effective number of samples `(1 - beta^n) / (1 - beta)`, their inverses with mean 1: float64 [C].

    beta: 0 weighs all alike, 1 by the inverse count. With fewer than a hundred labels a class 0.99 is nearly that already.

    Source: Cui et al., CVPR 2019.

    >>> effective_weights(np.array([100, 10, 1]), beta=0.9).round(3).tolist()
    [0.239, 0.367, 2.393]
    """
    if not 0 <= beta <= 1:
        raise ValueError(f"beta lies between 0 and 1, got {beta}")
    number = priors(counts) * np.sum(counts)
    effective = number if beta == 1 else -np.expm1(number * (np.log(beta) if beta else -np.inf)) / (1 - beta)
    inverse = np.where(number > 0, 1 / np.where(number > 0, effective, 1), 0)
    return inverse * np.sum(number > 0) / inverse.sum()


def sampling(counts: Counts, *, power: float | int = 0.0) -> Float[np.ndarray, " C"]:
    """Oversampling of rare classes as weights of rows: classes are drawn in proportion to `n_c^power`; float64 [C], mean 1 over the rows.

    power: 1 draws rows as they are, 0 every class as often, 0.5 in between.

    Source: Kang et al., ICLR 2020 (instance-, class-balanced and square-root sampling).

    >>> (sampling(np.array([100, 10, 1]), power=0.5) * np.array([100, 10, 1]) / 111).round(4).tolist()
    [0.7061, 0.2233, 0.0706]
    """
    prior = priors(counts)
    drawn = np.where(prior > 0, np.power(prior, power, where=prior > 0, out=np.zeros_like(prior)), 0)
    drawn = drawn / drawn.sum()
    return np.where(prior > 0, drawn / np.where(prior > 0, prior, 1), 0)


def margins(counts: Counts, *, largest: float = 0.5) -> Float[np.ndarray, " C"]:
    """The label-distribution-aware margin of each class, in proportion to `n_c^(-1/4)`, at most `largest`: float64 [C].

    Source: Cao et al., NeurIPS 2019 (LDAM).

    >>> margins(np.array([16, 1])).tolist()
    [0.25, 0.5]
    """
    prior = priors(counts)
    found = np.where(prior > 0, np.power(prior, -0.25, where=prior > 0, out=np.zeros_like(prior)), 0)
    return largest * found / found.max()


def ldam_loss(
    cosines: Float[Array | np.ndarray, "M C"],
    labels: Integer[Array | np.ndarray, " M"],
    margins: Real[Array | np.ndarray, " C"],
    *,
    scale: float = 30.0,
) -> Float[Array, " M"]:
    """The loss of each row: cross-entropy of scaled cosines, that of the row's own class less its margin: [M].

    Source: Cao et al., NeurIPS 2019.

    >>> ldam_loss(np.array([[0.5, 0.5]]), np.array([0]), np.array([0.0, 0.0])).round(3).tolist()
    [0.6930000185966492]
    """
    chosen = jax.nn.one_hot(jnp.asarray(labels), cosines.shape[1]) * jnp.asarray(margins, jnp.float32)[None, :]
    return cross_entropy(scale * (jnp.asarray(cosines, jnp.float32) - chosen), labels)


def tau_normalised(coef: Float[Array | np.ndarray, "C D"], *, tau: float | int = 1.0) -> Float[np.ndarray, "C D"]:
    """A head's weights divided by the power `tau` of their length: float64 [C, D]. The intercepts are left out.

    tau: between 0, as they are, and 1, all of length 1; chosen on rows that are held out.

    Source: Kang et al., ICLR 2020.

    >>> tau_normalised(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    weights = np.asarray(coef, np.float64)
    length = np.linalg.norm(weights, axis=1, keepdims=True)
    return weights / np.where(length > 0, length, 1) ** tau
