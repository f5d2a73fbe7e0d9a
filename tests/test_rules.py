"""The comparison over many pools from end to end, on small ones; its oracles and its pools."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

import balal
from balal.heads import svm
from experiments import rules
from experiments.common import datasets, pools
from experiments.common.oracles import ORACLES, oracle

# On one worker, so that the run they share is made once.
pytestmark = pytest.mark.xdist_group("rules")

ROOT = Path(__file__).parent.parent
RULE_NAMES = ["none", "balance", "oracle_known", "oracle_all"]
SMALL = (
    "--pools=",
    "--strategies=random",
    "--rules=oracle_all,balance,oracle_known",
    "--budgets=12,24",
    "--seeds=3",
    "--at_least=2",
)


def run(out: Path, *arguments: str) -> dict:
    """The experiment in this process; what results.json holds."""
    start(f"--out={out}", "--workers=0", *arguments)
    return json.loads((out / "results.json").read_text())


def start(*arguments: str) -> None:
    """The program with these flags."""
    flag_values = flags.FlagValues()
    rules.define_flags(flag_values)
    flag_values(["rules", *arguments])
    rules.main(flag_values)


def program(*arguments: str) -> subprocess.CompletedProcess:
    """The experiment as a user starts it."""
    command = [sys.executable, "-m", "experiments.rules", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def written(out: Path) -> dict[str, bytes]:
    """Every file for people and programs, by name; cells and times are neither."""
    return {
        path.name: path.read_bytes()
        for path in sorted(out.iterdir())
        if path.is_file() and path.name != "timings.json"
    }


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory) -> tuple[Path, dict, tuple[str, ...]]:
    """What was written, what results.json holds, and the arguments of a run on both toy pools."""
    out, arguments = (
        tmp_path_factory.mktemp("small"),
        (*SMALL, f"--features={toy.with_name('other.npz')},{toy}"),
    )
    return out, run(out, *arguments), arguments


# The experiment.


@pytest.mark.nightly
def test_every_pool_rule_budget_and_seed_is_there_once(small):
    _, result, _ = small
    found = [
        (entry["pool"], entry["rule"], entry["budget"], entry["seed"]) for entry in result["runs"]
    ]
    expected = [
        (pool, rule, budget, seed)
        for pool in ("other", "toy")
        for rule in RULE_NAMES
        for budget in (12, 24)
        for seed in range(3)
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.nightly
def test_runs_share_their_draw_of_the_pool_whatever_the_rule(small):
    _, result, _ = small
    draws = {(draw["pool"], draw["seed"]): draw["rows"] for draw in result["draws"]}
    assert {(pool, len(rows)) for (pool, _), rows in draws.items()} == {("other", 96), ("toy", 96)}
    assert draws["toy", 0] != draws["toy", 1]
    for entry in result["runs"]:
        assert len(set(entry["indices"])) == entry["budget"]
        assert set(entry["indices"]) <= set(draws[entry["pool"], entry["seed"]])


@pytest.mark.nightly
def test_picks_are_those_of_the_library_on_the_drawn_pool(small, toy):
    _, result, _ = small
    dataset = datasets.load(str(toy))
    entry = next(
        e
        for e in result["runs"]
        if (e["pool"], e["rule"], e["budget"], e["seed"]) == ("toy", "balance", 24, 2)
    )
    rows = np.array(result["draws"][-1]["rows"])
    key = jax.random.split(jax.random.fold_in(jax.random.key(0), 2), 3)[1]
    pool = balal.pool(dataset.features[rows])
    bought = balal.one_shot(
        balal.strategy("random+balance"),
        pool,
        dataset.labels[rows],
        budget=24,
        num_classes=6,
        key=key,
    )
    assert rows[np.asarray(bought.indices)].tolist() == entry["indices"]


@pytest.mark.nightly
def test_figures_follow_from_the_picked_rows(small, toy):
    _, result, _ = small
    (features, labels), (test_features, test_labels) = datasets.scaled(datasets.load(str(toy)))
    entry = next(
        entry
        for entry in result["runs"]
        if (entry["pool"], entry["rule"], entry["budget"]) == ("toy", "oracle_all", 24)
    )
    rows = np.sort(entry["indices"])
    predicted = svm.predict(svm.fit(features[rows], labels[rows], num_classes=6), test_features)
    recalls = [100 * np.mean(predicted[test_labels == c] == c) for c in range(6)]
    assert entry["recalls"] == pytest.approx(recalls, abs=1e-3)
    assert entry["accuracy"] == entry["target_recall"] == pytest.approx(np.mean(recalls), abs=1e-3)
    counts = np.bincount(labels[rows], minlength=6)
    assert entry["imbalance_ratio"] == pytest.approx(counts.std() / counts.mean(), abs=1e-5)


@pytest.mark.nightly
def test_rules_and_oracles_switch_at_the_same_moment(small):
    _, result, _ = small
    switches = {
        (e["pool"], e["budget"], e["seed"], e["rule"]): e["switched_at"] for e in result["runs"]
    }
    picks = {(e["pool"], e["budget"], e["seed"], e["rule"]): e["indices"] for e in result["runs"]}
    assert max(switches.values()) > 0
    for (pool, budget, seed, rule), switch in switches.items():
        if rule != "none":
            assert switch == switches[pool, budget, seed, "balance"]
            start = budget if switch < 0 else switch
            assert (
                picks[pool, budget, seed, rule][:start] == picks[pool, budget, seed, "none"][:start]
            )


@pytest.mark.nightly
def test_a_small_budget_without_a_rule_is_the_start_of_a_large_one(small):
    _, result, _ = small
    picks = {
        (e["pool"], e["seed"], e["budget"]): e["indices"]
        for e in result["runs"]
        if e["rule"] == "none"
    }
    assert all(picks[pool, seed, 12] == picks[pool, seed, 24][:12] for pool, seed, _ in picks)


@pytest.mark.nightly
def test_the_tables_are_all_there(small):
    out, result, _ = small
    text = (out / "table.md").read_text()
    assert text.count("## other") == text.count("## toy") == 1
    for title in (
        "### In how many cells",
        "### Balanced test accuracy",
        "### Gain in accuracy",
        "### Share of the gain of the oracle",
        "### How many times the labels random needs",
        "### Classes found",
        "### Imbalance ratio",
        "### Labels until every class has 2",
    ):
        assert title in text
    gains = text.split("### Gain in accuracy")[1].split("###")[0]
    assert "| random+balance - random " in gains
    cell = next(
        cell
        for cell in result["differences"]
        if (cell["name"], cell["baseline"], cell["budget"]) == ("random+balance", "random", 12)
    )
    assert f"{cell['mean']:+.1f} ± {cell['error']:.1f} " in gains
    # Three runs cannot be significant, and the table says so.
    assert "With 3 runs p is at least 0.25. That is too few runs" in text
    assert "*" not in gains


@pytest.mark.nightly
def test_the_csv_has_a_line_for_every_run(small):
    out, result, _ = small
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [
        entry["accuracy"] for entry in result["runs"]
    ]
    assert "indices" not in rows[0]


@pytest.mark.slow
@pytest.mark.nightly
def test_the_same_seed_gives_the_same_files_and_finished_cells_are_kept(
    small, tmp_path, monkeypatch
):
    out, _, arguments = small
    run(tmp_path / "again", *arguments)
    assert written(tmp_path / "again") == written(out)
    assert {"accuracy.png", "gain.png", "results.csv", "results.json", "table.md"} == set(
        written(out)
    )
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    for module, name in ((rules, "simulate"), (rules, "consult"), (svm, "fit")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("done before"))
    run(copy, *arguments)
    assert written(copy) == written(out)


@pytest.mark.nightly
def test_an_interrupted_run_resumes_where_it_was(small, monkeypatch, tmp_path):
    out, _, arguments = small
    asked, consult = [], rules.consult

    def interrupted(contest, draw, first, rule):
        asked.append((contest.name, rule, len(first)))
        if len(asked) == 4:
            raise KeyboardInterrupt
        return consult(contest, draw, first, rule)

    monkeypatch.setattr(rules, "consult", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *arguments)
    run(tmp_path, *arguments)
    # What was interrupted is the only thing asked for twice.
    assert len(asked) == 2 * 2 * 2 * 3 + 1
    assert asked[3] == asked[4]
    assert written(tmp_path) == written(out)


# Adaptive strategies and targets.


@pytest.mark.slow
@pytest.mark.nightly
def test_an_adaptive_strategy_stands_alone_and_may_be_given_a_target(toy, tmp_path, monkeypatch):
    asked, simulate = [], rules.simulate

    def spied(contest, draw, strategy, budget):
        asked.append((strategy, budget))
        return simulate(contest, draw, strategy, budget)

    monkeypatch.setattr(rules, "simulate", spied)
    arguments = (
        "--pools=",
        f"--features={toy}",
        "--budgets=8,16",
        "--strategies=random,posterior",
        "--rules=balance,posterior",
        "--seeds=2",
    )
    result = run(tmp_path, *arguments)
    assert [(entry["strategy"], entry["rule"]) for entry in result["runs"]][::4] == [
        ("random", "none"),
        ("random", "balance"),
        ("random", "posterior"),
        ("posterior", "none"),
    ]
    # Only balancing looks at the budget: the others are simulated once, for the largest.
    assert {budget for strategy, budget in asked if not strategy.nested} == {8, 16}
    assert {budget for strategy, budget in asked if strategy.nested} == {16}
    text = (tmp_path / "table.md").read_text()
    assert "| posterior - random " in text
    assert all(getattr(strategy, "target", None) is None for strategy, _ in asked)

    # Told a target, only the strategies and rules that know it are asked again.
    asked.clear()
    result = run(tmp_path, *arguments, "--target=4,1", "--at_least=3")
    assert {strategy.target for strategy, _ in asked} == {(0.0, 1.0, 0.0, 0.0, 1.0, 0.0)}
    assert len(asked) == 2 * 2
    for entry in result["runs"]:
        assert entry["target_recall"] == pytest.approx(
            (entry["recalls"][1] + entry["recalls"][4]) / 2, abs=1e-3
        )
    text = (tmp_path / "table.md").read_text()
    assert "### Mean test recall of the target classes" in text
    assert "### Labels until each of the classes 1, 4 has 3" in text
    labels = datasets.load(str(toy)).labels
    for goal in result["labels_to_goal"]:
        runs = [
            e
            for e in result["runs"]
            if e["budget"] == 16 and goal["name"] in (e["strategy"], f"{e['strategy']}+{e['rule']}")
        ]
        for entry, needed in zip(
            [e for e in runs if goal["name"].endswith(e["rule"]) or e["rule"] == "none"],
            goal["needed"],
            strict=True,
        ):
            counts = np.bincount(labels[entry["indices"]][:needed], minlength=6)
            assert (needed is None) == bool(min(counts[1], counts[4]) < 3)


@pytest.mark.slow
@pytest.mark.nightly
def test_several_rows_are_asked_at_a_time(toy, tmp_path):
    arguments = (
        "--pools=",
        f"--features={toy}",
        "--budgets=8,16",
        "--strategies=random",
        "--rules=balance,posterior",
        "--seeds=2",
    )
    single, together = (
        run(tmp_path / "one", *arguments),
        run(tmp_path / "five", *arguments, "--size=5"),
    )
    assert "rows asked 5 at a time" in (tmp_path / "five" / "table.md").read_text()
    picks = [
        {(e["rule"], e["budget"], e["seed"]): e["indices"] for e in result["runs"]}
        for result in (single, together)
    ]
    for (rule, budget, seed), rows in picks[1].items():
        assert len(set(rows)) == budget
        if rule == "none":
            assert rows == picks[0][rule, budget, seed]
        if rule == "posterior":
            assert rows == picks[1][rule, 16, seed][:budget]
            assert (rows == picks[0][rule, budget, seed]) == (budget == 8)


# The oracles.


def example(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels of 300 imbalanced rows, the candidates among them, and an order in which to pick 60 of
    those."""
    chance = np.random.default_rng(seed)
    labels = chance.choice(6, 300, p=[0.5, 0.25, 0.12, 0.08, 0.04, 0.01]).astype(np.int32)
    candidates = np.sort(chance.permutation(300)[:240])
    return labels, candidates, chance.permutation(candidates)[:60]


@pytest.mark.parametrize("classes", ORACLES.values())
@pytest.mark.parametrize("seed", range(3))
def test_an_oracle_takes_candidates_once_and_the_class_it_wants(classes, seed):
    labels, candidates, first = example(seed)
    picks, wanted = oracle(
        jax.random.key(seed), first, labels, candidates, num_classes=6, classes=classes
    )
    switch = int(np.argmax(wanted >= 0))
    assert 0 < switch < 60
    assert len(set(picks.tolist())) == 60
    assert set(picks) <= set(candidates)
    assert picks[:switch].tolist() == first[:switch].tolist()
    assert (wanted[:switch] == -1).all()
    assert (labels[picks[switch:]] == wanted[switch:]).all()
    sizes = np.bincount(labels[candidates], minlength=6)
    for place in range(switch, 60):
        counts = np.bincount(labels[picks[:place]], minlength=6)
        open_to_it = (counts < sizes) & ((counts > 0) if classes == "found" else True)
        assert counts[wanted[place]] == counts[open_to_it].min()
        assert open_to_it[wanted[place]]


def test_the_oracle_of_all_classes_reaches_the_lowest_ratio_there_is():
    labels = np.repeat(np.arange(4), [30, 8, 3, 2]).astype(np.int32)
    # The switch comes after eight labels, of which no class has more than its best share of 20.
    first = np.array([0, 30, 38, 41, *range(1, 17)])
    picks, wanted = oracle(
        jax.random.key(0), first, labels, np.arange(43), num_classes=4, classes="all"
    )
    assert np.argmax(wanted >= 0) == 8
    # Filled from the rarest up, as far as the pool and the start allow.
    best = min(
        (np.std(counts), counts)
        for counts in (
            (20 - b - c - d, b, c, d) for b in range(9) for c in range(4) for d in range(3)
        )
        if counts[0] <= 30
    )
    assert sorted(np.bincount(labels[picks], minlength=4)) == sorted(best[1])


def test_an_oracle_of_known_classes_takes_an_unknown_one_only_when_nothing_else_is_left():
    labels = np.repeat(np.arange(3), [6, 2, 4]).astype(np.int32)
    first = np.array([0, 1, 2, 6, 3, 7, 4, 5, 8, 9])
    picks, wanted = oracle(
        jax.random.key(0), first, labels, np.arange(12), num_classes=3, classes="found"
    )
    assert np.any(wanted[:8] >= 0)
    assert set(labels[picks[:8]]) == {0, 1}
    assert (labels[picks[8:]] == 2).all()


def test_an_oracle_that_never_switches_changes_nothing():
    first = np.arange(10)
    picks, wanted = oracle(
        jax.random.key(0),
        first,
        np.zeros(20, np.int32),
        np.arange(20),
        num_classes=2,
        classes="all",
    )
    assert (picks.tolist(), set(wanted)) == (first.tolist(), {-1})


# The pools.


def test_digits_are_long_tailed_with_a_balanced_test_set():
    dataset = pools.digits()
    assert np.bincount(dataset.test_labels).tolist() == [89] * 10
    assert 18 <= dataset.sizes.max() / dataset.sizes.min() <= 22
    assert dataset.scores is None
    assert (dataset.features.min(), dataset.features.max()) == (0, 1)
    assert not {row.tobytes() for row in dataset.features} & {
        row.tobytes() for row in dataset.test_features
    }


def test_a_pool_that_is_not_there_is_left_out_only_where_nobody_asked_for_it(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("BALAL_SHARED", str(tmp_path))
    monkeypatch.setattr(
        pools, "NAMED", {"lite0": pools.digits, "mnv2": pools.NAMED["mnv2"], "digits": pools.digits}
    )
    with pytest.raises(FileNotFoundError, match=r"the pool mnv2 needs .*: set BALAL_SHARED"):
        run(tmp_path / "out", *SMALL, "--pools=mnv2")
    found = contests(monkeypatch, "--budgets=12")
    assert [contest.name for contest in found] == ["lite0", "digits"]
    notes = capsys.readouterr().err.splitlines()
    assert next(note for note in notes if "mnv2" in note).endswith("it is left out")
    assert "note: digits has no source scores: ent_inv_div, lc_inv_div left out there" in notes


def test_quick_gives_way_to_a_flag(monkeypatch):
    quick = contests(monkeypatch, "--quick")
    assert [(contest.name, contest.budgets, len(contest.draws)) for contest in quick] == [
        ("lite0", [100, 200, 500], 3),
        ("digits", [20, 50, 100], 3),
    ]
    own = ("--pools=digits", "--budgets=9", "--seeds=2", "--strategies=core_set")
    (contest,) = contests(monkeypatch, "--quick", *own)
    assert (contest.budgets, len(contest.draws), contest.strategies) == ([9], 2, ["core_set"])


def contests(monkeypatch, *arguments: str) -> list[rules.Contest]:
    """What would be compared with these flags."""
    asked = []
    monkeypatch.setattr(rules, "carry_out", asked.append)
    start(*arguments)
    return rules.prepare(*asked)


# What users get wrong.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--strategies=random,entropi"],
            "--strategies: no strategy is called 'entropi'; the nearest known names are ent",
        ),
        (["--rules=balanced"], "--rules does not know 'balanced'; the nearest are balance"),
        (["--pools=digit"], "--pools does not know 'digit'; the nearest are digits"),
        (["--pools="], "there is no pool: name some"),
        (["--budgets=0,5"], "--budgets takes positive numbers"),
        (["--budgets=500"], "--budgets goes up to 500, and a draw of digits has only 228 rows"),
        (
            ["--strategies=ent"],
            "all of --strategies need source scores, but digits has none",
        ),
        (["--target=3,x"], "--target takes class ids separated by commas, got '3,x'"),
        (["--target=3,17"], "--target names class 17, and digits tests no such class of its 10"),
    ],
)
def test_a_wrong_flag_is_reported_in_one_sentence(arguments, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "out", *SMALL, "--pools=digits", *arguments)
    assert not (tmp_path / "out").exists()


def test_two_pools_of_one_name_are_refused(toy, tmp_path):
    with pytest.raises(ValueError, match="two pools are called 'toy'"):
        run(tmp_path, "--pools=", f"--features={toy},{toy}")


def test_wrong_numbers_are_absls_to_refuse(tmp_path):
    for argument in ("--seeds=1", "--seeds=21", "--at_least=0", "--budget=5"):
        with pytest.raises(flags.Error):
            run(tmp_path, argument)


@pytest.mark.nightly
def test_the_program_ends_in_one_sentence_and_exit_code_2():
    done = program("--pools=", "--features=nowhere.npz")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        "error: there is no file nowhere.npz: name an npz file of plain arrays\n",
    )


@pytest.mark.nightly
def test_help_teaches_by_example():
    done = program("--help")
    assert done.returncode == 0
    assert "python -m experiments.rules --quick" in done.stdout
    for name in ("--pools", "--features", "--target", "--at_least", "--[no]quick"):
        assert f"\n  {name}:" in done.stdout


@pytest.mark.data
def test_the_pool_of_the_other_network_has_scores(shared):
    dataset = pools.NAMED["mnv2"]()
    assert dataset.scores is not None
    assert datasets.is_paper_pool(dataset)
