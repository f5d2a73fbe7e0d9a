"""The contract suite: what every strategy must keep, for yours as for ours.

    from balal.testing import check_strategy
    check_strategy(MyStrategy(alpha=0.5))

Needs hypothesis (`python -m pip install 'balal[test]'`). A broken contract is an AssertionError that
names it and the example that breaks it.
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

from balal import host, loop
from balal.state_file import load, save
from balal.strategies.base import Ordered, Strategy
from balal.types import Pool

ROWS, SIZE, SOURCE_CLASSES, NUM_CLASSES = 14, 3, 3, 4
# Budget, and rows of a labelled start. Few shapes, since each is compiled: a budget of the whole
# pool, and a small one after a start.
CASES = ((ROWS, 0), (5, 4))


def check_strategy(
    strategy: Strategy,
    *,
    examples: int = 10,
    chance: bool | None = None,
    reference: Callable[..., Any] | None = None,
    seed: int = 0,
) -> None:
    """Runs the contract suite on small pools with duplicates, few candidates, one class, labelled
    starts and budgets up to the pool.

    Args:
      strategy: the value to test.
      examples: pools drawn for each contract.
      chance: True: another key must give other picks; False: it must not; None: either.
      reference: `reference(features,
        scores, candidates, labels, start, budget, num_classes) ->
        picks`, a plain NumPy
        twin whose picks must be the same; `scores` is a dict of arrays, `start` a pair (indices,
        labels).
      seed: of the drawn pools; the same seed draws the same ones.

    Raises: AssertionError with the contract and the example; ModuleNotFoundError where hypothesis
    is not installed.

    A strategy of your own, with this suite over it, stands in CONTRIBUTING.md.
    """
    with host.Extra("test"):
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
    case = draws.sampled_from(CASES)
    over(_picks_are_distinct_candidates, case=case)
    over(_simulate_equals_ask_and_tell, case=case)
    over(_answers_may_come_late_in_parts_and_in_any_order)
    over(_a_saved_state_goes_on)
    over(_a_changed_pool_is_noticed)
    over(_a_label_can_be_corrected)
    over(_padding_changes_no_pick)
    over(_room_for_more_classes_changes_no_pick)
    if reference is not None:
        over(functools.partial(_picks_are_those_of_the_reference, reference), case=case)
    _transforms_agree(strategy, seed)
    _one_compilation_serves_all_values(strategy, seed)
    _another_key(strategy, chance)
    if not _uses_chance(strategy):
        over(_permuted_rows_are_permuted_picks)


def _name(contract) -> str:
    return getattr(contract, "func", contract).__name__.strip("_").replace("_", " ")


def _draw_pool(seed: int, *, ties: bool = True) -> tuple[Pool, np.ndarray, np.ndarray]:
    """A small pool, its true labels, and the rows of a labelled start. With `ties`: duplicates,
    masked rows, rare and missing classes."""
    rng = np.random.default_rng(seed)
    if ties:
        features = rng.integers(0, 3, (ROWS, SIZE)).astype(np.float32)
        features[rng.integers(0, ROWS, 4)] = features[0]
        features[-1] = features[0] + 1
        logits = rng.integers(-2, 3, (ROWS, SOURCE_CLASSES)).astype(np.float32)
        labels = rng.integers(0, rng.integers(1, NUM_CLASSES + 1), ROWS)
    else:
        features = rng.normal(size=(ROWS, SIZE)).astype(np.float32)
        logits = rng.normal(size=(ROWS, SOURCE_CLASSES)).astype(np.float32)
        labels = rng.integers(0, NUM_CLASSES, ROWS)
    return loop.pool(features, logits=logits, keep_logits=True), labels, rng.permutation(ROWS)[:4]


def _limited(pool: Pool, rows: int, seed: int, keep: np.ndarray) -> Pool:
    """The pool with only `rows` candidates besides the rows in `keep`."""
    rng = np.random.default_rng(seed + 1)
    others = rng.permutation(np.setdiff1d(np.arange(ROWS), keep))
    mask = np.zeros(ROWS, bool)
    mask[others[:rows]] = True
    mask[keep] = True
    return replace(pool, candidates=jnp.asarray(mask))


def _simulate(strategy, pool, labels, *, budget, seed=0, start=None, num_classes=NUM_CLASSES):
    labelled = None if start is None else (start, labels[start])
    return loop.simulate(
        strategy,
        pool,
        labels,
        budget=budget,
        num_classes=num_classes,
        key=jax.random.key(seed),
        labelled=labelled,
    )


def _case(seed, case, *, ties=True):
    """A pool with as few candidates as the budget allows, or all of them."""
    budget, started = case
    pool, labels, start = _draw_pool(seed, ties=ties)
    start = start[:started]
    if seed % 2:
        pool = _limited(pool, budget, seed, start)
    return pool, labels, start, budget


def _picks_are_distinct_candidates(strategy, *, seed, case):
    pool, labels, start, budget = _case(seed, case)
    result = _simulate(strategy, pool, labels, budget=budget, start=start)
    picks = np.asarray(result.indices)
    assert picks.dtype == np.int32, f"picks must be int32, got {picks.dtype}"
    assert picks.shape == (budget,), f"{budget} picks were asked for, got shape {picks.shape}"
    assert len(set(picks.tolist())) == budget, f"picks must be distinct, got {picks}"
    assert np.all((picks >= 0) & (picks < ROWS)), f"picks must be rows of the pool, got {picks}"
    assert np.all(np.asarray(pool.candidates)[picks]), f"picks must be candidates, got {picks}"
    assert not set(picks.tolist()) & set(start.tolist()), (
        f"a labelled row was picked again: {picks}, labelled {start}"
    )
    assert np.array_equal(result.labels, labels[picks]), (
        "the labels of a simulation must be those of its picks"
    )


def _simulate_equals_ask_and_tell(strategy, *, seed, case):
    pool, labels, start, budget = _case(seed, case)
    labelled = (start, labels[start])
    key = jax.random.key(seed)
    result = loop.simulate(
        strategy, pool, labels, budget=budget, num_classes=NUM_CLASSES, key=key, labelled=labelled
    )
    state = loop.init(
        strategy, pool, budget=budget, num_classes=NUM_CLASSES, key=key, labelled=labelled
    )
    picks = []
    for _ in range(budget):
        index, state = loop.ask(strategy, pool, state)
        state = loop.tell(strategy, pool, state, index, labels[np.asarray(index)])
        picks += index.tolist()
    assert picks == result.indices.tolist(), (
        f"one at a time: {picks}, simulated: {result.indices.tolist()}"
    )
    if isinstance(strategy, Ordered):
        state = loop.init(
            strategy, pool, budget=budget, num_classes=NUM_CLASSES, key=key, labelled=labelled
        )
        at_once, _ = loop.ask(strategy, pool, state, size=budget)
        assert at_once.tolist() == picks, f"all at once: {at_once.tolist()}, one at a time: {picks}"


def _answers_may_come_late_in_parts_and_in_any_order(strategy, *, seed):
    pool, labels, start = _draw_pool(seed)
    rng = np.random.default_rng(seed)
    budget = CASES[1][0]
    state = loop.init(
        strategy,
        pool,
        budget=budget,
        num_classes=NUM_CLASSES,
        key=jax.random.key(seed),
        labelled=(start, labels[start]),
    )
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


def _midway(strategy, pool, labels, seed, asked=2):
    """A state after a few answers, with `asked` rows pending."""
    state = loop.init(
        strategy, pool, budget=ROWS, num_classes=NUM_CLASSES, key=jax.random.key(seed)
    )
    for _ in range(2):
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
    while int(state.labelled.count) < 11:
        index, state = loop.ask(strategy, pool, state)
        state = loop.tell(strategy, pool, state, index, labels[np.asarray(index)])
        picks += index.tolist()
    return picks


def _a_saved_state_goes_on(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    state = _midway(strategy, pool, labels, seed)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "state.npz")
        save(state, path)
        loaded = load(strategy, pool, path)
    expected, found = (_finish(strategy, pool, labels, each) for each in (state, loaded))
    assert expected == found, f"kept on: {expected}, saved and loaded: {found}"


def _a_changed_pool_is_noticed(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed)
    state = _midway(strategy, pool, labels, seed)
    taken = {*state.labelled.indices.tolist(), *state.pending.indices.tolist()}
    banned = next(row for row in range(ROWS) if row not in taken)
    other, _, _ = _draw_pool(seed + 1)
    changed = replace(other, candidates=jnp.ones(ROWS, bool).at[banned].set(False))
    picks = _finish(strategy, changed, labels, state)
    assert banned not in picks, f"row {banned} was banned and yet asked: {picks}"
    assert not taken & set(picks), f"rows {taken & set(picks)} were asked twice"


def _a_label_can_be_corrected(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    right = _midway(strategy, pool, labels, seed, asked=0)
    first = int(right.labelled.indices[0])
    wrong = labels.copy()
    wrong[first] = (labels[first] + 1) % NUM_CLASSES
    state = loop.init(
        strategy, pool, budget=ROWS, num_classes=NUM_CLASSES, key=jax.random.key(seed)
    )
    asked, state = loop.ask(strategy, pool, state, size=2)
    state = loop.tell(strategy, pool, state, asked, wrong[np.asarray(asked)])
    corrected = loop.tell(strategy, pool, state, asked, labels[np.asarray(asked)])
    fresh = loop.init(
        strategy, pool, budget=ROWS, num_classes=NUM_CLASSES, key=jax.random.key(seed)
    )
    _, fresh = loop.ask(strategy, pool, fresh, size=2)
    fresh = loop.tell(strategy, pool, fresh, asked, labels[np.asarray(asked)])
    found, expected = (_finish(strategy, pool, labels, each) for each in (corrected, fresh))
    assert found == expected, f"corrected: {found}, right from the outset: {expected}"


def _padding_changes_no_pick(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    expected = _simulate(strategy, pool, labels, budget=5, seed=seed).indices
    padded = jax.tree.map(lambda leaf: jnp.pad(leaf, [(0, 3)] + [(0, 0)] * (leaf.ndim - 1)), pool)
    found = _simulate(strategy, padded, np.pad(labels, (0, 3)), budget=5, seed=seed).indices
    assert np.array_equal(expected, found), (
        f"as it is: {expected}, with three masked rows more: {found}"
    )


def _room_for_more_classes_changes_no_pick(strategy, *, seed):
    pool, labels, _ = _draw_pool(seed, ties=False)
    state = _midway(strategy, pool, labels, seed)
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
    expected = np.asarray(_simulate(strategy, pool, labels, budget=5).indices)
    permuted = jax.tree.map(lambda leaf: leaf[order], pool)
    found = order[np.asarray(_simulate(strategy, permuted, labels[order], budget=5).indices)]
    assert np.array_equal(expected, found), f"in order: {expected}, permuted: {found}"


def _picks_are_those_of_the_reference(reference, strategy, *, seed, case):
    # Without ties: a twin in float64 breaks them where float32 cannot see them.
    pool, labels, start, budget = _case(seed, case, ties=False)
    found = _simulate(strategy, pool, labels, budget=budget, start=start).indices.tolist()
    scores = {name: np.asarray(value) for name, value in vars(pool.scores).items()}
    expected = reference(
        np.asarray(pool.features),
        scores,
        np.asarray(pool.candidates),
        labels,
        (start, labels[start]),
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

    def picks(key):
        return loop.simulate(
            strategy, pool, labels, budget=5, num_classes=NUM_CLASSES, key=key
        ).indices

    keys = jax.random.split(jax.random.key(seed), 3)
    single = np.stack([picks(key) for key in keys])
    assert np.array_equal(single, np.stack([picks(key) for key in keys])), (
        "the same key must give the same picks"
    )
    assert np.array_equal(single, jax.vmap(picks)(keys)), (
        "vmapped over keys, the picks must be those of each key"
    )
    jitted = jax.jit(picks)
    assert np.array_equal(single, np.stack([jitted(key) for key in keys])), (
        "inside an outer jit the picks must be the same"
    )
    with jax.disable_jit():
        assert np.array_equal(single[0], picks(keys[0])), "without jit the picks must be the same"


def _one_compilation_serves_all_values(strategy: Strategy, seed: int) -> None:
    """A second simulation of the same shapes with other values compiles nothing, and neither do
    further asks and tells."""
    for number in (seed, seed + 1):
        pool, labels, _ = _draw_pool(number)
        _simulate(strategy, pool, labels, budget=5, seed=number)
        _finish(strategy, pool, labels, _midway(strategy, pool, labels, number))
        if number == seed:
            before = loop.compilations()
    assert loop.compilations() == before, (
        f"other values compiled again: {before} before, {loop.compilations()} after"
    )


def _uses_chance(strategy: Strategy) -> bool:
    """Whether any of six keys gives other picks than the first, on a pool without ties."""
    pool, labels, _ = _draw_pool(0, ties=False)
    keys = range(6)
    return (
        len(
            {
                tuple(_simulate(strategy, pool, labels, budget=5, seed=key).indices.tolist())
                for key in keys
            }
        )
        > 1
    )


def _another_key(strategy: Strategy, chance: bool | None) -> None:
    """Strategies that are said to use chance do, and the others do not."""
    if chance is not None:
        found = _uses_chance(strategy)
        assert found == chance, (
            f"{strategy!r} was said {'' if chance else 'not '}to use chance, and it "
            f"does{'' if found else ' not'}"
        )
