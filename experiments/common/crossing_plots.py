"""The picture of experiments.budgets: accuracy less random's over labels per class, and below it
where each pair of opposite strategies crosses."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from balal.extras import Extra
from experiments.common import plots

with Extra("experiments"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Blue and green for typical rows first, black for what stands beside, warm colours for atypical
# rows first: a family shows before its members do. The palette is Okabe and Ito's.
_TONES = (
    ("#0072B2", "#56B4E9", "#009E73"),
    ("#111111", "#777777"),
    ("#777777",),
    ("#D55E00", "#E69F00", "#882255"),
)
_GREY = "#555555"


def draw(path: Path, result: Mapping[str, Any], head: str) -> None:
    """The curves of a results.json of experiments.budgets under one head, a column a pool, with
    the 95 % band of the difference to random; below, the crossings with their intervals."""
    settings = result["configuration"]
    typical, beside, _, atypical = groups = settings["groups"]
    colours = {
        name: tones[place % len(tones)]
        for group, tones in zip(groups, _TONES, strict=True)
        for place, name in enumerate(group)
    }
    pairs = list(product(typical, atypical))
    pools = settings["budgets"]
    heights = [2.3, 0.3 + 0.13 * len(pairs)]
    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=(2.3 * len(pools) + 2.6, sum(heights) + 0.5), layout="constrained")
        grid = figure.subplots(
            2, len(pools), sharex="col", sharey="row", squeeze=False, height_ratios=heights
        )
        for (above, below), (pool, budgets) in zip(grid.T, pools.items(), strict=True):
            above.set_title(pool, fontweight="bold")
            for name in (*typical, *beside, *atypical):
                _curve(above, _cells(result, pool, head, name), budgets, colours[name])
            above.axhline(0, color=_GREY, linewidth=1.0, zorder=1)
            found = {
                (entry["earlier"], entry["later"]): entry
                for entry in result["crossings"]
                if (entry["pool"], entry["head"]) == (pool, head)
            }
            for row, pair in enumerate(pairs):
                _mark(below, row, found[pair], budgets, [colours[name] for name in pair])
            plots.budget_axis(below, budgets)
            below.set_xlim(budgets[0] / 1.25, budgets[-1] * 1.25)
        first = grid[1, 0]
        first.set_yticks(range(len(pairs)), [f"{one} → {other}" for one, other in pairs])
        first.tick_params(axis="y", labelsize=6.5, length=0)
        first.set_ylim(len(pairs) - 0.4, -0.6)
        grid[0, 0].set_ylabel("accuracy less random's (points)")
        figure.supxlabel("labels per class", fontsize=8)
        _legend(figure, groups, colours)
        figure.savefig(path)


def _cells(result: Mapping[str, Any], pool: str, head: str, name: str) -> list[dict[str, Any]]:
    """The differences of a strategy to random, budget by budget."""
    wanted = pool, head, name
    return [
        cell
        for cell in result["differences"]
        if (cell["pool"], cell["head"], cell["strategy"]) == wanted
    ]


def _curve(axes: Axes, cells: list[dict[str, Any]], budgets: list[int], colour: str) -> None:
    mean, half = (np.array([cell[part] for cell in cells]) for part in ("mean", "half_interval"))
    axes.fill_between(budgets, mean - half, mean + half, color=colour, alpha=0.13, linewidth=0)
    axes.plot(budgets, mean, color=colour, marker="o", markersize=2.2, linewidth=1.2, zorder=3)


def _mark(
    axes: Axes, row: int, entry: dict[str, Any], budgets: list[int], colours: list[str]
) -> None:
    """A crossing: a dot of both colours. Where there is none, a triangle of the colour that is
    ahead, at the end where the crossing would lie beyond."""
    start, end = budgets[0], budgets[-1]
    low, high = entry["low"], entry["high"]
    reach = start / 1.25 if low is None else low, end * 1.25 if high is None else high
    axes.plot(reach, (row, row), color="#AAAAAA", linewidth=1.6, zorder=2)
    look: dict[str, Any] = dict(markeredgewidth=0, linestyle="", zorder=3, clip_on=False)
    if entry["relation"] == "=":
        earlier, later = colours
        look |= dict(marker="o", fillstyle="left", markersize=5.4)
        axes.plot(entry["labels"], row, color=earlier, markerfacecoloralt=later, **look)
    else:
        ahead = colours[entry["relation"] == "<"]
        marker = "<" if entry["relation"] == "<" else ">"
        axes.plot(entry["labels"], row, color=ahead, marker=marker, markersize=4.6, **look)


def _legend(figure: Figure, groups: list[list[str]], colours: dict[str, str]) -> None:
    """Strategies by group, and what the marks below mean."""
    nothing: dict[str, Any] = dict(linestyle="", color="none")
    titles = dict(enumerate(("typical rows first", "", "", "atypical rows first")))
    handles = []
    for place, group in enumerate(groups):
        if titles[place]:
            handles.append(Line2D([], [], label=titles[place], **nothing))
        for name in group:
            handles.append(Line2D([], [], color=colours[name], label=name))
    handles += [
        Line2D([], [], label="", **nothing),
        Line2D(
            [],
            [],
            color="#AAAAAA",
            marker="o",
            markersize=5.4,
            markerfacecolor=_GREY,
            markeredgewidth=0,
            label="crossing, 95 % interval",
        ),
        Line2D(
            [],
            [],
            marker=">",
            color=_GREY,
            markersize=4.6,
            linestyle="",
            label="none: the earlier stays ahead",
        ),
        Line2D(
            [],
            [],
            marker="<",
            color=_GREY,
            markersize=4.6,
            linestyle="",
            label="none: the later is always ahead",
        ),
    ]
    figure.legend(handles=handles, loc="outside right center")
