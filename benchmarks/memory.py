r"""Is the memory that `balal.estimate` says what a process takes?

    python -m benchmarks.memory           six strategies, six pools, `simulate` and `init` with
                                          `ask`; an hour on two cores, most of it `posterior`
    python -m benchmarks.memory --strategies=core_set --pools=50000x128x20x300

Each selection runs in a process of its own, one after the other. What it takes is the most memory
that the process ever holds, over what it held right before the pool was made, compiling included.
"""

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

import balal
from balal.kernels import k_means
from benchmarks import common

FLAGS = flags.FLAGS
flags.DEFINE_list(
    "strategies",
    "random,core_set,ent_inv_div+balance,ms+balance,clusters,posterior",
    "Names of strategies; `clusters` is one of this program.",
)
flags.DEFINE_list(
    "pools",
    "20000x64x3x50,50000x128x20x300,200000x64x200x200,100000x512x100x300,200000x256x10x1000,"
    "300000x512x50x100",
    "Rows, features, target classes and budget of each.",
)
flags.DEFINE_list("modes", "simulate,ask", "What is run.")
flags.DEFINE_list("child", None, "For the processes of this program.")

# Rows that are asked for at once.
SIZE = 20
_SOURCE_CLASSES = 1000


@dataclass(frozen=True)
class Clusters(balal.Ordered):
    """Asks for the row nearest to the centre of each of `budget` clusters."""

    @property
    def needs(self) -> tuple[str, ...]:
        return ("features",)

    def order(self, pool, labelled, budget, key):
        spread = jnp.linspace(0, pool.num_rows - 1, budget).astype(jnp.int32)
        clusters = k_means.k_means(pool.features, pool.features[spread], rounds=2)
        return jnp.unique(clusters.assigned, size=budget, fill_value=-1, return_index=True)[1]


def strategy_of(name: str) -> balal.Strategy:
    """The strategy with a name."""
    return Clusters() if name == "clusters" else balal.strategy(name)


def estimated(name: str, mode: str, shape: tuple[int, ...]) -> int:
    """What `balal.estimate` says."""
    rows, size, num_classes, budget = shape
    asked = SIZE if mode == "ask" else None
    return balal.estimate(
        strategy_of(name), rows, size, _SOURCE_CLASSES, num_classes, budget, size=asked
    ).bytes


def measured(name: str, mode: str, shape: tuple[int, ...]) -> int:
    """What a process takes."""
    child = ",".join([name, mode, *map(str, shape)])
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", f"--child={child}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return json.loads(run.stdout)


def select(name: str, mode: str, rows: int, size: int, num_classes: int, budget: int) -> int:
    """Makes a pool, selects from it, and says how much memory this process took for it."""
    strategy, key = strategy_of(name), jax.random.key(0)
    before = status("VmRSS")
    # Lowers the high-water mark to what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    column = drawn(rows, 1)[:, 0]
    scores = balal.Scores(column, column, column, jnp.zeros(rows, jnp.int32))
    pool = balal.pool(drawn(rows, size), scores=scores)
    if mode == "simulate":
        # Labels of all classes, so that everything a strategy may do is done.
        labels = jnp.arange(rows, dtype=jnp.int32) % num_classes
        jax.block_until_ready(
            balal.simulate(
                strategy, pool, labels, budget=budget, num_classes=num_classes, key=key
            ).indices
        )
    else:
        state = balal.init(strategy, pool, budget=budget, num_classes=num_classes, key=key)
        _, state = balal.ask(strategy, pool, state, size=SIZE)
        jax.block_until_ready(state)
    return status("VmHWM") - before


def status(line: str) -> int:
    """Bytes of a line of the process's own accounts."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


@partial(jax.jit, static_argnums=(0, 1))
def drawn(rows: int, size: int) -> jax.Array:
    """Features of some kind, made where they stay."""
    mixed = (
        jnp.arange(rows, dtype=jnp.uint32)[:, None] * jnp.uint32(0x9E3779B1)
        ^ jnp.arange(size, dtype=jnp.uint32)[None, :] * jnp.uint32(0x85EBCA77)
    ) * jnp.uint32(0x27D4EB2F)
    return (mixed >> 8).astype(jnp.float32) / 2**23 - 1


def main(_: Any) -> None:
    if FLAGS.child:
        name, mode, *shape = FLAGS.child
        print(json.dumps(select(name, mode, *map(int, shape))))
        return
    lines = []
    for written in FLAGS.pools:
        shape = tuple(map(int, written.split("x")))
        for name in FLAGS.strategies:
            for mode in FLAGS.modes:
                said, took = estimated(name, mode, shape), measured(name, mode, shape)
                lines.append(
                    dict(
                        pool=written,
                        strategy=name,
                        mode=mode,
                        estimated_mb=said / 1e6,
                        measured_mb=took / 1e6,
                        ratio=said / took,
                    )
                )
                print(lines[-1], file=sys.stderr, flush=True)
    common.finish("memory", [common.table("Peak memory of a process", lines)])


if __name__ == "__main__":
    app.run(main)
