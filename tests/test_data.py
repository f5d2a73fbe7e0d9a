"""What needs the full features: skipped, with a sentence, where they are absent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import balal

pytestmark = pytest.mark.data


def compact_pool(path):
    with np.load(path, allow_pickle=False) as file:
        scores = balal.Scores(
            *(
                jnp.asarray(file[name])
                for name in ("entropy", "margin", "least_confidence", "predicted")
            )
        )
        return balal.pool(
            (file["features"] * file["scale"]).astype(np.float32), scores=scores
        ), file["labels"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "ratio"),
    [("ent_inv_div", 0.82), ("ent_inv_div+balance", 0.52), ("random+balance", 0.65)],
)
def test_a_weaker_network_gives_the_ratios_known_for_it(shared, name, ratio):
    pool, labels = compact_pool(shared / "data" / "cifar100_mnv2_compact_pool.npz")
    runs = [
        balal.one_shot(
            balal.strategy(name),
            pool,
            labels,
            budget=500,
            num_classes=100,
            key=jax.random.key(seed),
        ).imbalance_ratio
        for seed in range(3 if name.startswith("random") else 1)
    ]
    assert np.mean(runs) == pytest.approx(ratio, abs=0.06 if name.startswith("random") else 0.006)


@pytest.mark.slow
def test_stored_half_precision_features_give_the_picks_of_float32(shared):
    with np.load(
        shared / "data" / "cifar100_efficientnet_lite0_features.npz", allow_pickle=False
    ) as file:
        features, labels = file["pool_features"][:4000], file["pool_labels"][:4000]
    strategy, key = balal.strategy("core_set+balance"), jax.random.key(0)
    half, single = (
        balal.one_shot(
            strategy,
            balal.pool(features.astype(dtype)),
            labels,
            budget=150,
            num_classes=100,
            key=key,
        )
        for dtype in (np.float16, np.float32)
    )
    np.testing.assert_array_equal(half.indices, single.indices)
    assert int(half.switched_at) > 0
