"""From images to feature caches and to picks: what is stored, what a kill costs, and what the user
is told."""

import copy
import csv
import json
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from small_network import SMALL, photographs, save, state_dict

import balal
from balal import data
from balal.data import cache
from balal.models import preprocessing, sources, weights
from experiments import extract, one_shot, pick
from experiments.common import extraction

pytestmark = pytest.mark.xdist_group("pictures")
ROOT = Path(__file__).parent.parent
ROWS = 70


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """The small network under a name of its own, and the flags that name it and its weights."""
    path = tmp_path_factory.mktemp("network") / "small.safetensors"
    save(state_dict(SMALL), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sources.SOURCES, "small", SMALL)
        patch.setattr(extraction, "SHARD", 32)
        yield path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("pictures") / "photos"
    photographs(place, ROWS)
    return place


def run(program, network, out: Path, *arguments: str) -> None:
    """A program in this process."""
    own = getattr(program, "FLAGS", flags.FLAGS)
    saved = [(values, flagsaver.save_flag_values(values)) for values in (own, flags.FLAGS)]
    try:
        # Its own flags, and those that it shares.
        rest = own(
            [
                "program",
                f"--out={out}",
                "--source=small",
                f"--weights={network}",
                "--batch=2",
                *arguments,
            ],
            known_only=True,
        )
        flags.FLAGS(rest)
        program.main([])
    finally:
        for values, before in saved:
            flagsaver.restore_flag_values(before, values)


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def label(path: Path, files: list[str]) -> None:
    """Fills in the column label of some files, as a person would."""
    lines = lines_of(path)
    for line in lines:
        if line["file"] in files:
            line["label"] = "cat" if int(line["file"][:3]) % 2 else "dog"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def seen(network, images: data.Images, folder: Path) -> cache.Cache:
    made_from = extraction.manifest(SMALL, "small", network, images)
    return extraction.extract(SMALL, network, images, folder, made_from, batch=2)


def test_features_are_those_of_the_network_and_say_what_made_them(network, folder, tmp_path):
    images = data.folder(folder)
    found = seen(network, images, tmp_path / "cache")
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


def test_one_that_was_killed_goes_on_and_ends_byte_for_byte_the_same(
    network, folder, tmp_path, monkeypatch
):
    images = data.folder(folder)
    seen(network, images, tmp_path / "whole")

    class Killed(BaseException):
        pass

    write = cache.write

    def killed(place, first, shard):
        if first:
            raise Killed
        write(place, first, shard)

    monkeypatch.setattr(cache, "write", killed)
    with pytest.raises(Killed):
        seen(network, images, tmp_path / "killed")
    monkeypatch.setattr(cache, "write", write)
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
    seen(network, images, tmp_path / "killed")
    assert sorted(read) == list(range(begun, ROWS))
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_the_batch_is_spread_over_all_local_devices_with_the_features_of_one(
    network, folder, tmp_path, monkeypatch
):
    assert len(jax.local_devices()) == 8
    many = seen(network, data.folder(folder), tmp_path / "many")
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    one = seen(network, data.folder(folder), tmp_path / "one")
    np.testing.assert_array_equal(many.columns["features"], one.columns["features"])
    np.testing.assert_array_equal(many.columns["entropy"], one.columns["entropy"])


def test_features_that_the_stored_kind_cannot_hold_are_told_by_name(
    network, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(
        extraction, "_seen", lambda *_: iter([dict(features=np.full((ROWS, 2), 1e6, np.float32))])
    )
    with pytest.raises(ValueError, match=r"float16 cannot hold, the first are 000\.png, 001\.png"):
        seen(network, data.folder(folder), tmp_path / "cache")


def test_a_program_extracts_once_and_says_where(network, folder, tmp_path, capsys):
    run(extract, network, tmp_path / "cache", f"--data_dir={folder}")
    assert "70 images of photos: features [70, 1280] in float16" in capsys.readouterr().out
    before = content(tmp_path / "cache")
    run(extract, network, tmp_path / "cache", f"--data_dir={folder}")
    assert content(tmp_path / "cache") == before
    with pytest.raises(ValueError, match=r"preprocessing.crop was 0.875 and is 1.0"):
        run(extract, network, tmp_path / "cache", f"--data_dir={folder}", "--crop=1")


def test_wrong_weights_leave_no_folder_behind(network, folder, tmp_path):
    (tmp_path / "wrong.safetensors").write_bytes(network.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"wrong\.safetensors cannot be read"):
        run(extract, tmp_path / "wrong.safetensors", tmp_path / "cache", f"--data_dir={folder}")
    run(extract, network, tmp_path / "cache", f"--data_dir={folder}")


def test_test_images_are_seen_as_the_pool_is(network, folder, tmp_path, monkeypatch, capsys):
    photographs(tmp_path / "tests", 12, classes=3)
    run(
        extract,
        network,
        tmp_path / "named",
        f"--data_dir={folder}",
        "--split=test",
        f"--test_dir={tmp_path / 'tests'}",
    )
    assert "12 images of tests: features [12, 1280]" in capsys.readouterr().out
    with pytest.raises(
        ValueError,
        match="--dataset=folder has no test split: name the folder or file of those images with "
        "--test_dir",
    ):
        run(extract, network, tmp_path / "none", f"--data_dir={folder}", "--split=test")
    loaded = []
    images = data.folder(folder)
    monkeypatch.setattr(
        data,
        "load",
        lambda known, place, *, part, skip_damaged: loaded.append((known.name, part)) or images,
    )
    run(
        extract,
        network,
        tmp_path / "own",
        "--dataset=cifar100",
        f"--data_dir={folder}",
        "--split=test",
    )
    assert loaded == [("cifar100", "test")]


PROGRAMS = [
    path.stem
    for path in sorted((ROOT / "experiments").glob("*.py"))
    if "program.run(main" in path.read_text()
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_command_in_the_description_of_a_program_is_understood(name):
    program = import_module(f"experiments.{name}")
    commands = re.findall(
        rf"^    python -m experiments\.{name}\b(.*?)(?:   .*)?$", program.__doc__, re.MULTILINE
    )
    assert commands
    # Its own flags and those that it shares, and no other program's.
    known = {
        flag.name: flag
        for values in (getattr(program, "FLAGS", flags.FLAGS), flags.FLAGS)
        for module, defined in values.flags_by_module_dict().items()
        if module == program.__name__ or module.startswith("experiments.common")
        for flag in defined
    }
    for command in commands:
        copies = flags.FlagValues()
        for flag in known.values():
            copies[flag.name] = copy.deepcopy(flag)
        assert copies(["program", *shlex.split(command)]) == ["program"]


def test_picks_come_in_order_with_reasons_and_a_page_to_look_at(network, folder, tmp_path, capsys):
    run(
        pick,
        network,
        tmp_path / "out",
        f"--data_dir={folder}",
        "--budget=12",
        f"--cache={tmp_path / 'features'}",
    )
    out = capsys.readouterr().out
    lines = lines_of(tmp_path / "out" / "picks.csv")
    assert [line["rank"] for line in lines] == [str(rank) for rank in range(1, 13)]
    assert len({line["file"] for line in lines} & {f"{row:03}.png" for row in range(ROWS)}) == 12
    assert lines[0]["reason"].startswith(f"1st of {lines[0]['source_class']}; entropy")
    assert lines[0]["reason"] in out
    page = (tmp_path / "out" / "contact_sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 12
    assert all(line["file"] in page for line in lines)
    assert [
        line["file"]
        for line in json.loads((tmp_path / "out" / "results.json").read_text())["picks"]
    ] == [line["file"] for line in lines]
    # Once more: nothing is seen again, and every file is the same.
    before = content(tmp_path / "out")
    run(
        pick,
        network,
        tmp_path / "out",
        f"--data_dir={folder}",
        "--budget=12",
        f"--cache={tmp_path / 'features'}",
    )
    assert content(tmp_path / "out") == before


def test_one_command_goes_on_round_after_round_and_keeps_every_label(
    network, folder, tmp_path, capsys
):
    out = tmp_path / "out"
    begin = (f"--data_dir={folder}", "--budget=6", f"--cache={tmp_path / 'features'}")
    further = (*begin, f"--answers={out / 'picks.csv'}")
    run(pick, network, out, *begin)
    typed = []
    for answers in (3, 6, 9):
        # Half of what is asked is labelled: none of it is asked again.
        files = [line["file"] for line in lines_of(out / "picks.csv") if not line["label"]][::2]
        label(out / "picks.csv", files)
        typed += files
        run(pick, network, out, *further)
        assert f"by posterior, after {answers} answers" in capsys.readouterr().out
        lines = lines_of(out / "picks.csv")
        answered, asked = lines[:answers], lines[answers:]
        assert [line["file"] for line in answered] == typed
        assert {(line["label"], line["rank"]) for line in answered} == {("cat", ""), ("dog", "")}
        assert {line["reason"] for line in answered} == {"labelled"}
        assert [line["rank"] for line in asked] == [str(rank) for rank in range(1, 7)]
        assert not {line["file"] for line in asked} & set(typed)
        assert all(line["reason"].startswith("worth most now") for line in asked)
        assert (out / "contact_sheet.html").read_text().count("data:image/jpeg;base64,") == 6
        assert len(json.loads((out / "results.json").read_text())["picks"]) == 6
    # Once more, with nothing labelled in between.
    before = content(out)
    run(pick, network, out, *further)
    assert content(out) == before


def test_labels_that_were_not_passed_are_never_written_over(network, folder, tmp_path, monkeypatch):
    out, typed = tmp_path / "out", "file,label\n000.png,cat\n001.png,dog\n002.png,\n"
    out.mkdir()
    (out / "picks.csv").write_text(typed)
    arguments = (f"--data_dir={folder}", "--budget=6", f"--cache={tmp_path / 'features'}")
    answers = tmp_path / "answers.csv"
    answers.write_text("file,label\n000.png,cat\n001.png,cat\n")
    with pytest.raises(
        ValueError,
        match=r"labels that would be lost, of 000\.png, 001\.png: pass it as --answers, or give "
        r"another --out",
    ):
        run(pick, network, out, *arguments)
    with pytest.raises(ValueError, match=r"labels that would be lost, of 001\.png: "):
        run(pick, network, out, *arguments, f"--answers={answers}")
    assert not (tmp_path / "features").exists(), "told before anything is computed"

    # Or typed while the network looks at the images.
    features = pick.pictures.features
    monkeypatch.setattr(
        pick.pictures,
        "features",
        lambda images: (label(out / "picks.csv", ["002.png"]), features(images))[1],
    )
    with pytest.raises(ValueError, match=r"labels that would be lost, of 002\.png: "):
        run(pick, network, out, *arguments, f"--answers={out / 'picks.csv'}")
    assert [line["label"] for line in lines_of(out / "picks.csv")] == ["cat", "dog", "dog"]
    assert [path.name for path in out.iterdir()] == ["picks.csv"]

    # Or beside the labels; what a spreadsheet adds empty is nothing.
    (out / "picks.csv").write_text("file,label,notes,\n000.png,cat,,\n001.png,,blurred,\n")
    with pytest.raises(
        ValueError, match=r"has columns that would be lost \(notes\): give another --out"
    ):
        run(pick, network, out, *arguments, f"--answers={out / 'picks.csv'}")


def test_a_reason_is_that_of_the_rule_only_once_it_has_taken_over(network, folder, tmp_path):
    start = balal.strategy("random+posterior").start
    for answers, told in (
        (start - 1, "what its first strategy asks next"),
        (start, "worth most now; "),
    ):
        (tmp_path / "answers.csv").write_text(
            "file,label\n" + "".join(f"{row:03}.png,cat\n" for row in range(answers))
        )
        arguments = (
            "--budget=3",
            f"--cache={tmp_path / 'features'}",
            f"--answers={tmp_path / 'answers.csv'}",
        )
        run(
            pick,
            network,
            tmp_path / f"out{answers}",
            f"--data_dir={folder}",
            "--strategy=random+posterior",
            *arguments,
        )
        asked = lines_of(tmp_path / f"out{answers}" / "picks.csv")[answers:]
        assert len(asked) == 3
        assert all(line["reason"].startswith(told) for line in asked)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,reason\n000.png,x\n", "the columns file and label"),
        ("file,label\n000.png,\n", "has no label yet"),
        ("file,label\nother.png,cat\n", "files that are not in photos: other.png"),
        (
            "file,label\n000.png,cat\n001.png,cat\n000.png,dog\n",
            "different labels for 000.png: leave the right one",
        ),
        ('file,label\n000.png,"cat\n001.png,dog\n', "is no CSV"),
    ],
)
def test_answers_that_cannot_be_meant_are_told(text, told, network, folder, tmp_path):
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        run(
            pick,
            network,
            tmp_path / "out",
            f"--data_dir={folder}",
            f"--answers={tmp_path / 'answers.csv'}",
        )


def test_answers_may_come_from_a_spreadsheet_and_twice(tmp_path):
    (tmp_path / "answers.csv").write_bytes(
        "\ufefffile,label\r\n000.png, Käfer \r\n001.png\r\n000.png,Käfer\r\n".encode()
    )
    assert pick.read_answers(tmp_path / "answers.csv") == {"000.png": "Käfer"}


@pytest.mark.parametrize("flag", ["answers", "source_classes"])
def test_a_file_that_is_missing_is_told_before_the_images_are_read(flag, network, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"nowhere\.csv cannot be read \(No such file or directory\): give the name of a "
        r"file that can",
    ):
        run(
            pick,
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'no_folder'}",
            f"--{flag}={tmp_path / 'nowhere.csv'}",
        )


def test_source_classes_have_their_names_in_the_reasons(network, folder, tmp_path):
    names, arguments = (
        tmp_path / "names.txt",
        (f"--data_dir={folder}", "--budget=3", f"--cache={tmp_path / 'features'}"),
    )
    names.write_bytes(
        "\ufeff".encode() + b"".join(b"thing %d\n" % number for number in range(1000))
    )
    run(pick, network, tmp_path / "out", *arguments, f"--source_classes={names}")
    for line in lines_of(tmp_path / "out" / "picks.csv"):
        assert line["source_class"].startswith("thing ")
        assert f" of {line['source_class']}; " in line["reason"]
    names.write_text("thing\n")
    with pytest.raises(ValueError, match="has 1 lines, and the source model has a class"):
        run(pick, network, tmp_path / "out", *arguments, f"--source_classes={names}")


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
    run(one_shot, network, tmp_path / "out", f"--data_dir={tmp_path / 'photos'}", *arguments)
    result = json.loads((tmp_path / "out" / "results.json").read_text())
    assert result["class_sizes"] == [24, 24, 24]
    assert [run["budget"] for run in result["runs"]] == [9, 18]
    assert list(result["configuration"]["files"]) == [
        "photos, pool, by small",
        "photos, test, by small",
    ]
    with pytest.raises(ValueError, match="give one of them"):
        run(
            one_shot,
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--features=x.npz",
            *arguments,
        )
    with pytest.raises(ValueError, match=r"cells of another configuration \(answers was"):
        run(
            one_shot,
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--test_share=0.5",
            *arguments,
        )
    with pytest.raises(
        ValueError,
        match=r"a test set is needed, and a share of 0 .* is no image: raise --test_share, or "
        r"name test images",
    ):
        run(
            one_shot,
            network,
            tmp_path / "out",
            f"--data_dir={tmp_path / 'photos'}",
            "--test_share=0",
            *arguments,
        )

    # A file beside the classes is told by name, and may be left out.
    (tmp_path / "photos" / "Thumbs.db").write_bytes(b"?")
    with pytest.raises(
        ValueError,
        match=r"Thumbs\.db \(it lies in no class's directory\); .* leave them out with "
        r"--skip_damaged",
    ):
        run(one_shot, network, tmp_path / "out", f"--data_dir={tmp_path / 'photos'}", *arguments)
    capsys.readouterr()
    run(
        one_shot,
        network,
        tmp_path / "out",
        f"--data_dir={tmp_path / 'photos'}",
        "--skip_damaged",
        *arguments,
    )
    assert "Left out as damaged or no image (1): Thumbs.db." in capsys.readouterr().out
    with pytest.raises(
        ValueError,
        match=r"holds both files \(Thumbs\.db, .* where nothing is labelled, use experiments\.pick",
    ):
        run(
            extract,
            network,
            tmp_path / "seen",
            f"--data_dir={tmp_path / 'photos'}",
            "--skip_damaged",
        )


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
    run(one_shot, network, tmp_path / "out", "--head=auto", *arguments)
    (found,) = json.loads((tmp_path / "out" / "results.json").read_text())["runs"]
    assert {"unseen_svm", "unseen_finetune", "chosen"} <= set(found)
    better = "svm" if found["unseen_svm"] >= found["unseen_finetune"] else "finetune"
    assert found["chosen"] == better
    printed = capsys.readouterr().out
    assert f"Of 1 runs, cross-validation on the labelled set chose {better} for 1." in printed
    assert not list((tmp_path / "out").rglob("training-*")), (
        "a training that has ended leaves nothing behind"
    )

    run(one_shot, network, tmp_path / better, f"--head={better}", *arguments)
    (alone,) = json.loads((tmp_path / better / "results.json").read_text())["runs"]
    assert alone["accuracy"] == found["accuracy"], (
        "what was chosen is fitted to the whole labelled set"
    )
    with pytest.raises(ValueError, match="trains on the images themselves: give --data_dir"):
        run(one_shot, network, tmp_path / "out", "--head=finetune")


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
        one_shot,
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
        match="must have the classes of --data_dir, but these are in one of them only: class2",
    ):
        run(one_shot, network, tmp_path / "out", f"--test_dir={tmp_path / 'others'}", *arguments)


def test_photographs_without_labels_are_no_experiment(network, folder, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"must have a label for every image, .* where nothing is labelled, use "
        r"experiments\.pick",
    ):
        run(
            one_shot,
            network,
            tmp_path / "out",
            f"--data_dir={folder}",
            f"--cache={tmp_path / 'features'}",
        )


def test_a_program_ends_in_one_sentence_where_something_is_missing(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    for arguments, told in (
        ((), "--data_dir is missing"),
        ((f"--data_dir={tmp_path / 'nowhere'}",), "there is no folder"),
        ((f"--data_dir={tmp_path}",), "leave them out with --skip_damaged"),
    ):
        command = [
            sys.executable,
            "-m",
            "experiments.pick",
            f"--out={tmp_path / 'out'}",
            *arguments,
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        assert told in done.stderr
        assert done.stderr.count("\n") == 1
