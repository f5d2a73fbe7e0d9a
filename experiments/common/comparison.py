"""From paired runs of many methods to what is reported: each beside a reference, and what each
wins.

A run is a flat dictionary with `pool`, `regime`, `method`, `budget`, `seed` and, for every head,
`score HEAD`. All methods of one pool and regime have the same seeds and budgets. The functions
return lists of flat dictionaries, JSON values.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from experiments.common import contrasts, statistics
from experiments.common.methods import ORACLE

# The values of one pool, regime and head: of every method, [budgets, S], and the budgets.
Group = tuple[dict[str, np.ndarray], list[int]]


def grouped(runs: Sequence[dict[str, Any]], metric: str) -> Iterator[tuple[tuple[str, str], Group]]:
    """The values of every pool and regime in which there are any, in the order of the runs."""
    for pool, regime in dict.fromkeys((run["pool"], run["regime"]) for run in runs):
        here = [run for run in runs if (run["pool"], run["regime"]) == (pool, regime)]
        here = [run for run in here if run.get(metric) is not None]
        if not here:
            continue
        budgets = sorted({run["budget"] for run in here})
        seeds = 1 + max(run["seed"] for run in here)
        values: dict[str, np.ndarray] = {}
        for run in here:
            table = values.setdefault(run["method"], np.full((len(budgets), seeds), np.nan))
            table[budgets.index(run["budget"]), run["seed"]] = run[metric]
        yield (pool, regime), (values, budgets)


def cells(
    runs: Sequence[dict[str, Any]], heads: Sequence[str], *, against: str
) -> list[dict[str, Any]]:
    """One entry for each pool, regime, head, method and budget: mean `score` and its standard
    `error`; the paired `difference` to `against`, its error and `p` of the exact sign-flip test,
    and `p_holm`, corrected over the methods at this budget. None for `against` itself."""
    entries = []
    for head in heads:
        for (pool, regime), (values, budgets) in grouped(runs, f"score {head}"):
            for place, budget in enumerate(budgets):
                shared = dict(pool=pool, regime=regime, head=head, budget=budget)
                entries += [shared | entry for entry in _column(values, place, against)]
    return entries


def _column(values: dict[str, np.ndarray], place: int, against: str) -> list[dict[str, Any]]:
    """All methods at one budget."""
    reference = values[against][place]
    others = {
        method: contrasts.difference(table[place] - reference)
        for method, table in values.items()
        if method != against
    }
    corrected = dict(
        zip(others, statistics.holm([found["p"] for found in others.values()]), strict=True)
    )
    entries = []
    for method, table in values.items():
        mean, error = statistics.mean_and_error(table[place])
        found = others.get(method, dict.fromkeys(("mean", "error", "p")))
        entries.append(
            dict(
                method=method,
                score=round(mean, 4),
                error=round(error, 4),
                difference=found["mean"],
                difference_error=found["error"],
                p=found["p"],
                p_holm=round(corrected[method], 9) if method in corrected else None,
            )
        )
    return entries


def wins(compared: Sequence[dict[str, Any]], *, against: str) -> list[dict[str, Any]]:
    """One entry for each method, the best first: over how many `cells` (pool, regime, head,
    budget), in how many its mean is the highest of all but the oracle's (`best`), and how it
    stands to `against`: in how many cells `ahead`, in how many significantly so or behind, and the
    mean `difference`."""
    places = [_place(entry) for entry in compared]
    best = {
        place: max(
            entry["score"]
            for entry, other in zip(compared, places, strict=True)
            if other == place and entry["method"] != ORACLE
        )
        for place in dict.fromkeys(places)
    }
    entries = []
    for method in dict.fromkeys(entry["method"] for entry in compared):
        own = [entry for entry in compared if entry["method"] == method]
        sure = [entry for entry in own if (entry["p_holm"] or 1) <= contrasts.SIGNIFICANT]
        entries.append(
            dict(
                method=method,
                cells=len(own),
                best=sum(
                    method != ORACLE and entry["score"] >= best[_place(entry)] for entry in own
                ),
                ahead=sum((entry["difference"] or 0) > 0 for entry in own),
                significantly_ahead=sum(entry["difference"] > 0 for entry in sure),
                significantly_behind=sum(entry["difference"] < 0 for entry in sure),
                difference=None
                if method == against
                else round(float(np.mean([entry["difference"] for entry in own])), 4),
            )
        )
    return sorted(entries, key=lambda entry: -(entry["difference"] or 0.0))


def rivals(
    runs: Sequence[dict[str, Any]], heads: Sequence[str], *, against: str
) -> list[dict[str, Any]]:
    """`against` beside the best of all others in each cell, the oracle apart: `rival`, and the
    paired `difference` in favour of `against`, with `p_holm` corrected over the budgets of one
    pool, regime and head. The rival is chosen by the very runs it is tested on, which favours it.
    """
    entries = []
    for head in heads:
        for (pool, regime), (values, budgets) in grouped(runs, f"score {head}"):
            others = [name for name in values if name not in (against, ORACLE)]
            if not others:
                continue
            own = []
            for place, budget in enumerate(budgets):
                rival = max(others, key=lambda name: values[name][place].mean())
                found = contrasts.difference(values[against][place] - values[rival][place])
                own.append(
                    dict(pool=pool, regime=regime, head=head, budget=budget, rival=rival)
                    | dict(difference=found["mean"], error=found["error"], p=found["p"])
                )
            corrected = statistics.holm([entry["p"] for entry in own])
            entries += [
                entry | dict(p_holm=round(p, 9)) for entry, p in zip(own, corrected, strict=True)
            ]
    return entries


def reversals(compared: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The differences that are significant under one head, `head`, and have the other sign under
    another, `other_head`."""
    place = ("pool", "regime", "budget", "method")
    told = [entry for entry in compared if entry["difference"] is not None]
    return [
        {name: sure[name] for name in (*place, "head", "difference")}
        | dict(other_head=other["head"], other_difference=other["difference"])
        for sure, other in contrasts.reversals(told, place=place, value="difference")
    ]


def _place(entry: dict[str, Any]) -> tuple[Any, ...]:
    return entry["pool"], entry["regime"], entry["head"], entry["budget"]
