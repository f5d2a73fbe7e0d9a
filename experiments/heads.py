r"""Which classifier makes the most of imbalanced labels? Heads, and rules against the imbalance, on
the same labelled sets.

    python -m experiments.heads          the embedded CIFAR-100; five minutes on two cores
    python -m experiments.heads --budgets=2000 --seeds=5 --out=results/heads
    python -m experiments.heads --data_dir=photos/ --budgets=100 \
        --heads=svm,logistic+balanced_softmax

Every strategy buys labels as in experiments.one_shot; every head is fitted to each labelled set and
judged by balanced accuracy on the balanced test set. C is chosen by cross-validation on the
labelled set where several are given.

Expect: the rules add up to eight points after `random` and up to four after balancing,
tau-normalisation and LDAM most; the SVM without any is the best of the plain heads at 500 labels
and the worst at 2,000.

Written to --out: results.json with every number and labelled set, results.csv, table.md.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal.cli import images
from balal.strategies import member
from experiments.common import (
    buying,
    cells,
    classifiers,
    datasets,
    image_datasets,
    program,
    report,
)

# Separate from the other programs' flags, which have the same names.
FLAGS = flags.FlagValues()
images.define_flags(FLAGS)
_STRATEGIES = flags.DEFINE_list(
    "strategies", ["random", "ent_inv_div+balance"], "What buys the labels.", flag_values=FLAGS
)
_BUDGETS = flags.DEFINE_list(
    "budgets", ["500", "2000"], "Numbers of labels to buy.", flag_values=FLAGS
)
_SEEDS = flags.DEFINE_integer(
    "seeds", 3, "Runs of each strategy.", lower_bound=1, flag_values=FLAGS
)
_SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of everything random.", lower_bound=0, flag_values=FLAGS
)
_HEADS = flags.DEFINE_list(
    "heads",
    ["all"],
    "What to compare: all that can be fitted to features, or some by name.",
    flag_values=FLAGS,
)
_C = flags.DEFINE_list(
    "C",
    ["10"],
    "Inverse strength of the penalty; of several, cross-validation takes the best.",
    flag_values=FLAGS,
)
_FOLDS = flags.DEFINE_integer(
    "folds", 10, "Folds of that cross-validation.", lower_bound=2, flag_values=FLAGS
)
_FEATURES = flags.DEFINE_string(
    "features", None, "As for experiments.one_shot. Default: embedded CIFAR-100.", flag_values=FLAGS
)
_OUT = flags.DEFINE_string(
    "out", "results/heads", "Folder for everything that is written.", flag_values=FLAGS
)


def main(_: Sequence[str]) -> None:
    # Heads that train the network take hours without an accelerator, so they run only on request.
    of_features = [name for name in classifiers.HEADS if name not in classifiers.OF_IMAGES]
    names = (
        of_features
        if _HEADS.value == ["all"]
        else program.listed("heads", _HEADS.value, classifiers.HEADS)
    )
    strategies = buying.listed(_STRATEGIES.value)
    budgets, choices = (
        program.numbers("budgets", _BUDGETS.value, int),
        program.numbers("C", _C.value, float),
    )
    options = images.read_options(FLAGS)
    image_datasets.refuse_both(options, features=_FEATURES.value)
    dataset = (
        datasets.load(_FEATURES.value)
        if options.data_dir is None
        else image_datasets.dataset(options, seed=_SEED.value, test_share=0.2)
    )
    if budgets[-1] > len(dataset.labels):
        raise ValueError(
            f"--budgets goes up to {budgets[-1]}, but the pool has only {len(dataset.labels)} rows"
        )
    pool, ((features, _), (tests, answers)) = datasets.pool(dataset), datasets.scaled(dataset)
    configuration = dict(
        files=dataset.files,
        answers=dataset.answers,
        strategies=strategies,
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
    seeds = {name: buying.seeds_of(name, _SEEDS.value) for name in strategies}
    runs, total = [], sum(map(len, seeds.values())) * len(budgets) * len(names)
    with tqdm(total=total, unit="head", disable=None) as progress:
        for strategy in strategies:
            bought = buy(strategy, dataset, pool, budgets, seeds[strategy], folder)
            for (budget, seed), picks in bought.items():
                chosen = np.sort(picks["indices"])
                unlabelled = np.setdiff1d(np.arange(len(dataset.labels)), chosen)
                labelled = features[chosen], dataset.labels[chosen]
                task = classifiers.Task(
                    *labelled, features[unlabelled], tests, options, dataset.network, chosen
                )
                for name in names:
                    cell = f"head-{name}-{buying.cell_name(strategy)}-{budget}-{seed}"
                    accuracy = cells.read(folder, cell)
                    if accuracy is None:
                        accuracy = fit(name, task, answers, dataset.num_classes)
                        cells.write(folder, cell, accuracy)
                    run = dict(head=name, strategy=strategy, budget=budget, seed=seed)
                    runs.append(run | dict(accuracy=accuracy))
                    progress.update()
    text = table(runs, names, strategies, budgets)
    report.write_json(
        out / "results.json",
        dict(experiment="heads", configuration=configuration, commit=report.commit(), runs=runs),
    )
    report.write_csv(out / "results.csv", runs)
    report.write_text(out / "table.md", text + "\n")
    print(
        f"Balanced test accuracy in percent, mean ± standard deviation over {_SEEDS.value} seeds "
        f"for strategies that use chance, one run "
        f"for the others. Pool: {', '.join(dataset.files)}.\n"
    )
    print(f"{text}\n\nEverything is in {out}.")


def buy(
    name: str,
    dataset: datasets.Dataset,
    pool: balal.Pool,
    budgets: Sequence[int],
    seeds: Sequence[int],
    folder: Path,
) -> dict[tuple[int, int], dict[str, Any]]:
    """What a strategy buys, by budget and seed."""
    strategy = balal.strategy(name)
    pool, labels = balal.prepare(strategy, pool), jnp.asarray(dataset.labels)

    def run(budget: int, seeds: list[int]) -> Iterator[buying.Bought]:
        sizes = dict(budget=budget, num_classes=dataset.num_classes, capacity=budgets[-1])
        for seed in seeds:
            key = jax.random.fold_in(jax.random.key(_SEED.value), seed)
            bought = buying.one_shot(strategy, pool, labels, key=key, **sizes)
            yield np.asarray(bought.indices), np.asarray(bought.wanted)

    return buying.buy(
        run,
        folder,
        buying.cell_name(name),
        labels=dataset.labels,
        num_classes=dataset.num_classes,
        budgets=budgets,
        seeds=seeds,
        nested=member(strategy, "nested"),
    )


def fit(name: str, task: classifiers.Task, answers: np.ndarray, num_classes: int) -> float:
    """Balanced test accuracy of a head, in percent."""
    predicted = classifiers.fit(name, task).predicted
    accuracy = balal.metrics.balanced_accuracy(answers, predicted, num_classes=num_classes)
    return round(100 * float(accuracy), 4)


def table(
    runs: Sequence[dict[str, Any]],
    names: Sequence[str],
    strategies: Sequence[str],
    budgets: Sequence[int],
) -> str:
    """A line for each head, a column for each strategy and budget."""
    columns = [(strategy, budget) for strategy in strategies for budget in budgets]

    def cell(name: str, strategy: str, budget: int) -> str:
        values = [
            run["accuracy"]
            for run in runs
            if (run["head"], run["strategy"], run["budget"]) == (name, strategy, budget)
        ]
        return f"{np.mean(values):.1f}" + (
            f" ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
        )

    header = ["head", *(f"{strategy}, {budget}" for strategy, budget in columns)]
    return report.markdown(
        header, [[name, *(cell(name, *column) for column in columns)] for name in names]
    )


if __name__ == "__main__":
    program.run(main, FLAGS)
