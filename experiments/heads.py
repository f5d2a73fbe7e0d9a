"""Which classifier makes the most of imbalanced labels? Heads, and rules against the imbalance, on the same labelled sets.

    python -m experiments.heads                                     the embedded CIFAR-100; two minutes on two cores
    python -m experiments.heads --budgets=2000 --seeds=5 --out=results/heads
    python -m experiments.heads --data_dir=photos/ --budgets=100 --heads=svm,logistic

Every strategy buys labels as in experiments.one_shot; on each labelled set every head is fitted, and judged by balanced accuracy on the
balanced test set. All rules belong to the logistic head; the SVM takes thresholding and tau-normalisation, too. C is chosen by
cross-validation on the labelled set where several are given.

Expect: what is to be expected is in README's table.

Written to --out: results.json with every number and labelled set, results.csv, table.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal.heads import ldam, logistic, pseudo, rebalance, svm
from experiments.common import cells, data, pictures, program, report, simulation

# Apart from the other programs' flags, which have the same names.
FLAGS = flags.FlagValues()
_STRATEGIES = flags.DEFINE_list("strategies", ["random", "ent_inv_div+balance"], "What buys the labels.", flag_values=FLAGS)
_BUDGETS = flags.DEFINE_list("budgets", ["500", "2000"], "Numbers of labels to buy.", flag_values=FLAGS)
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs of each strategy.", lower_bound=1, flag_values=FLAGS)
_SEED = flags.DEFINE_integer("seed", 0, "What all chance is drawn from.", lower_bound=0, flag_values=FLAGS)
_HEADS = flags.DEFINE_list("heads", ["all"], "What to compare: all, or some of the first column of the table.", flag_values=FLAGS)
_C = flags.DEFINE_list("C", ["10"], "Inverse strength of the penalty; of several, cross-validation takes the best.", flag_values=FLAGS)
_FOLDS = flags.DEFINE_integer("folds", 10, "Folds of that cross-validation.", lower_bound=2, flag_values=FLAGS)
_FEATURES = flags.DEFINE_string("features", None, "As of experiments.one_shot. Default: embedded CIFAR-100.", flag_values=FLAGS)
_OUT = flags.DEFINE_string("out", "results/heads", "Folder for everything that is written.", flag_values=FLAGS)

# The strategies that draw from the key; the others are run once.
USE_CHANCE = ("random", "core_set", "posterior")


@dataclass(frozen=True)
class Task:
    """A labelled set, the rest of the pool, a test set whose classes are to be predicted, and what `fit` is told beside them."""

    features: np.ndarray
    labels: np.ndarray
    pool: np.ndarray
    tests: np.ndarray
    options: dict[str, Any]

    @property
    def counts(self) -> np.ndarray:
        return rebalance.counts_of(self.labels, num_classes=self.options["num_classes"])


def linear_svm(task: Task, *, thresholding: bool = False) -> np.ndarray:
    head = svm.fit(task.features, task.labels, calibrate=thresholding, **task.options)
    return svm.predict(head, task.tests, thresholding=thresholding)


def softmax(task: Task, *, weights: np.ndarray | None = None, adjustment: np.ndarray | None = None) -> np.ndarray:
    each = None if weights is None else weights[task.labels]
    return logistic.predict(logistic.fit(task.features, task.labels, weights=each, adjustment=adjustment, **task.options), task.tests)


def thresholding(task: Task) -> np.ndarray:
    head = logistic.fit(task.features, task.labels, calibrate=True, **task.options)
    return head.classes[rebalance.threshold(logistic.probabilities(head, task.tests), head.counts, smoothing=1.0).argmax(axis=1)]


def logit_adjustment(task: Task) -> np.ndarray:
    head = logistic.fit(task.features, task.labels, **task.options)
    return head.classes[rebalance.adjust(logistic.logits(head, task.tests), head.counts).argmax(axis=1)]


def tau_normalised(task: Task, fit: Callable[..., Any]) -> np.ndarray:
    head = fit(task.features, task.labels, **task.options)
    return head.classes[np.argmax(task.tests @ rebalance.tau_normalise(head.coef).T, axis=1)]


def cosine(task: Task) -> np.ndarray:
    return ldam.predict(ldam.fit(task.features, task.labels, num_classes=task.options["num_classes"]), task.tests)


def pseudo_labels(task: Task) -> np.ndarray:
    head, _ = pseudo.fit(task.features, task.labels, task.pool, **task.options)
    return logistic.predict(head, task.tests)


# Every head by name, and the classes that it predicts.
HEADS: dict[str, Callable[[Task], np.ndarray]] = {
    "svm": linear_svm,
    "svm, thresholding": lambda task: linear_svm(task, thresholding=True),
    "svm, tau-normalised": lambda task: tau_normalised(task, svm.fit),
    "logistic": softmax,
    "logistic, thresholding": thresholding,
    "logistic, logit adjustment": logit_adjustment,
    "logistic, balanced softmax": lambda task: softmax(task, adjustment=rebalance.adjustment(task.counts)),
    "logistic, effective weights": lambda task: softmax(task, weights=rebalance.effective_weights(task.counts, beta=0.9)),
    "logistic, cRT": lambda task: softmax(task, weights=rebalance.sampling_weights(task.counts)),
    "logistic, square-root sampling": lambda task: softmax(task, weights=rebalance.sampling_weights(task.counts, power=0.5)),
    "logistic, tau-normalised": lambda task: tau_normalised(task, logistic.fit),
    "ldam-drw": cosine,
    "pseudo-labels": pseudo_labels,
}


def main(_: Sequence[str]) -> None:
    names = program.listed("heads", _HEADS.value, HEADS)
    budgets, choices = program.numbers("budgets", _BUDGETS.value, int), program.numbers("C", _C.value, float)
    dataset = data.load(_FEATURES.value) if pictures.DATA_DIR.value is None else pictures.dataset(seed=_SEED.value, test_share=0.2)
    if budgets[-1] > len(dataset.labels):
        raise ValueError(f"--budgets goes up to {budgets[-1]}, and the pool has only {len(dataset.labels)} rows")
    pool, ((features, _), (tests, answers)) = data.pool(dataset), data.scaled(dataset)
    configuration = dict(
        files=dataset.files,
        strategies=_STRATEGIES.value,
        seeds=_SEEDS.value,
        seed=_SEED.value,
        C=choices,
        folds=_FOLDS.value,
        device=report.device(),
        versions=report.versions(),
        code=report.code(),
    )
    out = Path(_OUT.value)
    folder = cells.folder(out / "cells", configuration)
    options = dict(num_classes=dataset.num_classes, C=choices, folds=_FOLDS.value, seed=_SEED.value)
    seeds = {strategy: _SEEDS.value if strategy.split("+")[0] in USE_CHANCE else 1 for strategy in _STRATEGIES.value}
    runs = []
    with tqdm(total=sum(seeds.values()) * len(budgets) * len(names), unit="head", disable=None) as progress:
        for strategy in _STRATEGIES.value:
            for budget in budgets:
                for seed in range(seeds[strategy]):
                    cell = f"{strategy}-{budget}-{seed}"
                    rows = cells.read(folder, f"picks-{cell}")
                    if rows is None:
                        key = jax.random.fold_in(jax.random.key(_SEED.value), seed)
                        labels = jnp.asarray(dataset.labels)
                        sizes = dict(budget=budget, num_classes=dataset.num_classes, capacity=budgets[-1])
                        bought = simulation.one_shot(balal.strategy(strategy), pool, labels, key=key, **sizes)
                        rows = np.asarray(bought.indices)[:budget].tolist()
                        cells.write(folder, f"picks-{cell}", rows)
                    chosen = np.sort(rows)
                    unlabelled = np.setdiff1d(np.arange(len(dataset.labels)), chosen)
                    task = Task(features[chosen], dataset.labels[chosen], features[unlabelled], tests, options)
                    for name in names:
                        found = cells.read(folder, f"head-{name}-{cell}")
                        if found is None:
                            predicted = HEADS[name](task)
                            accuracy = balal.metrics.balanced_accuracy(answers, predicted, num_classes=dataset.num_classes)
                            found = round(100 * float(accuracy), 4)
                            cells.write(folder, f"head-{name}-{cell}", found)
                        runs.append(dict(head=name, strategy=strategy, budget=budget, seed=seed, accuracy=found))
                        progress.update()
    text = table(runs, names, _STRATEGIES.value, budgets)
    report.write_json(out / "results.json", dict(experiment="heads", configuration=configuration, commit=report.commit(), runs=runs))
    report.write_csv(out / "results.csv", runs)
    cells.write_text(out / "table.md", text + "\n")
    print(
        f"Balanced test accuracy in percent, mean ± standard deviation over {_SEEDS.value} seeds for strategies that use chance, one run "
        f"for the others. Pool: {', '.join(dataset.files)}.\n"
    )
    print(f"{text}\n\nEverything is in {out}.")


def table(runs: Sequence[dict[str, Any]], names: Sequence[str], strategies: Sequence[str], budgets: Sequence[int]) -> str:
    """A line for each head, a column for each strategy and budget."""
    columns = [(strategy, budget) for strategy in strategies for budget in budgets]

    def cell(name: str, strategy: str, budget: int) -> str:
        values = [run["accuracy"] for run in runs if (run["head"], run["strategy"], run["budget"]) == (name, strategy, budget)]
        return f"{np.mean(values):.1f}" + (f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else "")

    header = ["head", *(f"{strategy}, {budget}" for strategy, budget in columns)]
    return report.markdown(header, [[name, *(cell(name, *column) for column in columns)] for name in names])


if __name__ == "__main__":
    program.run(main, FLAGS)
