"""The values everything else passes on: frozen dataclasses, registered as pytrees.

They can be jitted, vmapped, sharded, saved and compared. Shapes use the letters of the whole
library: `N` pool rows, `D` feature size, `K` source classes, `C` target classes, `B` labelled rows
(padded), `b` budget, `*S` whatever axes a vmap has put in front.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from balal import xla


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scores:
    """How uncertain the source model is about each row, larger = more uncertain.

    entropy: [N], in nats. margin: [N], `1 - (p1 - p2)`. least_confidence: [N], `1 - p1`. predicted:
    int [N], the top-1 source class.
    """

    entropy: Float[Array, "*S N"]
    margin: Float[Array, "*S N"]
    least_confidence: Float[Array, "*S N"]
    predicted: Int[Array, "*S N"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """The unlabelled images, as arrays. `balal.pool` makes one and fills in what can be computed.

    features: [N, D]. scores: of the source model. logits: [N, K], kept only where a strategy needs
    them. candidates: bool [N], the rows that may be asked now (None: all). typicality: [N], of
    `balal.kernels.typicality.typicality_ranks`, kept where it has been worked out; with other
    features or candidates it must be left out or made anew.
    """

    features: Float[Array, "*S N D"] | None
    scores: Scores | None = None
    logits: Float[Array, "*S N K"] | None = None
    candidates: Bool[Array, "*S N"] | None = None
    typicality: Float[Array, "*S N"] | None = None

    @property
    def size(self) -> int:
        """`N`, the number of rows."""
        return next(leaf.shape[0] for leaf in jax.tree.leaves(self))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Labelled:
    """The rows asked and answered so far, in the order of the answers. Padding is -1 and comes
    last.

    indices: int32 [B]. labels: int32 [B]. count: how many of the `B` places are filled. wanted:
    int32 [B], the target class each row was asked in the hope of, -1 where there was none (None:
    nowhere).
    """

    indices: Int[Array, "*S B"]
    labels: Int[Array, "*S B"]
    count: Int[Array, "*S"]
    wanted: Int[Array, "*S B"] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What `ask` and `tell` carry from one call to the next.

    memory: the strategy's own, made of true answers only. labelled: the answers. pending: the rows
    asked and not yet answered, in the order of the asking. key: the chance of the whole history.
    start: the record the memory was begun from, the answers after it were told one by one. pool: a
    fingerprint of the pool the memory was made from. budget: labels to be bought in all.
    num_classes: the capacity `C`. strategy: the `repr` of the strategy the state belongs to.
    """

    memory: Any
    labelled: Labelled
    pending: Labelled
    key: Key[Array, "*S"]
    start: Labelled
    pool: UInt32[Array, "*S parts"]
    budget: int = field(metadata=dict(static=True))
    num_classes: int = field(metadata=dict(static=True))
    strategy: str = field(metadata=dict(static=True))


def askable(candidates: Bool[Array, " N"] | None, size: int) -> Bool[Array, " N"]:
    """The candidates, or all `size` rows where none are named: bool [N]. Runs inside jit.

    >>> askable(None, 2).tolist()
    [True, True]
    """
    return xla.opaque(jnp.ones(size, bool)) if candidates is None else candidates


def available(pool: Pool, labelled: Labelled) -> Bool[Array, " N"]:
    """The candidates that are not in the labelled set: bool [N]. Runs inside jit, `O(N + B)`."""
    mask = askable(pool.candidates, pool.size)
    # Padding (-1) would wrap round to the last row: send it out of range, where `drop` ignores it.
    return mask.at[jnp.where(labelled.indices >= 0, labelled.indices, pool.size)].set(
        False, mode="drop"
    )
