"""balal.random_sampling: what random sampling gives, against exact fractions, SciPy, chance itself
and the paper."""

import json
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import reference_metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from balal import metrics, random_sampling

DATA = Path(__file__).parent.parent / "experiments" / "data"
TABLES = json.loads((DATA / "aggarwal_tables.json").read_text())
INDUCED = json.loads((DATA / "induced_counts.json").read_text())
SETS = [
    ("food101", "Food-101"),
    ("cifar100", "CIFAR-100"),
    ("imn100", "IMN-100"),
    ("mit67", "MIT-67"),
]
few = settings(derandomize=True, deadline=None, max_examples=80)
pools = st.lists(st.integers(0, 30), min_size=1, max_size=12).filter(any)


def sizes_of(key):
    return np.array(INDUCED[key]["counts"])


@few
@given(pools, st.floats(0, 1))
def test_classes_found_and_ratio_equal_exact_fractions(sizes, share):
    budget = round(share * sum(sizes))
    found = random_sampling.classes_found(np.array(sizes), budget)
    np.testing.assert_allclose(
        found, reference.expected_classes_found(sizes, budget), rtol=1e-11, atol=1e-11
    )
    if budget:
        square = random_sampling.imbalance_ratio(np.array(sizes), budget) ** 2
        np.testing.assert_allclose(
            square, reference.expected_square_ratio(sizes, budget), rtol=1e-11, atol=1e-11
        )


@pytest.mark.parametrize(("key", "name"), SETS)
def test_classes_found_equals_scipy(key, name):
    sizes = sizes_of(key)
    by_scipy = [hypergeom.sf(0, sizes.sum(), sizes, budget).sum() for budget in TABLES["budgets"]]
    np.testing.assert_allclose(
        random_sampling.classes_found(sizes, np.array(TABLES["budgets"])), by_scipy, rtol=1e-9
    )


def test_logs_stay_exact_on_a_pool_of_millions():
    sizes = np.array([1, 10, 1000, 3_000_000])
    np.testing.assert_allclose(
        random_sampling.classes_found(sizes, 5000),
        reference.expected_classes_found(sizes.tolist(), 5000),
        rtol=1e-7,
    )


@pytest.mark.parametrize(("key", "name"), SETS)
def test_expected_ratios_of_the_paper_s_sets_are_the_printed_ones(key, name):
    ratios = random_sampling.imbalance_ratio(sizes_of(key), np.array(TABLES["budgets"]))
    assert [round(float(ratio), 3) for ratio in ratios] == TABLES[
        "random_ir_predicted_from_table1"
    ][name]


@pytest.mark.parametrize(("key", "name"), SETS)
def test_random_rows_of_table_4_are_near_the_closed_form(key, name):
    """Five runs each in the paper, on class sizes that only share mean and std with ours: 4 classes
    and .04 of the ratio."""
    row, budgets = TABLES["table4_before_balancing"]["random"], TABLES["budgets"]
    found = random_sampling.classes_found(sizes_of(key), np.array(budgets))
    ratios = random_sampling.imbalance_ratio(sizes_of(key), np.array(budgets))
    np.testing.assert_allclose(
        found, [row["classes"][name][str(budget)] for budget in budgets], atol=4
    )
    np.testing.assert_allclose(
        ratios, [row["ir"][name][str(budget)] for budget in budgets], atol=0.04
    )


@pytest.mark.parametrize("budget", [100, 500, 2000])
def test_drawing_at_random_gives_what_is_expected(budget):
    """4000 draws: means within five standard errors, and the root of the mean square no more than
    .003 above the mean from b = 500 on."""
    sizes = sizes_of("cifar100")
    draws = np.random.default_rng(0).multivariate_hypergeometric(
        sizes, budget, size=4000, method="marginals"
    )
    found, ratios = np.count_nonzero(draws, axis=1), draws.std(axis=1) / draws.mean(axis=1)
    for samples, claim in (
        (found, random_sampling.classes_found(sizes, budget)),
        (ratios**2, random_sampling.imbalance_ratio(sizes, budget) ** 2),
    ):
        assert abs(samples.mean() - claim) <= 5 * samples.std() / math.sqrt(len(samples))
    excess = random_sampling.imbalance_ratio(sizes, budget) - ratios.mean()
    assert -0.001 < excess < (0.003 if budget >= 500 else 0.01)


@pytest.mark.parametrize(("key", "name"), SETS)
def test_the_whole_pool_holds_every_class_in_its_own_ratio(key, name):
    sizes = sizes_of(key)
    assert float(random_sampling.classes_found(sizes, sizes.sum())) == len(sizes)
    np.testing.assert_allclose(
        random_sampling.imbalance_ratio(sizes, sizes.sum()),
        metrics.imbalance_ratio(sizes),
        rtol=1e-5,
    )


def test_one_label_finds_one_class():
    sizes = np.array([5, 3, 2, 0])
    np.testing.assert_allclose(random_sampling.classes_found(sizes, 1), 1.0, rtol=1e-12)
    np.testing.assert_allclose(random_sampling.imbalance_ratio(sizes, 1), math.sqrt(3), rtol=1e-12)


def test_no_label_finds_no_class_and_has_no_ratio():
    assert float(random_sampling.classes_found(np.array([5, 3]), 0)) == 0.0
    assert math.isnan(random_sampling.imbalance_ratio(np.array([5, 3]), 0))


def test_a_class_without_rows_is_never_found():
    assert float(random_sampling.classes_found(np.array([4, 0]), 4)) == 1.0


def test_a_pool_of_one_row_works():
    assert float(random_sampling.classes_found(np.array([1]), 1)) == 1.0
    assert float(random_sampling.imbalance_ratio(np.array([1]), 1)) == 0.0


@pytest.mark.parametrize(
    "function", [random_sampling.classes_found, random_sampling.imbalance_ratio]
)
def test_an_array_of_budgets_gives_an_array_of_its_shape(function):
    sizes, budgets = np.array([9, 4, 4, 1]), np.arange(1, 13).reshape(3, 4)
    together = function(sizes, budgets)
    assert together.shape == (3, 4)
    np.testing.assert_allclose(
        together.ravel(), [function(sizes, int(budget)) for budget in budgets.ravel()], rtol=1e-12
    )


@pytest.mark.parametrize(
    "function", [random_sampling.classes_found, random_sampling.imbalance_ratio]
)
def test_impossible_pools_and_budgets_are_refused(function):
    with pytest.raises(ValueError, match="between 0 and the 8 rows of the pool, got 3 to 9"):
        function(np.array([5, 3]), np.array([3, 9]))
    with pytest.raises(ValueError, match="got -1 to -1"):
        function(np.array([5, 3]), -1)
    for sizes in ([-1, 3], [0, 0]):
        with pytest.raises(ValueError, match="none negative and not all 0"):
            function(np.array(sizes), 0)


# Labels until


@few
@given(
    st.integers(1, 25),
    st.integers(0, 25),
    st.integers(1, 5),
    st.sampled_from(["0.05", "0.1", "0.5", "0.95", "0.999", "1.0"]),
)
def test_labels_until_is_the_first_budget_that_will_do(size, others, m, probability):
    assume(m <= size)
    budget = random_sampling.labels_until(size, size + others, m=m, probability=float(probability))
    assert budget == reference.labels_until(size, size + others, m, Fraction(probability))


@pytest.mark.parametrize(("size", "m"), [(34, 1), (34, 5), (171, 10), (491, 1)])
def test_labels_until_agrees_with_scipy_on_a_pool_of_thousands(size, m):
    budget = random_sampling.labels_until(size, 17168, m=m)
    assert (
        hypergeom.sf(m - 1, 17168, size, budget)
        >= 0.95
        > hypergeom.sf(m - 1, 17168, size, budget - 1)
    )


@pytest.mark.parametrize("pool", [10, 20, 100, 1000])
def test_labels_until_is_exact_where_the_chance_is_exactly_met(pool):
    assert random_sampling.labels_until(1, pool) == math.ceil(Fraction(95, 100) * pool)
    assert random_sampling.labels_until(1, pool, probability=0.1) == pool // 10


def test_certainty_takes_all_other_rows_first():
    assert random_sampling.labels_until(5, 100, m=2, probability=1.0) == 97
    assert random_sampling.labels_until(5, 100, m=5, probability=1) == 100


def test_a_pool_of_one_class_needs_m_labels():
    assert random_sampling.labels_until(8, 8, m=3, probability=1.0) == 3


def test_a_rarer_class_takes_more_labels():
    budgets = [random_sampling.labels_until(size, 17168) for size in (491, 171, 34, 1)]
    assert budgets == sorted(budgets)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((3, 10), dict(m=4), "a class with 3 rows can never give 4: lower m"),
        ((0, 10), dict(), "a class with 0 rows can never give 1: lower m"),
        ((11, 10), dict(), "between 0 and the 10 rows of the pool, got 11"),
        ((3, 10), dict(m=0), "m must be at least 1, got 0"),
        ((3, 10), dict(probability=0.0), r"probability must lie in \(0, 1\], got 0.0"),
        ((3, 10), dict(probability=95), r"probability must lie in \(0, 1\], got 95"),
    ],
)
def test_labels_until_refuses_the_impossible(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        random_sampling.labels_until(*arguments, **options)
