"""The posterior: the rank-one steps against one solve in float64, the bounded form, and what its
words promise."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from hypothesis import given
from hypothesis import strategies as draws
from variations import some

import balal
from balal import strategies
from balal.kernels import gaussian_process, typicality

# Most tests have pools of this many rows and features, room for as many labels and classes, and as
# many landmarks if any: the same few programs serve them all.
ROWS, FEATURES, CAPACITY, CLASSES, LANDMARKS = 60, 5, 45, 4, 10


def begin(features, **options):
    return gaussian_process.begin(features, capacity=CAPACITY, num_classes=CLASSES, **options)


def told(process, rows, labels):
    for row, label in zip(rows, labels, strict=True):
        process = gaussian_process.update(process, row, label)
    return process


@given(seed=draws.integers(0, 2**31 - 1), count=draws.integers(0, 20), duplicates=draws.booleans())
def test_steps_add_up_to_the_closed_form(seed, count, duplicates):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    if duplicates:
        features[rng.integers(0, ROWS, 20)] = features[0]
    rows, labels = rng.permutation(ROWS)[:count], rng.integers(0, CLASSES, count)
    process = told(begin(features), rows, labels)
    mean, variance = reference.posterior(features, rows, labels, CLASSES)
    np.testing.assert_allclose(process.mean.T, mean, atol=2e-5)
    np.testing.assert_allclose(process.variance, variance, atol=2e-5)
    assert process.counts.tolist() == np.bincount(labels, minlength=CLASSES).tolist()
    assert int(process.count) == count


@pytest.mark.parametrize("noise", [0.01, 0.2, 1.0])
@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0, (2.0, 1.0, 0.5)])
def test_two_hundred_steps_stay_exact(noise, scale):
    rng = np.random.default_rng(0)
    features = rng.normal(size=(300, 16)).astype(np.float32) * np.linspace(
        3, 0.1, 16, dtype=np.float32
    )
    rows, labels = rng.permutation(300)[:200], rng.integers(0, 6, 200)
    process = gaussian_process.begin(
        features, capacity=200, num_classes=6, noise=noise, scale=scale
    )
    process = jax.lax.fori_loop(
        0,
        200,
        lambda m, process: gaussian_process.update(
            process, jnp.array(rows)[m], jnp.array(labels)[m]
        ),
        process,
    )
    mean, variance = reference.posterior(features, rows, labels, 6, noise=noise, scale=scale)
    np.testing.assert_allclose(process.mean.T, mean, atol=1e-3)
    np.testing.assert_allclose(process.variance, variance, atol=1e-4)


@given(
    seed=draws.integers(0, 2**31 - 1),
    sizes=draws.lists(draws.integers(1, 9), min_size=1, max_size=5),
)
@pytest.mark.parametrize("landmarks", [None, LANDMARKS])
def test_some_labels_at_a_time_are_as_many_single_ones(landmarks, seed, sizes):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows, labels = rng.permutation(ROWS)[: sum(sizes)], rng.integers(0, CLASSES, sum(sizes))
    begun = begin(features, landmarks=landmarks)
    together, place = begun, 0
    for size in sizes:
        padding = rng.permutation(9) < size
        some_rows, some_labels = np.zeros(9, np.int32), np.full(9, -1, np.int32)
        some_rows[padding], some_labels[padding] = (
            rows[place : place + size],
            labels[place : place + size],
        )
        together, place = gaussian_process.update(together, some_rows, some_labels), place + size
    single = told(begun, rows, labels)
    # At rows that have their label already the bounded form is not exact.
    asked = np.arange(ROWS) if landmarks is None else np.setdiff1d(np.arange(ROWS), rows)
    mean, variance = (
        [np.asarray(getattr(process, name))[..., asked] for process in (together, single)]
        for name in ("mean", "variance")
    )
    np.testing.assert_allclose(*mean, atol=2e-5)
    np.testing.assert_allclose(*variance, atol=2e-5)
    assert together.counts.tolist() == single.counts.tolist()
    # The next label finds the columns where it expects them.
    row = np.setdiff1d(np.arange(ROWS), rows)[0]
    after = [
        np.asarray(gaussian_process.update(process, row, 1).mean)[:, asked]
        for process in (together, single)
    ]
    np.testing.assert_allclose(*after, atol=2e-5)


@pytest.mark.parametrize("landmarks", [None, LANDMARKS])
def test_a_process_on_some_rows_goes_on_as_the_whole_one_does_there(landmarks):
    rng = np.random.default_rng(12)
    features, rows, labels = (
        rng.normal(size=(300, 4)).astype(np.float32),
        rng.permutation(300)[:200],
        rng.integers(0, 3, 200),
    )
    process = told(
        gaussian_process.begin(features, capacity=200, num_classes=3, landmarks=landmarks),
        rows[:150],
        labels[:150],
    )
    some = np.sort(np.concatenate([rows[150:], np.setdiff1d(np.arange(300), rows)[:20]]))
    part = gaussian_process.restrict(process, some)
    part = told(part, np.searchsorted(some, rows[150:]), labels[150:])
    whole = told(process, rows[150:], labels[150:])
    np.testing.assert_allclose(part.mean, whole.mean[:, some], atol=1e-5)
    np.testing.assert_allclose(part.variance, whole.variance[some], atol=1e-5)


@given(seed=draws.integers(0, 2**31 - 1), count=draws.integers(0, 6))
def test_a_local_process_goes_on_as_the_whole_one_and_says_what_an_answer_teaches(seed, count):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows, labels = rng.permutation(ROWS)[:12], rng.integers(0, CLASSES, 12)
    process = told(begin(features), rows[:6], labels[:6])
    # The rows to be labelled come first.
    places = np.concatenate([rows[6:], rng.integers(0, ROWS, 10)])
    local = gaussian_process.localise(process, jnp.asarray(places, jnp.int32), 6)
    for place in range(count):
        local = gaussian_process.learn(local, jnp.int32(place), jnp.int32(labels[6 + place]))
    whole = told(process, rows[6 : 6 + count], labels[6 : 6 + count])
    np.testing.assert_allclose(local.mean, whole.mean[:, places], atol=2e-5)
    np.testing.assert_allclose(local.variance, whole.variance[places], atol=2e-5)
    np.testing.assert_allclose(local.hits, whole.hits, atol=1e-5)
    assert local.counts.tolist() == whole.counts.tolist()
    assert (int(local.count), float(local.noise)) == (6 + count, float(whole.noise))

    known, seen = rows[: 6 + count], labels[: 6 + count]
    covariance = reference.posterior_covariance(features, known)
    np.testing.assert_allclose(local.covariance, covariance[np.ix_(places[:6], places)], atol=2e-5)
    mean = reference.posterior(features, known, seen, CLASSES)[0][places]
    worth, best = rng.random(16).astype(np.float32), np.maximum(mean, 0).max(axis=1)
    found = gaussian_process.coverage_gain(
        local, jnp.asarray(worth), jnp.asarray(best, jnp.float32)
    )
    among = covariance[np.ix_(places, places)]
    expected = reference.coverage_gain(among, np.diag(among), 0.1, worth, best)
    np.testing.assert_allclose(found, expected[:6], atol=1e-4)


@pytest.mark.parametrize("together", [1, 5])
def test_hits_are_labels_of_the_class_that_was_likeliest_before(together):
    """One at a time or several at once."""
    features = np.repeat(np.eye(3, dtype=np.float32), 10, axis=0)
    rows = np.array([0, 1, 10, 11, 12, 20, 2, 13, 21, 3])
    labels = np.array([0, 0, 1, 1, 2, 2, 0, 1, 2, 1])
    # The first of each class comes unexpected, the third of the second point and the last are
    # others than before.
    right = np.array([0, 1, 0, 1, 0, 0, 1, 1, 1, 0])
    process = gaussian_process.begin(features, capacity=10, num_classes=3)
    for first in range(0, 10, together):
        some = slice(first, first + together)
        process = gaussian_process.update(process, rows[some], labels[some])
    later = 0.95 ** np.arange(9, -1, -1)
    np.testing.assert_allclose(process.hits, [np.sum(right * later), np.sum(later)], rtol=1e-5)


@given(
    seed=draws.integers(0, 2**31 - 1),
    sharpness=draws.sampled_from([1, 2, 4]),
    classes=draws.sampled_from([1, 6, 21]),
)
def test_the_expected_worth_is_that_of_the_twin(seed, sharpness, classes):
    rng = np.random.default_rng(seed)
    mean = rng.normal(0.2, 0.3, size=(12, classes)).astype(np.float32)
    worth, unseen = rng.random(classes).astype(np.float32), np.float32(rng.random())
    expected, best = gaussian_process.expected_worth(
        jnp.asarray(mean.T), jnp.asarray(worth), jnp.asarray(unseen), sharpness=sharpness
    )
    ones = np.ones(len(mean))
    np.testing.assert_allclose(
        expected, reference.utility(np.float64(mean), ones, worth, unseen, sharpness), atol=1e-5
    )
    np.testing.assert_allclose(best, np.maximum(mean, 0).max(axis=1))


@pytest.mark.parametrize(
    ("kind", "twin"),
    [
        (balal.Posterior, reference.posterior_picks),
        (balal.strategies.Posterior01, reference.posterior_0_1_picks),
    ],
)
@pytest.mark.parametrize(
    ("every", "near"),
    [
        (4, 6),
        pytest.param(16, 3, marks=pytest.mark.slow),
        *(pytest.param(*sizes, marks=pytest.mark.nightly) for sizes in [(1, 90), (16, 90)]),
    ],
)
def test_between_two_looks_at_the_whole_pool_the_near_rows_are_asked(kind, twin, every, near):
    rng = np.random.default_rng(13)
    labels = rng.choice(5, 90, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    features = (2 * rng.normal(size=(5, 6))[labels] + rng.normal(size=(90, 6))).astype(np.float32)
    start = (np.array([3, 50, 71]), labels[[3, 50, 71]])
    strategy = kind(every=every, near=near)
    bought = balal.simulate(
        strategy,
        balal.pool(features),
        labels,
        budget=40,
        num_classes=5,
        key=jax.random.key(0),
        labelled=start,
    )
    expected = twin(features, labels, 40, 5, begin=0, start=start, every=every, near=near)
    assert bought.indices.tolist() == expected


@pytest.mark.parametrize(("near", "looked_at"), [(39, 8), (40, 0)])
def test_a_pool_that_is_near_as_a_whole_is_not_looked_at_again(near, looked_at):
    pool = balal.pool(np.random.default_rng(14).normal(size=(40, 3)).astype(np.float32))
    strategy = balal.Posterior(near=near, every=4)
    state = balal.init(strategy, pool, budget=12, num_classes=4, key=jax.random.key(0))
    for _ in range(9):
        rows, state = balal.ask(strategy, pool, state)
        state = balal.tell(strategy, pool, state, rows, rows % 4)
    assert (int(state.memory.process.count), int(state.memory.near.process.count)) == (looked_at, 8)


@pytest.mark.slow
def test_more_rows_are_asked_at_once_than_are_near():
    pool = balal.pool(np.random.default_rng(14).normal(size=(40, 3)).astype(np.float32))
    strategy = balal.Posterior(near=3)
    state = balal.init(strategy, pool, budget=40, num_classes=4, key=jax.random.key(0))
    rows, state = balal.ask(strategy, pool, state, size=40)
    assert sorted(np.asarray(rows)) == list(range(40))


@pytest.mark.parametrize("begin", some(["posterior", "random+posterior"], kept=["posterior"]))
def test_picks_depend_on_the_answers_alone_not_on_what_was_looked_at_before(begin, tmp_path):
    """Kept on, saved and loaded, and begun anew with the same answers: the same next rows."""
    rng = np.random.default_rng(15)
    features, labels = rng.normal(size=(60, 3)).astype(np.float32), rng.integers(0, 4, 60)
    pool, strategy = (
        balal.pool(features),
        dataclasses.replace(balal.strategy(begin), start=3, every=4, near=5),
    )
    arguments = dict(budget=40, num_classes=4, key=jax.random.key(0))
    state = balal.init(strategy, pool, **arguments)
    for _ in range(4):
        rows, state = balal.ask(strategy, pool, state, size=4)
        # Answers come in the reverse order, when the rows are no longer near.
        rows = np.asarray(rows)[::-1]
        state = balal.tell(strategy, pool, state, rows, labels[rows])
        balal.save(state, tmp_path / "state.npz")
        loaded = balal.load(strategy, pool, tmp_path / "state.npz")
        assert (
            balal.ask(strategy, pool, loaded, size=4)[0].tolist()
            == balal.ask(strategy, pool, state, size=4)[0].tolist()
        )
    rows = np.asarray(state.labelled.indices)[:16]
    fresh = balal.init(
        strategy, pool, labelled=(rows, labels[rows]), **(arguments | dict(budget=24))
    )
    assert (
        balal.ask(strategy, pool, fresh, size=4)[0].tolist()
        == balal.ask(strategy, pool, state, size=4)[0].tolist()
    )


@pytest.mark.slow
def test_it_follows_a_first_strategy_that_looks_at_answers():
    rng = np.random.default_rng(16)
    labels = rng.choice(5, 150, p=[0.5, 0.25, 0.15, 0.07, 0.03])
    pool = balal.pool(
        (2 * rng.normal(size=(5, 4))[labels] + rng.normal(size=(150, 4))).astype(np.float32)
    )
    first, arguments = (
        balal.strategy("random+balance"),
        dict(budget=30, num_classes=5, key=jax.random.key(1)),
    )
    alone = balal.one_shot(first, pool, labels, **arguments)
    together = balal.one_shot(balal.Posterior(first, start=30), pool, labels, **arguments)
    assert 0 <= int(alone.switched_at) < 30
    assert together.indices.tolist() == alone.indices.tolist()


@pytest.mark.slow
def test_a_first_query_larger_than_the_start_is_all_of_the_first_strategy():
    pool = balal.pool(np.random.default_rng(17).normal(size=(50, 3)).astype(np.float32))
    arguments = dict(budget=30, num_classes=4, key=jax.random.key(2))
    rows = [
        balal.ask(strategy, pool, balal.init(strategy, pool, **arguments), size=20)[0].tolist()
        for strategy in (balal.strategy("random"), balal.strategy("random+posterior"))
    ]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_classes_beyond_the_target_are_worth_its_mean():
    features = np.random.default_rng(18).normal(size=(40, 3)).astype(np.float32)
    pool, arguments = balal.pool(features), dict(budget=12, num_classes=3, key=jax.random.key(0))
    strategy, labels = balal.Posterior(target=(1.0, 0.0, 0.5)), np.arange(40) % 5
    state = balal.init(strategy, pool, **arguments)
    for _ in range(3):
        rows, state = balal.ask(strategy, pool, state)
        state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)] % 3)
    state = balal.grow(strategy, state, 5)
    longer = dataclasses.replace(strategy, target=(1.0, 0.0, 0.5, 0.5, 0.5))
    known = (np.asarray(state.labelled.indices)[:3], np.asarray(state.labelled.labels)[:3])
    same = balal.init(longer, pool, labelled=known, budget=9, num_classes=5, key=jax.random.key(0))
    assert (
        balal.ask(strategy, pool, state, size=5)[0].tolist()
        == balal.ask(longer, pool, same, size=5)[0].tolist()
    )
    with pytest.raises(ValueError, match="5 weights for 3 classes"):
        balal.init(longer, pool, **arguments)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (dict(sharpness=9), "at most 8"),
        (dict(landmarks=0), "landmarks must be a whole number of at least 1"),
        (dict(every=0), "every must be a whole number of at least 1"),
        (dict(target=(1.0, float("inf"))), "finite"),
        (dict(target=()), "finite"),
    ],
)
def test_settings_out_of_range_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        balal.Posterior(**settings)


def test_landmarks_take_over_where_exact_columns_would_be_more_and_too_many(monkeypatch):
    monkeypatch.setattr(strategies.looks, "_EXACT", 400)
    monkeypatch.setattr(strategies.looks, "_LANDMARKS", 8)
    pool = balal.pool(np.random.default_rng(19).normal(size=(45, 3)).astype(np.float32))

    def relation(budget):
        state = balal.init(
            balal.Posterior(every=2), pool, budget=budget, num_classes=3, key=jax.random.key(0)
        )
        return state.memory.process.relation

    assert isinstance(relation(8), gaussian_process.Exact)
    assert isinstance(relation(10), gaussian_process.Landmarks)


@pytest.mark.nightly
def test_half_precision_features_are_taken():
    rng = np.random.default_rng(20)
    features, labels = rng.integers(-8, 9, (60, 4)).astype(np.float32), rng.integers(0, 3, 60)
    picks = [
        balal.one_shot(
            balal.Posterior(),
            balal.pool(jnp.array(features, dtype)),
            labels,
            budget=20,
            num_classes=3,
            key=jax.random.key(0),
        )
        for dtype in (jnp.float32, jnp.bfloat16)
    ]
    assert picks[0].indices.tolist() == picks[1].indices.tolist()


def test_padding_and_the_order_of_the_labels_change_nothing():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    rows, labels = np.array([3, 7, 0]), np.array([1, 0, 1])
    plain = told(gaussian_process.begin(features, capacity=3, num_classes=CLASSES), rows, labels)
    other = told(
        begin(features),
        [7, 5, 0, 2, 3],
        [0, -1, 1, -1, 1],
    )
    np.testing.assert_allclose(plain.mean, other.mean, atol=1e-6)
    np.testing.assert_allclose(plain.variance, other.variance, atol=1e-6)
    assert int(other.count) == 3


def test_rows_that_are_no_candidates_say_nothing_about_the_pool():
    rng = np.random.default_rng(2)
    features = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    others = np.full((6, FEATURES), 50, np.float32)
    padded, some = np.concatenate([features, others]), jnp.arange(ROWS + 6) < ROWS
    padded[-4:] = np.nan
    plain = told(begin(features), [1, 4], [0, 1])
    masked = told(begin(padded, candidates=some), [1, 4], [0, 1])
    np.testing.assert_allclose(plain.mean, masked.mean[:, :ROWS], atol=1e-6)
    np.testing.assert_allclose(plain.variance, masked.variance[:ROWS], atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_an_offset_common_to_all_rows_changes_nothing(dtype):
    features = jnp.array(np.random.default_rng(3).integers(-4, 5, (ROWS, FEATURES)), dtype)
    near = told(begin(features), [0, 1, 2], [0, 1, 1])
    far = told(begin(features.astype(jnp.float32) + 10_000), [0, 1, 2], [0, 1, 1])
    np.testing.assert_allclose(near.mean, far.mean, atol=1e-4)


@pytest.mark.parametrize("landmarks", [None, LANDMARKS])
def test_the_scale_of_the_features_changes_nothing(landmarks):
    """Scaled by powers of two nothing is rounded, so that not even the last digit differs."""
    features = np.random.default_rng(21).normal(size=(ROWS, FEATURES)).astype(np.float32)
    features[30:] = features[0]
    rows, labels = np.array([0, 1, 30]), np.array([0, 1, 1])
    plain, small, large = (
        told(begin(features * scale, landmarks=landmarks), rows, labels)
        for scale in np.float32([1, 2**-20, 2**20])
    )
    jax.tree.map(np.testing.assert_array_equal, *map(jax.tree.leaves, (plain, small)))
    jax.tree.map(np.testing.assert_array_equal, *map(jax.tree.leaves, (plain, large)))
    np.testing.assert_array_equal(
        typicality.typicality_ranks(features),
        typicality.typicality_ranks(features * np.float32(2**20)),
    )


@pytest.mark.nightly
@pytest.mark.parametrize(("landmarks", "sizes"), [(None, (1, 7, 1_000)), (9, (7,))])
def test_any_number_of_parts_and_groups_says_the_same(monkeypatch, landmarks, sizes):
    rng = np.random.default_rng(22)
    features, rows, labels = (
        rng.normal(size=(50, 5)).astype(np.float32),
        rng.permutation(50)[:24].reshape(4, 6),
        rng.integers(0, 9, (4, 6)),
    )

    def said():
        # A function anew: the sizes are no argument by which a compiled program could be told from
        # another.
        def program(features, rows, labels):
            process = gaussian_process.begin.__wrapped__(
                features, capacity=24, num_classes=9, landmarks=landmarks
            )
            process, _ = jax.lax.scan(
                lambda process, told: (gaussian_process.update.__wrapped__(process, *told), None),
                process,
                (rows, labels),
            )
            part = gaussian_process.restrict.__wrapped__(process, rows[0])
            return (
                process.mean,
                process.variance,
                gaussian_process.utility.__wrapped__(process, jnp.arange(9.0), 1.0),
                part.mean,
                part.variance,
            )

        return jax.jit(program)(features, rows, labels)

    expected = said()
    for size in sizes:
        for module, name in (
            (gaussian_process.columns, "_PARTS"),
            (gaussian_process.columns, "_PART"),
            (gaussian_process.process, "_GROUPS"),
            (gaussian_process.predictions, "_TOGETHER"),
        ):
            monkeypatch.setattr(module, name, size)
        # The features of landmarks are all but noiseless looks, which magnify the last digit.
        jax.tree.map(
            partial(np.testing.assert_allclose, atol=2e-5 if landmarks is None else 2e-3),
            expected,
            said(),
        )


def test_a_pool_of_one_point_is_explained_by_one_label():
    process = told(
        begin(jnp.full((ROWS, FEATURES), 0.1), noise=1e-6),
        [2],
        [1],
    )
    probabilities, unexplained = gaussian_process.explain(process)
    np.testing.assert_allclose(probabilities, np.tile([0.0, 1.0, 0.0, 0.0], (ROWS, 1)), atol=1e-3)
    np.testing.assert_allclose(unexplained, 0, atol=1e-3)
    np.testing.assert_allclose(process.variance, 0, atol=1e-3)


@given(seed=draws.integers(0, 2**31 - 1), sharpness=draws.integers(1, 8))
def test_probabilities_and_the_unexplained_mass_sum_to_one(seed, sharpness):
    rng = np.random.default_rng(seed)
    process = told(
        begin(rng.normal(size=(ROWS, FEATURES)).astype(np.float32)),
        range(6),
        rng.integers(0, CLASSES, 6),
    )
    probabilities, unexplained = gaussian_process.explain(process, sharpness=sharpness)
    assert np.min(probabilities) >= 0
    assert np.min(unexplained) >= 0
    np.testing.assert_allclose(np.sum(probabilities, axis=1) + unexplained, 1, atol=1e-5)
    expected, left = reference.explain(np.asarray(process.mean.T, np.float64), sharpness)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_allclose(unexplained, left, atol=1e-5)


def test_landmarks_that_are_all_rows_give_the_exact_form():
    rng = np.random.default_rng(4)
    features, rows, labels = (
        rng.normal(size=(ROWS, FEATURES)).astype(np.float32),
        np.arange(12),
        rng.integers(0, CLASSES, 12),
    )
    exact = told(begin(features), rows, labels)
    bounded = told(begin(features, landmarks=ROWS), rows, labels)
    np.testing.assert_allclose(exact.mean, bounded.mean, atol=2e-3)
    np.testing.assert_allclose(exact.variance, bounded.variance, atol=2e-3)


@pytest.mark.parametrize("number", [1, LANDMARKS])
def test_the_bounded_form_is_that_of_the_twin(number):
    rng = np.random.default_rng(number)
    features, candidates = rng.normal(size=(ROWS, FEATURES)), rng.random(ROWS) < 0.8
    rows, labels = rng.permutation(ROWS)[:9], rng.integers(0, CLASSES, 9)
    process = begin(features.astype(np.float32), candidates=candidates, landmarks=number)
    process = told(process, rows, labels)
    mean, variance = reference.posterior(
        features, rows, labels, CLASSES, candidates=candidates, landmarks=number
    )
    others = np.setdiff1d(np.arange(ROWS), rows)
    np.testing.assert_allclose(process.mean.T[others], mean[others], atol=2e-3)
    np.testing.assert_allclose(process.variance[others], variance[others], atol=2e-3)


@given(seed=draws.integers(0, 2**31 - 1), sharpness=draws.integers(1, 4))
def test_the_utility_is_that_of_the_twin(seed, sharpness):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(9, 2)).astype(np.float32)
    process = told(
        gaussian_process.begin(features, capacity=6, num_classes=23),
        range(6),
        rng.integers(0, 23, 6),
    )
    worth, unseen = rng.random(23), rng.random()
    found = gaussian_process.utility(
        process, jnp.asarray(worth, jnp.float32), jnp.float32(unseen), sharpness=sharpness
    )
    mean, variance = np.float64(process.mean.T), np.float64(process.variance)
    expected = reference.utility(mean, variance, worth, unseen, sharpness)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_more_landmarks_come_nearer_to_the_exact_form():
    rng = np.random.default_rng(5)
    features = (rng.normal(size=(200, 12)) * np.geomspace(1, 0.05, 12)).astype(np.float32)
    rows, labels = rng.permutation(200)[:60], rng.integers(0, 4, 60)
    exact = told(gaussian_process.begin(features, capacity=60, num_classes=4), rows, labels)
    errors = []
    for landmarks in (8, 32, 128):
        bounded = told(
            gaussian_process.begin(features, capacity=60, num_classes=4, landmarks=landmarks),
            rows,
            labels,
        )
        errors.append(float(np.abs(exact.mean - bounded.mean).mean()))
        assert np.min(bounded.variance) >= 0
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01


def test_the_bounded_form_keeps_what_the_landmarks_leave_out_apart():
    features = jnp.array([[5.0, 0.0], [5.0, 0.1], [-5.0, 0.0], [0.0, 1.0]])
    process = gaussian_process.begin(features, capacity=1, num_classes=2, landmarks=1, noise=1e-6)
    process = gaussian_process.update(process, 3, 1)
    assert float(process.mean[1, 3]) > 0.99
    assert float(process.variance[3]) < 0.01


def test_the_strategy_takes_landmarks_for_all_there_is_where_they_are_all_rows():
    rng = np.random.default_rng(6)
    pool, labels = balal.pool(rng.normal(size=(40, 3)).astype(np.float32)), rng.integers(0, 4, 40)
    exact, bounded = (
        balal.one_shot(
            balal.Posterior(landmarks=landmarks),
            pool,
            labels,
            budget=15,
            num_classes=4,
            key=jax.random.key(0),
        ).indices.tolist()
        for landmarks in (None, 40)
    )
    assert exact == bounded


def test_a_target_is_aimed_at():
    """Of six blobs as large, one that is worth something gets more labels than the others."""
    rng = np.random.default_rng(7)
    labels = np.arange(120) % 6
    pool = balal.pool((4 * np.eye(6)[labels] + rng.normal(size=(120, 6))).astype(np.float32))
    strategy = balal.Posterior(target=(1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    counts = balal.one_shot(
        strategy, pool, labels, budget=24, num_classes=6, key=jax.random.key(0)
    ).counts
    assert int(counts[0]) > 2 * int(np.max(counts[1:]))


@pytest.mark.slow
def test_a_batch_does_not_ask_the_same_question_twice():
    """Three heaps of duplicates: while nothing has been answered, three picks come from three
    heaps."""
    features = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    pool, strategy = balal.pool(features), balal.strategy("posterior")
    state = balal.init(strategy, pool, budget=9, num_classes=5, key=jax.random.key(0))
    rows, state = balal.ask(strategy, pool, state, size=3)
    assert sorted(np.asarray(rows) // 5) == [0, 1, 2]


@pytest.mark.slow
def test_a_small_budget_gets_the_first_picks_of_a_large_one_and_a_prepared_pool_the_same():
    rng = np.random.default_rng(10)
    features, labels = rng.normal(size=(80, 3)).astype(np.float32), rng.integers(0, 4, 80)
    strategy = balal.strategy("random+posterior")
    arguments = dict(num_classes=4, key=jax.random.key(1), capacity=30)
    large = balal.one_shot(strategy, balal.pool(features), labels, budget=30, **arguments)
    small = balal.one_shot(
        strategy, balal.prepare(strategy, balal.pool(features)), labels, budget=18, **arguments
    )
    assert small.indices[:18].tolist() == large.indices[:18].tolist()
    first = balal.one_shot(
        balal.strategy("random"), balal.pool(features), labels, budget=30, **arguments
    )
    assert large.indices[:10].tolist() == first.indices[:10].tolist()
    assert large.indices.tolist() != first.indices.tolist()


def test_odd_rows_are_asked_less_often():
    rng = np.random.default_rng(11)
    labels = np.arange(200) % 4
    features = (4 * np.eye(4)[labels] + rng.normal(size=(200, 4))).astype(np.float32)
    pool = balal.prepare(balal.Posterior(), balal.pool(features))
    asked = [
        balal.one_shot(
            balal.Posterior(typical=typical),
            pool,
            labels,
            budget=30,
            num_classes=4,
            key=jax.random.key(0),
        ).indices
        for typical in (0.0, 1.0)
    ]
    means = [float(pool.prepared["surroundings"].value[0][rows].mean()) for rows in asked]
    assert means[0] + 0.1 < means[1]
