"""Looking for wrong labels, from end to end on few digits."""

import json
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from experiments import label_errors

OURS = ["suspects", "suspects+logistic", "gradient_variance"]


def run(out: Path, *arguments: str) -> dict:
    """The experiment in this process; what results.json holds."""
    flag_values = flags.FlagValues()
    label_errors.define_flags(flag_values)
    flag_values(["label_errors", f"--out={out}", *arguments])
    label_errors.main(flag_values)
    return json.loads((out / "results.json").read_text())


@pytest.fixture
def digits():
    return label_errors.POOLS["digits"]()


def test_a_tenth_of_the_labels_is_wrong_and_no_two_draws_are_alike(digits):
    tasks = [label_errors.task(digits, 100, 0, draw) for draw in range(2)]
    (features, labels), _ = label_errors.datasets.scaled(digits)
    true = {row.tobytes(): label for row, label in zip(features, labels, strict=True)}
    for task in tasks:
        right = np.array([true[row.tobytes()] for row in task.features])
        assert task.wrong.sum() == 10
        np.testing.assert_array_equal(task.labels != right, task.wrong)
    assert not np.array_equal(tasks[0].features, tasks[1].features)


def test_methods_are_judged_on_the_same_draws_and_finished_ones_are_kept(tmp_path, monkeypatch):
    arguments = ["--pools=long_tailed_digits", "--labels=80,4000", f"--methods={','.join(OURS)}"]
    result = run(tmp_path, "--seeds=2", *arguments)
    assert len(result["runs"]) == 2 * 2 * 3
    # At most 80 % of the 285 rows of the pool.
    assert {run["labels"] for run in result["runs"]} == {80, 228}
    found = {name: [r["precision"] for r in result["runs"] if r["method"] == name] for name in OURS}
    assert np.mean(found["suspects"]) > 0.6
    monkeypatch.setattr(label_errors, "METHODS", dict.fromkeys(OURS))  # Nothing to call.
    assert run(tmp_path, "--seeds=2", *arguments)["runs"] == result["runs"]


def test_a_star_is_for_more_and_a_circle_for_less_than_the_baseline():
    runs = [
        dict(pool="p", labels=50, seed=seed, method=method, precision=level + seed / 100, seconds=1)
        for seed in range(10)
        for method, level in (("self_confidence", 0.5), ("suspects", 0.6), ("other", 0.4))
    ]
    text = label_errors.table(runs, ["suspects", "other", "self_confidence"])
    assert "0.645 ± 0.010*" in text
    assert "0.445 ± 0.010o" in text
    assert "0.545 ± 0.010 " in text


def test_scores_are_cleanlabs(digits):
    pytest.importorskip("cleanlab")
    task = label_errors.task(digits, 100, 0, 0)
    own = task.probs[np.arange(100), task.labels]
    expected = np.argsort(own, kind="stable")
    assert label_errors.METHODS["self_confidence"][0](task).tolist() == expected.tolist()
