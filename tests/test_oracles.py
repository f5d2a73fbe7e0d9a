"""Oracles that peek at the labels: equal counts, and the best of many batches."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

import balal
from balal.strategies import Random, Uncertainty
from experiments.common import oracles

KEY = jax.random.key(0)
VECTORS = Path(__file__).parent / "vectors"


@pytest.mark.parametrize(
    "case", json.loads((VECTORS / "oracle_balanced.json").read_text())["cases"]
)
def test_quotas_are_the_documented_ones(case):
    found = oracles.quotas(np.array(case["counts"]), np.array(case["available"]), case["budget"])
    assert found.tolist() == case["quotas"]


def test_quotas_raise_the_lowest_counts_to_a_level():
    rng = np.random.default_rng(0)
    for _ in range(50):
        counts, left = rng.integers(0, 9, 5), rng.integers(0, 9, 5)
        budget = int(rng.integers(0, 30))

        def filled(level, counts=counts, left=left):
            return np.minimum(left, np.maximum(level - counts, 0))

        level = max(t for t in range(30) if filled(t).sum() <= budget)
        quota = oracles.quotas(counts, left, budget)
        extra = quota - filled(level)
        assert set(extra) <= {0, 1}
        assert quota.sum() == min(budget, left.sum())
        raised = np.flatnonzero(filled(level + 1) > filled(level))
        assert np.flatnonzero(extra).tolist() == raised[: extra.sum()].tolist()


def test_balanced_rows_are_random_candidates_of_the_right_classes():
    labels = np.repeat([0, 1, 2], [20, 6, 2])
    candidates = np.arange(1, 28)
    counts = np.array([5, 0, 0])
    picks = [
        oracles.balanced(key, labels, candidates, counts=counts, budget=10)
        for key in jax.random.split(KEY, 3)
    ]
    for rows in picks:
        assert set(rows) <= set(candidates)
        assert len(set(rows)) == 10
        assert np.bincount(labels[rows]).tolist() == [2, 6, 2]
    assert len({tuple(rows) for rows in picks}) == 3


def test_the_best_of_many_batches_is_the_one_whose_model_scores_best():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 60)
    candidates = np.arange(60) > 1
    pool = balal.pool(
        rng.normal(size=(60, 3)).astype(np.float32),
        logits=3 * rng.normal(size=(60, 3)),
        candidates=candidates,
    )
    seen = []

    def fit(rows, known):
        assert known.tolist() == labels[rows].tolist()
        seen.append(rows)
        return rows

    best = oracles.best_batch(
        KEY,
        [Random(), Uncertainty("entropy")],
        pool,
        labels,
        fit,
        lambda rows: float(np.sum(labels[rows] == 2)),
        labelled=np.array([5, 7]),
        budget=4,
        num_classes=3,
        batches=6,
    )
    assert len(best.scores) == len(seen) == 6
    assert best.scores.max() > best.scores.min()
    number = int(np.argmax([np.sum(labels[rows] == 2) for rows in seen]))
    assert best.strategy == number % 2
    assert seen[number].tolist() == [5, 7, *best.indices.tolist()]
    for rows in seen:
        assert len(set(rows.tolist())) == 6
        assert candidates[rows].all()
    # The strategy without chance has other candidates each time.
    assert seen[1].tolist() != seen[3].tolist()
