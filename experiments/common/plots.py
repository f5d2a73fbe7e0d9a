"""Plots in one style: a colour for each strategy, dashed alone and solid with a rule, the legend
outside.

Figures are drawn without pyplot, so nothing global is touched and the same numbers give the same
file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from balal.extras import Extra

with Extra("experiments"):
    import matplotlib
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

# Okabe and Ito's palette, which colour-blind readers can tell apart too, for the strategies that
# are always shown; softer tones for the others.
COLOURS = {
    "random": "#555555",
    "ent": "#D55E00",
    "ent_inv": "#E69F00",
    "ent_inv_div": "#0072B2",
    "lc_inv_div": "#56B4E9",
    "core_set": "#009E73",
    "ent_div": "#F0A27A",
    "ms": "#882255",
    "ms_inv": "#CC79A7",
    "ms_div": "#AA4499",
    "ms_inv_div": "#DDA9C9",
    "lc": "#6B4C1E",
    "lc_inv": "#A98A4B",
    "lc_div": "#C9B58A",
}
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.4,
    "savefig.dpi": 220,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Curve:
    """One strategy over the number of labels: `values` [S, points], one row a seed. after: of
    balancing."""

    strategy: str
    after: bool
    labels: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Histogram:
    """Class counts [C] of one strategy's labelled set, alone and with a rule (None: not run)."""

    strategy: str
    before: np.ndarray | None
    after: np.ndarray | None


def accuracy(path: Path, curves: Sequence[Curve], *, rule: str, budgets: Sequence[int]) -> None:
    """Balanced accuracy against budget, with a band of one standard deviation where there are
    seeds."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            _draw(axes, curve, marker="o")
        budget_axis(axes, budgets)
        axes.set(xlabel="budget (labels)", ylabel="balanced accuracy (%)")
        _legend(figure, curves, rule)
        figure.savefig(path)


def balance(
    path: Path,
    ratios: Sequence[Curve],
    found: Sequence[Curve],
    *,
    rule: str,
    expected: tuple[np.ndarray, ...],
    num_classes: int,
) -> None:
    """Imbalance ratio and classes found against the number of labels, beside what random sampling
    is expected to give.

    expected: labels [points], and the expected ratio and classes found there.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 3.0), layout="constrained")
        left, right = figure.subplots(1, 2, gridspec_kw=dict(wspace=0.06))
        labels, ratio, classes = expected
        for axes, curves, baseline in ((left, ratios, ratio), (right, found, classes)):
            for curve in curves:
                _draw(axes, curve)
            axes.plot(
                labels, baseline, color="black", linestyle=(0, (1, 1.5)), linewidth=1.6, zorder=5
            )
            axes.set(xlabel="labels", xscale="log", xlim=(labels[0], labels[-1]))
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
        left.set(ylabel="imbalance ratio", ylim=(0, None))
        right.set(ylabel=f"classes found (of {num_classes})", ylim=(0, num_classes * 1.03))
        right.yaxis.set_major_locator(_whole_numbers())
        _legend(
            figure,
            ratios,
            rule,
            Line2D(
                [],
                [],
                color="black",
                linestyle=(0, (1, 1.5)),
                linewidth=1.6,
                label="random, expected",
            ),
        )
        figure.savefig(path)


def histograms(
    path: Path, panels: Sequence[Histogram], *, rule: str, sizes: np.ndarray, budget: int
) -> None:
    """Labels of every class, alone and with a rule, one panel a strategy; classes from the pool's
    largest to its smallest."""
    order = np.argsort(-sizes, kind="stable")
    columns = min(len(panels), 3)
    rows = -(-len(panels) // columns)
    top = 1.05 * max(
        counts.max()
        for panel in panels
        for counts in (panel.before, panel.after)
        if counts is not None
    )
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(
            figsize=(max(2.4 * columns, 3.6) + 0.1, 1.55 * rows + 0.35), layout="constrained"
        )
        grid = np.atleast_1d(
            figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        ).ravel()
        for axes in grid[len(panels) :]:
            axes.set_axis_off()
        # A square-root axis: one spike does not flatten the rest, and classes with a label or two
        # still show.
        grid[0].set_yscale(
            "function", functions=(lambda counts: np.sqrt(np.maximum(counts, 0)), np.square)
        )
        grid[0].yaxis.set_major_locator(
            FixedLocator([0, 5, 20, 50, 100, 200, 500, 1000, 2000, 5000])
        )
        grid[0].xaxis.set_major_locator(_whole_numbers())
        for axes, panel in zip(grid, panels, strict=False):
            colour = COLOURS.get(panel.strategy, "#333333")
            edges = np.arange(len(sizes) + 1)
            if panel.before is not None:
                axes.stairs(panel.before[order], edges, fill=True, color="#C9C9C9", linewidth=0)
            if panel.after is not None:
                axes.stairs(panel.after[order], edges, baseline=None, color=colour, linewidth=1.1)
            ratio = " → ".join(
                f"{counts.std() / counts.mean():.2f}"
                for counts in (panel.before, panel.after)
                if counts is not None
            )
            axes.axhline(budget / len(sizes), color="black", linestyle=(0, (1, 1.5)), linewidth=0.9)
            axes.set(xlim=(0, len(sizes)), ylim=(0, top))
            axes.set_title(panel.strategy, loc="left", color=colour, fontweight="bold")
            axes.set_title(f"ratio {ratio}", loc="right")
        figure.supylabel(f"labels of {budget}", fontsize=8)
        figure.supxlabel("classes, from the pool's largest to its smallest", fontsize=8)
        legend: list[Artist] = [
            Line2D(
                [],
                [],
                color="black",
                linestyle=(0, (1, 1.5)),
                linewidth=0.9,
                label="perfectly balanced",
            )
        ]
        if any(panel.after is not None for panel in panels):
            legend.insert(0, Line2D([], [], color="#333333", linewidth=1.1, label=f"+{rule}"))
        if any(panel.before is not None for panel in panels):
            legend.insert(0, Patch(color="#C9C9C9", label="alone"))
        figure.legend(handles=legend, loc="outside upper center", ncols=3)
        figure.savefig(path)


def _draw(axes: Axes, curve: Curve, marker: str | None = None) -> None:
    colour, mean = COLOURS.get(curve.strategy, "#333333"), curve.values.mean(axis=0)
    if len(curve.values) > 1:
        spread = curve.values.std(axis=0, ddof=1)
        axes.fill_between(
            curve.labels, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0
        )
    # The open marker of a dashed line and the full one of a solid line keep the two apart where
    # they cross.
    face = colour if curve.after else "white"
    style = "-" if curve.after else (0, (4, 2))
    axes.plot(
        curve.labels,
        mean,
        color=colour,
        linestyle=style,
        marker=marker,
        markersize=4,
        markerfacecolor=face,
        zorder=3 + curve.after,
    )


def _whole_numbers() -> MaxNLocator:
    """The usual ticks of an axis, but none between two classes."""
    return MaxNLocator("auto", steps=[1, 2, 2.5, 5, 10], integer=True)


def budget_axis(axes: Axes, budgets: Sequence[int]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(list(budgets), [str(budget) for budget in budgets])
    axes.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, curves: Sequence[Curve], rule: str, *others: Line2D) -> None:
    there = {curve.after for curve in curves}
    style = "-" if True in there else (0, (4, 2))
    handles = [
        Line2D([], [], color=COLOURS.get(strategy, "#333333"), linestyle=style, label=strategy)
        for strategy in dict.fromkeys(curve.strategy for curve in curves)
    ]
    if there == {False, True}:
        handles.append(Line2D([], [], color="#333333", linestyle=(0, (4, 2)), label="alone"))
        handles.append(Line2D([], [], color="#333333", label=f"+{rule}"))
    figure.legend(handles=[*handles, *others], loc="outside right center")


@dataclass(frozen=True)
class Point:
    """A mean of one strategy under one rule on one pool at one budget. error: how far its interval
    reaches to either side."""

    pool: str
    strategy: str
    rule: str
    budget: int
    mean: float
    error: float


def rule_accuracy(
    path: Path, points: Sequence[Point], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Accuracy against budget, a row of panels a pool, a column a strategy, a colour a rule; bands
    of one error.

    rows: pools. columns: strategies; one that is not among them is drawn in every panel of its
    pool.
    """
    columns = columns or [""]
    with matplotlib.rc_context(STYLE):
        figure, grid = _rule_grid(points, rows, columns, sharey="row")
        for pool, strategy, axes in _panels(grid, rows, columns):
            there = [
                point
                for point in points
                if point.pool == pool
                and (point.strategy == strategy or point.strategy not in columns)
            ]
            if not any(point.strategy == strategy for point in there) and strategy:
                axes.set_axis_off()
                continue
            for name, line in _by_rule(there, columns).items():
                colour, style = _rule_style(name)
                budgets, mean, error = (
                    np.array([getattr(point, part) for point in line])
                    for part in ("budget", "mean", "error")
                )
                axes.fill_between(
                    budgets, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0
                )
                axes.plot(
                    budgets,
                    mean,
                    color=colour,
                    linestyle=style,
                    linewidth=1.2,
                    marker="o",
                    markersize=2.4,
                )
            budget_axis(axes, sorted({point.budget for point in there}))
            axes.tick_params(axis="x", labelsize=7)
        figure.supylabel("balanced accuracy (%)", fontsize=8)
        figure.supxlabel("budget (labels)", fontsize=8)
        _rule_legend(figure, _by_rule(points, columns), line=True)
        figure.savefig(path)


def round_curves(
    path: Path, points: Sequence[Point], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Accuracy against labels, a row of panels a pool, a column a head (the points' `strategy`), a
    colour a strategy (their `rule`); bands of one error."""
    names = list(dict.fromkeys(point.rule for point in points))
    # The palette has a colour for each name that is always shown; the others take turns.
    spare = iter([colour for name, colour in COLOURS.items() if name not in names] * len(names))
    colours = {name: COLOURS.get(name) or next(spare) for name in names}
    with matplotlib.rc_context(STYLE):
        figure, grid = _rule_grid(points, rows, columns, sharey="row")
        figure.set_size_inches(2.6 * len(columns) + 1.4, 2.1 * len(rows) + 0.6)
        for pool, head, axes in _panels(grid, rows, columns):
            for name, colour in colours.items():
                line = [point for point in points if (point.pool, point.strategy) == (pool, head)]
                line = sorted(
                    (point for point in line if point.rule == name), key=lambda each: each.budget
                )
                budgets, mean, error = (
                    np.array([getattr(point, part) for point in line])
                    for part in ("budget", "mean", "error")
                )
                axes.fill_between(
                    budgets, mean - error, mean + error, color=colour, alpha=0.15, linewidth=0
                )
                axes.plot(budgets, mean, color=colour, marker="o", markersize=2.4)
            budget_axis(axes, sorted({point.budget for point in points if point.pool == pool}))
            axes.tick_params(axis="x", labelsize=7)
        figure.supylabel("balanced accuracy (%)", fontsize=8)
        figure.supxlabel("labels", fontsize=8)
        handles = [
            Line2D([], [], color=colour, marker="o", markersize=3, label=name)
            for name, colour in colours.items()
        ]
        figure.legend(handles=handles, loc="outside right center")
        figure.savefig(path)


def rule_gains(
    path: Path, points: Sequence[Point], *, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Gain over no balancing with its interval, a row of panels a pool, a column a strategy; rules
    side by side, each in its colour."""
    with matplotlib.rc_context({**STYLE, "axes.grid": False}):
        figure, grid = _rule_grid(points, rows, columns, sharey="row")
        rules = list(_by_rule(points, columns))
        for pool, strategy, axes in _panels(grid, rows, columns):
            there = [point for point in points if (point.pool, point.strategy) == (pool, strategy)]
            if not there:
                axes.set_axis_off()
                continue
            budgets = sorted({point.budget for point in there})
            axes.axhline(0, color="black", linewidth=0.7, zorder=1)
            for column in range(0, len(budgets), 2):
                axes.axvspan(column - 0.5, column + 0.5, color="#F3F3F3", linewidth=0, zorder=0)
            for point in there:
                shift = 0.15 * (rules.index(point.rule) - (len(rules) - 1) / 2)
                colour, hollow = _rule_style(point.rule)[0], point.rule.startswith("oracle")
                axes.errorbar(
                    budgets.index(point.budget) + shift,
                    point.mean,
                    point.error,
                    color=colour,
                    marker="o",
                    markersize=3.2,
                    markerfacecolor="white" if hollow else colour,
                    markeredgewidth=0.9,
                    elinewidth=0.9,
                    linestyle="",
                    zorder=3,
                )
            axes.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
            axes.tick_params(axis="x", length=0)
            axes.set_xlim(-0.5, len(budgets) - 0.5)
        figure.supylabel("gain over no balancing (points)", fontsize=8)
        figure.supxlabel("budget (labels)", fontsize=8)
        _rule_legend(figure, rules, line=False)
        figure.savefig(path)


# No balancing is grey, rules are warm or blue, oracles green: at most two strong colours a family.
_RULE_STYLES: dict[str, tuple[str, Any]] = {
    "none": ("#777777", (0, (4, 2))),
    "balance": ("#0072B2", "-"),
    "balance_printed": ("#8CC4EA", "-"),
    "posterior": ("#D55E00", "-"),
    "posterior alone": ("#882255", (0, (1, 1.2))),
    "oracle_known": ("#8FD0B5", (0, (4, 1.5, 1, 1.5))),
    "oracle_all": ("#009E73", (0, (4, 1.5, 1, 1.5))),
}
_RULE_NAMES = {
    "none": "no balancing",
    "oracle_known": "oracle, known classes",
    "oracle_all": "oracle, all classes",
}


def _rule_style(name: str) -> tuple[str, Any]:
    return _RULE_STYLES.get(name, ("#333333", (0, (1, 1.2))))


def _rule_grid(
    points: Sequence[Point], rows: Sequence[str], columns: Sequence[str], *, sharey: Any
) -> tuple[Figure, np.ndarray]:
    most = max(len({point.budget for point in points if point.pool == pool}) for pool in rows)
    width = max(1.55, 0.36 * most) * len(columns) + 0.5
    figure = Figure(figsize=(max(width, 4.6), 1.55 * len(rows) + 0.85), layout="constrained")
    return figure, figure.subplots(len(rows), len(columns), sharey=sharey, squeeze=False)


def _panels(grid: np.ndarray, rows: Sequence[str], columns: Sequence[str]):
    """Every panel with its pool and strategy, titled: strategies above the first row, pools beside
    the first column."""
    for (row, column), axes in np.ndenumerate(grid):
        if row == 0:
            axes.set_title(columns[column], fontweight="bold")
        if column == 0:
            axes.set_ylabel(rows[row], fontweight="bold")
        yield rows[row], columns[column], axes


def _by_rule(points: Sequence[Point], columns: Sequence[str]) -> dict[str, list[Point]]:
    """The points of each rule in order of budget; a strategy without a column goes by its own
    name."""
    groups: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda point: point.budget):
        groups.setdefault(
            point.rule if point.strategy in columns else f"{point.strategy} alone", []
        ).append(point)
    ranked = list(_RULE_STYLES)
    return dict(
        sorted(
            groups.items(),
            key=lambda group: ranked.index(group[0]) if group[0] in ranked else len(ranked),
        )
    )


def _rule_legend(figure: Figure, rules: Sequence[str] | dict[str, Any], *, line: bool) -> None:
    handles = []
    for rule in rules:
        colour, style = _rule_style(rule)
        face = "white" if rule.startswith("oracle") and not line else colour
        look: dict[str, Any] = dict(
            linestyle=style if line else "", marker="o", markersize=3, markerfacecolor=face
        )
        handles.append(Line2D([], [], color=colour, label=_RULE_NAMES.get(rule, rule), **look))
    lines = -(-len(handles) // int(figure.get_figwidth() / 1.6))
    figure.legend(handles=handles, loc="outside upper center", ncols=-(-len(handles) // lines))
