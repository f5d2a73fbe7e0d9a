import dataclasses
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as draws
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from variations import some

import balal
from balal.testing import compilations

ROWS, CLASSES, BUDGET = 20, 4, 12
STRATEGY = balal.strategy("ent_inv+balance")


def small_pool(seed=0, rows=ROWS):
    rng = np.random.default_rng(seed)
    features, logits = (
        rng.normal(size=(rows, 3)).astype(np.float32),
        rng.normal(size=(rows, 5)).astype(np.float32),
    )
    return balal.pool(features, logits=logits), rng.choice(CLASSES, rows, p=[0.6, 0.2, 0.1, 0.1])


def begin(strategy=STRATEGY, pool=None, budget=BUDGET, **others):
    pool = small_pool()[0] if pool is None else pool
    return balal.init(
        strategy, pool, budget=budget, num_classes=CLASSES, key=jax.random.key(0), **others
    )


def assert_same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_a_simulation_without_labelled_rows_reads_the_features_once(monkeypatch):
    read, (pool, labels) = [], small_pool()
    monkeypatch.setattr("balal.check.pools.features", lambda *_, **__: read.append(1))
    for start, times in [(None, 1), (([3], [0]), 2)]:
        read.clear()
        balal.simulate(
            STRATEGY,
            pool,
            labels,
            budget=5,
            num_classes=CLASSES,
            key=jax.random.key(0),
            labelled=start,
        )
        assert len(read) == times


class Histories(RuleBasedStateMachine):
    """Any history of asks, late and partial answers, corrections, bans, refreshed scores, crashes
    and growth."""

    @initialize(seed=draws.integers(0, 20))
    def start(self, seed):
        self.pool, self.labels = small_pool(seed)
        self.state = begin(pool=self.pool)
        self.told, self.pending, self.banned, self.withdrawn = {}, [], set(), set()
        self.features = self.pool.features

    @property
    def left(self):
        return self.state.budget - len(self.told) - len(self.pending)

    @precondition(lambda self: self.left)
    @rule(size=draws.integers(1, 4))
    def ask(self, size):
        indices, self.state = balal.ask(STRATEGY, self.pool, self.state, size=min(size, self.left))
        asked = indices.tolist()
        assert len(set(asked)) == len(asked)
        assert not set(asked) & {*self.told, *self.pending, *self.banned, *self.withdrawn}
        self.pending += asked

    @precondition(lambda self: self.pending)
    @rule(data=draws.data())
    def answer_some(self, data):
        rows = data.draw(draws.lists(draws.sampled_from(self.pending), min_size=1, unique=True))
        self.state = balal.tell(STRATEGY, self.pool, self.state, np.array(rows), self.labels[rows])
        self.told |= {row: int(self.labels[row]) for row in rows}
        self.pending = [row for row in self.pending if row not in rows]

    @precondition(lambda self: self.told)
    @rule(data=draws.data(), label=draws.integers(0, CLASSES - 1))
    def correct(self, data, label):
        row = data.draw(draws.sampled_from(list(self.told)))
        self.state = balal.tell(STRATEGY, self.pool, self.state, [row], [label])
        self.told[row] = label

    @precondition(lambda self: len(self.banned) < 4)
    @rule(data=draws.data())
    def ban(self, data):
        row = data.draw(
            draws.sampled_from(
                [
                    row
                    for row in range(ROWS)
                    if row not in {*self.told, *self.banned, *self.withdrawn}
                ]
            )
        )
        self.banned.add(row)
        self.pool = dataclasses.replace(
            self.pool, candidates=self.pool.candidates.at[row].set(False)
        )

    @rule(seed=draws.integers(0, 20))
    def retrain(self, seed):
        self.pool = dataclasses.replace(small_pool(seed)[0], candidates=self.pool.candidates)

    @precondition(lambda self: self.pending and len(self.withdrawn) < 3)
    @rule(data=draws.data())
    def withdraw(self, data):
        row = data.draw(draws.sampled_from(self.pending))
        self.state = balal.withdraw(self.state, [row])
        self.pending.remove(row)
        self.withdrawn.add(row)

    @precondition(lambda self: self.withdrawn)
    @rule(data=draws.data())
    def restore(self, data):
        row = data.draw(draws.sampled_from(sorted(self.withdrawn)))
        self.state = balal.restore(self.state, [row])
        self.withdrawn.remove(row)

    @precondition(lambda self: self.state.budget == BUDGET)
    @rule()
    def extend(self):
        self.state = balal.extend(self.state, budget=BUDGET + 1)

    @precondition(lambda self: self.state.num_classes == CLASSES)
    @rule()
    def make_room(self):
        self.state = balal.grow(STRATEGY, self.state, CLASSES + 2)

    @rule()
    def crash_and_resume(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/state.npz"
            balal.save(self.state, path)
            try:
                self.state = balal.load(STRATEGY, self.pool, path)
            except ValueError as error:
                assert "belongs to a pool of other features" in str(error)  # noqa: PT017
                assert not np.array_equal(self.features, self.pool.features)
                self.state = balal.load(STRATEGY, self.pool, path, rows=np.arange(ROWS))
        self.features = self.pool.features

    @invariant()
    def the_books_are_right(self):
        if not hasattr(self, "state"):
            return
        count = int(self.state.labelled.count)
        rows = self.state.labelled.indices[:count].tolist()
        assert (
            dict(zip(rows, self.state.labelled.labels[:count].tolist(), strict=True)) == self.told
        )
        assert self.state.pending.indices[: int(self.state.pending.count)].tolist() == self.pending
        assert set(np.flatnonzero(self.state.withdrawn).tolist()) == self.withdrawn
        counts = np.bincount(list(self.told.values()), minlength=self.state.num_classes)
        if self.state.memory is not None:
            np.testing.assert_array_equal(self.state.memory.counts, counts)


Histories.TestCase.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, derandomize=True
)
test_any_history_keeps_the_books = Histories.TestCase


@pytest.mark.slow
def test_pending_rows_are_taken_for_the_class_they_were_asked_for():
    pool, labels = small_pool(3, 60)
    state = balal.init(STRATEGY, pool, budget=30, num_classes=CLASSES, key=jax.random.key(0))
    result = balal.simulate(
        STRATEGY, pool, labels, budget=30, num_classes=CLASSES, key=jax.random.key(0)
    )
    before = int(result.switched_at)
    rows, state = balal.ask(STRATEGY, pool, state, size=before)
    state = balal.tell(STRATEGY, pool, state, rows, labels[np.asarray(rows)])
    _, state = balal.ask(STRATEGY, pool, state, size=6)
    wanted = np.asarray(state.pending.wanted[:6])
    counts = np.bincount(labels[np.asarray(rows)], minlength=CLASSES)
    for hope in wanted:
        known = np.flatnonzero(counts > 0)
        assert hope == known[np.argmin(counts[known])], (
            "each guess enters the counts of the next pick in the batch"
        )
        counts[hope] += 1
    np.testing.assert_array_equal(
        state.memory.counts, np.bincount(labels[np.asarray(rows)], minlength=CLASSES)
    )


def test_a_late_answer_is_charged_to_the_class_its_row_was_asked_for():
    pool, labels = small_pool(3, 60)
    state = balal.init(STRATEGY, pool, budget=30, num_classes=CLASSES, key=jax.random.key(0))
    switched_at = int(
        balal.simulate(
            STRATEGY, pool, labels, budget=30, num_classes=CLASSES, key=jax.random.key(0)
        ).switched_at
    )
    rows, state = balal.ask(STRATEGY, pool, state, size=switched_at)
    state = balal.tell(STRATEGY, pool, state, rows, labels[np.asarray(rows)])
    rows, state = balal.ask(STRATEGY, pool, state, size=4)
    asked_for = state.pending.wanted[:4].tolist()
    state = balal.tell(STRATEGY, pool, state, rows[::-1], labels[np.asarray(rows[::-1])])
    assert state.labelled.wanted[switched_at : switched_at + 4].tolist() == asked_for[::-1]


def test_a_query_of_another_size_compiles_nothing():
    pool, labels = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=4)
    state = balal.tell(STRATEGY, pool, state, rows, labels[np.asarray(rows)])
    before = compilations()
    for size in (1, 3, 2):
        rows, state = balal.ask(STRATEGY, pool, state, size=size)
        assert rows.shape == (size,)
    assert compilations() == before


def test_the_same_label_again_changes_nothing():
    pool, labels = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=4)
    state = balal.tell(STRATEGY, pool, state, rows, labels[np.asarray(rows)])
    assert_same(state, balal.tell(STRATEGY, pool, state, rows[:2], labels[np.asarray(rows[:2])]))


def test_new_and_corrected_answers_may_come_together():
    pool, labels = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=4)
    rows = np.asarray(rows)
    state = balal.tell(STRATEGY, pool, state, rows[:2], (labels[rows[:2]] + 1) % CLASSES)
    state = balal.tell(STRATEGY, pool, state, rows, labels[rows])
    np.testing.assert_array_equal(state.labelled.indices[:4], rows)
    np.testing.assert_array_equal(state.labelled.labels[:4], labels[rows])
    np.testing.assert_array_equal(state.memory.counts, np.bincount(labels[rows], minlength=CLASSES))


def test_a_bad_answer_leaves_the_state_as_it_was():
    pool, _ = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=2)
    before = jax.tree.map(lambda leaf: leaf, state)
    with pytest.raises(ValueError, match="must lie in"):
        balal.tell(STRATEGY, pool, state, rows, [0, CLASSES])
    assert_same(state, before)


def test_refreshed_scores_decide_the_next_picks():
    strategy = balal.strategy("ent")
    pool, labels = small_pool()
    rows, state = balal.ask(strategy, pool, begin(strategy), size=3)
    state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    fresh = small_pool(9)[0]
    found, _ = balal.ask(strategy, fresh, state, size=5)
    expected = [
        row
        for row in np.argsort(-np.asarray(fresh.scores.entropy), kind="stable")
        if row not in rows.tolist()
    ][:5]
    assert found.tolist() == expected


def test_core_set_keeps_away_from_pending_rows_after_a_refresh():
    strategy = balal.strategy("core_set")
    pool, _ = small_pool()
    rows, state = balal.ask(strategy, pool, begin(strategy), size=3)
    fresh = small_pool(9)[0]
    found, _ = balal.ask(strategy, fresh, state, size=4)
    expected = balal.k_center(fresh.features, 4, labelled=rows).indices
    np.testing.assert_array_equal(found, expected)


def test_an_unchanged_pool_is_recognised_however_it_was_made():
    pool, _ = small_pool()
    _, state = balal.ask(STRATEGY, pool, begin(), size=2)
    same = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf).copy()), pool)
    first, second = (balal.ask(STRATEGY, each, state, size=3) for each in (pool, same))
    assert_same(first, second)


@pytest.mark.parametrize("part", ["features", "entropy", "candidates", "swapped rows"])
def test_any_changed_part_of_the_pool_changes_its_fingerprint(part):
    pool, _ = small_pool()
    changed = {
        "features": lambda: dataclasses.replace(pool, features=pool.features.at[7, 1].add(1e-6)),
        "entropy": lambda: dataclasses.replace(
            pool,
            scores=dataclasses.replace(pool.scores, entropy=pool.scores.entropy.at[3].mul(1.001)),
        ),
        "candidates": lambda: dataclasses.replace(
            pool, candidates=pool.candidates.at[19].set(False)
        ),
        "swapped rows": lambda: dataclasses.replace(
            pool, features=pool.features.at[jnp.array([2, 5])].set(pool.features[jnp.array([5, 2])])
        ),
    }[part]()
    assert not np.array_equal(balal.pools.checksums(pool), balal.pools.checksums(changed))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (jnp.float32, [3672409079, 7908095]),
        (jnp.bfloat16, [317768864, 1029862818]),
        (jnp.bool_, [3057320742, 3338432205]),
    ],
)
def test_checksums_are_those_in_saved_states(dtype, expected):
    table = (jnp.arange(120_000).reshape(40_000, 3) % 1009).astype(dtype)
    assert balal.pools.checksums((table, table[:, 0])).tolist() == expected


def test_a_pool_that_grew_goes_on_with_the_new_rows():
    strategy = balal.strategy("ent")
    pool, labels = small_pool()
    rows, state = balal.ask(strategy, pool, begin(strategy), size=4)
    state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    larger = balal.pool(
        jnp.concatenate([pool.features, jnp.ones((2, 3))]),
        scores=jax.tree.map(
            lambda column: jnp.concatenate([column, column.max(keepdims=True).repeat(2) + 1]),
            pool.scores,
        ),
    )
    found, _ = balal.ask(strategy, larger, state, size=2)
    assert found.tolist() == [20, 21]


def test_a_class_beyond_the_capacity_needs_grow_and_then_goes_on():
    pool, _ = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=2)
    with pytest.raises(ValueError, match=r"balal\.grow"):
        balal.tell(STRATEGY, pool, state, rows, [0, 6])
    state = balal.grow(STRATEGY, state, 7)
    state = balal.tell(STRATEGY, pool, state, rows, [0, 6])
    assert state.memory.counts.tolist() == [1, 0, 0, 0, 0, 0, 1]


def test_a_labelled_start_does_not_count_as_bought():
    pool, labels = small_pool()
    start = np.array([3, 5, 8])
    state = begin(labelled=(start, labels[start]), budget=5)
    rows, state = balal.ask(STRATEGY, pool, state, size=5)
    assert not set(rows.tolist()) & set(start.tolist())
    result = balal.simulate(
        STRATEGY,
        pool,
        labels,
        budget=5,
        num_classes=CLASSES,
        key=jax.random.key(0),
        labelled=(start, labels[start]),
    )
    assert int(result.counts.sum()) == 8
    assert result.indices.shape == (5,)


@pytest.mark.slow
def test_a_padded_start_is_the_same_as_a_packed_one():
    pool, labels = small_pool()
    start = np.array([3, 5, 8])
    padded = balal.Labelled(
        jnp.array([3, 5, 8, -1, -1]), jnp.array([*labels[start], -1, -1]), jnp.int32(3)
    )

    def run(labelled):
        return balal.simulate(
            STRATEGY,
            pool,
            labels,
            budget=8,
            num_classes=CLASSES,
            key=jax.random.key(0),
            labelled=labelled,
        )

    packed = run((start, labels[start]))
    for other in (run(padded), jax.jit(run)(padded)):
        np.testing.assert_array_equal(packed.indices, other.indices)
        assert int(packed.switched_at) == int(other.switched_at)


@pytest.mark.slow
def test_seeds_can_be_simulated_together():
    pool, labels = small_pool(1, 50)
    strategy = balal.strategy("random+balance")
    keys = jax.random.split(jax.random.key(0), 3)

    def run(key):
        return balal.simulate(strategy, pool, labels, budget=20, num_classes=CLASSES, key=key)

    together = jax.vmap(run)(keys)
    for lane, key in enumerate(keys):
        assert_same(jax.tree.map(lambda leaf, lane=lane: leaf[lane], together), run(key))


def test_a_saved_state_is_one_file_without_pickles(tmp_path):
    _, state = balal.ask(STRATEGY, small_pool()[0], begin(), size=3)
    balal.save(state, tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["state"]
    with np.load(tmp_path / "state", allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_every_truncation_of_a_saved_state_is_refused(tmp_path):
    pool, _ = small_pool()
    path = tmp_path / "state.npz"
    balal.save(begin(), path)
    whole = path.read_bytes()
    for length in [*range(0, 200, 7), *range(200, len(whole), max(1, len(whole) // 40))]:
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="not a saved state"):
            balal.load(STRATEGY, pool, path)


def test_a_file_that_is_something_else_is_refused(tmp_path):
    pool, _ = small_pool()
    with pytest.raises(FileNotFoundError, match=r"there is no file .*: name a saved state"):
        balal.load(STRATEGY, pool, tmp_path / "absent.npz")
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    np.savez(tmp_path / "objects.npz", format=np.array([{"a": 1}], object))
    np.save(tmp_path / "plain.npy", np.ones(3))
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as file:
        file.writestr("format.txt", "hello")
    for name in ("other.npz", "objects.npz", "plain.npy", "text.npz"):
        with pytest.raises(ValueError, match="not a saved state"):
            balal.load(STRATEGY, pool, tmp_path / name)


def test_a_state_of_another_strategy_or_with_damaged_records_is_refused(tmp_path):
    pool, _ = small_pool()
    path = tmp_path / "state.npz"
    balal.save(balal.ask(STRATEGY, pool, begin(), size=3)[1], path)
    with pytest.raises(ValueError, match="was saved with Balanced"):
        balal.load(balal.strategy("ent"), pool, path)
    with np.load(path) as file:
        arrays = dict(file)
    for name, value in [
        ("pending_indices", 99),
        ("labelled_labels", CLASSES),
        ("pending_count", 7),
        ("format", 3),
        ("withdrawn", 2),
        ("num_classes", 0),
    ]:
        damaged = arrays | {name: np.full_like(arrays[name], value)}
        np.savez(path, **damaged)
        with pytest.raises(ValueError, match=r"state\.npz"):
            balal.load(STRATEGY, pool, path)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("budget", lambda found: found - 10, "its budget of .* does not fit"),
        ("budget", lambda found: found + 0.5, "its budget is not one whole number"),
        ("budget", lambda found: np.bool_(True), "its budget is not one whole number"),
        ("num_classes", lambda found: found[None], "its num_classes is not one whole number"),
        (
            "pending_indices",
            lambda found: np.where(found >= 0, np.arange(len(found)), -1),
            "labelled and pending at once",
        ),
        ("labelled_labels", lambda found: found.astype(float), "are not whole numbers"),
        ("key_kind", lambda found: np.str_("unknown"), "unknown"),
        ("key", lambda found: found[:1], "key"),
        ("pool", lambda found: found.astype(float), "its pool is not a list of checksums"),
        ("start_labels", lambda found: np.where(found > 0, 0, found), "are not the first labelled"),
        ("labelled_indices", lambda found: found[::-1], "count says"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(name, change, said, tmp_path):
    pool, labels = small_pool()
    path, start = tmp_path / "state.npz", (np.arange(3), labels[:3])
    state = balal.init(
        STRATEGY, pool, budget=12, num_classes=CLASSES, key=jax.random.key(0), labelled=start
    )
    balal.save(balal.ask(STRATEGY, pool, state, size=2)[1], path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **(arrays | {name: change(arrays[name])}))
    with pytest.raises(ValueError, match=r"its contents are not those that were saved"):
        balal.load(STRATEGY, pool, path)
    del arrays["sha256"]  # As an earlier version wrote it.
    np.savez(path, **arrays)
    balal.load(STRATEGY, pool, path)
    np.savez(path, **(arrays | {name: change(arrays[name])}))
    with pytest.raises(ValueError, match=f"state.npz is not a saved state.*{said}"):
        balal.load(STRATEGY, pool, path)


def test_flipped_bytes_of_a_saved_state_never_change_it(tmp_path):
    """300 files in which one byte is another: refused in one sentence, or the same state."""
    pool, labels = small_pool()
    path, start = tmp_path / "state.npz", (np.arange(3), labels[:3])
    state = begin(pool=pool, labelled=start)
    state = balal.ask(STRATEGY, pool, state, size=2)[1]
    balal.save(state, path)
    whole, rng, same = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = balal.load(STRATEGY, pool, path)
        except ValueError as error:
            assert "not a saved state" in str(error)  # noqa: PT017
        else:
            assert_same(found, state)
            same += 1
    assert 0 < same < 150


def test_a_state_that_claims_more_than_its_pool_can_need_is_not_unpacked(tmp_path):
    pool, _ = small_pool()
    path = tmp_path / "state.npz"
    balal.save(begin(), path)
    with np.load(path) as file:
        arrays = dict(file)
    np.savez_compressed(path, **(arrays | dict(labelled_labels=np.zeros(3 * 10**7, np.int32))))
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"its arrays take 120\d+ bytes, more than"):
        balal.load(STRATEGY, pool, path)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


def test_a_pool_of_other_rows_is_refused_until_it_is_said_where_they_are(tmp_path):
    pool, labels = small_pool()
    path, picks = tmp_path / "state.npz", []
    indices, state = balal.ask(STRATEGY, pool, begin(pool=pool), size=3)
    balal.save(balal.tell(STRATEGY, pool, state, indices, labels[indices]), path)
    order = np.random.default_rng(1).permutation(pool.num_rows)
    moved = jax.tree.map(lambda values: values[order], pool)
    with pytest.raises(ValueError, match=r"a pool of other features: say with rows= where each"):
        balal.load(STRATEGY, moved, path)
    for there, rows in ((pool, None), (moved, np.argsort(order))):
        state = balal.load(STRATEGY, there, path, rows=rows)
        picks.append(np.asarray(balal.ask(STRATEGY, there, state, size=5)[0]))
    np.testing.assert_array_equal(picks[0], order[picks[1]])
    fewer = jax.tree.map(lambda values: values[:-1], pool)
    with pytest.raises(ValueError, match=r"of 20 rows, and this one has 19: say with rows="):
        balal.load(STRATEGY, fewer, path)


def test_more_rows_and_other_scores_are_no_other_pool(tmp_path):
    pool, _ = small_pool()
    balal.save(begin(pool=pool), tmp_path / "state.npz")
    more = jax.tree.map(lambda values: jnp.concatenate([values, values[:2]]), pool)
    for other in (more, dataclasses.replace(pool, scores=jax.tree.map(jnp.flip, pool.scores))):
        state = balal.load(STRATEGY, other, tmp_path / "state.npz")
        expected = balal.ask(STRATEGY, other, begin(pool=other), size=4)[0]
        np.testing.assert_array_equal(balal.ask(STRATEGY, other, state, size=4)[0], expected)


def test_a_failed_save_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    balal.save(begin(), path)
    before = path.read_bytes()
    monkeypatch.setattr(
        "balal.array_file.np.savez_compressed",
        lambda *_, **__: (_ for _ in ()).throw(OSError("disk full")),
    )
    with pytest.raises(OSError, match="disk full"):
        balal.save(begin(), path)
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["state.npz"]


@pytest.mark.slow
def test_a_labelled_start_says_nothing_about_what_was_wanted_jitted_or_not():
    pool, labels = small_pool(3, 60)

    def run(labelled):
        key = jax.random.key(0)
        return balal.simulate(
            STRATEGY, pool, labels, budget=20, num_classes=CLASSES, key=key, labelled=labelled
        )

    first = run(None)
    start = balal.Labelled(first.indices, first.labels, jnp.int32(20), first.wanted)
    assert np.any(np.asarray(first.wanted) >= 0)
    for other in (
        run(start),
        jax.jit(run)(start),
        jax.jit(lambda: run((first.indices, first.labels)))(),
    ):
        np.testing.assert_array_equal(other.indices, run((first.indices, first.labels)).indices)


def test_labels_of_rows_that_are_no_candidates_need_not_be_known():
    pool, labels = small_pool()
    pool = dataclasses.replace(pool, candidates=jnp.arange(ROWS) < 15)
    labels = np.where(np.arange(ROWS) < 15, labels, -1)
    result = balal.simulate(
        STRATEGY, pool, labels, budget=15, num_classes=CLASSES, key=jax.random.key(0)
    )
    assert sorted(result.indices.tolist()) == list(range(15))
    with pytest.raises(ValueError, match="row 3 has others"):
        balal.simulate(
            STRATEGY,
            pool,
            np.where(np.arange(ROWS) == 3, -1, labels),
            budget=5,
            num_classes=CLASSES,
            key=jax.random.key(0),
        )


@pytest.mark.parametrize(
    "name", some(["ent_inv_div", "core_set+balance"], kept=["core_set+balance"])
)
def test_a_smaller_pool_still_gives_what_is_left_once_its_rows_are_mapped(name):
    strategy = balal.strategy(name)
    pool, labels = small_pool()
    rows, state = balal.ask(strategy, pool, begin(strategy, budget=14), size=2)
    state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    kept = np.sort([*rows.tolist(), *np.setdiff1d(np.arange(ROWS), rows)[::2]])
    smaller = jax.tree.map(lambda leaf: leaf[kept], pool)
    with pytest.raises(ValueError, match=f"has {len(kept)} rows and had {ROWS}"):
        balal.ask(strategy, smaller, state)
    moved = np.full(ROWS, -1)
    moved[kept] = np.arange(len(kept))
    state = balal.remap(state, moved, num_rows=len(kept))
    assert kept[np.asarray(state.labelled.indices[:2])].tolist() == rows.tolist()
    found, _ = balal.ask(strategy, smaller, state, size=len(kept) - 2)
    asked = [*found.tolist(), *state.labelled.indices[:2].tolist()]
    assert sorted(asked) == list(range(len(kept)))


def test_rows_that_have_moved_are_taken_along_and_pending_ones_that_are_gone_forgotten():
    pool, labels = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(), size=5)
    rows = rows.tolist()
    state = balal.tell(STRATEGY, pool, state, rows[:2], labels[rows[:2]])
    state = balal.withdraw(state, rows[2:3])
    order = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(ROWS), rows[3:4]))
    moved = np.full(ROWS, -1)
    moved[order] = np.arange(ROWS - 1)
    other = jax.tree.map(lambda leaf: leaf[order], pool)
    state = balal.remap(state, moved, num_rows=ROWS - 1)
    found, state = balal.ask(STRATEGY, other, state, size=9)
    assert order[np.asarray(state.labelled.indices[:2])].tolist() == rows[:2]
    assert order[int(state.pending.indices[0])] == rows[4]
    assert moved[rows[2]] not in found.tolist()
    assert not {int(moved[row]) for row in (*rows[:2], rows[4])} & set(found.tolist())


def test_a_budget_may_be_extended_while_rows_are_pending():
    pool, labels = small_pool()
    rows, state = balal.ask(STRATEGY, pool, begin(budget=4), size=4)
    with pytest.raises(ValueError, match="0 of 4"):
        balal.ask(STRATEGY, pool, state)
    more, state = balal.ask(STRATEGY, pool, balal.extend(state, budget=7), size=3)
    assert not set(more.tolist()) & set(rows.tolist())
    both = np.concatenate([rows, more])
    state = balal.tell(STRATEGY, pool, state, both, labels[both])
    assert int(state.labelled.count) == 7


@pytest.mark.slow
def test_every_pending_row_has_its_reason_after_saving_too(tmp_path):
    strategy = balal.strategy("random+posterior")
    pool, labels = small_pool(1, 60)
    rows, state = balal.ask(strategy, pool, begin(strategy, pool, budget=20), size=12)
    state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    _, state = balal.ask(strategy, pool, state, size=3)
    told = balal.reasons(strategy, pool, state, target_names=["ant", "bee", "cat", "dog"])
    assert len(told) == 3
    for text, wanted in zip(told, state.pending.wanted[:3].tolist(), strict=True):
        assert ["ant", "bee", "cat", "dog"][wanted] in text
    balal.save(state, tmp_path / "state.npz")
    loaded = balal.load(strategy, pool, tmp_path / "state.npz")
    assert told == balal.reasons(strategy, pool, loaded, target_names=["ant", "bee", "cat", "dog"])


@pytest.mark.parametrize(
    ("name", "next_picks"),
    [("ent_inv_div+balance", [37, 27, 32, 26]), ("random+posterior", [39, 19, 15, 5])],
)
def test_a_state_saved_in_the_first_format_goes_on(name, next_picks):
    rng = np.random.default_rng(5)
    features = rng.normal(size=(40, 3)).astype(np.float32)
    pool = balal.pool(features, logits=rng.normal(size=(40, 5)).astype(np.float32))
    labels = np.arange(40) % 4
    # The posterior of that time has another name now.
    strategy = balal.strategy(name.replace("posterior", "posterior_0_1"))
    path = Path(__file__).parent / "states" / f"format_1_{name}.npz"
    state = balal.load(strategy, pool, path)
    rows = state.pending.indices[: int(state.pending.count)]
    state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    assert balal.ask(strategy, pool, state, size=4)[0].tolist() == next_picks
    with pytest.raises(ValueError, match="was saved with"):
        balal.load(dataclasses.replace(strategy, first=balal.strategy("lc")), pool, path)


def test_a_setting_that_comes_later_leaves_saved_states_readable(tmp_path):
    def strategy(*, later):
        fields = [("depth", int, 1), *([("width", float, 0.5)] if later else [])]
        return dataclasses.make_dataclass(
            "Mine", fields, bases=(type(balal.strategy("ent")),), frozen=True
        )

    old, new = strategy(later=False), strategy(later=True)
    pool, _ = small_pool()
    state = begin(old(score="margin", depth=2), pool)
    balal.save(state, tmp_path / "state.npz")
    loaded = balal.load(new(score="margin", depth=2), pool, tmp_path / "state.npz")
    assert loaded.strategy == "Mine(score='margin', depth=2)"
    for other in (new(score="margin"), new(score="margin", depth=2, width=0.6)):
        with pytest.raises(ValueError, match=r"was saved with Mine\(score='margin', depth=2\)"):
            balal.load(other, pool, tmp_path / "state.npz")


@pytest.mark.slow
def test_everything_works_in_double_precision():
    program = """
import jax, numpy as np, balal
jax.config.update("jax_enable_x64", True)
rng = np.random.default_rng(0)
pool = balal.pool(rng.normal(size=(40, 3)), logits=rng.normal(size=(40, 5)))
labels, key = rng.integers(0, 3, 40), jax.random.key(0)
strategy = balal.strategy("core_set+balance")
result = balal.simulate(strategy, pool, labels, budget=20, num_classes=3, key=key)
state, picks = balal.init(strategy, pool, budget=20, num_classes=3, key=key), []
for _ in range(20):
    index, state = balal.ask(strategy, pool, state)
    state = balal.tell(strategy, pool, state, index, labels[np.asarray(index)])
    picks += index.tolist()
assert picks == result.indices.tolist() and int(result.switched_at) > 0
assert result.indices.dtype == np.int32
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
