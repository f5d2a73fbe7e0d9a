"""Distances from decision boundaries: the published example, the twin, and what has no boundary."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import reference

from balal.kernels.boundaries import boundary_distances

CASE = json.loads((Path(__file__).parent / "vectors/mase_base.json").read_text())["cases"][0]


def test_the_published_example():
    features, weights, bias = (np.array(CASE[name]) for name in ("features", "weights", "bias"))
    logits = features @ weights.T + bias
    assert logits.argmax(axis=1).tolist() == CASE["predicted"]
    found = boundary_distances(logits.astype(np.float32), weights.astype(np.float32))
    np.testing.assert_allclose(found, CASE["distances"], atol=1e-5)
    np.testing.assert_allclose(jnp.min(found, axis=1), CASE["nearest"], atol=1e-5)
    assert jnp.argsort(jnp.min(found, axis=1)).tolist() == CASE["mase"]
    for budget, expected in CASE["base"].items():
        assert reference.boundaries_in_turn(np.asarray(found), int(budget)) == expected


def test_a_class_that_the_head_does_not_know_or_does_not_tell_apart_is_infinitely_far():
    logits = np.array([[2.0, 1.0, 1.5, -np.inf]], np.float32)
    weights = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [5.0, 5.0]], np.float32)
    assert boundary_distances(logits, weights).tolist() == [[1.0, 1.0, np.inf, np.inf]]


def test_distances_are_those_of_the_twin():
    rng = np.random.default_rng(0)
    logits, weights = rng.normal(size=(20, 5)), rng.normal(size=(5, 7))
    found = boundary_distances(logits.astype(np.float32), weights.astype(np.float32))
    np.testing.assert_allclose(found, reference.boundary_distances(logits, weights), rtol=1e-4)


def test_weights_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="weights must be finite"):
        boundary_distances(np.zeros((2, 4), np.float32), np.full((4, 3), np.nan, np.float32))
