r"""What do second answers win back of what wrong ones cost?

One answer in ten is wrong, any other class, each as likely, and so is one second answer in ten. A
budget of answers is spent in four ways, in paired draws of 80 %:

    right     on new rows; no answer is wrong
    wrong     on new rows
    again     on fewer rows, and on second answers to those that `balal.suspects` holds more
              probably wrong than right, which replace the first
    left_out  on new rows, and the labels of such rows are left out

    python -m experiments.second_answers --quick        digits, three draws
    python -m experiments.second_answers --pools=digits,grocery,caltech101

Balanced accuracy under two heads, and which share of the difference between `right` and `wrong`
comes back. Where no answer is wrong, `again` says what looking for wrong ones costs then.

Written to --out: table.md, results.json (every number), and cells/, the finished draws from which a
killed run resumes.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import folder_lock
from balal.atomic_files import together
from experiments.common import (
    cells,
    classifiers,
    datasets,
    draws,
    methods,
    pools,
    program,
    regimes,
    report,
    statistics,
    workers,
)

WAYS = ("right", "wrong", "again", "left_out", "right, again")
QUICK = {"pools": ["digits"], "per_class": ["4", "8"], "seeds": 3}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=["digits", "grocery", "caltech101"])
    flags.DEFINE_string("strategy", "posterior", "What asks for new rows.", **own)
    flags.DEFINE_list("per_class", ["2", "4", "8", "14"], "Budgets, in answers a class.", **own)
    program.define_paired_flags(flag_values, seeds=10)
    flags.DEFINE_bool(
        "quick", False, "Digits, three draws, wherever no flag says otherwise.", **own
    )
    program.define_output_flags(flag_values, out="results/second_answers")
    program.define_workers_flag(flag_values)


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values = program.values(flag_values, QUICK)
    found = pools.loaded(values["pools"], flag_values.features, flag_values.labels)
    try:
        method = methods.named(flag_values.strategy)
    except ValueError as error:
        raise ValueError(f"--strategy: {error}") from error
    heads = program.listed("heads", values["heads"], classifiers.COMPARED)
    per_class = program.numbers("per_class", values["per_class"], float)
    seeds, seed, out = values["seeds"], flag_values.seed, Path(flag_values.out)
    runs: list[dict[str, Any]] = []
    with (
        folder_lock.locked(out, first="results.json"),
        workers.processes(program.processes(flag_values)) as executor,
        tqdm(total=len(found) * seeds, unit="draw", disable=None) as progress,
    ):
        for name, dataset in found.items():
            settings = dict(
                files=dataset.files,
                answers=dataset.answers,
                seed=seed,
                strategy=method.name,
                per_class=per_class,
                **report.made_with(),
            )
            folder = cells.folder(out / "cells" / name, settings, fresh=flag_values.fresh)
            whole = draws.drawn(datasets.pool(dataset), seed=seed, runs=seeds)
            arrays = datasets.scaled(dataset)
            with workers.fitting_each(
                heads, dataset.num_classes, folder, *arrays, executor=executor
            ) as submits:
                lines = []
                for number, draw in enumerate(whole):
                    kept = cells.read(folder, f"sets-{number}")
                    if kept is None:
                        features = arrays[0][0][draw.rows]
                        kept = spent(
                            dataset, draw, features, method, per_class, seed=(seed, number)
                        )
                        cells.write(folder, f"sets-{number}", kept)
                    lines += [submitted(submits, dataset, draw, number, line) for line in kept]
                    progress.update()
                runs += [dict(pool=name, **judged(line)) for line in lines]
        if not runs:
            raise ValueError("every pool has fewer rows than any budget: lower --per_class")
        text = table(runs)
        with together(out, first="results.json") as staged:
            report.write_json(
                staged / "results.json",
                dict(
                    experiment="second_answers",
                    configuration=dict(
                        strategy=method.name, seeds=seeds, seed=seed, **report.made_with()
                    ),
                    commit=report.commit(),
                    runs=runs,
                ),
            )
            report.write_text(staged / "table.md", text + "\n")
    print(f"{text}\n\nEverything is in {out}.")


def submitted(
    submits: dict[str, Any],
    dataset: datasets.Dataset,
    draw: draws.Draw,
    number: int,
    line: dict[str, Any],
) -> dict[str, Any]:
    """A line of `spent` with the jobs that fit heads to its sets, in place of the sets."""
    jobs = {
        way: {
            head: submit(draw.rows[rows], workers.Answers(np.array(labels), dataset.test_labels))
            for head, submit in submits.items()
        }
        for way, (rows, labels) in line["sets"].items()
    }
    about = {name: value for name, value in line.items() if name != "sets"}
    return dict(seed=number, **about, accuracy=jobs)


def judged(line: dict[str, Any]) -> dict[str, Any]:
    """The same with what the jobs found."""
    found = {
        way: {head: job.result()["accuracy"] for head, job in jobs.items()}
        for way, jobs in line["accuracy"].items()
    }
    return line | dict(accuracy=found)


def spent(
    dataset: datasets.Dataset,
    draw: draws.Draw,
    features: np.ndarray,
    method: methods.Method,
    per_class: Sequence[float],
    *,
    seed: tuple[int, int],
) -> list[dict[str, Any]]:
    """A line for every budget of one draw, with the labelled set that each way of spending it ends
    with: rows of the draw, and their labels.

    features: [N, D], of the rows of the draw, as heads see them.
    """
    first, second = (
        regimes.wrong(dataset, draw, np.random.default_rng((*seed, number))) for number in range(2)
    )
    right = replace(first, told=first.labels)
    classes = np.count_nonzero(np.bincount(dataset.labels))
    budgets = [round(each * classes) for each in per_class]
    budgets = sorted({each for each in budgets if 2 <= each <= len(first.labels)})
    if not budgets:
        return []
    options = dict(budgets=budgets, most=budgets[-1])
    unmistaken = methods.buy(method, right, features, **options)
    mistaken = methods.buy(method, first, features, **options)

    def again(rows, trial, others):
        labels = trial.told[rows]
        kept, doubted = asked_again(features[rows], labels)
        answered = labels[:kept].copy()
        answered[doubted] = others.told[rows[doubted]]
        return rows[:kept], answered

    lines = []
    for budget in budgets:
        rows, others = mistaken[budget], unmistaken[budget]
        labels = first.told[rows]
        wrong = labels != first.labels[rows]
        named = balal.suspects(features[rows], labels)
        left = np.setdiff1d(np.arange(budget), named.again)
        sets = {
            "right": (others, right.told[others]),
            "wrong": (rows, labels),
            "again": again(rows, first, second),
            "left_out": (rows[left], labels[left]),
            "right, again": again(others, right, right),
        }
        lines.append(
            dict(
                budget=budget,
                wrong_share=float(wrong.mean()),
                estimated=float(named.wrong.mean()),
                named=len(named.again),
                named_wrong=int(wrong[named.again].sum()),
                sets={way: [part.tolist() for part in both] for way, both in sets.items()},
            )
        )
    return lines


def asked_again(features: np.ndarray, labels: np.ndarray) -> tuple[int, np.ndarray]:
    """How many of the rows, in the order in which they were bought, are paid for when the rest of
    the budget goes into second answers; and which of them get one."""
    budget = kept = len(labels)
    # With fewer rows other labels are in doubt: until both add up, from below.
    while True:
        again = balal.suspects(features[:kept], labels[:kept]).again
        if kept + len(again) <= budget:
            return kept, again
        kept = min(kept - 1, budget - len(again))
        if kept < 2:
            return budget, np.zeros(0, np.int64)


def table(runs: list[dict[str, Any]]) -> str:
    """Accuracies by pool and budget, and what is won back."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for run in runs:
        found.setdefault((run["pool"], run["budget"]), []).append(run)

    def mean(group: list[dict[str, Any]], name: str) -> float:
        return float(np.mean([run[name] for run in group]))

    about = []
    for (pool, budget), group in found.items():
        named, right = (sum(run[name] for run in group) for name in ("named", "named_wrong"))
        wrong = sum(run["wrong_share"] * run["budget"] for run in group)
        about.append(
            [
                pool,
                f"{budget}",
                f"{100 * mean(group, 'wrong_share'):.1f}",
                f"{100 * mean(group, 'estimated'):.1f}",
                f"{100 * named / (budget * len(group)):.1f}",
                f"{100 * right / named:.0f}" if named else "",
                f"{100 * right / wrong:.0f}" if wrong else "",
            ]
        )
    parts = [
        f"{len({run['seed'] for run in runs})} paired draws. Labels, in percent: wrong ones, how "
        f"many are taken to be, how many are named, how many of those are wrong, and how many of "
        f"the wrong ones are named.",
        report.markdown(
            ["pool", "answers", "wrong", "estimated", "named", "precision", "recall"], about
        ),
    ]
    for head in runs[0]["accuracy"]["right"]:
        body = []
        for (pool, budget), group in found.items():
            values = {way: np.array([run["accuracy"][way][head] for run in group]) for way in WAYS}
            lost = float(np.mean(values["right"] - values["wrong"]))
            cost, _ = statistics.mean_and_error(values["right, again"] - values["right"])
            line = [pool, f"{budget}", *(f"{values[way].mean():.1f}" for way in WAYS[:2])]
            for way in ("again", "left_out"):
                gain = values[way] - values["wrong"]
                middle, error = statistics.mean_and_error(gain)
                share = f" ({100 * middle / lost:.0f} %)" if lost > 2 * error else ""
                line.append(f"{middle:+.1f} ± {error:.1f}{share}")
            body.append([*line, f"{cost:+.1f}"])
        parts += [
            f"Balanced test accuracy, %, under {head}; gains on `wrong`, and in brackets the share "
            f"of what wrong answers cost; last, what second answers cost where none is wrong.",
            report.markdown(
                ["pool", "answers", "right", "wrong", "again", "left_out", "cost"], body
            ),
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    program.run(main, define_flags)
