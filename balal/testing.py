"""The contract suite: what every strategy must satisfy, yours as well as ours.

    from balal.testing import check_strategy
    check_strategy(MyStrategy(alpha=0.5))

What a strategy says of itself (`uses_chance`, `nested`, `flops`, `reason`) is compared with what it
does.

Needs hypothesis (`python -m pip install 'balal[test]'`). A broken contract raises an AssertionError
that names it and the example that breaks it.
"""

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from balal import labelled_set, loop, pools, simulation
from balal.extras import Extra
from balal.state_file import load, save
from balal.strategies.base import Strategy, member
from balal.types import Pool

ROWS, FEATURES, SOURCE_CLASSES, NUM_CLASSES = 14, 3, 3, 4
# Each shape is compiled, so there are few: simulations of any budget without a labelled start, by
# one program, and of a small one after a start; in the loop, a small and a large budget after a
# start.
STARTED, FEW, MOST = 4, 5, 10


def check_strategy(
    strategy: Strategy,
    *,
    examples: int = 10,
    reference: Callable[..., Any] | None = None,
    in_loop: bool = True,
    seed: int = 0,
) -> None:
    """Runs the contract suite on small pools with duplicates, few candidates, one class, labelled
    starts and budgets up to the pool.

    Args:
      strategy: the value to test.
      examples: pools drawn for each contract.
      reference: `reference(features, scores, candidates, labels, start, budget, num_classes) ->
        picks`, a plain NumPy twin whose picks must be the same; `scores` is a dict of arrays,
        `start` a pair (indices, labels).
      in_loop: also the contracts of the loop: one row at a time, late answers, saved states,
        corrections, withdrawals, more classes. They hold for all strategies that inherit `init`,
        `ask`, `tell` and `grow` from `Ordered` or `Planned` if they hold for one.
      seed: of the drawn pools; the same seed draws the same ones.

    Raises: AssertionError with the contract and the example; ModuleNotFoundError where hypothesis
    is not installed.

    docs/own_strategy.md has two strategies that pass it.
    """
    with Extra("test"):
        import hypothesis
        from hypothesis import strategies as draws
    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),  # pyright: ignore
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )

    def over(contract, **drawn):
        @hypothesis.seed(seed)
        @settings
        @hypothesis.given(seed=draws.integers(0, 2**31 - 1), **drawn)
        def example(**drawn):
            try:
                contract(strategy, **drawn)
            except AssertionError as error:
                raise AssertionError(
                    f"{strategy!r} breaks a contract, {_name(contract)}, for {drawn}: {error}"
                ) from error

        example()

    hash(strategy)
    copy = replace(strategy)  # pyright: ignore
    assert strategy == copy, "a strategy is a frozen value: a copy of it must be equal to it"
    started = draws.booleans()
    over(_picks_are_distinct_candidates, started=started)
    over(_answers_come_by_init_and_tell_alone)
    over(_padding_changes_no_pick)
    if in_loop:
        over(_simulate_equals_ask_and_tell)
        over(_answers_may_come_late_in_parts_and_in_any_order)
        over(_a_saved_state_goes_on)
        over(_a_changed_pool_is_noticed)
        over(_a_label_can_be_corrected)
        over(_rows_are_withdrawn_and_the_budget_extended)
        over(_room_for_more_classes_changes_no_pick)
    if reference is not None:
        over(functools.partial(_picks_are_those_of_the_reference, reference), started=started)
    _transforms_agree(strategy, seed)
    if in_loop:
        _one_compilation_serves_all_values(strategy, seed)
    _what_it_says_of_itself_is_true(strategy, seed)
    if not _uses_chance(strategy) and not member(strategy, "counts_rows"):
        over(_permuted_rows_are_permuted_picks)


def compilations() -> dict[str, int]:
    """How many programs each compiled function of the loop holds by now: one a strategy, budget and
    shape."""
    programs: dict[str, Any] = dict(
        simulate=simulation._simulate, begin=loop._begin, ask=loop._ask, tell=loop._tell
    )
    return {name: program._cache_size() for name, program in programs.items()}


def _name(contract) -> str:
    return getattr(contract, "func", contract).__name__.strip("_").replace("_", " ")


def _draw_pool(seed: int, *, ties: bool = True) -> tuple[Pool, np.ndarray, np.ndarray]:
    """A small pool, its true labels, and the rows of a labelled start. With `ties`: duplicates,
    masked rows, rare and missing classes."""
    rng = np.random.default_rng(seed)
    if ties:
        features = rng.integers(0, 3, (ROWS, FEATURES)).astype(np.float32)
        features[rng.integers(0, ROWS, 4)] = features[0]
        features[-1] = features[0] + 1
        logits = rng.integers(-2, 3, (ROWS, SOURCE_CLASSES)).astype(np.float32)
        labels = rng.integers(0, rng.integers(1, NUM_CLASSES + 1), ROWS)
    else:
        features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
        logits = rng.normal(size=(ROWS, SOURCE_CLASSES)).astype(np.float32)
        labels = rng.integers(0, NUM_CLASSES, ROWS)
    return (
        pools.pool(features, logits=logits, keep_logits=True),
        labels,
        rng.permutation(ROWS)[:STARTED],
    )


def _limited(pool: Pool, rows: int, seed: int, keep: np.ndarray) -> Pool:
    """The pool with only `rows` candidates besides the rows in `keep`."""
    rng = np.random.default_rng(seed + 1)
    others = rng.permutation(np.setdiff1d(np.arange(ROWS), keep))
    mask = np.zeros(ROWS, bool)
    mask[others[:rows]] = True
    mask[keep] = True
    return replace(pool, candidates=jnp.asarray(mask))


def _simulate(strategy, pool, labels, *, budget=FEW, seed=0, start=None, num_classes=NUM_CLASSES):
    """Without a start, one program serves all budgets."""
    options: dict[str, Any] = dict(num_classes=num_classes, key=jax.random.key(seed))
    if start is not None:
        options |= dict(labelled=(start, labels[start]))
    else:
        options |= dict(capacity=ROWS)
    result = simulation.simulate(strategy, pool, labels, budget=budget, **options)
    return jax.tree.map(lambda column: column[:budget], result.indices)


def _begun(strategy, pool, labels, start, seed, *, budget=MOST):
    return loop.init(
        strategy,
        pool,
        budget=budget,
        num_classes=NUM_CLASSES,
        key=jax.random.key(seed),
        labelled=(start, labels[start]),
    )


def _case(seed, started, *, ties=True):
    """A pool with as few candidates as the budget allows, or all of them: a small budget after a
    start, or the whole pool without one."""
    budget = FEW if started else ROWS
    pool, labels, start = _draw_pool(seed, ties=ties)
    start = start if started else start[:0]
    if seed % 2:
        pool = _limited(pool, budget, seed, start)
    return pool, labels, start if started else None, budget


def _picks_are_distinct_candidates(strategy, *, seed, started):
    pool, labels, start, budget = _case(seed, started)
    picks = np.asarray(_simulate(strategy, pool, labels, budget=budget, start=start))
    assert picks.dtype == np.int32, f"picks must be int32, got {picks.dtype}"
    assert picks.shape == (budget,), f"{budget} picks were asked for, got shape {picks.shape}"
    assert len(set(picks.tolist())) == budget, f"picks must be distinct, got {picks}"
    assert np.all((picks >= 0) & (picks < ROWS)), f"picks must be rows of the pool, got {picks}"
    assert np.all(np.asarray(pool.candidates)[picks]), f"picks must be candidates, got {picks}"
    again = set(picks.tolist()) & set([] if start is None else start.tolist())
    assert not again, f"a labelled row was picked again: {picks}, labelled {start}"


def _simulate_equals_ask_and_tell(strategy, *, seed):
    pool, labels, start, budget = _case(seed, True)
    simulated = _simulate(strategy, pool, labels, budget=budget, start=start, seed=seed).tolist()
    state = _begun(strategy, pool, labels, start, seed, budget=budget)
    picks = []
    for _ in range(budget):
        index, state = loop.ask(strategy, pool, state)
        state = loop.tell(strategy, pool, state, index, labels[np.asarray(index)])
        picks += index.tolist()
    assert picks == simulated, f"one at a time: {picks}, simulated: {simulated}"
    if not member(strategy, "adaptive"):
        state = _begun(strategy, pool, labels, start, seed, budget=budget)
        at_once, _ = loop.ask(strategy, pool, state, size=budget)
        assert at_once.tolist() == picks, f"all at once: {at_once.tolist()}, singly: {picks}"


def _answers_may_come_late_in_parts_and_in_any_order(strategy, *, seed):
    pool, labels, start = _draw_pool(seed)
    rng = np.random.default_rng(seed)
    budget = FEW
    state = _begun(strategy, pool, labels, start, seed, budget=budget)
    pending, told = [], []
    while len(told) < budget:
        left = budget - len(told) - len(pending)
        if left and rng.random() < 0.6:
            index, state = loop.ask(strategy, pool, state, size=min(2, left))
            assert not set(index.tolist()) & {*start.tolist(), *told, *pending}, (
                f"{index} asked twice"
            )
            pending += index.tolist()
        elif pending:
            rng.shuffle(pending)
            part = [pending.pop() for _ in range(rng.integers(1, len(pending) + 1))]
            state = loop.tell(strategy, pool, state, np.array(part), labels[part])
            told += part
    recorded = np.asarray(state.labelled.indices)
    assert recorded.tolist() == [*start.tolist(), *told], (
        "the labelled set must hold the answers in the order they came"
    )
    assert np.array_equal(state.labelled.labels, labels[recorded]), (
        "the labelled set must hold the labels that were told"
    )
    assert int(state.pending.count) == 0, "nothing is pending once all is told"


def _midway(strategy, pool, labels, start, seed, asked=2):
    """A state after a few answers, with `asked` rows pending."""
    state = _begun(strategy, pool, labels, start, seed)
    index, state = loop.ask(strategy, pool, state, size=2)
    state = loop.tell(strategy, pool, state, index, labels[np.asarray(index)])
    if asked:
        _, state = loop.ask(strategy, pool, state, size=asked)
    return state


def _finish(strategy, pool, labels, state):
    waiting = state.pending.indices[: int(state.pending.count)]
    if waiting.size:
        state = loop.tell(strategy, pool, state, waiting, labels[np.asarray(waiting)])
    picks = []
    while int(state.labelled.count) < STARTED + MOST - 2:
        index, state = loop.ask(strategy, pool, state)
        state = loop.tell(strategy, pool, state, index, labels[np.asarray(index)])
        picks += index.tolist()
    return picks


def _a_saved_state_goes_on(strategy, *, seed):
    pool, labels, start = _draw_pool(seed, ties=False)
    state = _midway(strategy, pool, labels, start, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.npz")
        save(state, path)
        loaded = load(strategy, pool, path)
    expected, found = (_finish(strategy, pool, labels, each) for each in (state, loaded))
    assert expected == found, f"kept on: {expected}, saved and loaded: {found}"


def _a_changed_pool_is_noticed(strategy, *, seed):
    pool, labels, start = _draw_pool(seed)
    state = _midway(strategy, pool, labels, start, seed)
    taken = {*state.labelled.indices.tolist(), *state.pending.indices.tolist()}
    banned = next(row for row in range(ROWS) if row not in taken)
    other, _, _ = _draw_pool(seed + 1)
    changed = replace(other, candidates=jnp.ones(ROWS, bool).at[banned].set(False))
    picks = _finish(strategy, changed, labels, state)
    assert banned not in picks, f"row {banned} was banned and yet asked: {picks}"
    assert not taken & set(picks), f"rows {taken & set(picks)} were asked twice"


def _a_label_can_be_corrected(strategy, *, seed):
    pool, labels, start = _draw_pool(seed, ties=False)
    state = _begun(strategy, pool, labels, start, seed)
    asked, state = loop.ask(strategy, pool, state, size=2)
    answers = labels[np.asarray(asked)]
    right = loop.tell(strategy, pool, state, asked, answers)
    wrong = loop.tell(strategy, pool, state, asked, (answers + np.array([1, 0])) % NUM_CLASSES)
    corrected = loop.tell(strategy, pool, wrong, asked, answers)
    found, expected = (_finish(strategy, pool, labels, each) for each in (corrected, right))
    assert found == expected, f"corrected: {found}, right from the outset: {expected}"


def _rows_are_withdrawn_and_the_budget_extended(strategy, *, seed):
    pool, labels, start = _draw_pool(seed)
    state = _begun(strategy, pool, labels, start, seed, budget=FEW)
    rows, state = loop.ask(strategy, pool, state, size=2)
    lost, answered = rows.tolist()
    state = loop.withdraw(state, [lost])
    state = loop.tell(strategy, pool, state, [answered], labels[[answered]])
    state = loop.extend(state, budget=MOST)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.npz")
        save(state, path)
        loaded = load(strategy, pool, path)
    picks, again = (_finish(strategy, pool, labels, each) for each in (state, loaded))
    assert lost not in picks, f"row {lost} was withdrawn and asked again: {picks}"
    assert picks == again, f"saved after a withdrawal and an extension: {again}, kept on: {picks}"
    assert len({*picks, answered}) == MOST - 2, f"labels to buy were left, and {picks} was asked"
    others = np.setdiff1d(np.arange(ROWS), [*start, lost])
    alone = replace(pool, candidates=jnp.ones(ROWS, bool).at[others].set(False))
    last, _ = loop.ask(strategy, alone, loop.restore(state, [lost]))
    assert last.tolist() == [lost], f"row {lost} was returned, the only one left, not {last}"
    if member(strategy, "nested"):
        small = _begun(strategy, pool, labels, start, seed, budget=FEW)
        index, small = loop.ask(strategy, pool, small)
        small = loop.tell(strategy, pool, small, index, labels[np.asarray(index)])
        extended = loop.extend(small, budget=MOST)
        large = _begun(strategy, pool, labels, start, seed)
        found, expected = (_finish(strategy, pool, labels, each) for each in (extended, large))
        assert index.tolist() + found == expected, (
            f"extended: {index.tolist() + found}, a large budget from the outset: {expected}"
        )


def _answers_come_by_init_and_tell_alone(strategy, *, seed):
    pool, labels, rows = _draw_pool(seed, ties=False)
    told = jnp.asarray(labels[rows], jnp.int32)
    unknown = jnp.full(len(rows), -1, jnp.int32)
    others = jnp.asarray((labels + 1) % NUM_CLASSES, jnp.int32)
    shown = jnp.asarray(labels, jnp.int32)
    arguments = pool, jnp.asarray(rows, jnp.int32), jnp.asarray(labels, jnp.int32)
    by_init = _picks_by_hand(strategy, *arguments, told, unknown, shown)
    by_tell = _picks_by_hand(strategy, *arguments, unknown, told, shown)
    assert by_init.tolist() == by_tell.tolist(), (
        f"answers known to `init`: {by_init}, the same ones told: {by_tell}"
    )
    blind = _picks_by_hand(strategy, *arguments, told, unknown, others)
    assert by_init.tolist() == blind.tolist(), (
        f"`ask` went by the labels in `labelled`, which are not to be read: {by_init}, with others "
        f"there: {blind}"
    )


@functools.partial(jax.jit, static_argnums=0)
def _picks_by_hand(strategy, pool, rows, labels, known, told, shown):
    """Four picks after some rows, of which `init` knows these labels, and others are told then.
    shown: the labels that `ask` finds in `labelled`, by row."""
    start = labelled_set.extend(labelled_set.make(rows, known), 4)
    memory = strategy.init(pool, start, 4, NUM_CLASSES, jax.random.key(0))

    def tell(memory, index, label):
        return jax.lax.cond(
            label >= 0, lambda: strategy.tell(memory, pool, index, label), lambda: memory
        )

    memory = jax.lax.fori_loop(
        0, len(rows), lambda number, memory: tell(memory, rows[number], told[number]), memory
    )

    def step(number, carry):
        memory, labelled, picks = carry
        seen = jnp.where(labelled.indices >= 0, shown[labelled.indices], -1)
        pick, memory = strategy.ask(memory, pool, replace(labelled, labels=seen))
        label = labels[pick.index]
        labelled = labelled_set.append(labelled, pick.index, label, pick.wanted)
        return tell(memory, pick.index, label), labelled, picks.at[number].set(pick.index)

    picks = jnp.full(4, -1, jnp.int32)
    return jax.lax.fori_loop(0, 4, step, (memory, start, picks))[2]


def _padding_changes_no_pick(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    expected = _simulate(strategy, pool, labels, seed=seed)
    padded = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, 3)] + [(0, 0)] * (leaf.ndim - 1)), pool)
    found = _simulate(strategy, padded, np.pad(labels, (0, 3)), seed=seed)
    assert np.array_equal(expected, found), (
        f"as it is: {expected}, with three masked rows more: {found}"
    )


def _room_for_more_classes_changes_no_pick(strategy, *, seed):
    pool, labels, start = _draw_pool(seed, ties=False)
    state = _midway(strategy, pool, labels, start, seed)
    grown = loop.grow(strategy, state, NUM_CLASSES + 2)
    expected, found = (_finish(strategy, pool, labels, each) for each in (state, grown))
    assert expected == found, (
        f"with {NUM_CLASSES} classes: {expected}, grown to {NUM_CLASSES + 2}: {found}"
    )
    new = labels.copy()
    new[np.asarray(grown.pending.indices[:1])] = NUM_CLASSES + 1
    _finish(strategy, pool, new, grown)


def _permuted_rows_are_permuted_picks(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    order = np.random.default_rng(seed).permutation(ROWS)
    expected = np.asarray(_simulate(strategy, pool, labels))
    permuted = jax.tree.map(lambda leaf: leaf[order], pool)
    found = order[np.asarray(_simulate(strategy, permuted, labels[order]))]
    assert np.array_equal(expected, found), f"in order: {expected}, permuted: {found}"


def _picks_are_those_of_the_reference(reference, strategy, *, seed, started):
    # Without ties: a twin in float64 breaks them where float32 cannot see them.
    pool, labels, start, budget = _case(seed, started, ties=False)
    found = _simulate(strategy, pool, labels, budget=budget, start=start).tolist()
    rows = np.zeros(0, int) if start is None else start
    assert pool.scores is not None
    expected = reference(
        np.asarray(pool.features),
        {name: np.asarray(value) for name, value in vars(pool.scores).items()},
        np.asarray(pool.candidates),
        labels,
        (rows, labels[rows]),
        budget,
        NUM_CLASSES,
    )
    assert found == [int(pick) for pick in expected], (
        f"picks {found}, the reference's {list(expected)}"
    )


def _transforms_agree(strategy: Strategy, seed: int) -> None:
    """Jitted, not jitted and vmapped over keys give the same picks, and the same key gives the same
    again."""
    pool, labels, _ = _draw_pool(seed)
    keys = jax.random.split(jax.random.key(0), 3)

    def picks(key):
        options: dict[str, Any] = dict(num_classes=NUM_CLASSES, capacity=ROWS)
        return simulation.simulate(strategy, pool, labels, budget=FEW, key=key, **options).indices

    single = np.stack([picks(key) for key in keys])
    again = np.stack([picks(key) for key in keys])
    assert np.array_equal(single, again), "the same key must give the same picks"
    vmapped = jax.jit(jax.vmap(picks))(keys)
    assert np.array_equal(single, vmapped), (
        "vmapped over keys inside an outer jit, the picks must be those of each key"
    )
    with jax.disable_jit():
        assert np.array_equal(single[0], picks(keys[0])), "without jit the picks must be the same"


def _one_compilation_serves_all_values(strategy: Strategy, seed: int) -> None:
    """A second simulation of the same shapes with other values compiles nothing, and neither do
    further asks and tells."""
    before = None
    for number in (seed, seed + 1):
        pool, labels, start = _draw_pool(number)
        _simulate(strategy, pool, labels, seed=number)
        _finish(strategy, pool, labels, _midway(strategy, pool, labels, start, number))
        before = before or compilations()
    assert compilations() == before, (
        f"other values compiled again: {before} before, {compilations()} after"
    )


def _uses_chance(strategy: Strategy) -> bool:
    """Whether any of six keys gives other picks than the first, on a pool without ties."""
    pool, labels, _ = _draw_pool(0, ties=False)
    picks = {tuple(_simulate(strategy, pool, labels, seed=key).tolist()) for key in range(6)}
    return len(picks) > 1


def _what_it_says_of_itself_is_true(strategy: Strategy, seed: int) -> None:
    said, found = member(strategy, "uses_chance"), _uses_chance(strategy)
    assert said is None or said == found, (
        f"{strategy!r} says that it {'uses' if said else 'does not use'} chance, and other keys "
        f"give {'other' if found else 'the same'} picks"
    )
    pool, labels, start = _draw_pool(seed, ties=False)
    if member(strategy, "nested"):
        # Each by a program of its own.
        large = _simulate(strategy, pool, labels, budget=MOST, seed=seed, start=start).tolist()
        small = _simulate(strategy, pool, labels, seed=seed, start=start).tolist()
        assert large[:FEW] == small, (
            f"{strategy!r} says its picks are nested: {small}, then {large}"
        )
    sizes = dict(num_rows=100, num_features=8, num_classes=4, budget=10)
    flops = member(strategy, "flops")
    if (least := flops(*sizes.values())) is not None:
        for name, size in sizes.items():
            more = flops(*(sizes | {name: 2 * size}).values())
            assert 0 <= least <= more, f"{strategy!r} says more {name} take fewer operations"
    state = _midway(strategy, pool, labels, start, seed)
    told = loop.reasons(strategy, pool, state)
    assert len(told) == int(state.pending.count), f"a reason for each pick, got {told}"
    assert all(isinstance(text, str) and text.strip() for text in told), f"no sentence in {told}"
