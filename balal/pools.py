"""Arrays to a checked pool."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, UInt32

from balal import check, sharding, xla
from balal.kernels.uncertainty import mixture, score
from balal.types import Pool, Scores

# Rows of logits scored at a time if they are in host memory (or a memory-mapped file), not on the
# device.
_BLOCK = 65536
# Numbers that go into a checksum at a time.
_TILE = 2**14
_MEASURES = ("entropy", "margin", "least_confidence")


def pool(
    features: Float[Array, "N D"] | np.ndarray | None,
    *,
    logits: Float[Array, "N *M K"] | np.ndarray | None = None,
    probs: Float[Array, "N *M K"] | np.ndarray | None = None,
    scores: Scores | None = None,
    candidates: Bool[Array, " N"] | np.ndarray | None = None,
    keep_logits: bool = False,
) -> Pool:
    """A checked `Pool`, with the scores of the source model computed in one pass over blocks.

    Args:
      features: [N, D], or None if only scores are used.
      logits: [N, K], of the source model, or of the target model once there is one; [N, M, K] of
        an ensemble, whose mean prediction is scored. Pass at most one of logits, probs and scores.
      probs: the same as probabilities.
      scores: computed already.
      candidates: bool [N], the rows that may be asked (None: all).
      keep_logits: keep them as well, for strategies that need more than the scores.

    Raises: ValueError as `balal.check.pool` does, naming the rows at fault.

    >>> probs = jnp.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])
    >>> pool(jnp.eye(3), probs=probs).scores.predicted.tolist()
    [0, 0, 0]
    """
    choices = [("logits", logits), ("probs", probs), ("scores", scores)]
    given = [name for name, value in choices if value is not None]
    if len(given) > 1:
        raise ValueError(f"pass only one of logits, probs and scores, got {' and '.join(given)}")
    if keep_logits and logits is None and probs is None:
        raise ValueError("keep_logits=True keeps logits or probs, and neither was passed")
    if logits is not None:
        scored = _scores("logits", logits, check.logits)
    elif probs is not None:
        scored = _scores("probs", probs, check.probs)
    else:
        scored = _ready(scores)
    kept = None
    if keep_logits:
        kept = (
            jnp.asarray(check.floats("logits", logits))
            if probs is None
            else jnp.log(check.floats("probs", probs))
        )
    made = Pool(
        features=None if features is None else jnp.asarray(check.floats("features", features)),
        scores=scored,
        logits=kept,
        candidates=None
        if candidates is None
        else jnp.asarray(check.array("candidates", candidates, lists=True)),
    )
    if made.candidates is None:
        everywhere = jnp.ones(check.rows_in(made), bool)
        made = Pool(made.features, made.scores, made.logits, everywhere)
    check.pool(made)
    return made


def _scores(name: str, values: Any, check_block: Callable[..., None]) -> Scores:
    """Scores of logits or probabilities in any array; host memory goes to the device in blocks of
    rows."""
    to_logits = _log if name == "probs" else partial(check.floats, name)
    blocks = []
    values = check.source_shape(name, values, ensemble=True)
    step = _BLOCK if isinstance(values, np.ndarray) else max(1, values.shape[0])
    for offset in range(0, values.shape[0], step):
        block = values[offset : offset + step]
        members = [block] if block.ndim == 2 else np.moveaxis(block, 1, 0)
        for member in members:
            check_block(member, offset=offset)
        blocks.append(_score(to_logits(block)))
    if not blocks:
        return _score(check.floats(name, values))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)


def _score(logits: Any) -> Scores:
    return score(logits if logits.ndim == 2 else _mixture(logits))


_mixture = jax.jit(mixture)


def _log(probs: Any) -> Float[Array, "..."]:
    probs = jnp.asarray(check.floats("probs", probs))
    return jnp.log(probs.astype(jnp.float64 if probs.dtype == jnp.float64 else jnp.float32))


def _ready(scores: Scores | None) -> Scores | None:
    """Scores that were computed elsewhere, as arrays of JAX."""
    if not isinstance(scores, Scores):
        # What is something else is told by the check of the pool.
        return scores
    return Scores(
        *(jnp.asarray(check.floats(f"scores.{name}", getattr(scores, name))) for name in _MEASURES),
        predicted=jnp.asarray(check.integers("scores.predicted", scores.predicted)),
    )


def checksums(arrays: Any) -> UInt32[Array, " parts"]:
    """A checksum for each array [N, ...] of a pytree, to notice changes: uint32 [parts].

    >>> checksums((jnp.eye(2), jnp.eye(2))).shape
    (2,)
    """
    leaves = jax.tree.leaves(arrays)
    return _checksums(leaves, tuple(map(sharding.shares, leaves)))


@partial(jax.jit, static_argnums=1)
def _checksums(leaves, shares) -> UInt32[Array, " parts"]:
    def one(leaf, number):
        def terms(rows, numbers):
            bits = rows.astype(jnp.uint32) if rows.dtype == bool else _bits(rows)
            along = [numbers.astype(jnp.uint32).reshape(-1, *[1] * (bits.ndim - 1))]
            along += [
                jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
                for axis in range(1, bits.ndim)
            ]
            strides = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
            position = sum(
                n * jnp.uint32(stride) for n, stride in zip(along, strides, strict=False)
            )
            mixed = (bits ^ position) * jnp.uint32(0x27D4EB2F)
            return (mixed ^ (mixed >> 15)) * (position | 1)

        def of_share(rows, first):
            return xla.sum_tiles(
                lambda rows, numbers: terms(rows, first + numbers),
                rows,
                height=max(1, _TILE * len(rows) // max(1, rows.size)),
            )

        return jnp.sum(sharding.by_shares(of_share, leaf, number=number), dtype=jnp.uint32)

    return jnp.stack([one(*pair) for pair in zip(leaves, shares, strict=True)])


def _bits(leaf):
    width = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)
