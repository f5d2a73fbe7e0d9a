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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import cost, folder_lock
from balal.atomic_files import together
from balal.cli import image_options
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


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    image_options.define_flags(flag_values)
    flags.DEFINE_list(
        "strategies", ["random", "ent_inv_div+balance"], "What buys the labels.", **own
    )
    flags.DEFINE_list("budgets", ["500", "2000"], "Numbers of labels to buy.", **own)
    flags.DEFINE_integer("seeds", 3, "Runs of each strategy.", lower_bound=1, **own)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_list(
        "heads",
        ["all"],
        "What to compare: all that can be fitted to features, or some by name.",
        **own,
    )
    flags.DEFINE_list(
        "C",
        ["10"],
        "Inverse strength of the penalty; of several, cross-validation takes the best.",
        **own,
    )
    flags.DEFINE_integer("folds", 10, "Folds of that cross-validation.", lower_bound=2, **own)
    flags.DEFINE_string(
        "features", None, "As for experiments.one_shot. Default: embedded CIFAR-100.", **own
    )
    image_datasets.define_flags(flag_values)
    program.define_output_flags(flag_values, out="results/heads")


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names."""

    heads: list[str]
    strategies: list[str]
    budgets: list[int]
    C: list[float]
    images: image_options.ImageOptions
    held_out: image_datasets.HeldOut
    features: str | None
    seeds: int
    seed: int
    folds: int
    out: Path
    fresh: bool


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    # Heads that train the network take hours without an accelerator, so they run only on request.
    of_features = [name for name in classifiers.HEADS if name not in classifiers.OF_IMAGES]
    settings = Settings(
        heads=of_features
        if flag_values.heads == ["all"]
        else program.listed("heads", flag_values.heads, classifiers.HEADS),
        strategies=buying.listed(flag_values.strategies),
        budgets=program.numbers("budgets", flag_values.budgets, int),
        C=program.numbers("C", flag_values.C, float),
        images=image_options.read_options(flag_values),
        held_out=image_datasets.read_options(flag_values),
        features=flag_values.features,
        seeds=flag_values.seeds,
        seed=flag_values.seed,
        folds=flag_values.folds,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
    )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def carry_out(settings: Settings) -> None:
    """Buys the labels, fits every head to each set of them, and writes what came of it."""
    dataset, out = read_dataset(settings), settings.out
    configuration = dict(
        files=dataset.files,
        answers=dataset.answers,
        strategies=settings.strategies,
        seeds=settings.seeds,
        seed=settings.seed,
        C=settings.C,
        folds=settings.folds,
        **report.made_with(),
    )
    folder = cells.folder(out / "cells", configuration, fresh=settings.fresh)
    runs = fit_all(settings, dataset, folder)
    text = table(runs, settings.heads, settings.strategies, settings.budgets)
    result = dict(
        experiment="heads", configuration=configuration, commit=report.commit(), runs=runs
    )
    with together(out, first="results.json") as staged:
        report.write_json(staged / "results.json", result)
        report.write_csv(staged / "results.csv", runs)
        report.write_text(staged / "table.md", text + "\n")
    print(
        f"Balanced test accuracy in percent, mean ± standard deviation over {settings.seeds} seeds "
        f"for strategies that use chance, one run for the others. Pool: "
        f"{', '.join(dataset.files)}.\n"
    )
    print(f"{text}\n\nEverything is in {out}.")


def read_dataset(settings: Settings) -> datasets.Dataset:
    """The features that were named, or those of the images that were named."""
    image_datasets.refuse_both(settings.images, settings.held_out, features=settings.features)
    dataset = (
        datasets.load(settings.features)
        if settings.images.data_dir is None
        else image_datasets.dataset(
            settings.images,
            seed=settings.seed,
            held_out=settings.held_out,
            budgets=settings.budgets,
        )
    )
    buying.check_budgets(settings.budgets, len(dataset.labels))
    if absent := datasets.absent_classes(dataset):
        print(absent)
    return dataset


def fit_all(settings: Settings, dataset: datasets.Dataset, folder: Path) -> list[dict[str, Any]]:
    """The accuracy of every head on what every strategy buys; what is finished is in `folder`."""
    pool, ((features, _), (tests, answers)) = datasets.pool(dataset), datasets.scaled(dataset)
    sizes = dict(num_classes=dataset.num_classes, budget=settings.budgets[-1])
    for strategy in settings.strategies:
        cost.check_memory(balal.strategy(strategy), pool, **sizes)
    options = dict(
        num_classes=dataset.num_classes, C=settings.C, folds=settings.folds, seed=settings.seed
    )
    seeds = {name: buying.seeds_of(name, settings.seeds) for name in settings.strategies}
    sets = sum(map(len, seeds.values())) * len(settings.budgets)
    runs = []
    with tqdm(total=sets * len(settings.heads), unit="head", disable=None) as progress:
        for strategy in settings.strategies:
            bought = buy(settings, strategy, dataset, pool, seeds[strategy], folder)
            for (budget, seed), picks in bought.items():
                chosen = np.sort(picks["indices"])
                unlabelled = np.setdiff1d(np.arange(len(dataset.labels)), chosen)
                labelled = features[chosen], dataset.labels[chosen]
                task = classifiers.Task(
                    *labelled, features[unlabelled], tests, options, dataset.network, chosen
                )
                for name in settings.heads:
                    cell = f"head-{name}-{buying.cell_name(strategy)}-{budget}-{seed}"
                    accuracy = cells.read(folder, cell)
                    if accuracy is None:
                        accuracy = fit(name, task, answers, dataset.num_classes)
                        cells.write(folder, cell, accuracy)
                    run = dict(head=name, strategy=strategy, budget=budget, seed=seed)
                    runs.append(run | dict(accuracy=accuracy))
                    progress.update()
    return runs


def buy(
    settings: Settings,
    name: str,
    dataset: datasets.Dataset,
    pool: balal.Pool,
    seeds: Sequence[int],
    folder: Path,
) -> dict[tuple[int, int], dict[str, Any]]:
    """What a strategy buys, by budget and seed."""
    strategy, budgets = balal.strategy(name), settings.budgets
    pool, labels = balal.prepare(strategy, pool), jnp.asarray(dataset.labels)

    def run(budget: int, seeds: list[int]) -> Iterator[buying.Bought]:
        sizes = dict(budget=budget, num_classes=dataset.num_classes, capacity=budgets[-1])
        for seed in seeds:
            key = jax.random.fold_in(jax.random.key(settings.seed), seed)
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
    program.run(main, define_flags)
