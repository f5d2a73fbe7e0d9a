"""Prints, as JSON, what `balal.estimate` says of a simulation and what its process takes at the
peak; run by test_cost.py."""

import json
import re
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

import balal

# Name, N, D, K, C, budget: each holds some hundred megabytes, beside which a process's own few do
# not count.
JOBS = [
    ("ent_inv_div", 4_000_000, 4, 2, 2, 10),
    ("core_set", 200_000, 400, 0, 2, 40),
    ("random+balance", 200_000, 64, 0, 200, 60),
    ("posterior", 40_000, 32, 0, 500, 100),
    ("random+posterior", 40_000, 256, 0, 20, 300),
]


def status(line: str) -> int:
    """Bytes of a line of the process's own accounts."""
    found = re.search(rf"{line}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


@partial(jax.jit, static_argnums=0)
def drawn(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """Values of some shape, made where they stay."""
    values = (jnp.arange(leaf.size, dtype=jnp.uint32) * jnp.uint32(2654435761) >> 24).reshape(
        leaf.shape
    )
    return (
        values < 250 if leaf.dtype == bool else values % 2 if leaf.dtype == jnp.int32 else values
    ).astype(leaf.dtype)


def measured(
    name: str, rows: int, size: int, source_classes: int, num_classes: int, budget: int
) -> int:
    """The peak of the process over what it had before there was a pool, compiling apart."""
    strategy = balal.strategy(name)

    def simulate(pool, labels):
        return balal.simulate(
            strategy, pool, labels, budget=budget, num_classes=num_classes, key=jax.random.key(0)
        )

    column = jax.ShapeDtypeStruct((rows,), jnp.float32)
    integers = jax.ShapeDtypeStruct((rows,), jnp.int32)
    pool = balal.Pool(
        features=jax.ShapeDtypeStruct((rows, size), jnp.float32),
        scores=balal.Scores(column, column, column, integers) if source_classes else None,
        candidates=jax.ShapeDtypeStruct((rows,), jnp.bool_),
    )
    program = jax.jit(simulate).lower(pool, integers).compile()
    # Lowers the high-water mark to what is held now.
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    pool = jax.block_until_ready(jax.tree.map(drawn, pool))
    Path("/proc/self/clear_refs").write_text("5")
    # Labels of many classes, so that everything a strategy may do is done.
    jax.block_until_ready(program(pool, jnp.arange(rows, dtype=jnp.int32) % num_classes))
    return status("VmHWM") - before


if __name__ == "__main__":
    job = JOBS[int(sys.argv[1])]
    print(
        json.dumps(
            dict(
                job=job,
                estimated=balal.estimate(balal.strategy(job[0]), *job[1:]).bytes,
                measured=measured(*job),
            )
        )
    )
