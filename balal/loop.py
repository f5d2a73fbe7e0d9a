"""The loop with a person in the middle: init, ask, tell, and what people need in between.

    state = balal.init(strategy, pool, budget=500, num_classes=100, key=key)
    indices, state = balal.ask(strategy, pool, state, size=50)
    state = balal.tell(strategy, pool, state, indices, labels)     # late, partial, in any order

Only the loop keeps books. A strategy's memory holds true answers only: while rows are pending,
`ask` tells a copy of the memory the class that each was wanted for, picks with the copy and throws
it away, so that an answer, however late or corrected, never has a guess to undo.

A memory follows from the pool, the rows it started from (`State.start`) and the answers after them.
Whatever changes the pool, and whatever else a memory cannot follow, rebuilds it.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from balal import check, labelled_set, preparation, xla
from balal.pools import checksums
from balal.strategies.base import Names, Strategy, describe, member
from balal.types import Labelled, Pick, Pool, State, askable
from balal.wording import plural


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
      budget: labels to be bought in all, over any number of `ask`s; see `extend`.
      num_classes: room for this many target classes; see `grow`.
      key: for everything random, `jax.random.key(seed)`.
      labelled: rows whose labels are known at the start, a `Labelled` or a pair (indices, labels);
        they do not count as bought.

    Raises: ValueError if the pool lacks what the strategy needs, or the budget, the key or the
      labelled rows are not valid.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from balal import pool, strategy
    >>> rows, ent = pool(None, logits=jnp.outer(jnp.arange(4.0), jnp.eye(2)[0])), strategy("ent")
    >>> state = init(ent, rows, budget=2, num_classes=2, key=jax.random.key(0))
    >>> indices, state = ask(ent, rows, state, size=2)
    >>> state = tell(ent, rows, state, indices, [1, 0])
    >>> indices.tolist(), state.labelled.labels.tolist()
    ([0, 1], [1, 0])
    """
    start = checked_start(strategy, pool, labelled, budget=budget, num_classes=num_classes, key=key)
    start = labelled_set.extend(start, budget)
    pool = preparation.prepare_missing(strategy, preparation.fresh(strategy, pool))
    nothing = jnp.full(budget, -1, jnp.int32)
    return State(
        memory=_begin(strategy, budget, num_classes, pool, start, start, key),
        labelled=start,
        pending=Labelled(nothing, nothing, jnp.int32(0), nothing),
        key=key,
        start=start,
        withdrawn=jnp.zeros(pool.num_rows, bool),
        prepared={name: pool.prepared[name] for name in preparation.keys(strategy)},
        pool=checksums(replace(pool, prepared={})),
        budget=budget,
        num_classes=num_classes,
        strategy=describe(strategy),
    )


def ask(
    strategy: Strategy, pool: Pool, state: State, *, size: int = 1
) -> tuple[Int[Array, " size"], State]:
    """The rows to label next, int32 [size], most useful first, and the state in which they are
    pending.

    The pool may have changed since the last call: rows excluded (`candidates`), scores or features
    refreshed by a retrained model, rows added at the end. The strategy then starts again from the
    rows labelled and pending so far; to notice changes, every call reads the pool once. A row that
    is excluded while it is pending stays pending, and may still be answered.

    Raises: ValueError if `size` exceeds the rest of the budget or the candidates left, or if the
      pool has lost rows (see `remap`).
    """
    pool, state = catch_up(strategy, pool, state)
    check.query_size(size, state, pool)
    before = int(state.pending.count)
    pending, memory = _ask(strategy, pool, state.memory, state.labelled, state.pending, size)
    asked = np.asarray(pending.indices)[before : before + size]
    return jnp.asarray(asked), replace(state, memory=memory, pending=pending)


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
      indices: int [n], the rows.
      labels: int [n], their target classes.

    Raises: ValueError for rows that were never asked, rows that come twice, and labels outside
    [0, num_classes); nothing is changed then.
    """
    pool, state = catch_up(strategy, pool, state)
    indices, labels = check.answers(indices, labels, state, size=pool.num_rows)
    recorded = np.asarray(state.labelled.indices)
    known = {int(row): number for number, row in enumerate(recorded) if row >= 0}
    again = np.isin(indices, list(known))
    numbers = np.array([known[row] for row in indices[again].tolist()], np.int64)
    if np.any(np.asarray(state.labelled.labels)[numbers] != labels[again]):
        state = _corrected(strategy, pool, state, numbers, labels[again])
    if again.all():
        return state
    answers = labelled_set.make(indices[~again], labels[~again], capacity=state.budget)
    labelled, pending, memory = _tell(
        strategy, pool, state.memory, state.labelled, state.pending, answers
    )
    return replace(state, labelled=labelled, pending=pending, memory=memory)


def grow(strategy: Strategy, state: State, num_classes: int) -> State:
    """The same state with room for more target classes.

    Raises: ValueError where `num_classes` is below the present one.
    """
    check_belongs(strategy, state)
    check.budget(state.budget, num_classes=num_classes)
    if num_classes < state.num_classes:
        raise ValueError(
            f"grow only adds classes: there is room for {state.num_classes}, got "
            f"num_classes={num_classes}"
        )
    memory = None
    if state.memory is not None:
        memory = member(strategy, "grow")(state.memory, num_classes)
    return replace(state, memory=memory, num_classes=num_classes)


def extend(state: State, *, budget: int) -> State:
    """The same state with a larger budget: labels to buy in all, including those bought so far.

    Raises: ValueError if the budget is below the present one.

    >>> from balal import pool, strategy
    >>> rows, ent = pool(None, logits=jnp.outer(jnp.arange(4.0), jnp.eye(2)[0])), strategy("ent")
    >>> state = init(ent, rows, budget=1, num_classes=2, key=jax.random.key(0))
    >>> indices, state = ask(ent, rows, extend(state, budget=3), size=3)
    >>> indices.tolist()
    [0, 1, 2]
    """
    check.budget(budget, num_classes=state.num_classes)
    more = budget - state.budget
    if more < 0:
        raise ValueError(
            f"extend only adds labels: the budget is {state.budget}, got budget={budget}"
        )
    longer = {
        name: labelled_set.extend(getattr(state, name), more)
        for name in ("labelled", "pending", "start")
    }
    return replace(state, memory=None if more else state.memory, budget=budget, **longer)


def withdraw(state: State, indices: Int[Array, " n"] | Any) -> State:
    """The state without some pending rows that nobody can answer: their labels may be bought
    elsewhere, and they are not asked again unless `restore` returns them.

    Args:
      indices: int [n], pending rows.

    Raises: ValueError for rows that are not pending; nothing is changed then.
    """
    rows = check.indices("withdrawn rows", indices, size=len(state.withdrawn))
    check.among(
        rows,
        state.pending.indices,
        "not pending; only a row that was asked and not answered can be withdrawn: exclude others "
        "with the candidates of the pool",
    )
    return replace(
        state,
        pending=labelled_set.without(state.pending, jnp.asarray(rows, jnp.int32)),
        withdrawn=state.withdrawn.at[rows].set(True),
    )


def restore(state: State, indices: Int[Array, " n"] | Any) -> State:
    """The state in which some withdrawn rows may be asked again.

    Args:
      indices: int [n], withdrawn rows.

    Raises: ValueError for rows that are not withdrawn; nothing is changed then.
    """
    rows = check.indices("restored rows", indices, size=len(state.withdrawn))
    check.among(rows, np.flatnonzero(state.withdrawn), "not withdrawn")
    return replace(state, withdrawn=state.withdrawn.at[rows].set(False))


def remap(state: State, indices: Int[Array, " N"] | Any, *, num_rows: int) -> State:
    """The state for a pool whose rows have moved, or of which some are gone.

    Pending and withdrawn rows that are gone are forgotten. A labelled row must stay: its features
    are what its label is worth; take it out of `candidates` where it may not be asked.

    Args:
      indices: int [N], the new row of every old one, -1 where it is gone.
      num_rows: rows of the new pool.

    Raises: ValueError for a map that is not one to one, or that loses labelled rows.
    """
    moved = check.row_map(indices, old=len(state.withdrawn), new=num_rows)
    begun = labelled_set.merge(state.labelled, state.pending)
    rows = np.asarray(state.labelled.indices)
    check.among(
        rows[rows >= 0],
        np.flatnonzero(moved >= 0),
        "labelled, and the new pool does not have it: keep labelled rows in the pool, outside its "
        "candidates",
    )

    def renamed(record: Labelled) -> Labelled:
        new = np.where(np.asarray(record.indices) >= 0, moved[np.asarray(record.indices)], -1)
        there = replace(record, indices=jnp.asarray(new, jnp.int32))
        return labelled_set.keep(there, there.indices >= 0)

    withdrawn = np.zeros(num_rows, bool)
    withdrawn[moved[np.asarray(state.withdrawn) & (moved >= 0)]] = True
    return replace(
        state,
        memory=None,
        labelled=renamed(state.labelled),
        pending=renamed(state.pending),
        start=renamed(begun),
        withdrawn=jnp.asarray(withdrawn),
        prepared={},
        # No pool's: the next call begins anew.
        pool=jnp.zeros(0, jnp.uint32),
    )


def reasons(
    strategy: Strategy,
    pool: Pool,
    state: State,
    *,
    target_names: Sequence[str] = (),
    source_names: Sequence[str] = (),
) -> list[str]:
    """A sentence on every pending row: what the strategy went by when it asked for it.

    Args:
      target_names: of the target classes, by class id.
      source_names: of the source classes.

    >>> from balal import pool, strategy
    >>> rows, ent = pool(None, logits=jnp.outer(jnp.arange(4.0), jnp.eye(2)[0])), strategy("ent")
    >>> state = init(ent, rows, budget=2, num_classes=2, key=jax.random.key(0))
    >>> reasons(ent, rows, ask(ent, rows, state)[1])
    ['entropy 0.693, 1st most uncertain of all']
    """
    pool, state = catch_up(strategy, pool, state)
    count = int(state.pending.count)
    wanted = labelled_set.columns(state.pending)["wanted"]
    picks = Pick(np.asarray(state.pending.indices)[:count], np.asarray(wanted)[:count])
    names = Names(tuple(target_names), tuple(source_names))
    return member(strategy, "reason")(state.memory, pool, state.labelled, picks, names)


# Compiled programs. Strategy and capacities are static; how much is asked, labelled or pending is
# data.


@partial(jax.jit, static_argnums=(0, 1, 2))
def _begin(strategy, budget, num_classes, pool, start, labelled, key):
    """The memory begun from `start`, brought up to `labelled` by the answers that came after it."""
    xla.make_room()
    memory = strategy.init(pool, start, budget, num_classes, key)

    def replay(number, memory):
        return strategy.tell(memory, pool, labelled.indices[number], labelled.labels[number])

    begun_with = jnp.sum(start.labels >= 0, dtype=jnp.int32)
    return jax.lax.fori_loop(begun_with, labelled.count, replay, memory)


@partial(jax.jit, static_argnums=0)
def _ask(strategy, pool, memory, labelled, pending, size):
    """Everything pending with `size` picks more, and the memory: that of the last pick before any
    guess was laid over it."""
    xla.make_room()

    def lay(memory, index, wanted):
        return jax.lax.cond(
            wanted >= 0, lambda: strategy.tell(memory, pool, index, wanted), lambda: memory
        )

    def lay_pending(number, carry):
        overlay, rows = carry
        index, wanted = pending.indices[number], pending.wanted[number]
        return lay(overlay, index, wanted), labelled_set.append(rows, index, wanted, wanted)

    def pick(_, carry):
        memory, overlay, rows, pending, laid = carry
        picked, overlay = strategy.ask(overlay, pool, rows)
        index, wanted = picked.index, picked.wanted
        memory = jax.lax.cond(laid, lambda: memory, lambda: overlay)
        rows = labelled_set.append(rows, index, wanted, wanted)
        pending = labelled_set.append(pending, index, jnp.int32(-1), wanted)
        return memory, lay(overlay, index, wanted), rows, pending, laid | (wanted >= 0)

    overlay, rows = jax.lax.fori_loop(0, pending.count, lay_pending, (memory, labelled))
    carry = (memory, overlay, rows, pending, jnp.any(pending.wanted >= 0))
    memory, _, _, pending, _ = jax.lax.fori_loop(0, size, pick, carry)
    return pending, memory


@partial(jax.jit, static_argnums=0)
def _tell(strategy, pool, memory, labelled, pending, answers):
    xla.make_room()

    def one(number, carry):
        memory, labelled = carry
        index, label = answers.indices[number], answers.labels[number]
        wanted = jnp.max(jnp.where(pending.indices == index, pending.wanted, -1))
        memory = strategy.tell(memory, pool, index, label)
        return memory, labelled_set.append(labelled, index, label, wanted)

    memory, labelled = jax.lax.fori_loop(0, answers.count, one, (memory, labelled))
    return labelled, labelled_set.without(pending, answers.indices), memory


# Book-keeping.


def checked_start(
    strategy: Strategy,
    pool: Pool,
    labelled: Labelled | tuple[Any, Any] | None,
    *,
    budget: Any,
    num_classes: int,
    key: Key[Array, ""],
    padded: bool = False,
) -> Labelled:
    """The labelled start, after a check of all that `init` and `simulate` are given.

    padded: keep the padding of a `Labelled`, so that one program serves starts of several sizes.
    """
    check.strategy(strategy)
    check.pool(pool, needs=strategy.needs)
    check.budget(budget, num_classes=num_classes)
    check.key(key)
    room = len(labelled.indices) if padded and isinstance(labelled, Labelled) else None
    start = check.labelled(labelled, pool=pool, num_classes=num_classes)
    # What an earlier run hoped for says nothing about this one.
    if isinstance(start, Labelled):
        start = replace(start, wanted=None)
    else:
        start = labelled_set.make(*start, capacity=room)
    start = labelled_set.extend(start, 0)
    check.asked_features(pool, start)
    if not preparation.traced((pool.candidates, start)):
        check.budget(budget, askable=check.candidates_left(pool, start))
    return start


def catch_up(strategy: Strategy, pool: Pool, state: State) -> tuple[Pool, State]:
    """The pool as the strategy sees it, without the rows that were withdrawn and with all that it
    prepares, and the state with a memory made from that pool."""
    check_belongs(strategy, state)
    check.arrays_of(pool)
    old, new = len(state.withdrawn), pool.num_rows
    if new < old:
        raise ValueError(
            f"the pool has {plural(new, 'row')} and had {old}: rows after the lost ones have "
            f"moved, so their labels no longer match; say where every old row is now with "
            f"balal.remap(state, indices, num_rows={new})"
        )
    withdrawn = jnp.pad(state.withdrawn, (0, new - old))
    # In float64 there may be numbers beyond float32, which are told of below.
    with np.errstate(over="ignore"):
        now = checksums(replace(pool, prepared={}))
    pool = preparation.fresh(strategy, pool, kept=state.prepared, now=_of_features(pool, now))
    pool = preparation.prepare_missing(strategy, pool)
    kept = {name: pool.prepared[name] for name in preparation.keys(strategy)}
    state = replace(state, withdrawn=withdrawn, prepared=kept)
    if bool(jnp.any(withdrawn)):
        now = jnp.concatenate([now, checksums(withdrawn)])
        pool = replace(pool, candidates=askable(pool.candidates, new) & ~withdrawn)
    if now.shape == state.pool.shape and bool(jnp.all(now == state.pool)):
        return pool, state if state.memory is not None else rebuild(strategy, pool, state)
    check.pool(pool, needs=strategy.needs)
    start = labelled_set.merge(state.labelled, state.pending)
    check.indices("labelled and pending rows", start.indices[: int(start.count)], size=new)
    check.asked_features(pool, start)
    return pool, rebuild(strategy, pool, replace(state, start=start, pool=now))


def _of_features(pool: Pool, sums: Array) -> Array:
    """The checksums of features and candidates, the first and the last part, among those of all."""
    ends = [sums[:1]] * (pool.features is not None) + [sums[-1:]] * (pool.candidates is not None)
    return jnp.concatenate(ends) if ends else sums[:0]


def check_belongs(strategy: Strategy, state: State) -> None:
    """ValueError unless the state was made by `init` with this strategy."""
    check.strategy(strategy)
    if describe(strategy) != state.strategy:
        raise ValueError(
            f"this state was made with {state.strategy}, not with {describe(strategy)}: make a new "
            f"one with balal.init"
        )


def rebuild(strategy: Strategy, pool: Pool, state: State) -> State:
    """The state with its memory made anew from the record it was begun from and the answers that
    came after it."""
    memory = _begin(
        strategy, state.budget, state.num_classes, pool, state.start, state.labelled, state.key
    )
    return replace(state, memory=memory)


def _corrected(
    strategy: Strategy, pool: Pool, state: State, numbers: np.ndarray, labels: np.ndarray
) -> State:
    """The state as if these entries of the labelled set had had these labels all along."""
    labels = state.labelled.labels.at[numbers].set(jnp.asarray(labels, jnp.int32))  # pyright: ignore
    labelled = replace(state.labelled, labels=labels)
    answered = state.start.labels >= 0
    start = replace(state.start, labels=jnp.where(answered, labels, state.start.labels))
    return rebuild(strategy, pool, replace(state, labelled=labelled, start=start))
