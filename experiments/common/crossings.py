"""Where one strategy overtakes another as labels grow, in paired runs, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from experiments.common import contrasts, report, statistics


@dataclass(frozen=True)
class Crossing:
    """Where a later strategy overtakes an earlier one.

    Attributes:
      labels: where it does.
      relation: `=`; or `<`, it is ahead from the first budget on, or `>`, not even at the last:
        `labels` is that budget then.
      low: up to here the earlier strategy is ahead for sure; None: nowhere before `labels`.
      high: from here on the later strategy is ahead for sure; None: nowhere after `labels`.
    """

    labels: float
    relation: str
    low: float | None
    high: float | None

    @property
    def sure(self) -> bool:
        """Whether both are ahead for sure where they are said to be."""
        if self.relation == "=":
            return self.low is not None and self.high is not None
        return self.labels == (self.high if self.relation == "<" else self.low)


def crossing(labels: Sequence[float], differences: np.ndarray) -> Crossing:
    """Where the strategy overtakes the other whose accuracies were subtracted from its own.

    It is the point up to which the other's lead, summed over the logarithm of the labels, is
    largest: who changes strategy there loses least, and a dip of the curve elsewhere is no
    crossing. Ahead for sure is where Student's 95 % band around the mean difference does not
    contain 0, each point for itself. Mean and band are linear in the logarithm of the labels
    between budgets.

    Args:
      labels: [points], ascending.
      differences: [points, S], a column for each paired run.

    >>> found = crossing([1, 4, 16], np.array([[-2.0, -2.1], [-1.0, -0.9], [1.0, 1.1]]))
    >>> round(found.labels, 1), found.relation, found.sure
    (7.7, '=', True)
    """
    places = np.log(labels)
    mean, error = np.array([statistics.mean_and_error(each) for each in differences]).T
    half = statistics.interval(1.0, differences.shape[1]) * error
    curves = mean, mean - half, mean + half
    nodes = np.unique(np.concatenate([places, *(_zeros(places, curve) for curve in curves)]))
    # No curve changes its sign within one of these pieces.
    middles = (nodes[1:] + nodes[:-1]) / 2
    value, lower, upper = (np.interp(middles, places, curve) for curve in curves)
    lead = np.concatenate([[0.0], np.cumsum(value * np.diff(nodes))])
    turn = int(lead.argmin())
    behind, ahead = np.flatnonzero(upper[:turn] < 0), np.flatnonzero(lower[turn:] > 0)
    return Crossing(
        float(np.exp(nodes[turn])),
        {0: "<", len(nodes) - 1: ">"}.get(turn, "="),
        float(np.exp(nodes[behind[-1] + 1])) if behind.size else None,
        float(np.exp(nodes[turn + ahead[0]])) if ahead.size else None,
    )


def _zeros(places: np.ndarray, curve: np.ndarray) -> np.ndarray:
    """Where a curve through these points passes 0 between two of them."""
    passes = np.flatnonzero(curve[:-1] * curve[1:] < 0)
    share = curve[passes] / (curve[passes] - curve[passes + 1])
    return places[passes] + share * (places[passes + 1] - places[passes])


def of_pairs(
    runs: Sequence[dict[str, Any]],
    heads: Sequence[str],
    groups: Sequence[Sequence[str]],
    num_classes: Mapping[str, int],
) -> list[dict[str, Any]]:
    """The crossing of every strategy with all those of later groups, for each pool and head.

    Args:
      runs: those of `round_runs.gather`.
      groups: strategies, from those that should do best with few labels to those that should with
        many.
      num_classes: of each pool; labels are counted per class.

    `first` and `last`: the mean difference, later less earlier, at the first and last budget.
    """
    pairs = [pair for groups in combinations(groups, 2) for pair in product(*groups)]
    entries = []
    for head in heads:
        series = contrasts.series(runs, f"accuracy {head}")
        for pool, (earlier, later) in product(num_classes, pairs):
            ours, theirs = series[pool, later, "none"], series[pool, earlier, "none"]
            differences = ours.values - theirs.values
            labels = [budget / num_classes[pool] for budget in ours.budgets]
            found = crossing(labels, differences)
            first, *_, last = differences.mean(axis=1).round(6).tolist()
            entries.append(
                dict(pool=pool, head=head, earlier=earlier, later=later, first=first, last=last)
                | asdict(found)
                | dict(sure=found.sure)
            )
    return entries


def table(found: Sequence[dict[str, Any]], per_class: Sequence[int]) -> str:
    """The entries of one pool under one head. per_class: the budgets."""
    start, end = per_class[0], per_class[-1]
    words = {"<": "from the first budget on", ">": "nowhere"}
    lines = [
        [
            entry["earlier"],
            entry["later"],
            f"{entry['first']:+.1f}",
            f"{entry['last']:+.1f}",
            words.get(entry["relation"], f"{entry['labels']:.1f}"),
            between(entry, start, end),
            "yes" if entry["sure"] else "no",
        ]
        for entry in found
    ]
    header = ["earlier", "later", f"at {start}", f"at {end}", "overtakes at", "interval", "sure"]
    return report.markdown(header, lines)


def between(entry: dict[str, Any], start: float, end: float) -> str:
    """The interval of a crossing as text, budgets going from `start` to `end`.

    >>> between(dict(low=2.5, high=None), 1, 40)
    '2.5 to >40'
    """
    low, high = entry["low"], entry["high"]
    return " to ".join(
        [
            f"<{start:g}" if low is None else f"{low:.1f}",
            f">{end:g}" if high is None else f"{high:.1f}",
        ]
    )
