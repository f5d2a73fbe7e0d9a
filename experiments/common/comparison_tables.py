"""Markdown tables of experiments.compare: first what each method wins over everything, then each
pool in each regime by itself."""

from collections.abc import Callable, Sequence
from typing import Any

from experiments.common import contrasts, regimes, report, statistics

_Entries = Sequence[dict[str, Any]]


def tables(result: dict[str, Any]) -> str:
    """All tables of a results.json."""
    settings = result["configuration"]
    against = settings["against"]
    parts = [_preface(settings), "## Everything together"]
    parts += ["### What each method wins", _wins(result["wins"], against)]
    parts += _rivals(result["rivals"], against)
    parts += _reversals(result["reversals"], against)
    for contest in result["contests"]:
        parts += _contest(result, contest)
    return "\n\n".join(parts)


def _preface(settings: dict[str, Any]) -> str:
    runs, level = settings["seeds"], contrasts.SIGNIFICANT
    best = statistics.smallest_p(runs)
    text = (
        f"Mean over {runs} paired runs, each with its own part of a pool; in brackets the "
        f"difference to {settings['against']}, in points. *: significant at {100 * level:.0f} %, "
        f"by an exact two-sided sign-flip test with Holm's correction over the methods of a "
        f"column. Runs share their pool and test set, so a star speaks about draws from that pool."
    )
    others = len(settings["strategies"]) - 1
    if others * best > level:
        enough = next(
            (
                n
                for n in range(runs, statistics.MOST_RUNS)
                if others * statistics.smallest_p(n) < level
            ),
            None,
        )
        more = f"--seeds={enough} would do" if enough else "compare fewer methods"
        text += f" With {runs} runs no single difference among {others} can get one: {more}."
    return text


def _wins(entries: _Entries, against: str) -> str:
    return report.markdown(
        [
            "method",
            "cells",
            "best of all in",
            f"ahead of {against}",
            "significantly ahead",
            "significantly behind",
            "mean difference",
        ],
        [
            [
                entry["method"],
                str(entry["cells"]),
                str(entry["best"]),
                *(
                    ["", "", "", ""]
                    if entry["difference"] is None
                    else [
                        str(entry["ahead"]),
                        str(entry["significantly_ahead"]),
                        str(entry["significantly_behind"]),
                        f"{entry['difference']:+.1f}",
                    ]
                ),
            ]
            for entry in entries
        ],
    )


def _rivals(entries: _Entries, against: str) -> list[str]:
    if not entries:
        return []
    sure = [entry for entry in entries if entry["p_holm"] <= contrasts.SIGNIFICANT]
    ahead = [entry for entry in entries if entry["difference"] > 0]
    behind = [entry for entry in sure if entry["difference"] < 0]
    text = (
        f"Beside the best of all others in each cell, {against} is ahead in {len(ahead)} of "
        f"{len(entries)} cells, significantly in {len(sure) - len(behind)}, and significantly "
        f"behind in {len(behind)} (Holm's correction over the budgets of one pool, regime and "
        f"head; the rival is chosen by the runs it is tested on, which favours it)."
    )
    parts = [f"### {against} beside the best of the others", text]
    if behind:
        rows = [
            [
                entry["pool"],
                entry["regime"],
                entry["head"],
                str(entry["budget"]),
                entry["rival"],
                f"{entry['difference']:+.1f}",
            ]
            for entry in behind
        ]
        header = ["pool", "regime", "head", "labels", "best of the others", "difference"]
        parts += [report.markdown(header, rows)]
    return parts


def _reversals(entries: _Entries, against: str) -> list[str]:
    if not entries:
        return []
    rows = [
        [
            entry["pool"],
            entry["regime"],
            str(entry["budget"]),
            entry["method"],
            f"{entry['difference']:+.1f}* {entry['head']}",
            f"{entry['other_difference']:+.1f} {entry['other_head']}",
        ]
        for entry in entries
    ]
    return [
        f"### Orderings against {against} that hold under one head only",
        report.markdown(["pool", "regime", "labels", "method", "under one", "under another"], rows),
    ]


def _contest(result: dict[str, Any], contest: dict[str, Any]) -> list[str]:
    pool, regime = contest["pool"], contest["regime"]

    def here(name: str) -> list[dict[str, Any]]:
        return [
            entry for entry in result[name] if (entry["pool"], entry["regime"]) == (pool, regime)
        ]

    smallest, largest = contest["class_sizes"]
    parts = [
        f"## {pool}, {regime}",
        f"{', '.join(contest['files'])}: {contest['rows']} rows in a draw, "
        f"{contest['num_classes']} classes of {smallest} to {largest} rows, imbalance ratio "
        f"{contest['imbalance_ratio']:.3f}.",
    ]
    binary = regimes.is_binary(regime)
    figure = "F1 of the positives, %" if binary else "Balanced test accuracy, %"
    for head in result["configuration"]["heads"]:
        own = [entry for entry in here("cells") if entry["head"] == head]
        parts += [f"### {figure}: {head}", _table(own, contest["budgets"], _score)]
    runs = here("runs")
    if binary:
        parts += _plain(
            runs, contest, "positives_found", "Positives found, % of those there are", 1
        )
        for head in result["configuration"]["heads"]:
            title = f"Recall of the positives, %: {head}"
            parts += _plain(runs, contest, f"recall {head}", title, 1)
    else:
        parts += _plain(runs, contest, "classes_found", "Classes found", 1)
        parts += _plain(runs, contest, "imbalance_ratio", "Imbalance ratio of the labelled set", 3)
    return parts


def _score(entry: dict[str, Any]) -> str:
    text = f"{entry['score']:.1f}"
    if entry["difference"] is None:
        return f"{text} ± {entry['error']:.1f}"
    star = "*" if entry["p_holm"] <= contrasts.SIGNIFICANT else ""
    return f"{text} ({entry['difference']:+.1f}{star})"


def _plain(
    runs: _Entries, contest: dict[str, Any], metric: str, title: str, digits: int
) -> list[str]:
    """Means over runs."""
    values: dict[tuple[str, int], list[float]] = {}
    for run in runs:
        values.setdefault((run["method"], run["budget"]), []).append(run[metric])
    entries = [
        dict(method=method, budget=budget, value=sum(found) / len(found))
        for (method, budget), found in values.items()
    ]
    return [
        f"### {title}",
        _table(entries, contest["budgets"], lambda entry: f"{entry['value']:.{digits}f}"),
    ]


def _table(entries: _Entries, budgets: Sequence[int], text: Callable[[dict[str, Any]], str]) -> str:
    """A row for each method, a column for each budget."""
    found = {(entry["method"], entry["budget"]): text(entry) for entry in entries}
    return report.markdown(
        ["labels", *map(str, budgets)],
        [
            [method, *(found[method, budget] for budget in budgets)]
            for method in dict.fromkeys(method for method, _ in found)
        ],
    )
