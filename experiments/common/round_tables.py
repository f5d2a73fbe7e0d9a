"""Learning curves of experiments.rounds: means, paired differences to one strategy, and their
tables.

A run is a flat dictionary with `pool`, `strategy`, `rule` ("none"), `budget` (labels by the end of
a round), `seed`, and for every head `accuracy HEAD` and `macro_f1 HEAD`.
"""

from collections.abc import Sequence
from typing import Any

from experiments.common import contrasts, plots, report, statistics


def differences(
    runs: Sequence[dict[str, Any]], heads: Sequence[str], *, against: str, metric: str = "accuracy"
) -> list[dict[str, Any]]:
    """Every strategy less `against`, for each pool, head and budget; `p_holm` is corrected over all
    of one pool under one head."""
    entries = []
    for head in heads:
        found = contrasts.series(runs, f"{metric} {head}")
        for pool in dict.fromkeys(pool for pool, *_ in found):
            theirs = found[pool, against, "none"]
            cells = [
                dict(pool=pool, head=head, strategy=ours.strategy, against=against, budget=budget)
                | contrasts.difference(one - other)
                for (where, *_), ours in found.items()
                if where == pool and ours is not theirs
                for budget, one, other in zip(ours.budgets, ours.values, theirs.values, strict=True)
            ]
            corrected = statistics.holm([cell["p"] for cell in cells])
            entries += [
                cell | dict(p_holm=round(p, 9)) for cell, p in zip(cells, corrected, strict=True)
            ]
    return entries


def points(runs: Sequence[dict[str, Any]], heads: Sequence[str]) -> list[plots.Point]:
    """The mean and standard error of every strategy on every pool at every budget; the head stands
    where other experiments have the strategy's column."""
    return [
        plots.Point(
            entry["pool"],
            head,
            entry["strategy"],
            entry["budget"],
            entry[f"accuracy {head}"]["mean"],
            entry[f"accuracy {head}"]["error"],
        )
        for head in heads
        for entry in contrasts.means(runs, [f"accuracy {head}"])
    ]


def tables(result: dict[str, Any]) -> str:
    """All tables of a results.json of experiments.rounds."""
    settings, runs = result["configuration"], result["runs"]
    parts = [_preface(settings)]
    for pool in settings["pools"]:
        here = [run for run in runs if run["pool"] == pool]
        parts.append(f"## {pool}")
        for head in settings["heads"]:
            parts += [
                f"### Balanced test accuracy, %: {head}",
                accuracies(here, result["differences"], head),
            ]
        for metric, title, digits in (
            ("classes_found", "Classes found", 1),
            ("imbalance_ratio", "Imbalance ratio of the labelled set", 3),
        ):
            parts += [f"### {title}", _plain(here, metric, digits)]
    return "\n\n".join([*parts, *disagreements(result["differences"])])


def disagreements(compared: Sequence[dict[str, Any]]) -> list[str]:
    """A sentence on every cell where a difference is significant under one head and has the other
    sign under another."""
    pairs = contrasts.reversals(compared, place=("pool", "strategy", "budget"), value="mean")
    return [
        f"On {sure['pool']} at {sure['budget']} labels {sure['strategy']} is {sure['mean']:+.1f} "
        f"against {sure['against']} under {sure['head']}, and {other['mean']:+.1f} under "
        f"{other['head']}."
        for sure, other in pairs
    ]


def _preface(settings: dict[str, Any]) -> str:
    query = settings["query_size"]
    asked = "all rows of a round" if query is None else f"{query} at a time"
    start = (
        f"{settings['start']} labels drawn at random"
        if settings["start"]
        else f"nothing; the first round is {settings['first']}"
    )
    return (
        f"Rounds of {','.join(map(str, settings['sizes']))} labels, asked {asked}, beginning with "
        f"{start}. Target model: {settings['model']}. Mean ± standard error over "
        f"{settings['seeds']} paired runs, each with its own {100 * settings['share']:.0f} % of "
        f"the pool; in brackets the difference to {settings['against']}. *: significant at "
        f"{100 * contrasts.SIGNIFICANT:.0f} %, by an exact two-sided sign-flip test with Holm's "
        f"correction over the table; with {settings['seeds']} runs p is at least "
        f"{statistics.smallest_p(settings['seeds']):.2g}."
    )


def accuracies(
    runs: Sequence[dict[str, Any]], compared: Sequence[dict[str, Any]], head: str
) -> str:
    """The accuracies of one pool under one head, with the differences `compared`, as a table."""
    gains = {
        (cell["pool"], cell["strategy"], cell["budget"]): cell
        for cell in compared
        if cell["head"] == head
    }
    lines: dict[str, list[str]] = {}
    for entry in contrasts.means(runs, [f"accuracy {head}"]):
        value = entry[f"accuracy {head}"]
        text = f"{value['mean']:.1f} ± {value['error']:.1f}"
        gain = gains.get((entry["pool"], entry["strategy"], entry["budget"]))
        if gain:
            star = "*" if gain["p_holm"] <= contrasts.SIGNIFICANT else ""
            text += f" ({gain['mean']:+.1f}{star})"
        lines.setdefault(entry["strategy"], []).append(text)
    return _markdown(runs, lines)


def _plain(runs: Sequence[dict[str, Any]], metric: str, digits: int) -> str:
    lines: dict[str, list[str]] = {}
    for entry in contrasts.means(runs, [metric]):
        lines.setdefault(entry["strategy"], []).append(f"{entry[metric]['mean']:.{digits}f}")
    return _markdown(runs, lines)


def _markdown(runs: Sequence[dict[str, Any]], lines: dict[str, list[str]]) -> str:
    budgets = sorted({run["budget"] for run in runs})
    return report.markdown(
        ["labels", *map(str, budgets)], [[name, *texts] for name, texts in lines.items()]
    )
