"""The table that practitioners publish: from one model fitted to a labelled start, how much each
way to choose the next labels lifts macro-F1.

Runs are those of `round_tables`; the smallest budget is the labelled start.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.common import contrasts, report, round_tables, statistics


def rows(
    runs: Sequence[dict[str, Any]], heads: Sequence[str], *, against: str
) -> list[dict[str, Any]]:
    """One entry for each pool, head and strategy, after the last round.

    `base` and `f1`: mean macro-F1 in percent, of the start and after the last round; `lift`: their
    paired difference in percentage points, with its standard `error`; `relative`: the lift as a
    share of the base; `gain`: over `against`, with `gain_error`; `labels_saved`: the share of
    the labels after the start that `against` needs more for the same F1, by interpolation between
    rounds, None where it is not reached.
    """
    entries = []
    for head in heads:
        metric = f"macro_f1 {head}"
        found = contrasts.series(runs, metric)
        for (pool, strategy, _), ours in found.items():
            theirs = found[pool, against, "none"]
            base, last = ours.values[0], ours.values[-1]
            lift, error = statistics.mean_and_error(last - base)
            gain, gain_error = statistics.mean_and_error(last - theirs.values[-1])
            there = [
                run
                for run in runs
                if (run["pool"], run["strategy"], run["budget"])
                == (pool, strategy, ours.budgets[-1])
            ]
            entries.append(
                dict(
                    pool=pool,
                    head=head,
                    strategy=strategy,
                    labels=ours.budgets[-1] - ours.budgets[0],
                    base=round(float(base.mean()), 4),
                    f1=round(float(last.mean()), 4),
                    lift=round(lift, 4),
                    error=round(error, 4),
                    relative=round(lift / float(base.mean()), 4) if base.mean() else None,
                    gain=round(gain, 4),
                    gain_error=round(gain_error, 4),
                    labels_saved=_saved(ours, theirs),
                    classes_found=float(np.mean([run["classes_found"] for run in there])),
                    imbalance_ratio=round(
                        float(np.mean([run["imbalance_ratio"] for run in there])), 4
                    ),
                )
            )
    return entries


def tables(result: dict[str, Any]) -> str:
    """The table of every pool and head of a results.json of experiments.rounds."""
    settings = result["configuration"]
    parts = [
        f"Macro-F1 in percent over all classes, absent ones counting 0, after "
        f"{sum(settings['sizes'])} more labels in rounds of "
        f"{','.join(map(str, settings['sizes']))}, from a model fitted to {settings['start']} "
        f"labels drawn at random. Lift: percentage points over that model, ± standard error over "
        f"{settings['seeds']} paired runs, each with its own {100 * settings['share']:.0f} % of "
        f"the pool; in brackets as a share of it. "
        f"Labels saved: how many fewer than {settings['against']} needs for the same F1."
    ]
    for pool in settings["pools"]:
        for head in settings["heads"]:
            lines = [
                [
                    entry["strategy"],
                    f"{entry['base']:.1f}",
                    f"{entry['f1']:.1f}",
                    f"{entry['lift']:+.1f} ± {entry['error']:.1f}"
                    + (f" ({entry['relative']:+.0%})" if entry["relative"] is not None else ""),
                    ""
                    if entry["strategy"] == settings["against"]
                    else f"{entry['gain']:+.1f} ± {entry['gain_error']:.1f}",
                    "" if entry["labels_saved"] is None else f"{entry['labels_saved']:.0%}",
                    f"{entry['classes_found']:.1f}",
                    f"{entry['imbalance_ratio']:.3f}",
                ]
                for entry in result["lift"]
                if (entry["pool"], entry["head"]) == (pool, head)
            ]
            header = [
                *("strategy", "base", "F1", "lift", f"over {settings['against']}"),
                *("labels saved", "classes", "ratio"),
            ]
            parts += [f"## {pool}: {head}", report.markdown(header, lines)]
    return "\n\n".join([*parts, *round_tables.disagreements(result["differences"])])


def _saved(ours: contrasts.Series, theirs: contrasts.Series) -> float | None:
    """How many fewer labels ours takes, from the start on, to the F1 that it ends with."""
    if ours is theirs:
        return None
    goal, curve = float(ours.values[-1].mean()), theirs.values.mean(axis=1)
    reached = np.flatnonzero(curve >= goal)
    if not reached.size or reached[0] == 0:
        return None
    end = int(reached[0])
    needed = np.interp(goal, curve[end - 1 : end + 1], theirs.budgets[end - 1 : end + 1])
    start = ours.budgets[0]
    return round(float(1 - (ours.budgets[-1] - start) / (needed - start)), 4)
