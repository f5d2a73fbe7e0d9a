"""Feature caches: whole or going on, of one origin, and refused with the reason otherwise."""

import errno
import json
import os

import numpy as np
import pytest

from balal import feature_cache as cache

MANIFEST = dict(
    source="resnet18",
    weights=dict(file="a.pth", sha256="57934424"),
    preprocessing=dict(size=224, mean=[1.5, 2.0]),
)
COLUMNS = dict(features=((4,), "float16"), margin=((), "float32"))
IDS, LABELS = tuple(f"{row:02}.jpg" for row in range(10)), np.arange(10, dtype=np.int32) % 3 - 1
FEATURES, MARGIN = (
    np.arange(40, dtype=np.float16).reshape(10, 4),
    np.linspace(0, 1, 10, dtype=np.float32),
)


def begin(folder, manifest=MANIFEST, ids=IDS):
    return cache.begin(
        folder, manifest, COLUMNS, ids=ids, labels=LABELS[: len(ids)], class_names=("cat", "dog")
    )


def write(folder, first, last):
    cache.write(folder, first, dict(features=FEATURES[first:last], margin=MARGIN[first:last]))


def filled(folder):
    assert begin(folder) == 0
    for first in (0, 4, 8):
        write(folder, first, min(first + 4, 10))
    return folder


def begun(folder):
    begin(folder)
    write(folder, 0, 4)
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


def test_one_that_was_killed_resumes_after_the_last_whole_shard_and_ends_the_same(tmp_path):
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
    begin(tmp_path / "killed")
    (tmp_path / "killed" / "manifest.json").unlink()
    (tmp_path / "killed" / "margin.npy").write_bytes(b"half a header")
    assert content(filled(tmp_path / "killed")) == content(filled(tmp_path / "whole"))


@pytest.mark.parametrize("lost", [["manifest.json"], ["manifest.json", "progress.json"]])
@pytest.mark.parametrize("rows", [4, 10])
def test_finished_rows_without_a_manifest_are_not_thrown_away(lost, rows, tmp_path):
    folder = filled(tmp_path) if rows == 10 else begun(tmp_path)
    for name in lost:
        (folder / name).unlink()
    before = content(folder)
    with pytest.raises(
        ValueError,
        match=r"holds other files \(features\.npy, margin\.npy, .*\) and no manifest\.json",
    ):
        begin(folder)
    assert content(folder) == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(source="resnet50"), 'source was "resnet18" and is "resnet50"'),
        (
            dict(weights=dict(file="a.pth", sha256="1234")),
            'weights.sha256 was "57934424" and is "1234"',
        ),
        (
            dict(preprocessing=dict(size=240, mean=[1.5, 2.0])),
            "preprocessing.size was 224 and is 240",
        ),
        (dict(more=1), "more was null and is 1"),
    ],
)
def test_features_of_another_origin_are_refused_with_what_differs(changed, told, tmp_path):
    folder = filled(tmp_path / "cache")
    before = content(folder)
    for attempt in (
        lambda: begin(folder, MANIFEST | changed),
        lambda: cache.read(folder, manifest=MANIFEST | changed),
    ):
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
    with pytest.raises(ValueError, match="does not continue it"):
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
    "a cut column": lambda folder: (folder / "margin.npy").write_bytes(
        (folder / "margin.npy").read_bytes()[:-3]
    ),
    "a missing column": lambda folder: (folder / "margin.npy").unlink(),
    "a missing list of rows": lambda folder: (folder / "rows.json").unlink(),
    "a list of rows that is empty": lambda folder: (folder / "rows.json").write_text("{}"),
    "a list for a progress": lambda folder: (folder / "progress.json").write_text("[]"),
    "half a manifest": lambda folder: (folder / "manifest.json").write_text('{"source": "res'),
    "another dtype": lambda folder: np.save(folder / "features.npy", FEATURES.astype(np.float32)),
    "objects": lambda folder: np.save(
        folder / "features.npy", np.array([dict()]), allow_pickle=True
    ),
}


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


DAMAGES_OF_A_PART = {
    "a short column": lambda folder: os.truncate(folder / "features.npy", 140),
    "a long column": lambda folder: os.truncate(folder / "features.npy", 1000),
    "a changed number": lambda folder: flip(folder / "margin.npy", 128),
    "a missing column": lambda folder: (folder / "features.npy").unlink(),
    "another shape": lambda folder: np.save(folder / "features.npy", FEATURES[:4]),
    "another dtype": lambda folder: np.save(folder / "margin.npy", MARGIN.astype(np.float64)),
    "another order": lambda folder: np.save(folder / "features.npy", np.asfortranarray(FEATURES)),
    "an empty progress": lambda folder: (folder / "progress.json").write_text("{}"),
    "a list for a progress": lambda folder: (folder / "progress.json").write_text("[]"),
    "a progress without sums": lambda folder: (folder / "progress.json").write_text('{"rows": 4}'),
    "more rows than were written": lambda folder: change(folder / "progress.json", rows=8),
    "more rows than there are": lambda folder: change(folder / "progress.json", rows=80),
    "a progress that ends too early": lambda folder: (folder / "progress.json").write_text(
        '{"rows": 4, "sha256": {}}'
    ),
    "no list of rows": lambda folder: (folder / "rows.json").unlink(),
}


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("damage", DAMAGES_OF_A_PART.values(), ids=DAMAGES_OF_A_PART)
def test_damage_to_what_is_finished_is_reported_before_the_rest_is_made(damage, tmp_path):
    damage(begun(tmp_path / "cache"))
    before = content(tmp_path / "cache")
    with pytest.raises(ValueError, match="extract again"):
        begin(tmp_path / "cache")
    assert content(tmp_path / "cache") == before


@pytest.mark.parametrize("damage", ["a short column", "a changed number"])
def test_damage_while_the_rest_is_made_is_not_certified(damage, tmp_path):
    DAMAGES_OF_A_PART[damage](begun(tmp_path))
    with pytest.raises(ValueError, match="extract again"):
        write(tmp_path, 4, 10)
    with pytest.raises(ValueError, match="has 4 of 10 rows"):
        cache.read(tmp_path)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damage_is_reported_and_never_read(damage, tmp_path):
    folder = filled(tmp_path / "cache")
    damage(folder)
    with pytest.raises(ValueError, match=r"extract again"):
        cache.read(folder)


def test_the_manifest_is_plain_json_with_the_columns(tmp_path):
    manifest = json.loads((filled(tmp_path / "cache") / "manifest.json").read_text())
    assert manifest["columns"] == dict(features=[[4], "float16"], margin=[[], "float32"])


def test_what_a_kill_left_beside_the_files_goes(tmp_path):
    begun(tmp_path / "cache")
    (tmp_path / "cache" / ".progress.json.999999999-7.unfinished").write_text("half")
    begin(tmp_path / "cache")
    write(tmp_path / "cache", 4, 10)
    assert content(tmp_path / "cache") == content(filled(tmp_path / "whole"))


def test_the_disk_is_taken_beforehand_and_a_full_one_is_told(tmp_path, monkeypatch):
    columns = dict(features=((4096,), "float32"))
    options = dict(ids=tuple("abcd"), labels=np.full(4, -1))
    cache.begin(tmp_path / "kept", dict(source="none"), columns, **options)
    status = (tmp_path / "kept" / "features.npy").stat()
    assert status.st_blocks * 512 >= 4 * 4096 * 4

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(
        ValueError, match=r"features\.npy needs \d+ bytes of disk, .*\(No space left"
    ):
        cache.begin(tmp_path / "full", dict(source="none"), columns, **options)
    monkeypatch.undo()
    # Once there is room it begins anew.
    assert cache.begin(tmp_path / "full", dict(source="none"), columns, **options) == 0
