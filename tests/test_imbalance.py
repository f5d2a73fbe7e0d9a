"""balal.imbalance: class sizes of a wanted imbalance, and the rows that give them."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st

from balal import imbalance
from balal.kernels import sampling

DATA = Path(__file__).parent.parent / "experiments" / "data"
TABLE_1 = json.loads((DATA / "aggarwal_tables.json").read_text())["table1"]
INDUCED = json.loads((DATA / "induced_counts.json").read_text())
SETS = [
    ("food101", "Food-101"),
    ("cifar100", "CIFAR-100"),
    ("imn100", "IMN-100"),
    ("mit67", "MIT-67"),
]
few = settings(derandomize=True, deadline=None, max_examples=30)


# Counts


@pytest.mark.parametrize(("key", "name"), SETS)
def test_counts_reproduce_every_printed_digit_of_table_1(key, name):
    row, capacity = TABLE_1[name], INDUCED[key]["cap"]
    sizes = imbalance.counts(row["classes"], total=row["images"], std=row["std"], capacity=capacity)
    assert sizes.sum() == row["images"]
    assert 1 <= sizes.min() <= sizes.max() <= capacity
    # The paper cuts the mean of Food-101, 227.287, instead of rounding it.
    assert row["mean"] in (round(float(sizes.mean()), 2), int(sizes.mean() * 100) / 100)
    assert round(float(sizes.std()), 2) == row["std"]
    assert round(float(sizes.std() / sizes.mean()), 3) == row["ir"]


@pytest.mark.parametrize(("key", "name"), SETS)
def test_counts_find_the_profile_of_the_stored_sets(key, name):
    stored = np.array(sorted(INDUCED[key]["counts"], reverse=True))
    sizes = imbalance.counts(
        len(stored), total=int(stored.sum()), std=float(stored.std()), capacity=INDUCED[key]["cap"]
    )
    np.testing.assert_allclose(sizes, stored, atol=8)


@st.composite
def wishes(draw):
    """num_classes, total, capacities and a reachable std: that of some sizes that fit."""
    num_classes = draw(st.sampled_from([2, 5, 30]))
    capacity = np.array(
        draw(st.lists(st.integers(5, 400), min_size=num_classes, max_size=num_classes))
    )
    shares = np.array(draw(st.lists(st.floats(0, 1), min_size=num_classes, max_size=num_classes)))
    some = np.maximum((shares * capacity).astype(int), 1)
    return num_classes, int(some.sum()), capacity, float(some.std())


@few
@given(wishes())
def test_counts_meet_the_total_and_come_near_the_std_within_the_capacities(wish):
    num_classes, total, capacity, std = wish
    sizes = imbalance.counts(num_classes, total=total, std=std, capacity=capacity, tolerance=1.0)
    assert sizes.dtype == np.int64
    assert sizes.sum() == total
    assert np.all((sizes >= 1) & (sizes <= capacity))
    assert abs(sizes.std() - std) <= 1.0


def test_counts_fall_from_the_first_class_to_the_last():
    assert np.all(np.diff(imbalance.counts(50, total=5000, ratio=1.2, capacity=1000)) <= 0)


def test_the_roomiest_class_becomes_the_largest():
    sizes = imbalance.counts(
        4, total=100, ratio=0.8, capacity=np.array([10, 60, 20, 70]), tolerance=0.5
    )
    assert np.argsort(-sizes, kind="stable").tolist() == [3, 1, 2, 0]


def test_ratio_and_std_say_the_same():
    by_ratio = imbalance.counts(100, total=17168, ratio=126.98 / 171.68, capacity=500)
    np.testing.assert_array_equal(
        by_ratio, imbalance.counts(100, total=17168, std=126.98, capacity=500)
    )


def test_no_imbalance_gives_equal_classes():
    assert imbalance.counts(7, total=70, ratio=0, capacity=500).tolist() == [10] * 7


def test_full_capacities_leave_one_answer():
    capacity = np.array([3, 9, 5])
    assert imbalance.counts(3, total=17, std=float(capacity.std()), capacity=capacity).tolist() == [
        3,
        9,
        5,
    ]


def test_the_steepest_profile_fills_one_class_after_the_other():
    wanted = np.array([50, 50, 20, 1, 1])
    assert (
        imbalance.counts(5, total=122, std=float(wanted.std()), capacity=50).tolist()
        == wanted.tolist()
    )


def test_a_floor_under_the_class_sizes_is_kept():
    assert imbalance.counts(20, total=2000, ratio=1.0, capacity=1000, smallest=15).min() >= 15
    assert imbalance.counts(
        4, total=10, std=float(np.std([10, 0, 0, 0])), capacity=10, smallest=0
    ).tolist() == [10, 0, 0, 0]


def test_thousands_of_classes_are_no_problem():
    sizes = imbalance.counts(3000, total=300_000, ratio=2.0, capacity=5000)
    assert sizes.sum() == 300_000
    assert abs(sizes.std() / sizes.mean() - 2.0) < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(total=1001, ratio=0.5, capacity=100),
            "total must lie between 10 and 1000, the sum of the capacities, got 1001",
        ),
        (dict(total=9, ratio=0.5, capacity=100), "total must lie between 10 and 1000"),
        (
            dict(total=500, ratio=1.5, capacity=100),
            "a std of 75.0000 is out of reach, the nearest is 4",
        ),
        (dict(total=500, std=float("nan"), capacity=100), "a std of nan is out of reach"),
        (dict(total=500, std=-1.0, capacity=100), "out of reach"),
        (
            dict(total=500, std=33.3, capacity=np.arange(10) * 100 + 100, tolerance=0),
            "whole images come no nearer",
        ),
        (dict(total=501, ratio=0.0, capacity=100), "out of reach|whole images come no nearer"),
        (dict(total=500, capacity=100), "either ratio or std, got ratio=None and std=None"),
        (dict(total=500, ratio=0.5, std=25.0, capacity=100), "either ratio or std"),
        (dict(total=500, ratio=0.5, capacity=np.array([100, 100])), r"got shape \(2,\)"),
        (
            dict(total=500, ratio=0.5, capacity=100, smallest=101),
            "smallest must lie between 0 and the least capacity, 100",
        ),
    ],
)
def test_counts_refuse_the_infeasible(options, message):
    with pytest.raises(ValueError, match=message):
        imbalance.counts(10, **options)


# Profiles


@few
@given(st.integers(2, 200), st.integers(1, 5000), st.floats(1, 300))
def test_the_exponential_profile_is_its_formula(num_classes, largest, rho):
    if largest / rho < 1:
        with pytest.raises(ValueError, match="the smallest class would have"):
            imbalance.exponential(num_classes, largest=largest, rho=rho)
        return
    sizes = imbalance.exponential(num_classes, largest=largest, rho=rho)
    assert sizes[0] == largest
    # What is a whole number but for the last bits may be cut either way.
    exact = largest * rho ** -(np.arange(num_classes) / max(num_classes - 1, 1))
    clear = np.abs(exact - np.round(exact)) > 1e-5
    expected = reference.exponential(num_classes, largest, rho)
    assert np.array_equal(sizes[clear], np.asarray(expected)[clear])
    assert np.all(np.abs(sizes - exact) <= 1 + 1e-5)
    assert sizes[-1] == int(largest / rho + 1e-6)


@pytest.mark.parametrize(
    ("num_classes", "largest", "total"), [(10, 5000, 12406), (100, 500, 10847)]
)
def test_the_exponential_profile_gives_the_published_long_tailed_cifar(num_classes, largest, total):
    sizes = imbalance.exponential(num_classes, largest=largest, rho=100)
    assert (sizes[0], sizes[-1], sizes.sum()) == (largest, largest // 100, total)


def test_one_class_is_the_largest():
    assert imbalance.exponential(1, largest=12, rho=3).tolist() == [12]


@pytest.mark.parametrize(("minority", "small"), [(0, 0), (0.2, 2), (0.55, 6), (1, 10)])
def test_the_step_profile_makes_a_share_of_the_classes_small(minority, small):
    sizes = imbalance.step(10, largest=300, rho=30, minority=minority)
    assert sizes.tolist() == [300] * (10 - small) + [10] * small


def test_profiles_without_imbalance_are_flat():
    assert (
        imbalance.exponential(4, largest=9, rho=1).tolist()
        == imbalance.step(4, largest=9, rho=1, minority=0.5).tolist()
        == [9] * 4
    )


@pytest.mark.parametrize(
    ("num_classes", "options", "message"),
    [
        (0, dict(largest=10, rho=2.0), "must be at least 1, got 0 and 2.0"),
        (3, dict(largest=10, rho=0.5), "must be at least 1, got 3 and 0.5"),
        (3, dict(largest=10, rho=float("nan")), "got 3 and nan"),
        (
            3,
            dict(largest=10, rho=50.0),
            "the smallest class would have 0.2 images: lower rho=50.0 or raise largest=10",
        ),
    ],
)
def test_profiles_refuse_the_impossible(num_classes, options, message):
    with pytest.raises(ValueError, match=message):
        imbalance.exponential(num_classes, **options)
    with pytest.raises(ValueError, match=message):
        imbalance.step(num_classes, minority=0.5, **options)


def test_a_minority_is_a_share():
    with pytest.raises(ValueError, match="between 0 and 1, got 5"):
        imbalance.step(10, largest=10, rho=2, minority=5)


# Rows


@st.composite
def draws(draw):
    labels = np.array(draw(st.lists(st.integers(-1, 3), min_size=30, max_size=30)))
    available = reference.class_counts(labels, 4)
    return (
        labels,
        np.array([draw(st.integers(0, int(count))) for count in available]),
        draw(st.integers(0, 1000)),
    )


@few
@given(draws())
def test_subsample_has_the_counts_asked_for_in_sorted_distinct_rows(case):
    labels, counts, seed = case
    rows = imbalance.subsample(jax.random.key(seed), labels, counts)
    assert np.all(np.diff(rows) > 0)
    np.testing.assert_array_equal(reference.class_counts(labels[rows], 4), counts)


@few
@given(draws())
def test_subsample_keeps_the_rows_with_the_smallest_numbers_of_each_class(case):
    labels, counts, seed = case
    key = jax.random.key(seed)
    numbers = np.asarray(sampling.random_bits(key, 30)).tolist()
    assert imbalance.subsample(key, labels, counts).tolist() == reference.subset_of_rows(
        numbers, labels, counts
    )


@few
@given(draws())
def test_rows_of_other_classes_appended_change_nothing(case):
    labels, counts, seed = case
    key = jax.random.key(seed)
    longer = np.concatenate([labels, [4] * 10])
    rows = imbalance.subsample(key, longer, np.append(counts, 6))
    np.testing.assert_array_equal(rows[rows < 30], imbalance.subsample(key, labels, counts))


@few
@given(draws())
def test_a_smaller_subsample_lies_within_a_larger_one(case):
    labels, counts, seed = case
    key = jax.random.key(seed)
    assert set(imbalance.subsample(key, labels, counts // 2)) <= set(
        imbalance.subsample(key, labels, counts)
    )


def test_the_same_key_draws_the_same_rows_and_another_key_others():
    labels, counts = np.arange(400) % 4, np.array([10, 20, 30, 40])
    first, again, other = (
        imbalance.subsample(jax.random.key(seed), labels, counts) for seed in (0, 0, 1)
    )
    assert (
        imbalance.fingerprint(first) == imbalance.fingerprint(again) != imbalance.fingerprint(other)
    )


def test_every_row_of_a_class_is_drawn_equally_often():
    """5 of 20 rows in each of 400 classes: 100 times at each place, standard deviation 8.7, so
    within 5 of them."""
    rows = imbalance.subsample(jax.random.key(0), np.repeat(np.arange(400), 20), np.full(400, 5))
    assert np.all(np.abs(np.bincount(rows % 20) - 100) <= 44)


def test_subsample_takes_jax_labels_and_no_unlabelled_rows():
    assert imbalance.subsample(
        jax.random.key(0), jnp.array([-1, 0, -1, 1]), jnp.array([1, 1])
    ).tolist() == [1, 3]


def test_an_empty_subsample_is_empty():
    assert imbalance.subsample(jax.random.key(0), np.array([0, 1]), np.array([0, 0])).size == 0
    assert imbalance.subsample(jax.random.key(0), np.zeros(0, int), np.array([0, 0])).size == 0


@pytest.mark.parametrize(
    ("labels", "counts", "message"),
    [
        (
            [0, 0, 1],
            [3, 2],
            "2 classes have too few rows: class 0 has 2 of 3, class 1 has 1 of 2; lower their "
            "counts",
        ),
        (
            [0],
            [1] * 9,
            r"8 classes have too few rows: class 1 has 0 of 1, .*class 5 has 0 of 1, \.\.\.; lower",
        ),
        ([0, 5], [1, 0], "labels must lie between -1 and 1, the last class of counts, got 0 to 5"),
        ([0, -2], [1, 0], "got -2 to 0"),
        ([0, 1], [1, -1], "counts must not be negative, got -1 for class 1"),
    ],
)
def test_subsample_names_what_cannot_be_had(labels, counts, message):
    with pytest.raises(ValueError, match=message):
        imbalance.subsample(jax.random.key(0), np.array(labels), np.array(counts))


def test_a_fingerprint_knows_the_order_and_not_the_integer_type():
    rows = np.array([3, 1, 4, 1_000_000])
    assert (
        imbalance.fingerprint(rows)
        == imbalance.fingerprint(rows.astype(np.uint32))
        == imbalance.fingerprint(jnp.asarray(rows))
    )
    assert imbalance.fingerprint(rows) != imbalance.fingerprint(rows[::-1])
    assert len(imbalance.fingerprint(rows)) == 16
