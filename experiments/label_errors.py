r"""Which way to look for wrong labels finds most of them?

Of labelled rows drawn from a pool, one in ten is given another class, each of the others equally
likely. Every method orders the labels; counted is how many of the first tenth are wrong. All
methods see the same draws, and those that need probabilities the same ones: of a logistic head in
five folds.

    python -m experiments.label_errors --quick          digits, three draws
    python -m experiments.label_errors                  all pools, ten draws
    python -m experiments.label_errors --pools=lite0,digits --labels=200 --methods=suspects

Methods: `suspects` and `suspects+logistic` (`balal.suspects`, alone and with those probabilities),
`gradient_variance` (`balal.gradient_variance`), and `self_confidence` and `normalized_margin` of
cleanlab (`python -m pip install -e '.[peers]'`).

Written to --out: table.md, results.json (every number), results.csv, and cells/, the finished
parts from which a killed run resumes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

import balal
from balal import folder_lock
from balal.atomic_files import together
from balal.extras import Extra
from balal.heads import logistic
from experiments.common import cells, datasets, draws, pools, program, report, statistics

with Extra("experiments"):
    from sklearn.datasets import load_digits

SHARE = 0.1
QUICK = {"pools": ["digits"], "labels": ["300"], "seeds": 3}
BASELINE = "self_confidence"


@dataclass(frozen=True)
class Task:
    """Labelled rows, some of them wrong, and held-out probabilities of a head, with the seconds
    that these took."""

    features: np.ndarray
    labels: np.ndarray
    wrong: np.ndarray
    probs: np.ndarray
    seconds: float


def _cleanlab(task: Task, method: str) -> np.ndarray:
    with Extra("peers"):
        from cleanlab.rank import get_label_quality_scores
    # It wants a column for each class that has labels, and no other.
    classes, labels = np.unique(task.labels, return_inverse=True)
    scores = get_label_quality_scores(labels, task.probs[:, classes], method=method)
    return np.argsort(scores, kind="stable")


# How each orders the labels, and whether it needs the probabilities.
METHODS: dict[str, tuple[Callable[[Task], np.ndarray], bool]] = {
    "suspects": (lambda task: balal.suspects(task.features, task.labels).order, False),
    "suspects+logistic": (
        lambda task: balal.suspects(task.features, task.labels, probs=task.probs).order,
        True,
    ),
    "gradient_variance": (
        lambda task: balal.gradient_variance(task.features, task.labels).order,
        False,
    ),
    "self_confidence": (lambda task: _cleanlab(task, "self_confidence"), True),
    "normalized_margin": (lambda task: _cleanlab(task, "normalized_margin"), True),
}


def twelve() -> datasets.Dataset:
    """The twelve largest classes of caltech101, naturally unbalanced."""
    whole = pools.NAMED["caltech101"]()
    largest = np.sort(np.argsort(-whole.sizes, kind="stable")[:12])
    kept = np.isin(whole.labels, largest)
    labels = np.searchsorted(largest, whole.labels[kept]).astype(np.int32)
    return replace(whole, features=whole.features[kept], labels=labels, num_classes=12)


def all_digits() -> datasets.Dataset:
    """All 8 x 8 digits of scikit-learn, ten balanced classes."""
    images = load_digits()
    features = (images.data / 16).astype(np.float32)
    labels = images.target.astype(np.int32)
    return replace(pools.digits(), features=features, labels=labels, scores=None)


def odd() -> datasets.Dataset:
    """The same digits, odd or even: two balanced classes of several looks."""
    whole = all_digits()
    return replace(whole, labels=whole.labels % 2, num_classes=2)


def tenth() -> datasets.Dataset:
    """CIFAR-100, its first ten classes against the others: two classes, one of them a tenth."""
    whole = pools.lite0()
    return replace(whole, labels=(whole.labels < 10).astype(np.int32), num_classes=2)


POOLS: dict[str, Callable[[], datasets.Dataset]] = {
    **{name: pools.NAMED[name] for name in ("caltech101", "grocery", "lite0", "mnv2")},
    "twelve": twelve,
    "digits": all_digits,
    "long_tailed_digits": pools.digits,
    "odd": odd,
    "tenth": tenth,
}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_list(
        "pools",
        list(POOLS),
        f"Some of {', '.join(POOLS)}; the first two, mnv2 and twelve need the folder BALAL_SHARED.",
        **own,
    )
    flags.DEFINE_list(
        "labels",
        ["500", "2000"],
        "Numbers of labels; at most 80 % of a pool are drawn.",
        **own,
    )
    flags.DEFINE_list("methods", ["all"], f"Some of {', '.join(METHODS)}.", **own)
    flags.DEFINE_integer(
        "seeds",
        10,
        "Paired draws.",
        lower_bound=2,
        upper_bound=statistics.MOST_RUNS,
        **own,
    )
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_bool(
        "quick", False, "Digits, 300 labels, 3 draws wherever no flag says otherwise.", **own
    )
    program.define_output_flags(flag_values, out="results/label_errors")


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values = program.values(flag_values, QUICK)
    names = program.listed("pools", values["pools"], POOLS)
    methods = program.listed("methods", flag_values.methods, METHODS)
    sizes = program.numbers("labels", values["labels"], int)
    seeds, seed, out = values["seeds"], flag_values.seed, Path(flag_values.out)
    if sizes[0] < 20:
        raise ValueError(f"--labels must be at least 20 for a tenth of them, got {sizes[0]}")
    with folder_lock.locked(out, first="results.json"):
        runs = []
        with tqdm(total=len(names) * len(sizes) * seeds, unit="draw", disable=None) as progress:
            for name in names:
                dataset = POOLS[name]()
                settings = dict(files=dataset.files, seed=seed, share=SHARE, **report.made_with())
                folder = cells.folder(out / "cells" / name, settings, fresh=flag_values.fresh)
                for size in dict.fromkeys(min(n, draws.size(len(dataset.labels))) for n in sizes):
                    for draw in range(seeds):
                        runs += judged(dataset, name, size, seed, draw, methods, folder)
                        progress.update()
        text = table(runs, methods)
        result = dict(
            experiment="label_errors",
            configuration=dict(seeds=seeds, seed=seed, share=SHARE, **report.made_with()),
            commit=report.commit(),
            runs=runs,
        )
        with together(out, first="results.json") as staged:
            report.write_json(staged / "results.json", result)
            report.write_csv(staged / "results.csv", runs)
            report.write_text(staged / "table.md", text + "\n")
    print(f"{text}\n\nEverything is in {out}.")


def judged(
    dataset: datasets.Dataset,
    pool: str,
    size: int,
    seed: int,
    draw: int,
    methods: list[str],
    folder: Path,
) -> list[dict[str, Any]]:
    """The precision of every method on one draw; what is finished is in `folder`."""
    runs, found = [], None
    for name in methods:
        cell = f"{name}-{size}-{draw}"
        kept = cells.read(folder, cell)
        if kept is None:
            found = found or task(dataset, size, seed, draw)
            order, needs_probs = METHODS[name]
            began = time.process_time()
            first = order(found)[: round(SHARE * size)]
            seconds = time.process_time() - began + needs_probs * found.seconds
            precision = float(found.wrong[first].mean())
            kept = dict(precision=precision, seconds=round(seconds, 3))
            cells.write(folder, cell, kept)
        runs.append(dict(pool=pool, labels=size, seed=draw, method=name, **kept))
    return runs


def task(dataset: datasets.Dataset, size: int, seed: int, draw: int) -> Task:
    """Rows drawn from the pool, a tenth of them with another class, and what a head says."""
    (features, labels), _ = datasets.scaled(dataset)
    rng = np.random.default_rng([seed, draw])
    rows = rng.permutation(len(labels))[:size]
    told, count = labels[rows].astype(np.int64), dataset.num_classes
    wrong = np.arange(size) < round(SHARE * size)  # The rows are in a random order already.
    told[wrong] = (told[wrong] + rng.integers(1, count, wrong.sum())) % count
    shuffled = rng.permutation(size)
    features, told, wrong = features[rows][shuffled], told[shuffled], wrong[shuffled]
    options = dict(num_classes=count, seed=draw)
    began = time.process_time()
    probs = logistic.held_out(features, told, **options)
    return Task(features, told, wrong, probs, time.process_time() - began)


def table(runs: list[dict[str, Any]], methods: list[str]) -> str:
    """A line for each pool and number of labels: the precision of each method, with a star or a
    circle where it is significantly above or below cleanlab's self-confidence; then seconds."""
    found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for run in runs:
        found.setdefault((run["pool"], run["labels"]), {}).setdefault(run["method"], []).append(run)
    marks = significant(found, methods)

    def cell(key: tuple[str, int], name: str) -> str:
        values = [run["precision"] for run in found[key][name]]
        mean, error = statistics.mean_and_error(np.array(values))
        return f"{mean:.3f} ± {error:.3f}{marks.get((key, name), ' ')}"

    lines = [[pool, str(labels)] for pool, labels in found]
    body = [
        [*line, *(cell(key, name) for name in methods)]
        for line, key in zip(lines, found, strict=True)
    ]
    times = [
        [
            *line,
            *(f"{np.median([run['seconds'] for run in found[key][name]]):.2f}" for name in methods),
        ]
        for line, key in zip(lines, found, strict=True)
    ]
    header = ["pool", "labels", *methods]
    draws_made = len({run["seed"] for run in runs})
    return "\n\n".join(
        [
            f"Share of wrong labels in the first tenth, mean ± standard error over {draws_made} "
            f"paired draws. *, o: significantly above, below {BASELINE} at 5 %, by the exact "
            f"sign-flip test with Holm's correction over the lines of a column.",
            report.markdown(header, body),
            "Median seconds of processor time, those of the probabilities included:",
            report.markdown(header, times),
        ]
    )


def significant(found: dict, methods: list[str]) -> dict[tuple[tuple[str, int], str], str]:
    """The mark of every line and method whose difference from the baseline is significant."""
    marks = {}
    for name in set(methods) - {BASELINE} if BASELINE in methods else ():
        differences = {
            key: np.array([run["precision"] for run in group[name]])
            - np.array([run["precision"] for run in group[BASELINE]])
            for key, group in found.items()
        }
        corrected = statistics.holm([statistics.sign_flip(each) for each in differences.values()])
        for (key, each), p in zip(differences.items(), corrected, strict=True):
            if p <= 0.05:
                marks[key, name] = "*" if each.mean() > 0 else "o"
    return marks


if __name__ == "__main__":
    program.run(main, define_flags)
