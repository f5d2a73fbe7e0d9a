"""Feature caches: whole or going on, of one origin, and refused with the reason otherwise."""

import json
import shutil

import numpy as np
import pytest

from balal.data import cache

MANIFEST = dict(source="resnet18", weights=dict(file="a.pth", sha256="57934424"), preprocessing=dict(size=224, mean=[1.5, 2.0]))
COLUMNS = dict(features=((4,), "float16"), margin=((), "float32"))
IDS, LABELS = tuple(f"{row:02}.jpg" for row in range(10)), np.arange(10, dtype=np.int32) % 3 - 1
FEATURES, MARGIN = np.arange(40, dtype=np.float16).reshape(10, 4), np.linspace(0, 1, 10, dtype=np.float32)


def begin(folder, manifest=MANIFEST, ids=IDS):
    return cache.begin(folder, manifest, COLUMNS, ids=ids, labels=LABELS[: len(ids)], class_names=("cat", "dog"))


def write(folder, first, last):
    cache.write(folder, first, dict(features=FEATURES[first:last], margin=MARGIN[first:last]))


def filled(folder):
    assert begin(folder) == 0
    for first in (0, 4, 8):
        write(folder, first, min(first + 4, 10))
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_written_is_read(tmp_path):
    found = cache.read(filled(tmp_path / "cache"), manifest=MANIFEST)
    np.testing.assert_array_equal(found.columns["features"], FEATURES)
    np.testing.assert_array_equal(found.columns["margin"], MARGIN)
    np.testing.assert_array_equal(found.labels, LABELS)
    assert (found.ids, found.class_names, found.labels.dtype) == (IDS, ("cat", "dog"), np.int32)
    assert begin(tmp_path / "cache") == 10


def test_one_that_was_killed_goes_on_after_the_last_whole_shard_and_ends_the_same(tmp_path):
    begin(tmp_path / "killed")
    write(tmp_path / "killed", 0, 4)
    column = np.lib.format.open_memmap(tmp_path / "killed" / "features.npy", mode="r+")
    column[4:6] = 99  # half a shard that was never counted
    column.flush()
    del column
    assert begin(tmp_path / "killed") == 4
    write(tmp_path / "killed", 4, 8)
    write(tmp_path / "killed", 8, 10)
    assert content(tmp_path / "killed") == content(filled(tmp_path / "whole"))


def test_a_kill_while_the_folder_is_made_is_made_good(tmp_path):
    whole = filled(tmp_path / "whole")
    shutil.copytree(whole, tmp_path / "killed")
    (tmp_path / "killed" / "manifest.json").unlink()
    assert begin(tmp_path / "killed") == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(source="resnet50"), 'source was "resnet18" and is "resnet50"'),
        (dict(weights=dict(file="a.pth", sha256="1234")), 'weights.sha256 was "57934424" and is "1234"'),
        (dict(preprocessing=dict(size=240, mean=[1.5, 2.0])), "preprocessing.size was 224 and is 240"),
        (dict(more=1), "more was null and is 1"),
    ],
)
def test_features_of_another_origin_are_refused_with_what_differs(changed, told, tmp_path):
    folder = filled(tmp_path / "cache")
    before = content(folder)
    for attempt in (lambda: begin(folder, MANIFEST | changed), lambda: cache.read(folder, manifest=MANIFEST | changed)):
        with pytest.raises(ValueError, match="was made from something else") as error:
            attempt()
        assert told in str(error.value)
    assert content(folder) == before


def test_other_images_are_refused(tmp_path):
    with pytest.raises(ValueError, match="other images or labels"):
        begin(filled(tmp_path / "cache"), ids=IDS[:9])


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"picture")
    with pytest.raises(ValueError, match="holds other files"):
        begin(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_shard_that_does_not_go_on_is_refused(tmp_path):
    begin(tmp_path / "cache")
    write(tmp_path / "cache", 0, 4)
    with pytest.raises(ValueError, match="4 of 10 rows"):
        write(tmp_path / "cache", 5, 8)
    with pytest.raises(ValueError, match="does not go on"):
        cache.write(tmp_path / "cache", 4, dict(features=FEATURES[4:6]))


def test_an_unfinished_one_is_not_read(tmp_path):
    begin(tmp_path / "cache")
    write(tmp_path / "cache", 0, 4)
    with pytest.raises(ValueError, match="has 4 of 10 rows"):
        cache.read(tmp_path / "cache")


def test_none_at_all_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no feature cache"):
        cache.read(tmp_path / "nothing")


DAMAGES = {
    "a changed number": lambda folder: flip(folder / "features.npy"),
    "a cut column": lambda folder: (folder / "margin.npy").write_bytes((folder / "margin.npy").read_bytes()[:-3]),
    "a missing column": lambda folder: (folder / "margin.npy").unlink(),
    "a missing list of rows": lambda folder: (folder / "rows.json").unlink(),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"source": "res'),
    "another dtype": lambda folder: np.save(folder / "features.npy", FEATURES.astype(np.float32)),
    "objects": lambda folder: np.save(folder / "features.npy", np.array([dict()]), allow_pickle=True),
}


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_told_and_never_read(damage, tmp_path):
    folder = filled(tmp_path / "cache")
    damage(folder)
    with pytest.raises(ValueError, match=r"extract again"):
        cache.read(folder)


def test_the_manifest_is_plain_json_with_the_columns(tmp_path):
    manifest = json.loads((filled(tmp_path / "cache") / "manifest.json").read_text())
    assert manifest["columns"] == dict(features=[[4], "float16"], margin=[[], "float32"])
