from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as draws
from variations import some

import balal
from balal.kernels import balancing, class_means
from balal.kernels.class_means import bounds, search
from balal.kernels.distances import squared_distances

ROWS, CLASSES = 60, 7
KINDS = {
    "normal": lambda rng: rng.normal(size=(ROWS, 3)),
    "grid": lambda rng: rng.integers(-2, 3, size=(ROWS, 3)),
    "grid far from zero": lambda rng: rng.integers(-2, 3, size=(ROWS, 3)) + 10_000,
    "duplicates": lambda rng: rng.normal(size=(7, 3))[rng.integers(0, 7, ROWS)],
    "all equal": lambda rng: np.ones((ROWS, 3)),
    "two clusters far apart": lambda rng: (
        rng.normal(size=(ROWS, 3)) + rng.choice([-10_000, 10_000], size=(ROWS, 1))
    ),
    "clusters tighter than products can tell": lambda rng: (
        rng.normal(size=(5, 3))[rng.integers(0, 5, ROWS)] + 1e-4 * rng.normal(size=(ROWS, 3))
    ),
}
ALL_CHOOSE = {
    name: jax.jit(class_means.choose, static_argnames="denominator")
    for name in balancing.Denominator.__args__
}


def measured_choice(features, means, wanted, over, candidates, denominator):
    """The pick by sums of squared differences between all rows and all means."""
    distances = jnp.stack([squared_distances(means, row) for row in features], axis=1)
    return int(balancing.choose(distances, wanted, over, candidates, denominator=denominator))


@pytest.mark.slow
@settings(max_examples=20)
@given(
    seed=draws.integers(0, 10**6),
    kind=draws.sampled_from(list(KINDS)),
    scale=draws.sampled_from([2.0**-20, 1.0, 2.0**20]),
    denominator=draws.sampled_from(list(ALL_CHOOSE)),
)
def test_whatever_the_bounds_hold_the_pick_is_that_of_all_measured_distances(
    seed, kind, scale, denominator
):
    rng = np.random.default_rng(seed)
    features = jnp.asarray(KINDS[kind](rng), jnp.float32) * scale
    means = (
        np.array(
            features[rng.integers(0, ROWS, CLASSES)] + features[rng.integers(0, ROWS, CLASSES)]
        )
        / 2
    )
    candidates = jnp.asarray(rng.random(ROWS) < 0.7)
    found = class_means.begin(features, num_classes=CLASSES, candidates=candidates)
    for label in range(CLASSES):
        found = class_means.move(found, jnp.int32(label), jnp.float32(np.inf))
    for _ in range(4):
        wanted, over = jnp.int32(rng.integers(CLASSES)), jnp.asarray(rng.random(CLASSES) < 0.5)
        pick, found = ALL_CHOOSE[denominator](
            found, features, jnp.asarray(means), wanted, over, candidates, denominator=denominator
        )
        assert int(pick) == measured_choice(
            features, jnp.asarray(means), wanted, over, candidates, denominator
        )
        candidates = candidates.at[pick].set(False)
        for label in rng.integers(0, CLASSES, 2):
            step = (features[int(pick)] - means[label]) / np.float32(rng.integers(1, 20))
            means[label] += step
            found = class_means.move(found, jnp.int32(label), jnp.sqrt(jnp.sum(jnp.square(step))))


def set_sizes(monkeypatch, **sizes):
    """Of the blocks, wherever there is a size of that name."""
    for name, size in sizes.items():
        for module in (search, bounds):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, size)


@pytest.mark.parametrize("size", some([1, 7, 1_000], kept=[7]))
def test_any_number_of_rows_and_classes_in_a_block_gives_the_same_pick(monkeypatch, size):
    rng = np.random.default_rng(size)
    features = jnp.asarray(KINDS["normal"](rng), jnp.float32)
    candidates, over = jnp.asarray(rng.random(ROWS) < 0.7), jnp.arange(CLASSES) % 2 > 0
    set_sizes(monkeypatch, _ROWS=size, _CLASSES=size, _FEW=1)
    # Apart from the programs of the other tests, which have blocks of other sizes.
    choose = jax.jit(partial(class_means.choose, denominator="min"))
    found = class_means.begin(features, num_classes=CLASSES)
    for label in range(CLASSES):
        found = class_means.move(found, jnp.int32(label), jnp.inf)
    for wanted in range(CLASSES):
        pick, found = choose(
            found, features, features[:CLASSES], jnp.int32(wanted), over, candidates
        )
        assert int(pick) == measured_choice(
            features, features[:CLASSES], jnp.int32(wanted), over, candidates, "min"
        )
        candidates = candidates.at[pick].set(False)


def test_without_a_wanted_class_nothing_is_chosen_and_the_table_stays():
    features = jnp.eye(4)
    before = class_means.begin(features, num_classes=2)
    pick, after = class_means.choose(
        before, features, jnp.zeros((2, 4)), jnp.int32(-1), jnp.ones(2, bool), jnp.ones(4, bool)
    )
    assert int(pick) == -1
    np.testing.assert_array_equal(before.upper, after.upper)


def test_without_candidates_nothing_is_chosen():
    features = jnp.eye(4)
    pick, _ = class_means.choose(
        class_means.begin(features, num_classes=2),
        features,
        jnp.zeros((2, 4)),
        jnp.int32(0),
        jnp.ones(2, bool),
        jnp.zeros(4, bool),
    )
    assert int(pick) == -1


@pytest.mark.parametrize(
    ("denominator", "sizes"),
    [
        ("min", dict(_CLASSES=2, _FEW=1, _TURNS=1)),
        ("max", dict(_FEW=100)),
        ("mean", dict(_ROWS=100, _TURNS=0)),
    ],
    ids=str,
)
@pytest.mark.slow
def test_how_much_is_brought_up_to_date_at_once_changes_no_pick(
    embedded, monkeypatch, denominator, sizes
):
    features, _, labels = (
        part[:500] if isinstance(part, np.ndarray) else part for part in embedded
    )
    strategy = balal.Balanced(balal.strategy("random"), denominator=denominator)
    pool = balal.pool(features)

    def picks():
        # A function anew each time: the sizes are no argument by which a compiled program could be
        # told from another.
        def program(key):
            return balal.simulation._simulate.__wrapped__(
                strategy, 150, 100, pool, jnp.asarray(labels, jnp.int32), start, key, None
            )

        return jax.jit(program)(jax.random.key(1))

    start = balal.labelled_set.make(np.zeros(0, int), np.zeros(0, int))
    expected = picks()
    set_sizes(monkeypatch, **sizes)
    found = picks()
    assert int(expected.switched_at) > 0
    np.testing.assert_array_equal(expected.indices, found.indices)


@pytest.mark.parametrize("dtype", some([jnp.float16, jnp.bfloat16], kept=[jnp.float16]))
def test_half_precision_features_are_compared_in_float32(embedded, dtype):
    features, _, labels = (
        part[:400] if isinstance(part, np.ndarray) else part for part in embedded
    )
    features = jnp.asarray(features, dtype)

    def picks(features):
        strategy = balal.strategy("random+balance")
        return balal.one_shot(
            strategy,
            balal.pool(features),
            labels,
            budget=100,
            num_classes=100,
            key=jax.random.key(1),
        ).indices

    np.testing.assert_array_equal(picks(features), picks(features.astype(jnp.float32)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_compiled_simulation_ends_where_candidates_hold_what_is_no_number(bad):
    rng = np.random.default_rng(0)
    features, labels = (
        rng.normal(size=(40, 3)).astype(np.float32),
        jnp.asarray(rng.integers(0, 3, 40), jnp.int32),
    )
    features[[3, 11, 20, 31]] = bad

    def program(features):
        pool = balal.Pool(features, candidates=jnp.ones(40, bool))
        return balal.one_shot(
            balal.strategy("random+balance"),
            pool,
            labels,
            budget=30,
            num_classes=3,
            key=jax.random.key(0),
        ).indices

    assert len(set(jax.jit(program)(features).tolist())) == 30


@pytest.mark.parametrize("denominator", some(ALL_CHOOSE, kept=["min"]))
def test_where_products_cannot_tell_rows_apart_all_are_measured_at_once(monkeypatch, denominator):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(200, 8)).astype(np.float32)
    features[:, 0] += rng.choice([-30_000, 30_000], 200)
    features = jnp.asarray(features)
    means, over = features[:CLASSES], jnp.arange(CLASSES) % 2 > 0
    set_sizes(monkeypatch, _MOST=5)
    found = class_means.begin(features, num_classes=CLASSES)
    for label in range(CLASSES):
        found = class_means.move(found, jnp.int32(label), jnp.float32(np.inf))
    # Apart from the programs of the other tests, which measure more one by one.
    pick, _ = jax.jit(partial(class_means.choose, denominator=denominator))(
        found, features, means, jnp.int32(0), over, jnp.arange(200) > 50
    )
    assert int(pick) == measured_choice(
        features, means, jnp.int32(0), over, jnp.arange(200) > 50, denominator
    )


def test_what_is_rarely_needed_is_not_worked_out_beforehand(monkeypatch):
    """A compiler moves what nothing in a loop changes out of it, and then it is worked out even
    where the loop has no round."""
    features = jnp.asarray(np.random.default_rng(0).normal(size=(200, 8)), jnp.float32)
    means, over, candidates = features[:CLASSES], jnp.arange(CLASSES) % 2 > 0, jnp.arange(200) > 50
    found = class_means.begin(features, num_classes=CLASSES)
    for label in range(CLASSES):
        found = class_means.move(found, jnp.int32(label), jnp.inf)
    # So many classes have moved that a block of them is brought up to date, and no single one.
    assert CLASSES > bounds._FEW
    passes = []

    def noted(rows, point, *_):
        def note(point):
            passes.append(len(rows))
            return np.ones(len(rows), np.float32)

        return jax.pure_callback(note, jax.ShapeDtypeStruct((len(rows),), jnp.float32), point)

    def distances(rows, point):
        return noted(rows, point) if len(rows) == 200 else squared_distances(rows, point)

    monkeypatch.setattr(search, "_measured", noted)
    for module in (search, bounds):
        monkeypatch.setattr(module, "squared_distances", distances)
    # Apart from the programs of other tests, which know nothing of the notes.
    jax.jit(partial(class_means.choose, denominator="min"))(
        found, features, means, jnp.int32(0), over, candidates
    )
    assert not passes


def test_many_copies_cost_passes_over_the_features_not_turns():
    features = jnp.asarray(
        np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)[np.arange(3000) % 5]
    )
    labels = np.arange(3000) % 5 // 2
    result = balal.one_shot(
        balal.strategy("random+balance"),
        balal.pool(features),
        labels,
        budget=40,
        num_classes=3,
        key=jax.random.key(0),
    )
    assert int(result.switched_at) > 0
    assert len(set(result.indices.tolist())) == 40


@pytest.mark.slow
def test_extra_memory_is_below_three_tables_of_rows_and_classes():
    rows, num_classes = 17_168, 100

    def program(features, labels, key):
        pool = balal.Pool(features, candidates=jnp.ones(rows, bool))
        return balal.one_shot(
            balal.strategy("random+balance"),
            pool,
            labels,
            budget=2000,
            num_classes=num_classes,
            key=key,
        ).indices

    compiled = (
        jax.jit(program)
        .lower(jnp.zeros((rows, 1280)), jnp.zeros(rows, jnp.int32), jax.random.key(0))
        .compile()
    )
    assert compiled.memory_analysis().temp_size_in_bytes < 3 * rows * num_classes * 4


@pytest.mark.parametrize("dtype", some([np.float32, np.float16], kept=[np.float16]))
@pytest.mark.parametrize("offset", some([0.0, 100.0], kept=[100.0]))
def test_distances_brought_up_to_date_together_are_bounds_and_close_ones(dtype, offset):
    """Near zero rows enter the product as they are, far from it centred, in half precision always
    tile by tile."""
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(1500, 24)) + offset).astype(dtype)
    means = (rng.normal(size=(8, 24)) + offset).astype(np.float32)
    begun = class_means.begin(jnp.asarray(features), num_classes=8)
    assert bool(jnp.any(begun.middle != 0)) == (offset > 0)
    for label in range(8):
        begun = class_means.move(begun, jnp.int32(label), jnp.inf)
    found = bounds.refresh(
        begun, jnp.asarray(features), jnp.asarray(means), jnp.int32(0), jnp.ones(8, bool)
    )
    exact = np.linalg.norm(
        features.astype(np.float64)[None] - means.astype(np.float64)[:, None], axis=2
    )
    assert np.all(np.asarray(found.upper) >= exact * (1 - 1e-6))
    assert np.all(np.asarray(found.upper) <= exact + 1e-3)
