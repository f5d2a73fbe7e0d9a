"""What the comparison of paired runs rests on, against enumeration and cases made by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import permutation_test, t

from experiments.common import contrasts, statistics

few = st.lists(st.integers(-5, 5), min_size=1, max_size=8)


@given(few)
def test_the_sign_flip_test_equals_the_enumeration_of_all_patterns(differences):
    patterns = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    share = sum(value >= abs(sum(differences)) for value in patterns) / len(patterns)
    assert statistics.sign_flip(np.array(differences, float)) == pytest.approx(share, abs=1e-12)
    # Tenths cannot be added up exactly in binary: equal sums must still count as equal.
    assert statistics.sign_flip(np.array(differences) / 10) == pytest.approx(share, abs=1e-12)


def test_the_sign_flip_test_equals_that_of_scipy():
    ours, theirs = np.random.default_rng(0).normal(size=(2, 9))
    expected = permutation_test(
        (ours, theirs), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf
    )
    assert statistics.sign_flip(ours - theirs) == pytest.approx(expected.pvalue, abs=1e-12)


def test_the_sign_flip_test_is_two_sided_and_knows_its_limits():
    for runs in (1, 10, 20):
        assert (
            statistics.sign_flip(np.arange(1.0, runs + 1))
            == statistics.sign_flip(-np.arange(1.0, runs + 1))
            == statistics.smallest_p(runs)
        )
    assert statistics.sign_flip(np.zeros(10)) == 1
    for runs in (0, 21):
        with pytest.raises(ValueError, match=f"takes 1 to 20 paired runs, got {runs}"):
            statistics.sign_flip(np.ones(runs))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holms_correction_rejects_what_his_steps_reject(p_values):
    corrected = statistics.holm(p_values)
    for level in (0.01, 0.05, 0.3):
        rejected = set()
        for step, place in enumerate(
            sorted(range(len(p_values)), key=lambda place: p_values[place])
        ):
            if p_values[place] * (len(p_values) - step) > level:
                break
            rejected.add(place)
        assert {place for place, p in enumerate(corrected) if p <= level} == rejected
    assert all(0 <= old <= new <= 1 for old, new in zip(p_values, corrected, strict=True))


def test_mean_error_and_interval_are_those_of_the_textbooks():
    values = np.array([1.0, 2.0, 4.0, 9.0])
    mean, error = statistics.mean_and_error(values)
    assert (mean, error) == (4.0, pytest.approx(np.sqrt(((values - 4) ** 2).sum() / 3 / 4)))
    assert statistics.interval(error, 4) == pytest.approx(
        t.interval(0.95, 3, loc=4, scale=error)[1] - 4
    )


def test_labels_for_an_accuracy_are_read_off_the_curve():
    budgets, curve = [100, 200, 800], [10.0, 20.0, 40.0]
    assert [
        statistics.labels_for(accuracy, budgets, curve)
        for accuracy in (9.0, 10.0, 15.0, 20.0, 30.0, 40.0, 41.0)
    ] == [
        (100, "<"),
        (100, "="),
        (pytest.approx(100 * 2**0.5), "="),
        (200, "="),
        (pytest.approx(400), "="),
        (800, "="),
        (800, ">"),
    ]


def test_a_curve_that_falls_is_crossed_where_it_first_gets_there():
    assert statistics.labels_for(20.0, [1, 10, 100, 1000], [10.0, 30.0, 5.0, 30.0]) == (
        pytest.approx(10**0.5),
        "=",
    )
    # It stands at 25 in the middle only.
    assert statistics.labels_for(25.0, [1, 10, 100], [10.0, 25.0, 20.0]) == (10, "=")


def test_a_share_of_nothing_is_not_reported():
    assert statistics.share_of_gain(-1.0, 2.0, 1.0) == -0.5
    assert statistics.share_of_gain(1.0, 1.0, 1.0) is None
    assert statistics.share_of_gain(1.0, -3.0, 1.0) is None
    assert statistics.share_of_gain(1.0, 0.0, 0.0) is None


@given(st.lists(st.integers(0, 3), max_size=20), st.integers(1, 3))
def test_labels_until_is_the_first_moment_at_which_every_target_has_enough(labels, at_least):
    needed = statistics.labels_until(np.array(labels, int), [0, 2], at_least)
    enough = [
        n
        for n in range(1, len(labels) + 1)
        if min(labels[:n].count(0), labels[:n].count(2)) >= at_least
    ]
    assert needed == (enough[0] if enough else None)


def test_the_median_counts_who_never_got_there_as_infinite():
    assert statistics.median_of_reached([5, None, 7, 9, None]) == 9
    assert statistics.median_of_reached([5, None, None]) is None
    assert statistics.median_of_reached([5, None]) is None


# From runs to entries.


def runs_of(accuracies: dict[tuple[str, str], list[list[float]]], pool: str = "p") -> list[dict]:
    """Runs with these accuracies, [budgets 100 and 400][seeds], by strategy and rule."""
    return [
        dict(pool=pool, strategy=strategy, rule=rule, budget=budget, seed=seed, accuracy=accuracy)
        for (strategy, rule), table in accuracies.items()
        for budget, row in zip((100, 400), table, strict=True)
        for seed, accuracy in enumerate(row)
    ]


THREE = runs_of(
    {
        ("random", "none"): [[10.0, 12.0, 14.0], [30.0, 30.0, 30.0]],
        ("random", "balance"): [[13.0, 14.0, 15.0], [31.0, 30.0, 29.0]],
        ("random", "oracle_all"): [[14.0, 16.0, 18.0], [34.0, 34.0, 34.0]],
        ("posterior", "none"): [[20.0, 21.0, 22.0], [40.0, 41.0, 42.0]],
    }
)
ORDER = ["none", "balance", "posterior", "oracle_all"]


def test_differences_are_paired_by_seed_and_corrected_in_each_comparison():
    compared = contrasts.differences(THREE, ORDER, alone=["posterior"])
    cells = {(cell["name"], cell["baseline"], cell["budget"]): cell for cell in compared}
    assert len(compared) == len(cells) == 8
    first = cells["random+balance", "random", 100]
    assert (first["mean"], first["error"]) == (2.0, pytest.approx(1 / 3**0.5, abs=1e-6))
    assert (first["p"], first["p_holm"], first["cells"]) == (0.25, 0.5, 2)
    assert cells["random+balance", "random", 400]["p"] == 1
    # The strategy that stands alone is compared with random sampling.
    assert cells["posterior", "random", 400]["mean"] == 11
    assert cells["random+oracle_all", "random+balance", 100]["mean"] == 2


def test_wins_are_counted_from_either_side():
    def cell(mean, p, rule="balance", against="none"):
        return dict(rule=rule, against=against, mean=mean, p_holm=p)

    compared = [
        cell(1.0, 0.01),
        cell(2.0, 0.2),
        cell(-1.0, 0.05),
        cell(0.0, 1.0),
        cell(9.0, 0.0, "posterior", "random"),
    ]
    ours, theirs = contrasts.wins(compared, ["none", "balance", "posterior"])[::-1]
    assert ours == dict(
        rule="balance",
        against="none",
        cells=4,
        better=2,
        significantly_better=1,
        significantly_worse=1,
    )
    assert theirs == dict(
        rule="none",
        against="balance",
        cells=4,
        better=1,
        significantly_better=1,
        significantly_worse=1,
    )


def test_shares_are_of_the_oracles_gain():
    compared = contrasts.differences(THREE, ORDER, alone=["posterior"])
    assert contrasts.shares(compared, oracle="oracle_all") == [
        dict(pool="p", name="random+balance", budget=100, share=0.5),
        dict(pool="p", name="random+balance", budget=400, share=0.0),
    ]


def test_labels_needed_are_of_random_and_of_the_strategy_alone():
    runs = THREE + runs_of(
        {
            ("core_set", "none"): [[12.0] * 3, [21.0] * 3],
            ("core_set", "balance"): [[12.0] * 3, [30.0] * 3],
        }
    )
    needed = {
        (entry["name"], entry["reference"], entry["budget"]): entry
        for entry in contrasts.labels_needed(runs)
    }
    assert needed["random+balance", "random", 100]["labels"] == pytest.approx(
        100 * 4 ** (2 / 18), abs=1e-3
    )
    assert needed["random+balance", "random", 100]["factor"] == pytest.approx(
        4 ** (2 / 18), abs=1e-5
    )
    assert (
        needed["posterior", "random", 400]["relation"],
        needed["posterior", "random", 400]["factor"],
    ) == (">", 1.0)
    assert needed["core_set", "random", 400]["factor"] == pytest.approx(0.5)
    assert needed["core_set+balance", "core_set", 400]["relation"] == ">"
    assert ("core_set", "core_set", 400) not in needed
    assert ("random", "random", 400) not in needed


def test_labels_to_a_goal_come_from_the_picks_of_the_largest_budget():
    labels = np.array([0, 1, 0, 1, 2])
    runs = [
        dict(
            pool="p",
            strategy="random",
            rule="none",
            budget=budget,
            seed=seed,
            indices=indices[:budget],
        )
        for seed, indices in enumerate(([0, 2, 1, 3], [0, 2, 4, 1], [0, 1, 3, 2]))
        for budget in (2, 4)
    ]
    (entry,) = contrasts.labels_to_goal(runs, {"p": labels}, {"p": [0, 1]}, 2)
    assert entry == dict(
        pool="p", name="random", budget=4, needed=[4, None, 4], reached=2, median=4.0
    )


def test_means_have_an_entry_a_cell():
    entries = contrasts.means(THREE, ["accuracy"])
    assert len(entries) == 8
    assert entries[0] == dict(
        pool="p", strategy="random", rule="none", name="random", budget=100
    ) | dict(accuracy=dict(mean=12.0, error=round(2 / 3**0.5, 6)))
