"""The comparison of methods: its regimes, its statistics on made runs, and from end to end."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from hypothesis import given, settings
from hypothesis import strategies as st

import balal
from experiments import compare
from experiments.common import comparison, datasets, draws, methods, pools, regimes, statistics

# On one worker, so that the run they share is made once.
pytestmark = pytest.mark.xdist_group("compare")

METHODS = ("random", "core_set", "random+balance", "rounds:ms", methods.ORACLE)
SMALL = (
    f"--strategies={','.join(METHODS)}",
    "--against=random",
    "--regimes=natural,wrong",
    "--per_class=1,3",
    "--seeds=2",
    "--workers=0",
)


def run(out: Path, *arguments: str) -> dict:
    """The experiment in this process; what results.json holds."""
    flag_values = flags.FlagValues()
    compare.define_flags(flag_values)
    flag_values(["compare", f"--out={out}", *arguments])
    compare.main(flag_values)
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("compare")
    return out, run(out, f"--features={toy}", *SMALL)


# Regimes.


def trials(dataset, regime, runs=3):
    whole = draws.drawn(datasets.pool(dataset), seed=0, runs=runs)
    return regimes.trials(dataset, regime, whole, seed=0)


@pytest.fixture(scope="module")
def many():
    """4,000 rows of five classes, at most 20 times as many of one as of another."""
    rng = np.random.default_rng(0)
    labels = rng.choice(5, 4000, p=[0.42, 0.3, 0.2, 0.06, 0.02]).astype(np.int32)
    features = rng.normal(size=(4000, 2)).astype(np.float32)
    return datasets.Dataset(
        features, labels, features[:50], labels[:50], None, 5, False, {"made": "0"}
    )


@pytest.mark.parametrize("regime", regimes.REGIMES)
def test_trials_of_a_regime_differ_but_not_in_size(many, regime):
    found = trials(many, regime)
    assert len({len(trial.labels) for trial in found}) == 1
    assert len({trial.draw.rows.tobytes() for trial in found}) == 3
    for trial in found:
        rows = trial.draw.rows
        assert np.all(np.diff(rows) > 0)
        assert trial.draw.pool.num_rows == len(rows) == len(trial.told)
        own = many.labels[rows]
        if trial.num_classes == 2:
            (positive,) = np.unique(own[trial.labels == 1])
            own = (own == positive).astype(int)
        assert trial.labels.tolist() == own.tolist()


def test_a_tail_is_as_long_as_the_pool_allows(many):
    for trial in trials(many, "tail"):
        sizes = np.sort(np.bincount(trial.labels, minlength=5))[::-1]
        assert sizes[0] >= 200
        shape = sizes[0] * 200.0 ** -np.linspace(0, 1, 5)
        assert sizes.tolist() == np.maximum(np.floor(shape + 1e-9), 1).tolist()


@given(st.lists(st.integers(1, 500), min_size=2, max_size=30))
@settings(max_examples=60, deadline=None)
def test_no_longer_tail_would_fit(rooms):
    rooms = np.sort(np.array(rooms))[::-1]
    sizes = regimes._falling(rooms)
    assert np.all(sizes <= rooms)
    longer = (sizes[0] + 1) * 200.0 ** -np.linspace(0, 1, len(rooms))
    assert np.any(np.maximum(np.floor(longer + 1e-9), 1) > rooms)


def test_equal_classes_binary_ones_and_wrong_answers(many):
    for trial in trials(many, "equal"):
        assert len(set(np.bincount(trial.labels, minlength=5))) == 1
    for trial in trials(many, "binary"):
        assert (trial.labels.sum(), len(trial.labels)) == (16, 3200)
    for trial in trials(many, "binary_warm"):
        assert np.bincount(trial.labels[trial.start]).tolist() == [9, 1]
        assert len(set(trial.start)) == 10
    for trial in trials(many, "wrong"):
        mistaken = trial.told != trial.labels
        assert 0.07 < mistaken.mean() < 0.13
        assert set(np.unique(trial.told)) <= set(range(5))


def test_a_pool_that_is_too_small_for_a_regime_says_so(toy):
    with pytest.raises(ValueError, match=r"0\.5% positives are 0 rows here"):
        trials(datasets.load(str(toy)), "binary")


# Statistics, on runs that are made up.


def made(scores: dict[str, list[list[float]]]) -> list[dict]:
    """Runs of one pool from the scores of each method, [budgets, S]."""
    return [
        dict(pool="a", regime="natural", method=method, budget=10 * (place + 1), seed=seed)
        | {"score svm": value}
        for method, table in scores.items()
        for place, values in enumerate(table)
        for seed, value in enumerate(values)
    ]


def test_differences_and_wins_follow_from_the_scores():
    rng = np.random.default_rng(0)
    ours, theirs = 50 + rng.normal(size=(2, 6)), 40 + rng.normal(size=(2, 6))
    cheat, level = ours + 30, ours + np.array([1, -1, 1, -1, 1, -1.0])
    scores = dict(ours=ours, theirs=theirs, level=level) | {methods.ORACLE: cheat}
    runs = made({name: table.tolist() for name, table in scores.items()})
    found = comparison.cells(runs, ["svm"], against="ours")
    assert len(found) == 8
    by_method = {(cell["method"], cell["budget"]): cell for cell in found}
    cell = by_method["theirs", 20]
    assert cell["difference"] == pytest.approx(np.mean(theirs[1] - ours[1]), abs=1e-5)
    assert cell["p"] == statistics.smallest_p(6)
    # Three are compared in each column; the two with the smallest p share the correction.
    assert cell["p_holm"] == pytest.approx(3 * statistics.smallest_p(6))
    assert by_method["ours", 10]["difference"] is None
    entries = {entry["method"]: entry for entry in comparison.wins(found, against="ours")}
    assert [entries[name]["best"] for name in ("ours", "theirs", methods.ORACLE)] == [2, 0, 0]
    assert entries["theirs"]["ahead"] == 0
    assert entries[methods.ORACLE]["ahead"] == 2
    rivals = comparison.rivals(runs, ["svm"], against="ours")
    assert [entry["rival"] for entry in rivals] == ["level", "level"]
    assert all(entry["difference"] == pytest.approx(0, abs=1e-9) for entry in rivals)


def test_what_holds_under_one_head_only_is_told():
    up, down = dict(difference=2.0, p_holm=0.01), dict(difference=-0.5, p_holm=0.8)
    cell = dict(pool="a", regime="natural", budget=10)
    found = comparison.reversals(
        [
            cell | dict(method="x", head="svm") | up,
            cell | dict(method="x", head="logistic") | down,
            cell | dict(method="y", head="svm") | up,
            cell | dict(method="y", head="logistic") | up,
        ]
    )
    assert [entry["method"] for entry in found] == ["x"]
    assert (found[0]["head"], found[0]["difference"]) == ("svm", 2.0)
    assert (found[0]["other_head"], found[0]["other_difference"]) == ("logistic", -0.5)


# Methods.


def test_a_schedule_holds_the_budgets_and_grows():
    ends = methods.schedule([100, 400, 2000], 100)
    assert {100, 400, 2000} <= set(ends)
    steps = np.diff([0, *ends])
    assert np.all(steps[1:] >= steps[:-1])
    assert methods.schedule([20, 50], 2) == [10, 20, 30, 40, 50]


@pytest.mark.nightly
@pytest.mark.parametrize("name", methods.DEFAULT)
def test_every_method_buys_what_was_asked_for(name, many):
    method = methods.named(name)
    for regime in ("natural", "binary_warm"):
        trial = trials(many, regime)[0]
        pool = trial.draw.whole
        if "scores" in method.needs:
            logits = np.random.default_rng(1).normal(size=(pool.num_rows, 4))
            whole = balal.pool(many.features, logits=logits)
            trial = replace(trial, draw=replace(trial.draw, whole=whole))
        bought = methods.buy(
            method, trial, many.features[trial.draw.rows], budgets=[10, 20], most=20
        )
        for budget, rows in bought.items():
            assert len(set(rows.tolist())) == budget
            assert not set(rows.tolist()) & set(trial.start.tolist())


# From end to end.


def test_every_method_budget_and_seed_is_there_once(small):
    _, result = small
    found = [(r["regime"], r["method"], r["budget"], r["seed"]) for r in result["runs"]]
    assert sorted(found) == sorted(
        (regime, method, budget, seed)
        for regime in ("natural", "wrong")
        for method in METHODS
        for budget in (6, 18)
        for seed in (0, 1)
    )
    assert result["contests"][0]["budgets"] == [6, 18]


def test_picks_are_those_of_the_library_on_the_trial(small, toy):
    _, result = small
    dataset = datasets.load(str(toy))
    trial = trials(dataset, "wrong", runs=2)[1]
    for name in ("core_set", "random+balance"):
        expected = balal.one_shot(
            balal.strategy(name),
            trial.draw.pool,
            trial.told,
            budget=18,
            num_classes=6,
            key=trial.draw.key,
        )
        (found,) = [
            entry["indices"]
            for entry in result["runs"]
            if (entry["regime"], entry["method"], entry["budget"], entry["seed"])
            == ("wrong", name, 18, 1)
        ]
        assert found == trial.draw.rows[np.asarray(expected.indices)].tolist()


def test_heads_learn_what_they_were_told_and_are_tested_on_the_truth(small, toy):
    from experiments.common import classifiers

    _, result = small
    dataset = datasets.load(str(toy))
    trial = trials(dataset, "wrong", runs=2)[0]
    (features, _), (tests, test_labels) = datasets.scaled(dataset)
    (entry,) = [
        entry
        for entry in result["runs"]
        if (entry["regime"], entry["method"], entry["budget"], entry["seed"])
        == ("wrong", "random", 18, 0)
    ]
    rows = np.sort(entry["indices"])
    told = trial.told[np.searchsorted(trial.draw.rows, rows)]
    options = dict(num_classes=6, C=(10.0,), folds=10, seed=0)
    task = classifiers.Task(features[rows], told, features[:0], tests, options)
    for head in result["configuration"]["heads"]:
        predicted = classifiers.fit(head, task).predicted
        recalls = [100 * np.mean(predicted[test_labels == c] == c) for c in range(6)]
        assert entry[f"score {head}"] == pytest.approx(np.mean(recalls), abs=1e-3)


def test_finished_parts_are_kept_and_the_same_seed_gives_the_same_files(
    small, toy, tmp_path, monkeypatch
):
    out, _ = small
    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    monkeypatch.setattr(methods, "buy", None)
    run(out, f"--features={toy}", *SMALL)
    after = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    assert after == before
    assert {"table.md", "results.json", "results.csv", "differences.png"} <= set(after)
    text = (out / "table.md").read_text()
    for heading in ("What each method wins", "random beside the best", "## toy, wrong"):
        assert heading in text


def test_two_arrays_are_a_pool(toy, tmp_path):
    dataset = datasets.load(str(toy))
    np.save(tmp_path / "X.npy", dataset.features)
    np.save(tmp_path / "y.npy", dataset.labels)
    found = pools.loaded([], [str(tmp_path / "X.npy")], [str(tmp_path / "y.npy")])["X"]
    assert np.bincount(found.test_labels).tolist() == [10, 6, 4, 2, 1, 1]
    assert len(found.labels) + len(found.test_labels) == len(dataset.labels)
    np.save(tmp_path / "y.npy", np.arange(len(dataset.labels)))
    with pytest.raises(ValueError, match="has one row only of class 0, 1, 2"):
        pools.loaded([], [str(tmp_path / "X.npy")], [str(tmp_path / "y.npy")])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--against=ms"], "--against=ms is not among --strategies: add it there"),
        (["--regimes=tails"], "--regimes does not know 'tails'; the nearest are tail"),
        (["--strategies=random,rounds:m"], "--strategies: no strategy is called 'm'"),
        (["--features=X.npy"], "--labels names 0 files, and --features 1 that end in .npy"),
        (["--per_class=0"], "--per_class takes positive numbers"),
        (["--per_class=90"], "it has 228 rows there, fewer than any budget"),
        (["--regimes=binary"], r"0\.5% positives are 1 rows here"),
        (
            ["--strategies=random,ent", "--against=ent"],
            "it has no source scores, which --against=ent needs",
        ),
    ],
)
def test_a_wrong_flag_is_reported_in_one_sentence(arguments, sentence, tmp_path):
    own = ["--pools=digits", "--strategies=random", "--against=random", *arguments]
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "out", *own)
    assert not (tmp_path / "out").exists()


@pytest.mark.data
def test_named_pools_are_large_enough_for_every_regime(shared):
    for name in ("mnv2", "caltech101", "grocery"):
        dataset = pools.NAMED[name]()
        for regime in regimes.REGIMES:
            assert len(trials(dataset, regime, runs=1)[0].labels) >= 800
