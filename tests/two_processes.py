"""Prints, as JSON, what this process picks from a pool of which it has read one half; run by
test_sharding.py, once for each half."""

import json
import sys

import jax
import numpy as np
from reference import imbalanced_pool

import balal

BUDGET, CLASSES, ROWS, STRATEGIES = 30, 6, 400, ("core_set",)


def asked(strategy: balal.Strategy, pool: balal.Pool, labels: np.ndarray) -> list[int]:
    """The picks of a person who answers in batches of ten."""
    state = balal.init(strategy, pool, budget=BUDGET, num_classes=CLASSES, key=jax.random.key(0))
    for _ in range(BUDGET // 10):
        rows, state = balal.ask(strategy, pool, state, size=10)
        state = balal.tell(strategy, pool, state, rows, labels[np.asarray(rows)])
    return state.labelled.indices.tolist()


def main(process: int, port: int) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    # Only the first process writes programs to the cache of the tests. One that runs what was kept
    # and one that compiles anew exchange their halves in other orders, and JAX aborts.
    jax.config.update("jax_enable_compilation_cache", False)
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, process)
    features, logits, labels = imbalanced_pool(ROWS, 8, CLASSES, 20)
    mesh = balal.sharding.mesh()

    def joined(values: np.ndarray) -> jax.Array:
        half = values[process * ROWS // 2 : (process + 1) * ROWS // 2]
        return jax.make_array_from_process_local_data(balal.sharding.rows(mesh), half)

    picks = {}
    with jax.set_mesh(mesh):
        pool = balal.pool(joined(features), logits=joined(logits))
        for name in STRATEGIES:
            result = balal.simulate(
                balal.strategy(name),
                pool,
                joined(labels),
                budget=BUDGET,
                num_classes=CLASSES,
                key=jax.random.key(0),
            )
            picks[name] = result.indices.tolist()
        picks["asked"] = asked(balal.strategy("random+balance"), pool, labels)
        try:
            balal.pool(joined(np.where(np.arange(ROWS)[:, None] == ROWS - 1, np.nan, features)))
        except ValueError as error:
            picks["refused"] = str(error)
    print(json.dumps(picks))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
