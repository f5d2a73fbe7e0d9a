"""The linear SVM head and the scaling of its features."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.model_selection import KFold
from sklearn.svm import LinearSVC

from balal.heads import fitting, scaling, svm


def clusters(
    seed: int, sizes: list[int], *, distance: float = 3.0, width: int = 8
) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian clusters of the given sizes around centres of norm `distance`, and their labels."""
    chance = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.random.default_rng(99).normal(size=(len(sizes), width))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)
    return centres[labels] + chance.normal(size=(len(labels), width)), labels


def reference(features: np.ndarray, labels: np.ndarray, C: float) -> LinearSVC:
    """The twin: scikit-learn's solver, as exact as it gets."""
    return LinearSVC(C=C, dual=True, random_state=0, tol=1e-8, max_iter=200_000).fit(
        features, labels
    )


def objectives(
    coef: np.ndarray, intercept: np.ndarray, features: np.ndarray, labels: np.ndarray, C: float
) -> np.ndarray:
    """What `LinearSVC` makes small, one number a class that is seen."""
    signs = np.where(labels[:, None] == np.unique(labels), 1, -1)
    short = np.maximum(1 - signs * (features @ coef.T + intercept), 0)
    return 0.5 * np.sum(coef**2, axis=1) + 0.5 * intercept**2 + C * np.sum(short**2, axis=0)


@pytest.mark.parametrize("C", [0.01, 0.5, 10.0, 1000.0])
def test_head_is_scikit_learns_linear_svc(C):
    features, labels = clusters(0, [20, 15, 10])
    head, machine = svm.fit(features, labels, num_classes=3, C=C), reference(features, labels, C)
    ours, theirs = (
        objectives(found, free, features, labels, C)
        for found, free in ((head.coef, head.intercept), (machine.coef_, machine.intercept_))
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    np.testing.assert_allclose(
        svm.margins(head, features), machine.decision_function(features), atol=0.1
    )
    assert head.converged


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:The number of unique classes"
)
@pytest.mark.nightly
def test_every_value_of_C_and_every_fold_is_as_good_as_scikit_learns(embedded):
    features, labels = embedded[0][:400].astype(np.float64), embedded[2][:400]
    features /= np.sqrt(np.mean(np.sum(features**2, axis=1)))
    choices, rows = [0.1, 10.0, 1000.0], np.arange(400)
    head = svm.fit(features, labels, num_classes=100, C=choices, folds=3)
    kept = rows[fitting.folds_of(400, 3, 0) != 0]
    machines = [
        LinearSVC(C=value, dual=True, random_state=0, max_iter=2_000).fit(
            features[kept], labels[kept]
        )
        for value in choices
    ]
    left = np.setdiff1d(rows, kept)
    classes, answers = np.unique(labels, return_inverse=True)
    values, found = svm._solved(features, answers, fitting.folds_of(400, 3, 0), choices, 128)
    assert np.max(found.gap) <= 1e-3
    for machine, margins, (_, accuracy) in zip(machines, values, head.accuracies, strict=True):
        assert (
            np.mean(classes[margins[left].argmax(axis=1)] == machine.predict(features[left]))
            >= 0.985
        )
        assert accuracy == np.mean(margins.argmax(axis=1) == answers)
    for value, coef, intercept in zip(
        choices, np.asarray(found.coef), np.asarray(found.intercept), strict=True
    ):
        machine = LinearSVC(C=value, dual=True, random_state=0, max_iter=2_000).fit(
            features, labels
        )
        theirs = objectives(machine.coef_, machine.intercept_, features, labels, value)
        assert (
            np.max(
                objectives(coef[: len(classes)], intercept[: len(classes)], features, labels, value)
                / theirs
            )
            <= 1 + 1e-3
        )


def test_two_classes_have_a_row_each():
    features, labels = clusters(0, [20, 15])
    head = svm.fit(features, labels, num_classes=2)
    assert head.coef.shape == (2, 8)
    np.testing.assert_allclose(head.coef[0], -head.coef[1], atol=1e-4)
    np.testing.assert_array_equal(
        svm.predict(head, features), reference(features, labels, 10).predict(features)
    )


def test_one_class_is_predicted_always():
    head = svm.fit(np.eye(3), np.array([4, 4, 4]), num_classes=10, C=[1.0, 10.0], calibrate=True)
    assert svm.predict(head, np.array([[9.0, -9.0, 0.0]])).tolist() == [4]
    assert svm.predict(head, np.eye(3), thresholding=True).tolist() == [4, 4, 4]


def test_one_labelled_row_is_enough():
    head = svm.fit(np.ones((1, 2)), np.array([3]), num_classes=5, C=[0.1, 1.0], calibrate=True)
    assert (head.C, head.classes.tolist(), svm.predict(head, np.zeros((2, 2))).tolist()) == (
        0.1,
        [3],
        [3, 3],
    )


def test_absent_classes_are_never_predicted():
    features, labels = clusters(0, [10, 0, 10, 0, 10])
    head = svm.fit(features, labels, num_classes=5)
    assert head.classes.tolist() == [0, 2, 4]
    assert head.counts.tolist() == [10, 10, 10]
    assert set(svm.predict(head, np.random.default_rng(1).normal(size=(100, 8))).tolist()) <= {
        0,
        2,
        4,
    }


def test_same_input_gives_the_same_head():
    features, labels = clusters(0, [30, 20, 10], distance=1.0)
    first, second = (
        svm.fit(features, labels, num_classes=3, C=[0.1, 10.0], calibrate=True) for _ in range(2)
    )
    np.testing.assert_array_equal(first.coef, second.coef)
    assert (first.accuracies, first.temperature) == (second.accuracies, second.temperature)


def test_jax_arrays_and_half_precision_are_welcome():
    features, labels = clusters(0, [10, 10, 10])
    half = features.astype(np.float16)
    head = svm.fit(jnp.asarray(half), jnp.asarray(labels), num_classes=3)
    np.testing.assert_array_equal(
        head.coef, svm.fit(half.astype(np.float64), labels, num_classes=3).coef
    )


def test_cross_validation_takes_the_best_C_and_tells_all():
    # Pure noise beside one strong direction: a strong penalty generalises better.
    chance = np.random.default_rng(0)
    labels = np.arange(60) % 2
    features = np.concatenate(
        [(labels * 2 - 1)[:, None] + chance.normal(size=(60, 1)), chance.normal(size=(60, 40))],
        axis=1,
    )
    head = svm.fit(features, labels, num_classes=2, C=[100.0, 0.001])
    assert [value for value, _ in head.accuracies] == [0.001, 100.0]
    assert head.C == 0.001 == max(head.accuracies, key=lambda pair: pair[1])[0]
    np.testing.assert_allclose(
        head.coef, svm.fit(features, labels, num_classes=2, C=0.001).coef, atol=1e-6
    )


def test_a_tie_between_values_of_C_goes_to_the_smallest():
    features, labels = clusters(0, [10, 10], distance=20.0)
    assert svm.fit(features, labels, num_classes=2, C=[10.0, 1.0, 100.0]).C == 1.0


def test_cross_validation_survives_classes_with_a_single_label():
    features, labels = clusters(0, [12, 1, 1, 1, 5])
    head = svm.fit(features, labels, num_classes=5, C=[0.1, 1.0], folds=10, calibrate=True)
    # The three single labels are wrong whenever they are held out.
    assert all(accuracy <= 17 / 20 for _, accuracy in head.accuracies)
    assert head.temperature is not None
    assert 0 < head.temperature < np.inf


def test_fewer_rows_than_folds_are_left_out_one_by_one():
    features, labels = clusters(0, [2, 2])
    assert svm.fit(features, labels, num_classes=2, C=[1.0, 2.0], folds=10).accuracies[0][1] in (
        0,
        0.25,
        0.5,
        0.75,
        1,
    )


def test_what_float32_cannot_solve_is_reported_and_not_warned_about():
    features, labels = clusters(0, [50, 50], distance=0.5)
    far = features + 1e6
    assert not svm.fit(far, labels, num_classes=2, C=1e6).converged
    assert svm.fit(features, labels, num_classes=2, C=1e6).converged


def test_thresholding_moves_predictions_towards_rare_classes():
    features, labels = clusters(0, [200, 10], distance=0.7)
    test_features, test_labels = clusters(1, [200, 200], distance=0.7)
    head = svm.fit(features, labels, num_classes=2, C=0.1, calibrate=True)
    plain, moved = (
        svm.predict(head, test_features),
        svm.predict(head, test_features, thresholding=True),
    )
    assert np.all(moved >= plain)
    assert np.sum(moved == 1) > np.sum(plain == 1)
    assert np.mean(moved == test_labels) > np.mean(plain == test_labels)


def test_thresholding_divides_softmax_by_smoothed_priors():
    features, labels = clusters(0, [30, 10, 5], distance=1.0)
    head = svm.fit(features, labels, num_classes=3, calibrate=True)
    probabilities = np.exp(svm.margins(head, features) / head.temperature)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    expected = np.argmax(probabilities / (np.array([31, 11, 6]) / 48), axis=1)
    np.testing.assert_array_equal(svm.predict(head, features, thresholding=True), expected)


def test_thresholding_changes_nothing_for_a_balanced_labelled_set():
    features, labels = clusters(0, [20, 20, 20], distance=1.0)
    head = svm.fit(features, labels, num_classes=3, calibrate=True)
    np.testing.assert_array_equal(
        svm.predict(head, features), svm.predict(head, features, thresholding=True)
    )


def test_the_temperature_is_the_likeliest_one():
    features, labels = clusters(0, [30, 30, 30], distance=1.5)
    head = svm.fit(features, labels, num_classes=3, C=1.0, calibrate=True)
    margins = svm._solved(features, labels, fitting.folds_of(90, 10, 0), [1.0], 8)[0][0, :, :3]

    def likelihood(temperature):
        logits = margins / temperature
        return np.mean(logits[np.arange(90), labels] - np.log(np.exp(logits).sum(axis=1)))

    assert likelihood(head.temperature) >= max(
        likelihood(head.temperature * factor) for factor in (0.8, 0.95, 1.05, 1.25)
    )


def test_raw_margins_are_not_taken_for_probabilities():
    head = svm.fit(np.eye(3), np.arange(3), num_classes=3)
    with pytest.raises(ValueError, match="calibrate=True"):
        svm.predict(head, np.eye(3), thresholding=True)


@pytest.mark.parametrize(
    ("features", "labels", "options", "message"),
    [
        (np.zeros((0, 2)), np.zeros(0, int), {}, "no labelled rows"),
        (np.eye(3), np.arange(2), {}, "3 rows and labels 2"),
        (
            np.eye(3),
            np.array([0, 1, 3]),
            {},
            r"labels must be in \[0, 3\), but these rows are not: 2",
        ),
        (
            np.array([[0.0], [np.nan]]),
            np.arange(2),
            {},
            r"finite and within 1e\+17, but these rows are not: 1",
        ),
        (np.eye(3), np.arange(3), dict(C=0.0), "C must be positive"),
        (np.eye(3), np.arange(3), dict(C=[]), "C must be positive"),
        (np.eye(3), np.arange(3), dict(folds=1), "at least 2 folds"),
    ],
)
def test_what_cannot_be_fitted_is_refused_in_a_sentence(features, labels, options, message):
    with pytest.raises(ValueError, match=message):
        svm.fit(features, labels, num_classes=3, **options)
    # Without the types that tests check.
    with pytest.raises(
        ValueError,
        match=r"features must be \[B, D\] and labels \[B\], got shapes \(3,\) and \(3,\)",
    ):
        fitting.checked(np.arange(3.0), np.arange(3), 3)


def test_another_number_of_columns_is_refused():
    head = svm.fit(np.eye(3), np.arange(3), num_classes=3)
    with pytest.raises(
        ValueError, match=r"fitted on 3 columns, and these features have shape \(1, 2\)"
    ):
        svm.predict(head, np.zeros((1, 2)))


def test_standardising_gives_the_pool_mean_0_and_deviation_1():
    pool = np.random.default_rng(0).normal(5, 3, size=(1000, 4)).astype(np.float16)
    scaled = scaling.standardise(pool, pool=pool)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-5)


def test_shrinking_gives_the_pool_rows_of_root_mean_square_norm_1():
    pool = np.random.default_rng(0).normal(5, 3, size=(1000, 4)).astype(np.float16)
    assert np.mean(
        np.sum(np.square(scaling.shrink(pool, pool=pool), dtype=np.float64), axis=1)
    ) == pytest.approx(1, abs=1e-6)


def test_test_features_are_scaled_by_the_pool_not_by_themselves():
    pool, test = np.array([[0.0], [2.0]]), np.array([[5.0]])
    assert scaling.standardise(test, pool=pool).tolist() == [[4.0]]
    np.testing.assert_allclose(scaling.shrink(test, pool=pool), 5 / np.sqrt(2))


def test_features_without_any_information_cannot_be_shrunk():
    with pytest.raises(ValueError, match="every feature of the pool is 0"):
        scaling.shrink(np.zeros((2, 2)), pool=np.zeros((2, 2)))


@pytest.mark.parametrize("scale", [scaling.standardise, scaling.shrink])
def test_features_of_another_network_are_not_scaled(scale):
    with pytest.raises(ValueError, match="2 columns and the pool has 3"):
        scale(np.ones((4, 2)), pool=np.ones((4, 3)))
    with pytest.raises(ValueError, match="no rows"):
        scale(np.ones((4, 2)), pool=np.ones((0, 2)))


@pytest.mark.parametrize(("size", "folds"), [(2, 2), (23, 5), (7, 10), (100, 10)])
def test_folds_are_those_of_scikit_learn(size, folds):
    found = fitting.folds_of(size, folds, 3)
    kept = KFold(min(folds, size), shuffle=True, random_state=3).split(np.arange(size))
    for number, (_, held) in enumerate(kept):
        np.testing.assert_array_equal(np.flatnonzero(found == number), held)
