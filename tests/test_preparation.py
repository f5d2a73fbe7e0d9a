"""What follows from a pool alone is worked out once, kept, and made anew when it is outdated."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal import preparation
from balal.kernels import typicality
from balal.strategies import prepared

KEY = jax.random.key(0)
CALLS = []


@dataclass(frozen=True)
class Middle(balal.Strategy):
    """Asks the rows nearest to the middle of the pool, which it prepares in a pytree of its own."""

    power: int = 2

    @property
    def needs(self):
        return ("features",)

    def prepare(self, pool):
        CALLS.append(self.power)
        mask = jnp.ones(pool.num_rows) if pool.candidates is None else pool.candidates
        mask = mask.astype(jnp.float32)
        middle = mask @ pool.features / jnp.sum(mask)
        return dict(middle=middle, powers=(jnp.abs(pool.features - middle[None, :]) ** self.power,))

    def init(self, pool, labelled, budget, num_classes, key):
        return jnp.sum(prepared(self, pool)["powers"][0], axis=1)

    def ask(self, memory, pool, labelled):
        free = balal.available(pool, labelled)
        index = jnp.argmin(jnp.where(free, memory, jnp.inf)).astype(jnp.int32)
        return balal.Pick(index, jnp.int32(-1)), memory

    def tell(self, memory, pool, index, label):
        return memory


@pytest.fixture
def pool():
    rng = np.random.default_rng(0)
    CALLS.clear()
    return balal.pool(rng.normal(size=(30, 3)).astype(np.float32), logits=rng.normal(size=(30, 4)))


def assert_same(first, second):
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        np.testing.assert_array_equal(one, other)


def simulate(strategy, pool, **changes):
    labels = np.arange(pool.num_rows) % 3
    options = dict(budget=4, num_classes=3, key=KEY) | changes
    return balal.simulate(strategy, pool, labels, **options).indices.tolist()


def test_a_prepared_pool_is_not_prepared_again_and_picks_the_same(pool):
    picks = simulate(Middle(), pool)
    ready = balal.prepare(Middle(), pool)
    CALLS.clear()
    assert simulate(Middle(), ready) == picks
    assert simulate(balal.Balanced(Middle()), ready, budget=6)[:1] == picks[:1]
    assert balal.prepare(Middle(), ready).prepared == ready.prepared
    assert not CALLS
    # Other settings have a key of their own, beside the first.
    both = balal.prepare(Middle(3), ready)
    assert CALLS == [3]
    assert set(both.prepared) == {"Middle()", "Middle(power=3)"}


def test_every_strategy_in_a_strategy_is_prepared():
    features = np.random.default_rng(1).normal(size=(20, 2)).astype(np.float32)
    pool = balal.prepare(balal.Posterior(Middle()), balal.pool(features))
    assert set(pool.prepared) == {"surroundings", "Middle()"}
    np.testing.assert_array_equal(
        pool.prepared["surroundings"].value[0], typicality.typicality_ranks(features)
    )


def test_asks_work_it_out_once_and_again_only_when_features_or_candidates_change(pool):
    state = balal.init(Middle(), pool, budget=12, num_classes=3, key=KEY)
    CALLS.clear()
    for _ in range(3):
        rows, state = balal.ask(Middle(), pool, state)
        state = balal.tell(Middle(), pool, state, rows, [0])
    state = balal.extend(state, budget=14)
    fresh = replace(pool, scores=jax.tree.map(lambda column: column[::-1], pool.scores))
    rows, state = balal.ask(Middle(), fresh, state)
    state = balal.withdraw(state, rows)
    _, state = balal.ask(Middle(), fresh, state)
    assert not CALLS, "neither scores nor withdrawn rows are what it was made from"
    for changed in (
        replace(fresh, candidates=fresh.candidates.at[3].set(False)),
        replace(fresh, features=fresh.features + 1),
    ):
        rows, state = balal.ask(Middle(), changed, state)
        assert CALLS == [2]
        CALLS.clear()
        expected = balal.prepare(Middle(), changed).prepared["Middle()"].value
        assert_same(state.prepared["Middle()"].value, expected)
        CALLS.clear()


def test_what_other_features_have_left_in_the_pool_is_not_used(pool):
    other = replace(balal.prepare(Middle(), pool), features=pool.features[:, ::-1] * 2)
    assert simulate(Middle(), other) == simulate(Middle(), replace(other, prepared={}))
    first, _ = balal.ask(
        Middle(), other, balal.init(Middle(), other, budget=3, num_classes=2, key=KEY)
    )
    assert first.tolist() == simulate(Middle(), other)[:1]


def test_inside_a_transform_it_is_worked_out_in_the_program_or_taken_as_it_comes(pool):
    expected = simulate(Middle(), pool)
    labels = jnp.arange(30) % 3

    def run(features):
        inside = balal.Pool(features)
        options = dict(budget=4, num_classes=3, key=KEY)
        return balal.simulate(Middle(), inside, labels, **options).indices

    assert jax.jit(run)(pool.features).tolist() == expected
    ready = balal.prepare(Middle(), pool)
    CALLS.clear()
    vmapped = jax.vmap(
        lambda key: (
            balal.simulate(Middle(), ready, labels, budget=4, num_classes=3, key=key).indices
        )
    )
    assert vmapped(jax.random.split(KEY, 2)).tolist() == [expected] * 2
    assert not CALLS


def test_it_is_kept_in_a_file_and_made_again_where_that_is_outdated(pool, tmp_path):
    path = tmp_path / "prepared.npz"
    made = balal.prepare(Middle(), pool, path=path)
    CALLS.clear()
    read = balal.prepare(Middle(), pool, path=path)
    assert CALLS == [2], "only its structure is worked out, of shapes"
    assert_same(read.prepared, made.prepared)
    before = path.read_bytes()
    other = replace(pool, features=pool.features * 2)
    anew = balal.prepare(Middle(), other, path=path)
    assert path.read_bytes() != before
    expected = balal.prepare(Middle(), other)
    assert_same(anew.prepared, expected.prepared)
    assert [each.name for each in tmp_path.iterdir()] == ["prepared.npz"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 torn"])
def test_a_file_that_is_something_else_is_left_alone(pool, tmp_path, content):
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.npz"):
        balal.prepare(Middle(), pool, path=path)
    assert path.read_bytes() == content
    np.savez(path, mine=np.ones(3))
    with pytest.raises(ValueError, match=r"mine\.npz was not written by balal\.prepare"):
        balal.prepare(Middle(), pool, path=path)


def test_strategies_without_anything_to_prepare_cost_no_pass_over_the_features(pool, monkeypatch):
    def refuse(_):
        raise AssertionError("the features were read")

    monkeypatch.setattr(preparation, "checksums", refuse)
    assert balal.prepare(balal.strategy("core_set+balance"), pool) is pool
    simulate(balal.strategy("ent"), pool)
