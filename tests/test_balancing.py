import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws
from variations import some

import balal
from balal.kernels import balancing

COUNTS = draws.lists(draws.integers(0, 9), min_size=5, max_size=5)


@given(
    events=draws.lists(
        draws.tuples(draws.integers(-1, 3), draws.integers(-1, 3)), min_size=12, max_size=12
    ),
)
def test_misses_are_counted_since_the_last_hit(events):
    labels, wanted = zip(*events, strict=True)
    found = balancing.misses(jnp.array(labels), jnp.array(wanted), num_classes=4)
    assert found.tolist() == reference.misses(labels, wanted, 4)


@given(counts=COUNTS, missed=COUNTS, rank=COUNTS, patience=draws.sampled_from([None, 1, 3]))
def test_the_wanted_class_is_the_smallest_by_level_count_rank_and_id(
    counts, missed, rank, patience
):
    found = balancing.wanted_class(
        jnp.array(counts), jnp.array(missed), jnp.array(rank), patience=patience
    )
    assert int(found) == reference.wanted_class(counts, missed, rank, patience)


def test_ties_between_classes_go_by_the_rule_that_was_asked_for():
    labels = jnp.array([2, 0, 1, -1])
    counts, none = jnp.array([1, 1, 1]), jnp.zeros(3, int)

    def wanted(ties, seed=0):
        rank = balancing.tie_rank(labels, num_classes=3, key=jax.random.key(seed), ties=ties)
        return int(balancing.wanted_class(counts, none, rank, patience=None))

    assert wanted("lowest") == 0
    assert wanted("first_found") == 2
    assert {wanted("random", seed) for seed in range(20)} == {0, 1, 2}


@given(
    seed=draws.integers(0, 10**6),
    denominator=draws.sampled_from(["min", "max", "mean", "none"]),
    over=draws.integers(0, 15),
)
def test_the_choice_is_the_smallest_ratio_of_the_twin(seed, denominator, over):
    rng = np.random.default_rng(seed)
    features, means = rng.normal(size=(20, 3)), rng.normal(size=(4, 3))
    mask = [bool(over >> c & 1) and c != 2 for c in range(4)]
    candidates = rng.random(20) < 0.7
    distances = ((features[None] - means[:, None]) ** 2).sum(axis=2)
    found = balancing.choose(
        jnp.asarray(distances, jnp.float32),
        2,
        jnp.array(mask),
        jnp.asarray(candidates),
        denominator=denominator,
    )
    ratio = np.where(
        candidates,
        reference.choice_ratio(features, means, 2, np.flatnonzero(mask).tolist(), denominator),
        np.inf,
    )
    assert int(found) == (int(np.argmin(ratio)) if candidates.any() else -1)


@pytest.mark.parametrize("denominator", ["min", "max", "mean"])
def test_a_row_on_an_over_represented_mean_comes_last(denominator):
    distances = jnp.array([[0.0, 9.0, 9.0], [0.0, 9.0, 8.0]])
    assert (
        int(
            balancing.choose(
                distances, 1, jnp.array([True, False]), jnp.ones(3, bool), denominator=denominator
            )
        )
        == 2
    )
    everywhere = jnp.zeros((2, 3))
    picked = balancing.choose(
        everywhere,
        1,
        jnp.array([True, False]),
        jnp.array([False, True, True]),
        denominator=denominator,
    )
    assert int(picked) == 1, "with every ratio infinite the lowest candidate is asked"


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(at_mean="or", ties="first_found"),
        *(
            pytest.param(options, marks=pytest.mark.slow)
            for options in (
                dict(denominator="max", patience=None),
                dict(denominator="mean", patience=1),
                dict(denominator="none", latch=False),
                dict(at_mean="ur", known_classes="all", latch=False),
            )
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("started", some([False, True], kept=[True]))
def test_a_simulation_is_the_twins_on_real_features(embedded, options, started):
    features, scores, labels = embedded
    rows = np.flatnonzero(labels < 12)[:600]
    features, labels = features[rows], labels[rows]
    start = np.arange(0, 600, 40) if started else np.zeros(0, int)
    pool = balal.pool(
        features, scores=balal.Scores(*(jnp.asarray(scores[name][rows]) for name in scores))
    )
    strategy = balal.Balanced(balal.strategy("ent_inv"), **options)
    found = balal.simulate(
        strategy,
        pool,
        labels,
        budget=80,
        num_classes=12,
        key=jax.random.key(0),
        labelled=(start, labels[start]),
    )
    first = np.argsort(scores["entropy"][rows], kind="stable")
    picks, wanted, switched_at = reference.balanced(
        first, features, labels, 80, 12, start=start, **options
    )
    assert int(found.switched_at) == switched_at > 0
    assert found.wanted.tolist() == wanted
    assert found.indices.tolist() == picks


@pytest.mark.parametrize("name", ["offset", "scale"])
def test_neither_an_offset_nor_a_scale_of_the_features_changes_a_pick(embedded, name):
    features, _, labels = (
        part[:400] if isinstance(part, np.ndarray) else part for part in embedded
    )
    features = np.round(features * 16).astype(np.float32)
    changed = features + 1000 if name == "offset" else features * np.float32(1024)

    def picks(features):
        strategy = balal.strategy("random+balance")
        return balal.one_shot(
            strategy,
            balal.pool(features),
            labels,
            budget=100,
            num_classes=100,
            key=jax.random.key(1),
        )

    expected, found = picks(features), picks(changed)
    assert int(expected.switched_at) > 0
    np.testing.assert_array_equal(expected.indices, found.indices)


@pytest.mark.parametrize(
    ("name", "budget", "switched_at", "classes", "ratio"),
    [
        ("ent_inv_div", 500, -1, 94, 0.837),
        ("ent_inv_div+balance", 500, 262, 92, 0.497),
        pytest.param("ent_inv_div+balance", 1000, 570, 96, 0.398, marks=pytest.mark.slow),
        pytest.param("ent_inv_div+balance_printed", 500, 262, 94, 1.073, marks=pytest.mark.slow),
        pytest.param("ent_inv_div+balance_printed", 1000, 570, 99, 0.761, marks=pytest.mark.slow),
    ],
)
def test_the_embedded_pool_gives_the_figures_known_for_it(
    embedded, name, budget, switched_at, classes, ratio
):
    features, scores, labels = embedded
    pool = balal.pool(
        features, scores=balal.Scores(*(jnp.asarray(scores[part]) for part in scores))
    )
    result = balal.one_shot(
        balal.strategy(name), pool, labels, budget=budget, num_classes=100, key=jax.random.key(0)
    )
    assert int(result.switched_at) == switched_at
    assert int(result.classes_found) == classes
    assert float(result.imbalance_ratio) == pytest.approx(ratio, abs=6e-4)
