r"""What do labels bring when the target model chooses them, round after round?

A few labels are bought, the target model is fitted to all of them, and what it predicts for the
pool decides the next ones. Runs are paired: run s draws 80 % of the pool, and the same labelled
start, for every strategy.

    python -m experiments.rounds                       random, least confidence, entropy and margin
    python -m experiments.rounds --pools=grocery --strategies=random,ms,posterior --sizes=81*8
    python -m experiments.rounds --report=lift --start=250 --sizes=250 --strategies=random,lc,ent,ms
    python -m experiments.rounds --pools= --features=mine.npz --sizes=20,20,40,80 --query_size=1

`posterior` and other strategies that do not ask the target model may take part: they go on from
what is labelled. The curves are balanced test accuracy under each head of --heads; a star marks a
difference to --against that is significant by an exact paired test, corrected for the number of
cells. `--report=lift` prints the table that practitioners publish: macro-F1 after the last round,
beside that of the model fitted to the labelled start alone.

Written to --out: table.md, results.json (every number and every picked row), results.csv,
curves.png, and cells/, the finished runs from which a killed program resumes.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import folder_lock
from balal.atomic_files import together
from balal.heads import logistic, rebalance
from experiments.common import (
    buying,
    cells,
    datasets,
    draws,
    lift,
    plots,
    pools,
    program,
    report,
    round_tables,
    statistics,
    summary,
    workers,
)

HEADS = ("svm", "logistic", "logistic+logit_adjustment", "logistic+balanced_softmax")
MODELS = ("logistic", "balanced_softmax")
REPORTS = ("curves", "lift")


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_list(
        "pools",
        ["lite0"],
        f"Some of {', '.join(pools.NAMED)}; all but lite0 and digits need the folder BALAL_SHARED.",
        **own,
    )
    flags.DEFINE_list(
        "features",
        [],
        "More pools: npz files in either layout of experiments.one_shot, named by their file name.",
        **own,
    )
    flags.DEFINE_list(
        "strategies", ["random", "lc", "ent", "ms"], "What to compare, by name.", **own
    )
    flags.DEFINE_string("first", "random", "The strategy before there is a target model.", **own)
    flags.DEFINE_integer(
        "start", 0, "Labels drawn at random before the first round.", lower_bound=0, **own
    )
    flags.DEFINE_list(
        "sizes", ["100*5"], "Labels to buy in each round; 100*5 stands for five times 100.", **own
    )
    flags.DEFINE_integer(
        "query_size",
        None,
        "Rows asked at a time within a round, before any of their answers. Default: all of it.",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_enum("model", "logistic", MODELS, "The target model that is asked.", **own)
    flags.DEFINE_list(
        "heads",
        ["svm", "logistic+logit_adjustment"],
        f"What is tested on the labels bought: some of {', '.join(HEADS)}.",
        **own,
    )
    flags.DEFINE_string("against", "random", "The strategy that others are compared with.", **own)
    flags.DEFINE_enum("report", "curves", REPORTS, "What is printed.", **own)
    flags.DEFINE_integer(
        "seeds", 5, "Paired runs.", lower_bound=2, upper_bound=statistics.MOST_RUNS, **own
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    program.define_output_flags(flag_values, out="results/rounds")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names."""

    pools: list[str]
    features: list[str]
    strategies: list[str]
    first: str
    start: int
    sizes: list[int]
    query_size: int | None
    model: str
    heads: list[str]
    against: str
    report: str
    seeds: int
    seed: int
    out: Path
    fresh: bool
    processes: int


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    strategies = buying.listed(flag_values.strategies, target_model=True)
    if flag_values.against not in strategies:
        raise ValueError(
            f"--against={flag_values.against} is not among --strategies: add it there, or compare "
            f"with one of {', '.join(strategies)}"
        )
    settings = Settings(
        pools=flag_values.pools and program.listed("pools", flag_values.pools, pools.NAMED),
        features=flag_values.features,
        strategies=strategies,
        first=buying.listed([flag_values.first])[0],
        start=flag_values.start,
        sizes=round_sizes(flag_values.sizes),
        query_size=flag_values.query_size,
        model=flag_values.model,
        heads=program.listed("heads", flag_values.heads, HEADS),
        against=flag_values.against,
        report=flag_values.report,
        seeds=flag_values.seeds,
        seed=flag_values.seed,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
        processes=program.processes(flag_values),
    )
    if settings.report == "lift" and not settings.start:
        raise ValueError(
            "--report=lift compares with a model fitted to a labelled start: say how large it is, "
            "for example --start=250"
        )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def round_sizes(values: Sequence[str]) -> list[int]:
    """The value of --sizes.

    >>> round_sizes(["20", "40*2"])
    [20, 40, 40]
    """
    sizes: list[int] = []
    for value in values:
        size, _, times = value.partition("*")
        if not size.isdecimal() or not (times or "1").isdecimal():
            raise ValueError(f"--sizes takes numbers of labels such as 20 or 100*5, got {value!r}")
        sizes += [int(size)] * int(times or 1)
    if not sizes or not all(sizes):
        raise ValueError(f"--sizes must name rounds of at least one label, got {','.join(values)}")
    return sizes


def carry_out(settings: Settings) -> None:
    """Buys the labels of every run, fits the heads to them after each round, and writes what came
    of it."""
    loaded = {name: pools.NAMED[name]() for name in settings.pools}
    loaded |= {Path(path).stem: datasets.load(path) for path in settings.features}
    if not loaded:
        raise ValueError("there is no pool: name some with --pools or --features")
    for name, dataset in loaded.items():
        check_budget(settings, name, dataset)
    runs: list[dict[str, Any]] = []
    with (
        workers.processes(settings.processes) as executor,
        tqdm(
            total=len(loaded) * len(settings.strategies) * settings.seeds, unit="run", disable=None
        ) as progress,
    ):
        for name, dataset in loaded.items():
            folder = cells.folder(
                settings.out / "cells" / name,
                configuration(settings, dataset),
                fresh=settings.fresh,
            )
            runs += pool_runs(settings, name, dataset, folder, executor, progress)
    result = dict(
        experiment="rounds",
        configuration=dict(
            pools=list(loaded),
            **{
                name: getattr(settings, name)
                for name in (
                    *("strategies", "first", "start", "sizes", "query_size", "model", "heads"),
                    *("against", "seeds", "seed"),
                )
            },
            share=draws.SHARE,
            device=report.device(),
            versions=report.versions(),
        ),
        code=report.code(),
        commit=report.commit(),
        differences=round_tables.differences(runs, settings.heads, against=settings.against),
        lift=lift.rows(runs, settings.heads, against=settings.against) if settings.start else [],
        runs=runs,
    )
    text = lift.tables(result) if settings.report == "lift" else round_tables.tables(result)
    with together(settings.out, first="results.json") as staged:
        write_results(staged, settings, result, text)
    print(text)
    print(f"\nEverything is in {settings.out}.", file=sys.stderr)


def write_results(out: Path, settings: Settings, result: dict[str, Any], text: str) -> None:
    """Every file."""
    runs = result["runs"]
    lines = [{name: value for name, value in run.items() if name != "indices"} for run in runs]
    report.write_json(out / "results.json", result)
    report.write_csv(out / "results.csv", lines)
    report.write_text(out / "table.md", text + "\n")
    plots.round_curves(
        out / "curves.png",
        round_tables.points(runs, settings.heads),
        rows=result["configuration"]["pools"],
        columns=settings.heads,
    )


def check_budget(settings: Settings, name: str, dataset: datasets.Dataset) -> None:
    """ValueError where a draw of the pool has too few rows, or lacks what a strategy needs before
    there is a target model."""
    kept = draws.size(len(dataset.labels))
    wanted = settings.start + sum(settings.sizes)
    if wanted > kept:
        raise ValueError(
            f"--start and --sizes add up to {wanted} labels, and a draw of {name} has only {kept} "
            f"rows: choose fewer"
        )
    needs = balal.strategy(settings.first).needs
    if not settings.start and dataset.scores is None and "scores" in needs:
        raise ValueError(
            f"--first={settings.first} needs source scores, but {name} has none: choose another"
        )


def configuration(settings: Settings, dataset: datasets.Dataset) -> dict[str, Any]:
    """Everything that the cells of a pool depend on, apart from what their names say."""
    return dict(
        files=dataset.files,
        seed=settings.seed,
        share=draws.SHARE,
        first=settings.first,
        start=settings.start,
        sizes=settings.sizes,
        query_size=settings.query_size,
        model=settings.model,
        **report.made_with(),
    )


def pool_runs(
    settings: Settings, name: str, dataset: datasets.Dataset, folder: Path, executor: Any, progress
) -> list[dict[str, Any]]:
    """A line for every strategy, seed and round on one pool, with a figure for each head."""
    arrays = datasets.scaled(dataset)
    submits: dict[str, Callable] = {}
    found = []
    drawn = draws.drawn(datasets.pool(dataset), seed=settings.seed, runs=settings.seeds)
    with ExitStack() as stack:
        for head in settings.heads:
            submits[head] = stack.enter_context(
                workers.fitting(
                    workers.Setting(dataset.num_classes, head=head),
                    cells.folder(folder / head, dict(head=head)),
                    *arrays,
                    executor=executor,
                )
            )
        for strategy in settings.strategies:
            for seed, draw in enumerate(drawn):
                progress.set_postfix_str(f"{name}: {strategy}")
                bought = buy(settings, strategy, dataset, arrays[0][0], draw, folder, seed)
                progress.update()
                ends = np.cumsum([len(rows) for rows in bought])
                rows = np.concatenate([np.array(part, np.int64) for part in bought])
                for end in ends:
                    jobs = {head: submit(rows[:end]) for head, submit in submits.items()}
                    found.append((strategy, seed, rows[:end], jobs))
        progress.set_postfix_str("fitting heads")
        return [
            dict(pool=name, strategy=strategy, rule="none", budget=len(rows), seed=seed)
            | summary.measure(
                rows,
                dataset.labels[rows],
                np.full(len(rows), -1),
                num_classes=dataset.num_classes,
            )
            | {
                f"{metric} {head}": job.result()[metric]
                for head, job in jobs.items()
                for metric in ("accuracy", "macro_f1")
            }
            for strategy, seed, rows, jobs in found
        ]


def buy(
    settings: Settings,
    strategy: str,
    dataset: datasets.Dataset,
    features: np.ndarray,
    draw: draws.Draw,
    folder: Path,
    seed: int,
) -> list[list[int]]:
    """The rows of the whole pool that one run buys, round by round; its labelled start first."""
    cell = f"rounds-{buying.cell_name(strategy)}-{seed}"
    kept = cells.read(folder, cell)
    if kept is not None:
        return kept
    labels, num_classes = dataset.labels[draw.rows], dataset.num_classes
    own = features[draw.rows]

    def fit(indices: np.ndarray, answers: np.ndarray, before: Any) -> logistic.Head:
        counts = np.bincount(answers, minlength=num_classes)
        adjustment = rebalance.adjustment(counts) if settings.model == "balanced_softmax" else None
        return logistic.fit(
            own[indices], answers, num_classes=num_classes, adjustment=adjustment, before=before
        )

    asks = balal.strategy(strategy)
    start_key, key = jax.random.split(draw.key)
    start = np.zeros(0, np.int64)
    if settings.start:
        picked = balal.one_shot(
            balal.strategy("random"),
            draw.pool,
            labels,
            budget=settings.start,
            num_classes=num_classes,
            key=start_key,
        )
        start = np.asarray(picked.indices)
    steps = balal.rounds(
        asks,
        draw.prepared_for(asks),
        labels,
        fit=fit,
        predict=lambda head: logistic.class_logits(head, own),
        sizes=settings.sizes,
        num_classes=num_classes,
        key=key,
        first=balal.strategy(settings.first),
        labelled=(start, labels[start]) if settings.start else None,
        query_size=settings.query_size,
    )
    found = [start.tolist()] if settings.start else []
    found += [step.indices.tolist() for step in steps if len(step.indices)]
    bought = [draw.rows[np.array(part)].tolist() for part in found]
    cells.write(folder, cell, bought)
    return bought


if __name__ == "__main__":
    program.run(main, define_flags)
