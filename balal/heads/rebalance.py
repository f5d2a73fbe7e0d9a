"""Remedies for imbalanced labels: weights, adjustments and losses, each a small function.

They compose with `balal.heads.logistic`: `fit(..., weights=effective_weights(counts)[labels])`, or
`adjustment=adjustment(counts)`, or `adjust(...)` of its logits afterwards. `counts` are the numbers
of labels of each class; a class without any is unknown, gets weight 0 and is never predicted.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer, Real

from balal import check
from balal.heads import fitting

# The logit of an unknown class: its probability is 0, and so is its gradient, unlike with -inf.
UNKNOWN = -1e30


def priors(
    counts: Real[Array | np.ndarray, " C"], *, smoothing: float | int = 0.0
) -> Float[np.ndarray, " C"]:
    """The share of each known class, `(n_c + a) / sum (n_c + a)`, 0 for the others: float64 [C].

    Raises: ValueError, like all functions of counts, if counts are negative or all 0, an option is
      out of range, or other arrays have another number of classes.

    >>> priors(np.array([3, 0, 1])).tolist()
    [0.75, 0.0, 0.25]
    """
    counts = _checked(counts)
    _within("smoothing", smoothing, 0, np.inf)
    raised = np.where(counts > 0, counts + smoothing, 0)
    return raised / raised.sum()


def adjustment(
    counts: Real[Array | np.ndarray, " C"],
    *,
    strength: float | int = 1.0,
    smoothing: float | int = 0.0,
) -> Float[np.ndarray, " C"]:
    """What to add to the logits within the loss: `strength` times the logarithm of the priors,
    `UNKNOWN` for unknown classes: float64 [C].

    Strength 1 is the balanced softmax. A head fitted with it is used as is, without adjusting its
    logits.

    Source: Menon et al., ICLR 2021 (logit adjustment); Ren et al., NeurIPS 2020 (balanced softmax).

    >>> adjustment(np.array([1, 1])).round(4).tolist()
    [-0.6931, -0.6931]
    """
    shares = priors(counts, smoothing=smoothing)
    return np.where(shares > 0, strength * np.log(np.where(shares > 0, shares, 1)), UNKNOWN)


def adjust(
    logits: Float[Array | np.ndarray, "M columns"],
    counts: Real[Array | np.ndarray, " C"],
    *,
    strength: float | int = 1.0,
    smoothing: float | int = 0.0,
) -> Float[np.ndarray, "M C"]:
    """Logits of a head fitted without regard to imbalance, minus `strength` times the logarithm of
    the priors: [M, C].

    Source: Menon et al., ICLR 2021, Section 4.1. With strength 1, the argmax is that of
      `threshold`.

    >>> adjust(np.array([[0.0, 0.0]]), np.array([3, 1])).argmax(axis=1).tolist()
    [1]
    """
    known = _checked(counts) > 0
    values = fitting.of_classes("logits", logits, len(known), axes=2)
    shift = np.where(known, adjustment(counts, strength=strength, smoothing=smoothing), 0)
    return np.where(known[None, :], values - shift[None, :], UNKNOWN)


def threshold(
    probabilities: Float[Array | np.ndarray, "M columns"],
    counts: Real[Array | np.ndarray, " C"],
    *,
    target: Float[Array | np.ndarray, " classes"] | None = None,
    smoothing: float | int = 0.0,
) -> Float[np.ndarray, "M C"]:
    """Probabilities divided by the priors of the labels and multiplied by those of the `target`
    (None: uniform), normalised to sum to 1: [M, C].

    Raises: ValueError also for a negative target, and for rows without probability on any class
      that has labels and a target.

    Source: Buda, Maki, Mazurowski, Neural Networks 2018.

    >>> threshold(np.array([[0.5, 0.5]]), np.array([3, 1])).tolist()
    [[0.25, 0.75]]
    """
    shares = priors(counts, smoothing=smoothing)
    wanted = fitting.of_classes(
        "target", np.ones(len(shares)) if target is None else target, len(shares)
    )
    fitting.require(
        (wanted >= 0) & (wanted < np.inf), "target must be finite and not negative", "classes"
    )
    ratio = np.where(shares > 0, wanted / np.where(shares > 0, shares, 1), 0)
    moved = fitting.of_classes("probabilities", probabilities, len(shares), axes=2) * ratio[None, :]
    total = moved.sum(axis=1, keepdims=True)
    fitting.require(
        (total > 0) & (total < np.inf),
        "probabilities must be finite, and positive for a class with labels and a target",
    )
    return moved / total


def effective_weights(
    counts: Real[Array | np.ndarray, " C"], *, beta: float | int = 0.99
) -> Float[np.ndarray, " C"]:
    """Weights of classes by the effective number of their labels, `E = (1 - beta^n) / (1 - beta)`:
    float64 [C], 1 on average.

    Args:
      counts: [C], labels of each class.
      beta: in [0, 1]; 0 weighs all classes alike, 1 by inverse frequency, which 0.99 is already
        close to with fewer than 100 labels per class.

    Source: Cui et al., CVPR 2019, Equation 3.

    >>> effective_weights(np.array([100, 10, 1]), beta=0.9).round(3).tolist()
    [0.239, 0.367, 2.393]
    """
    counts = _checked(counts)
    _within("beta", beta, 0, 1)
    # At either end the formula is 0/0 or takes the logarithm of 0; both limits are known.
    effective = (
        np.ones(len(counts))
        if beta == 0
        else counts
        if beta == 1
        else np.expm1(counts * np.log(beta)) / (beta - 1)
    )
    weights = np.where(counts > 0, 1 / np.where(counts > 0, effective, 1), 0)
    return weights * np.sum(counts > 0) / weights.sum()


def sampling(
    counts: Real[Array | np.ndarray, " C"], *, power: float | int = 0.0, progress: float | int = 1.0
) -> Float[np.ndarray, " C"]:
    """How often each class is drawn when oversampling, in proportion to `n_c^power`: float64 [C].

    Args:
      counts: [C], labels of each class.
      power: 0 draws all classes equally often, 0.5 by the square root, 1 all rows equally often.
      progress: from 0, all rows equally often, to 1, as `power` says; in between the two are mixed,
        which is progressively balanced sampling.

    Source: Kang et al., ICLR 2020, Section 3.

    >>> sampling(np.array([4, 1]), power=0.5).round(3).tolist()
    [0.667, 0.333]
    """
    counts = _checked(counts)
    _within("progress", progress, 0, 1)
    powers = np.where(counts > 0, counts**power, 0)
    return (1 - progress) * counts / counts.sum() + progress * powers / powers.sum()


def sampling_weights(
    counts: Real[Array | np.ndarray, " C"], *, power: float | int = 0.0, progress: float | int = 1.0
) -> Float[np.ndarray, " C"]:
    """Weights of classes with the same effect on average as drawing by `sampling`, `n P(c) / n_c`:
    float64 [C]; the weights of all rows sum to `n`.

    With power 0, fitting a head on frozen features with them is cRT (Kang et al., ICLR 2020).

    >>> sampling_weights(np.array([3, 1])).round(3).tolist()
    [0.667, 2.0]
    """
    counts = _checked(counts)
    return np.where(
        counts > 0,
        sampling(counts, power=power, progress=progress)
        * counts.sum()
        / np.where(counts > 0, counts, 1),
        0,
    )


def deferred(
    weights: Float[Array | np.ndarray, " C"], *, progress: float | int, start: float | int = 0.8
) -> Float[np.ndarray, " C"]:
    """Deferred re-weighting: weight 1 for every class until the share `start` of the training is
    over, and `weights` from then on.

    It makes a difference only if training stops before it converges: a converged head forgets where
    it started.

    Source: Cao et al., NeurIPS 2019, Algorithm 1.

    >>> deferred(np.array([0.5, 1.5]), progress=0.5).tolist()
    [1.0, 1.0]
    """
    weights = fitting.numbers("weights", weights)
    return weights if progress >= start else np.ones_like(weights)


def ldam_margins(
    counts: Real[Array | np.ndarray, " C"], *, largest: float | int = 0.5
) -> Float[np.ndarray, " C"]:
    """Margins in proportion to `n_c^(-1/4)`: `largest` for the rarest class, 0 for unknown ones:
    float64 [C].

    Source: Cao et al., NeurIPS 2019, Equation 13.

    >>> ldam_margins(np.array([16, 1])).tolist()
    [0.25, 0.5]
    """
    counts = _checked(counts)
    margins = np.where(counts > 0, np.where(counts > 0, counts, 1) ** -0.25, 0)
    return margins * largest / margins.max()


def ldam_losses(
    cosines: Float[Array | np.ndarray, "B C"],
    labels: Integer[Array | np.ndarray, " rows"],
    margins: Float[Array | np.ndarray, " classes"],
    *,
    scale: float | int = 30.0,
) -> Float[Array, " B"]:
    """The label-distribution-aware margin loss of each row, [B]: the cosine of its own class is
    reduced by the class's margin, then all are scaled.

    Source: Cao et al., NeurIPS 2019, Equation 12, with the normalised classifier of its
    experiments.

    >>> ldam_losses(np.array([[0.5, 0.5]]), np.array([0]), np.array([0.0, 0.0])).shape
    (1,)
    """
    cosines, labels, margins = _matching(cosines, labels, margins)
    own = jax.nn.one_hot(labels, cosines.shape[1], dtype=cosines.dtype)
    return losses(scale * (cosines - own * margins[None, :].astype(cosines.dtype)), labels)


def losses(
    logits: Float[Array | np.ndarray, "B C"],
    labels: Integer[Array | np.ndarray, " rows"],
    *,
    adjustment: Float[Array | np.ndarray, " classes"] | None = None,
) -> Float[Array, " B"]:
    """The cross-entropy of each row, with `adjustment` added to its logits: [B].

    >>> losses(np.zeros((1, 4)), np.array([2])).shape
    (1,)
    """
    values = check.floats("logits", logits)
    each = jnp.zeros(values.shape[1:]) if adjustment is None else adjustment
    values, labels, added = _matching(values, labels, each)
    values = values + added[None, :].astype(values.dtype)
    own = jnp.take_along_axis(values, labels[:, None], axis=1)[:, 0]
    return jax.nn.logsumexp(values, axis=1) - own


def tau_normalise(
    coef: Float[Array | np.ndarray, "C D"], *, strength: float | int = 1.0
) -> Float[np.ndarray, "C D"]:
    """Weights of a linear head with the norm of each row raised to the power `1 - strength`, to be
    used without intercepts: [C, D].

    Rows of classes with many labels are longer, and win for that reason.

    Args:
      coef: [C, D].
      strength: in [0, 1]; 0 changes nothing, and 1 gives rows of length 1. The authors choose it on
        held-out labels, which is left to the caller.

    Source: Kang et al., ICLR 2020, Equation 4.

    >>> tau_normalise(np.array([[3.0, 4.0]])).tolist()
    [[0.6, 0.8]]
    """
    _within("strength", strength, 0, 1)
    coef = fitting.numbers("coef", coef)
    if coef.ndim != 2:
        raise ValueError(f"coef must be [C, D], got shape {coef.shape}")
    norms = np.linalg.norm(coef, axis=1, keepdims=True)
    return coef / np.where(norms > 0, norms, 1) ** strength


def counts_of(
    labels: Integer[Array | np.ndarray, " B"], *, num_classes: int
) -> Int[np.ndarray, " C"]:
    """Number of labels of each class: int64 [C]; labels of -1 do not count.

    Raises: ValueError for labels outside [-1, num_classes).

    >>> counts_of(np.array([2, 2, -1]), num_classes=3).tolist()
    [0, 0, 2]
    """
    labels = fitting.classes("labels", labels)
    fitting.require(
        (labels >= -1) & (labels < num_classes), f"labels must be in [-1, {num_classes})"
    )
    return np.bincount(labels[labels >= 0], minlength=num_classes)


def _matching(values, labels, each) -> tuple[Array, Array, Array]:
    """Rows, labels and a number for each class as arrays of JAX; ValueError unless they fit
    together. Values are checked where they are known: losses are usually compiled."""
    values, each = check.floats("logits", values), check.floats("numbers of classes", each)
    if values.ndim != 2:
        raise ValueError(f"losses take rows [B, C], got shape {values.shape}")
    labels = check.rows("labels", labels, size=values.shape[1], of="classes")
    if (*labels.shape, *each.shape) != values.shape:
        raise ValueError(
            f"losses take rows [B, C], a label for each row and a number for each class, got "
            f"shapes {values.shape}, {labels.shape} and {each.shape}"
        )
    return jnp.asarray(values), jnp.asarray(labels), jnp.asarray(each)


def _checked(counts) -> np.ndarray:
    counts = fitting.numbers("counts", counts)
    if counts.ndim != 1:
        raise ValueError(f"counts must be one number for each class, got shape {counts.shape}")
    fitting.require(
        (counts >= 0) & (counts < np.inf),
        "counts must be finite and not negative",
        "classes",
    )
    if not counts.any():
        raise ValueError("no class has a label: all counts are 0, so there is nothing to balance")
    return counts


def _within(name: str, value: float | int, least: float | int, most: float | int) -> None:
    if not (least <= value <= most and np.isfinite(value)):
        raise ValueError(f"{name} must lie between {least} and {most}, got {value}")
