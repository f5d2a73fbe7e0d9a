r"""Which method buys the best labels: every method that a user would compare with, on any pool.

All methods buy from the same draws of a pool, at budgets in labels a class, and two classifiers are
trained on what each has bought: a linear SVM, and logistic regression with logit adjustment. What
holds under one of them only is told.

    python -m experiments.compare --quick                    every table, in half a minute
    python -m experiments.compare --pools=grocery            all methods on one pool
    python -m experiments.compare --regimes=all --strategies=posterior,max_herding,rounds:ms
    python -m experiments.compare --features=X.npy --labels=y.npy --per_class=1,2,4
    python -m experiments.compare --features=mine.npz,yours_pool.npz --against=random

Regimes: `natural`, the pool as it is; `tail`, class sizes that fall exponentially, 200 to 1;
`equal`, all classes alike; `binary`, one class against all others with 0.5 % positives, and
`binary_warm`, with one positive known; `wrong`, an answer in ten is wrong. Which rows, which class
is rare and which answers are wrong is drawn anew in each run, alike for all methods.

`rounds:` before a strategy has a target model refitted as labels come, whose predictions replace
the source model's scores; strategies that ask a target model always run so. `oracle_balanced` is
told the classes, and shows what knowing them would be worth. `--peers` adds other people's
programs.

Read the table of wins first. Differences are to --against; a star marks what an exact paired test
calls significant, corrected for the number of methods in its column. Written to --out: table.md,
results.json (every number and every picked row), results.csv, differences.png, and cells/, the
finished parts from which a killed run resumes.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from balal import folder_lock
from balal.atomic_files import together
from experiments.common import (
    cells,
    classifiers,
    comparison,
    comparison_tables,
    datasets,
    draws,
    heat_map,
    methods,
    peers,
    pools,
    program,
    regimes,
    report,
    summary,
    workers,
)

QUICK = {
    "pools": ["digits"],
    "regimes": ["natural", "tail"],
    "strategies": ["random", "posterior", "max_herding", "rounds:ms", methods.ORACLE],
    "per_class": ["1", "4"],
    "seeds": 8,
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=["lite0", "digits"])
    flags.DEFINE_list(
        "regimes", ["natural"], f"all, or some of {', '.join(regimes.REGIMES)}.", **own
    )
    flags.DEFINE_list(
        "strategies",
        list(methods.DEFAULT),
        "What to compare: names of strategies, with rules or paths to your own as elsewhere, "
        f"`rounds:` before those that are to run in rounds, and {methods.ORACLE}.",
        **own,
    )
    flags.DEFINE_bool(
        "peers",
        False,
        f"Add other people's programs, which pip install 'balal[peers]' brings: "
        f"{', '.join(peers.PEERS)}.",
        **own,
    )
    flags.DEFINE_string("against", "posterior", "The method that others are compared with.", **own)
    flags.DEFINE_list(
        "per_class", ["1", "2", "4", "8", "14", "20"], "Budgets, in labels a class.", **own
    )
    flags.DEFINE_list(
        "binary_budgets", ["20", "50", "100", "200"], "Budgets on two classes, in labels.", **own
    )
    program.define_paired_flags(flag_values, seeds=10)
    flags.DEFINE_bool("quick", False, "A small comparison, wherever no flag says otherwise.", **own)
    program.define_output_flags(flag_values, out="results/compare")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names."""

    pools: list[str]
    features: list[str]
    labels: list[str]
    regimes: list[str]
    strategies: list[methods.Method]
    against: str
    per_class: list[float]
    binary_budgets: list[int]
    heads: list[str]
    seeds: int
    seed: int
    out: Path
    fresh: bool
    processes: int


@dataclass(frozen=True)
class Contest:
    """One pool in one regime, and what is compared there.

    Attributes:
      pool: its name.
      regime: its name.
      dataset: the whole pool and its test set.
      trials: one for each run.
      budgets: in labels, in ascending order.
      methods: those that the pool has everything for.
    """

    pool: str
    regime: str
    dataset: datasets.Dataset
    trials: list[regimes.Trial]
    budgets: list[int]
    methods: list[methods.Method]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values = program.values(flag_values, QUICK)
    if flag_values.features and flag_values["pools"].using_default_value:
        values["pools"] = []
    settings = Settings(
        pools=pools.listed(values["pools"]),
        features=flag_values.features,
        labels=flag_values.labels,
        regimes=program.listed("regimes", values["regimes"], regimes.REGIMES),
        strategies=compared(
            [*values["strategies"], *(peers.PEERS if flag_values.peers else [])],
            flag_values.against,
        ),
        against=flag_values.against,
        per_class=program.numbers("per_class", values["per_class"], float),
        binary_budgets=program.numbers("binary_budgets", flag_values.binary_budgets, int),
        heads=program.listed("heads", flag_values.heads, classifiers.COMPARED),
        seeds=values["seeds"],
        seed=flag_values.seed,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
        processes=program.processes(flag_values),
    )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def compared(names: Sequence[str], against: str) -> list[methods.Method]:
    """The methods of --strategies, looked up before anything is read."""
    names = program.listed("strategies", names, names)
    if against not in names:
        raise ValueError(
            f"--against={against} is not among --strategies: add it there, or name one of "
            f"{', '.join(names)}"
        )
    try:
        found = [methods.named(name) for name in names]
    except ValueError as error:
        raise ValueError(f"--strategies: {error}") from error
    peers.check_installed(name for name in names if name in peers.PEERS)
    return found


def carry_out(settings: Settings) -> None:
    """Buys the labels of every run, fits the heads, and writes what came of it."""
    contests = prepared(settings)
    runs: list[dict[str, Any]] = []
    total = sum(len(contest.methods) * settings.seeds for contest in contests)
    with (
        workers.processes(settings.processes) as executor,
        tqdm(total=total, unit="run", disable=None) as progress,
    ):
        for contest in contests:
            runs += contested(settings, contest, executor, progress)
    compared = comparison.cells(runs, settings.heads, against=settings.against)
    result = dict(
        experiment="compare",
        configuration=dict(
            regimes=settings.regimes,
            strategies=[method.name for method in settings.strategies],
            against=settings.against,
            heads=settings.heads,
            seeds=settings.seeds,
            seed=settings.seed,
            share=draws.SHARE,
            device=report.device(),
            versions=report.versions(),
        ),
        code=report.code(),
        commit=report.commit(),
        contests=[about(contest) for contest in contests],
        wins=comparison.wins(compared, against=settings.against),
        rivals=comparison.rivals(runs, settings.heads, against=settings.against),
        reversals=comparison.reversals(compared),
        cells=compared,
        runs=runs,
    )
    text = comparison_tables.tables(result)
    with together(settings.out, first="results.json") as staged:
        report.write_json(staged / "results.json", result)
        report.write_csv(
            staged / "results.csv",
            [{name: value for name, value in run.items() if name != "indices"} for run in runs],
        )
        report.write_text(staged / "table.md", text + "\n")
        heat_map.differences(staged / "differences.png", compared, against=settings.against)
    print(text)
    print(f"\nEverything is in {settings.out}.", file=sys.stderr)


def prepared(settings: Settings) -> list[Contest]:
    """Every pool in every regime that it is large enough for."""
    found = pools.loaded(settings.pools, settings.features, settings.labels)
    contests = []
    for name, dataset in found.items():
        whole = draws.drawn(datasets.pool(dataset), seed=settings.seed, runs=settings.seeds)
        for regime in settings.regimes:
            try:
                contests.append(_contest(settings, name, dataset, regime, whole))
            except ValueError as error:
                if len(found) * len(settings.regimes) == 1:
                    raise
                print(f"note: {name} is left out of {regime}: {error}", file=sys.stderr)
    if not contests:
        raise ValueError("no pool is large enough for any of --regimes: choose others")
    return contests


def _contest(
    settings: Settings, name: str, dataset: datasets.Dataset, regime: str, whole: list[draws.Draw]
) -> Contest:
    trials = regimes.trials(dataset, regime, whole, seed=settings.seed)
    rows = len(trials[0].labels) - len(trials[0].start)
    wanted = settings.binary_budgets
    if not regimes.is_binary(regime):
        classes = np.count_nonzero(np.bincount(dataset.labels))
        wanted = sorted({round(each * classes) for each in settings.per_class} - {0})
    budgets = [budget for budget in wanted if budget <= rows]
    if not budgets:
        raise ValueError(f"it has {rows} rows there, fewer than any budget")
    able = [
        method
        for method in settings.strategies
        if dataset.scores is not None or "scores" not in method.needs
    ]
    if settings.against not in {method.name for method in able}:
        raise ValueError(f"it has no source scores, which --against={settings.against} needs")
    return Contest(name, regime, dataset, trials, budgets, able)


def about(contest: Contest) -> dict[str, Any]:
    """What a reader must know of a contest, as JSON values."""
    trial = contest.trials[0]
    sizes = np.bincount(trial.labels, minlength=trial.num_classes)
    return dict(
        pool=contest.pool,
        regime=contest.regime,
        files=contest.dataset.files,
        rows=len(trial.labels),
        class_sizes=[int(sizes.min()), int(sizes.max())],
        num_classes=trial.num_classes,
        imbalance_ratio=round(float(sizes.std() / sizes.mean()), 4),
        budgets=contest.budgets,
        methods=[method.name for method in contest.methods],
    )


def contested(
    settings: Settings, contest: Contest, executor: Any, progress: tqdm
) -> list[dict[str, Any]]:
    """A line for every method, run and budget, with figures under each head."""
    folder = cells.folder(
        settings.out / "cells" / f"{contest.pool}-{contest.regime}",
        dict(
            files=contest.dataset.files,
            answers=contest.dataset.answers,
            seed=settings.seed,
            share=draws.SHARE,
            **report.made_with(),
        ),
        fresh=settings.fresh,
    )
    arrays = datasets.scaled(contest.dataset)
    found = []
    with workers.fitting_each(
        settings.heads, contest.trials[0].num_classes, folder, *arrays, executor=executor
    ) as submits:
        for method in contest.methods:
            for seed, trial in enumerate(contest.trials):
                progress.set_postfix_str(f"{contest.pool}, {contest.regime}: {method.name}")
                bought = _bought(contest, method, seed, arrays[0][0], folder)
                for budget, own in bought.items():
                    rows = np.concatenate([trial.start, own])
                    answers = workers.Answers(trial.told[rows], trial.test_labels)
                    jobs = {
                        head: submit(trial.draw.rows[rows], answers)
                        for head, submit in submits.items()
                    }
                    found.append((method, seed, budget, rows, jobs))
                progress.update()
        progress.set_postfix_str(f"{contest.pool}, {contest.regime}: fitting heads")
        return [
            _run(contest, method, seed, budget, rows, {h: job.result() for h, job in jobs.items()})
            for method, seed, budget, rows, jobs in found
        ]


def _bought(
    contest: Contest, method: methods.Method, seed: int, features: np.ndarray, folder: Path
) -> dict[int, np.ndarray]:
    """The rows of the draw that a method buys with each budget; kept ones are read."""
    trial = contest.trials[seed]
    names = {
        budget: f"picks-{methods.cell_name(method, contest.budgets)}-{budget}-{seed}"
        for budget in contest.budgets
    }
    kept = {budget: cells.read(folder, name) for budget, name in names.items()}
    if all(rows is not None for rows in kept.values()):
        return {budget: np.array(rows, np.int64) for budget, rows in kept.items()}
    bought = methods.buy(
        method,
        trial,
        features[trial.draw.rows],
        budgets=contest.budgets,
        most=contest.budgets[-1],
    )
    for budget, rows in bought.items():
        cells.write(folder, names[budget], rows.tolist())
    return bought


def _run(
    contest: Contest,
    method: methods.Method,
    seed: int,
    budget: int,
    rows: np.ndarray,
    heads: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    trial, binary = contest.trials[seed], regimes.is_binary(contest.regime)
    labels = trial.labels[rows]
    measured = summary.measure(
        trial.draw.rows[rows], labels, np.full(len(rows), -1), num_classes=trial.num_classes
    )
    line: dict[str, Any] = dict(
        pool=contest.pool, regime=contest.regime, method=method.name, budget=budget, seed=seed
    )
    line |= {name: measured[name] for name in ("classes_found", "imbalance_ratio", "indices")}
    if binary:
        line["positives_found"] = round(100 * float(labels.sum() / trial.labels.sum()), 4)
    for head, cell in heads.items():
        line[f"score {head}"] = cell["f1s"][1] if binary else cell["accuracy"]
        line[f"macro_f1 {head}"] = cell["macro_f1"]
        if binary:
            line[f"recall {head}"] = cell["recalls"][1]
    return line


if __name__ == "__main__":
    program.run(main, define_flags)
