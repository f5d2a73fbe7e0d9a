r"""Do few labels ask for other strategies than many, and where do the curves cross?

With few labels it should pay to ask for typical rows first, with many for atypical ones: those that
are uncertain or far from everything. Each pool is labelled in rounds, from one label a class up,
by strategies of both kinds, by `random` and by what stands beside them. For each two the program
says from how many labels on the second is ahead, with an interval over the paired runs.

    python -m experiments.budgets --quick            digits, in a minute
    python -m experiments.budgets                    digits and long-tailed CIFAR-100, ten runs
    python -m experiments.budgets --pools=grocery --typical=u_herding --atypical=ms,badge
    python -m experiments.budgets --pools= --features=mine.npz --per_class=1,2,4,8 --beside=

Labels are counted per class: a budget is that many times the number of classes, and the rounds go
from one budget to the next. Strategies that ask a target model begin with random rows. `prob_cover`
takes its radius from as many clusters as there are classes. Budgets of more than half of a draw are
left out, as all strategies buy much the same rows there.

A pair crosses where the accuracy that the earlier strategy is ahead by, summed over the logarithm
of the labels, is largest. The interval reaches from where the earlier one is ahead for sure to
where the later one is, each by Student's 95 % interval of the paired difference. Runs share one
pool, so it speaks about draws from that pool; look for what holds on all pools.

Written to --out: table.md, results.json (every number and every picked row), results.csv, a picture
for each head, and cells/, the finished runs from which a killed program resumes.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

import balal
from balal import folder_lock
from balal.atomic_files import together
from experiments.common import (
    buying,
    classifiers,
    crossing_plots,
    crossings,
    datasets,
    draws,
    pools,
    program,
    report,
    round_runs,
    round_tables,
    target_models,
)

RANDOM = "random"
# What --quick uses instead of a default.
QUICK = {
    "pools": ["digits"],
    "typical": ["typiclust", "max_herding"],
    "atypical": ["ms", "core_set"],
    "per_class": ["1", "2", "4", "8"],
    "seeds": 3,
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=["digits", "lite0"])
    flags.DEFINE_list(
        "typical",
        ["typiclust", "prob_cover", "max_herding"],
        "Strategies that ask for typical rows first.",
        **own,
    )
    flags.DEFINE_list(
        "atypical", ["ms", "ent", "core_set"], "Strategies that ask for atypical rows first.", **own
    )
    flags.DEFINE_list("beside", ["posterior"], "Other strategies than these and random.", **own)
    flags.DEFINE_list(
        "per_class",
        ["1", "2", "3", "5", "8", "12", "18", "27", "40"],
        "Budgets, in labels per class; there is a round up to each.",
        **own,
    )
    flags.DEFINE_integer(
        "query_size",
        1,
        "Rows that strategies which look at answers ask at a time.",
        lower_bound=1,
        **own,
    )
    flags.DEFINE_enum(
        "model", "logistic", target_models.MODELS, "The target model that is asked.", **own
    )
    program.define_paired_flags(flag_values, seeds=10)
    flags.DEFINE_bool(
        "quick", False, "Fewer pools, strategies, budgets and runs where no flag says so.", **own
    )
    program.define_output_flags(flag_values, out="results/budgets")
    program.define_workers_flag(flag_values)


@dataclass(frozen=True)
class Settings:
    """What the flags ask for, by their names. groups: the strategies, from those that should do
    best with few labels to those that should with many."""

    pools: list[str]
    features: list[str]
    labels: list[str]
    groups: list[list[str]]
    per_class: list[int]
    query_size: int
    model: str
    heads: list[str]
    seeds: int
    seed: int
    out: Path
    fresh: bool
    processes: int


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values = program.values(flag_values, QUICK)
    settings = Settings(
        pools=pools.listed(values["pools"]),
        features=values["features"],
        labels=values["labels"],
        groups=groups(values["typical"], values["beside"], values["atypical"]),
        per_class=program.numbers("per_class", values["per_class"], int),
        query_size=values["query_size"],
        model=values["model"],
        heads=program.listed("heads", values["heads"], classifiers.COMPARED),
        seeds=values["seeds"],
        seed=values["seed"],
        out=Path(values["out"]),
        fresh=values["fresh"],
        processes=program.processes(flag_values),
    )
    with folder_lock.locked(settings.out, first="results.json"):
        carry_out(settings)


def groups(typical: list[str], beside: list[str], atypical: list[str]) -> list[list[str]]:
    """The strategies of three flags, with random before the last.

    >>> groups(["typiclust"], [], ["ms"])
    [['typiclust'], [], ['random'], ['ms']]
    """
    found = [typical, beside, [RANDOM], atypical]
    names = [name for group in found for name in group]
    if not typical or not atypical or len(set(names)) < len(names):
        raise ValueError(
            f"--typical and --atypical must name a strategy each, and with --beside none twice; "
            f"random always takes part: got {','.join(names)}"
        )
    for flag, group in (("typical", typical), ("beside", beside), ("atypical", atypical)):
        if group:
            buying.listed(group, flag=flag, target_model=True)
    return found


def carry_out(settings: Settings) -> None:
    """Buys the labels of every run, fits the heads to them after each round, and writes what came
    of it."""
    loaded = pools.loaded(settings.pools, settings.features, settings.labels)
    budgets = {name: budgets_of(settings, name, dataset) for name, dataset in loaded.items()}
    runs = round_runs.gather(
        loaded,
        {name: plan(settings, dataset, budgets[name]) for name, dataset in loaded.items()},
        out=settings.out,
        fresh=settings.fresh,
        processes=settings.processes,
    )
    num_classes = {name: dataset.num_classes for name, dataset in loaded.items()}
    result = dict(
        experiment="budgets",
        configuration=dict(
            budgets=budgets,
            num_classes=num_classes,
            groups=settings.groups,
            query_size=settings.query_size,
            model=settings.model,
            heads=settings.heads,
            seeds=settings.seeds,
            seed=settings.seed,
            share=draws.SHARE,
            device=report.device(),
            versions=report.versions(),
        ),
        code=report.code(),
        commit=report.commit(),
        differences=round_tables.differences(runs, settings.heads, against=RANDOM),
        crossings=crossings.of_pairs(runs, settings.heads, settings.groups, num_classes),
        runs=runs,
    )
    text = tables(result)
    with together(settings.out, first="results.json") as staged:
        write_results(staged, result, text)
    print(text)
    print(f"\nEverything is in {settings.out}.", file=sys.stderr)


def budgets_of(settings: Settings, name: str, dataset: datasets.Dataset) -> list[int]:
    """Those of the settings, in labels per class, that buy at most half of a draw of the pool."""
    most = draws.size(len(dataset.labels)) // 2
    found = [each for each in settings.per_class if each * dataset.num_classes <= most]
    if len(found) < 2:
        raise ValueError(
            f"half of a draw of {name} has only {most} rows for {dataset.num_classes} classes, "
            f"less than two of --per_class ask for: choose smaller ones, or another pool"
        )
    return found


def plan(settings: Settings, dataset: datasets.Dataset, budgets: list[int]) -> round_runs.Plan:
    """How labels are bought on a pool."""
    return round_runs.Plan(
        strategies={name: balal.strategy(name) for group in settings.groups for name in group},
        first=None,
        start=0,
        sizes=(dataset.num_classes * np.diff([0, *budgets])).tolist(),
        query_size=settings.query_size,
        model=settings.model,
        heads=settings.heads,
        seeds=settings.seeds,
        seed=settings.seed,
    )


def tables(result: dict[str, Any]) -> str:
    """All tables."""
    settings = result["configuration"]
    parts = [
        f"Balanced test accuracy in percent, mean ± standard error over {settings['seeds']} paired "
        f"runs, each with its own {100 * settings['share']:.0f} % of the pool; in brackets the "
        f"difference to random, *: significant at 5 %, by an exact two-sided sign-flip test with "
        f"Holm's correction over the table. Below it the crossings, in labels per class: the "
        f"later strategy less the earlier one at the first and the last budget, from where on the "
        f"later one is ahead, and between where the one and where the other is ahead for sure."
    ]
    for pool, budgets in settings["budgets"].items():
        runs = [run for run in result["runs"] if run["pool"] == pool]
        compared = [cell for cell in result["differences"] if cell["pool"] == pool]
        for head in settings["heads"]:
            found = [
                entry
                for entry in result["crossings"]
                if (entry["pool"], entry["head"]) == (pool, head)
            ]
            parts += [
                f"## {pool}: {head}",
                round_tables.accuracies(runs, compared, head),
                crossings.table(found, budgets),
            ]
    return "\n\n".join(parts)


def write_results(out: Path, result: dict[str, Any], text: str) -> None:
    """Every file."""
    lines = [
        {name: value for name, value in run.items() if name != "indices"} for run in result["runs"]
    ]
    report.write_json(out / "results.json", result)
    report.write_csv(out / "results.csv", lines)
    report.write_text(out / "table.md", text + "\n")
    for head in result["configuration"]["heads"]:
        crossing_plots.draw(out / f"crossings_{head}.png", result, head)


if __name__ == "__main__":
    program.run(main, define_flags)
