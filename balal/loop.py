"""The loop: pool, init, ask, tell, grow with a person in the middle, and simulate, the same
computation with the labels at hand.

    state = balal.init(strategy, pool, budget=500, num_classes=100, key=key)
    indices, state = balal.ask(strategy, pool, state, size=50)
    state = balal.tell(strategy, pool, state, indices, labels)        # late, partial, in any order
    result = balal.simulate(strategy, pool, labels, budget=500, num_classes=100, key=key)

Only the loop keeps books. A strategy's memory holds true answers only: while rows are pending,
`ask` lays each one's guess over a copy of the memory, picks from that and throws the copy away, so
that an answer, however late or corrected, never has a guess to take back.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.custom_batching import sequential_vmap
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

from balal import check, labelled_set, metrics, sharding
from balal.kernels.typicality import typicality_ranks
from balal.kernels.uncertainty import score
from balal.strategies.base import Budget, Strategy
from balal.types import Labelled, Pool, Scores, State

# Rows of logits scored at a time where they lie in host memory (or in a memory-mapped file) and not
# on the device.
_CHUNK = 65536


def pool(
    features: Float[Array, "N D"] | np.ndarray | None,
    *,
    logits: Float[Array, "N K"] | np.ndarray | None = None,
    probs: Float[Array, "N K"] | np.ndarray | None = None,
    scores: Scores | None = None,
    candidates: Bool[Array, " N"] | np.ndarray | None = None,
    keep_logits: bool = False,
    typicality: bool = False,
) -> Pool:
    """A checked `Pool`, with the scores of the source model computed in one chunked pass.

    Args:
      features: [N, D], or None where only scores are used.
      logits: [N, K], or probs: [N, K], or ready scores; none of them where the strategy needs none.
      candidates: bool [N], the rows that may be asked (None: all).
      keep_logits: keep [N, K] as well, for strategies that need more than the scores.
      typicality: work out `balal.kernels.typicality.typicality_ranks` now, once, instead of each
        time the `posterior` strategy begins.

    Raises: ValueError as `balal.check.pool` does, naming the rows at fault.

    >>> pool(jnp.eye(3), probs=jnp.array([[0.5, 0.5], [0.9, 0.1], [1.0, 0.0]])).scores.predicted.tolist()
    [0, 0, 0]
    """
    given = [
        name
        for name, value in [("logits", logits), ("probs", probs), ("scores", scores)]
        if value is not None
    ]
    if len(given) > 1:
        raise ValueError(f"pass one of logits, probs and scores, got {' and '.join(given)}")
    if keep_logits and logits is None and probs is None:
        raise ValueError("keep_logits=True keeps logits or probs, and neither was passed")
    if logits is not None:
        scores = _scores(logits, check.logits)
    elif probs is not None:
        scores = _scores(probs, check.probs)
        logits = probs
    made = Pool(
        features=None if features is None else _real(check.array("features", features)),
        scores=None if scores is None else jax.tree.map(jnp.asarray, scores),
        logits=None,
        candidates=None if candidates is None else jnp.asarray(candidates),
    )
    if keep_logits:
        made = replace(made, logits=_real(logits) if probs is None else jnp.log(_real(logits)))
    if made.candidates is None:
        made = replace(made, candidates=jnp.ones(check.rows_in(made), bool))
    check.pool(made)
    if typicality:
        if made.features is None:
            raise ValueError("typicality=True needs features, and none were passed")
        made = replace(made, typicality=typicality_ranks(made.features, candidates=made.candidates))
    return made


def init(
    strategy: Strategy,
    pool: Pool,
    *,
    budget: int,
    num_classes: int,
    key: Key[Array, ""],
    labelled: Labelled | tuple[Any, Any] | None = None,
) -> State:
    """The state before anything is asked.

    Args:
      strategy: for example `balal.strategy("ent_inv_div+balance")`.
      budget: labels to be bought in all, over any number of `ask`s.
      num_classes: room for this many target classes; see `grow`.
      key: the chance of the whole history, `jax.random.key(seed)`.
      labelled: rows whose labels are known from the outset, a `Labelled` or a pair (indices,
        labels); they do not count as bought.

    Raises: ValueError where the pool lacks what the strategy needs, or the budget, the key or the
    labelled rows are not valid.

    >>> from balal.strategies import strategy
    >>> rows, ent = pool(None, logits=jnp.arange(4.0)[:, None] * jnp.array([[1.0, 0.0]])), strategy("ent")
    >>> state = init(ent, rows, budget=2, num_classes=2, key=jax.random.key(0))
    >>> indices, state = ask(ent, rows, state, size=2)
    >>> state = tell(ent, rows, state, indices, [1, 0])
    >>> indices.tolist(), state.labelled.labels.tolist()
    ([0, 1], [1, 0])
    """
    start = labelled_set.extend(
        _prepare(strategy, pool, budget, num_classes, key, labelled), budget
    )
    nothing = jnp.full(budget, -1, jnp.int32)
    return State(
        memory=_begin(strategy, budget, num_classes, pool, start, start, key),
        labelled=start,
        pending=Labelled(nothing, nothing, jnp.int32(0), nothing),
        key=key,
        start=start,
        pool=_fingerprint(pool),
        budget=budget,
        num_classes=num_classes,
        strategy=repr(strategy),
    )


def ask(
    strategy: Strategy, pool: Pool, state: State, *, size: int = 1
) -> tuple[Int[Array, " size"], State]:
    """The rows to label next, int32 [size], in the order of their worth, and the state in which
    they are pending.

    The pool may have changed since the last call: rows banned (`candidates`), scores or features
    refreshed by a retrained model, rows added at the end. The strategy is then begun anew from the
    rows labelled and pending so far; to notice it, every call reads the pool once. A row that was
    banned while it is pending stays pending, and may still be answered.

    Raises: ValueError where `size` is above what is left of the budget or above the candidates
    left.
    """
    state = _catch_up(strategy, pool, state)
    check.size(size, state, pool)
    indices, pending, memory = _ask(
        strategy, size, pool, state.memory, state.labelled, state.pending
    )
    return indices, replace(state, memory=memory, pending=pending)


def tell(
    strategy: Strategy,
    pool: Pool,
    state: State,
    indices: Int[Array, " n"] | Any,
    labels: Int[Array, " n"] | Any,
) -> State:
    """The state after some answers: any part of what is pending, in any order.

    A row that has been answered before may come again: with the same label nothing happens, with
    another one the label is corrected and the memory rebuilt.

    Args:
      indices: int [n], the rows. labels: int [n], their target classes.

    Raises: ValueError for rows that were never asked, rows that come twice, and labels outside [0,
    num_classes); nothing is changed then.
    """
    state = _catch_up(strategy, pool, state)
    indices, labels = check.answers(indices, labels, state, size=pool.size)
    known = {
        int(row): place for place, row in enumerate(np.asarray(state.labelled.indices)) if row >= 0
    }
    places = [known[row] for row in indices.tolist() if row in known]
    corrections = labels[np.isin(indices, list(known))]
    if places and np.any(np.asarray(state.labelled.labels)[places] != corrections):
        state = _correct(strategy, pool, state, np.array(places), corrections)
    new = ~np.isin(indices, list(known))
    if not new.any():
        return state
    answers = labelled_set.make(indices[new], labels[new], places=state.budget)
    labelled, pending, memory = _tell(
        strategy, pool, state.memory, state.labelled, state.pending, answers
    )
    return replace(state, labelled=labelled, pending=pending, memory=memory)


def grow(strategy: Strategy, state: State, num_classes: int) -> State:
    """The same state with room for more target classes.

    Raises: ValueError where `num_classes` is below the present one.
    """
    check.belongs(strategy, state)
    check.budget(state.budget, num_classes=num_classes)
    if num_classes < state.num_classes:
        raise ValueError(
            f"grow only adds classes: there is room for {state.num_classes}, got "
            f"num_classes={num_classes}"
        )
    return replace(state, memory=strategy.grow(state.memory, num_classes), num_classes=num_classes)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Result:
    """What a simulation bought. Where the budget was data, `b` is the capacity, and what was not
    bought is -1 at the end.

    indices: int32 [b], in order. labels: int32 [b]. wanted: int32 [b], the class each pick hoped
    for, -1 where balancing had not begun.
    switched_at: labels there were (a labelled start included) when balancing took over, -1: never.
    counts: int32 [C], classes_found and imbalance_ratio of all labels, a labelled start included. A
    vmap over `S` seeds puts an axis in front of each.
    """

    indices: Int[Array, "*S b"]
    labels: Int[Array, "*S b"]
    wanted: Int[Array, "*S b"]
    switched_at: Int[Array, "*S"]
    counts: Int[Array, "*S C"]
    classes_found: Int[Array, "*S"]
    imbalance_ratio: Float[Array, "*S"]


def simulate(
    strategy: Strategy,
    pool: Pool,
    labels: Int[Array, " N"] | np.ndarray,
    *,
    budget: Budget,
    num_classes: int,
    key: Key[Array, ""],
    labelled: Labelled | tuple[Any, Any] | None = None,
    capacity: int | None = None,
) -> Result:
    """The whole budget spent one label at a time, as one compiled program: what `ask(size=1)` and
    `tell` would do, pick for pick.

    Can be jitted, and vmapped over keys, pools or labels; the lanes of a vmap run one after the
    other inside one program, so that each pays only for what its own picks need.

    Args:
      labels: int [N], the true target classes; -1 where a row is no candidate and its class is not
        known.
      capacity: the largest budget there is room for. With it the budget is data: one program serves
        them all, and budgets can be vmapped over as well. Without it the budget itself.
      The others: as in `init`.

    Raises: ValueError as `init`, and for labels outside [0, num_classes). Under jit or vmap values
    cannot be looked at, only shapes.
    """
    check.capacity(budget, capacity)
    most = budget if capacity is None else capacity
    start = _prepare(strategy, pool, most, num_classes, key, labelled)
    labels = check.labels(
        "labels", labels, num_classes=num_classes, size=check.rows_in(pool), needed=pool.candidates
    )
    spent = None if capacity is None else jnp.asarray(budget, jnp.int32)
    return _simulate(
        strategy, most, num_classes, pool, jnp.asarray(labels, jnp.int32), start, key, spent
    )


def one_shot(
    strategy: Strategy,
    pool: Pool,
    labels: Int[Array, " N"] | np.ndarray,
    *,
    budget: Budget,
    num_classes: int,
    key: Key[Array, ""],
    capacity: int | None = None,
) -> Result:
    """`simulate` from an empty labelled set: the paper's one-shot scenario.

    >>> from balal.strategies import strategy
    >>> rows = pool(None, logits=jnp.arange(8.0)[:, None] * jnp.array([[1.0, 0.0]]))
    >>> result = one_shot(strategy("ent"), rows, jnp.arange(8) % 2, budget=3, num_classes=2, key=jax.random.key(0))
    >>> result.indices.tolist(), result.counts.tolist()
    ([0, 1, 2], [2, 1])
    """
    return simulate(
        strategy, pool, labels, budget=budget, num_classes=num_classes, key=key, capacity=capacity
    )


# Compiled programs. Strategy, sizes and capacities are static; how much is labelled or pending is
# data.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _simulate(strategy, most, num_classes, pool, labels, start, key, spent) -> Result:
    leaves, structure = jax.tree.flatten((pool, labels, start, key, spent))

    @sequential_vmap
    def run(*leaves):
        pool, labels, start, key, spent = jax.tree.unflatten(structure, leaves)
        budget = most if spent is None else spent

        def step(_, carry):
            memory, labelled = carry
            index, memory = strategy.ask(memory, pool, labelled)
            wanted = strategy.guess(memory, pool, index)
            label = jnp.where(index >= 0, sharding.fetch(labels, index), -1)
            return strategy.tell(memory, pool, index, label), labelled_set.append(
                labelled, index, label, wanted
            )

        labelled = labelled_set.extend(start, most)
        memory = strategy.init(pool, labelled, budget, num_classes, key)
        _, labelled = jax.lax.fori_loop(0, budget, step, (memory, labelled))
        bought = jax.tree.map(
            lambda rows: jax.lax.dynamic_slice_in_dim(rows, start.count, most),
            labelled_set.columns(labelled),
        )
        counts = metrics.class_counts(labelled.labels, num_classes=num_classes)
        balancing = bought["wanted"] >= 0
        return dict(
            **bought,
            switched_at=jnp.where(
                jnp.any(balancing), start.count + jnp.argmax(balancing), -1
            ).astype(jnp.int32),
            counts=counts,
            classes_found=metrics.classes_found(counts),
            imbalance_ratio=metrics.imbalance_ratio(counts),
        )

    return Result(**run(*leaves))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(strategy, budget, num_classes, pool, start, labelled, key):
    """The memory begun from `start`, brought up to `labelled` by the answers that came after it."""
    memory = strategy.init(pool, start, budget, num_classes, key)

    def replay(place, memory):
        return strategy.tell(memory, pool, labelled.indices[place], labelled.labels[place])

    return jax.lax.fori_loop(
        jnp.sum(start.labels >= 0, dtype=jnp.int32), labelled.count, replay, memory
    )


@partial(jax.jit, static_argnums=(0, 1))
def _ask(strategy, size, pool, memory, labelled, pending):
    """`size` picks, everything pending with them, and the memory: that of the last pick before any
    guess was laid over it."""

    def lay(memory, index, wanted):
        return jax.lax.cond(
            wanted >= 0, lambda: strategy.tell(memory, pool, index, wanted), lambda: memory
        )

    def lay_pending(place, carry):
        overlay, rows = carry
        index, wanted = pending.indices[place], pending.wanted[place]
        return lay(overlay, index, wanted), labelled_set.append(rows, index, wanted, wanted)

    def pick(place, carry):
        memory, overlay, rows, pending, laid, indices = carry
        index, overlay = strategy.ask(overlay, pool, rows)
        memory = jax.lax.cond(laid, lambda: memory, lambda: overlay)
        wanted = strategy.guess(overlay, pool, index)
        rows = labelled_set.append(rows, index, wanted, wanted)
        pending = labelled_set.append(pending, index, jnp.int32(-1), wanted)
        return (
            memory,
            lay(overlay, index, wanted),
            rows,
            pending,
            laid | (wanted >= 0),
            indices.at[place].set(index),
        )

    overlay, rows = jax.lax.fori_loop(0, pending.count, lay_pending, (memory, labelled))
    indices = jnp.full(size, -1, jnp.int32)
    carry = (memory, overlay, rows, pending, jnp.any(pending.wanted >= 0), indices)
    memory, _, _, pending, _, indices = jax.lax.fori_loop(0, size, pick, carry)
    return indices, pending, memory


@partial(jax.jit, static_argnums=0)
def _tell(strategy, pool, memory, labelled, pending, answers):
    def one(place, carry):
        memory, labelled = carry
        index, label = answers.indices[place], answers.labels[place]
        wanted = jnp.max(jnp.where(pending.indices == index, pending.wanted, -1))
        return strategy.tell(memory, pool, index, label), labelled_set.append(
            labelled, index, label, wanted
        )

    memory, labelled = jax.lax.fori_loop(0, answers.count, one, (memory, labelled))
    return labelled, labelled_set.without(pending, answers.indices), memory


def compilations() -> dict[str, int]:
    """How many programs each compiled function of the loop holds by now: one a strategy, budget and
    shape."""
    programs: dict[str, Any] = dict(simulate=_simulate, begin=_begin, ask=_ask, tell=_tell)
    return {name: program._cache_size() for name, program in programs.items()}


@jax.jit
def _fingerprint(pool) -> UInt32[Array, " parts"]:
    """A checksum of each array of the pool, by which a changed pool is noticed: uint32 [number of
    arrays]."""

    def one(leaf):
        bits = leaf.astype(jnp.uint32) if leaf.dtype == bool else _bits(leaf)
        place = sum(
            jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride)
            for axis, stride in enumerate((0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)[: bits.ndim])
        )
        mixed = (bits ^ place) * jnp.uint32(0x27D4EB2F)
        return jnp.sum((mixed ^ (mixed >> 15)) * (place | 1), dtype=jnp.uint32)

    return jnp.stack([one(leaf) for leaf in jax.tree.leaves(pool)])


def _bits(leaf):
    width = {1: jnp.uint8, 2: jnp.uint16}.get(leaf.dtype.itemsize, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, width).astype(jnp.uint32)


# Book-keeping.


def _prepare(strategy, pool, budget, num_classes, key, labelled) -> Labelled:
    """Checks what `init` and `simulate` are given; returns the labelled start."""
    check.strategy(strategy)
    check.pool(pool, needs=strategy.needs)
    check.budget(budget, num_classes=num_classes)
    check.key(key)
    start = check.labelled(labelled, pool=pool, num_classes=num_classes)
    # What an earlier run hoped for says nothing about this one.
    start = (
        replace(start, wanted=None) if isinstance(start, Labelled) else labelled_set.make(*start)
    )
    start = labelled_set.extend(start, 0)
    check.asked_features(pool, start)
    if not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((pool.candidates, start))):
        check.budget(budget, askable=check.candidates_left(pool, start))
    return start


def _catch_up(strategy: Strategy, pool: Pool, state: State) -> State:
    """The state with a memory made from the pool as it is now: from the rows labelled and pending,
    where the pool has changed."""
    check.belongs(strategy, state)
    now = _fingerprint(pool)
    if now.shape == state.pool.shape and bool(jnp.all(now == state.pool)):
        return state
    check.pool(pool, needs=strategy.needs)
    start = labelled_set.merge(state.labelled, state.pending)
    check.indices("labelled and pending rows", start.indices[: int(start.count)], size=pool.size)
    check.asked_features(pool, start)
    return rebuild(strategy, pool, replace(state, start=start, pool=now))


def rebuild(strategy: Strategy, pool: Pool, state: State) -> State:
    """The state with its memory made anew from the record it was begun from and the answers that
    came after it."""
    memory = _begin(
        strategy, state.budget, state.num_classes, pool, state.start, state.labelled, state.key
    )
    return replace(state, memory=memory)


def _correct(
    strategy: Strategy, pool: Pool, state: State, places: np.ndarray, labels: np.ndarray
) -> State:
    """The state as if these places of the labelled set had had these labels all along."""
    labelled = replace(
        state.labelled, labels=state.labelled.labels.at[places].set(jnp.asarray(labels, jnp.int32))
    )
    answered = state.start.labels >= 0
    start = replace(state.start, labels=jnp.where(answered, labelled.labels, state.start.labels))
    return rebuild(strategy, pool, replace(state, labelled=labelled, start=start))


def _scores(values, check_block) -> Scores:
    """Scores of logits or probabilities in any array; what lies in host memory goes to the device
    in blocks of rows."""
    take_log = check_block is check.probs
    blocks = []
    check.source_shape("probs" if take_log else "logits", values)
    step = _CHUNK if isinstance(values, np.ndarray) else max(1, values.shape[0])
    for offset in range(0, values.shape[0], step):
        block = values[offset : offset + step]
        check_block(block, offset=offset)
        block = _real(block)
        blocks.append(
            score(
                jnp.log(block.astype(jnp.promote_types(block.dtype, jnp.float32)))
                if take_log
                else block
            )
        )
    return (
        jax.tree.map(lambda *parts: jnp.concatenate(parts), *blocks)
        if blocks
        else score(_real(values))
    )


def _real(values) -> Float[Array, "..."]:
    """The values on the device as floating-point numbers; any layout, byte order or integer type is
    taken."""
    if isinstance(values, np.ndarray) and not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    values = jnp.asarray(values)
    return values if jnp.issubdtype(values.dtype, jnp.floating) else values.astype(jnp.float32)
