"""Heads on the same labelled sets: every one of them fits, and the program prints them side by
side."""

import json

import numpy as np
import pytest
from absl import flags

from balal import metrics
from experiments import heads
from experiments.common import classifiers


@pytest.fixture(scope="module")
def long_tailed(tmp_path_factory):
    """Four classes of which one has most rows: a file in the full layout, and its arrays."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))

    def drawn(sizes):
        labels = np.repeat(np.arange(4), sizes)
        return (centres[labels] + 0.8 * rng.normal(size=(len(labels), 8))).astype(
            np.float32
        ), labels

    pool, test = drawn([200, 30, 20, 10]), drawn([50] * 4)
    path = tmp_path_factory.mktemp("features") / "pool.npz"
    np.savez(
        path, pool_features=pool[0], pool_labels=pool[1], test_features=test[0], test_labels=test[1]
    )
    return path, pool, test


def test_every_head_predicts_and_no_rule_makes_rare_classes_worse(long_tailed):
    _, (features, labels), (tests, answers) = long_tailed
    rows = np.random.default_rng(1).permutation(len(labels))[:120]
    rest = np.setdiff1d(np.arange(len(labels)), rows)
    task = classifiers.Task(
        features[rows],
        labels[rows],
        features[rest],
        tests,
        dict(num_classes=4, C=(1.0,), folds=5, seed=0),
    )
    accuracies = {}
    for name in classifiers.HEADS:
        if name in classifiers.OF_IMAGES:
            with pytest.raises(ValueError, match="needs the images themselves: give --data_dir"):
                classifiers.fit(name, task)
            continue
        found = classifiers.fit(name, task)
        assert set(found.predicted) <= set(found.head.classes)
        accuracies[name] = float(metrics.balanced_accuracy(answers, found.predicted, num_classes=4))
    plain = accuracies["logistic"]
    assert all(
        accuracy >= plain - 0.01
        for name, accuracy in accuracies.items()
        if name.startswith("logistic")
    )
    assert accuracies["logistic+balanced_softmax"] > plain + 0.02
    assert accuracies["pseudo"] > plain


def test_the_rules_of_a_head_are_those_it_has_functions_for():
    assert set(classifiers.HEADS) == {
        head if rule == "none" else f"{head}+{rule}"
        for head in classifiers.PLAIN
        for rule in classifiers.rules(head)
    }
    assert classifiers.rules("ldam") == ["none"]


@pytest.mark.slow
def test_the_program_puts_heads_side_by_side_and_resumes_where_it_was(
    long_tailed, tmp_path, capsys
):
    def run(*arguments):
        flag_values = flags.FlagValues()
        heads.define_flags(flag_values)
        flag_values(
            [
                "heads",
                f"--features={long_tailed[0]}",
                f"--out={tmp_path}",
                "--strategies=random,core_set",
                "--seeds=2",
                *arguments,
            ]
        )
        heads.main(flag_values)
        return json.loads((tmp_path / "results.json").read_text())["runs"]

    first = run("--budgets=30", "--heads=svm,ldam")
    assert len(first) == 8
    assert "| svm  |" in capsys.readouterr().out
    more = run("--budgets=30", "--heads=svm,ldam,logistic+crt")
    assert [entry for entry in more if entry["head"] != "logistic+crt"] == first
    assert (tmp_path / "table.md").read_text().startswith("| head         | random, 30 |")
    with pytest.raises(ValueError, match="give only one of them"):
        run("--data_dir=photos")
    with pytest.raises(ValueError, match=r"C was .* give another --out, or --fresh"):
        run("--budgets=30", "--heads=ldam", "--C=1")
    assert len(run("--budgets=30", "--heads=ldam", "--C=1", "--fresh")) == 4
