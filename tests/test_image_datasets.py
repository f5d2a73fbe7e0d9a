"""Experiments that begin with images: held-out tests, heads that are trained on images, and what
the user is told."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from small_network import photographs

from balal import data
from balal.cli import image_options, images, remarks
from balal.data import folders
from experiments import heads, one_shot
from experiments.common import datasets, image_datasets

pytestmark = pytest.mark.xdist_group("photographs")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs") / "photos", 70)


def run(network, out: Path, *arguments: str) -> None:
    """experiments.one_shot in this process."""
    own = [f"--out={out}", "--source=small", f"--weights={network}", "--batch_size=2"]
    flag_values = flags.FlagValues()
    one_shot.define_flags(flag_values)
    flag_values(["program", *own, *arguments])
    one_shot.main(flag_values)


@pytest.mark.slow
def test_one_shot_begins_with_a_folder_of_classes(network, tmp_path, capsys):
    photographs(tmp_path / "photos", 90, classes=3)
    arguments = (
        "--budgets=9,18",
        "--strategies=ent_inv_div",
        "--rules=none",
        "--workers=0",
        "--seeds=1",
        f"--cache={tmp_path / 'features'}",
    )
    run(network, tmp_path / "out", f"--data_dir={tmp_path / 'photos'}", *arguments)
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["class_sizes"] == [24, 24, 24]
    assert [run["budget"] for run in result["runs"]] == [9, 18]
    assert list(result["configuration"]["files"]) == [
        "photos, pool, by small",
        "photos, test, by small",
    ]
    with pytest.raises(ValueError, match="give only one of them"):
        run(
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--features=x.npz",
            *arguments,
        )
    with pytest.raises(ValueError, match=r"cells of another configuration \(answers was"):
        run(
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--test_share=0.5",
            *arguments,
        )
    with pytest.raises(
        ValueError,
        match=r"a test set is needed, but a share of 0 .* is not a single image: raise "
        r"--test_share, or name test images",
    ):
        run(
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--test_share=0",
            *arguments,
        )

    # A file beside the classes is listed, and may be left out.
    (tmp_path / "photos" / "stray.bin").write_bytes(b"?")
    with pytest.raises(
        ValueError,
        match=r"stray\.bin \(it is not in the directory of a class\); .* leave them out with "
        r"skip_damaged=True",
    ):
        run(network, tmp_path / "out", f"--data_dir={tmp_path / 'photos'}", *arguments)
    capsys.readouterr()
    run(
        network,
        tmp_path / "out",
        f"--data_dir={tmp_path / 'photos'}",
        "--skip_damaged",
        *arguments,
    )
    assert "Left out as damaged or not an image (1): stray.bin." in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.nightly
def test_the_head_is_the_svm_or_the_fine_tuned_network_as_cross_validation_prefers(
    network, tmp_path, capsys
):
    photographs(tmp_path / "photos", 120, classes=3)
    arguments = (
        f"--data_dir={tmp_path / 'photos'}",
        f"--cache={tmp_path / 'features'}",
        "--budgets=70",
        "--strategies=ent_inv_div",
        "--rules=none",
        "--folds=2",
        "--epochs=1",
    )
    run(network, tmp_path / "out", "--head=auto", *arguments)
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert {"unseen_svm", "unseen_finetune", "chosen"} <= set(found)
    better = "svm" if found["unseen_svm"] >= found["unseen_finetune"] else "finetune"
    assert found["chosen"] == better
    printed = capsys.readouterr().out
    assert f"Of 1 runs, cross-validation on the labelled set chose {better} for 1." in printed
    assert not list((tmp_path / "out").rglob("training-*")), (
        "a training that has ended leaves nothing behind"
    )

    run(network, tmp_path / better, f"--head={better}", *arguments)
    (alone,) = json.loads((tmp_path / better / "results.json").read_text())["runs"]
    assert alone["accuracy"] == found["accuracy"], (
        "what was chosen is fitted to the whole labelled set"
    )
    with pytest.raises(ValueError, match="trains on the images themselves: give --data_dir"):
        run(network, tmp_path / "out", "--head=finetune")


@pytest.mark.slow
def test_images_to_test_on_may_be_named(network, tmp_path):
    photographs(tmp_path / "photos", 60, classes=3)
    photographs(tmp_path / "tests", 12, classes=3)
    photographs(tmp_path / "others", 12, classes=2)
    arguments = (
        f"--data_dir={tmp_path / 'photos'}",
        f"--cache={tmp_path / 'features'}",
        "--budgets=9",
        "--strategies=ent",
        "--rules=none",
    )
    run(
        network,
        tmp_path / "out",
        f"--test_dir={tmp_path / 'tests'}",
        "--workers=0",
        *arguments,
    )
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["class_sizes"] == [20, 20, 20], "nothing is held out"
    assert list(result["configuration"]["files"]) == [
        "photos, pool, by small",
        "tests, test, by small",
    ]
    with pytest.raises(
        ValueError,
        match="must have the classes of --data_dir, but only --data_dir has class2",
    ):
        run(network, tmp_path / "out", f"--test_dir={tmp_path / 'others'}", *arguments)


def test_photographs_without_labels_are_no_experiment(network, folder, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"must have a directory for each class, .* if nothing is labelled, use "
        r"labelled=False",
    ):
        run(
            network,
            tmp_path / "out",
            f"--data_dir={folder}",
            f"--cache={tmp_path / 'features'}",
        )


def named(classes: tuple[str, ...], files: dict[str, str]) -> data.Images:
    """Images with a class and a content for each file, in directories of the classes."""
    labels = np.array([classes.index(file.split("/")[0]) for file in files], np.int32)
    contents = tuple(content.encode() for content in files.values())
    return data.Images(
        "photos", tuple(files), labels, classes, lambda row: row, "made up", contents=contents
    )


def test_copies_of_a_photograph_in_pool_and_test_set_are_reported():
    pool = named(("cat", "dog"), {"cat/1": "A", "cat/2": "B", "dog/1": "C", "dog/2": "C"})
    tests = named(("cat", "dog"), {"cat/9": "A", "dog/8": "B", "dog/9": "D"})
    told = image_datasets.repeated(pool, tests)
    assert "copies of images in the pool (2): cat/9 of cat/1, dog/8 of cat/2." in told
    assert "Photographs in several classes (1): cat/2, dog/8." in told
    assert image_datasets.repeated(pool, named(("cat", "dog"), {"dog/9": "D"})) == ""


def test_so_many_test_images_of_each_class_or_none():
    files = {f"cat/{row}": str(row) for row in range(5)} | {f"dog/{row}": f"d{row}" for row in "01"}
    photos, key = named(("cat", "dog"), files), jax.random.key(0)
    held_out = image_datasets.HeldOut(0.2, per_class=1)
    rows, aside = image_datasets._divide(key, photos, held_out)
    assert photos.labels[aside].tolist() == [0, 1]
    assert sorted([*rows, *aside]) == list(range(7))
    with pytest.raises(
        ValueError,
        match=r"--test_per_class=2 needs 3 images of each class of photos, .* but dog has 2: lower",
    ):
        image_datasets._divide(key, photos, image_datasets.HeldOut(0.2, per_class=2))


@pytest.mark.parametrize("program", [one_shot, heads])
def test_a_test_set_is_asked_for_in_one_way(program, tmp_path):
    for arguments, told in (
        (["--test_per_class=3", "--test_share=0.1"], "give only one of them"),
        (["--test_per_class=3", "--data_dir=a", "--test_dir=b"], "there are test images already"),
        (["--test_per_class=3", "--data_dir=a", "--dataset=food101"], "test images already"),
    ):
        flag_values = flags.FlagValues()
        program.define_flags(flag_values)
        flag_values(["program", f"--out={tmp_path}", *arguments])
        with pytest.raises(ValueError, match=told):
            program.main(flag_values)


def test_classes_without_rows_are_reported_with_what_follows():
    features = np.eye(4, dtype=np.float32)
    dataset = datasets.Dataset(
        features, np.array([1, 1, 2, 4]), features, np.array([1, 3, 4, 4]), None, 6, False, {}
    )
    told = datasets.absent_classes(dataset).splitlines()
    assert told[0].endswith("still count as classes in the imbalance ratio (2): 0, 5.")
    assert told[1].endswith("where all of them will be wrong (1): 3.")
    assert told[2].endswith("do not count in the accuracy (1): 2.")
    assert told[3] == "Labels count from 0: subtract 1 if yours count from 1."
    whole = datasets.Dataset(features, np.arange(4), features, np.arange(4), None, 4, False, {})
    assert datasets.absent_classes(whole) == ""


def test_names_of_classes_that_differ_by_case_alone_are_told_as_that(tmp_path):
    for folder, names in (("pool", ("Cat", "dog", "ape")), ("tests", ("cat", "dog "))):
        for name in names:
            photographs(tmp_path / folder / name, 1)
    flag_values = flags.FlagValues()
    image_options.define_flags(flag_values)
    flag_values(["program", f"--data_dir={tmp_path / 'pool'}", f"--test_dir={tmp_path / 'tests'}"])
    options = image_options.read_options(flag_values)
    with pytest.raises(
        ValueError,
        match=r"only --data_dir has ape; and some differ by case, white space or Unicode form "
        "alone: 'Cat' / 'cat', 'dog' / 'dog '; rename one of each",
    ):
        images.read_tests(options, class_names=images.read_pool(options).class_names)
    composed = remarks.how_they_differ({"a": ["K\u00e4fer"], "b": ["Ka\u0308fer"]})
    assert "alone: 'K\\xe4fer' / 'Ka\\u0308fer'; rename" in composed


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--budgets=80"], "--budgets goes up to 80, but the pool has only 70 rows"),
        (["--source=nonsense"], "there is no source model 'nonsense'"),
        (["--crop=7"], "crop must be a share"),
        (["--weights=nowhere.pth"], r"there is no file of weights nowhere\.pth"),
        (["--strategies=nonsense"], "--strategies: "),
        ([f"--out={__file__}"], "is a file: name a folder to write to"),
        (["--labels=nowhere.csv"], r"nowhere\.csv cannot be read"),
        (["--files=nowhere.txt"], r"nowhere\.txt cannot be read"),
    ],
)
def test_what_needs_no_image_is_told_before_one_is_read(
    network, folder, tmp_path, monkeypatch, arguments, told
):
    def opened(*_):
        raise AssertionError("an image was opened")

    monkeypatch.setattr(folders, "_checked", opened)
    labels = tmp_path / "labels.csv"
    labels.write_text("file,label\n" + "".join(f"{row:03}.png,c{row % 3}\n" for row in range(70)))
    with pytest.raises((ValueError, OSError), match=told):
        run(network, tmp_path / "out", f"--data_dir={folder}", f"--labels={labels}", *arguments)


@pytest.mark.parametrize(
    "flag", ["test_dir=a", "files=a", "labels=a", "test_per_class=3", "dataset=food101"]
)
def test_what_is_said_of_images_needs_images(network, tmp_path, flag):
    with pytest.raises(
        ValueError, match=f"--{flag.split('=')[0]} says something about images, but"
    ):
        run(network, tmp_path / "out", f"--{flag}")


def test_a_folder_above_the_classes_is_told(tmp_path):
    for part in ("train", "test"):
        photographs(tmp_path / part, 4, classes=2)
    told = remarks.left_out(data.folder(tmp_path))
    assert "The classes (test, train) hold directories and no images of their own: if" in told
    assert remarks.left_out(data.folder(tmp_path / "train")) == ""


def test_a_flag_that_is_empty_is_refused():
    flag_values = flags.FlagValues()
    image_options.define_flags(flag_values)
    flag_values(["program", "--data_dir=a", "--labels="])
    with pytest.raises(ValueError, match="--labels is empty: name a file or folder"):
        image_options.read_options(flag_values)
