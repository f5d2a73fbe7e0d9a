"""From runs to tables: the mean and spread of every strategy at every budget, before and after
balancing, beside printed figures.

A run is a flat dictionary with `strategy`, `rule` ("none" before balancing), `budget`, `seed` and
one number a metric. An entry of a summary has the same first three, and for every metric a cell
`dict(mean, spread, paper)`; everything in it goes into a JSON file as it is.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

import balal
from experiments.common import report
from experiments.common.paper import Figures

DASH = "\N{EN DASH}"


def full_name(strategy: str, rule: str) -> str:
    """The registered name: `ent`, `ent+balance`."""
    return strategy if rule == "none" else f"{strategy}+{rule}"


def measure(
    indices: np.ndarray, labels: np.ndarray, wanted: np.ndarray, *, num_classes: int
) -> dict[str, Any]:
    """The picks of one run and their figures: JSON values.

    Args:
      indices: int [b], the rows in the order of the picks.
      labels: int [b], their classes.
      wanted: int [b], the class that each pick hoped for, -1 where there was none.
    """
    counts, aimed = balal.metrics.class_counts(labels, num_classes=num_classes), wanted >= 0
    return dict(
        classes_found=int(balal.metrics.classes_found(counts)),
        imbalance_ratio=round(float(balal.metrics.imbalance_ratio(counts)), 6),
        # How many labels there were when balancing took over; -1: it never did.
        switched_at=int(aimed.argmax()) if aimed.any() else -1,
        # The share of balancing's picks that were of the class it hoped for.
        hits=round(float(np.mean(labels[aimed] == wanted[aimed])), 4) if aimed.any() else None,
        indices=indices.tolist(),
    )


def summarise(
    runs: Iterable[dict[str, Any]], metrics: Sequence[str], figures: Figures | None
) -> list[dict[str, Any]]:
    """One entry for each strategy, rule and budget, in the order of the runs. spread: standard
    deviation over seeds, None for one run."""
    groups: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault((run["strategy"], run["rule"], run["budget"]), []).append(run)

    def cell(strategy: str, rule: str, budget: int, metric: str) -> dict[str, float | None]:
        values = np.array([run[metric] for run in groups[strategy, rule, budget]], np.float64)
        spread = round(float(values.std(ddof=1)), 6) if len(values) > 1 else None
        printed = figures.printed(metric, strategy, budget, rule) if figures else None
        return dict(mean=round(float(values.mean()), 6), spread=spread, paper=printed)

    return [
        dict(strategy=strategy, rule=rule, budget=budget)
        | {metric: cell(strategy, rule, budget, metric) for metric in metrics}
        for strategy, rule, budget in groups
    ]


def table(
    summary: Sequence[dict[str, Any]],
    metric: str,
    *,
    digits: int,
    baseline: tuple[str, Sequence[float]] | None = None,
    last: tuple[str, dict[str, str]] | None = None,
) -> str:
    """One metric as a Markdown table, a row for each strategy and rule, a column for each budget.

    A cell reads `34.9 ± 0.6 (27.3)`: in brackets the paper's figure, or a dash where it prints
    none; no brackets where it prints none for the whole table.

    baseline: name and figures of one more row. last: name of one more column, and its text by
    strategy and rule.
    """
    budgets = list(dict.fromkeys(entry["budget"] for entry in summary))
    beside = any(entry[metric]["paper"] is not None for entry in summary)
    rows: dict[str, list[str]] = {}
    for entry in summary:
        text = written(entry[metric], digits, beside=beside)
        rows.setdefault(full_name(entry["strategy"], entry["rule"]), []).append(text)
    lines = [[name, *texts, *([last[1][name]] if last else [])] for name, texts in rows.items()]
    if baseline:
        lines.append(
            [
                baseline[0],
                *(f"{value:.{digits}f}" for value in baseline[1]),
                *([""] if last else []),
            ]
        )
    return report.markdown(["strategy", *map(str, budgets), *([last[0]] if last else [])], lines)


def written(cell: dict[str, float | None], digits: int, *, beside: bool = True) -> str:
    """A cell as text. beside: with the paper's figure.

    >>> written(dict(mean=34.94, spread=0.61, paper=27.31), 1)
    '34.9 ± 0.6 (27.3)'
    """
    mean, spread, paper = (
        "" if cell[part] is None else f"{cell[part]:.{digits}f}"
        for part in ("mean", "spread", "paper")
    )
    return mean + (f" ± {spread}" if spread else "") + (f" ({paper or DASH})" if beside else "")


def remarks(
    summary: Sequence[dict[str, Any]], metric: str, *, digits: int, rises: bool
) -> list[str]:
    """A sentence for each rule: where it failed to raise (or lower) the metric, or that it did so
    everywhere."""
    means = {
        (entry["strategy"], entry["rule"], entry["budget"]): entry[metric]["mean"]
        for entry in summary
    }
    sentences = []
    for rule in dict.fromkeys(rule for _, rule, _ in means if rule != "none"):
        pairs = [
            (f"{strategy} at {budget}", means[strategy, "none", budget], after)
            for (strategy, other, budget), after in means.items()
            if other == rule and (strategy, "none", budget) in means
        ]
        failed = [
            f"{name} ({before:.{digits}f} to {after:.{digits}f})"
            for name, before, after in pairs
            if not (after > before if rises else after < before)
        ]
        verb = "raise" if rises else "lower"
        if failed:
            sentences.append(
                f"`+{rule}` did not {verb} it in {len(failed)} of {len(pairs)} cells: "
                f"{', '.join(failed)}."
            )
        elif pairs:
            sentences.append(f"`+{rule}` {verb}s it in all {len(pairs)} cells.")
    return sentences
