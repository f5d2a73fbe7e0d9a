"""Learning curves of retraining from end to end on a tiny pool, and the lift table."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags

import balal
from balal.heads import logistic
from experiments import rounds
from experiments.common import buying, datasets, draws, lift, round_tables

# On one worker, so that the run they share is made once.
pytestmark = pytest.mark.xdist_group("rounds")

SMALL = (
    *("--pools=", "--strategies=random,ms", "--start=8", "--sizes=6,4*2", "--seeds=2"),
    "--heads=logistic",
)


def run(out: Path, *arguments: str) -> dict:
    """The experiment in this process; what results.json holds."""
    flag_values = flags.FlagValues()
    rounds.define_flags(flag_values)
    flag_values(["rounds", f"--out={out}", "--workers=0", *arguments])
    rounds.main(flag_values)
    return json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def small(toy, tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("rounds")
    return out, run(out, *SMALL, f"--features={toy}")


def test_every_strategy_seed_and_round_is_there_once(small):
    _, result = small
    found = [(run["strategy"], run["seed"], run["budget"]) for run in result["runs"]]
    assert sorted(found) == sorted(
        (name, seed, budget)
        for name in ("random", "ms")
        for seed in (0, 1)
        for budget in (8, 14, 18, 22)
    )


def test_picks_are_those_of_the_library_on_the_drawn_pool(small, toy):
    _, result = small
    dataset = datasets.load(str(toy))
    (features, _), _ = datasets.scaled(dataset)
    draw = draws.drawn(datasets.pool(dataset), seed=0, runs=2)[1]
    (bought,) = [
        run["indices"]
        for run in result["runs"]
        if (run["strategy"], run["seed"], run["budget"]) == ("ms", 1, 22)
    ]
    places = np.searchsorted(draw.rows, bought)
    labels, own = dataset.labels[draw.rows], features[draw.rows]
    steps = balal.rounds(
        balal.strategy("ms"),
        draw.pool,
        labels,
        fit=lambda indices, answers, _: logistic.fit(own[indices], answers, num_classes=6),
        predict=lambda head: logistic.class_logits(head, own),
        sizes=[6, 4, 4],
        num_classes=6,
        key=jax.random.split(draw.key)[1],
        labelled=(places[:8], labels[places[:8]]),
    )
    assert places[8:].tolist() == [row for step in steps for row in step.indices.tolist()]


def test_runs_of_one_seed_share_their_start(small):
    _, result = small
    for seed in (0, 1):
        starts = {tuple(run["indices"][:8]) for run in result["runs"] if run["seed"] == seed}
        assert len(starts) == 1


def test_tables_and_files_are_all_there_and_finished_runs_are_kept(small, toy, capsys, monkeypatch):
    out, result = small
    text = (out / "table.md").read_text()
    assert "### Balanced test accuracy, %: logistic" in text
    assert "### Classes found" in text
    assert len((out / "results.csv").read_text().splitlines()) == 1 + len(result["runs"])
    assert (out / "curves.png").stat().st_size > 5_000
    monkeypatch.setattr(balal, "rounds", None)
    left = out / "cells" / "toy" / "logistic" / ".shared-killed"
    left.mkdir()
    again = run(out, *SMALL, f"--features={toy}", "--report=lift")
    assert again["runs"] == result["runs"]
    assert not left.exists()
    printed = capsys.readouterr().out
    assert "| strategy | base |" in printed
    assert "after 14 more labels in rounds of 6,4,4, from a model fitted to 8 labels" in printed


def curve(strategy, seed, values, head="svm"):
    return [
        dict(pool="p", strategy=strategy, rule="none", budget=budget, seed=seed)
        | {f"macro_f1 {head}": value, f"accuracy {head}": value}
        | dict(classes_found=3, imbalance_ratio=0.5)
        for budget, value in zip((10, 20, 30), values, strict=True)
    ]


def test_lift_is_measured_from_the_start_and_labels_saved_on_the_curve_of_the_other():
    runs = [
        *(*curve("random", 0, [20.0, 30.0, 50.0]), *curve("random", 1, [22.0, 32.0, 50.0])),
        *(*curve("ms", 0, [20.0, 41.0, 41.0]), *curve("ms", 1, [22.0, 41.0, 41.0])),
    ]
    random, ms = lift.rows(runs, ["svm"], against="random")
    assert (random["base"], random["f1"], random["lift"]) == (21.0, 50.0, 29.0)
    assert (ms["lift"], ms["error"], ms["gain"]) == (20.0, 1.0, -9.0)
    assert ms["relative"] == round(20 / 21, 4)
    # On the curve of random, 41 lies between 31 at 20 labels and 50 at 30.
    assert ms["labels_saved"] == round(1 - 20 / (10 + 10 * 10 / 19), 4)
    assert random["labels_saved"] is None


def test_an_order_that_holds_under_one_head_only_is_told():
    values = dict(svm=5.0, logistic=-5.0)
    runs = []
    for seed in range(8):
        for strategy, gain in (("random", 0), ("ms", 1)):
            lines = [
                curve(strategy, seed, [30.0, 30.0, 30.0 + gain * values[head]], head)
                for head in values
            ]
            runs += [first | second for first, second in zip(*lines, strict=True)]
    compared = round_tables.differences(runs, list(values), against="random")
    told = round_tables.disagreements(compared)
    assert told == [
        "On p at 30 labels ms is +5.0 against random under svm, and -5.0 under logistic.",
    ]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sizes=a"], r"--sizes takes numbers of labels such as 20 or 100\*5, got 'a'"),
        (["--sizes=0"], r"at least one label"),
        (["--sizes=100"], r"add up to 108 labels, and a draw of toy has only 96 rows"),
        (["--against=ent"], r"--against=ent is not among --strategies"),
        (["--start=0", "--report=lift"], r"say how large it is, for example --start=250"),
        (["--start=0", "--first=ent"], r"--first=ent needs source scores, but toy has none"),
        (["--heads=tree"], r"--heads does not know 'tree'"),
    ],
)
def test_a_wrong_flag_is_told_in_a_sentence(arguments, said, toy, tmp_path):
    with pytest.raises(ValueError, match=said):
        run(tmp_path, *SMALL, f"--features={toy}", *arguments)


def test_programs_without_a_target_model_leave_out_what_asks_it():
    everywhere, here = buying.listed(["all"], target_model=True), buying.listed(["all"])
    assert {"badge", "bald", "tail_first"} <= set(everywhere) - set(here)
    assert {"ms", "posterior", "cluster_margin"} <= set(here)
    with pytest.raises(ValueError, match=r"badge asks the target model, .* experiments.rounds"):
        buying.listed(["random", "badge"])
