"""Disagreement of the members of an ensemble about a row."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from balal import check
from balal.kernels.ordering import first_true
from balal.kernels.uncertainty import mixture


def bald(logits: Float[Array | np.ndarray, "N M K"]) -> Float[Array, " N"]:
    """Mutual information between the label and the member that predicts it, in nats: [N] from
    logits [N, M, K] of M members, 0 where they agree.

    `H(mean_m p_m) - mean_m H(p_m)`, computed as the mean divergence of the members from their mean,
    `mean_m sum_k (p_mk log(p_mk / p_k) - p_mk + p_k)` with `p_k = mean_m p_mk`. No term is negative
    and each is 0 where a member agrees, so that nothing cancels.

    Args:
      logits: [N, M, K], float32, bfloat16 or float16; `-inf` is allowed.

    Raises: ValueError if `logits` is not [N, M, K] with at least two members, or for rows with a
      NaN or `+inf` or of nothing but `-inf`.

    Source: Houlsby, Huszar, Ghahramani, Lengyel, 2011; Gal, Islam, Ghahramani, ICML 2017. Twin:
      `bald` in tests/reference.py.

    >>> probs = jnp.array([[[0.9, 0.1], [0.9, 0.1]], [[0.9, 0.1], [0.1, 0.9]]])
    >>> bald(jnp.log(probs)).round(3).tolist()
    [0.0, 0.3680000305175781]
    """
    logits = members("bald", logits)
    found = _bald(logits)
    _check_found_by(logits, found)
    return found


@jax.jit
def _bald(logits) -> Float[Array, " N"]:
    each = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    mean = mixture(logits)[:, None]
    # Where no member thinks a class possible: infinity from infinity.
    apart = jnp.where(mean > -jnp.inf, each - mean, 0)
    # A member that excludes the class contributes the mean's share of it.
    own = jnp.where(each > -jnp.inf, jnp.exp(each) * apart, 0)
    terms = own - jnp.exp(mean) * jnp.expm1(apart)
    return jnp.mean(jnp.sum(jnp.maximum(terms, 0), axis=-1), axis=-1)


def variation_ratio(logits: Float[Array | np.ndarray, "N M K"]) -> Float[Array, " N"]:
    """The share of members that do not vote with the largest group: [N] from logits [N, M, K] of M
    members. A member votes for its top class, the lowest of tied ones.

    Args, Raises: as in `bald`.

    Source: Freeman, *Elementary Applied Statistics*, 1965; Gal, Islam, Ghahramani, ICML 2017. Twin:
      `variation_ratio` in tests/reference.py.

    >>> variation_ratio(jnp.array([[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])).round(3).tolist()
    [0.3330000042915344]
    """
    logits = members("variation_ratio", logits)
    largest = jnp.max(logits, axis=(1, 2))
    _check_found_by(logits, largest - largest)
    return _variation_ratio(logits)


@jax.jit
def _variation_ratio(logits) -> Float[Array, " N"]:
    votes = first_true(logits == jnp.max(logits, axis=-1, keepdims=True))
    num_members = votes.shape[1]
    # Each member counts those that vote with it, so that there is no table of classes.
    company = jnp.sum(votes[:, :, None] == votes[:, None, :], axis=-1, dtype=jnp.int32)
    most = jnp.max(company, axis=-1)
    return (num_members - most).astype(jnp.float32) / num_members


def members(name: str, logits: Float[Array | np.ndarray, "N *M K"] | None) -> Float[Array, "N M K"]:
    """`logits` as an array if they are those of an ensemble, ValueError otherwise.

    name: of what needs them, for the error.

    >>> members("bald", jnp.zeros((3, 2, 4))).shape
    (3, 2, 4)
    """
    came = "there are none"
    if logits is not None:
        members = check.floats("logits", check.source_shape("logits", logits, ensemble=True))
        if members.ndim == 3 and members.shape[1] > 1:
            return jnp.asarray(members)
        came = f"got shape {members.shape}"
    raise ValueError(
        f"{name} needs the predictions of an ensemble of at least two members, logits [N, M, K], "
        f"and {came}: fit several heads, with other keys or on other samples of the labels, and "
        f"pass np.stack([...], axis=1) of what they predict, balal.pool(features, logits=..., "
        f"keep_logits=True)"
    )


def _check_found_by(logits: Float[Array, "N M K"], values: Float[Array, " N"]) -> None:
    """ValueError for rows that are no logits, of which the values are NaN."""
    for number in range(logits.shape[1]):
        check.scored(logits[:, number], values)
