"""Picks of every registered strategy, and of the kernels beside them, on one pool; run by
test_scale.py, prints them as JSON.

Everything goes on the last device, another one than where the tests run.
"""

import json
from functools import partial

import jax
import numpy as np

import balal
from balal.kernels import k_means
from balal.kernels.k_center import greedy, lazy
from balal.strategies import RULES, STRATEGIES

# Large enough for the compiler to share the work out among threads.
ROWS, SIZE, CLASSES, BUDGET = 3_000, 256, 8, 60
# What follows a rule differs in the order of the first strategy only, the printed rule from the
# other in one minimum, and the posterior of 0.1 in what it makes of the same process.
RULED = [f"random+{rule}" for rule in RULES if rule not in ("balance_printed", "posterior_0_1")]


def drawn() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of whole numbers, logits and labels of classes of which some are rare."""
    rng = np.random.default_rng(0)
    labels = rng.choice(CLASSES, ROWS, p=np.arange(1, CLASSES + 1) / 36)
    features = np.round(
        4 * (rng.normal(size=(CLASSES, SIZE))[labels] + rng.normal(size=(ROWS, SIZE)))
    )
    return features.astype(np.float32), rng.normal(size=(ROWS, 2, 20)).astype(np.float32), labels


@jax.jit
def kernels(pool: balal.Pool, key: jax.Array) -> dict[str, jax.Array]:
    """The order of every strategy that ranks the pool in one shot, and what the kernels find that
    no small pool is searched by."""
    start = balal.labelled_set.make(np.zeros(0, int), np.zeros(0, int))
    start = balal.labelled_set.extend(start, BUDGET)
    ordered = {name: one for name, one in STRATEGIES.items() if isinstance(one, balal.Ordered)}
    picks = {name: one.order(pool, start, BUDGET, key) for name, one in ordered.items()}
    begin = k_means.k_means_plus_plus(key, pool.features, 20)
    return picks | dict(
        lazily=greedy.search(
            pool.features,
            BUDGET,
            labelled=None,
            candidates=None,
            start=None,
            key=key,
            sizes=lazy.SIZES,
        )[0].indices,
        k_means_plus_plus=begin,
        k_means=k_means.k_means(pool.features, pool.features[begin], rounds=5).assigned,
    )


def picks(pool: balal.Pool, labels: np.ndarray) -> dict[str, list[int]]:
    """By name."""
    key = jax.random.key(0)
    simulate = partial(
        balal.one_shot, pool=pool, labels=labels, budget=BUDGET, num_classes=CLASSES, key=key
    )
    found = kernels(pool, key) | {name: simulate(balal.strategy(name)).indices for name in RULED}
    return {name: rows.tolist() for name, rows in found.items()}


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    with jax.default_device(jax.devices()[-1]):
        features, logits, labels = drawn()
        pool = balal.pool(features, logits=logits, keep_logits=True)
        assert pool.features.devices() == {jax.devices()[-1]}
        print(json.dumps(picks(pool, labels)))
