"""TAILOR: rewards, who is credited, and what is drawn."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal
from balal.strategies import Random, Tailor, Uncertainty, tailor

KEY = jax.random.key(0)
CASES = json.loads((Path(__file__).parent / "vectors" / "tailor.json").read_text())["cases"]
ENT, ENT_INV = Uncertainty("entropy"), Uncertainty("entropy", inverted=True)


@pytest.mark.parametrize("case", CASES)
def test_rewards_are_the_documented_ones(case):
    worths, new = tailor.worths(jnp.array(case["counts"]))
    np.testing.assert_allclose(worths, case["worths"], rtol=1e-6)
    assert float(new) == 1
    rewards = tailor.mean_rewards(jnp.array(case["posteriors"], jnp.float32), worths)
    np.testing.assert_allclose(rewards, case["mean_rewards"], rtol=1e-5)
    assert int(rewards.argmax()) == case["preferred"]


def test_without_labels_every_class_is_worth_one():
    assert tailor.worths(jnp.zeros(2, jnp.int32))[0].tolist() == [1, 1]


def test_draws_are_as_frequent_as_the_posterior_says():
    found = jnp.array([[8.0, 1, 0], [2, 5, 0]])
    counts = jnp.array([6, 2, 0])
    keys = jax.random.split(KEY, 4000)
    drawn = jax.jit(jax.vmap(lambda key: tailor._drawn_rewards(key, found, counts)))(keys)
    rng = np.random.default_rng(0)
    worth = np.array([-1 / 6, 1 / 2, 1])
    expected = np.stack(
        [rng.dirichlet([9, 2, 1], 4000) @ worth, rng.dirichlet([3, 6, 1], 4000) @ worth], axis=1
    )
    np.testing.assert_allclose(drawn.mean(axis=0), expected.mean(axis=0), atol=0.02)
    first, other = ((each[:, 0] > each[:, 1]).mean() for each in (drawn, expected))
    assert abs(first - other) < 0.03


def pool_of_certain_rare_rows():
    """30 rows, of which the most certain are of a rare class."""
    lead = np.linspace(0, 4, 30, dtype=np.float32)
    return balal.pool(None, logits=np.outer(lead, [1, 0])), (lead > 2.5).astype(int)


def test_strategies_that_would_have_asked_are_credited():
    pool, labels = pool_of_certain_rare_rows()
    strategy = Tailor((ENT, ENT_INV, ENT), batch=2, decay=0.5)
    state = balal.init(
        strategy, pool, budget=4, num_classes=2, key=KEY, labelled=([15], labels[[15]])
    )
    found = np.zeros((3, 2))
    low, high = 0, 29
    for number in range(4):
        rows, state = balal.ask(strategy, pool, state)
        row = int(rows[0])
        assert row in (low, high)
        arms, label = ([0, 2], 0) if row == low else ([1], 1)
        low, high = low + (row == low), high - (row == high)
        found[arms, label] += 1
        found *= 0.5 if number % 2 else 1
        state = balal.tell(strategy, pool, state, rows, labels[[row]])
        assert state.memory.found.tolist() == found.tolist()


def test_it_turns_to_the_strategy_that_finds_the_rare_class():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(300) < 270, 0, np.arange(300) % 5 + 1)
    lead = np.where(labels == 0, rng.random(300), 2 + rng.random(300)).astype(np.float32)
    pool = balal.pool(None, logits=np.outer(lead, [1, 0]))
    options = dict(budget=25, num_classes=6, key=KEY, labelled=(np.arange(5), labels[:5]))
    found = balal.simulate(Tailor((ENT, ENT_INV)), pool, labels, **options)
    # One of ten rows is rare.
    assert np.sum(labels[np.asarray(found.indices)] > 0) >= 15


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(strategies=()), "at least one strategy"),
        (dict(strategies=[Random()]), "must be a tuple"),
        (dict(decay=1.5), "between 0 and 1, got 1.5"),
        (dict(batch=0), "at least 1, got 0"),
    ],
)
def test_settings_are_checked(settings, said):
    with pytest.raises(ValueError, match=said):
        Tailor(**settings)


def test_it_needs_what_its_strategies_need():
    assert Tailor().needs == ("scores", "logits")
    assert Tailor((Random(),)).needs == ()
