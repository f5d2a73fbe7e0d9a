"""Second answers, from end to end on few digits."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import second_answers


def run(folder, *options):
    values = flags.FlagValues()
    second_answers.define_flags(values)
    small = (
        "--quick",
        "--per_class=6",
        "--seeds=2",
        "--heads=svm",
        "--workers=0",
        f"--out={folder}",
    )
    values(["second_answers", *small, *options])
    second_answers.main(values)
    return json.loads((folder / "results.json").read_text())


def test_budgets_are_spent_in_every_way_and_finished_draws_are_kept(tmp_path, capsys, monkeypatch):
    result = run(tmp_path)
    assert [(line["seed"], line["budget"]) for line in result["runs"]] == [(0, 60), (1, 60)]
    for line in result["runs"]:
        assert set(line["accuracy"]) == set(second_answers.WAYS)
        assert all(0 < each["svm"] < 100 for each in line["accuracy"].values())
        assert 0 < line["wrong_share"] < 0.3
        assert line["named_wrong"] <= line["named"] <= 60
    said = capsys.readouterr().out
    assert "| digits |      60 |" in said
    assert (tmp_path / "table.md").read_text().strip() in said

    def again(*arguments, **options):
        raise AssertionError("a finished draw is bought again")

    monkeypatch.setattr(second_answers, "spent", again)
    assert run(tmp_path)["runs"] == result["runs"]


def test_a_budget_pays_for_rows_and_second_answers():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    features = 3 * rng.normal(size=(10, 6))[labels] + rng.normal(size=(200, 6))
    told = labels.copy()
    told[:30] = (told[:30] + rng.integers(1, 10, 30)) % 10
    shuffled = rng.permutation(200)
    features, told, wrong = features[shuffled], told[shuffled], shuffled < 30
    kept, again = second_answers.asked_again(features, told)
    assert kept < 200
    assert kept + len(again) <= 200
    assert kept + len(again) > 195
    assert wrong[again].mean() > 0.8
    assert second_answers.asked_again(features, labels[shuffled])[0] > 195


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--strategy=posteriour", "--strategy: no strategy is called 'posteriour'"),
        ("--per_class=500", "every pool has fewer rows than any budget"),
        ("--heads=forest", "--heads"),
    ],
)
def test_wrong_flags_are_told(tmp_path, option, said):
    with pytest.raises(ValueError, match=said):
        run(tmp_path, option)
