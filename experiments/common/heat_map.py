"""A picture of differences: methods in rows, budgets in columns, a panel for each pool, regime and
head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balal.extras import Extra
from experiments.common import contrasts

with Extra("experiments"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_STYLE: dict[Any, Any] = {"font.size": 7, "axes.titlesize": 8, "savefig.dpi": 200}
# Differences beyond so many points have the full colour.
_MOST = 10.0


def differences(path: Path, cells: Sequence[dict[str, Any]], *, against: str) -> None:
    """Draws the entries of `comparison.cells`; methods in the order of their mean difference.

    A square is blue where the method is ahead of `against` and red where it is behind, with the
    difference in points; bold where it is significant.
    """
    methods = _ordered(cells)
    rows = list(dict.fromkeys((cell["pool"], cell["regime"]) for cell in cells))
    heads = list(dict.fromkeys(cell["head"] for cell in cells))
    widths = [len({c["budget"] for c in cells if (c["pool"], c["regime"]) == row}) for row in rows]
    with matplotlib.rc_context(_STYLE):
        size = (
            1.6 + max(0.42 * max(widths), 1.3) * len(heads),
            0.5 + (0.6 + 0.16 * len(methods)) * len(rows),
        )
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(len(rows), len(heads), squeeze=False)
        for panels, (pool, regime) in zip(grid, rows, strict=True):
            for axes, head in zip(panels, heads, strict=True):
                own = [
                    cell
                    for cell in cells
                    if (cell["pool"], cell["regime"], cell["head"]) == (pool, regime, head)
                ]
                _panel(axes, own, methods)
                axes.set_title(f"{pool}, {regime}\n{head}")
                if axes is not panels[0]:
                    axes.set_yticklabels([])
        for axes in grid[-1]:
            axes.set_xlabel("labels")
        figure.suptitle(f"points ahead of (blue) and behind (red) {against}", fontsize=8)
        figure.savefig(path)


def _ordered(cells: Sequence[dict[str, Any]]) -> list[str]:
    found: dict[str, list[float]] = {}
    for cell in cells:
        found.setdefault(cell["method"], []).append(cell["difference"] or 0.0)
    return sorted(found, key=lambda method: -float(np.mean(found[method])))


def _panel(axes: Axes, cells: Sequence[dict[str, Any]], methods: Sequence[str]) -> None:
    budgets = sorted({cell["budget"] for cell in cells})
    values = np.full((len(methods), len(budgets)), np.nan)
    for cell in cells:
        place = methods.index(cell["method"]), budgets.index(cell["budget"])
        values[place] = cell["difference"] or 0.0
        sure = cell["p_holm"] is not None and cell["p_holm"] <= contrasts.SIGNIFICANT
        axes.text(
            place[1],
            place[0],
            "" if cell["difference"] is None else f"{cell['difference']:+.1f}",
            ha="center",
            va="center",
            fontsize=5.5,
            fontweight="bold" if sure else "normal",
            color="white" if abs(values[place]) > 0.7 * _MOST else "#222222",
        )
    axes.imshow(values, cmap="RdBu", vmin=-_MOST, vmax=_MOST, aspect="auto")
    axes.set_xticks(range(len(budgets)), [str(budget) for budget in budgets])
    axes.set_yticks(range(len(methods)), methods)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
