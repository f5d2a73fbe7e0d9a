"""Greedy coverage against the whole table in float64, and the published examples."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from balal.kernels.herding import greedy, ground, herding

VECTORS = Path(__file__).parent / "vectors"


def cases(name):
    return json.loads((VECTORS / f"{name}.json").read_text())["cases"]


@pytest.mark.parametrize("name", ["max_herding", "u_herding", "prob_cover"])
def test_the_published_examples_are_picked(name):
    for case in cases(name):
        weights = case.get("weights")
        herd = herding(
            np.float32(case["features"]),
            len(case["picks"]),
            similarity="ball" if name == "prob_cover" else "gaussian",
            radius=float(case["radius"]),
            weights=None if weights is None else np.float32(weights),
            # Padded to one shape.
            labelled=np.array([*case["labelled"], -1][:1]),
        )
        assert herd.indices.tolist() == case["picks"]
        rows = 1 if name == "prob_cover" else len(case["features"])
        np.testing.assert_allclose(np.asarray(herd.gains) / rows, case["gains"], atol=2e-6)


@pytest.mark.parametrize("similarity", ["gaussian", "ball"])
@pytest.mark.parametrize("seed", range(3))
def test_picks_are_those_of_the_whole_table(similarity, seed):
    """More rows than one batch, and more picks than there is anything to gain from."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(150, 3)).astype(np.float32)
    features[140:] = features[:10]
    weights = rng.random(150).astype(np.float32) if similarity == "gaussian" else None
    options = dict(
        similarity=similarity,
        radius=0.9,
        labelled=np.array([7, 3, -1, 60, -1]),
        candidates=rng.random(150) < 0.9,
    )
    herd = herding(features, 60, weights=weights, **options)
    picks, gains = reference.herding(
        np.float64(features),
        60,
        weights=weights,
        **options | dict(labelled=[7, 3, 60]),
    )
    assert herd.indices.tolist() == picks
    np.testing.assert_allclose(herd.gains, gains, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("similarity", ["gaussian", "ball"])
def test_a_pool_too_large_for_the_table_gets_the_same_picks(monkeypatch, similarity):
    rng = np.random.default_rng(1)
    features, candidates = rng.normal(size=(151, 3)).astype(np.float32), rng.random(151) < 0.9
    monkeypatch.setattr(ground, "_BLOCK", 8 * 151)

    def picks():
        # A function anew: the size is no argument by which programs could be told apart.
        def herd(features, candidates):
            return greedy._herding.__wrapped__(
                features, 40, similarity, jnp.float32(1), None, None, candidates
            ).indices

        program = jax.jit(herd).lower(features, candidates).compile()
        return program(features, candidates).tolist(), program.memory_analysis().temp_size_in_bytes

    with_table, large = picks()
    monkeypatch.setattr(ground, "_TABLE", 0)
    without_table, small = picks()
    twin = reference.herding(
        np.float64(features), 40, similarity=similarity, candidates=candidates
    )[0]
    assert with_table == without_table == twin
    assert large - small > 151**2 / 2


def test_many_rows_that_are_worth_the_same_are_not_measured_again_for_each_pick(monkeypatch):
    measured = []
    gains_of = greedy.gains_of

    def counted(*arguments):
        jax.debug.callback(lambda rows: measured.append(len(rows)), arguments[-1])
        return gains_of(*arguments)

    monkeypatch.setattr(greedy, "gains_of", counted)
    features = np.eye(200, dtype=np.float32)
    herd = jax.jit(greedy._herding.__wrapped__, static_argnums=(1, 2))(
        features, 50, "gaussian", jnp.float32(0.1), None, None, None
    )
    assert herd.indices.tolist() == list(range(50))
    jax.effects_barrier()
    assert len(measured) == 50  # a batch for each pick


def test_copies_of_a_pick_gain_nothing_and_come_last():
    features = np.repeat(np.float32([[0.1, 0.7], [5, 5]]), 3, axis=0)
    herd = herding(features, 6)
    assert herd.indices.tolist() == [0, 3, 1, 2, 4, 5]
    assert np.asarray(herd.gains)[2:].tolist() == [0] * 4


def test_rows_that_are_no_candidates_neither_count_nor_matter():
    features = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    padded = np.concatenate([features, np.full((5, 2), np.nan, np.float32)])
    masked = herding(padded, 10, candidates=np.arange(25) < 20)
    assert masked.indices.tolist() == herding(features, 10).indices.tolist()
    # Where they run out there is nothing.
    short = herding(features, 3, candidates=np.arange(20) == 4)
    assert short.indices.tolist() == [4, -1, -1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (dict(radius=0.0), r"radius must be a number above 0, got 0\.0"),
        (dict(weights=np.array([1, -1, np.nan], np.float32)), r"rows 1, 2 are not"),
        (dict(labelled=np.array([3])), "labelled"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        herding(jnp.eye(3), 1, **options)
