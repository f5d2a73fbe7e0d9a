"""Markdown tables of a comparison over many pools: first the wins over all of them, then each pool
by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from experiments.common import contrasts, report, statistics
from experiments.common.summary import DASH

# What is reported of the labelled sets and their heads: title, digits.
METRICS = {
    "accuracy": ("Balanced test accuracy, %", 1),
    "target_recall": ("Mean test recall of the target classes, %", 1),
    "classes_found": ("Classes found", 1),
    "imbalance_ratio": ("Imbalance ratio of the labelled set", 3),
}

_Entries = Sequence[dict[str, Any]]


def tables(result: dict[str, Any]) -> str:
    """All tables of a results.json: from its `configuration`, `pools`, `runs` and the lists that
    `contrasts` makes."""
    parts = [_preface(result)]
    if result["wins"]:
        parts += [
            "## All pools",
            "### In how many cells (pool, strategy, budget) the rule of the row is more accurate "
            "than that of the column",
            "In brackets: significantly more, significantly less accurate.",
            _wins(result["wins"]),
        ]
    for about in result["pools"]:
        parts += [f"## {about['pool']}", *_pool(result, about)]
    if unconverged := sum(not run["converged"] for run in result["runs"]):
        parts.append(
            f"The solver stopped short of its tolerance in {unconverged} of "
            f"{len(result['runs'])} heads."
        )
    return "\n\n".join(parts)


def _preface(result: dict[str, Any]) -> str:
    """What the numbers are, and whether there are enough runs for the tests."""
    settings, level = result["configuration"], contrasts.SIGNIFICANT
    runs, best = settings["seeds"], statistics.smallest_p(settings["seeds"])
    together = f", rows asked {settings['size']} at a time" if settings["size"] > 1 else ""
    text = (
        f"Head: linear SVM, C = {settings['C'][0]:g}. Mean ± standard error over {runs} paired "
        f"runs, each with its own "
        f"{100 * settings['share']:.0f} % of the pool{together}. *: significant at "
        f"{100 * level:.0f} %, by an exact two-sided sign-flip "
        f"test over the runs with Holm's correction over the cells of one comparison on one pool. "
        f"The runs share their pool and test set, "
        f"so a star speaks about draws from that pool. With {runs} runs p is at least {best:.2g}."
    )
    most = max((cell["cells"] for cell in result["differences"]), default=0)
    if most * best <= level:
        return text
    enough = [
        number
        for number in range(runs, statistics.MOST_RUNS + 1)
        if most * statistics.smallest_p(number) <= level
    ]
    advice = f"--seeds={enough[0]} would do" if enough else "compare fewer strategies or budgets"
    return (
        f"{text} That is too few runs for a star everywhere in a comparison of {most} cells; "
        f"{advice}."
    )


def _wins(entries: _Entries) -> str:
    found = {(entry["rule"], entry["against"]): entry for entry in entries}
    rules = list(dict.fromkeys(rule for rule, _ in found))

    def cell(rule: str, against: str) -> str:
        entry = found.get((rule, against))
        if entry is None:
            return ""
        significant = f"+{entry['significantly_better']}, -{entry['significantly_worse']}"
        return f"{entry['better']} ({significant}) of {entry['cells']}"

    return report.markdown(
        ["rule", *rules], [[rule, *(cell(rule, against) for against in rules)] for rule in rules]
    )


def _pool(result: dict[str, Any], about: dict[str, Any]) -> list[str]:
    """The sentences and tables of one pool."""

    def here(name: str) -> list[dict[str, Any]]:
        return [entry for entry in result[name] if entry["pool"] == about["pool"]]

    def metric(name: str) -> list[str]:
        title, digits = METRICS[name]
        return _table(
            title,
            here("summary"),
            lambda entry: f"{entry[name]['mean']:.{digits}f} ± {entry[name]['error']:.{digits}f}",
        )

    aims = result["configuration"]["target"] is not None
    return [
        _about(about),
        *metric("accuracy"),
        *_gains(here("differences")),
        *_shares(here("shares_of_oracle")),
        *_labels_needed(here("labels_needed")),
        *metric("classes_found"),
        *metric("imbalance_ratio"),
        *(
            metric("target_recall")
            if aims
            else ["Target classes: all, so their mean test recall is the accuracy above."]
        ),
        *_labels_to_goal(here("labels_to_goal"), about, result["configuration"]),
    ]


def _about(about: dict[str, Any]) -> str:
    sizes = np.array(about["class_sizes"])
    text = (
        f"{', '.join(about['files'])}: {about['rows']} rows, {about['rows_of_a_draw']} in a draw; "
        f"{len(sizes)} classes of {sizes.min()} to "
        f"{sizes.max()} rows, imbalance ratio {sizes.std() / sizes.mean():.3f}."
    )
    return text + (
        f" No source scores, so without {', '.join(about['left_out'])}."
        if about["left_out"]
        else ""
    )


def _gains(entries: _Entries) -> list[str]:
    """Every rule against no balancing, posterior against balance, and the strategies that stand
    alone against random."""
    shown = [
        cell
        for cell in entries
        if cell["against"] in ("none", "random")
        or (cell["rule"], cell["against"]) == ("posterior", "balance")
    ]

    def text(cell: dict[str, Any]) -> str:
        star = "*" if cell["p_holm"] <= contrasts.SIGNIFICANT else " "
        return f"{cell['mean']:+.1f} ± {cell['error']:.1f}{star}"

    return _table(
        "Gain in accuracy, points",
        [cell | dict(name=f"{cell['name']} - {cell['baseline']}") for cell in shown],
        text,
    )


def _shares(entries: _Entries) -> list[str]:
    title = "Share of the gain of the oracle of all classes"
    return _table(
        title, entries, lambda entry: DASH if entry["share"] is None else f"{entry['share']:.2f}"
    )


def _labels_needed(entries: _Entries) -> list[str]:
    parts = []
    for reference, alone in (("random", False), ("the strategy alone", True)):
        title = f"How many times the labels {reference} needs for the same accuracy"
        compared = [entry for entry in entries if (entry["reference"] != "random") == alone]
        parts += _table(
            title, compared, lambda entry: f"{entry['relation'].strip('=')}{entry['factor']:.2f}"
        )
    remark = (
        "Interpolated in the logarithm of the labels; > and <: beyond the largest and the smallest "
        "budget, where nothing was run."
    )
    return [*parts, remark] if parts else []


def _labels_to_goal(
    entries: _Entries, about: dict[str, Any], settings: dict[str, Any]
) -> list[str]:
    target, at_least = settings["target"], settings["at_least"]
    classes = (
        "every class" if target is None else f"each of the classes {', '.join(map(str, target))}"
    )
    rows = []
    for goal in entries:
        median = f"> {goal['budget']}" if goal["median"] is None else f"{goal['median']:g}"
        rows.append([goal["name"], median, f"{goal['reached']} of {len(goal['needed'])}"])
    remark = "The median counts runs that never got there as infinitely many labels."
    if about["too_small"]:
        remark += (
            f" In {about['too_small']} of {settings['seeds']} draws a target class has fewer rows "
            f"than that, so no strategy could."
        )
    return [
        f"### Labels until {classes} has {at_least}",
        report.markdown(["strategy", "median", "reached"], rows),
        remark,
    ]


def _table(title: str, entries: _Entries, text: Callable[[dict[str, Any]], str]) -> list[str]:
    """A title and a table, a row for each name and a column for each budget; nothing where there
    are no entries."""
    rows: dict[str, list[str]] = {}
    for entry in entries:
        rows.setdefault(entry["name"], []).append(text(entry))
    budgets = dict.fromkeys(str(entry["budget"]) for entry in entries)
    return (
        [
            f"### {title}",
            report.markdown(["labels", *budgets], [[name, *texts] for name, texts in rows.items()]),
        ]
        if rows
        else []
    )
