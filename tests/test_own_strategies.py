"""The two strategies of the guide, as a stranger would write them, in every program."""

import functools
import re
from pathlib import Path

import numpy as np
import pytest
import test_cli
import test_one_shot
import test_rules
from absl import flags

import balal.testing
from balal.cli import command_line, main

pytestmark = pytest.mark.xdist_group("own strategies")
GUIDE = Path(__file__).parent.parent / "docs" / "own_strategy.md"


@pytest.fixture(scope="module")
def code() -> list[str]:
    return re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def mine(code, tmp_path_factory) -> Path:
    """A file with both, and without the calls of the contract suite."""
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text("\n".join(block for block in code if "check_strategy(" not in block))
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory) -> Path:
    """Features of 40 rows of four classes, pool and test set."""
    chance, labels = np.random.default_rng(0), np.repeat(np.arange(4), [20, 12, 5, 3])
    tests, middles = np.repeat(np.arange(4), 4), 2 * chance.normal(size=(4, 3))
    path = tmp_path_factory.mktemp("toy") / "toy.npz"
    np.savez(
        path,
        pool_features=(middles[labels] + chance.normal(size=(40, 3))).astype(np.float32),
        pool_labels=labels,
        test_features=(middles[tests] + chance.normal(size=(16, 3))).astype(np.float32),
        test_labels=tests,
    )
    return path


@pytest.mark.nightly
def test_both_pass_the_contract_suite(code, monkeypatch):
    assert sum("check_strategy(" in block for block in code) == 2
    few = functools.partial(balal.testing.check_strategy, examples=3)
    monkeypatch.setattr(balal.testing, "check_strategy", few)
    exec("\n".join(code), {"__name__": "guide"})


def test_pick_asks_what_they_ask_and_says_why(mine, toy, tmp_path):
    with np.load(toy) as file:
        features = file["pool_features"]
    np.save(tmp_path / "f.npy", features)
    longest = np.argsort(-np.linalg.norm(features, axis=1), kind="stable")[:3].tolist()

    def pick(name: str, *arguments: str) -> list[dict[str, str]]:
        out = tmp_path / re.sub(r"\W", "", name)
        flag_values = flags.FlagValues()
        main.COMMANDS["pick"].define_flags(flag_values)
        own = [f"--features={tmp_path / 'f.npy'}", f"--strategy={mine}:{name}", f"--out={out}"]
        words = command_line.parse(flag_values, [*own, "--budget=3", *arguments], program="balal")
        main.COMMANDS["pick"].main(flag_values, words)
        return test_cli.lines_of(out / "picks.csv")

    lines = pick("Largest")
    assert [int(line["file"]) for line in lines] == longest
    assert {line["reason"] for line in lines} == {"asked next"}
    answers = tmp_path / "Largest" / "picks.csv"
    test_cli.label(answers, [str(row) for row in longest])
    lines = pick("NearRarest", f"--answers={answers}")
    assert [line["rank"] for line in lines] == ["", "", "", "1", "2", "3"]
    assert all(line["reason"].startswith("asked for ") for line in lines[3:])
    assert pick("Largest+posterior")[0]["file"] == str(longest[0])


def test_estimate_knows_their_memory_and_not_their_operations(mine, capsys):
    flag_values = flags.FlagValues()
    main.COMMANDS["estimate"].define_flags(flag_values)
    names = f"{mine}:Largest,{mine}:NearRarest+balance,core_set"
    arguments = ["--rows=100", "--features=4", "--classes=3", "--budget=5"]
    words = command_line.parse(flag_values, [*arguments, f"--strategies={names}"], program="balal")
    main.COMMANDS["estimate"].main(flag_values, words)
    lines = [line for line in capsys.readouterr().out.splitlines() if "mine.py" in line]
    assert len(lines) == 2
    assert all("not known" in line for line in lines)


@pytest.mark.slow
def test_one_shot_runs_them_alone_and_with_rules(mine, toy, tmp_path):
    options = [
        f"--features={toy}",
        f"--strategies=random,{mine}:Largest,{mine}:NearRarest",
        "--rules=none,balance",
        "--budgets=8",
        "--seeds=2",
    ]
    result = test_one_shot.run(tmp_path, *options)
    ran = [(run["strategy"], run["rule"]) for run in result["runs"]]
    own = [(name.removeprefix(f"{mine}:"), rule) for name, rule in ran if "mine.py" in name]
    # One that looks at answers stands alone; none says that it uses no chance.
    assert own == [
        *[("Largest", "none")] * 2,
        *[("Largest", "balance")] * 2,
        *[("NearRarest", "none")] * 2,
    ]
    # A cell belongs to the code that made it.
    cells = {path.name for path in (tmp_path / "cells").glob("picks-*mine*")}
    mine.write_text(mine.read_text() + "\n# edited\n")
    test_one_shot.run(tmp_path, *options)
    assert len({path.name for path in (tmp_path / "cells").glob("picks-*mine*")}) == 2 * len(cells)


@pytest.mark.nightly
def test_rules_takes_them_beside_others(mine, toy, tmp_path):
    result = test_rules.run(
        tmp_path,
        "--pools=",
        f"--features={toy}",
        f"--strategies={mine}:Largest,{mine}:NearRarest",
        "--rules=posterior",
        "--budgets=6,9",
        "--seeds=2",
    )
    ran = {(run["strategy"].rpartition(":")[2], run["rule"]) for run in result["runs"]}
    assert ran == {("Largest", "none"), ("Largest", "posterior"), ("NearRarest", "none")}
    assert "NearRarest" in (tmp_path / "table.md").read_text()
