"""Measures of features, and what they are worth, on images of noise."""

import json

import numpy as np
import pytest
from absl import flags

from experiments import transfer
from experiments.common import degraded, transfer_plots

RNG = np.random.default_rng(0)
CLASSES = 4


@pytest.fixture(scope="module")
def images() -> degraded.Images:
    """Of four tints, whose means are the features."""
    labels, tests = np.arange(60) % CLASSES, np.arange(20) % CLASSES
    tints = 40 * RNG.uniform(1, 5, size=(CLASSES, 1, 1, 3))
    every = np.concatenate([labels, tests])
    pixels = (tints[every] + 30 * RNG.uniform(size=(80, 32, 32, 3))).astype(np.uint8)
    features = pixels.mean(axis=(1, 2)).astype(np.float32)
    return degraded.Images(
        pixels,
        features,
        RNG.normal(size=(3, 7)).astype(np.float32),
        RNG.normal(size=7).astype(np.float32),
        labels,
        tests,
        {},
    )


def test_noise_is_in_units_of_each_feature_and_the_classifier_sees_it(images):
    plain, noisy = degraded.noisy(images, 0.0, 0), degraded.noisy(images, 2.0, 0)
    np.testing.assert_array_equal(plain.features, images.features[:60])
    added = np.concatenate([noisy.features, noisy.tests]) - images.features
    np.testing.assert_allclose(added.std(axis=0) / images.features[:60].std(axis=0), 2, rtol=0.25)
    expected = noisy.features @ images.kernel + images.bias
    np.testing.assert_allclose(noisy.logits, expected, rtol=1e-4)


@pytest.mark.usefixtures("network")
def test_a_network_with_random_weights_sees_every_image(images, monkeypatch):
    monkeypatch.setattr(degraded, "_TOGETHER", 30)
    version = degraded.untrained(images, "small", 0)
    assert (len(version.features), len(version.tests), version.logits.shape) == (60, 20, (60, 12))
    assert np.ptp(version.tests, axis=0).max() > 0


def test_a_head_is_as_good_as_its_features(images):
    labels = np.where(np.arange(60) % 3 > 0, images.labels, -1)
    good = transfer.judge(degraded.noisy(images, 0.0, 0), labels, images.test_labels)
    bad = transfer.judge(degraded.noisy(images, 50.0, 0), labels, images.test_labels)
    assert good["accuracy"] > bad["accuracy"] + 20
    assert good["labelled_agreement"] > bad["labelled_agreement"] + 0.2
    assert transfer.judge(degraded.pixels(images), labels, images.test_labels)["agreement"] is None


def test_rank_correlation_is_over_the_versions_that_have_the_measure():
    judged = [
        dict(version=f"{number}", seed=seed, logme=value, accuracy=float(number))
        for seed in (0, 1)
        for number, value in enumerate((1.0, 3.0, 2.0, None))
    ]
    assert transfer.correlation(judged, "logme") == "+0.50 ± 0.00"


def test_every_version_has_a_line_and_a_dot_and_a_measure_that_it_lacks_is_a_dash(tmp_path):
    judged = [
        dict.fromkeys(transfer.MEASURES, float(number))
        | dict(version=version, seed=seed, accuracy=10.0 * number + seed)
        for seed in (0, 1)
        for number, version in enumerate(("as they came", "noise 1", "pixels"))
    ]
    for row in judged:
        row["certainty"] = None if row["version"] == "pixels" else row["certainty"]
    lines = transfer.tables({}, judged).splitlines()
    (pixels,) = [line.split("|") for line in lines if line.startswith("| pixels")]
    assert [cell.strip() for cell in pixels[1:-1]] == [
        "pixels",
        *["2.000", "-", "2.000", "2.000", "2.000", "20.500"],
    ]
    assert "+1.00 ± 0.00" in lines[-1]
    transfer_plots.measures(tmp_path / "measures.png", judged, transfer.MEASURES)
    assert (tmp_path / "measures.png").stat().st_size > 5000


def test_a_pool_has_its_measures_and_its_source_classes_counted(embedded, tmp_path):
    features, scores, labels = embedded
    kept = {name: values[:200] for name, values in scores.items()}
    for name, rows in (("pool", slice(200)), ("test", slice(200, 300))):
        np.savez(
            tmp_path / f"some_{name}.npz", features=features[rows], labels=labels[rows], **kept
        )
    flag_values = flags.FlagValues()
    transfer.define_flags(flag_values)
    path = tmp_path / "some_pool.npz"
    flag_values(["transfer", "--pools=", f"--features={path}", f"--out={tmp_path / 'out'}"])
    transfer.main(flag_values)
    found = json.loads((tmp_path / "out" / "results.json").read_text())["pools"]["some_pool"]
    assert found["counts"] == np.bincount(scores["predicted"][:200]).tolist()
    shares = np.unique(scores["predicted"][:200], return_counts=True)[1] / 200
    assert found["source_classes"] == pytest.approx(np.exp(-np.sum(shares * np.log(shares))))
    assert found["labelled_agreement"] is not None
    assert (tmp_path / "out" / "source_classes.png").stat().st_size > 5000
