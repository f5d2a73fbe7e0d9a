"""The values that everything else passes around: frozen dataclasses, registered as pytrees.

They can be jitted, vmapped, sharded, saved and compared. Shapes use the same letters throughout the
library: `N` pool rows, `D` feature size, `K` source classes, `C` target classes, `B` labelled rows
(padded), `b` budget, `*S` any leading axes added by vmap.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from balal import xla


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Scores:
    """How uncertain the source model is about each row, larger = more uncertain.

    Attributes:
      entropy: [N], in nats.
      margin: [N], `1 - (p1 - p2)`.
      least_confidence: [N], `1 - p1`.
      predicted: int [N], the top-1 source class.
    """

    entropy: Float[Array, "*S N"]
    margin: Float[Array, "*S N"]
    least_confidence: Float[Array, "*S N"]
    predicted: Int[Array, "*S N"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Prepared:
    """What a strategy has computed from a pool alone; see `balal.prepare`.

    Attributes:
      value: any pytree of arrays, made by the strategy's `prepare`.
      made_from: uint32 [parts], checksums of the features and candidates that it was made from.
    """

    value: Any
    made_from: UInt32[Array, "*S parts"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pool:
    """The unlabelled images, as arrays. `balal.pool` makes one and fills in what can be computed.

    Attributes:
      features: [N, D].
      scores: of the source model.
      logits: [N, K], or [N, M, K] of an ensemble, kept only if a strategy needs them.
      candidates: bool [N], the rows that may be asked now (None: all).
      prepared: what strategies have computed from features and candidates, each under its own key;
        `balal.prepare` fills it in, and renews what other features or candidates have outdated.
    """

    features: Float[Array, "*S N D"] | None
    scores: Scores | None = None
    logits: Float[Array, "*rows K"] | None = None
    candidates: Bool[Array, "*S N"] | None = None
    prepared: dict[str, Prepared] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        """`N`, the number of rows."""
        leaves = jax.tree.leaves((self.features, self.scores, self.logits, self.candidates))
        return leaves[0].shape[0]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Pick:
    """One row that a strategy asks for.

    Attributes:
      index: int32, the row; -1 if no candidate is left.
      wanted: int32, the target class that it hopes for; -1 for none.
    """

    index: Int[Array | np.ndarray, "*S"]
    wanted: Int[Array | np.ndarray, "*S"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Labelled:
    """The rows asked and answered so far, in the order of the answers. Padding is -1 and comes
    last.

    Attributes:
      indices: int32 [B].
      labels: int32 [B].
      count: how many of the `B` entries are filled.
      wanted: int32 [B], the target class that each pick hoped for, -1 for none (None: all -1).
    """

    indices: Int[Array, "*S B"]
    labels: Int[Array, "*S B"]
    count: Int[Array, "*S"]
    wanted: Int[Array, "*S B"] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class State:
    """What `ask` and `tell` carry from one call to the next.

    Attributes:
      memory: the strategy's own, from true answers only; None if it has yet to be rebuilt.
      labelled: the answers.
      pending: the rows asked and not yet answered, in the order in which they were asked.
      key: for everything random.
      start: the rows that the memory started from; the answers after it were told one by one.
      withdrawn: bool [N], rows that were asked and that nobody can answer.
      prepared: what the strategy has computed from the pool, if the pool did not bring it.
      pool: uint32 [parts], checksums of the pool that the memory was made from.
      budget: labels to be bought in all.
      num_classes: the capacity `C`.
      strategy: type, version and settings of the strategy that the state belongs to.
    """

    memory: Any
    labelled: Labelled
    pending: Labelled
    key: Key[Array, "*S"]
    start: Labelled
    withdrawn: Bool[Array, "*S N"]
    prepared: dict[str, Prepared]
    pool: UInt32[Array, "*S parts"]
    budget: int = field(metadata=dict(static=True))
    num_classes: int = field(metadata=dict(static=True))
    strategy: str = field(metadata=dict(static=True))


def askable(candidates: Bool[Array, " N"] | None, num_rows: int) -> Bool[Array, " N"]:
    """The candidates, or all rows if there is no mask: bool [N]. Runs inside jit.

    >>> askable(None, 2).tolist()
    [True, True]
    """
    return xla.opaque(jnp.ones(num_rows, bool)) if candidates is None else candidates


def available(pool: Pool, labelled: Labelled) -> Bool[Array, " N"]:
    """The candidates that have not been asked: bool [N]. Runs inside jit, `O(N + B)`."""
    mask = askable(pool.candidates, pool.num_rows)
    # Padding (-1) would wrap around to the last row: send it out of range, where `drop` ignores it.
    rows = jnp.where(labelled.indices >= 0, labelled.indices, pool.num_rows)
    return mask.at[rows].set(False, mode="drop")
