"""How long does selection take, compared with the programs that others would use for it?

    python -m benchmarks.selection --quick                  small pools, under a minute
    python -m benchmarks.selection                          full sizes, beside NumPy and a JAX loop;
                                                            many minutes
    python -m benchmarks.selection --peers                  also beside torch, scikit-learn, faiss
                                                            and other libraries that do the same
    python -m benchmarks.selection --only=scores,nearest    some of k_center, scores, nearest,
                                                            k_means, k_means_plus_plus, diversify,
                                                            small
    python -m benchmarks.selection --device                 ours alone on the default device, for
                                                            an accelerator
    taskset -c 0 python -m benchmarks.selection             on one core, in processor time, which
                                                            other processes do not add to

All programs of a table run in turn in one process, round after round, so read the ratios, which are
of the shortest times. The loops of k-center take equally long for each pick, so they are timed on a
few and extrapolated. `python -m pip install -e '.[peers]'` installs what `--peers` looks for; what
is missing is left out. MB is the memory that the compiled program takes besides its arguments. The
last table, small, is of 1,000 rows and shows what a whole call costs, its checks and its dispatch
included.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import balal
from balal.kernels import neighbours
from benchmarks import balancing, common

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "Small pools.")
flags.DEFINE_bool("peers", False, "Also what is slow, or has to be installed.")
flags.DEFINE_bool("device", False, "Only what runs on the default device of JAX.")
flags.DEFINE_list("only", [], "Kernels to time (default: all).")
flags.DEFINE_integer(
    "rival_picks", 50, "Picks that the loops of k-center are timed on.", lower_bound=3
)


@dataclass(frozen=True)
class Rival:
    """A program that does the same. run: takes nothing, or the number of picks where a workload has
    a budget."""

    name: str
    run: Callable[..., Any]
    package: str | None = None
    on_device: bool = False


@dataclass(frozen=True)
class Workload:
    """What is timed. quality: what is said of a result, beside ours. budget: picks, where rivals
    may be timed on fewer."""

    title: str
    ours: Callable[..., Any]
    arguments: tuple[Any, ...]
    rivals: list[Rival]
    quality: Callable[[Any, Any], str]
    budget: int | None = None


def measure(workload: Workload) -> dict[str, Any]:
    """Times the programs of a workload in turn and prints its table."""
    compiling, compiled = common.timed(jax.jit(workload.ours).lower(*workload.arguments).compile)
    memory = common.extra_memory(compiled) / 1e6
    programs = {
        "balal": (partial(_finished, workload.arguments, compiled), lambda seconds: seconds, "")
    }
    for rival in workload.rivals:
        if (rival.package and not FLAGS.peers) or (FLAGS.device and not rival.on_device):
            continue
        if rival.package and not importlib.util.find_spec(rival.package):
            print(f"\n{rival.name} was left out: {rival.package} is not installed")
            continue
        programs[rival.name] = _run(rival, workload.budget)
    seconds, results = {name: [] for name in programs}, {}
    for _ in range(FLAGS.repeats):
        for name, (run, whole, _) in programs.items():
            spent, results[name] = common.timed(run)
            seconds[name].append(whole(spent))
    rows = []
    for name, (_, _, note) in programs.items():
        best, ours = min(seconds[name]), name == "balal"
        rows.append(
            {
                "program": name,
                "seconds": best,
                "median": float(np.median(seconds[name])),
                "times ours": best / min(seconds["balal"]),
                "compiling": compiling if ours else None,
                "MB": memory if ours else None,
                "quality": workload.quality(results[name], results["balal"]) + note,
            }
        )
    return common.table(workload.title, rows)


def measure_small(workloads: list[Workload]) -> dict[str, Any]:
    """One table of many workloads: a whole call, the compiled program alone, and the first rival;
    medians of at least 20 rounds."""
    rows = []
    for workload in workloads:
        compiled = jax.jit(workload.ours).lower(*workload.arguments).compile()
        finished = partial(_finished, workload.arguments)
        programs, rival = (
            [partial(finished, workload.ours), partial(finished, compiled)],
            workload.rivals[0],
        )
        if not FLAGS.device:
            programs.append(
                rival.run if workload.budget is None else partial(rival.run, workload.budget)
            )
        for program in programs:
            program()  # compiled, threads started
        rounds = [
            [1000 * common.timed(program)[0] for program in programs]
            for _ in range(max(FLAGS.repeats, 20))
        ]
        call, alone, *other = np.median(rounds, axis=0).tolist()
        row = {"workload": workload.title, "ms a call": call, "ms compiled": alone}
        rows.append(
            row
            | (
                {"rival": rival.name, "its ms": other[0], "times a call": other[0] / call}
                if other
                else {}
            )
        )
    return common.table("Small inputs, once compiled", rows)


def _finished(arguments: tuple[Any, ...], program: Callable[..., Any]) -> Any:
    return jax.block_until_ready(program(*arguments))


def _run(
    rival: Rival, budget: int | None
) -> tuple[Callable[[], Any], Callable[[float], float], str]:
    """What to time, what the whole would take then, and a note."""
    if budget is None:
        rival.run()  # threads are started and libraries loaded
        return rival.run, lambda seconds: seconds, ""
    picks = min(budget, FLAGS.rival_picks)
    begun = min(
        common.timed(partial(rival.run, 2))[0] for _ in range(3)
    )  # what does not depend on the number of picks
    slope = (budget - 2) / (picks - 2)
    return (
        partial(rival.run, picks),
        lambda seconds: begun + (seconds - begun) * slope,
        f" (of {picks}, extrapolated)",
    )


def features(kind: str, rows: int, size: int) -> np.ndarray:
    """A pool: one Gaussian, 100 Gaussian clusters, or these behind a rectifier as the features of a
    network are: float32 [N, D]."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(rows, size)).astype(np.float32)
    if kind == "isotropic":
        return noise
    clustered = rng.normal(size=(100, size)).astype(np.float32)[rng.integers(0, 100, rows)] + noise
    return np.maximum(clustered, 0) if kind == "ReLU-sparse" else clustered


def k_center(name: str, points: np.ndarray, budget: int) -> Workload:
    on_device = jnp.asarray(points)
    rivals = [
        Rival("NumPy, one matrix-vector product a pick", partial(numpy_k_center, points)),
        Rival(
            "JAX, one matrix-vector product a pick",
            lambda picks: jax_k_center(on_device, picks)[:picks].block_until_ready(),
            on_device=True,
        ),
        Rival("torch, one matrix-vector product a pick", partial(torch_k_center, points), "torch"),
        Rival("scikit-activeml CoreSet", partial(skactiveml_k_center, points), "skactiveml"),
        Rival("fpsample", partial(fpsample_k_center, points), "fpsample"),
        Rival("scikit-matter FPS", partial(skmatter_k_center, points), "skmatter"),
    ]

    def quality(result, ours):
        if isinstance(result, balal.kernels.k_center.Centers):
            return f"radius {float(result.radii[-1]):.5g}"
        equal = np.mean(np.asarray(result) == np.asarray(ours.indices)[: len(result)])
        return f"{equal:.1%} of the picks in the same position"

    title = f"Greedy k-center, {name}, {len(points):,} x {points.shape[1]:,}, b = {budget:,}"
    return Workload(
        title,
        lambda points: balal.k_center(points, budget, start=0),
        (on_device,),
        rivals,
        quality,
        budget,
    )


def numpy_k_center(points: np.ndarray, picks: int) -> np.ndarray:
    """The fastest loop known: norms are stored, everything is computed in place. The mean is
    subtracted first, or the products would cancel."""
    points = points - points.mean(axis=0)
    norms = np.einsum("nd,nd->n", points, points)
    nearest, rows = np.full(len(points), np.inf, np.float32), [0]
    while True:
        distances = points @ points[rows[-1]]
        distances *= -2
        distances += norms
        distances += norms[rows[-1]]
        np.minimum(nearest, distances, out=nearest)
        nearest[rows[-1]] = -np.inf
        if len(rows) == picks:
            return np.array(rows)
        rows.append(int(nearest.argmax()))


@jax.jit
def jax_k_center(points: jax.Array, picks: int) -> jax.Array:
    """The loop of `numpy_k_center`, in one program: [N], -1 beyond the picks."""
    points -= jnp.mean(points, axis=0)[None, :]
    norms = jnp.sum(jnp.square(points), axis=1)

    def pick(step, carry):
        nearest, rows = carry
        row = jnp.where(step == 0, 0, jnp.argmax(nearest)).astype(jnp.int32)
        nearest = jnp.minimum(nearest, norms + norms[row] - 2 * (points @ points[row]))
        return nearest.at[row].set(-jnp.inf), rows.at[step].set(row)

    carry = jnp.full(len(points), jnp.inf, jnp.float32), jnp.full(len(points), -1, jnp.int32)
    return jax.lax.fori_loop(0, picks, pick, carry)[1]


def torch_k_center(points: np.ndarray, picks: int) -> np.ndarray:
    """The loop of `numpy_k_center`."""
    import torch

    data = torch.from_numpy(points - points.mean(axis=0))
    norms = torch.square(data).sum(dim=1)
    nearest, distances, rows = torch.full_like(norms, torch.inf), torch.empty_like(norms), [0]
    while True:
        torch.addmv(norms, data, data[rows[-1]], alpha=-2, out=distances)
        distances += norms[rows[-1]]
        torch.minimum(nearest, distances, out=nearest)
        nearest[rows[-1]] = -torch.inf
        if len(rows) == picks:
            return np.array(rows)
        rows.append(int(nearest.argmax()))


def skactiveml_k_center(points: np.ndarray, picks: int) -> np.ndarray:
    from skactiveml.pool import CoreSet
    from skactiveml.utils import MISSING_LABEL

    labels = np.full(len(points), MISSING_LABEL)
    labels[0] = 0
    return np.r_[0, CoreSet(random_state=0).query(points, labels, batch_size=picks - 1)]


def fpsample_k_center(points: np.ndarray, picks: int) -> np.ndarray:
    import fpsample

    return fpsample.fps_sampling(points, picks, start_idx=0)


def skmatter_k_center(points: np.ndarray, picks: int) -> np.ndarray:
    from skmatter.sample_selection import FPS

    return FPS(initialize=0, n_to_select=picks).fit(points).selected_idx_


def scores(rows: int, classes: int) -> Workload:
    logits = 3 * np.random.default_rng(0).normal(size=(rows, classes)).astype(np.float32)
    exact, on_device, target = (
        numpy_scores(np.float64(logits)),
        jnp.asarray(logits),
        np.zeros_like(logits),
    )

    def copy() -> jax.Array | None:
        # On a CPU, into memory that is there already: most of the time of a new array goes into
        # mapping its pages.
        return (
            np.copyto(target, logits)
            if jax.default_backend() == "cpu"
            else jax.block_until_ready(jnp.copy(on_device))
        )

    rivals = [
        Rival("NumPy: max, exp, einsum, partition, argmax", lambda: numpy_scores(logits)),
        Rival("torch: log_softmax, topk(2)", partial(torch_scores, logits), "torch"),
        Rival("scipy softmax, modAL", partial(modal_scores, logits), "modAL"),
        Rival("scipy softmax, scikit-activeml", partial(skactiveml_scores, logits), "skactiveml"),
        Rival("one copy of the logits", copy, on_device=jax.default_backend() != "cpu"),
    ]

    def quality(result, _):
        if result is None or isinstance(result, jax.Array):
            return "its times are the share of the copy bandwidth that the scores reach"
        values = jax.tree.leaves(result) if isinstance(result, balal.types.Scores) else result
        errors = [
            np.abs(np.asarray(value) - right).max()
            for value, right in zip(values[:3], exact[:3], strict=True)
        ]
        same = (
            f", {np.mean(np.asarray(values[3]) == exact[3]):.0%} of the classes"
            if len(values) > 3
            else ""
        )
        return f"largest error {max(errors):.1e}{same}"

    return Workload(f"Scores, {rows:,} x {classes:,}", balal.score, (on_device,), rivals, quality)


def numpy_scores(logits: np.ndarray) -> tuple[np.ndarray, ...]:
    """Entropy, margin, least confidence and class."""
    largest = logits.max(axis=1, keepdims=True)
    behind = logits - largest
    weights = np.exp(behind)
    total = weights.sum(axis=1)
    entropy = np.log(total) - np.einsum("nk,nk->n", weights, behind) / total
    second = np.partition(behind, -2, axis=1)[:, -2]
    return entropy, 1 - (1 - np.exp(second)) / total, 1 - 1 / total, logits.argmax(axis=1)


def torch_scores(logits: np.ndarray) -> tuple[Any, ...]:
    import torch

    logarithms = torch.log_softmax(torch.from_numpy(logits), dim=1)
    entropy = -(logarithms.exp() * logarithms).sum(dim=1)
    values, classes = logarithms.topk(2, dim=1)
    first, second = values.exp().unbind(dim=1)
    return entropy, 1 - (first - second), 1 - first, classes[:, 0]


def modal_scores(logits: np.ndarray) -> tuple[np.ndarray, ...]:
    from modAL import uncertainty
    from scipy.special import softmax

    probabilities = softmax(logits, axis=1)
    classifier: Any = SimpleNamespace(predict_proba=lambda _: probabilities)
    margin = uncertainty.classifier_margin(classifier, logits)
    return (
        uncertainty.classifier_entropy(classifier, logits),
        1 - margin,
        uncertainty.classifier_uncertainty(classifier, logits),
    )


def skactiveml_scores(logits: np.ndarray) -> tuple[np.ndarray, ...]:
    from scipy.special import softmax
    from skactiveml.pool import uncertainty_scores

    probabilities = softmax(logits, axis=1)
    return tuple(
        uncertainty_scores(probabilities, method=method)
        for method in ("entropy", "margin_sampling", "least_confident")
    )


def nearest(points: np.ndarray, k: int) -> Workload:
    def sklearn() -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        return (
            NearestNeighbors(n_neighbors=k, algorithm="brute", n_jobs=-1)
            .fit(points)
            .kneighbors()[1]
        )

    def faiss() -> np.ndarray:
        import faiss

        index = faiss.IndexFlatL2(points.shape[1])
        index.add(points)
        found = index.search(points, k + 1)[1]
        # Every row finds itself: it goes to the end and off, or, where copies crowd it out, the
        # farthest one does.
        own = found == np.arange(len(points))[:, None]
        return np.take_along_axis(found, np.argsort(own, axis=1, kind="stable")[:, :k], axis=1)

    def quality(result, ours):
        if result is ours:
            return f"mean distance {float(jnp.mean(ours.distances)):.5g}"
        same = np.sort(result, axis=1) == np.sort(np.asarray(ours.indices), axis=1)
        return f"{same.all(axis=1).mean():.2%} of the rows have the same neighbours"

    rivals = [
        Rival("scikit-learn, brute", sklearn, "sklearn"),
        Rival("faiss IndexFlatL2", faiss, "faiss"),
    ]
    title = f"Nearest rows, {len(points):,} x {points.shape[1]:,}, k = {k}"
    return Workload(
        title, lambda points: neighbours.nearest(points, k), (jnp.asarray(points),), rivals, quality
    )


def k_means(points: np.ndarray, k: int, rounds: int = 20) -> Workload:
    begin = points[np.random.default_rng(0).permutation(len(points))[:k]]

    def sklearn() -> tuple[float, int]:
        from sklearn.cluster import KMeans

        fitted = KMeans(k, init=begin, n_init=1, max_iter=rounds, tol=0, algorithm="lloyd").fit(
            points
        )
        return float(fitted.inertia_), fitted.n_iter_

    def faiss() -> tuple[float, int]:
        import faiss

        fitted = faiss.Kmeans(
            points.shape[1],
            k,
            niter=rounds,
            max_points_per_centroid=len(points),
            min_points_per_centroid=1,
        )
        fitted.train(points, init_centroids=begin)
        return float(fitted.obj[-1]), len(fitted.obj)  # of the centres before its last round

    def quality(result, _):
        inertia, done = (
            (result.inertia, result.rounds)
            if isinstance(result, balal.kernels.k_means.Clusters)
            else result
        )
        return f"inertia {float(inertia):.6g} after {int(done)} rounds"

    rivals = [
        Rival("scikit-learn KMeans, Lloyd", sklearn, "sklearn"),
        Rival("faiss Kmeans", faiss, "faiss"),
    ]
    title = f"Lloyd, {len(points):,} x {points.shape[1]:,}, k = {k}, at most {rounds} rounds"
    ours = partial(balal.kernels.k_means.k_means, rounds=rounds, tolerance=0.0)
    return Workload(title, ours, (jnp.asarray(points), jnp.asarray(begin)), rivals, quality)


def k_means_plus_plus(points: np.ndarray, k: int) -> Workload:
    def sklearn() -> np.ndarray:
        from sklearn.cluster import kmeans_plusplus

        return kmeans_plusplus(points, k, random_state=0, n_local_trials=1)[1]

    def quality(result, _):
        clusters = balal.kernels.k_means.k_means(points, points[np.asarray(result)], rounds=0)
        return f"inertia {float(clusters.inertia):.5g}"

    title = f"k-means++, one draw a centre, {len(points):,} x {points.shape[1]:,}, k = {k}"
    arguments = jax.random.key(0), jnp.asarray(points)
    rivals = [Rival("scikit-learn kmeans_plusplus, n_local_trials=1", sklearn, "sklearn")]
    return Workload(
        title,
        lambda key, points: balal.kernels.k_means.k_means_plus_plus(key, points, k),
        arguments,
        rivals,
        quality,
    )


def diversify(rows: int, classes: int, budget: int) -> Workload:
    rng = np.random.default_rng(0)
    values, predicted = (
        rng.random(rows, np.float32),
        rng.integers(0, classes, rows).astype(np.int32),
    )

    def numpy() -> np.ndarray:
        by_class = np.lexsort((values, predicted))
        grouped, positions = predicted[by_class], np.arange(rows)
        opens = np.r_[True, grouped[1:] != grouped[:-1]]
        turn = np.empty(rows, np.int64)
        turn[by_class] = positions - np.maximum.accumulate(np.where(opens, positions, 0))
        return np.lexsort((values, turn))[:budget]

    def ours(values, predicted):
        return balal.diversify(values, predicted, budget)

    def quality(result, ours):
        return (
            f"{np.mean(np.asarray(result) == np.asarray(ours)):.1%} of the picks in the same "
            f"position"
        )

    title = f"Diversify, {rows:,} rows, {classes:,} classes, b = {budget:,}"
    arguments = jnp.asarray(values), jnp.asarray(predicted)
    return Workload(title, ours, arguments, [Rival("NumPy, two lexsorts", numpy)], quality)


def simulation(
    name: str, points: np.ndarray, labels: np.ndarray, classes: int, budget: int
) -> Workload:
    """A whole simulation, beside NumPy following the same rule from where it takes over."""
    pool, key, strategy = (
        balal.pool(points),
        jax.random.key(0),
        balal.strategy(name),
    )
    pool = balal.prepare(strategy, pool)

    def ours(pool, labels, key):
        return balal.one_shot(strategy, pool, labels, budget=budget, num_classes=classes, key=key)

    result = ours(pool, labels, key)
    order, switched_at = np.asarray(result.indices), int(result.switched_at)

    def numpy() -> np.ndarray:
        if name == "posterior":
            surroundings = pool.prepared["surroundings"].value
            return balancing.numpy_posterior(
                points, labels, surroundings, jax.random.fold_in(key, 1), budget, classes
            )
        return balancing.numpy_balancing(
            points, labels, order, switched_at, budget, classes, naive=False
        )

    title = f"Simulate {name}, {len(points):,} x {points.shape[1]:,}, C = {classes}, b = {budget}"

    def quality(result, _):
        return f"{np.mean(result == order):.1%} of the picks in the same position"

    return Workload(
        title,
        ours,
        (pool, jnp.asarray(labels, jnp.int32), key),
        [Rival("NumPy, matrix-vector products", numpy)],
        quality,
    )


def small(size: int) -> list[Workload]:
    """Every kernel on a thousand rows of so many features."""
    points, labels = balancing.synthetic(1_000, size, 20)
    points -= points.mean(axis=0)
    kernels = [
        k_center("clustered", points, 50),
        nearest(points, 20),
        k_means(points, 20),
        k_means_plus_plus(points, 20),
    ]
    return kernels + [
        simulation(name, points, labels, 20, 50) for name in ("random+balance", "posterior")
    ]


def workloads() -> dict[str, list[Callable[[], Workload]]]:
    """What there is to time, by kernel; each is made when its turn comes, as some are large."""
    if FLAGS.quick:
        pool = features("clustered", 4_000, 128)
        return dict(
            k_center=[lambda: k_center("ReLU-sparse", features("ReLU-sparse", 8_000, 256), 600)],
            scores=[lambda: scores(4_000, 1_000)],
            nearest=[lambda: nearest(pool, 20)],
            k_means=[lambda: k_means(pool, 100)],
            k_means_plus_plus=[lambda: k_means_plus_plus(pool, 100)],
            diversify=[lambda: diversify(100_000, 1_000, 10_000)],
        )
    if FLAGS.features:
        (wide,) = common.loaded(FLAGS.features, "features")
        name = "from the file"
    else:
        wide, name = features("ReLU-sparse", 17_168, 1_280), "ReLU-sparse"
    pool = np.ascontiguousarray(wide[:, :512])
    kinds = ("clustered", "ReLU-sparse", "isotropic")
    large = [
        lambda kind=kind: k_center(kind, features(kind, 100_000, 512), 1_000) for kind in kinds
    ]
    large.append(lambda: k_center("ReLU-sparse", features("ReLU-sparse", 100_000, 512), 10_000))
    return dict(
        k_center=[*large, lambda: k_center(name, wide, 2_000)],
        scores=[lambda: scores(20_000, 1_000)],
        nearest=[lambda: nearest(pool, 20)],
        k_means=[lambda: k_means(pool, 500)],
        k_means_plus_plus=[lambda: k_means_plus_plus(pool, 500)],
        diversify=[
            lambda: diversify(1_000_000, 1_000, 10_000),
            lambda: diversify(10_000_000, 1_000, 10_000),
        ],
    )


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    kernels = workloads() | ({} if FLAGS.quick else dict(small=[]))
    if unknown := set(FLAGS.only) - set(kernels):
        raise app.UsageError(f"--only knows {', '.join(kernels)}, got {', '.join(sorted(unknown))}")
    wanted = FLAGS.only or kernels
    tables = [
        measure(make()) for kernel, makes in kernels.items() if kernel in wanted for make in makes
    ]
    if "small" in wanted:
        tables.append(
            measure_small([*small(64), *small(512), scores(1_000, 100), diversify(1_000, 100, 50)])
        )
    common.finish("selection", tables)


if __name__ == "__main__":
    app.run(main)
