"""How long does a whole balancing simulation take, beside NumPy doing the same rule?

    python -m benchmarks.balancing                          17,168 x 1,280, 100 classes, b = 2,000; about three minutes on two cores
    python -m benchmarks.balancing --rows=2000 --size=64 --budget=200 --repeats=1
    python -m benchmarks.balancing --features=full.npz      a file with `pool_features` or `features`, and `pool_labels` or `labels`

Every rival follows the same random order until the same switch and then the same rule (`min`, patience 3). The picks are compared.
Times are medians of repeats, of one process, so read the ratios.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

import balal

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 17_168, "Rows of the synthetic pool.", lower_bound=10)
flags.DEFINE_integer("size", 1_280, "Feature size D of the synthetic pool.", lower_bound=1)
flags.DEFINE_integer("num_classes", 100, "Target classes C, long-tailed.", lower_bound=2)
flags.DEFINE_integer("budget", 2_000, "Labels to buy.", lower_bound=1)
flags.DEFINE_integer("repeats", 3, "Timed runs of each rival; the median is printed.", lower_bound=1)
flags.DEFINE_integer("naive_picks", 10, "Picks that the naive rival is timed on; its total is extrapolated.", lower_bound=1)
flags.DEFINE_string("features", None, "An .npz file to use in place of the synthetic pool.")
flags.DEFINE_string("out", None, "Folder for balancing.json.")


def synthetic(rows: int, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A long-tailed pool of Gaussian classes whose means are as far apart as their spread: features float32 [N, D], labels [N]."""
    rng = np.random.default_rng(0)
    share = np.exp(-2.7 * np.arange(num_classes) / num_classes)
    labels = rng.choice(num_classes, rows, p=share / share.sum())
    means = rng.normal(size=(num_classes, size))
    return (means[labels] + rng.normal(size=(rows, size))).astype(np.float32), labels


def loaded(path: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        names = ("pool_features", "pool_labels") if "pool_features" in file else ("features", "labels")
        features, labels = (file[name] for name in names)
        return features * file["scale"] if "scale" in file else features.astype(np.float32), labels


def numpy_balancing(
    features: np.ndarray, labels: np.ndarray, order: np.ndarray, switched_at: int, budget: int, num_classes: int, *, naive: bool, stop: int
) -> np.ndarray:
    """The rule in plain float32 NumPy. One matrix-vector product a pick, or, naive, all distances to all means anew."""
    picks = [int(row) for row in order[:switched_at]]
    free = np.ones(len(features), bool)
    free[picks] = False
    norms = np.einsum("nd,nd->n", features, features)
    counts, misses = np.bincount(labels[picks], minlength=num_classes), np.zeros(num_classes, int)
    sums = np.zeros((num_classes, features.shape[1]), np.float32)
    np.add.at(sums, labels[picks], features[picks])
    distances = np.full((num_classes, len(features)), np.inf, np.float32)

    def refresh(c: int) -> None:
        mean = sums[c] / np.float32(counts[c])  # an integer would make it, and a copy of the features, float64
        distances[c] = np.maximum(norms - 2 * (features @ mean) + mean @ mean, 0)

    for c in np.flatnonzero(counts):
        refresh(c)
    while len(picks) < min(budget, stop):
        if naive:
            means = sums / np.maximum(counts, 1).astype(np.float32)[:, None]
            distances = np.maximum(norms - 2 * (means @ features.T) + np.einsum("cd,cd->c", means, means)[:, None], 0)
        known = np.flatnonzero(counts)
        wanted = min(known, key=lambda c: (misses[c] // 3, counts[c], c))
        over = known[counts[known] * len(known) > len(picks)]
        ratio = distances[wanted] / distances[over].min(axis=0)
        pick = int(np.argmin(np.where(free, ratio, np.inf)))
        label = labels[pick]
        misses[wanted] = 0 if label == wanted else misses[wanted] + 1
        free[pick] = False
        counts[label] += 1
        sums[label] += features[pick]
        picks.append(pick)
        if not naive:
            refresh(label)
    return np.array(picks)


def timed(run: Callable[[], object], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    if FLAGS.features:
        features, labels = loaded(FLAGS.features)
    else:
        features, labels = synthetic(FLAGS.rows, FLAGS.size, FLAGS.num_classes)
    features -= features.mean(axis=0)
    num_classes, budget = int(labels.max()) + 1, FLAGS.budget
    pool, strategy, key = balal.pool(features), balal.strategy("random+balance"), jax.random.key(0)

    def ours():
        return jax.block_until_ready(balal.one_shot(strategy, pool, labels, budget=budget, num_classes=num_classes, key=key))

    compiling = timed(ours, 1)
    result = ours()
    seconds = timed(ours, FLAGS.repeats)
    switched_at = int(result.switched_at) if int(result.switched_at) >= 0 else budget
    order, rule = np.asarray(result.indices), budget - switched_at

    def rival(naive: bool, stop: int = budget) -> np.ndarray:
        return numpy_balancing(features, labels, order, switched_at, budget, num_classes, naive=naive, stop=stop)

    incremental = timed(lambda: rival(False), FLAGS.repeats)
    same = float(np.mean(rival(False) == order))
    few = min(FLAGS.naive_picks, rule)
    setup = timed(lambda: rival(True, switched_at), 1)
    naive = (timed(lambda: rival(True, switched_at + few), 1) - setup) / max(few, 1) * rule + setup
    ran = f"{len(features):,} x {features.shape[1]:,}, C = {num_classes}, b = {budget:,}, balancing from label {switched_at:,} on"
    rows = [
        ("balal, one compiled program", seconds, f"first call with compilation {compiling:.1f} s"),
        ("NumPy, one matrix-vector product a pick", incremental, f"{same:.1%} of the picks at the same place"),
        (f"NumPy, all distances anew (from {few} picks)", naive, "extrapolated"),
    ]
    print(f"\nBalancing simulation: {ran}\n")
    print("| program | seconds | ms a balancing pick | times ours | |\n|---|---|---|---|---|")
    for name, value, note in rows:
        print(f"| {name} | {value:.2f} | {1000 * value / max(rule, 1):.2f} | {value / seconds:.1f} | {note} |")
    device = jax.devices()[0].device_kind
    print(f"\n{device}, {os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}, NumPy {np.__version__}")
    if FLAGS.out:
        folder = Path(FLAGS.out)
        folder.mkdir(parents=True, exist_ok=True)
        figures = [dict(program=name, seconds=value, ratio=value / seconds, note=note) for name, value, note in rows]
        (folder / "balancing.json").write_text(json.dumps(dict(workload=ran, rows=figures, jax=jax.__version__), indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
