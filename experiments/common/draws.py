"""Paired runs: each draws its part of a pool, the same for everything that is compared."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

import balal

# The share of the pool that every run draws.
SHARE = 0.8


@dataclass(frozen=True)
class Draw:
    """The part of a pool that one run sees, its rows in ascending order, and the run's keys: for
    strategies and for the oracles."""

    whole: balal.Pool
    rows: np.ndarray
    key: jax.Array
    oracle_key: jax.Array
    kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def pool(self) -> balal.Pool:
        return jax.tree.map(lambda leaf: leaf[self.rows], self.whole)

    def prepared_for(self, strategy: balal.Strategy) -> balal.Pool:
        """The pool with what the strategy prepares for it, worked out once for all its runs."""
        prepared = self.kept | self.pool.prepared
        pool = balal.prepare(strategy, replace(self.pool, prepared=prepared))
        self.kept.update(pool.prepared)
        return pool


def size(num_rows: int) -> int:
    """How many rows a draw has."""
    return round(SHARE * num_rows)


def drawn(pool: balal.Pool, *, seed: int, runs: int) -> list[Draw]:
    """One draw for each run."""
    return [_draw(pool, seed, run) for run in range(runs)]


def described(name: str, draws: Sequence[Draw]) -> list[dict[str, Any]]:
    """The rows of every draw, as JSON values."""
    return [dict(pool=name, seed=seed, rows=draw.rows.tolist()) for seed, draw in enumerate(draws)]


def _draw(pool: balal.Pool, seed: int, run: int) -> Draw:
    row_key, key, oracle_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), run), 3)
    order = np.argsort(
        np.asarray(balal.kernels.sampling.random_bits(row_key, pool.num_rows)), kind="stable"
    )
    return Draw(pool, np.sort(order[: size(pool.num_rows)]), key, oracle_key)
