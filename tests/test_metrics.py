"""balal.metrics: counts, balance, accuracy, and the paper's G_AL to the printed digit."""

import json
import math
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score

from balal import metrics

DATA = Path(__file__).parent.parent / "experiments" / "data"
TABLES = json.loads((DATA / "aggarwal_tables.json").read_text())
INDUCED = json.loads((DATA / "induced_counts.json").read_text())
ROWS = [
    (table, name)
    for table in ("table2_before_balancing", "table3_after_balancing")
    for name in TABLES[table]
]

# Each shape compiles once, so there are few of them.
SHAPES = st.sampled_from([(1, 1), (7, 3), (40, 10)])
few = settings(derandomize=True, deadline=None, max_examples=30)


@st.composite
def answers(draw):
    """labels with padding, predictions with some that are no class, num_classes; at least one
    label."""
    rows, num_classes = draw(SHAPES)
    classes = st.integers(-1, num_classes - 1)
    labels = draw(
        st.lists(classes, min_size=rows, max_size=rows).filter(lambda labels: max(labels) >= 0)
    )
    predicted = draw(st.lists(st.integers(-1, num_classes), min_size=rows, max_size=rows))
    return np.array(labels), np.array(predicted), num_classes


@st.composite
def class_sizes(draw):
    num_classes = draw(st.sampled_from([1, 3, 20]))
    return np.array(
        draw(
            st.lists(st.integers(0, 10**5), min_size=num_classes, max_size=num_classes).filter(any)
        )
    )


# Counts


@few
@given(answers())
def test_class_counts_are_the_labels_of_each_class_and_no_padding(case):
    labels, _, num_classes = case
    counted = metrics.class_counts(labels, num_classes=num_classes)
    assert counted.dtype == jnp.int32
    np.testing.assert_array_equal(counted, reference.class_counts(labels, num_classes))


def test_class_counts_leave_out_ids_beyond_the_classes():
    assert metrics.class_counts(jnp.array([0, 3, 7, -1, -5, 1]), num_classes=3).tolist() == [
        1,
        1,
        0,
    ]


def test_class_counts_of_no_rows_are_zero():
    assert metrics.class_counts(jnp.zeros(0, jnp.int32), num_classes=2).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.int64])
def test_class_counts_take_any_integer_type(dtype):
    assert metrics.class_counts(np.array([0, 2, 2], dtype), num_classes=3).tolist() == [1, 0, 2]


# Balance


@few
@given(class_sizes())
def test_measures_of_balance_equal_their_definitions(sizes):
    assert int(metrics.classes_found(sizes)) == np.count_nonzero(sizes)
    np.testing.assert_allclose(
        metrics.imbalance_ratio(sizes), reference.imbalance_ratio(sizes), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        metrics.entropy(sizes), reference.entropy(sizes), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(
        metrics.effective_classes(sizes), math.exp(reference.entropy(sizes)), rtol=1e-5
    )
    np.testing.assert_allclose(
        metrics.max_over_min(sizes), reference.max_over_min(sizes), rtol=1e-6
    )


@few
@given(class_sizes(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(sizes, random):
    shuffled = np.array(random.sample(sizes.tolist(), len(sizes)))
    for measure in (metrics.imbalance_ratio, metrics.entropy, metrics.max_over_min):
        np.testing.assert_allclose(measure(shuffled), measure(sizes), rtol=1e-5, atol=1e-6)


def test_absent_classes_count_as_zero_in_the_imbalance_ratio():
    assert float(metrics.imbalance_ratio(jnp.array([3, 3, 0, 0]))) == 1.0
    assert float(metrics.imbalance_ratio(jnp.array([3, 3]))) == 0.0


def test_one_class_alone_has_the_largest_imbalance_ratio():
    np.testing.assert_allclose(metrics.imbalance_ratio(jnp.array([12] + [0] * 9)), 3.0, rtol=1e-6)


def test_without_labels_balance_is_nan_and_no_class_is_found():
    nobody = jnp.zeros(4, jnp.int32)
    assert int(metrics.classes_found(nobody)) == 0
    assert all(
        jnp.isnan(measure(nobody))
        for measure in (metrics.imbalance_ratio, metrics.entropy, metrics.effective_classes)
    )
    assert float(metrics.max_over_min(nobody)) == math.inf


def test_max_over_min_computes_no_nan_on_the_way():
    with jax.debug_nans(True):
        assert float(metrics.max_over_min(jnp.zeros(3, jnp.int32))) == math.inf


def test_leading_axes_of_counts_pass_through():
    many = jnp.arange(24).reshape(2, 3, 4)
    for measure in (
        metrics.classes_found,
        metrics.imbalance_ratio,
        metrics.entropy,
        metrics.effective_classes,
        metrics.max_over_min,
    ):
        one_by_one = jnp.stack([jnp.stack([measure(counts) for counts in row]) for row in many])
        np.testing.assert_allclose(measure(many), one_by_one, rtol=1e-6)


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("food101", "Food-101"),
        ("cifar100", "CIFAR-100"),
        ("imn100", "IMN-100"),
        ("mit67", "MIT-67"),
    ],
)
def test_the_imbalance_ratio_of_the_induced_sets_is_the_one_of_table_1(key, name):
    assert (
        round(float(metrics.imbalance_ratio(np.array(INDUCED[key]["counts"]))), 3)
        == TABLES["table1"][name]["ir"]
    )


# Accuracy


@few
@given(answers())
def test_confusion_equals_the_twin(case):
    labels, predicted, num_classes = case
    table = metrics.confusion(labels, predicted, num_classes=num_classes)
    np.testing.assert_array_equal(table, reference.confusion(labels, predicted, num_classes))


@few
@given(answers())
def test_accuracies_equal_the_twins(case):
    labels, predicted, num_classes = case
    got = metrics.balanced_accuracy(labels, predicted, num_classes=num_classes)
    np.testing.assert_allclose(
        got, reference.balanced_accuracy(labels, predicted, num_classes), rtol=1e-6
    )
    got = metrics.macro_f1(labels, predicted, num_classes=num_classes)
    np.testing.assert_allclose(got, reference.macro_f1(labels, predicted, num_classes), rtol=1e-6)


@few
@given(answers())
def test_accuracies_equal_scikit_learn(case):
    labels, predicted, num_classes = case
    predicted = np.maximum(predicted, 0) % num_classes
    rows = labels >= 0
    present = np.unique(labels[rows])
    options = dict(num_classes=num_classes)
    with warnings.catch_warnings():
        # It warns about predicted classes without test rows, and about a single class; that is
        # where definitions could part.
        warnings.simplefilter("ignore", UserWarning)
        table = confusion_matrix(labels[rows], predicted[rows], labels=range(num_classes))
        accuracy = balanced_accuracy_score(labels[rows], predicted[rows])
    np.testing.assert_array_equal(metrics.confusion(labels, predicted, **options), table)
    np.testing.assert_allclose(
        metrics.balanced_accuracy(labels, predicted, **options), accuracy, rtol=1e-6
    )
    f1 = f1_score(labels[rows], predicted[rows], labels=present, average="macro")
    np.testing.assert_allclose(metrics.macro_f1(labels, predicted, **options), f1, rtol=1e-6)


@few
@given(answers())
def test_padding_changes_no_accuracy(case):
    labels, predicted, num_classes = case
    padded = (
        np.concatenate([labels, [-1] * 3]),
        np.concatenate([predicted, [0, -1, num_classes - 1]]),
    )
    for measure in (metrics.confusion, metrics.balanced_accuracy, metrics.macro_f1):
        np.testing.assert_array_equal(
            measure(*padded, num_classes=num_classes),
            measure(labels, predicted, num_classes=num_classes),
        )


def test_a_class_that_was_never_discovered_counts_zero():
    assert float(
        metrics.balanced_accuracy(jnp.array([0, 1, 2, 2]), jnp.array([0, 1, 0, 1]), num_classes=3)
    ) == pytest.approx(2 / 3)


def test_a_class_without_test_rows_does_not_count():
    assert (
        float(metrics.balanced_accuracy(jnp.array([0, 0]), jnp.array([0, 2]), num_classes=9)) == 0.5
    )
    assert float(
        metrics.macro_f1(jnp.array([0, 0]), jnp.array([0, 2]), num_classes=9)
    ) == pytest.approx(2 / 3)


def test_a_prediction_that_is_no_class_is_wrong():
    labels, predicted = jnp.array([0, 0, 1]), jnp.array([0, -1, 5])
    assert float(metrics.balanced_accuracy(labels, predicted, num_classes=2)) == 0.25
    assert metrics.confusion(labels, predicted, num_classes=2).tolist() == [[1, 0], [0, 0]]


def test_a_large_class_weighs_no_more_than_a_small_one():
    labels = jnp.array([0] * 99 + [1])
    assert float(metrics.balanced_accuracy(labels, jnp.zeros(100, jnp.int32), num_classes=2)) == 0.5


def test_accuracy_without_labels_is_nan():
    nobody = jnp.full(3, -1)
    assert jnp.isnan(metrics.balanced_accuracy(nobody, nobody, num_classes=2))
    assert jnp.isnan(metrics.macro_f1(nobody, nobody, num_classes=2))


def test_accuracies_of_many_seeds_under_vmap_are_those_of_each():
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(-1, 5, 30), generator.integers(0, 5, (4, 30))
    for measure in (metrics.balanced_accuracy, metrics.macro_f1):
        at_once = jax.vmap(
            lambda seed, measure=measure: measure(jnp.asarray(labels), seed, num_classes=5)
        )(jnp.asarray(predicted))
        np.testing.assert_array_equal(
            at_once, [measure(labels, seed, num_classes=5) for seed in predicted]
        )


@pytest.mark.parametrize(
    "measure", [metrics.confusion, metrics.balanced_accuracy, metrics.macro_f1]
)
def test_accuracies_refuse_unequal_lengths_and_no_classes(measure):
    with pytest.raises(ValueError, match="labels has 3 rows and predicted 2"):
        measure(jnp.zeros(3, int), jnp.zeros(2, int), num_classes=2)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        measure(jnp.zeros(3, int), jnp.zeros(3, int), num_classes=0)


# Curves and G_AL


@few
@given(
    st.lists(st.floats(0, 100, width=32), min_size=4, max_size=4),
    st.sets(st.integers(0, 5000), min_size=4, max_size=4),
)
def test_area_under_curve_equals_the_trapezoids(accuracies, budgets):
    budgets = np.array(sorted(budgets))
    area = metrics.area_under_curve(budgets, np.array(accuracies, np.float32))
    np.testing.assert_allclose(
        area, reference.area_under_curve(budgets.tolist(), accuracies), rtol=1e-5, atol=1e-5
    )


def test_area_under_a_constant_curve_is_its_constant_for_every_seed():
    curves = jnp.broadcast_to(jnp.array([[0.25], [0.75]]), (2, 3))
    np.testing.assert_allclose(
        metrics.area_under_curve(jnp.array([500, 1000, 2000]), curves), [0.25, 0.75], rtol=1e-6
    )


def test_area_under_curve_refuses_one_point_and_unequal_lengths():
    with pytest.raises(ValueError, match="two budgets or more"):
        metrics.area_under_curve(jnp.array([1]), jnp.array([0.5]))
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        metrics.area_under_curve(jnp.array([1, 2]), jnp.array([0.5, 0.5, 0.5]))


@pytest.mark.parametrize(("table", "name"), ROWS)
def test_g_al_of_tables_2_and_3_comes_out_to_the_printed_digit(table, name):
    row = TABLES[table][name]
    accuracy = np.array(
        [
            [row["acc"][dataset][str(budget)] for dataset in TABLES["datasets"]]
            for budget in TABLES["budgets"]
        ]
    )
    full = np.array([TABLES["full_accuracy"][dataset] for dataset in TABLES["datasets"]])
    assert f"{metrics.g_al(accuracy, full):.3f}" == f"{row['g_al_printed']:.3f}"


def test_tables_2_and_3_have_twenty_rows():
    assert len(ROWS) == 20


def test_g_al_takes_plain_numbers_lists_and_jax_arrays():
    assert (
        metrics.g_al(50, 75)
        == metrics.g_al([50.0], 75.0)
        == metrics.g_al(jnp.array([50.0]), jnp.array(75.0))
        == -1.0
    )


def test_g_al_is_zero_at_the_full_accuracy_and_positive_above():
    assert metrics.g_al([60.0, 70.0], [60.0, 70.0]) == 0.0
    assert metrics.g_al(80.0, 60.0) == 0.5


@pytest.mark.parametrize(
    ("accuracy", "full", "message"),
    [
        (50.0, 100.0, "full is 100"),
        (50.0, 101.0, "full must be in percent"),
        (
            [50.0, -1.0],
            60.0,
            r"accuracy must be in percent, 0 to 100, got \[-1.0\] \(1 of 2 are not\)",
        ),
        (math.nan, 60.0, "accuracy must be in percent"),
        ([], 60.0, "accuracy must be in percent"),
        ([1.0, 2.0, 3.0], [60.0, 70.0], "does not broadcast"),
        (50.0, [60.0, 70.0], "does not broadcast"),
    ],
)
def test_g_al_refuses_what_has_no_meaning(accuracy, full, message):
    with pytest.raises(ValueError, match=message):
        metrics.g_al(accuracy, full)
