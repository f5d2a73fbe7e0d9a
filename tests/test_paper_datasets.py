"""The paper's data sets: their figures, and their parts on disk."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import balal
from balal import data

EMBEDDED = Path(__file__).parent.parent / "experiments" / "data"
NAMES = {
    "cifar100": "CIFAR-100",
    "food101": "Food-101",
    "imagenet100": "IMN-100",
    "mit67": "MIT-67",
}


@pytest.mark.parametrize("name", NAMES)
def test_counts_have_the_figures_of_the_papers_first_table(name):
    known = data.info(name)
    printed = json.loads((EMBEDDED / "aggarwal_tables.json").read_text())["table1"][NAMES[name]]
    sizes = np.array(known.counts)
    assert len(sizes) == known.num_classes == printed["classes"]
    assert sizes.sum() == printed["images"]
    # Printed figures are cut or rounded.
    assert sizes.mean() == pytest.approx(printed["mean"], abs=0.01)
    assert sizes.std() == pytest.approx(printed["std"], abs=0.01)
    assert float(balal.metrics.imbalance_ratio(sizes)) == pytest.approx(printed["ir"], abs=0.001)


def test_counts_are_those_that_the_experiments_embed(embedded):
    stored = json.loads((EMBEDDED / "induced_counts.json").read_text())
    for name in NAMES:
        assert data.info(name).counts == tuple(stored[name.replace("imagenet", "imn")]["counts"])
    _, _, labels = embedded
    assert np.bincount(labels).tolist() == list(data.info("cifar100").counts)


def test_small_images_are_seen_whole():
    assert data.info("cifar100").crop == "whole"
    assert {data.info(name).crop for name in ("food101", "imagenet100", "mit67")} == {"centre"}


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(
        ValueError,
        match="there is no data set 'cifar10'; there are cifar100, food101, imagenet100, mit67",
    ):
        data.info("cifar10")


def scenes(place: Path, sizes: dict[str, int]) -> None:
    for name, size in sizes.items():
        (place / name).mkdir(parents=True)
        for number in range(size):
            Image.new("RGB", (2, 2), (number, 0, 0)).save(place / name / f"{number}.png")


def test_a_list_of_test_images_leaves_the_rest_to_the_pool(tmp_path):
    scenes(tmp_path / "Images", {"attic": 3, "bar": 2})
    (tmp_path / "TestImages.txt").write_text("attic/1.png\nbar/0.png\n")
    known = data.DatasetInfo("two_scenes", 2, "list", None, "TestImages.txt", "centre", (1, 1))
    test, pool = (data.load(known, tmp_path, part=part) for part in ("test", "pool"))
    assert (test.ids, test.labels.tolist()) == (("attic/1.png", "bar/0.png"), [0, 1])
    assert (pool.ids, pool.labels.tolist()) == (
        ("attic/0.png", "attic/2.png", "bar/1.png"),
        [0, 0, 1],
    )
    assert pool.read(1)[0, 0].tolist() == [2, 0, 0]
    unbalanced = data.select(
        pool, balal.imbalance.subsample(jax.random.key(0), pool.labels, np.array(known.counts))
    )
    assert np.bincount(unbalanced.labels).tolist() == [1, 1]
    (tmp_path / "TestImages.txt").write_text("attic/9.png\n")
    with pytest.raises(
        ValueError, match=r"TestImages\.txt lists 1 images that are missing: attic/9\.png"
    ):
        data.load(known, tmp_path, part="test")


def test_parts_may_be_folders_side_by_side(tmp_path):
    scenes(tmp_path / "train", {"attic": 3, "bar": 2})
    scenes(tmp_path / "test", {"attic": 1, "bar": 1})
    known = data.DatasetInfo("two_scenes", 2, "folders", "train", "test", "centre")
    assert [len(data.load(known, tmp_path, part=part)) for part in ("pool", "test")] == [5, 2]
    with pytest.raises(ValueError, match="imagenet100 has 100 classes, but 2 were found in"):
        data.load(data.info("imagenet100"), tmp_path, part="pool")
