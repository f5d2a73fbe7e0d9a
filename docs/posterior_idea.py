"""Draws posterior_idea.png: a pool of directions after ten labels, and what the posterior makes of
it.

python docs/posterior_idea.py
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

matplotlib.use("agg")
import matplotlib.pyplot as plt

import balal
from balal.kernels import gaussian_process

SIZES = (260, 110, 60, 25, 15)
COLOURS = np.array(["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"])


def main() -> None:
    rng = np.random.default_rng(4)
    places = np.array([[-1.9, 0.5], [0.4, -0.6], [2.0, 0.5], [0.3, 0.85], [-2.2, -0.9]])
    labels = np.repeat(np.arange(len(SIZES)), SIZES)
    spread = np.array([0.34, 0.28, 0.26, 0.17, 0.15])[labels, None]
    longitude, latitude = (places[labels] + spread * rng.normal(size=(len(labels), 2))).T
    points = np.stack(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ],
        axis=1,
    )
    pool = balal.prepare(balal.Posterior(), balal.pool(points.astype(np.float32)))
    start = rng.permutation(np.flatnonzero(labels < 3))[:10]

    process = gaussian_process.begin(
        pool.features, capacity=10, num_classes=len(SIZES), scale=balal.Posterior().scale
    )
    process = gaussian_process.update(process, jnp.asarray(start), jnp.asarray(labels[start]))
    probabilities, unexplained = (
        np.asarray(values) for values in gaussian_process.explain(process)
    )
    # What an answer of each row explains, as the rule has it without its trust in guesses.
    counts = process.counts
    local = gaussian_process.localise(process, jnp.arange(len(labels)), len(labels))
    known = (counts / counts.sum()) @ (1 / (counts + 1))
    worth, best = gaussian_process.expected_worth(
        process.mean, 1 / (counts + 1), known, sharpness=2
    )
    worth = worth.at[start].set(0)
    explains = gaussian_process.coverage_gain(local, worth, best).at[start].set(0)
    picks = balal.simulate(
        balal.Posterior(),
        pool,
        labels,
        budget=8,
        num_classes=len(SIZES),
        key=jax.random.key(0),
        labelled=(start, labels[start]),
    ).indices

    figure, axes = plt.subplots(
        2, 2, figsize=(9, 5.4), sharex=True, sharey=True, layout="constrained"
    )
    shown = {
        f"The pool: five classes; ten labels, of {len(set(labels[start].tolist()))} of them": dict(
            c=COLOURS[labels], alpha=0.45
        ),
        "1  Which class? The likeliest, as strong as it is": dict(
            c=COLOURS[probabilities.argmax(1)], alpha=probabilities.max(1)
        ),
        "2  Something new? What no label explains": dict(
            c=unexplained, cmap="Greys", vmin=-0.15, vmax=0.6
        ),
        "3  What would an answer explain? The next eight questions": dict(
            c=np.asarray(explains), cmap="Greys", vmin=-0.1 * float(explains.max())
        ),
    }
    for axis, (title, look) in zip(axes.flat, shown.items(), strict=True):
        axis.scatter(longitude, latitude, s=14, linewidths=0, **look)
        axis.scatter(
            longitude[start],
            latitude[start],
            s=42,
            c=COLOURS[labels[start]],
            edgecolors="black",
            linewidths=1,
        )
        axis.set_title(title, fontsize=10, loc="left")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("#bbbbbb")
    for number, row in enumerate(np.asarray(picks), start=1):
        axes[1, 1].scatter(
            longitude[row],
            latitude[row],
            s=150,
            c=COLOURS[labels[row]],
            edgecolors="black",
            linewidths=0.8,
        )
        axes[1, 1].text(
            longitude[row],
            latitude[row] - 0.01,
            str(number),
            color="white",
            ha="center",
            va="center",
            fontsize=8,
            weight="bold",
        )
    figure.savefig(Path(__file__).with_name("posterior_idea.png"), dpi=110)


if __name__ == "__main__":
    main()
