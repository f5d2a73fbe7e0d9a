"""REFINE: which rows survive the filter, and who chooses among them."""

import jax
import numpy as np
import pytest
import reference

import balal
from balal.strategies import Posterior, Random, Refine, Uncertainty

KEY = jax.random.key(0)
ENT, ENT_INV = Uncertainty("entropy"), Uncertainty("entropy", inverted=True)
ROWS = 60


def pool_by_lead():
    """The higher the row, the more certain."""
    rng = np.random.default_rng(0)
    lead = np.linspace(0, 5, ROWS, dtype=np.float32)
    features = rng.normal(size=(ROWS, 3)).astype(np.float32)
    return balal.pool(features, logits=np.outer(lead, [1, 0])), features


def picks_of(strategy, budget=6, key=KEY):
    pool, _ = pool_by_lead()
    options = dict(budget=budget, num_classes=2, key=key, capacity=12)
    return balal.one_shot(strategy, pool, np.arange(ROWS) % 2, **options).indices.tolist()[:budget]


def test_what_no_strategy_asks_for_does_not_survive():
    whole = Refine((ENT, ENT_INV), cover=Random(), rounds=1, batches=1, share=1.0)
    picks = picks_of(whole)
    assert set(picks) <= {*range(6), *range(54, 60)}
    assert len(set(picks)) == 6
    # Another budget asks for other rows.
    assert set(picks_of(whole, budget=3)) <= {*range(3), *range(57, 60)}


def test_parts_let_more_rows_survive_and_further_rounds_fewer():
    def highest(**settings):
        strategy = Refine((ENT,), cover=ENT_INV, share=0.4, **settings)
        return max(picks_of(strategy, key=key)[0] for key in jax.random.split(KEY, 3))

    # `cover` takes the most certain of what the filter left.
    assert highest(rounds=0, batches=5) == ROWS - 1
    assert highest(rounds=8, batches=3) < highest(rounds=1, batches=3) < 40


def test_a_round_that_would_leave_too_few_rows_does_not_count():
    strategy = Refine((ENT,), cover=ENT_INV, rounds=3, batches=1, share=0.05)
    assert picks_of(strategy) == [59, 58, 57, 56, 55, 54]


def test_the_rest_is_covered():
    pool, features = pool_by_lead()
    strategy = Refine((ENT,), rounds=1, batches=1, share=1.0)
    picks = picks_of(strategy)
    among = np.arange(ROWS) < 6
    expected, _ = reference.k_center(features, 6, first=picks[0], candidates=among)
    assert picks == expected
    state = balal.init(strategy, pool, budget=12, num_classes=2, key=KEY)
    _, state = balal.ask(strategy, pool, state)
    assert balal.loop.reasons(strategy, pool, state) == [
        "left after 1 round of filtering; farthest from everything before it"
    ]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (dict(strategies=()), "at least one strategy"),
        (dict(cover=Posterior()), "rank the pool in one shot"),
        (dict(share=0), "above 0"),
        (dict(batches=0), "at least 1, got 0"),
    ],
)
def test_settings_are_checked(settings, said):
    with pytest.raises(ValueError, match=said):
        Refine(**settings)
