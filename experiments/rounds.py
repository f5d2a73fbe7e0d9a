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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

import balal
from balal import folder_lock
from balal.atomic_files import together
from experiments.common import (
    buying,
    classifiers,
    draws,
    lift,
    plots,
    pools,
    program,
    report,
    round_runs,
    round_tables,
    target_models,
)

REPORTS = ("curves", "lift")


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=["lite0"])
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
    flags.DEFINE_enum(
        "model", "logistic", target_models.MODELS, "The target model that is asked.", **own
    )
    flags.DEFINE_string("against", "random", "The strategy that others are compared with.", **own)
    flags.DEFINE_enum("report", "curves", REPORTS, "What is printed.", **own)
    program.define_paired_flags(flag_values, seeds=5)
    program.define_output_flags(flag_values, out="results/rounds")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names; `plan` has those on how labels are bought."""

    pools: list[str]
    features: list[str]
    labels: list[str]
    plan: round_runs.Plan
    against: str
    report: str
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
        pools=pools.listed(flag_values.pools),
        features=flag_values.features,
        labels=flag_values.labels,
        plan=round_runs.Plan(
            strategies={name: balal.strategy(name) for name in strategies},
            first=buying.listed([flag_values.first], flag="first")[0],
            start=flag_values.start,
            sizes=round_sizes(flag_values.sizes),
            query_size=flag_values.query_size,
            model=flag_values.model,
            heads=program.listed("heads", flag_values.heads, classifiers.COMPARED),
            seeds=flag_values.seeds,
            seed=flag_values.seed,
        ),
        against=flag_values.against,
        report=flag_values.report,
        out=Path(flag_values.out),
        fresh=flag_values.fresh,
        processes=program.processes(flag_values),
    )
    if settings.report == "lift" and not settings.plan.start:
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
    plan = settings.plan
    loaded = pools.loaded(settings.pools, settings.features, settings.labels)
    runs = round_runs.gather(
        loaded,
        dict.fromkeys(loaded, plan),
        out=settings.out,
        fresh=settings.fresh,
        processes=settings.processes,
    )
    result = dict(
        experiment="rounds",
        configuration=dict(
            pools=list(loaded),
            **plan.described(),
            against=settings.against,
            share=draws.SHARE,
            device=report.device(),
            versions=report.versions(),
        ),
        code=report.code(),
        commit=report.commit(),
        differences=round_tables.differences(runs, plan.heads, against=settings.against),
        lift=lift.rows(runs, plan.heads, against=settings.against) if plan.start else [],
        runs=runs,
    )
    text = lift.tables(result) if settings.report == "lift" else round_tables.tables(result)
    with together(settings.out, first="results.json") as staged:
        write_results(staged, result, text)
    print(text)
    print(f"\nEverything is in {settings.out}.", file=sys.stderr)


def write_results(out: Path, result: dict[str, Any], text: str) -> None:
    """Every file."""
    runs, settings = result["runs"], result["configuration"]
    lines = [{name: value for name, value in run.items() if name != "indices"} for run in runs]
    report.write_json(out / "results.json", result)
    report.write_csv(out / "results.csv", lines)
    report.write_text(out / "table.md", text + "\n")
    plots.round_curves(
        out / "curves.png",
        round_tables.points(runs, settings["heads"]),
        rows=settings["pools"],
        columns=settings["heads"],
    )


if __name__ == "__main__":
    program.run(main, define_flags)
