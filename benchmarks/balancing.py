r"""How long does a whole simulation take with the balancing rules, compared with NumPy?

    python -m benchmarks.balancing        17,168 x 1,280, 100 classes, b = 2,000; some minutes on
                                          two cores
    python -m benchmarks.balancing --rows=2000 --size=64 --budget=200 --repeats=1
    python -m benchmarks.balancing --rows=1000000 --size=512 --num_classes=1000 --budget=1000 \
        --rule=balance --picks=20 --naive_picks=0
    python -m benchmarks.balancing --features=full.npz
                                          a file with `pool_features` or `features`, and
                                          `pool_labels` or `labels`

Rivals follow the same rule: balancing (`min`, patience 3) after the same random order, or the
posterior with its defaults, by the same looks at the pool. The picks are compared, and the memory
that the compiled program needs besides its inputs is reported. Times are medians of repeats in one
process, so read the ratios.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import balal
from balal.kernels import sampling
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
    surroundings: Any,
    key: jax.Array,
    budget: int,
    num_classes: int,
) -> np.ndarray:
    """The posterior in plain float32 NumPy, by the same looks at the whole pool, with the same rows
    drawn to stand for it."""
    rule = balal.strategies.Posterior()
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    bandwidths = (1 - np.square(units.mean(axis=0)).sum()) * np.array(rule.scale, np.float32)
    typical, near, apart = (
        np.asarray(part)
        for part in (surroundings[0], surroundings[1].indices, surroundings[1].distances)
    )
    number, count = len(units), 0
    everything = rule.near >= number
    mean, columns = (np.zeros((lines, number), np.float32) for lines in (num_classes, budget))
    variance, free = np.ones(number, np.float32), np.ones(number, bool)
    noise, hits, picks = np.float32(rule.noise), np.zeros(2), []
    draw = jax.jit(sampling.draw, static_argnums=2)

    def prior(cosines: np.ndarray) -> np.ndarray:
        return sum(np.exp((cosines - 1) / width) for width in bandwidths) / len(bandwidths)

    in_common = prior(1 - np.square(apart) / 2)

    def covariance(rows: np.ndarray, others: Any) -> np.ndarray:
        before = prior(units[rows] @ units[others].T)
        return before - columns[:count, rows].T @ columns[:count, others]

    def believed(mean: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        worth, positive = 1 / (counts + 1), np.maximum(mean, 0)
        once, twice, seen = (np.sum(which) for which in (counts == 1, counts == 2, counts > 0))
        missing = once * (once - 1) / (2 * (twice + 1))
        share = missing / (missing + seen) if seen else 1
        unseen = share + (1 - share) * np.sum(counts * worth) / max(counts.sum(), 1)
        explained, powers = np.minimum(positive.sum(axis=0), 1), positive**2
        total = powers.sum(axis=0)
        shares = worth.astype(np.float32) @ powers * explained / np.where(total > 0, total, 1)
        return shares + (1 - explained) * np.float32(unseen), positive.max(axis=0)

    def trust(typical: np.ndarray) -> np.ndarray:
        return 1 - rule.typical * (1 - hits[0] / (1 + hits[1])) * (1 - typical)

    def with_hits(expected: np.ndarray, label: int) -> np.ndarray:
        hit = expected[label] > 1e-4 and expected[label] >= expected.max()
        return hits * (1 - 1 / max(num_classes, 20)) + [hit, 1]

    while len(picks) < budget:
        # A look at the whole pool with all answers.
        if some := picks[count:]:
            steps = covariance(np.array(some), slice(None))
            lower = np.linalg.cholesky(steps[:, some] + noise * np.eye(len(some)))
            surprise = np.eye(num_classes, dtype=np.float32)[labels[some]] - mean[:, some].T
            steps, surprise = (
                np.linalg.solve(lower, table).astype(np.float32) for table in (steps, surprise)
            )
            mean += surprise.T @ steps
            variance = np.maximum(variance - np.square(steps).sum(axis=0), 0)
            columns[count : len(picks)] = steps
            count = len(picks)
        counts = np.bincount(labels[picks], minlength=num_classes).astype(np.float32)
        worth, best = believed(mean, counts)
        worth = np.where(free, worth, 0)
        if everything:
            chosen = rows = np.arange(number)
            weights = free.astype(np.float32)
        else:
            left = worth * np.maximum(1 - best, 0)
            beyond = np.maximum(in_common / (1 + noise) - best[near], 0)
            values = np.where(
                free, (np.sum(worth[near] * beyond, axis=1) + left) * trust(typical), -1
            )
            chosen = np.sort(np.argsort(-values, kind="stable")[: rule.near])
            left[chosen] = 0
            drawn, weights = draw(
                jax.random.fold_in(key, count), left, min(rule.drawn, number - rule.near)
            )
            rows = np.concatenate([chosen, drawn])
            weights = np.concatenate([np.ones(len(chosen), np.float32), weights])
        # What is chosen until the next look.
        step = min(max(2 ** int(np.log2(max(count, 1))) // 4, 1), rule.every)
        until = budget if everything else min(budget, count // step * step + step)
        here, own, copies = mean[:, rows], variance[rows], in_common[chosen, 0]
        among = covariance(chosen, rows)
        while len(picks) < until:
            worth, best = believed(here, counts)
            share = 1 / (own[: len(chosen)] + noise)
            held, ours = worth * weights, slice(len(chosen))
            gains = np.maximum(among * share[:, None] - best, 0) @ held
            gains -= np.maximum(own[ours] * share - best[ours], 0) * held[ours]
            rate = hits[0] / (1 + hits[1])
            alone = (copies + (1 - copies) * rate) * worth[ours] * np.maximum(1 - best[ours], 0)
            values = (np.maximum(gains, 0) + alone) * trust(typical[chosen])
            place = int(np.argmax(np.where(free[chosen], values, -1)))
            pick = int(chosen[place])
            label, deviation = labels[pick], np.sqrt(own[place] + noise)
            column, expected = among[place] / deviation, here[:, place].copy()
            hits = with_hits(expected, label)
            surprise = -expected / deviation
            surprise[label] += 1 / deviation
            here += np.outer(surprise, column)
            own = np.maximum(own - np.square(column), 0)
            among -= np.outer(column[ours], column)
            free[pick], weights[place] = False, 0
            counts[label] += 1
            picks.append(pick)
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
    result, seconds, note = timed_simulation("random+balance", pool, labels, num_classes)
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
    """The posterior beside NumPy, which is given the surroundings of all rows."""
    result, seconds, note = timed_simulation("posterior", pool, labels, num_classes)
    order = np.asarray(result.indices)
    arguments = features, labels, pool.prepared["surroundings"].value
    plain, picks = common.timed(
        lambda: numpy_posterior(
            *arguments, jax.random.fold_in(jax.random.key(0), 1), FLAGS.budget, num_classes
        ),
        FLAGS.repeats,
    )
    same = f"{np.isin(picks, order).mean():.1%} of the picks the same"
    programs = [
        ("balal, one compiled program", seconds, FLAGS.budget, note),
        ("NumPy, by the same looks", plain, FLAGS.budget, same),
    ]
    return common.table(f"Posterior, {title}", rows(programs))


def timed_simulation(
    name: str, pool: balal.Pool, labels: np.ndarray, num_classes: int
) -> tuple[balal.Result, float, str]:
    """Our simulation, the median of its seconds, and a note on compilation and memory."""
    strategy = balal.strategy(name)
    sizes = dict(budget=FLAGS.budget, num_classes=num_classes)
    arguments = pool, jnp.asarray(labels, jnp.int32), jax.random.key(0)

    def simulate(pool, labels, key):
        return balal.one_shot(strategy, pool, labels, key=key, **sizes)

    # Compiled once, by hand, since a program says what memory it takes.
    compiling, program = common.timed(lambda: jax.jit(simulate).lower(*arguments).compile())
    extra = common.extra_memory(program)

    def run():
        return jax.block_until_ready(program(*arguments))

    table = len(labels) * num_classes * 4
    note = (
        f"compiling {compiling:.1f} s; extra memory {extra / 1e6:.1f} MB, "
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
    first = balal.strategy("random+balance" if FLAGS.rule == "balance" else "posterior")
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
            f"\nTheir surroundings, which the posterior begins with, took {making:.1f} s, "
            f"compilation included."
        )
    common.finish("balancing", tables)


if __name__ == "__main__":
    app.run(main)
