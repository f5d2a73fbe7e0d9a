"""Images to features: what is stored, what a kill costs, and how a pool is made of them."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from small_network import SMALL, photographs

import balal
from balal import data, feature_cache, features
from balal.models import preprocessing, sources, weights

pytestmark = pytest.mark.xdist_group("photographs")
ROWS = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs") / "photos", ROWS)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def extract(network, images: data.Images, folder, **options) -> feature_cache.Cache:
    model = sources.Pretrained("small", SMALL, network)
    return features.extract(images, folder, source=model, batch_size=2, **options)


def test_features_are_those_of_the_network_and_say_what_made_them(network, folder, tmp_path):
    images = data.folder(folder)
    found = extract(network, images, tmp_path / "cache")
    rows = [0, 31, ROWS - 1]
    prepared = np.stack([preprocessing.prepare(images.read(row), SMALL) for row in rows])
    features, logits = SMALL.apply(sources.load(SMALL, network), prepared)
    np.testing.assert_allclose(found.columns["features"][rows], features, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(found.columns["predicted"][rows], np.argmax(logits, axis=1))
    assert found.columns["features"].dtype == np.float16
    assert found.ids == images.ids
    assert found.manifest["weights"] == dict(file=network.name, sha256=weights.sha256(network))
    assert found.manifest["preprocessing"]["padding"] == "same"
    assert found.manifest["images"] == dict(name="photos", fingerprint=images.fingerprint)


def test_one_that_was_killed_resumes_and_ends_byte_for_byte_the_same(
    network, folder, tmp_path, monkeypatch
):
    images = data.folder(folder)
    extract(network, images, tmp_path / "whole")

    class Killed(BaseException):
        pass

    write = feature_cache.write

    def killed(place, first, shard):
        if first:
            raise Killed
        write(place, first, shard)

    monkeypatch.setattr(feature_cache, "write", killed)
    with pytest.raises(Killed):
        extract(network, images, tmp_path / "killed")
    monkeypatch.setattr(feature_cache, "write", write)
    begun = json.loads((tmp_path / "killed" / "progress.json").read_text())["rows"]
    assert 0 < begun < ROWS
    read = []
    images = data.Images(
        images.name,
        images.ids,
        images.labels,
        images.class_names,
        lambda row: read.append(row) or images_read(row),
        images.fingerprint,
    )
    images_read = data.folder(folder).read
    extract(network, images, tmp_path / "killed")
    assert sorted(read) == list(range(begun, ROWS))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_the_batch_is_spread_over_all_local_devices_with_the_features_of_one(
    network, folder, tmp_path, monkeypatch
):
    assert len(jax.local_devices()) == 8
    many = extract(network, data.folder(folder), tmp_path / "many")
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    one = extract(network, data.folder(folder), tmp_path / "one")
    np.testing.assert_array_equal(many.columns["features"], one.columns["features"])
    np.testing.assert_array_equal(many.columns["entropy"], one.columns["entropy"])


def test_features_that_the_stored_dtype_cannot_hold_are_listed(
    network, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        features, "_see", lambda *_: iter([dict(features=np.full((ROWS, 2), 1e6, np.float32))])
    )
    with pytest.raises(
        ValueError,
        match=r"float16 cannot hold the features of 000\.png, 001\.png, .* \(70 in all\): use "
        r"dtype=float32",
    ):
        extract(network, data.folder(folder), tmp_path / "cache")


def test_three_lines_lead_from_a_folder_to_a_pool(network, folder, tmp_path):
    model = sources.pretrained("small", weights=network)
    images = data.folder(folder)
    seen = features.extract(images, tmp_path / "cache", source=model)
    pool = balal.pool(seen.features, scores=seen.scores)
    strategy = balal.strategy("ent_inv_div")
    state = balal.init(strategy, pool, budget=5, num_classes=2, key=jax.random.key(0))
    rows, _ = balal.ask(strategy, pool, state, size=5)
    assert len(set(np.asarray(rows).tolist())) == 5


def test_a_name_of_a_source_stands_for_its_installed_weights(
    network, folder, tmp_path, monkeypatch
):
    monkeypatch.setitem(weights.INSTALLABLE, "small", "")
    monkeypatch.setattr(weights, "installed", lambda name: {"small": network}[name])
    found = features.extract(data.folder(folder), tmp_path / "cache", source="small")
    assert found.manifest["weights"]["file"] == network.name


def test_progress_is_reported_and_begins_with_what_is_finished(network, folder, tmp_path):
    images, told = data.folder(folder), []
    extract(network, images, tmp_path / "cache", progress=lambda *done: told.append(done))
    assert told[0] == (0, ROWS)
    assert told[-1] == (ROWS, ROWS)
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    told.clear()
    extract(network, images, tmp_path / "cache", progress=lambda *done: told.append(done))
    assert not told, "nothing is left to do"


def test_other_images_sources_and_dtypes_have_folders_of_other_names(network, folder):
    images, model = data.folder(folder), sources.Pretrained("small", SMALL, network)
    cropped = sources.Pretrained("small", dataclasses.replace(SMALL, crop=1.0), network)
    found = {
        features.folder_name(images, source=model),
        features.folder_name(images, source=cropped),
        features.folder_name(images, source=model, dtype="float32"),
        features.folder_name(data.select(images, range(3)), source=model),
    }
    assert len(found) == 4
    assert all(name.startswith("photos-small-") for name in found)
    assert features.folder_name(images, source=model) in found
