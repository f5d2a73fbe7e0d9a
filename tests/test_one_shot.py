"""The one-shot experiment from end to end, on small pools, and the parts that it shares with other
experiments."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

import balal
from balal.heads import logistic, pseudo_labels, rebalance, svm
from balal.strategies import STRATEGIES
from experiments import one_shot
from experiments.common import buying, cells, datasets, paper, report, summary, workers
from experiments.common.program import listed

# On one worker, so that the run they share is made once.
pytestmark = pytest.mark.xdist_group("one_shot")

ROOT = Path(__file__).parent.parent
SMALL = ("--pool_rows=600", "--budgets=30,60", "--strategies=random,ent_inv_div", "--seeds=2")


def run(out: Path, *arguments: str) -> dict:
    """The experiment in this process; what results.json holds."""
    flag_values = flags.FlagValues()
    one_shot.define_flags(flag_values)
    flag_values(["one_shot", f"--out={out}", "--workers=0", *arguments])
    one_shot.main(flag_values)
    return json.loads((out / "results.json").read_text())


def program(*arguments: str) -> subprocess.CompletedProcess:
    """The experiment as a user starts it."""
    command = [sys.executable, "-m", "experiments.one_shot", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def written(out: Path) -> dict[str, bytes]:
    """Every file for people and programs, by name; cells and times are neither."""
    return {
        path.name: path.read_bytes()
        for path in sorted(out.iterdir())
        if path.is_file() and path.name != "timings.json"
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("small")
    return out, run(out, *SMALL)


@pytest.mark.parametrize(
    ("name", "budget"),
    [
        ("random+posterior", 8),
        pytest.param("core_set+posterior", 25, marks=pytest.mark.slow),
    ],
)
def test_a_run_in_two_parts_is_the_run_in_one(name, budget):
    rng = np.random.default_rng(0)
    pool, labels = (
        balal.pool(rng.normal(size=(80, 4)).astype(np.float32)),
        rng.integers(0, 4, 80).astype(np.int32),
    )
    arguments = dict(budget=budget, num_classes=4, key=jax.random.key(1), capacity=30)
    one = balal.one_shot(balal.strategy(name), pool, labels, **arguments)
    parts = buying.one_shot(balal.strategy(name), pool, labels, **arguments)
    for column, expected in vars(one).items():
        np.testing.assert_array_equal(getattr(parts, column), expected, err_msg=column)


@pytest.fixture
def toy(tmp_path) -> Path:
    """A tiny data set in the full layout: 120 rows of 6 imbalanced clusters, 60 balanced test
    rows."""
    chance = np.random.default_rng(0)
    centres = 1.2 * chance.normal(size=(6, 10))
    labels, test_labels = (
        chance.permutation(np.repeat(np.arange(6), [50, 30, 20, 10, 6, 4])),
        np.repeat(np.arange(6), 10),
    )
    path = tmp_path / "toy.npz"
    np.savez(
        path,
        pool_features=(centres[labels] + chance.normal(size=(120, 10))).astype(np.float16),
        pool_labels=labels.astype(np.uint8),
        test_features=(centres[test_labels] + chance.normal(size=(60, 10))).astype(np.float16),
        test_labels=test_labels.astype(np.uint8),
    )
    np.savez(
        tmp_path / "classifier.npz",
        weight=chance.normal(size=(7, 10)).astype(np.float32),
        bias=np.zeros(7, np.float32),
    )
    return path


# The experiment.


@pytest.mark.slow
def test_every_strategy_rule_budget_and_seed_is_there_once(small):
    _, result = small
    found = [
        (entry["strategy"], entry["rule"], entry["budget"], entry["seed"])
        for entry in result["runs"]
    ]
    assert found == [
        (strategy, rule, budget, seed)
        for strategy, seeds in (("random", (0, 1)), ("ent_inv_div", (0,)))
        for rule in ("none", "balance", "posterior")
        for budget in (30, 60)
        for seed in seeds
    ]


@pytest.mark.slow
def test_figures_follow_from_the_picked_rows(small):
    _, result = small
    dataset = datasets.load(pool_rows=600)
    for entry in result["runs"]:
        assert len(set(entry["indices"])) == entry["budget"]
        counts = np.bincount(dataset.labels[entry["indices"]], minlength=100)
        assert entry["classes_found"] == np.sum(counts > 0)
        assert entry["imbalance_ratio"] == pytest.approx(counts.std() / counts.mean(), abs=1e-5)


@pytest.mark.slow
def test_accuracy_is_that_of_the_head_fitted_to_the_picked_rows(small):
    _, result = small
    (features, labels), (test_features, test_labels) = datasets.scaled(datasets.load(pool_rows=600))
    entry = result["runs"][-1]
    rows = np.sort(entry["indices"])
    predicted = svm.predict(svm.fit(features[rows], labels[rows], num_classes=100), test_features)
    assert entry["accuracy"] == pytest.approx(
        100 * np.mean([np.mean(predicted[test_labels == c] == c) for c in range(100)]), abs=1e-3
    )


@pytest.mark.slow
def test_picks_are_those_of_the_library_with_the_same_key(small):
    _, result = small
    dataset = datasets.load(pool_rows=600)
    entry = next(
        entry
        for entry in result["runs"]
        if (entry["strategy"], entry["rule"], entry["budget"]) == ("random", "balance", 30)
    )
    picked = balal.one_shot(
        balal.strategy("random+balance"),
        datasets.pool(dataset),
        dataset.labels,
        budget=30,
        num_classes=100,
        key=jax.random.fold_in(jax.random.key(0), entry["seed"]),
    )
    assert picked.indices.tolist() == entry["indices"]


@pytest.mark.slow
def test_seeds_are_paired_before_and_after_balancing(small):
    _, result = small
    runs = {
        (entry["strategy"], entry["rule"], entry["budget"], entry["seed"]): entry
        for entry in result["runs"]
    }
    for (strategy, rule, budget, seed), entry in runs.items():
        if rule == "balance":
            switch = entry["switched_at"]
            assert 0 < switch < budget
            assert (
                entry["indices"][:switch]
                == runs[strategy, "none", budget, seed]["indices"][:switch]
            )
    assert runs["random", "none", 30, 0]["indices"] != runs["random", "none", 30, 1]["indices"]


@pytest.mark.slow
def test_the_table_has_a_row_for_every_strategy_before_and_after(small):
    out, result = small
    text = (out / "table.md").read_text()
    for title in ("### Balanced test accuracy", "### Classes found", "### Imbalance ratio"):
        rows = [
            line.split("|")[1].strip()
            for line in text.split(title)[1].split("###")[0].splitlines()
            if line.startswith("|")
        ]
        expected = [] if "accuracy" in title else ["random, expected"]
        rules = ("", "+balance", "+posterior")
        assert (
            rows[2:]
            == [name + rule for name in ("random", "ent_inv_div") for rule in rules] + expected
        )
    first = result["summary"][0]["accuracy"]
    assert f"| {first['mean']:.1f} ± {first['spread']:.1f} |" in text


@pytest.mark.slow
def test_a_cut_pool_has_no_printed_figures_beside_it_and_no_g_al(small):
    out, result = small
    assert result["paper"] is None
    assert result["full_accuracy"]["mean"] is None
    assert "In brackets" not in (out / "table.md").read_text()


@pytest.mark.slow
def test_the_csv_has_a_line_for_every_run(small):
    out, result = small
    with (out / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["accuracy"]) for row in rows] == [
        entry["accuracy"] for entry in result["runs"]
    ]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_files_byte_for_byte(small, tmp_path):
    out, _ = small
    run(tmp_path, *SMALL)
    assert written(tmp_path) == written(out)
    assert {"accuracy_balance.png", "balance_balance.png", "histogram_balance.png"} < set(
        written(out)
    )


@pytest.mark.slow
def test_another_seed_gives_other_picks(small, tmp_path):
    _, result = small
    other = run(
        tmp_path,
        "--pool_rows=600",
        "--budgets=30",
        "--strategies=random",
        "--rules=none",
        "--seeds=1",
        "--seed=1",
    )
    assert other["runs"][0]["indices"] != result["runs"][0]["indices"]


@pytest.mark.slow
def test_finished_cells_are_neither_selected_nor_fitted_again(small, monkeypatch, tmp_path):
    out, _ = small
    again = Path(shutil.copytree(out, tmp_path / "again"))
    for module, name in ((buying, "one_shot"), (svm, "fit")):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("done before"))
    run(again, *SMALL)
    assert written(again) == written(out)


@pytest.mark.slow
def test_an_interrupted_run_resumes_where_it_was(small, monkeypatch, tmp_path):
    out, _ = small
    asked, simulate = [], buying.one_shot

    def interrupted(strategy, *arguments, **options):
        asked.append(strategy)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return simulate(strategy, *arguments, **options)

    monkeypatch.setattr(buying, "one_shot", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *SMALL)
    run(tmp_path, *SMALL)
    first = ["random", "random+balance", "random+balance", "random+balance", "random+posterior"]
    second = ["ent_inv_div", *["ent_inv_div+balance"] * 2, "ent_inv_div+posterior"]
    assert asked == [balal.strategy(name) for name in (*first, *second)]
    assert written(tmp_path) == written(out)


@pytest.mark.slow
def test_a_killed_program_leaves_no_process_behind_and_goes_on(small, tmp_path):
    _, result = small
    out = tmp_path / "killed"
    options = (f"--out={out}", "--workers=1", *SMALL, "--strategies=random", "--rules=none")
    command = [sys.executable, "-m", "experiments.one_shot", *options]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 120
        while not list((out / "cells").glob("head-*.json")) and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        # The worker holds the other end of this pipe: reading ends when it is gone too.
        assert process.stderr is not None
        process.stderr.read()
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*-*.json")}
    assert kept
    done = program(*options)
    assert (done.returncode, done.stderr) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    # Heads from worker processes are those of this process.
    assert json.loads((out / "results.json").read_text())["runs"] == result["runs"][:4]
    assert "Time: load" in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_cells_of_another_configuration_are_not_mixed_in(small, tmp_path):
    out, _ = small
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    with pytest.raises(
        ValueError,
        match=r"another configuration \(C was \[10.0\] and is \[1.0\]\): give another --out, or "
        r"--fresh",
    ):
        run(copy, *SMALL, "--C=1")
    assert run(
        copy,
        "--pool_rows=600",
        "--budgets=30",
        "--strategies=random",
        "--rules=none",
        "--C=1",
        "--fresh",
    )["configuration"]["C"] == [1.0]
    assert len(list((copy / "cells").glob("picks-*"))) == 5


@pytest.mark.slow
def test_more_budgets_and_strategies_join_the_finished_cells(small, tmp_path):
    out, result = small
    copy = Path(shutil.copytree(out, tmp_path / "copy"))
    more = run(
        copy, "--pool_rows=600", "--budgets=15,30", "--strategies=ent_inv_div,ent", "--rules=none"
    )
    assert [entry["budget"] for entry in more["runs"]] == [15, 30, 15, 30]
    before = next(entry for entry in result["runs"] if entry["strategy"] == "ent_inv_div")
    assert more["runs"][1] == before
    assert more["runs"][0]["indices"] == before["indices"][:15]


@pytest.mark.slow
def test_full_features_with_a_classifier_thresholding_and_a_choice_of_C(toy, tmp_path):
    options = (
        "--C=1,10",
        "--folds=3",
        "--thresholding",
        "--full",
        "--budgets=20",
        "--strategies=ms",
        "--rules=none,balance_printed",
    )
    result = run(
        tmp_path / "out",
        f"--features={toy}",
        f"--classifier={tmp_path / 'classifier.npz'}",
        *options,
    )
    assert {entry["C"] for entry in result["runs"]} <= {1.0, 10.0}
    assert {"accuracy", "accuracy_thresholded"} <= set(result["summary"][0])
    assert list(result["g_al"]) == ["ms", "ms+balance_printed"]
    accuracy, full = result["summary"][0]["accuracy"]["mean"], result["full_accuracy"]["mean"]
    assert result["g_al"]["ms"]["mean"] == pytest.approx((accuracy - full) / (100 - full), abs=1e-6)
    assert (tmp_path / "out" / "balance_balance_printed.png").exists()
    text = (tmp_path / "out" / "table.md").read_text()
    assert "prior thresholding" in text
    assert "G_AL" in text


@pytest.mark.slow
def test_g_al_is_left_out_where_all_labels_give_everything(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(one_shot, "full_accuracy", lambda *_: workers.ready(dict(accuracy=100.0)))
    result = run(
        tmp_path / "out",
        f"--features={toy}",
        "--strategies=random",
        "--rules=none",
        "--budgets=20",
        "--seeds=1",
    )
    assert result["g_al"]["random"]["mean"] is None


def test_all_stands_for_every_registered_strategy():
    assert listed("strategies", ["all"], STRATEGIES) == list(STRATEGIES)


def test_equal_sets_of_rows_are_fitted_once(toy, tmp_path, monkeypatch):
    fitted, fit = [], svm.fit
    monkeypatch.setattr(
        svm,
        "fit",
        lambda features, *rest, **options: (
            fitted.append(len(features)) or fit(features, *rest, **options)
        ),
    )
    run(
        tmp_path / "out",
        f"--features={toy}",
        "--strategies=random",
        "--rules=none",
        "--budgets=20,120",
        "--seeds=3",
    )
    # The whole pool is the same set whoever picks it, in whatever order.
    assert sorted(fitted) == [20] * 3 + [120]


# What users get wrong.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--strategies=random,entropi"],
            "--strategies: no strategy is called 'entropi'; the nearest known names are ent",
        ),
        (["--strategies=ent,ent"], "each once, got 'ent,ent'"),
        (["--strategies="], "must name at least one"),
        (["--rules=balanced"], "--rules does not know 'balanced'; the nearest are balance"),
        (["--budgets=abc"], "--budgets takes positive numbers with commas between them, got 'abc'"),
        (["--budgets=0,5"], "--budgets takes positive numbers"),
        (["--C=nan"], "--C takes positive numbers"),
        (
            ["--head=svm", "--rebalance=crt"],
            "--head=svm has no --rebalance=crt; choose from none, thresholding, tau_normalised",
        ),
        (
            ["--head=ldam", "--thresholding"],
            "--thresholding needs --head=svm and no --rebalance",
        ),
        (["--pool_rows=100"], "--budgets goes up to 2000, but the pool has only 100 rows"),
        (["--pool_rows=99999"], "between 1 and the 17168 rows"),
        (["--scores=a.npz", "--classifier=b.npz"], "pass only one of them"),
    ],
)
def test_a_wrong_flag_is_reported_in_one_sentence(arguments, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        run(tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_wrong_numbers_and_unknown_flags_are_absls_to_refuse(tmp_path):
    for argument in ("--seeds=0", "--seed=-1", "--folds=1", "--budget=5", "--workers=x"):
        with pytest.raises(flags.Error):
            run(tmp_path, argument)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["--features=nowhere.npz"],
            "error: there is no file nowhere.npz: name an npz file of plain arrays\n",
        ),
        pytest.param(
            ["--budget=500"],
            "error: Unknown command line flag 'budget'. Did you mean: budgets ?\n",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_the_program_ends_in_one_sentence_and_exit_code_2(arguments, sentence):
    done = program(*arguments)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)


@pytest.mark.slow
def test_another_head_is_fitted_with_a_rule_against_imbalance(tmp_path):
    arguments = (
        "--pool_rows=600",
        "--budgets=60",
        "--strategies=ent_inv_div",
        "--rules=none",
        "--head=logistic",
        "--rebalance=balanced_softmax",
    )
    result = run(tmp_path / "softmax", *arguments)
    features, labels = datasets.scaled(datasets.load(pool_rows=600))[0]
    tests, answers = datasets.scaled(datasets.load(pool_rows=600))[1]
    rows = np.sort(result["runs"][0]["indices"])
    counts = np.bincount(labels[rows], minlength=100)
    head = logistic.fit(
        features[rows],
        labels[rows],
        num_classes=100,
        C=10.0,
        adjustment=rebalance.adjustment(counts),
    )
    accuracy = 100 * float(
        balal.metrics.balanced_accuracy(answers, logistic.predict(head, tests), num_classes=100)
    )
    assert result["runs"][0]["accuracy"] == pytest.approx(accuracy, abs=1e-3)
    assert (
        "Head: logistic+balanced_softmax, C = 10" in (tmp_path / "softmax" / "table.md").read_text()
    )
    assert result["full_accuracy"]["mean"] is None


@pytest.mark.slow
def test_pseudo_labels_are_taken_from_the_rest_of_the_pool(tmp_path):
    arguments = ("--pool_rows=600", "--budgets=60", "--strategies=ent_inv_div", "--rules=none")
    (found,) = run(tmp_path / "pseudo", *arguments, "--head=pseudo")["runs"]
    ((features, labels), (tests, answers)), rows = (
        datasets.scaled(datasets.load(pool_rows=600)),
        np.sort(found["indices"]),
    )
    rest = np.delete(features, rows, axis=0)
    head, _ = pseudo_labels.fit(features[rows], labels[rows], rest, num_classes=100, C=10.0)
    accuracy = 100 * float(
        balal.metrics.balanced_accuracy(answers, logistic.predict(head, tests), num_classes=100)
    )
    assert found["accuracy"] == pytest.approx(accuracy, abs=1e-3)


@pytest.mark.slow
def test_help_teaches_by_example():
    done = program("--help")
    assert done.returncode == 0
    assert "python -m experiments.one_shot --strategies=all" in done.stdout
    for name in ("--budgets", "--features", "--classifier", "--out", "--[no]thresholding"):
        assert f"\n  {name}:" in done.stdout


# Data sets.


def test_the_embedded_pool_is_the_papers_and_its_full_accuracy_is_known():
    dataset = datasets.load()
    assert dataset.features.shape == (17168, 256)
    assert dataset.test_features.shape == (10000, 256)
    assert dataset.sizes.std() / dataset.sizes.mean() == pytest.approx(0.740, abs=5e-4)
    assert datasets.is_paper_pool(dataset)
    assert dataset.origin in one_shot.FULL_ACCURACY
    assert not datasets.is_paper_pool(datasets.load(pool_rows=17000))


@pytest.mark.parametrize("name", datasets.EMBEDDED)
def test_a_damaged_embedded_file_is_noticed(name, tmp_path, monkeypatch):
    content = bytearray((datasets.HERE / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    monkeypatch.setattr(datasets, "HERE", tmp_path)
    with pytest.raises(ValueError, match=f"{name} is damaged: its sha256 is"):
        datasets.embedded(name)


def test_a_compact_file_brings_its_test_file(tmp_path):
    for part in ("pool", "test"):
        shutil.copy(
            datasets.HERE / f"cifar100_lite0_compact_{part}.npz", tmp_path / f"mine_{part}.npz"
        )
    mine, embedded = datasets.load(str(tmp_path / "mine_pool.npz")), datasets.load()
    np.testing.assert_array_equal(mine.test_features, embedded.test_features)
    assert mine.origin == embedded.origin
    (tmp_path / "mine_test.npz").rename(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="or pass test_features=FILE"):
        datasets.load(str(tmp_path / "mine_pool.npz"))
    named = datasets.load(
        str(tmp_path / "mine_pool.npz"), test_features=str(tmp_path / "other.npz")
    )
    np.testing.assert_array_equal(named.test_labels, embedded.test_labels)


def test_full_features_are_kept_as_they_are_and_standardised_for_the_head(toy):
    dataset = datasets.load(str(toy))
    assert dataset.features.dtype == np.float16
    assert dataset.scores is None
    (features, _), _ = datasets.scaled(dataset)
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-6)
    # Standardised, and then shrunk to rows of norm 1 on average.
    np.testing.assert_allclose(features.std(axis=0), 1 / np.sqrt(10), rtol=1e-3)


def test_compact_features_are_only_divided_by_their_norm():
    dataset = datasets.load(pool_rows=500)
    (features, _), (test_features, _) = datasets.scaled(dataset)
    ratio = dataset.features[0, 0] / features[0, 0]
    np.testing.assert_allclose(features * ratio, dataset.features, rtol=1e-5)
    np.testing.assert_allclose(test_features * ratio, dataset.test_features, rtol=1e-5)
    assert np.mean(np.sum(features**2, axis=1)) == pytest.approx(1, abs=1e-5)


def write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header, content = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[str(tensor.dtype)]
        header[name] = dict(
            dtype=kind,
            shape=list(tensor.shape),
            data_offsets=[len(content), len(content) + tensor.nbytes],
        )
        content += tensor.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_classifier_gives_the_scores_of_its_logits(toy, tmp_path, dtype):
    with np.load(tmp_path / "classifier.npz") as file:
        weight, bias = np.asarray(jnp.asarray(file["weight"], dtype)), file["bias"]
    convolution = np.zeros((3, 3, 1, 1), np.float32)
    write_safetensors(
        tmp_path / "net.safetensors",
        {"stem.weight": convolution, "fc.weight": weight, "fc.bias": bias.astype(weight.dtype)},
    )
    dataset = datasets.load(str(toy), classifier=str(tmp_path / "net.safetensors"))
    logits = dataset.features.astype(np.float64) @ weight.astype(np.float64).T
    expected = balal.score(jnp.asarray(logits, jnp.float32))
    assert dataset.scores is not None
    np.testing.assert_array_equal(dataset.scores.predicted, logits.argmax(axis=1))
    np.testing.assert_allclose(dataset.scores.entropy, expected.entropy, rtol=1e-3, atol=1e-5)


def test_scores_may_come_from_another_file_of_the_same_rows(toy, tmp_path):
    with np.load(toy) as file:
        labels = file["pool_labels"]
    numbers = {
        name: np.linspace(0, 1, 120, dtype=np.float32)
        for name in ("entropy", "margin", "least_confidence")
    }
    np.savez(tmp_path / "scores.npz", labels=labels, predicted=np.zeros(120, np.int16), **numbers)
    scores = datasets.load(str(toy), scores=str(tmp_path / "scores.npz")).scores
    assert scores is not None
    np.testing.assert_array_equal(scores.entropy, numbers["entropy"])
    np.savez(
        tmp_path / "scores.npz", labels=labels[::-1], predicted=np.zeros(120, np.int16), **numbers
    )
    with pytest.raises(
        ValueError,
        match="has scores of rows other than the pool's: the labels of the two files differ",
    ):
        datasets.load(str(toy), scores=str(tmp_path / "scores.npz"))


def test_strategies_that_need_scores_say_how_to_give_them(toy, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"ent needs the source model's scores, but .*toy.npz has none: give --scores or "
        r"--classifier",
    ):
        run(tmp_path / "out", f"--features={toy}", "--budgets=10", "--strategies=random,ent")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (dict(pool_labels=None), "lacks labels; it holds"),
        (
            dict(pool_labels=np.zeros(7, int)),
            r"must have features \[N, D\] and integer labels \[N\]",
        ),
        (dict(pool_labels=np.zeros(120)), "integer labels"),
        (dict(pool_features=np.zeros((120, 10), np.int8)), "int8 features without a scale"),
        (
            dict(test_features=np.zeros((60, 9), np.float32)),
            "the pool has 10 features a row, but the test set has 9",
        ),
        (
            dict(test_features=np.full((60, 10), np.nan, np.float32)),
            r"NaN or infinite features in rows 0, 1, 2, 3, 4, \.\.\. \(60 in all\)",
        ),
        (
            dict(class_names=np.array(["a"] * 6), pool_class_names=np.array(["a", "b"])),
            "labels must lie in",
        ),
        (dict(pool_features=np.array([{}] * 120)), "not an npz file of plain arrays"),
    ],
)
def test_unsuitable_arrays_are_reported_in_one_sentence(toy, tmp_path, change, sentence):
    with np.load(toy) as file:
        arrays = {
            name: array
            for name, array in ({name: file[name] for name in file.files} | change).items()
            if array is not None
        }
    np.savez(tmp_path / "changed.npz", **arrays)
    with pytest.raises(ValueError, match=sentence):
        datasets.load(str(tmp_path / "changed.npz"))


@pytest.mark.parametrize("name", ["text.npz", "empty.npz", "net.safetensors"])
def test_what_is_not_such_a_file_is_reported_in_one_sentence(toy, tmp_path, name):
    (tmp_path / name).write_bytes(
        b"" if name.startswith("empty") else b"no array at all, but words"
    )
    with pytest.raises(
        ValueError, match=f"{name} (is not an npz file|cannot be read as the weights)"
    ):
        datasets.load(str(toy), classifier=str(tmp_path / name))


def test_a_classifier_of_another_network_is_refused(toy, tmp_path):
    np.savez(tmp_path / "other.npz", weight=np.zeros((7, 11)), bias=np.zeros(7))
    with pytest.raises(
        ValueError, match=r"must hold one weight \[K, 10\] with its bias \[K\], found none"
    ):
        datasets.load(str(toy), classifier=str(tmp_path / "other.npz"))


# Tables and cells.


def test_printed_figures_stand_beside_the_pool_they_were_printed_for():
    figures = paper.figures(datasets.load())
    assert figures is not None
    assert figures.full == 59.49
    assert figures.printed("accuracy", "ent_inv_div", 500, "none") == 32.13
    assert figures.printed("accuracy", "ent_inv_div", 500, "balance") == 34.32
    assert figures.printed("imbalance_ratio", "random", 2000, "balance") == 0.635
    assert figures.printed("classes_found", "core_set", 1000, "none") == 99
    assert figures.printed("accuracy", "ent_inv_div", 250, "none") is None
    assert figures.printed("accuracy", "lc_inv", 500, "none") is None
    assert figures.printed("accuracy", "ent_inv_div", 500, "balance_printed") == 34.32
    assert figures.printed("accuracy", "ent_inv_div", 500, "posterior") is None
    assert figures.printed("accuracy_thresholded", "ent", 500, "none") is None


def test_a_table_lines_up_and_says_where_balance_did_not_help():
    class Printed:
        def printed(self, metric, strategy, budget, rule):
            return 27.31 if rule == "none" else None

    runs = [
        dict(strategy="random", rule=rule, budget=500, seed=seed, accuracy=accuracy)
        for rule, accuracies in (("none", (34.0, 36.0)), ("balance", (33.0, 34.0)))
        for seed, accuracy in enumerate(accuracies)
    ]
    entries = summary.summarise(runs, ["accuracy"], Printed())
    assert summary.table(entries, "accuracy", digits=1).splitlines() == [
        "| strategy       |               500 |",
        "|:---------------|------------------:|",
        "| random         | 35.0 ± 1.4 (27.3) |",
        f"| random+balance |    33.5 ± 0.7 ({summary.DASH}) |",
    ]
    assert summary.remarks(entries, "accuracy", digits=1, rises=True) == [
        "`+balance` did not raise it in 1 of 1 cells: random at 500 (35.0 to 33.5)."
    ]
    assert summary.remarks(entries, "accuracy", digits=1, rises=False) == [
        "`+balance` lowers it in all 1 cells."
    ]


def test_a_cell_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = cells.folder(tmp_path / "cells", dict(C=(1.0, 2.0)))
    cells.write(folder, "a", [1])
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        cells.write(folder, "a", [2])
    assert cells.read(folder, "a") == [1]
    assert cells.read(folder, "b") is None
    # Tuples and lists are the same configuration.
    assert cells.folder(folder, dict(C=[1.0, 2.0])) == folder


@pytest.mark.parametrize("content", [b"{", b"", b"\xff\xfe\0"])
def test_a_damaged_cell_is_reported(content, tmp_path):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is damaged: delete it"):
        cells.read(tmp_path, "a")


def test_a_worker_that_was_killed_is_told_in_a_sentence():
    with pytest.raises(ChildProcessError, match="with fewer --workers"), workers.processes(1):
        raise BrokenProcessPool


def test_the_name_of_a_head_depends_on_the_set_of_rows_alone():
    assert (
        workers.name(np.array([3, 1, 2]))
        == workers.name(np.array([1, 2, 3], np.int32))
        != workers.name(np.array([1, 2, 4]))
    )


def test_json_has_a_line_a_run(tmp_path):
    report.write_json(tmp_path / "a.json", dict(a=[1, 2], runs=[dict(x=1), dict(x=2)]))
    assert (
        tmp_path / "a.json"
    ).read_text() == '{\n  "a": [1, 2],\n  "runs": [\n    {"x": 1},\n    {"x": 2}\n  ]\n}\n'


@pytest.mark.slow
@pytest.mark.data
def test_full_features_run_with_either_source_of_scores(shared, tmp_path):
    full, compact = (
        str(shared / "data" / name)
        for name in ("cifar100_efficientnet_lite0_features.npz", "cifar100_lite0_compact_pool.npz")
    )
    options = ("--pool_rows=1000", "--strategies=ent", "--rules=none", "--budgets=30")
    dataset = datasets.load(full, scores=compact)
    assert datasets.is_paper_pool(dataset)
    assert dataset.origin in one_shot.FULL_ACCURACY
    assert (
        run(tmp_path, f"--features={full}", f"--scores={compact}", *options)["runs"][0]["accuracy"]
        > 2
    )
