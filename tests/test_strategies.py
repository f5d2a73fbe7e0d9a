import dataclasses
from itertools import cycle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from variations import some

import balal
from balal.strategies import RULES, STRATEGIES, Uncertainty, names

PLAIN = [
    *["random", "ent", "ms", "lc", "ent_inv", "ms_inv", "lc_inv", "ent_div", "ms_div", "lc_div"],
    *["ent_inv_div", "ms_inv_div", "lc_inv_div", "core_set"],
    *["k_means_plus_plus", "typiclust", "prob_cover", "max_herding", "u_herding"],
]
# Those that go by what a target model predicts.
OF_THE_TARGET_MODEL = [
    "cbal",
    "cbal_core_set",
    "badge",
    "cluster_margin",
    "bald",
    "variation_ratio",
    "tail_first",
    "ms_balanced",
    "galaxy",
    "direct",
    "tailor",
]


def small_pool(seed=0, rows=40):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, 4)).astype(np.float32)
    logits = rng.normal(size=(rows, 2, 5)).astype(np.float32)
    return balal.pool(features, logits=logits, keep_logits=True), rng.integers(0, 5, rows)


def picks_of(name, pool, labels, budget=20, seed=0):
    return balal.one_shot(
        balal.strategy(name), pool, labels, budget=budget, num_classes=5, key=jax.random.key(seed)
    ).indices.tolist()


def test_the_published_names_are_registered_plain_and_balanced():
    assert list(STRATEGIES) == [
        *PLAIN,
        "posterior",
        "posterior_0_1",
        *OF_THE_TARGET_MODEL,
        "similar",
        "refine",
    ]
    assert set(names()) == {
        name + rule
        for name in STRATEGIES
        for rule in ("", "+balance", "+balance_printed", "+posterior", "+posterior_0_1")
    }


@pytest.mark.parametrize("name", names())
def test_a_registered_name_is_a_frozen_value(name):
    strategy = balal.strategy(name)
    assert isinstance(strategy, balal.Strategy)
    assert strategy == balal.strategy(name)
    assert hash(strategy) == hash(balal.strategy(name))
    with pytest.raises(dataclasses.FrozenInstanceError):
        strategy.first = None


@pytest.mark.parametrize(
    "name",
    some(
        [name for name in PLAIN if isinstance(STRATEGIES[name], Uncertainty)],
        kept=["ent", "ms_inv", "lc_div", "ent_inv_div"],
    ),
)
def test_uncertainty_strategies_order_by_their_score(name):
    pool, labels = small_pool()
    score = {"ent": "entropy", "ms": "margin", "lc": "least_confidence"}[name.partition("_")[0]]
    values = np.asarray(getattr(pool.scores, score)) * (1 if "inv" in name else -1)
    everywhere = np.ones(pool.num_rows, bool)
    if "div" in name:
        expected = reference.diversify(values, np.asarray(pool.scores.predicted), 20, everywhere)
    else:
        expected = reference.ordered(values, 20, everywhere)
    assert picks_of(name, pool, labels) == expected


@pytest.mark.parametrize(
    "name",
    some(
        [
            "random+posterior",
            "core_set+balance_printed",
            "posterior+balance",
            "ent+posterior",
            "lc_div+balance",
        ],
        kept=["posterior+balance"],
    ),
)
def test_a_composed_name_spends_its_budget(name):
    pool, labels = small_pool(1, 24)
    picks = picks_of(name, pool, labels, budget=12)
    assert len(set(picks)) == 12
    assert min(picks) >= 0


@pytest.mark.parametrize(
    "name",
    some(
        [f"{first}+{rule}" for first, rule in zip(STRATEGIES, cycle(RULES), strict=False)],
        kept=["random+balance"],
    ),
)
def test_every_strategy_makes_a_program_with_a_rule(name):
    """Traced, not compiled, with one rule each: what is compiled differs from the names above in
    the order of the first strategy only."""
    pool, labels = small_pool(1, 24)
    options = dict(budget=12, num_classes=6)
    traced = jax.make_jaxpr(
        lambda key: balal.one_shot(balal.strategy(name), pool, labels, key=key, **options).indices
    )(jax.random.key(0))
    assert [(out.shape, out.dtype) for out in traced.out_avals] == [((12,), "int32")]


def test_core_set_is_greedy_k_center_from_a_random_row():
    pool, labels = small_pool()
    picks = picks_of("core_set", pool, labels)
    assert picks == reference.k_center(pool.features, 20, first=picks[0])[0]
    assert len({picks_of("core_set", pool, labels, seed=seed)[0] for seed in range(8)}) > 2


@pytest.mark.slow
def test_a_balanced_strategy_begins_like_its_first():
    pool, labels = small_pool(2)
    for first in ("random", "core_set"):
        plain, balanced = (
            picks_of(name, pool, labels, budget=30, seed=3) for name in (first, f"{first}+balance")
        )
        result = balal.one_shot(
            balal.strategy(f"{first}+balance"),
            pool,
            labels,
            budget=30,
            num_classes=5,
            key=jax.random.key(3),
        )
        switched_at = int(result.switched_at)
        assert 0 < switched_at < 30
        assert plain[:switched_at] == balanced[:switched_at]
        assert np.all(np.asarray(result.wanted)[:switched_at] == -1)
        assert np.all(np.asarray(result.wanted)[switched_at:] >= 0)


def test_random_sampling_is_uniform_over_the_candidates():
    pool = balal.pool(jnp.arange(8.0)[:, None], candidates=np.arange(8) != 5)
    run = jax.vmap(
        lambda key: (
            balal.simulate(
                balal.strategy("random"), pool, jnp.zeros(8, int), budget=2, num_classes=1, key=key
            ).indices
        )
    )
    counts = np.bincount(
        np.asarray(run(jax.random.split(jax.random.key(0), 2000))).ravel(), minlength=8
    )
    assert counts[5] == 0
    expected = 4000 / 7
    assert ((np.delete(counts, 5) - expected) ** 2 / expected).sum() < 27.9, (
        "chi-squared with 6 degrees, false alarm 1e-4"
    )


def test_an_ordered_strategy_without_an_order_says_so():
    class Forgetful(balal.Ordered):
        @property
        def needs(self):
            return ()

    with pytest.raises(TypeError, match="Forgetful must implement order"):
        balal.one_shot(
            Forgetful(),
            balal.pool(jnp.eye(3)),
            jnp.zeros(3, int),
            budget=1,
            num_classes=1,
            key=jax.random.key(0),
        )
