"""What the strategies that cover the pool make of it."""

import jax
import numpy as np
import pytest

import balal
from balal.strategies import KMeansPlusPlus, MaxHerding, ProbCover, UHerding

BLOBS = np.repeat(np.arange(3), 8)


def blobs():
    rng = np.random.default_rng(0)
    features = (30 * np.eye(3)[BLOBS] + rng.normal(size=(24, 3))).astype(np.float32)
    return balal.pool(features, logits=(9 * np.eye(3)[BLOBS]).astype(np.float32))


@pytest.mark.parametrize(
    "strategy",
    [MaxHerding(), UHerding(), ProbCover(), ProbCover(clusters=3), KMeansPlusPlus()],
    ids=str,
)
def test_the_first_picks_lie_in_different_blobs(strategy):
    picks = balal.one_shot(
        strategy, blobs(), BLOBS, budget=3, num_classes=3, key=jax.random.key(0)
    ).indices
    assert sorted(BLOBS[np.asarray(picks)]) == [0, 1, 2]


def test_u_herding_leaves_blobs_out_that_the_target_model_is_sure_of():
    pool = blobs()
    logits = np.where(BLOBS[:, None] == 2, 0, 30 * np.eye(3)[BLOBS]).astype(np.float32)
    pool = balal.pool(pool.features, logits=logits)
    first = dict(
        num_classes=3, key=jax.random.key(0), labelled=(np.array([0, 8]), np.array([0, 1]))
    )
    picks = balal.simulate(UHerding(), pool, BLOBS, budget=3, **first).indices
    assert BLOBS[np.asarray(picks)].tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MaxHerding(radius=0), "radius must be a number above 0"),
        (lambda: UHerding(radius=-1.0), "radius must be a number above 0"),
        (lambda: ProbCover(purity=0), "purity must be above 0 and at most 1"),
        (lambda: ProbCover(clusters=0), "clusters"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
