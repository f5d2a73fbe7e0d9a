"""How the top-1 source classes are spread over pools, and what measures of features are worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from balal.extras import Extra
from experiments.common.plots import COLOURS, STYLE

with Extra("experiments"):
    import matplotlib
    from matplotlib.figure import Figure


def source_classes(path: Path, counts: Mapping[str, np.ndarray], effective: Mapping[str, float]):
    """The rows of each source class, by pool from the most frequent class on, on a logarithmic
    axis; a dotted line at the effective number of classes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(5.4, 3.3), layout="constrained")
        axes = figure.subplots()
        for colour, (pool, found) in zip(list(COLOURS.values()) * 9, counts.items(), strict=False):
            ordered = np.sort(found[found > 0])[::-1]
            label = f"{pool}: {len(ordered)}, effectively {effective[pool]:.0f}"
            axes.plot(np.arange(1, len(ordered) + 1), ordered, color=colour, label=label)
            axes.axvline(effective[pool], color=colour, linestyle=(0, (1, 1.5)), linewidth=1.1)
        axes.set(yscale="log", xlim=(0, None), ylim=(0.8, None))
        axes.set(xlabel="source classes, the most frequent first", ylabel="rows predicted as it")
        figure.legend(loc="outside right upper")
        figure.savefig(path)


def measures(path: Path, rows: Sequence[dict[str, Any]], names: Mapping[str, str]) -> None:
    """Accuracy against every measure, a panel each; a colour for each kind of features."""
    kinds = list(dict.fromkeys(_kind(row["version"]) for row in rows))
    colours = dict(zip(kinds, COLOURS.values(), strict=False))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(2.0 * len(names) + 0.2, 2.5), layout="constrained")
        panels = figure.subplots(1, len(names), sharey=True)
        for axes, (name, title) in zip(panels, names.items(), strict=True):
            for kind in kinds:
                here = [row for row in rows if _kind(row["version"]) == kind]
                here = [row for row in here if row[name] is not None]
                values, accuracies = ([row[part] for row in here] for part in (name, "accuracy"))
                axes.plot(values, accuracies, "o", color=colours[kind], markersize=3, label=kind)
            axes.set(xlabel=title)
        panels[0].set(ylabel="balanced accuracy (%)")
        handles = panels[-1].get_legend_handles_labels()
        figure.legend(*handles, loc="outside upper center", ncols=len(kinds))
        figure.savefig(path)


def _kind(version: str) -> str:
    """How a version was made, without the size of the noise or the name of the network."""
    return {"noise": "noise", "random": "random weights"}.get(version.split()[0], version)
