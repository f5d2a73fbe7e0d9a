r"""Which rows do opposite strategies ask for? A picture in two dimensions.

A mixture of Gaussians has common classes, in tones of grey, and rare ones, in colours. Columns are
strategies, rows are budgets, and the picks are numbered in order: typical rows first, or rows at
the edge, or rows between two classes. Every answer is told before the next round, to strategies
that look at answers before the next pick; those that ask a target model begin at random.

    python -m experiments.mixture
    python -m experiments.mixture --strategies=max_herding,prob_cover,u_herding --budgets=10,30
    python -m experiments.mixture --strategies=mine.py:Largest --seed=3

Written to --out: mixture.png, and mixture.json with every point and pick.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

import balal
from balal import folder_lock
from balal.atomic_files import together
from balal.extras import Extra
from experiments.common import buying, draws, plots, program, report, target_models

with Extra("experiments"):
    import matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

# Rows, middle and spread of each class.
CLASSES = (
    (260, (-1.6, 0.0), (1.0, 1.0)),
    (120, (1.5, -0.6), (0.9, 0.8)),
    (60, (0.4, 2.0), (0.7, 0.6)),
    (16, (3.9, 1.7), (0.3, 0.3)),
    (12, (-1.0, -3.3), (0.3, 0.25)),
    (8, (-2.7, 2.9), (0.25, 0.25)),
)
COLOURS = ("#D4D4D4", "#A6A6A6", "#707070", "#0072B2", "#D55E00", "#009E73")
FILE = "mixture.json"
# How far apart the numbers of two picks are drawn, in the units of the plane.
APART = 0.62
# Of the features: how many, and within what distance points are alike.
FREQUENCIES, WIDTH = 256, 2.0


def define_flags(flag_values: flags.FlagValues) -> None:
    """The flags of the program."""
    own: dict[str, Any] = dict(flag_values=flag_values)
    flags.DEFINE_list(
        "strategies", ["typiclust", "core_set", "ms", "posterior"], "The columns, by name.", **own
    )
    flags.DEFINE_list("budgets", ["6", "12", "24"], "The rows, in labels.", **own)
    flags.DEFINE_integer("seed", 0, "Seed of everything random.", lower_bound=0, **own)
    flags.DEFINE_string("out", "results/mixture", "Folder for everything that is written.", **own)


def main(flag_values: flags.FlagValues) -> None:
    """Runs the program."""
    strategies = buying.listed(flag_values.strategies, target_model=True)
    budgets = program.numbers("budgets", flag_values.budgets, int)
    buying.check_budgets(budgets, sum(rows for rows, _, _ in CLASSES))
    points, labels = mixture(flag_values.seed)
    picks = {
        name: bought(name, points, labels, budgets, seed=flag_values.seed) for name in strategies
    }
    out = Path(flag_values.out)
    result = dict(
        seed=flag_values.seed,
        points=points.round(4).tolist(),
        labels=labels.tolist(),
        picks={name: rows.tolist() for name, rows in picks.items()},
        **report.made_with(),
    )
    with folder_lock.locked(out, first=FILE), together(out, first=FILE) as staged:
        draw(staged / "mixture.png", points, labels, picks, budgets)
        report.write_json(staged / FILE, result)
    found = [
        [name, *(str(len(set(labels[rows[:budget]].tolist()))) for budget in budgets)]
        for name, rows in picks.items()
    ]
    print(report.markdown(["classes found, labels", *map(str, budgets)], found))


def mixture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The points [N, 2] and their classes int32 [N]."""
    chance = np.random.default_rng(seed)
    points = [
        np.array(middle) + np.array(spread) * chance.normal(size=(rows, 2))
        for rows, middle, spread in CLASSES
    ]
    sizes = [rows for rows, _, _ in CLASSES]
    return np.concatenate(points), np.repeat(np.arange(len(CLASSES), dtype=np.int32), sizes)


def features_of(points: np.ndarray, *, seed: int) -> np.ndarray:
    """Unit rows whose inner products are near `exp(-(d / WIDTH)^2 / 2)`: [N, 2 FREQUENCIES].

    The strategies see these, as several of them normalise their rows, which would leave of a point
    only its direction.

    Source: Rahimi, Recht, *Random features for large-scale kernel machines*, NeurIPS 2007.
    """
    directions = np.random.default_rng(seed).normal(size=(2, FREQUENCIES)) / WIDTH
    waves = points @ directions
    return np.hstack([np.cos(waves), np.sin(waves)]).astype(np.float32) / math.sqrt(FREQUENCIES)


def bought(
    strategy: str, points: np.ndarray, labels: np.ndarray, budgets: Sequence[int], *, seed: int
) -> np.ndarray:
    """The rows that a strategy asks for, in order, in a round up to each budget: int [b]."""
    features, key = features_of(points, seed=seed), jax.random.key(seed)
    whole = draws.Draw(balal.pool(features), np.arange(len(labels)), key, key)
    rounds = target_models.bought(
        buying.without_source(balal.strategy(strategy), len(CLASSES)),
        whole,
        labels,
        features,
        sizes=np.diff([0, *budgets]).tolist(),
        first=None,
        start=np.zeros(0, np.int64),
        num_classes=len(CLASSES),
        key=key,
    )
    return np.concatenate(rounds)


def draw(
    path: Path,
    points: np.ndarray,
    labels: np.ndarray,
    picks: dict[str, np.ndarray],
    budgets: Sequence[int],
) -> None:
    """A column for each strategy, a row for each budget; the picks since the budget before are
    numbered."""
    shape = len(budgets), len(picks)
    with matplotlib.rc_context({**plots.STYLE, "axes.grid": False}):
        figure = Figure(figsize=(1.9 * shape[1] + 0.3, 1.48 * shape[0] + 0.5), layout="constrained")
        grid = figure.subplots(*shape, sharex=True, sharey=True, squeeze=False)
        starts = [0, *budgets[:-1]]
        for column, (name, rows) in enumerate(picks.items()):
            grid[0, column].set_title(name, fontweight="bold")
            for axes, start, end in zip(grid[:, column], starts, budgets, strict=True):
                _panel(axes, points, labels, rows[:end], start)
        for axes, budget in zip(grid[:, 0], budgets, strict=True):
            axes.set_ylabel(f"{budget} labels")
        handles = [
            Line2D(
                [],
                [],
                color=colour,
                marker="o",
                markersize=5,
                linestyle="",
                label=f"class of {rows}",
            )
            for (rows, _, _), colour in zip(CLASSES, COLOURS, strict=True)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(CLASSES))
        figure.savefig(path)


def _panel(axes: Axes, points: np.ndarray, labels: np.ndarray, rows: np.ndarray, new: int) -> None:
    """The pool, and of its labelled `rows` those from place `new` on with their numbers."""
    colours = np.array(COLOURS)[labels]
    axes.scatter(*points.T, s=3, c=colours, linewidths=0)
    axes.scatter(
        *points[rows].T, s=12, c=colours[rows], linewidths=0.6, edgecolors="black", zorder=3
    )
    numbered = rows[new:]
    places = apart(points[numbered])
    look: dict[str, Any] = dict(markersize=7.6, markeredgecolor="black", markeredgewidth=0.7)
    for number, (row, place) in enumerate(zip(numbered, places, strict=True), start=new + 1):
        axes.plot(*np.stack([points[row], place]).T, color="black", linewidth=0.7, zorder=4)
        axes.plot(*place, marker="o", color=colours[row], zorder=5, **look)
        across, up = place
        axes.text(
            across,
            up,
            str(number),
            color="black" if labels[row] < 2 else "white",
            fontsize=5.2,
            fontweight="bold",
            ha="center",
            va="center_baseline",
            zorder=6,
        )
    found = f"{len(set(labels[rows].tolist()))} of {len(CLASSES)} classes"
    axes.text(0.98, 0.02, found, transform=axes.transAxes, fontsize=6.5, ha="right", va="bottom")
    axes.set(xticks=[], yticks=[], aspect="equal")
    axes.margins(0.07)
    axes.spines[:].set(visible=True, color="#BBBBBB")


def apart(places: np.ndarray) -> np.ndarray:
    """Places near these [n, 2] of which no two are closer than APART, as far as there is room."""
    for _ in range(300):
        offsets = places[:, None] - places
        distances = np.linalg.norm(offsets, axis=2, keepdims=True) + np.eye(len(places))[..., None]
        push = np.maximum(APART - distances, 0) * offsets / distances
        places = places + 0.25 * push.sum(axis=1)
    return places


if __name__ == "__main__":
    program.run(main, define_flags)
