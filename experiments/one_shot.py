r"""Which acquisition function buys the labels that train the best classifier, and what does
balancing them add? (one-shot scenario)

A whole budget of labels is bought from a long-tailed pool, a linear SVM is trained on them and
tested on a balanced test set: before and after balancing, as in Tables 2 to 5 of Aggarwal, Popescu,
Hudelot, WACV 2020, beside the figures printed there for CIFAR-100.

    python -m experiments.one_shot           the embedded CIFAR-100, three minutes on two cores
    python -m experiments.one_shot --strategies=all --rules=none,balance,balance_printed \
        --out=results/all
    python -m experiments.one_shot --strategies=ent_inv_div --budgets=250 --seeds=1 \
        --out=results/quick
    python -m experiments.one_shot --features=mine.npz --classifier=my_network.safetensors \
        --full --out=results/mine
    python -m experiments.one_shot --dataset=cifar100 --data_dir=~/tensorflow_datasets \
        --source=efficientnet_lite0 --out=results/cifar100

With photographs in a directory for each class, or in one folder beside a table of labels, and with
the better of SVM and fine-tuning:

    python -m experiments.one_shot --data_dir=photos/ --budgets=50,100 --full --out=results/photos
    python -m experiments.one_shot --data_dir=images/ --labels=labels.csv --budgets=50,100
    python -m experiments.one_shot --data_dir=photos/ --budgets=50,100 --head=auto --epochs=20

Expect, from the first: `ent` finds the fewest classes and is the least balanced; `ent_inv_div` is
four points more accurate than `random` at 500 labels; balancing lowers the imbalance ratio
everywhere, by a third to a half, and adds up to ten points of accuracy, most to `ent`; after any of
them, the posterior is at 42 to 44 % with 500 labels.

Written to --out: results.json (every number and every picked row), results.csv, table.md, plots,
timings.json, and cells/, the finished parts from which a killed run resumes. The same seed gives
the same files, byte for byte, timings.json and the seconds in cells/ aside.
"""

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import cost, folder_lock
from balal.atomic_files import together
from balal.cli import image_options
from balal.strategies import RULES, STRATEGIES, member
from experiments.common import (
    buying,
    cells,
    classifiers,
    datasets,
    image_datasets,
    paper,
    plots,
    program,
    report,
    summary,
    workers,
)

if TYPE_CHECKING:  # needs Flax, which only images do
    from experiments.common import networks

_DEFAULT = ["random", "ent", "ent_inv", "ent_inv_div", "lc_inv_div", "core_set"]
# The flags that name files of features.
FILES = ("features", "test_features", "scores", "classifier")
_RULES_OF = {head: classifiers.rules(head) for head in classifiers.PLAIN}
_GO_TOGETHER = [
    f"with {head} {', '.join(rules)}" for head, rules in _RULES_OF.items() if len(rules) > 1
]

# Balanced test accuracy, in percent, of the same head (C = 10) and all labels of the pool, by where
# the features came from (`Dataset.origin`). `--full --strategies=random --rules=none --seeds=1`
# computes it again.
FULL_ACCURACY = {"99c88c48+67ecd5a2": 58.62, "ce1d09aa+cb96a35f": 50.65, "66fbc133": 59.54}

# What is reported, where it was measured: title, digits, and whether a rule should raise it (False:
# lower it, None: neither).
METRICS = {
    "accuracy": ("Balanced test accuracy, %", 1, True),
    "accuracy_thresholded": ("Balanced test accuracy with prior thresholding, %", 1, True),
    "classes_found": ("Classes found", 1, True),
    "imbalance_ratio": ("Imbalance ratio of the labelled set", 3, False),
    "unseen_svm": ("Accuracy of the SVM in cross-validation on the labelled set, %", 1, None),
    "unseen_finetune": (
        "Accuracy of fine-tuning in cross-validation on the labelled set, %",
        1,
        None,
    ),
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    image_options.define_flags(flag_values)
    flags.DEFINE_list(
        "strategies", _DEFAULT, f"What to compare: all, or some of {', '.join(STRATEGIES)}.", **own
    )
    flags.DEFINE_list(
        "rules",
        ["none", "balance", "posterior"],
        f"What takes over at the switch: some of none, {', '.join(RULES)}.",
        **own,
    )
    flags.DEFINE_list("budgets", ["500", "1000", "2000"], "Numbers of labels to buy.", **own)
    flags.DEFINE_integer(
        "seeds",
        5,
        "Runs of the strategies that use chance; run s has the same key for each of them.",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_string(
        "features",
        None,
        "Full features, or the pool file of compact ones (npz). Default: embedded CIFAR-100.",
        **own,
    )
    flags.DEFINE_string(
        "test_features",
        None,
        "Test file of compact features. Default: as --features with `test` for `pool`.",
        **own,
    )
    flags.DEFINE_string(
        "scores",
        None,
        "An npz file with entropy, margin, least_confidence and predicted of the same rows.",
        **own,
    )
    flags.DEFINE_string(
        "classifier",
        None,
        "The source classifier's weight [K, D] and bias [K] (npz, safetensors or PyTorch).",
        **own,
    )
    image_datasets.define_flags(flag_values)
    flags.DEFINE_integer(
        "pool_rows",
        None,
        "Keep only this many rows of the pool, the first ones, for a quick look.",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_enum(
        "head",
        "svm",
        classifiers.PLAIN,
        "The classifier that is fitted to the labels: finetune trains the whole network on the "
        "images, auto is the svm or finetune, whichever cross-validation on the labelled set "
        "prefers.",
        **own,
    )
    flags.DEFINE_string(
        "rebalance", "none", f"A rule against imbalance: {'; '.join(_GO_TOGETHER)}.", **own
    )
    flags.DEFINE_list(
        "C",
        ["10"],
        "Inverse strength of the SVM's penalty; of several, cross-validation takes the best for "
        "each head.",
        **own,
    )
    flags.DEFINE_integer("folds", 10, "Folds of that cross-validation.", lower_bound=2, **own)
    flags.DEFINE_integer(
        "epochs", 60, "For fine-tuning: passes over the labelled images.", lower_bound=1, **own
    )
    flags.DEFINE_float(
        "learning_rate", 0.01, "For fine-tuning: the initial learning rate.", 0, **own
    )
    flags.DEFINE_integer(
        "tuned_size",
        None,
        "For fine-tuning: pixels a side that the network sees. Default: as for the source model; "
        "fewer are faster.",
        32,
        **own,
    )
    flags.DEFINE_bool(
        "thresholding",
        False,
        "Also report accuracy with probabilities divided by the priors of the labels.",
        **own,
    )
    flags.DEFINE_bool(
        "full",
        False,
        "Fit the head to the whole pool too, which G_AL needs if it is not known yet; takes "
        "minutes.",
        **own,
    )
    program.define_output_flags(flag_values, out="results/one_shot")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names. `head` has its rule against imbalance with it, as in
    `classifiers`; `files` are those of features, by flag."""

    strategies: list[str]
    rules: list[str]
    budgets: list[int]
    seeds: int
    seed: int
    images: image_options.ImageOptions
    files: dict[str, str | None]
    held_out: image_datasets.HeldOut
    pool_rows: int | None
    head: str
    C: tuple[float, ...]
    folds: int
    thresholding: bool
    epochs: int
    learning_rate: float
    tuned_size: int | None
    full: bool
    out: Path
    fresh: bool
    processes: int


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    settings = Settings(
        strategies=buying.listed(flag_values.strategies),
        rules=program.listed("rules", flag_values.rules, ("none", *RULES)),
        budgets=program.numbers("budgets", flag_values.budgets, int),
        seeds=flag_values.seeds,
        seed=flag_values.seed,
        images=image_options.read_options(flag_values),
        files={name: flag_values[name].value for name in FILES},
        held_out=image_datasets.read_options(flag_values),
        pool_rows=flag_values.pool_rows,
        C=tuple(program.numbers("C", flag_values.C, float)),
        head=head_name(
            flag_values.head, flag_values.rebalance, thresholding=flag_values.thresholding
        ),
        folds=flag_values.folds,
        thresholding=flag_values.thresholding,
        epochs=flag_values.epochs,
        learning_rate=flag_values.learning_rate,
        tuned_size=flag_values.tuned_size,
        full=flag_values.full,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
        processes=program.processes(flag_values),
    )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def head_name(head: str, rule: str, *, thresholding: bool) -> str:
    """The name of a head with its rule, as in `classifiers`; ValueError where they do not go
    together."""
    if rule not in _RULES_OF[head]:
        raise ValueError(
            f"--head={head} has no --rebalance={rule}; choose from {', '.join(_RULES_OF[head])}"
        )
    if thresholding and (head, rule) != ("svm", "none"):
        raise ValueError(
            "--thresholding needs --head=svm and no --rebalance; for --head=logistic use "
            "--rebalance=thresholding"
        )
    return head if rule == "none" else f"{head}+{rule}"


def carry_out(settings: Settings) -> None:
    """Buys the labels, fits a head to each set of them, and writes what came of it."""
    clock = [time.perf_counter()]
    dataset = read_dataset(settings)
    network = tuned_network(settings, dataset) if settings.head in classifiers.OF_IMAGES else None
    configuration = what_cells_depend_on(settings, dataset, network)
    folder = cells.folder(settings.out / "cells", configuration, fresh=settings.fresh)
    network = network and replace(network, folder=folder)
    head = workers.Setting(
        dataset.num_classes,
        settings.C,
        settings.folds,
        settings.seed,
        settings.thresholding,
        head=settings.head,
    )
    pool = datasets.pool(dataset)
    pairs = [
        (name, rule)
        for name in settings.strategies
        for rule in buying.rules_of(name, settings.rules)
    ]
    sizes = dict(num_classes=dataset.num_classes, budget=settings.budgets[-1])
    for name, rule in pairs:
        cost.check_memory(balal.strategy(summary.full_name(name, rule)), pool, **sizes)
    seeds = sum(len(buying.seeds_of(name, settings.seeds)) for name, _ in pairs)
    # A network is trained in this process, with whatever accelerator there is.
    processes = 0 if network else settings.processes
    clock.append(time.perf_counter())

    # Selection runs here; every labelled set goes to a worker as soon as it is known.
    with (
        workers.processes(processes) as executor,
        workers.fitting(
            head, folder, *datasets.scaled(dataset), executor=executor, network=network
        ) as submit,
        tqdm(total=seeds * len(settings.budgets), unit="run", disable=None) as progress,
    ):
        jobs, full = [], full_accuracy(settings, dataset, submit)
        for name, rule in pairs:
            progress.set_postfix_str(f"selecting: {summary.full_name(name, rule)}")
            for picks in select(settings, name, rule, pool, dataset, folder):
                jobs.append((picks, submit(np.array(picks["indices"]))))
                jobs[-1][1].add_done_callback(lambda _: progress.update())
        clock.append(time.perf_counter())
        progress.set_postfix_str("fitting heads")
        runs = [picks | job.result() for picks, job in jobs]
        reached = full and full.result()["accuracy"]
    seconds_of_fitting = sum(run.pop("seconds") for run in runs)
    clock.append(time.perf_counter())

    configuration |= dict(strategies=settings.strategies, rules=settings.rules)
    configuration |= dict(budgets=settings.budgets, seeds=settings.seeds)
    result = gather(configuration, dataset, runs, reached)
    text = tables(result)
    with together(settings.out, first="results.json") as staged:
        write_results(staged, result, text, dataset)
    print(text)
    clock.append(time.perf_counter())
    tell_times(settings.out, clock, seconds_of_fitting, processes)


# What labels are bought from.


def read_dataset(settings: Settings) -> datasets.Dataset:
    """The features that were named, those of the images that were named, or the embedded ones;
    ValueError where the strategies and budgets ask for more than there is."""
    options, rows = settings.images, settings.pool_rows
    image_datasets.refuse_both(options, settings.held_out, **settings.files)
    if options.data_dir is None:
        dataset = datasets.load(**settings.files, pool_rows=rows)
    else:
        dataset = image_datasets.dataset(
            options, seed=settings.seed, held_out=settings.held_out, budgets=settings.budgets
        )
        dataset = dataset if rows is None else datasets.first_rows(dataset, rows)
    for name in settings.strategies:
        if dataset.scores is None and "scores" in balal.strategy(name).needs:
            raise ValueError(
                f"{name} needs the source model's scores, but {settings.files['features']} has "
                f"none: give --scores or --classifier"
            )
    buying.check_budgets(settings.budgets, len(dataset.labels))
    if absent := datasets.absent_classes(dataset):
        print(absent)
    return dataset


def tuned_network(settings: Settings, dataset: datasets.Dataset) -> "networks.Network":
    """The source model with its images, to be fine-tuned as the settings say."""
    network: networks.Network | None = dataset.network
    if network is None:
        raise ValueError(
            f"--head={settings.head.partition('+')[0]} trains on the images themselves: give "
            f"--data_dir instead of features"
        )
    recipe = replace(
        network.recipe,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        # Only accelerators are faster in mixed precision.
        bfloat16=jax.default_backend() != "cpu",
    )
    size = settings.tuned_size or network.model.source.image_size
    model = replace(network.model, source=replace(network.model.source, image_size=size))
    return replace(network, recipe=recipe, model=model)


def what_cells_depend_on(
    settings: Settings, dataset: datasets.Dataset, network: "networks.Network | None"
) -> dict[str, Any]:
    """Everything that the cells depend on, apart from what their names say."""
    configuration = dict(
        files=dataset.files,
        answers=dataset.answers,
        pool_rows=settings.pool_rows,
        C=settings.C,
        folds=settings.folds,
        head=settings.head,
        thresholding=settings.thresholding,
        seed=settings.seed,
        **report.made_with(),
    )
    if network:
        configuration |= dict(
            recipe=asdict(network.recipe), tuned_size=network.model.source.image_size
        )
    return configuration


# Selection and heads.


def select(
    settings: Settings,
    name: str,
    rule: str,
    pool: balal.Pool,
    dataset: datasets.Dataset,
    folder: Path,
) -> list[dict[str, Any]]:
    """What one strategy buys with every budget and seed: the picked rows and how balanced their
    labels are."""
    full_name, budgets = summary.full_name(name, rule), settings.budgets
    strategy = balal.strategy(full_name)
    pool, labels = balal.prepare(strategy, pool), jnp.asarray(dataset.labels)

    def run(budget: int, seeds: list[int]) -> Iterator[buying.Bought]:
        keys = jax.vmap(jax.random.fold_in, (None, 0))(
            jax.random.key(settings.seed), jnp.array(seeds)
        )
        sizes = dict(budget=budget, num_classes=dataset.num_classes, capacity=budgets[-1])
        bought = jax.vmap(lambda key: buying.one_shot(strategy, pool, labels, key=key, **sizes))(
            keys
        )
        yield from zip(np.asarray(bought.indices), np.asarray(bought.wanted), strict=True)

    done = buying.buy(
        run,
        folder,
        buying.cell_name(full_name),
        labels=dataset.labels,
        num_classes=dataset.num_classes,
        budgets=budgets,
        seeds=buying.seeds_of(name, settings.seeds),
        nested=member(strategy, "nested"),
    )
    return [
        dict(strategy=name, rule=rule, budget=budget, seed=seed) | picks
        for (budget, seed), picks in done.items()
    ]


def full_accuracy(
    settings: Settings, dataset: datasets.Dataset, submit: Callable[[np.ndarray], Future]
) -> Future | None:
    """Accuracy of the same head with every label: known, or fitted now under --full, or None."""
    if settings.full:
        return submit(np.arange(len(dataset.labels)))
    known = FULL_ACCURACY.get(dataset.origin)
    same_head = settings.C == (10.0,) and settings.head == "svm" and settings.pool_rows is None
    return workers.ready(dict(accuracy=known)) if known is not None and same_head else None


# Statistics and files.


def gather(
    configuration: dict[str, Any],
    dataset: datasets.Dataset,
    runs: list[dict[str, Any]],
    full: float | None,
) -> dict[str, Any]:
    """Everything that is known at the end, as JSON values."""
    figures, sizes = paper.figures(dataset), (dataset.sizes, np.array(configuration["budgets"]))
    entries = summary.summarise(
        runs, [metric for metric in METRICS if runs[0].get(metric) is not None], figures
    )
    gains = {}
    for name, group in itertools.groupby(
        entries, lambda entry: summary.full_name(entry["strategy"], entry["rule"])
    ):
        ours, printed = zip(
            *((entry["accuracy"]["mean"], entry["accuracy"]["paper"]) for entry in group),
            strict=True,
        )
        gains[name] = dict(
            # Where all labels give 100 % there is nothing to gain, and G_AL is not defined.
            mean=round(balal.metrics.g_al(ours, full), 6)
            if full is not None and full < 100
            else None,
            spread=None,
            # Over the same configurations, where the paper prints them all.
            paper=round(balal.metrics.g_al(printed, figures.full), 6)
            if figures and None not in printed
            else None,
        )
    return dict(
        experiment="one_shot",
        configuration=configuration,
        commit=report.commit(),
        paper=figures and figures.dataset,
        class_sizes=dataset.sizes.tolist(),
        full_accuracy=dict(mean=full, spread=None, paper=figures and figures.full),
        g_al=gains,
        expected_of_random=dict(
            classes_found=balal.random_sampling.classes_found(*sizes).round(4).tolist(),
            imbalance_ratio=balal.random_sampling.imbalance_ratio(*sizes).round(6).tolist(),
        ),
        summary=entries,
        runs=runs,
    )


def tables(result: dict[str, Any]) -> str:
    """A Markdown table for each metric, and sentences on where balancing did not help."""
    configuration, entries = result["configuration"], result["summary"]
    full, gains = result["full_accuracy"], result["g_al"].items()
    random = (
        " and ".join(
            name for name in configuration["strategies"] if len(buying.seeds_of(name, 2)) > 1
        )
        or "strategies that use chance"
    )
    head = dict(svm="linear SVM", auto="linear SVM or fine-tuned network").get(
        configuration["head"], configuration["head"]
    )
    if not head.startswith(("finetune", "ldam")):
        head += f", C = {', '.join(f'{value:g}' for value in configuration['C'])}"
    parts = [
        f"Pool: {', '.join(configuration['files'])}. Head: {head}. "
        f"Mean ± standard deviation over {configuration['seeds']} paired seeds for {random}, one "
        f"run for the others."
        + (
            f" In brackets: printed in the paper for {result['paper']}, {summary.DASH} where it "
            f"has none."
            if result["paper"]
            else ""
        )
    ]
    for metric, (title, digits, rises) in METRICS.items():
        if metric not in entries[0]:
            continue
        baseline, last = result["expected_of_random"].get(metric), None
        if metric == "accuracy" and full["mean"] is not None:
            beside = full["paper"] is not None
            title += f"; with all labels {summary.written(full, digits, beside=beside)}"
            last = ("G_AL", {name: summary.written(gain, 3, beside=beside) for name, gain in gains})
        table = summary.table(
            entries,
            metric,
            digits=digits,
            baseline=baseline and ("random, expected", baseline),
            last=last,
        )
        parts += [f"### {title}", table]
        if rises is not None:
            parts += summary.remarks(entries, metric, digits=digits, rises=rises)
    if chosen := [run["chosen"] for run in result["runs"] if "chosen" in run]:
        counts = ", ".join(f"{name} for {chosen.count(name)}" for name in sorted(set(chosen)))
        parts.append(f"Of {len(chosen)} runs, cross-validation on the labelled set chose {counts}.")
    if unconverged := sum(not run["converged"] for run in result["runs"]):
        parts.append(
            f"The solver stopped short of its tolerance in {unconverged} of "
            f"{len(result['runs'])} heads."
        )
    return "\n\n".join(parts)


def write_results(out: Path, result: dict[str, Any], text: str, dataset: datasets.Dataset) -> None:
    """Every file but the times."""
    report.write_json(out / "results.json", result)
    lines = [
        {name: value for name, value in run.items() if name != "indices"} for run in result["runs"]
    ]
    report.write_csv(out / "results.csv", lines)
    report.write_text(out / "table.md", text + "\n")
    rules = [rule for rule in result["configuration"]["rules"] if rule != "none"]
    for rule in rules or ["none"]:
        draw(out, rule, result, dataset)


def draw(out: Path, rule: str, result: dict[str, Any], dataset: datasets.Dataset) -> None:
    """The plots of one balancing rule, beside the same strategies without it."""
    budgets, num_classes = result["configuration"]["budgets"], dataset.num_classes
    groups: dict[tuple[str, bool], dict[int, list[dict[str, Any]]]] = {}
    for run in result["runs"]:
        if run["rule"] in ("none", rule):
            groups.setdefault((run["strategy"], run["rule"] != "none"), {}).setdefault(
                run["budget"], []
            ).append(run)

    accuracies = {
        pair: np.array([[run["accuracy"] for run in runs[budget]] for budget in budgets]).T
        for pair, runs in groups.items()
    }
    curves = [plots.Curve(*pair, np.array(budgets), values) for pair, values in accuracies.items()]
    plots.accuracy(out / f"accuracy_{rule}.png", curves, rule=rule, budgets=budgets)

    # Class counts after every label, on the way to the largest budget: [S, b, C].
    def running_counts(runs: list[dict[str, Any]]) -> np.ndarray:
        labels = dataset.labels[np.array([run["indices"] for run in runs])]
        return np.cumsum(labels[:, :, None] == np.arange(num_classes)[None, None, :], axis=1)

    counts = {pair: running_counts(runs[budgets[-1]]) for pair, runs in groups.items()}
    steps = np.unique(np.geomspace(max(budgets[-1] // 20, 1), budgets[-1], 200).astype(int))
    ratios, found = (
        [
            plots.Curve(*pair, steps, np.asarray(metric(values[:, steps - 1])))
            for pair, values in counts.items()
        ]
        for metric in (balal.metrics.imbalance_ratio, balal.metrics.classes_found)
    )
    expected = (
        steps,
        balal.random_sampling.imbalance_ratio(dataset.sizes, steps),
        balal.random_sampling.classes_found(dataset.sizes, steps),
    )
    path = out / f"balance_{rule}.png"
    plots.balance(path, ratios, found, rule=rule, expected=expected, num_classes=num_classes)

    # The labelled sets of the largest budget, of the first seed.
    panels = [
        plots.Histogram(
            name,
            *(
                counts[name, after][0, -1] if (name, after) in counts else None
                for after in (False, True)
            ),
        )
        for name in result["configuration"]["strategies"]
    ]
    plots.histograms(
        out / f"histogram_{rule}.png", panels, rule=rule, sizes=dataset.sizes, budget=budgets[-1]
    )


def tell_times(
    out: Path, clock: Sequence[float], seconds_of_fitting: float, processes: int
) -> None:
    """Writes and prints how long each part took. clock: when each began, and the end."""
    load, selection, waiting, writing = (round(seconds, 1) for seconds in np.diff(clock))
    timings = dict(
        load=load,
        select=selection,
        wait_for_heads=waiting,
        write=writing,
        fitting_in_workers=round(seconds_of_fitting, 1),
    )
    cells.write(out, "timings", timings)
    print(
        f"\nTime: load {load} s, select and compile {selection} s, wait for heads {waiting} s "
        f"(fitting took {seconds_of_fitting:.0f} s "
        f"in {processes} workers), files {writing} s; together {clock[-1] - clock[0]:.0f} s. "
        f"Everything is in {out}."
    )


if __name__ == "__main__":
    program.run(main, define_flags)
