r"""Does a source model suit a pool, and what are the measures of it worth?

    python -m experiments.transfer                            the embedded pool, seconds
    python -m experiments.transfer --pools=lite0,mnv2,caltech101,grocery
    python -m experiments.transfer --pools= --features=mine.npz
    python -m experiments.transfer --degraded                 also what the measures are worth

For each pool: `balal.transferability`, and how its rows are spread over the source classes that are
predicted, which is Figure 1 of Aggarwal, Popescu, Hudelot, WACV 2020.

`--degraded` makes the features of CIFAR-100 images worse step by step: Gaussian noise, networks
with random weights, raw pixels. Every measure then stands beside the balanced accuracy of a
logistic head on randomly drawn labels, in paired draws, with the rank correlation of the two over
these versions. It needs the folder BALAL_SHARED and the extra `photos`.

Written to --out: table.md, results.json, source_classes.png, and with --degraded measures.png and
cells/, the finished parts from which a killed run resumes.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from scipy.stats import spearmanr
from tqdm import tqdm

import balal
from balal import folder_lock
from balal.atomic_files import together
from balal.heads import logistic, scaling
from experiments.common import (
    cells,
    datasets,
    draws,
    pools,
    program,
    report,
    statistics,
    transfer_plots,
)

# The fields of `balal.Transferability` that are measures, and how they are called.
MEASURES = {
    "source_classes": "effective source classes",
    "certainty": "mean certainty",
    "agreement": "agreement of neighbours",
    "logme": "LogME",
    "labelled_agreement": "agreement of labels",
}
QUICK = {"rows": 400, "sample": 200, "seeds": 2}


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    pools.define_flags(flag_values, default=["lite0"])
    flags.DEFINE_bool("degraded", False, "Also judge the measures on degraded features.", **own)
    flags.DEFINE_integer("rows", 3000, "Images of the degraded pool.", lower_bound=2, **own)
    flags.DEFINE_integer(
        "sample", 1500, "Labels drawn; at most 80 % of a pool.", lower_bound=2, **own
    )
    flags.DEFINE_integer("seeds", 5, "Paired draws of labels.", lower_bound=2, **own)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_bool(
        "quick", False, "Fewer rows, labels and draws wherever no flag says otherwise.", **own
    )
    program.define_output_flags(flag_values, out="results/transfer")


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    values = program.values(flag_values, QUICK)
    known = pools.loaded(pools.listed(values["pools"]), flag_values.features, flag_values.labels)
    settings = {name: values[name] for name in ("rows", "sample", "seeds", "seed")}
    out = Path(flag_values.out)
    with folder_lock.locked(out, first="results.json"):
        found = {name: seen(dataset, settings) for name, dataset in known.items()}
        judged = degraded(settings, out, flag_values.fresh) if flag_values.degraded else []
        text = tables(found, judged)
        result = dict(
            experiment="transfer",
            configuration=settings | report.made_with(),
            commit=report.commit(),
            pools={
                name: dict(asdict(each), counts=count.tolist())
                for name, (each, count) in found.items()
            },
            degraded=judged,
        )
        with together(out, first="results.json") as staged:
            report.write_json(staged / "results.json", result)
            report.write_text(staged / "table.md", text + "\n")
            transfer_plots.source_classes(
                staged / "source_classes.png",
                {name: counts for name, (_, counts) in found.items()},
                {name: each.source_classes for name, (each, _) in found.items()},
            )
            if judged:
                transfer_plots.measures(staged / "measures.png", judged, MEASURES)
    print(f"{text}\n\nEverything is in {out}.")


def seen(
    dataset: datasets.Dataset, settings: dict[str, int]
) -> tuple[balal.Transferability, np.ndarray]:
    """The measures of a pool with some labels, and how many rows each source class has."""
    if dataset.scores is None:
        raise ValueError(
            f"{', '.join(dataset.files)} has no scores of a source model: leave it out of --pools "
            f"and --features"
        )
    size = min(settings["sample"], draws.size(len(dataset.labels)))
    labels = drawn(dataset.labels, size, np.random.default_rng(settings["seed"]))
    found = balal.transferability(datasets.pool(dataset), labels)
    return found, np.bincount(np.asarray(dataset.scores.predicted))


def drawn(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The labels of `size` random rows, -1 for the others."""
    rows = rng.permutation(len(labels))[:size]
    found = np.full(len(labels), -1)
    found[rows] = labels[rows]
    return found


def degraded(settings: dict[str, int], out: Path, fresh: bool) -> list[dict[str, Any]]:
    """The measures and the accuracy of a head for every version and draw."""
    from experiments.common import degraded as features

    images = features.cifar100(settings["rows"], seed=settings["seed"])
    configuration = dict(files=images.files, **settings, **report.made_with())
    folder = cells.folder(out / "cells", configuration, fresh=fresh)
    versions = features.versions(images)
    rows = []
    with tqdm(total=len(versions) * settings["seeds"], unit="head", disable=None) as progress:
        for name, make in versions.items():
            for draw in range(settings["seeds"]):
                cell = f"{name.replace(' ', '_')}-{draw}"
                found = cells.read(folder, cell)
                if found is None:
                    size = min(settings["sample"], draws.size(len(images.labels)))
                    rng = np.random.default_rng([settings["seed"], draw])
                    labels = drawn(images.labels, size, rng)
                    found = judge(make(draw), labels, images.test_labels)
                    cells.write(folder, cell, found)
                rows.append(dict(version=name, seed=draw, **found))
                progress.update()
    return rows


def judge(version: Any, labels: np.ndarray, test_labels: np.ndarray) -> dict[str, Any]:
    """The measures of one version, and the accuracy of a head on its labelled rows, in percent."""
    pool = balal.pool(version.features, logits=version.logits)
    measured = asdict(balal.transferability(pool, labels))
    standard, tests = (
        scaling.standardise(part, pool=version.features)
        for part in (version.features, version.tests)
    )
    train, tests = (scaling.shrink(part, pool=standard) for part in (standard, tests))
    rows, count = np.flatnonzero(labels >= 0), int(test_labels.max()) + 1
    head = logistic.fit(train[rows], labels[rows], num_classes=count)
    predicted = logistic.predict(head, tests)
    accuracy = balal.metrics.balanced_accuracy(test_labels, predicted, num_classes=count)
    return dict(measured, accuracy=100 * float(accuracy))


def tables(found: dict, judged: list[dict[str, Any]]) -> str:
    """The measures of every pool, then those of every version with their rank correlations."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3g}" if abs(value) >= 100 else f"{value:.3f}"

    lines = [
        [name, str(np.count_nonzero(counts)), *(number(getattr(each, part)) for part in MEASURES)]
        for name, (each, counts) in found.items()
    ]
    parts = [report.markdown(["pool", "source classes", *MEASURES.values()], lines)]
    if not judged:
        return parts[0]
    names = list(dict.fromkeys(row["version"] for row in judged))
    columns = [*MEASURES, "accuracy"]

    def mean(version: str, part: str) -> float | None:
        values = [row[part] for row in judged if row["version"] == version]
        return None if None in values else float(np.mean(values))

    body = [[name, *(number(mean(name, part)) for part in columns)] for name in names]
    body.append(["rank correlation", *(correlation(judged, part) for part in MEASURES), ""])
    draws_made = len({row["seed"] for row in judged})
    parts += [
        f"Means over {draws_made} paired draws; below, Spearman's rank correlation with the "
        f"accuracy over the versions that have the measure, mean ± standard error of the draws.",
        report.markdown(["features", *MEASURES.values(), "balanced accuracy, %"], body),
    ]
    return "\n\n".join(parts)


def correlation(judged: list[dict[str, Any]], part: str) -> str:
    """The rank correlation of a measure and the accuracy, over the versions, of each draw."""
    values = []
    for draw in dict.fromkeys(row["seed"] for row in judged):
        here = [row for row in judged if row["seed"] == draw and row[part] is not None]
        pairs = [(row[part], row["accuracy"]) for row in here]
        values.append(spearmanr(*zip(*pairs, strict=True)).statistic)
    mean, error = statistics.mean_and_error(np.array(values))
    return f"{mean:+.2f} ± {error:.2f}"


if __name__ == "__main__":
    program.run(main, define_flags)
