"""From paired runs on many pools to what is reported about them: means, differences, wins, shares,
labels saved and labels to a goal.

A run is a flat dictionary with `pool`, `strategy`, `rule` ("none": no balancing), `budget`, `seed`,
`indices` and one number a metric. Every strategy of a pool has the same seeds and budgets. The
functions return lists of flat dictionaries, JSON values.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.common import statistics
from experiments.common.summary import full_name

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Series:
    """One metric of one strategy and rule on one pool: values [budgets, S]."""

    pool: str
    strategy: str
    rule: str
    budgets: list[int]
    values: np.ndarray

    @property
    def name(self) -> str:
        return full_name(self.strategy, self.rule)


def series(runs: Sequence[dict[str, Any]], metric: str) -> dict[tuple[str, str, str], Series]:
    """One series for each pool, strategy and rule, in the order of the runs."""
    found: dict[tuple[str, str, str], dict[int, dict[int, float]]] = {}
    for run in runs:
        group = run["pool"], run["strategy"], run["rule"]
        found.setdefault(group, {}).setdefault(run["budget"], {})[run["seed"]] = run[metric]
    return {
        group: Series(
            *group,
            sorted(budgets),
            np.array([[budgets[b][seed] for seed in sorted(budgets[b])] for b in sorted(budgets)]),
        )
        for group, budgets in found.items()
    }


def means(runs: Sequence[dict[str, Any]], metrics: Sequence[str]) -> list[dict[str, Any]]:
    """One entry for each pool, strategy, rule and budget: for every metric `mean` and standard
    `error`."""
    entries: dict[tuple[str, str, int], dict[str, Any]] = {}
    for metric in metrics:
        for one in series(runs, metric).values():
            for budget, values in zip(one.budgets, one.values, strict=True):
                start = dict(
                    pool=one.pool,
                    strategy=one.strategy,
                    rule=one.rule,
                    name=one.name,
                    budget=budget,
                )
                mean, error = statistics.mean_and_error(values)
                entries.setdefault((one.pool, one.name, budget), start)[metric] = dict(
                    mean=round(mean, 6), error=round(error, 6)
                )
    return list(entries.values())


def differences(
    runs: Sequence[dict[str, Any]],
    rules: Sequence[str],
    *,
    alone: Sequence[str],
    metric: str = "accuracy",
) -> list[dict[str, Any]]:
    """Every later rule of `rules` against every earlier one, under each strategy; and the
    strategies that stand `alone` against random.

    `p` is of the exact sign-flip test over the seeds, `p_holm` corrected over the cells (strategies
    and budgets) of one comparison on one pool; `error` is the standard error of the mean
    difference.
    """
    found = series(runs, metric)
    pairs: dict[tuple[str, str, str], list[tuple[Series, Series]]] = {}
    for pool, strategy in dict.fromkeys((pool, strategy) for pool, strategy, _ in found):
        for against, rule in itertools.combinations(rules, 2):
            if (pool, strategy, rule) in found and (pool, strategy, against) in found:
                pairs.setdefault((pool, rule, against), []).append(
                    (found[pool, strategy, rule], found[pool, strategy, against])
                )
        if strategy in alone and (pool, "random", "none") in found:
            pairs[pool, strategy, "random"] = [
                (found[pool, strategy, "none"], found[pool, "random", "none"])
            ]
    entries = []
    for (pool, rule, against), compared in pairs.items():
        cells = [
            dict(
                pool=pool,
                rule=rule,
                against=against,
                name=ours.name,
                baseline=theirs.name,
                strategy=ours.strategy,
                budget=budget,
            )
            | difference(one - other)
            for ours, theirs in compared
            for budget, one, other in zip(ours.budgets, ours.values, theirs.values, strict=True)
        ]
        corrected = statistics.holm([cell["p"] for cell in cells])
        entries += [
            cell | dict(p_holm=round(p, 9), cells=len(cells))
            for cell, p in zip(cells, corrected, strict=True)
        ]
    return entries


def difference(paired: np.ndarray) -> dict[str, float]:
    mean, error = statistics.mean_and_error(paired)
    half = statistics.interval(error, len(paired))
    return dict(
        mean=round(mean, 6),
        error=round(error, 6),
        half_interval=round(half, 6),
        p=round(statistics.sign_flip(paired), 9),
    )


def reversals(
    compared: Sequence[dict[str, Any]], *, place: Sequence[str], value: str
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The pairs of entries, alike in the fields `place`, of which the first has a significant
    `value` and the second, under another head, one of the other sign. Where both are significant,
    the pair comes once."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in compared:
        groups.setdefault(tuple(cell[name] for name in place), []).append(cell)
    return [
        (sure, other)
        for cells in groups.values()
        for number, sure in enumerate(cells)
        if sure["p_holm"] <= SIGNIFICANT
        for later, other in enumerate(cells)
        if sure[value] * other[value] < 0 and (other["p_holm"] > SIGNIFICANT or number < later)
    ]


def wins(compared: Sequence[dict[str, Any]], rules: Sequence[str]) -> list[dict[str, Any]]:
    """Every rule against every other: in how many cells its mean is better, and where significantly
    so, by `p_holm`, better or worse."""
    entries = []
    for rule, against in itertools.permutations(rules, 2):
        there = [
            (cell["mean"], cell["p_holm"])
            for cell in compared
            if (cell["rule"], cell["against"]) == (rule, against)
        ]
        there += [
            (-cell["mean"], cell["p_holm"])
            for cell in compared
            if (cell["against"], cell["rule"]) == (rule, against)
        ]
        if there:
            sure = [mean for mean, p in there if p <= SIGNIFICANT]
            entries.append(
                dict(
                    rule=rule,
                    against=against,
                    cells=len(there),
                    better=sum(mean > 0 for mean, _ in there),
                    significantly_better=sum(mean > 0 for mean in sure),
                    significantly_worse=sum(mean < 0 for mean in sure),
                )
            )
    return entries


def shares(compared: Sequence[dict[str, Any]], *, oracle: str) -> list[dict[str, Any]]:
    """How much of the gain of `oracle` over no balancing each rule achieves: `share`, None where
    the oracle's gain is within its error."""
    gains = {
        (cell["pool"], cell["strategy"], cell["rule"], cell["budget"]): cell
        for cell in compared
        if cell["against"] == "none"
    }
    entries = []
    for (pool, strategy, rule, budget), cell in gains.items():
        best = gains.get((pool, strategy, oracle, budget))
        if rule != oracle and best:
            share = statistics.share_of_gain(cell["mean"], best["mean"], best["error"])
            entries.append(
                dict(
                    pool=pool,
                    name=cell["name"],
                    budget=budget,
                    share=None if share is None else round(share, 6),
                )
            )
    return entries


def labels_needed(runs: Sequence[dict[str, Any]], metric: str = "accuracy") -> list[dict[str, Any]]:
    """How many labels a reference needs for the mean accuracy that each strategy and rule reaches:
    `labels`, and as a multiple, `factor`.

    The references are `random`, and the same strategy without its rule. `relation`: `>` where the
    largest budget is not enough, `<` where the smallest is more than enough; the numbers are those
    of that budget then.
    """
    found, entries = series(runs, metric), []
    for one in found.values():
        names = dict.fromkeys(["random", one.strategy] if one.rule != "none" else ["random"])
        for reference in names:
            baseline = found.get((one.pool, reference, "none"))
            if baseline is None or baseline is one:
                continue
            for budget, accuracy in zip(one.budgets, one.values.mean(axis=1), strict=True):
                labels, relation = statistics.labels_for(
                    float(accuracy), baseline.budgets, baseline.values.mean(axis=1).tolist()
                )
                entries.append(
                    dict(
                        pool=one.pool,
                        name=one.name,
                        budget=budget,
                        reference=reference,
                        accuracy=round(float(accuracy), 6),
                    )
                    | dict(
                        labels=round(labels, 3), relation=relation, factor=round(labels / budget, 6)
                    )
                )
    return entries


def labels_to_goal(
    runs: Sequence[dict[str, Any]],
    labels: Mapping[str, np.ndarray],
    goals: Mapping[str, Sequence[int]],
    at_least: int,
) -> list[dict[str, Any]]:
    """How many labels each strategy and rule needed until every target class had `at_least`, on the
    way to the largest budget.

    Args:
      labels: of each pool, int [N]. goals: of each pool, the target classes.

    `needed`: of every run, None where the budget ran out first; `median` counts those as infinite,
    and is None where that leaves no median.
    """
    largest: dict[str, int] = {}
    for run in runs:
        largest[run["pool"]] = max(run["budget"], largest.get(run["pool"], 0))
    needed: dict[tuple[str, str], list[int | None]] = {}
    for run in runs:
        pool, name = run["pool"], full_name(run["strategy"], run["rule"])
        if run["budget"] == largest[pool]:
            answers = labels[pool][run["indices"]]
            needed.setdefault((pool, name), []).append(
                statistics.labels_until(answers, goals[pool], at_least)
            )
    return [
        dict(
            pool=pool,
            name=name,
            budget=largest[pool],
            needed=runs_needed,
            reached=sum(number is not None for number in runs_needed),
        )
        | dict(median=statistics.median_of_reached(runs_needed))
        for (pool, name), runs_needed in needed.items()
    ]
