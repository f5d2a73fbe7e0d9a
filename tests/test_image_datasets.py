"""Experiments that begin with images: held-out tests, heads that are trained on images, and what
the user is told."""

import json
from pathlib import Path

import pytest
from absl import flags
from small_network import photographs

from experiments import one_shot

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
        match="must have the classes of --data_dir, but only one of them has class2",
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
