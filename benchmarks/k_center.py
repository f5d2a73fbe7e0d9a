"""How long does greedy k-center take, beside the loops that give the same picks?

    python -m benchmarks.k_center                           17,168 x 256, 17,168 x 1,280 (b = 2,000), 100,000 x 512 (b = 1,000); minutes
    python -m benchmarks.k_center --quick                   one small pool, in seconds
    python -m benchmarks.k_center --features=full.npz       17,168 x 1,280 from a file with `pool_features` or `features`
    python -m benchmarks.k_center --rival_picks=50          rivals timed on 50 picks and extrapolated (their time is linear in picks)

Every rival begins at row 0. NumPy keeps the squared norms and does one matrix-vector product a pick, in place, in float32: the strongest
loop known. Its picks are compared with ours, place by place, as far as it was run. Times are medians of repeats, of one process, so read
the ratios.
"""

import importlib.util
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import balal

FLAGS = flags.FLAGS
flags.DEFINE_bool("quick", False, "One pool of 8,000 x 256 instead of the three large ones.")
flags.DEFINE_integer("repeats", 3, "Timed runs of each program; the median is printed.", lower_bound=1)
flags.DEFINE_integer("rival_picks", None, "Picks that the loops are timed on, extrapolated to the budget (default: the whole budget).")
flags.DEFINE_string("features", None, "An .npz file to use in place of the synthetic pool of 17,168 x 1,280.")
flags.DEFINE_string("out", None, "Folder for k_center.json.")


def synthetic(rows: int, size: int) -> np.ndarray:
    """A pool of 100 Gaussian clusters behind a rectifier, as the features of a network are: float32 [N, D]."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(100, size)).astype(np.float32)
    return np.maximum(means[rng.integers(0, 100, rows)] + rng.normal(size=(rows, size)).astype(np.float32), 0)


def loaded(path: str) -> np.ndarray:
    with np.load(path, allow_pickle=False) as file:
        features = file["pool_features" if "pool_features" in file else "features"]
        return features * file["scale"] if "scale" in file else features.astype(np.float32)


def numpy_k_center(features: np.ndarray, budget: int) -> np.ndarray:
    """One matrix-vector product a pick; the mean goes first, or the products would cancel."""
    features = features - features.mean(axis=0)
    norms = np.einsum("nd,nd->n", features, features)
    nearest, picks = np.full(len(features), np.inf, np.float32), [0]
    while True:
        distances = features @ features[picks[-1]]
        distances *= -2
        distances += norms
        distances += norms[picks[-1]]
        np.minimum(nearest, distances, out=nearest)
        nearest[picks[-1]] = -np.inf
        if len(picks) == budget:
            return np.array(picks)
        picks.append(int(nearest.argmax()))


@partial(jax.jit, static_argnames="budget")
def plain_k_center(features: jax.Array, budget: int) -> jax.Array:
    """One pass of squared differences a pick, in one compiled loop."""

    def pick(place, carry):
        nearest, left, picks = carry
        row = jnp.where(place == 0, 0, jnp.argmax(jnp.where(left, nearest, -1)))
        nearest = jnp.minimum(nearest, jnp.sum(jnp.square(features - features[row][None, :]), axis=1))
        return nearest, left.at[row].set(False), picks.at[place].set(row.astype(jnp.int32))

    size = len(features)
    carry = jnp.full(size, jnp.inf, jnp.float32), jnp.ones(size, bool), jnp.zeros(budget, jnp.int32)
    return jax.lax.fori_loop(0, budget, pick, carry)[2]


def skactiveml_k_center(features: np.ndarray, budget: int) -> np.ndarray:
    """scikit-activeml's CoreSet, row 0 labelled."""
    from skactiveml.pool import CoreSet
    from skactiveml.utils import MISSING_LABEL

    labels = np.full(len(features), MISSING_LABEL)
    labels[0] = 0
    return np.r_[0, CoreSet(random_state=0).query(features, labels, batch_size=budget - 1)]


def timed(run: Callable[[], Any], repeats: int) -> tuple[float, Any]:
    """Median seconds, and the last result."""
    seconds, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def compare(name: str, features: np.ndarray, budget: int) -> dict[str, Any]:
    """Times every program on one pool and prints its table."""
    on_device, picks = jnp.asarray(features), min(budget, FLAGS.rival_picks or budget)
    rivals = {
        "NumPy, one matrix-vector product a pick": (partial(numpy_k_center, features), picks, FLAGS.repeats),
        "JAX, one plain pass a pick": (lambda budget: jax.block_until_ready(plain_k_center(on_device, budget)), picks, FLAGS.repeats),
    }
    if importlib.util.find_spec("skactiveml"):
        rivals["scikit-activeml CoreSet"] = (partial(skactiveml_k_center, features), min(picks, 21), 1)

    def ours():
        return jax.block_until_ready(balal.k_center(on_device, budget, start=0))

    compiling, _ = timed(ours, 1)
    seconds, result = timed(ours, FLAGS.repeats)
    found = np.asarray(result.indices)
    rows = [("balal, one compiled program", seconds, f"first call with compilation {compiling:.1f} s")]
    for program, (run, some, repeats) in rivals.items():
        first, _ = timed(lambda run=run, some=some: run(some), 1)
        value, same = timed(lambda run=run, some=some: run(some), repeats)
        note = f"{np.mean(np.asarray(same) == found[:some]):.1%} of {some:,} picks at the same place"
        note += f", first call {first:.1f} s" if program.startswith("JAX") else ""
        rows.append((program, value / some * budget, note + ("" if some == budget else ", extrapolated")))
    ran = f"{name}, {features.shape[0]:,} x {features.shape[1]:,}, b = {budget:,}"
    print(f"\nGreedy k-center: {ran}\n\n| program | seconds | ms a pick | times ours | |\n|---|---|---|---|---|")
    for program, value, note in rows:
        print(f"| {program} | {value:.2f} | {1000 * value / budget:.2f} | {value / seconds:.1f} | {note} |")
    return dict(workload=ran, rows=[dict(program=row[0], seconds=row[1], ratio=row[1] / seconds, note=row[2]) for row in rows])


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"this program takes flags only, got {argv[1:]}")
    if FLAGS.quick:
        tables = [compare("synthetic", synthetic(8_000, 256), 600)]
    else:
        wide = ("from the file", loaded(FLAGS.features)) if FLAGS.features else ("synthetic", synthetic(17_168, 1_280))
        tables = [
            compare("synthetic", synthetic(17_168, 256), 2_000),
            compare(*wide, 2_000),
            compare("synthetic", synthetic(100_000, 512), 1_000),
        ]
    if not importlib.util.find_spec("skactiveml"):
        print("\nscikit-activeml is not installed and was left out: pip install scikit-activeml")
    device = jax.devices()[0].device_kind
    print(f"\n{device}, {os.cpu_count()} cores, Python {platform.python_version()}, jax {jax.__version__}, NumPy {np.__version__}")
    if FLAGS.out:
        folder = Path(FLAGS.out)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "k_center.json").write_text(json.dumps(dict(tables=tables, jax=jax.__version__), indent=1) + "\n")


if __name__ == "__main__":
    app.run(main)
