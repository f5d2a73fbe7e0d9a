r"""Draws effect.png: what the posterior does to labels per class and to accuracy, beside random
sampling and balancing.

    python docs/effect.py                                draws what effect.json holds
    python docs/effect.py results/effect/results.json    makes effect.json anew first

The results are those of

    python -m experiments.one_shot --strategies=random --budgets=50,100,200,500,1000,2000 \
        --out=results/effect
"""

import json
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

HERE = Path(__file__).parent
POOL = HERE.parent / "experiments/data/cifar100_lite0_compact_pool.npz"
BUDGET = 500
GROUP = 10
# Rule, name, colour (Okabe and Ito's palette) and where its name stands in the right-hand panel.
LINES = (
    ("none", "random", "#7a7a7a", (1060, 37.5)),
    ("balance", "random+balance", "#0072b2", (110, 13.6)),
    ("posterior", "random+posterior", "#d55e00", (52, 42.0)),
)


def keep(path: Path) -> None:
    """Writes effect.json from the results of an experiment: accuracies, and labels per class."""
    results = json.loads(path.read_text())
    with np.load(POOL, allow_pickle=False) as pool:
        labels = pool["labels"]
    sizes = np.array(results["class_sizes"])
    budgets = results["configuration"]["budgets"]
    kept: dict = dict(
        class_sizes=np.sort(sizes)[::-1].tolist(), budgets=budgets, accuracy={}, labels_per_class={}
    )
    for rule, *_ in LINES:
        runs = [run for run in results["runs"] if run["rule"] == rule]
        kept["accuracy"][rule] = [
            [run["accuracy"] for run in runs if run["budget"] == budget] for budget in budgets
        ]
        counts = [
            np.bincount(labels[run["indices"]], minlength=len(sizes))
            for run in runs
            if run["budget"] == BUDGET
        ]
        mean = np.mean(counts, axis=0)[np.argsort(-sizes, kind="stable")]
        kept["labels_per_class"][rule] = mean.round(1).tolist()
    HERE.joinpath("effect.json").write_text(json.dumps(kept) + "\n")


def draw(kept: dict, path: Path) -> None:
    style = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(8.6, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1))
        num_classes = len(kept["class_sizes"])
        centres = np.arange(GROUP / 2, num_classes, GROUP)
        for rule, name, colour, place in LINES:
            counts = np.array(kept["labels_per_class"][rule]).reshape(-1, GROUP).mean(1)
            left.plot(centres, counts, "o-", color=colour, linewidth=1.8, markersize=4)
            accuracy = np.array(kept["accuracy"][rule])
            mean, spread = accuracy.mean(1), accuracy.std(1, ddof=1)
            right.fill_between(
                kept["budgets"], mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0
            )
            right.plot(kept["budgets"], mean, "o-", color=colour, linewidth=1.8, markersize=4)
            right.annotate(name, place, color=colour, weight="bold", ha="left")
        left.axhline(BUDGET / num_classes, color="black", linestyle=(0, (1, 1.5)), linewidth=1)
        left.annotate("perfectly balanced", (99, BUDGET / num_classes + 0.25), ha="right")
        left.set(xlim=(0, num_classes), ylim=0)
        left.grid(color="#ececec", linewidth=0.8)
        left.set_axisbelow(True)
        left.set_xlabel(f"classes in groups of {GROUP}, from the pool's largest to its smallest")
        left.set_title(f"Labels per class, {BUDGET} labels bought", loc="left", fontsize=10)
        right.set(xscale="log", xticks=kept["budgets"], xticklabels=map(str, kept["budgets"]))
        right.xaxis.set_minor_locator(NullLocator())
        right.grid(color="#ececec", linewidth=0.8)
        right.set_axisbelow(True)
        right.set_xlabel("labels bought")
        right.set_title("Balanced test accuracy, %", loc="left", fontsize=10)
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        keep(Path(argument))
    draw(json.loads(HERE.joinpath("effect.json").read_text()), HERE / "effect.png")
