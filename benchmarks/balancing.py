r"""How long does a whole simulation take with the balancing rules, compared with NumPy?

    python -m benchmarks.balancing        17,168 x 1,280, 100 classes, b = 2,000; some minutes on
                                          two cores
    python -m benchmarks.balancing --rows=2000 --size=64 --budget=200 --repeats=1
    python -m benchmarks.balancing --rows=1000000 --size=512 --num_classes=1000 --budget=1000 \
        --rule=balance --picks=20 --naive_picks=0
    python -m benchmarks.balancing --features=full.npz
                                          a file with `pool_features` or `features`, and
                                          `pool_labels` or `labels`

Every rival follows the same random order until the same rule takes over: balancing (`min`, patience
3), or the posterior of 0.1 with its defaults. The picks are compared, and the memory that the
compiled program needs besides its inputs is reported. Times are medians of repeats in one process,
so read the ratios.
"""

from typing import Any

import jax
import numpy as np
from absl import app, flags

import balal
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_integer("rows", 17_168, "Rows of the synthetic pool.", lower_bound=10)
flags.DEFINE_integer("size", 1_280, "Feature size D of the synthetic pool.", lower_bound=1)
flags.DEFINE_integer("num_classes", 100, "Target classes C, long-tailed.", lower_bound=2)
flags.DEFINE_integer("budget", 2_000, "Labels to buy.", lower_bound=1)
flags.DEFINE_enum("rule", None, ["balance", "posterior"], "The rule to time (default: both).")
flags.DEFINE_integer(
    "picks",
    None,
    "Balancing picks that NumPy is timed on; its total is extrapolated. Default: all.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "naive_picks", 10, "Those that the naive rival is timed on; 0 leaves it out.", lower_bound=0
)


def synthetic(rows: int, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A long-tailed pool of Gaussian classes whose means are as far apart as their spread: features
    float32 [N, D], labels [N]."""
    rng = np.random.default_rng(0)
    share = np.exp(-2.7 * np.arange(num_classes) / num_classes)
    labels = rng.choice(num_classes, rows, p=share / share.sum())
    means = rng.standard_normal((num_classes, size), np.float32)
    features = rng.standard_normal((rows, size), np.float32)
    features += means[labels]
    return features, labels


def numpy_balancing(
    features: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    switched_at: int,
    budget: int,
    num_classes: int,
    *,
    naive: bool,
) -> np.ndarray:
    """The rule in plain float32 NumPy. One matrix-vector product a pick, or, naive, all distances
    to all means anew."""
    picks = [int(row) for row in order[:switched_at]]
    free = np.ones(len(features), bool)
    free[picks] = False
    norms = np.einsum("nd,nd->n", features, features)
    counts, misses = np.bincount(labels[picks], minlength=num_classes), np.zeros(num_classes, int)
    sums = np.zeros((num_classes, features.shape[1]), np.float32)
    np.add.at(sums, labels[picks], features[picks])
    distances = np.full((num_classes, len(features)), np.inf, np.float32)

    def refresh(c: int) -> None:
        mean = sums[c] / np.float32(
            counts[c]
        )  # an integer would make it, and a copy of the features, float64
        distances[c] = np.maximum(norms - 2 * (features @ mean) + mean @ mean, 0)

    for c in np.flatnonzero(counts):
        refresh(c)
    while len(picks) < budget:
        if naive:
            means = sums / np.maximum(counts, 1).astype(np.float32)[:, None]
            distances = np.maximum(
                norms - 2 * (means @ features.T) + np.einsum("cd,cd->c", means, means)[:, None], 0
            )
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


def numpy_posterior(
    features: np.ndarray,
    labels: np.ndarray,
    order: np.ndarray,
    typicality: np.ndarray,
    begun: int,
    budget: int,
    num_classes: int,
) -> np.ndarray:
    """The posterior rule of 0.1 in plain float32 NumPy, the whole pool at every pick: one
    matrix-vector product each with features and columns."""
    rule = balal.strategies.Posterior01()
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    bandwidth = 1 - np.square(units.mean(axis=0)).sum()
    mean, variance = (
        np.zeros((num_classes, len(units)), np.float32),
        np.ones(len(units), np.float32),
    )
    columns, counts = np.zeros((budget, len(units)), np.float32), np.zeros(num_classes, np.float32)
    preference, free, picks = 1 - rule.typical * (1 - typicality), np.ones(len(units), bool), []
    for step in range(budget):
        if step < begun:
            pick = int(order[step])
        else:
            positive = np.maximum(mean, 0)
            explained = np.minimum(positive.sum(axis=0), 1)
            positive **= rule.sharpness
            total = positive.sum(axis=0)
            worth = (1 / (counts + 1)) @ positive * explained / np.where(total > 0, total, 1)
            pick = int(
                np.argmax(np.where(free, (worth + 1 - explained) * variance * preference, -1))
            )
        label = labels[pick]
        free[pick] = False
        counts[label] += 1
        picks.append(pick)
        deviation = np.sqrt(variance[pick] + np.float32(rule.noise))
        column = (
            np.exp((units @ units[pick] - 1) / bandwidth) - columns[:step, pick] @ columns[:step]
        )
        column /= deviation
        surprise = -mean[:, pick]
        surprise[label] += 1
        mean += np.outer(surprise / deviation, column)
        variance = np.maximum(variance - column * column, 0)
        columns[step] = column
    return np.array(picks)


def rows(programs: list[tuple[str, float, int, str]]) -> list[dict[str, Any]]:
    """Programs with their seconds, the picks these were spent on, and a note; the first is ours."""
    ours = programs[0][1]
    return [
        {
            "program": name,
            "seconds": seconds,
            "ms a pick": 1000 * seconds / max(picks, 1),
            "times ours": seconds / ours,
            "note": note,
        }
        for name, seconds, picks, note in programs
    ]


def balancing_table(
    features: np.ndarray, labels: np.ndarray, pool: balal.Pool, num_classes: int, title: str
) -> dict[str, Any]:
    """Balancing beside NumPy, which is given the random order up to the switch."""
    result, seconds, note = timed_simulation("balance", pool, labels, num_classes)
    budget = FLAGS.budget
    switched_at = int(result.switched_at) if int(result.switched_at) >= 0 else budget
    order, left = np.asarray(result.indices), budget - switched_at

    def rival(naive: bool, picks: int) -> np.ndarray:
        return numpy_balancing(
            features, labels, order, switched_at, switched_at + picks, num_classes, naive=naive
        )

    setup = common.timed(lambda: rival(False, 0))[0]
    programs = [("balal, one compiled program", seconds, left, note)]
    for name, naive, picks in (
        ("NumPy, one matrix-vector product a pick", False, min(FLAGS.picks or left, left)),
        ("NumPy, all distances anew", True, min(FLAGS.naive_picks, left)),
    ):
        if picks:
            seconds, found = common.timed(
                lambda naive=naive, picks=picks: rival(naive, picks), 1 if naive else FLAGS.repeats
            )
            note = f"{np.mean(found == order[: len(found)]):.1%} of the picks in the same position"
            note += f" (of {picks}, extrapolated)" if picks < left else ""
            programs.append((name, setup + (seconds - setup) / picks * left, left, note))
    return common.table(f"Balancing, {title}, from label {switched_at:,} on", rows(programs))


def posterior_table(
    features: np.ndarray, labels: np.ndarray, pool: balal.Pool, num_classes: int, title: str
) -> dict[str, Any]:
    """The posterior beside NumPy, which is given the first labels and the typicality of all
    rows."""
    result, seconds, note = timed_simulation("posterior_0_1", pool, labels, num_classes)
    order, begun = (
        np.asarray(result.indices),
        min(balal.strategies.Posterior01().start, FLAGS.budget),
    )
    arguments = (
        features,
        labels,
        order,
        np.asarray(pool.prepared["surroundings"].value[0]),
        begun,
        FLAGS.budget,
        num_classes,
    )
    plain, picks = common.timed(lambda: numpy_posterior(*arguments), FLAGS.repeats)
    programs = [
        ("balal, one compiled program", seconds, FLAGS.budget, note),
        (
            "NumPy, two matrix-vector products a pick",
            plain,
            FLAGS.budget,
            f"{np.isin(picks, order).mean():.1%} of the picks the same",
        ),
    ]
    return common.table(f"Posterior of 0.1, {title}, from label {begun} on", rows(programs))


def timed_simulation(
    rule: str, pool: balal.Pool, labels: np.ndarray, num_classes: int
) -> tuple[balal.Result, float, str]:
    """Our simulation, the median of its seconds, and a note on compilation and memory."""
    strategy, sizes = (
        balal.strategy(f"random+{rule}"),
        dict(budget=FLAGS.budget, num_classes=num_classes),
    )

    def simulate(pool, labels, key):
        return balal.one_shot(strategy, pool, labels, key=key, **sizes)

    def run():
        return jax.block_until_ready(simulate(pool, labels, jax.random.key(0)))

    compiling = common.timed(run)[0]
    extra = common.extra_memory(
        jax.jit(simulate).lower(pool, labels.astype(np.int32), jax.random.key(0)).compile()
    )
    table = len(labels) * num_classes * 4
    note = (
        f"first call with compilation {compiling:.1f} s; extra memory {extra / 1e6:.1f} MB, "
        f"{extra / table:.2f} x [N, C]"
    )
    seconds, result = common.timed(run, FLAGS.repeats)
    return result, seconds, note


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    if FLAGS.features:
        features, labels = common.loaded(FLAGS.features, "features", "labels")
    else:
        features, labels = synthetic(FLAGS.rows, FLAGS.size, FLAGS.num_classes)
    features -= features.mean(axis=0)
    num_classes = int(labels.max()) + 1
    first = balal.strategy("random+balance" if FLAGS.rule == "balance" else "random+posterior_0_1")
    making, pool = common.timed(
        lambda: jax.block_until_ready(balal.prepare(first, balal.pool(features)))
    )
    title = f"{len(features):,} x {features.shape[1]:,}, C = {num_classes}, b = {FLAGS.budget:,}"
    arguments = features, labels, pool, num_classes, title
    tables = []
    if FLAGS.rule != "posterior":
        tables.append(balancing_table(*arguments))
    if FLAGS.rule != "balance":
        tables.append(posterior_table(*arguments))
        print(
            f"\nThe typicality of all rows, which the posterior begins with, took {making:.1f} s, "
            f"compilation included."
        )
    common.finish("balancing", tables)


if __name__ == "__main__":
    app.run(main)
