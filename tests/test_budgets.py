"""Where opposite strategies cross: the finder beside a plain twin, the program on digits, and the
picture of a mixture."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from scipy import stats

import balal
from experiments import budgets, mixture
from experiments.common import buying, crossings, draws, pools

# On one worker, so that the run they share is made once.
pytestmark = pytest.mark.xdist_group("budgets")

SMALL = (
    *("--quick", "--typical=max_herding", "--atypical=ms", "--beside=", "--per_class=1,3,8,40"),
    *("--heads=svm", "--seeds=2"),
)


def run(program, out: Path, *arguments: str) -> None:
    """An experiment in this process."""
    flag_values = flags.FlagValues()
    program.define_flags(flag_values)
    flag_values(["program", f"--out={out}", *arguments])
    program.main(flag_values)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("budgets")
    run(budgets, out, "--workers=0", *SMALL)
    return out, json.loads((out / "results.json").read_text())


def plain(labels: np.ndarray, differences: np.ndarray) -> tuple[float, float | None, float | None]:
    """The crossing and its interval, looked up on a fine grid."""
    places, runs = np.log(labels), differences.shape[1]
    grid = np.linspace(places[0], places[-1], 40_001)
    mean, error = differences.mean(axis=1), differences.std(axis=1, ddof=1) / runs**0.5
    half = stats.t.ppf(0.975, runs - 1) * error
    value, lower, upper = (np.interp(grid, places, y) for y in (mean, mean - half, mean + half))
    turn = np.argmin(np.concatenate([[0.0], np.cumsum((value[1:] + value[:-1]) / 2)]))
    behind = [place for place in range(turn) if upper[place] < 0]
    ahead = [place for place in range(turn, len(grid)) if lower[place] > 0]
    return (
        float(np.exp(grid[turn])),
        float(np.exp(grid[behind[-1]])) if behind else None,
        float(np.exp(grid[ahead[0]])) if ahead else None,
    )


@pytest.mark.parametrize("seed", range(12))
def test_a_crossing_and_its_interval_are_those_of_a_plain_search(seed):
    chance = np.random.default_rng(seed)
    labels = np.cumsum(chance.integers(1, 9, size=chance.integers(2, 9))).astype(float)
    curve = chance.normal(size=(len(labels), 1))
    differences = curve + 0.2 * chance.normal(size=(len(labels), chance.integers(2, 8)))
    found = crossings.crossing(labels.tolist(), differences)
    for ours, theirs in zip(
        (found.labels, found.low, found.high), plain(labels, differences), strict=True
    ):
        assert (ours is None) == (theirs is None)
        assert ours is None or ours == pytest.approx(theirs, rel=1e-3)


@pytest.mark.parametrize(
    ("curve", "where", "relation"),
    [
        ([-4, -4, 4, 4], 16, "="),
        ([4, 4, 4, 4], 2, "<"),
        ([-4, -4, -4, -4], 128, ">"),
        # A short lead of the later one does not count, nor does one of the earlier one after it.
        ([-4, 1, -4, 12], 2**5.5, "="),
        ([-4, 12, -1, 4], 2**1.5, "="),
    ],
)
def test_strategies_cross_where_the_lead_of_the_earlier_one_is_largest(curve, where, relation):
    for spread in (0.1, 50.0):
        differences = np.array(curve)[:, None] + np.array([-spread, spread])
        found = crossings.crossing([2, 8, 32, 128], differences)
        assert (found.labels, found.relation) == (pytest.approx(where), relation)
        assert found.sure == (spread < 1)


def test_every_pair_is_compared_at_budgets_of_at_most_half_a_draw(small):
    _, result = small
    assert result["configuration"]["budgets"] == {"digits": [1, 3, 8]}
    assert {(run["strategy"], run["seed"], run["budget"]) for run in result["runs"]} == {
        (name, seed, budget)
        for name in ("max_herding", "random", "ms")
        for seed in (0, 1)
        for budget in (10, 30, 80)
    }
    assert [(entry["earlier"], entry["later"]) for entry in result["crossings"]] == [
        ("max_herding", "random"),
        ("max_herding", "ms"),
        ("random", "ms"),
    ]
    accuracy = {
        (run["strategy"], run["seed"]): run["accuracy svm"]
        for run in result["runs"]
        if run["budget"] == 80
    }
    ahead = [accuracy["ms", seed] - accuracy["max_herding", seed] for seed in (0, 1)]
    assert result["crossings"][1]["last"] == pytest.approx(np.mean(ahead), abs=1e-6)


def test_those_that_ask_the_target_model_begin_at_random_and_the_others_by_themselves(small):
    _, result = small
    first = {
        run["strategy"]: run["indices"]
        for run in result["runs"]
        if (run["seed"], run["budget"]) == (1, 10)
    }
    assert first["ms"] == first["random"]
    draw = draws.drawn(balal.pool(pools.digits().features), seed=0, runs=2)[1]
    picked = balal.simulate(
        balal.strategy("max_herding"),
        draw.pool,
        pools.digits().labels[draw.rows],
        budget=10,
        num_classes=10,
        key=draw.key,
    ).indices
    assert first["max_herding"] == draw.rows[np.asarray(picked)].tolist()


@pytest.mark.parametrize(("name", "needs"), [("prob_cover", ()), ("cluster_margin", ("scores",))])
def test_only_what_can_do_without_a_source_model_gets_clusters_instead(name, needs):
    found = buying.without_source(balal.strategy(name), 7)
    assert set(needs) == set(found.needs) - {"features"}
    assert (found.clusters == 7) == (not needs)


def test_tables_and_pictures_are_there_and_finished_runs_are_kept(small, monkeypatch):
    out, result = small
    assert "| overtakes at | interval | sure |" in (out / "table.md").read_text()
    assert (out / "crossings_svm.png").stat().st_size > 5_000
    monkeypatch.setattr(balal, "rounds", None)
    run(budgets, out, "--workers=0", *SMALL)
    assert json.loads((out / "results.json").read_text()) == result


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--typical=ms", r"none twice; random always takes part: got ms,random,ms"),
        ("--atypical=", r"--typical and --atypical must name a strategy each"),
        ("--per_class=1,20", r"half of a draw of digits has only 114 rows for 10 classes"),
        ("--pools=", r"there is no pool: name some with --pools or --features"),
    ],
)
def test_a_wrong_flag_is_told_in_a_sentence(argument, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        run(budgets, tmp_path, "--workers=0", *SMALL, argument)


def test_a_mixture_is_seen_as_by_a_gaussian_kernel_and_its_picks_are_drawn_apart(tmp_path):
    points, _ = mixture.mixture(0)
    features = mixture.features_of(points, seed=0)
    squares = np.square(points[:40, None] - points[:40]).sum(axis=2)
    kernel = np.exp(-squares / mixture.WIDTH**2 / 2)
    assert np.abs(features[:40] @ features[:40].T - kernel).max() < 4 / mixture.FREQUENCIES**0.5
    run(mixture, tmp_path, "--strategies=ms", "--budgets=3,8")
    result = json.loads((tmp_path / "mixture.json").read_text())
    assert len(set(result["picks"]["ms"])) == 8
    assert (tmp_path / "mixture.png").stat().st_size > 5_000
    crowd = mixture.apart(points[:8] / 50)
    gaps = np.linalg.norm(crowd[:, None] - crowd, axis=2) + 9 * np.eye(8)
    assert gaps.min() > 0.99 * mixture.APART
