r"""Does a balancing rule buy better labels, on many pools, with statistics?

Every strategy buys labels alone and with each rule, on several pools, at several budgets, in paired
runs: run s draws 80 % of the pool, the same rows for every strategy and rule. A linear SVM is
trained on what was bought and tested on a balanced test set. Two oracles peek at the labels and
show the most that a rule could gain.

    python -m experiments.rules --quick            every table and plot in a minute and a half
    python -m experiments.rules                    the whole comparison, ten runs a cell
    python -m experiments.rules --pools=digits --strategies=random,core_set \
        --rules=balance,oracle_all --out=results/digits
    python -m experiments.rules --pools= --features=mine.npz,yours_pool.npz \
        --budgets=100,400 --seeds=12 --out=results/ours
    python -m experiments.rules --pools=lite0 --target=3,17,80 --at_least=10 \
        --out=results/three_classes

Read the table of gains first: a star marks a difference that is significant by an exact paired
test, corrected for the number of cells. Runs share one pool, so the tests speak about draws from
that pool; look for what holds on all pools.

Written to --out: table.md, results.json (every number and every picked row), results.csv,
accuracy.png, gain.png, timings.json, and cells/, the finished parts from which a killed run
resumes. The same seed gives the same files, byte for byte, times aside.
"""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import cost, folder_lock
from balal.atomic_files import together
from balal.strategies import RULES, STRATEGIES, member
from experiments.common import (
    buying,
    cells,
    contrast_tables,
    contrasts,
    datasets,
    draws,
    plots,
    pools,
    program,
    report,
    statistics,
    summary,
    workers,
)
from experiments.common.oracles import ORACLES, oracle

KNOWN_RULES = ("none", *RULES, *ORACLES)
_DEFAULT = ["random", "ent_inv_div", "lc_inv_div", "core_set", "posterior"]
BUDGETS = {"digits": (20, 50, 100, 200)}
ELSEWHERE = (100, 200, 500, 1000, 2000)
# What --quick uses instead of a default.
QUICK = {
    "pools": ("lite0", "digits"),
    "strategies": ("random", "ent_inv_div", "posterior"),
    "rules": ("none", "balance", "posterior", *ORACLES),
    "seeds": 3,
}
QUICK_BUDGETS = 3


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=list(pools.NAMED))
    flags.DEFINE_list(
        "strategies", _DEFAULT, f"What to compare: all, or some of {', '.join(STRATEGIES)}.", **own
    )
    flags.DEFINE_list(
        "rules",
        [rule for rule in KNOWN_RULES if rule != "posterior_0_1"],
        "What takes over at the switch; `none` is always included for comparison.",
        **own,
    )
    flags.DEFINE_list(
        "budgets",
        None,
        "Numbers of labels to buy. Default: 100,200,500,1000,2000, on digits 20,50,100,200.",
        **own,
    )
    flags.DEFINE_integer(
        "size",
        1,
        "Query size: rows asked at a time, all chosen before the first answer.",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_integer(
        "seeds",
        10,
        "Paired runs; each has its own draw of the pool and its own key.",
        lower_bound=2,
        upper_bound=statistics.MOST_RUNS,
        **own,
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_list(
        "target",
        None,
        "Class ids that matter; strategies that can aim at classes aim at these. Default: all "
        "classes.",
        **own,
    )
    flags.DEFINE_integer(
        "at_least",
        10,
        "Labels that every target class should get: how many must be bought?",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_bool(
        "quick",
        False,
        "Fewer seeds, strategies, rules, pools and budgets wherever no flag says otherwise.",
        **own,
    )
    program.define_output_flags(flag_values, out="results/rules")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names. None stands for the budgets of each pool and for all
    classes as the target; `named` says whether the user named the pools."""

    pools: list[str]
    named: bool
    features: list[str]
    labels: list[str]
    strategies: list[str]
    rules: list[str]
    budgets: list[int] | None
    size: int
    seeds: int
    seed: int
    target: list[int] | None
    at_least: int
    quick: bool
    out: Path
    fresh: bool
    processes: int


@dataclass(frozen=True)
class Contest:
    """One pool and what is compared on it.

    Attributes:
      name: of the pool.
      dataset: its features and labels, and the test set.
      strategies: those that are compared.
      pairs: of a strategy and a rule that takes over from it, perhaps `none`.
      left_out: strategies that need scores, which this pool does not have.
      budgets: in ascending order.
      size: how many rows are asked at a time.
      target: the class ids that matter.
      aim: a weight for each class, for strategies that can aim at the target; None: all alike.
      draws: one for each run.
    """

    name: str
    dataset: datasets.Dataset
    strategies: list[str]
    pairs: list[tuple[str, str]]
    left_out: list[str]
    budgets: list[int]
    size: int
    target: list[int]
    aim: tuple[float, ...] | None
    draws: list[draws.Draw]


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values, budgets = program.values(flag_values, QUICK), flag_values.budgets
    chosen = program.listed("rules", values["rules"], KNOWN_RULES)
    settings = Settings(
        rules=[rule for rule in KNOWN_RULES if rule == "none" or rule in chosen],
        strategies=buying.listed(values["strategies"]),
        pools=pools.listed(values["pools"]),
        named=not flag_values["pools"].using_default_value,
        features=flag_values.features,
        labels=flag_values.labels,
        budgets=None if budgets is None else program.numbers("budgets", budgets, int),
        size=flag_values.size,
        seeds=values["seeds"],
        seed=flag_values.seed,
        target=class_ids(flag_values.target),
        at_least=flag_values.at_least,
        quick=flag_values.quick,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
        processes=program.processes(flag_values),
    )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def class_ids(values: Sequence[str] | None) -> list[int] | None:
    """The value of --target as numbers in ascending order."""
    if values is None:
        return None
    if not values or not all(value.isdecimal() for value in values):
        raise ValueError(f"--target takes class ids separated by commas, got {','.join(values)!r}")
    return sorted({int(value) for value in values})


def carry_out(settings: Settings) -> None:
    """Buys the labels on every pool, fits a head to each set of them, and writes what came of
    it."""
    clock = [time.perf_counter()]
    contests = prepare(settings)
    for contest in contests:
        check_memory(contest)
    folders = {
        contest.name: cells.folder(
            settings.out / "cells" / contest.name,
            configuration(settings, contest),
            fresh=settings.fresh,
        )
        for contest in contests
    }
    total = sum(
        len(contest.pairs) * len(contest.budgets) * len(contest.draws) for contest in contests
    )
    clock.append(time.perf_counter())

    # Selection runs here; every labelled set goes to a worker as soon as it is known.
    with (
        workers.processes(settings.processes) as executor,
        tqdm(total=total, unit="run", disable=None) as progress,
        ExitStack() as stack,
    ):
        jobs, selecting = [], Counter()
        for contest in contests:
            head = workers.Setting(contest.dataset.num_classes, recalls=True)
            folder, arrays = folders[contest.name], datasets.scaled(contest.dataset)
            submit = stack.enter_context(workers.fitting(head, folder, *arrays, executor=executor))
            for name, rule in contest.pairs:
                progress.set_postfix_str(
                    f"{contest.name}: selecting {summary.full_name(name, rule)}"
                )
                part = rule if name in ordered(contest) else name
                for picks in select(contest, name, rule, folder):
                    selecting[part] += picks.pop("selecting")
                    jobs.append((picks, submit(np.array(picks["indices"]))))
                    jobs[-1][1].add_done_callback(lambda _: progress.update())
        clock.append(time.perf_counter())
        progress.set_postfix_str("fitting heads")
        runs = [
            picks | {name: value for name, value in job.result().items() if name != "seconds"}
            for picks, job in jobs
        ]
    # Equal sets of rows share a head.
    seconds_of_fitting = sum(head.result()["seconds"] for head in {job for _, job in jobs})
    clock.append(time.perf_counter())

    result = gather(settings, contests, runs)
    text = contrast_tables.tables(result)
    with together(settings.out, first="results.json") as staged:
        write_results(staged, result, text, contests)
        drawn = (staged / "gain.png").exists()
    if not drawn:
        # A plot that an earlier run left here would not belong to these tables.
        (settings.out / "gain.png").unlink(missing_ok=True)
    print(text)
    clock.append(time.perf_counter())
    tell_times(settings, clock, selecting, seconds_of_fitting)


# What is compared.


def prepare(settings: Settings) -> list[Contest]:
    """The pools that were asked for, with the strategies and budgets that each can take."""
    found = pools.loaded(
        settings.pools, settings.features, settings.labels, optional=not settings.named
    )
    return [_contest(settings, name, dataset) for name, dataset in found.items()]


def _contest(settings: Settings, name: str, dataset: datasets.Dataset) -> Contest:
    left_out = [
        strategy
        for strategy in settings.strategies
        if dataset.scores is None and "scores" in balal.strategy(strategy).needs
    ]
    strategies = [strategy for strategy in settings.strategies if strategy not in left_out]
    if left_out:
        _note(f"{name} has no source scores: {', '.join(left_out)} left out there")
    if not strategies:
        raise ValueError(
            f"all of --strategies need source scores, but {name} has none: choose others"
        )
    kept = draws.size(len(dataset.labels))
    budgets, target = _budgets(settings, name, kept), _target(settings, name, dataset)
    aim = tuple(float(label in target) for label in range(dataset.num_classes))
    pool = datasets.pool(dataset)
    return Contest(
        name,
        dataset,
        strategies,
        [(first, rule) for first in strategies for rule in buying.rules_of(first, settings.rules)],
        left_out,
        budgets,
        settings.size,
        target,
        None if settings.target is None else aim,
        draws.drawn(pool, seed=settings.seed, runs=settings.seeds),
    )


def check_memory(contest: Contest) -> None:
    """ValueError where a strategy needs more memory than there is, before anything is bought."""
    for name, rule in contest.pairs:
        if rule in ORACLES:
            continue
        strategy = aimed(contest, balal.strategy(summary.full_name(name, rule)))
        at_once = contest.size == 1 or not member(strategy, "adaptive")
        cost.check_memory(
            strategy,
            contest.draws[0].pool,
            num_classes=contest.dataset.num_classes,
            budget=contest.budgets[-1],
            size=None if at_once else min(contest.size, contest.budgets[-1]),
        )


def _budgets(settings: Settings, name: str, kept: int) -> list[int]:
    """Those of the settings, or those for this pool of which a draw has `kept` rows."""
    if settings.budgets is not None:
        if settings.budgets[-1] > kept:
            raise ValueError(
                f"--budgets goes up to {settings.budgets[-1]}, and a draw of {name} has only "
                f"{kept} rows: choose other --budgets or --pools"
            )
        return settings.budgets
    budgets = [budget for budget in BUDGETS.get(name, ELSEWHERE) if budget <= kept]
    if not budgets:
        raise ValueError(
            f"a draw of {name} has only {kept} rows, fewer than any budget there is by "
            f"default: choose --budgets"
        )
    return budgets[:QUICK_BUDGETS] if settings.quick else budgets


def _target(settings: Settings, name: str, dataset: datasets.Dataset) -> list[int]:
    """The classes that matter, in ascending order; all of them by default."""
    if settings.target is None:
        return list(range(dataset.num_classes))
    tested = np.bincount(dataset.test_labels, minlength=dataset.num_classes)
    for label in settings.target:
        if label >= dataset.num_classes or not tested[label]:
            raise ValueError(
                f"--target names class {label}, and {name} tests no such class of its "
                f"{dataset.num_classes}: choose other --pools"
            )
    return settings.target


def ordered(contest: Contest) -> list[str]:
    """The strategies that do not look at answers, so that a rule may take over from them. The
    others stand alone."""
    return [name for name in contest.strategies if not member(balal.strategy(name), "adaptive")]


def configuration(settings: Settings, contest: Contest) -> dict[str, Any]:
    """Everything that the cells of a pool depend on, apart from what their names say."""
    return dict(
        files=contest.dataset.files,
        seed=settings.seed,
        share=draws.SHARE,
        size=settings.size,
        C=workers.Setting(1).C,
        **report.made_with(),
    )


def _note(sentence: str) -> None:
    print(f"note: {sentence}", file=sys.stderr)


# Selection.


def select(contest: Contest, name: str, rule: str, folder: Path) -> list[dict[str, Any]]:
    """What one strategy buys on one pool with every budget and seed: the picked rows and how
    balanced their labels are."""
    strategy = None
    if rule not in ORACLES:
        strategy = aimed(contest, balal.strategy(summary.full_name(name, rule)))

    def run(budget: int, seeds: list[int]) -> Iterator[buying.Bought]:
        for seed in seeds:
            draw = contest.draws[seed]
            if strategy is None:
                first = cells.read(folder, f"picks-{_cell(contest, name, 'none')}-{budget}-{seed}")
                yield consult(contest, draw, np.array(first["indices"]), rule)
            else:
                yield simulate(contest, draw, strategy, budget)

    started = time.perf_counter()
    done = buying.buy(
        run,
        folder,
        _cell(contest, name, rule),
        labels=contest.dataset.labels,
        num_classes=contest.dataset.num_classes,
        budgets=contest.budgets,
        seeds=range(len(contest.draws)),
        # Oracles take over where balancing does, which depends on the budget.
        nested=strategy is not None and member(strategy, "nested"),
    )
    seconds = (time.perf_counter() - started) / len(done)
    shared = dict(pool=contest.name, strategy=name, rule=rule)
    return [
        shared | dict(budget=budget, seed=seed, selecting=seconds) | picks
        for (budget, seed), picks in done.items()
    ]


def simulate(
    contest: Contest, draw: draws.Draw, strategy: balal.Strategy, budget: int
) -> tuple[np.ndarray, np.ndarray]:
    """One run of a strategy: its picks as rows of the pool [b], and the class that each was meant
    for [b]."""
    pool = draw.prepared_for(strategy)
    labels = contest.dataset.labels[draw.rows]
    capacity = contest.budgets[-1]
    arguments: dict[str, Any] = dict(num_classes=contest.dataset.num_classes, key=draw.key)
    if contest.size == 1 or not member(strategy, "adaptive"):
        bought = buying.one_shot(
            strategy, pool, labels, budget=budget, capacity=capacity, **arguments
        )
    else:
        state = balal.init(strategy, pool, budget=budget, **arguments)
        while (count := int(state.labelled.count)) < budget:
            rows, state = balal.ask(strategy, pool, state, size=min(contest.size, budget - count))
            state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
        bought = state.labelled
    return draw.rows[np.asarray(bought.indices)[:budget]], np.asarray(bought.wanted)[:budget]


def consult(
    contest: Contest, draw: draws.Draw, first: np.ndarray, rule: str
) -> tuple[np.ndarray, np.ndarray]:
    """One run of an oracle after the picks `first` [b]; as `simulate`."""
    labels, num_classes = contest.dataset.labels, contest.dataset.num_classes
    return oracle(
        draw.oracle_key, first, labels, draw.rows, num_classes=num_classes, classes=ORACLES[rule]
    )


def aimed(contest: Contest, strategy: balal.Strategy) -> balal.Strategy:
    """The strategy, aimed at the target classes where it can be."""
    return strategy if contest.aim is None else member(strategy, "aim")(contest.aim)


def _cell(contest: Contest, name: str, rule: str) -> str:
    """The name of the cells of some picks. Those of an aimed strategy have its target in it; nobody
    else's depend on it."""
    if rule in ORACLES:
        return buying.cell_name(name) + f"+{rule}"
    full_name = summary.full_name(name, rule)
    strategy = balal.strategy(full_name)
    if aimed(contest, strategy) == strategy:
        return buying.cell_name(full_name)
    target = balal.imbalance.fingerprint(np.array(contest.target))
    return f"{buying.cell_name(full_name)}-for-{target}"


# Statistics.


def gather(
    settings: Settings, contests: Sequence[Contest], runs: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything that is known at the end, as JSON values."""
    targets = {contest.name: contest.target for contest in contests}
    for run in runs:
        recalls = [run["recalls"][label] for label in targets[run["pool"]]]
        tested = [recall for recall in recalls if recall is not None]
        run["target_recall"] = round(float(np.mean(tested)), 4)
    alone = [
        name
        for name in dict.fromkeys(name for contest in contests for name in contest.strategies)
        if name not in {other for contest in contests for other in ordered(contest)}
    ]
    compared = contrasts.differences(runs, settings.rules, alone=alone)
    labels = {contest.name: contest.dataset.labels for contest in contests}
    return dict(
        experiment="rules",
        configuration=dict(
            rules=settings.rules,
            seeds=settings.seeds,
            seed=settings.seed,
            share=draws.SHARE,
            size=settings.size,
            target=settings.target,
            at_least=settings.at_least,
            C=workers.Setting(1).C,
            device=report.device(),
            versions=report.versions(),
        ),
        code=report.code(),
        commit=report.commit(),
        pools=[_about(contest, settings.at_least) for contest in contests],
        summary=contrasts.means(runs, list(contrast_tables.METRICS)),
        differences=compared,
        wins=contrasts.wins(compared, settings.rules),
        shares_of_oracle=contrasts.shares(compared, oracle="oracle_all"),
        labels_needed=contrasts.labels_needed(runs),
        labels_to_goal=contrasts.labels_to_goal(runs, labels, targets, settings.at_least),
        draws=[
            entry for contest in contests for entry in draws.described(contest.name, contest.draws)
        ],
        runs=runs,
    )


def _about(contest: Contest, at_least: int) -> dict[str, Any]:
    dataset = contest.dataset
    sizes = [
        np.bincount(dataset.labels[draw.rows], minlength=dataset.num_classes)[contest.target]
        for draw in contest.draws
    ]
    return dict(
        pool=contest.name,
        files=dataset.files,
        class_sizes=dataset.sizes.tolist(),
        rows=len(dataset.labels),
        rows_of_a_draw=len(contest.draws[0].rows),
        strategies=contest.strategies,
        left_out=contest.left_out,
        budgets=contest.budgets,
        # In so many draws the goal is out of reach, whoever picks.
        too_small=sum(bool(np.any(size < at_least)) for size in sizes),
    )


# Files.


def write_results(
    out: Path, result: dict[str, Any], text: str, contests: Sequence[Contest]
) -> None:
    """Every file but the times."""
    report.write_json(out / "results.json", result)
    lines = [
        {name: value for name, value in run.items() if name not in ("indices", "recalls", "f1s")}
        for run in result["runs"]
    ]
    report.write_csv(out / "results.csv", lines)
    report.write_text(out / "table.md", text + "\n")
    draw_plots(out, result, contests)


def draw_plots(out: Path, result: dict[str, Any], contests: Sequence[Contest]) -> None:
    """Accuracy against labels, and the gain over no balancing; one row a pool, one column a
    strategy."""
    columns = list(dict.fromkeys(name for contest in contests for name in ordered(contest)))
    rows = [contest.name for contest in contests]
    curves = [
        plots.Point(
            entry["pool"],
            entry["strategy"],
            entry["rule"],
            entry["budget"],
            entry["accuracy"]["mean"],
            entry["accuracy"]["error"],
        )
        for entry in result["summary"]
    ]
    gains = [
        plots.Point(
            cell["pool"],
            cell["strategy"],
            cell["rule"],
            cell["budget"],
            cell["mean"],
            cell["half_interval"],
        )
        for cell in result["differences"]
        if cell["against"] == "none"
    ]
    plots.rule_accuracy(out / "accuracy.png", curves, rows=rows, columns=columns)
    if gains:
        plots.rule_gains(out / "gain.png", gains, rows=rows, columns=columns)


def tell_times(
    settings: Settings,
    clock: Sequence[float],
    selecting: Mapping[str, float],
    seconds_of_fitting: float,
) -> None:
    """Writes and prints how long each part took.

    clock: when each began, and the end. selecting: seconds by rule.
    """
    load, selection, waiting, writing = (round(seconds, 1) for seconds in np.diff(clock))
    parts = {rule: round(seconds, 1) for rule, seconds in selecting.items()}
    timings = dict(
        load=load,
        select=selection,
        select_by_rule=parts,
        wait_for_heads=waiting,
        write=writing,
        fitting_in_workers=round(seconds_of_fitting, 1),
    )
    cells.write(settings.out, "timings", timings)
    by_rule = ", ".join(f"{rule} {seconds:.0f}" for rule, seconds in parts.items())
    print(
        f"\nTime: load {load} s, select and compile {selection} s ({by_rule}), wait for heads "
        f"{waiting} s (fitting took {seconds_of_fitting:.0f} s in {settings.processes} workers), "
        f"statistics and files {writing} s; together {clock[-1] - clock[0]:.0f} s. "
        f"Everything is in {settings.out}."
    )


if __name__ == "__main__":
    program.run(main, define_flags)
