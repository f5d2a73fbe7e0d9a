"""The console script `balal`: picks, features and what the user is told."""

import csv
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import flags
from small_network import photographs

import balal
from balal import data, machine
from balal.cli import answers as answer_files
from balal.cli import command_line, doctor, estimate, images, inputs, main, matching

pytestmark = pytest.mark.xdist_group("photographs")
ROOT = Path(__file__).parent.parent
ROWS = 70


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs") / "photos", ROWS)


def run(command: str, network, out: Path, *arguments: str) -> None:
    """A command on images in this process; what it raises is raised."""
    own = [f"--out={out}", "--source=small", f"--weights={network}", "--batch_size=2"]
    flag_values = flags.FlagValues()
    main.COMMANDS[command].define_flags(flag_values)
    words = command_line.parse(flag_values, [*own, *arguments], program="balal")
    main.COMMANDS[command].main(flag_values, words)


def balal_(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """`python -m balal` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "balal", *arguments],
        env=os.environ | dict(PYTHONPATH=str(ROOT)) | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def label(path: Path, files: list[str]) -> None:
    """Fills in the column label of some files, as a person would."""
    lines = lines_of(path)
    for line in lines:
        if line["file"] in files:
            line["label"] = "dog" if line["file"][2:3] in "02468" else "cat"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_program_extracts_once_and_says_where(network, folder, tmp_path, capsys):
    run("extract", network, tmp_path / "cache", f"--data_dir={folder}")
    assert "70 images of photos: features [70, 1280] in float16" in capsys.readouterr().out
    before = content(tmp_path / "cache")
    run("extract", network, tmp_path / "cache", f"--data_dir={folder}")
    assert content(tmp_path / "cache") == before
    with pytest.raises(ValueError, match=r"preprocessing.crop was 0.875 and is 1.0"):
        run("extract", network, tmp_path / "cache", f"--data_dir={folder}", "--crop=1")


def test_wrong_weights_leave_no_folder_behind(network, folder, tmp_path):
    (tmp_path / "wrong.safetensors").write_bytes(network.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"wrong\.safetensors cannot be read"):
        run("extract", tmp_path / "wrong.safetensors", tmp_path / "cache", f"--data_dir={folder}")
    run("extract", network, tmp_path / "cache", f"--data_dir={folder}")


def test_test_images_are_seen_as_the_pool_is(network, folder, tmp_path, monkeypatch, capsys):
    photographs(tmp_path / "tests", 12, classes=3)
    run(
        "extract",
        network,
        tmp_path / "named",
        f"--data_dir={folder}",
        "--split=test",
        f"--test_dir={tmp_path / 'tests'}",
    )
    assert "12 images of tests: features [12, 1280]" in capsys.readouterr().out
    with pytest.raises(
        ValueError,
        match="--dataset=folder has no test split: name the folder or file of the test images with "
        "--test_dir",
    ):
        run("extract", network, tmp_path / "none", f"--data_dir={folder}", "--split=test")
    loaded = []
    chosen = data.folder(folder)
    monkeypatch.setattr(
        data,
        "load",
        lambda known, place, *, part, **_: loaded.append((known.name, part)) or chosen,
    )
    run(
        "extract",
        network,
        tmp_path / "own",
        "--dataset=cifar100",
        f"--data_dir={folder}",
        "--split=test",
    )
    assert loaded == [("cifar100", "test")]


def test_picks_come_in_order_with_reasons_and_a_page_to_look_at(network, folder, tmp_path, capsys):
    run(
        "pick",
        network,
        tmp_path / "out",
        f"--data_dir={folder}",
        "--budget=12",
        f"--cache={tmp_path / 'features'}",
    )
    out = capsys.readouterr()
    lines = lines_of(tmp_path / "out" / "picks.csv")
    assert [line["rank"] for line in lines] == [str(rank) for rank in range(1, 13)]
    assert len({line["file"] for line in lines} & {f"{row:03}.png" for row in range(ROWS)}) == 12
    assert lines[0]["reason"].startswith(f"1st of {lines[0]['source_class']}; entropy")
    assert lines[0]["reason"] in out.out
    assert out.err == "", "progress is for those who watch"
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
        "pick",
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
    run("pick", network, out, *begin)
    typed = []
    for answers in (3, 6, 9):
        # Half of what is asked is labelled: none of it is asked again.
        files = [line["file"] for line in lines_of(out / "picks.csv") if not line["label"]][::2]
        label(out / "picks.csv", files)
        typed += files
        run("pick", network, out, *further)
        assert f"by posterior, after {answers} answers" in capsys.readouterr().out
        lines = lines_of(out / "picks.csv")
        answered, asked = lines[:answers], lines[answers:]
        assert [line["file"] for line in answered] == typed
        assert {(line["label"], line["rank"]) for line in answered} == {("cat", ""), ("dog", "")}
        assert all(line["reason"] for line in answered)
        assert [line["rank"] for line in asked] == [str(rank) for rank in range(1, 7)]
        assert not {line["file"] for line in asked} & set(typed)
        assert all(line["reason"].startswith("explains most") for line in asked)
        assert (out / "contact_sheet.html").read_text().count("data:image/jpeg;base64,") == 6
        assert len(json.loads((out / "results.json").read_text())["picks"]) == 6
    # Once more, with nothing labelled in between.
    before = content(out)
    run("pick", network, out, *further)
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
        match=r"labels or notes that would be lost, for 000\.png, 001\.png: pass it as --answers, "
        r"or give another --out",
    ):
        run("pick", network, out, *arguments)
    with pytest.raises(ValueError, match=r"labels or notes that would be lost, for 001\.png: "):
        run("pick", network, out, *arguments, f"--answers={answers}")
    assert not (tmp_path / "features").exists(), "told before anything is computed"

    # Or typed while the network looks at the images.
    extract = images.extract
    monkeypatch.setattr(
        images,
        "extract",
        lambda *given: (label(out / "picks.csv", ["002.png"]), extract(*given))[1],
    )
    with pytest.raises(ValueError, match=r"labels or notes that would be lost, for 002\.png: "):
        run("pick", network, out, *arguments, f"--answers={out / 'picks.csv'}")
    assert [line["label"] for line in lines_of(out / "picks.csv")] == ["cat", "dog", "dog"]
    assert [path.name for path in out.iterdir()] == ["picks.csv"]

    # Or beside the labels; what a spreadsheet adds empty is nothing.
    (out / "picks.csv").write_text("file,label,notes,\n000.png,cat,,\n001.png,,blurred,\n")
    with pytest.raises(ValueError, match=r"labels or notes that would be lost, for 001\.png: "):
        run("pick", network, out, *arguments, f"--answers={answers}")
    # Notes alone could not be passed as answers.
    (out / "picks.csv").write_text("file,label,notes\n001.png,,blurred\n")
    with pytest.raises(ValueError, match=r"lost, for 001\.png: give another --out"):
        run("pick", network, out, *arguments)


def test_what_somebody_wrote_beside_the_labels_is_carried_over(network, folder, tmp_path):
    """With other separators and names of columns, and file names as another system writes them."""
    answers = tmp_path / "mine.csv"
    answers.write_bytes(
        "sep=;\r\n;image;class;notes\r\n"
        '0;000.png;"dog, black";"over\nexposed"\r\n'
        "1;001.png;;no; \r\n".replace("no; ", "no; what").encode()
    )
    out = tmp_path / "out"
    arguments = (f"--data_dir={folder}", "--budget=3", f"--cache={tmp_path / 'features'}")
    mine = (f"--answers={answers}", "--file_column=image", "--label_column=class")
    with pytest.raises(ValueError, match=r"line 5 of .*mine\.csv has 5 cells, and there are 4"):
        run("pick", network, out, *arguments, *mine)
    answers.write_text(answers.read_text().replace("no; what", '"no; what"'))
    run("pick", network, out, *arguments, *mine)
    lines = lines_of(out / "picks.csv")
    assert (lines[0]["file"], lines[0]["label"]) == ("000.png", "dog, black")
    assert lines[0]["notes"] == "over\nexposed"
    assert {line["file"]: line["notes"] for line in lines}["001.png"] == "no; what"
    # So it goes on, and what was there before is kept.
    before = (out / "picks.csv").read_bytes()
    label(out / "picks.csv", [line["file"] for line in lines if not line["label"]][:1])
    labelled = (out / "picks.csv").read_bytes()
    run("pick", network, out, *arguments, f"--answers={out / 'picks.csv'}")
    assert lines_of(out / "picks.csv")[0]["notes"] == "over\nexposed"
    assert (out / "picks.before.csv").read_bytes() == labelled != before


@pytest.mark.slow
def test_a_reason_is_that_of_the_rule_only_once_it_has_taken_over(network, folder, tmp_path):
    start = balal.strategy("random+posterior").start
    for answers, told in (
        (start - 1, "drawn by chance"),
        (start, "explains most; "),
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
            "pick",
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
            "different labels for '000.png': 'cat' in line 2 and 'dog' in line 4; keep the right",
        ),
        (
            'file,label\n000.png,"cat\n001.png,dog\n',
            "line 2 of .* opens a quotation mark that is never closed",
        ),
    ],
)
def test_answers_that_make_no_sense_are_refused(text, told, network, folder, tmp_path):
    (tmp_path / "answers.csv").write_text(text)
    with pytest.raises(ValueError, match=told):
        run(
            "pick",
            network,
            tmp_path / "out",
            f"--data_dir={folder}",
            f"--answers={tmp_path / 'answers.csv'}",
        )


def test_answers_may_come_from_a_spreadsheet_and_twice(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_bytes(
        "\ufefffile,label\r\n000.png, Käfer \r\n001.png\r\n000.png, Käfer \r\n".encode()
    )
    lines = answer_files.read(path)
    found = matching.match(path, lines, ["000.png", "001.png"], "photos")
    assert found.labels == {"000.png": "Käfer"}


def test_labels_that_look_alike_are_listed_with_a_question(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text(
        "file,label\na,Dog\nb,dog\nc,dog\nd,K\u00e4fer\ne,Ka\u0308fer\nf,cat\ng,ca\u200bt\n"
    )
    with pytest.raises(ValueError, match="look alike") as error:
        answer_files.read(path)
    told = str(error.value)
    assert "'Dog' (1) and 'dog' (2); 'K\\xe4fer' (1) and 'Ka\\u0308fer' (1)" in told
    assert "'cat' (1) and 'ca\\u200bt' (1)" in told
    lines = answer_files.read(path, distinct_labels=True)
    assert [line.label for line in lines[:3]] == ["Dog", "dog", "dog"]


def test_a_file_is_found_in_either_unicode_form_and_as_it_was_escaped():
    find = matching.finder(["K\u00e4fer.png", "=1.png", "'2.png", "a\nb.png"])
    assert find("Ka\u0308fer.png") == "K\u00e4fer.png"
    assert find("'=1.png") == find("=1.png") == "=1.png"
    assert find("''2.png") == find("'2.png") == "'2.png"
    assert find("'a\\nb.png") == "a\nb.png"
    assert find("other.png") is None


@pytest.mark.parametrize("flag", ["answers", "source_classes"])
def test_a_file_that_is_missing_is_reported_before_the_images_are_read(flag, network, tmp_path):
    with pytest.raises(
        ValueError,
        match=r"nowhere\.csv cannot be read \(No such file or directory\): name a file that can be",
    ):
        run(
            "pick",
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
    run("pick", network, tmp_path / "out", *arguments, f"--source_classes={names}")
    for line in lines_of(tmp_path / "out" / "picks.csv"):
        assert line["source_class"].startswith("thing ")
        assert f" of {line['source_class']}; " in line["reason"]
    names.write_text("thing\n")
    with pytest.raises(ValueError, match="has 1 lines, but the source model has a class"):
        run("pick", network, tmp_path / "out", *arguments, f"--source_classes={names}")


def features_of(folder: Path, rows: int = 40) -> tuple[Path, Path, np.ndarray]:
    """Files of features and logits of so many rows, and the logits."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(rows, 7)).astype(np.float32)
    np.save(folder / "f.npy", rng.normal(size=(rows, 5)).astype(np.float32))
    np.save(folder / "l.npy", logits)
    return folder / "f.npy", folder / "l.npy", logits


def test_the_folder_may_be_named_without_a_flag(network, folder, tmp_path):
    arguments = ("--budget=5", f"--cache={tmp_path / 'features'}")
    run("pick", network, tmp_path / "flag", f"--data_dir={folder}", *arguments)
    run("pick", network, tmp_path / "word", str(folder), *arguments)
    assert content(tmp_path / "flag") == content(tmp_path / "word")
    with pytest.raises(ValueError, match="only one folder or file of images can be named"):
        run("pick", network, tmp_path / "out", str(folder), "more")
    with pytest.raises(ValueError, match=r"named twice, .* and --data_dir=other: give only one"):
        run("pick", network, tmp_path / "out", str(folder), "--data_dir=other")


def test_features_of_ones_own_are_picked_among_without_images(network, tmp_path, capsys):
    features, logits, values = features_of(tmp_path)
    arguments = (f"--features={features}", f"--logits={logits}", "--budget=6")
    run("pick", network, tmp_path / "out", *arguments)
    lines = lines_of(tmp_path / "out" / "picks.csv")
    expected = balal.diversify(balal.entropy(values), values.argmax(axis=1), 6)
    assert [int(line["file"]) for line in lines] == np.asarray(expected).tolist()
    assert lines[0]["source_class"] == f"source class {values[int(expected[0])].argmax()}"
    assert not (tmp_path / "out" / "contact_sheet.html").exists()
    assert "6 of 40 images of f.npy, by ent_inv_div" in capsys.readouterr().out

    # One .npz file with everything, and names.
    names = [f"item {row}" for row in range(40)]
    np.savez(tmp_path / "all.npz", features=np.load(features, allow_pickle=False), logits=values)
    (tmp_path / "ids.txt").write_text("\n".join(names) + "\n")
    run(
        "pick",
        network,
        tmp_path / "named",
        f"--features={tmp_path / 'all.npz'}",
        f"--ids={tmp_path / 'ids.txt'}",
        "--budget=6",
    )
    named = lines_of(tmp_path / "named" / "picks.csv")
    assert [line["file"] for line in named] == [names[int(line["file"])] for line in lines]


def test_without_scores_the_posterior_picks(network, tmp_path, capsys):
    features, _, _ = features_of(tmp_path)
    run("pick", network, tmp_path / "out", f"--features={features}", "--budget=4")
    assert "by posterior:" in capsys.readouterr().out
    assert {line["source_class"] for line in lines_of(tmp_path / "out" / "picks.csv")} == {""}
    with pytest.raises(
        ValueError, match=r"needs scores, .* balal\.pool\(features, logits=\.\.\.\)"
    ):
        run(
            "pick",
            network,
            tmp_path / "more",
            f"--features={features}",
            "--strategy=ent",
            "--budget=4",
        )


def test_what_extract_kept_is_picked_among_with_and_without_the_photographs(
    network, folder, tmp_path
):
    kept = tmp_path / "kept"
    run("extract", network, kept, str(folder))
    common = ("--budget=5", f"--cache={tmp_path / 'features'}")
    run("pick", network, tmp_path / "direct", str(folder), *common)
    run("pick", network, tmp_path / "both", str(folder), f"--features={kept}", *common)
    run("pick", network, tmp_path / "alone", f"--features={kept}", *common)
    direct, both, alone = (
        lines_of(tmp_path / name / "picks.csv") for name in ("direct", "both", "alone")
    )
    assert direct == both
    assert [{**line, "sha256": both[rank]["sha256"]} for rank, line in enumerate(alone)] == both
    page = (tmp_path / "both" / "contact_sheet.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 5
    assert not (tmp_path / "alone" / "contact_sheet.html").exists()


def test_answers_of_rows_of_features_lead_to_the_next_picks(network, tmp_path):
    features, logits, _ = features_of(tmp_path)
    out, arguments = tmp_path / "out", (f"--features={features}", f"--logits={logits}")
    run("pick", network, out, *arguments, "--budget=4")
    lines = lines_of(out / "picks.csv")
    typed = [line["file"] for line in lines]
    (tmp_path / "answers.csv").write_text(
        "file,label\n" + "".join(f"{name},{'ab'[int(name) % 2]}\n" for name in typed)
    )
    run("pick", network, out, *arguments, "--budget=4", f"--answers={tmp_path / 'answers.csv'}")
    lines = lines_of(out / "picks.csv")
    assert [line["file"] for line in lines[:4]] == typed
    assert not {line["file"] for line in lines[4:]} & set(typed)


BAD_FEATURES = {
    "no file": (["--features=nowhere.npy"], "there is no file nowhere.npy"),
    "a text": (["--features=ids.txt"], r"ids\.txt is not an \.npy or \.npz file of plain arrays"),
    "objects": (["--features=objects.npy"], r"objects\.npy is not an \.npy or \.npz file of plain"),
    "no features": (["--features=other.npz"], "has no array 'features'; it has other: save it"),
    "one axis": (
        ["--features=flat.npy"],
        r"features in flat\.npy must be one .*, \[N, D\], got shape \(40,\)",
    ),
    "too few logits": (
        ["--features=f.npy", "--logits=few.npy"],
        r"few\.npy has 3 rows, but f\.npy has 40",
    ),
    "too few ids": (["--features=f.npy", "--ids=ids.txt"], r"has 2 ids, but .* has 40 rows"),
    "an id twice": (
        ["--features=two.npy", "--ids=twice.txt"],
        "repeated ids, a: give each row its own",
    ),
    "logits alone": (["--logits=l.npy"], "describe the rows of --features"),
    "rows of nobody knows what": (["--features=f.npy", "PHOTOS"], "list the files .* with --ids"),
    "rows of other files": (
        ["--features=two.npy", "--ids=ids.txt", "PHOTOS"],
        r"rows for files that are not in photos: a, b",
    ),
    "not finite": (["--features=nan.npy"], "row 1 has NaN or infinite values; fix these rows$"),
}


@pytest.mark.parametrize(("arguments", "told"), BAD_FEATURES.values(), ids=BAD_FEATURES)
def test_features_that_make_no_sense_are_refused(
    arguments, told, network, folder, tmp_path, monkeypatch
):
    features_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    np.save("flat.npy", np.zeros(40, np.float32))
    np.save("few.npy", np.zeros((3, 7), np.float32))
    np.save("two.npy", np.eye(2, dtype=np.float32))
    np.save("nan.npy", np.array([[0], [np.nan]], np.float32))
    np.save("objects.npy", np.array([dict()]), allow_pickle=True)
    np.savez("other.npz", other=np.zeros(3))
    Path("ids.txt").write_text("a\nb\n")
    Path("twice.txt").write_text("a\na\n")
    given = [str(folder) if word == "PHOTOS" else word for word in arguments]
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        run("pick", network, tmp_path / "out", *given, "--budget=1")
    assert not (tmp_path / "out").exists()


def test_a_folder_of_files_and_directories_is_extracted_once_it_is_said_what_they_are(
    network, tmp_path, capsys
):
    photographs(tmp_path / "photos", 9, classes=3)
    photographs(tmp_path / "photos", 2)
    arguments = (network, tmp_path / "seen", str(tmp_path / "photos"))
    with pytest.raises(ValueError, match="if nothing is labelled, use labelled=False"):
        run("extract", *arguments)
    run("extract", *arguments, "--nolabelled")
    assert "11 images of photos" in capsys.readouterr().out


@pytest.mark.slow
def test_an_estimate_is_a_line_for_each_strategy(network, capsys):
    flag_values = flags.FlagValues()
    estimate.define_flags(flag_values)
    words = ["--rows=500", "--features=4", "--budget=10", "--classes=5", "--source_classes=0"]
    estimate.main(flag_values, command_line.parse(flag_values, words, program="balal"))
    told = capsys.readouterr().out
    assert "500 rows, 4 features, 0 source classes, 5 classes, a budget of 10. Device: " in told
    lines = [line for line in told.splitlines() if line.startswith("| ")]
    assert [line.split()[1] for line in lines] == ["strategy", "random", "core_set", "posterior"]
    cost = balal.estimate(balal.strategy("core_set"), 500, 4, 0, 5, 10)
    assert machine.written(cost.bytes) in lines[2]
    assert lines[2].split()[-2] == "yes"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 64 bytes."),
    ],
)
def test_too_little_memory_ends_in_a_sentence(error, capsys):
    with pytest.raises(SystemExit) as ended, command_line.user_errors(flags.FlagValues()):
        raise error
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(r"^error: out of memory \(.*\); .*B are free now: use fewer rows", said)


def test_what_the_library_says_of_too_little_memory_is_printed_as_it_is(capsys):
    with pytest.raises(SystemExit), command_line.user_errors(flags.FlagValues()):
        raise MemoryError("at most about 3 rows would fit") from MemoryError("std::bad_alloc")
    assert capsys.readouterr().err == "error: at most about 3 rows would fit\n"


def test_any_other_error_at_run_time_is_a_bug():
    with pytest.raises(RuntimeError, match="broken"), command_line.user_errors(flags.FlagValues()):
        raise RuntimeError("broken")


def test_an_estimate_for_a_strategy_that_needs_more_names_the_flag():
    flag_values = flags.FlagValues()
    estimate.define_flags(flag_values)
    words = ["--rows=500", "--source_classes=0", "--strategies=random,ent"]
    command_line.parse(flag_values, words, program="balal")
    with pytest.raises(ValueError, match="ent needs scores: pass --source_classes above 0"):
        estimate.main(flag_values, [])
    flag_values.strategies = ["posterior"]
    with pytest.raises(ValueError, match="posterior needs features: pass --features above 0"):
        estimate.main(flag_values, [])


def test_nothing_is_asked_where_everything_is_labelled():
    with pytest.raises(ValueError, match="photograph counted once: there is nothing to ask"):
        inputs.check_budget("photos", 1, left=0)


def test_an_estimate_says_what_does_not_fit():
    costs = dict(small=balal.cost.Cost(1, 0.0), large=balal.cost.Cost(10**10, 2e9))
    lines = estimate.table(costs, limit=10**9).splitlines()[2:]
    assert [line.split()[-2] for line in lines] == ["yes", "no"]


def test_the_doctor_lists_versions_weights_and_what_each_extra_adds(monkeypatch, tmp_path):
    requirements = [
        "jax>=0.8.1",
        "flax>=0.12.1; extra == 'models'",
        "balal[models]; extra == 'photos'",
        "no-such-package==0.1.0; extra == 'photos'",
    ]
    monkeypatch.setattr(doctor, "requirements_of_balal", lambda: requirements)
    monkeypatch.setattr(doctor.weights, "INSTALLABLE", {"efficientnet_lite0": "57934424"})
    monkeypatch.setattr(doctor.weights, "installed", lambda name: tmp_path / f"{name}.pth")
    found = doctor.sections()
    assert found["balal"][0].startswith(f"version {balal.__version__} in ")
    assert found["packages"] == [f"jax {doctor.installed('jax')}"]
    assert any(re.fullmatch(r"memory: [\d.]+ GB", line) for line in found["machine"])
    assert found["weights"] == [f"efficientnet_lite0 in {tmp_path / 'efficientnet_lite0.pth'}"]
    assert found["extras"][:2] == [
        "photos (all that picking among photographs needs): no-such-package missing; python -m pip "
        "install 'balal[photos]'",
        "models (source models and fine-tuning): installed",
    ]


def test_the_doctor_knows_every_extra_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert list(doctor.EXTRAS) == list(project["optional-dependencies"])


def test_the_doctor_prints_plain_text():
    done = balal_("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    headings = [line for line in done.stdout.splitlines() if not line.startswith("  ")]
    assert headings == ["balal:", "packages:", "machine:", "weights:", "extras:"]


COMMANDS = [
    pytest.param(name, line, id=line)
    for name, module in [("main", main), *main.COMMANDS.items()]
    for line in re.findall(r"^    balal (.*?)(?:   .*)?$", module.__doc__ or "", re.MULTILINE)
]


@pytest.mark.parametrize(("name", "line"), COMMANDS)
def test_every_command_in_a_description_is_understood(name, line):
    command, *arguments = shlex.split(line)
    assert name in ("main", command)
    flag_values = flags.FlagValues()
    main.COMMANDS[command].define_flags(flag_values)
    words = command_line.parse(flag_values, arguments, program="balal")
    assert len(words) <= 1


@pytest.mark.parametrize(
    "arguments", [["--help"], ["help"], [], *([name, "--help"] for name in main.COMMANDS)]
)
def test_help_teaches_by_example(arguments, capsys):
    main.run(arguments)
    told = capsys.readouterr().out
    assert re.search(r"^    balal \w", told, re.MULTILINE)
    if len(arguments) == 2:
        assert "traceback: Show where in the code" in told


def test_the_version_is_that_of_the_package(capsys):
    main.run(["--version"])
    assert capsys.readouterr().out == f"balal {balal.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["pik"], "there is no command 'pik': try pick"),
        (
            ["pick", "photos", "--bugdet=3"],
            "Unknown command line flag 'bugdet'. Did you mean: budget",
        ),
        (["pick", "--budget=none"], "budget"),
        (["pick", "--features=nowhere.npy"], "there is no file nowhere.npy"),
        (["pick"], "--data_dir is missing"),
        (["estimate"], "--rows is missing"),
        (["estimate", "100"], "the argument '100' belongs to no flag"),
        (["doctor", "now"], "doctor takes no arguments, got 'now'"),
    ],
)
def test_what_the_user_got_wrong_is_reported_in_one_sentence(arguments, told, capsys):
    with pytest.raises(SystemExit) as ended:
        main.run(arguments)
    found = capsys.readouterr()
    assert ended.value.code == 2
    assert found.out == ""
    assert found.err.startswith("error: ")
    assert told in found.err
    assert found.err.count("\n") == 1


def test_a_bug_shows_its_traceback_and_so_does_everything_on_request(monkeypatch):
    with pytest.raises(FileNotFoundError):
        main.run(["pick", "--features=nowhere.npy", "--traceback"])
    monkeypatch.setattr(main.COMMANDS["doctor"], "sections", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main.run(["doctor"])


def test_control_c_says_that_the_command_continues(monkeypatch, capsys):
    def stopped():
        raise KeyboardInterrupt

    monkeypatch.setattr(main.COMMANDS["doctor"], "sections", stopped)
    with pytest.raises(SystemExit) as ended:
        main.run(["doctor"])
    assert ended.value.code == 130
    assert "continues with what is finished" in capsys.readouterr().err


def test_an_option_of_the_library_is_reported_with_the_flag_that_a_program_has_for_it():
    here = {"skip_damaged": "--skip_damaged", "labelled": "--labelled", "dtype": "--dtype"}
    for told, added in (
        ("use labelled=False", "--nolabelled"),
        ("use dtype=float32", "--dtype=float32"),
        ("pass logits=... and skip_damaged=True", "--skip_damaged"),
    ):
        assert command_line.with_flags(told, here) == f"{told} (here: {added})"
    for told in ("pass logits=...", "--dtype=float32 is wrong", "no file photos/dtype=1/a.png"):
        assert command_line.with_flags(told, here) == told
    assert command_line.with_flags("use labelled=False", {"labelled": "balal pick"}).endswith(
        "(here: balal pick)"
    )


def test_a_missing_package_is_reported_with_the_one_command_for_photographs(tmp_path):
    photographs(tmp_path / "photos", 3)
    (tmp_path / "flax").mkdir()
    (tmp_path / "flax" / "__init__.py").write_text(
        "raise ModuleNotFoundError('No module named flax', name='flax')"
    )
    done = balal_(
        "pick",
        str(tmp_path / "photos"),
        "--budget=1",
        PYTHONPATH=f"{tmp_path}{os.pathsep}{ROOT}",
    )
    assert done.returncode == 2
    assert done.stderr == ("error: flax is not installed: python -m pip install 'balal[photos]'\n")


def test_a_process_ends_in_one_sentence_where_something_is_missing(tmp_path):
    (tmp_path / "notes.jpg").write_text("no picture")
    for arguments, told in (
        ((), "--data_dir is missing"),
        ((f"--data_dir={tmp_path / 'nowhere'}",), "there is no folder"),
        (
            (f"--data_dir={tmp_path}", f"--weights={tmp_path / 'notes.jpg'}", "--budget=1"),
            "leave them out with skip_damaged=True (here: --skip_damaged)",
        ),
    ):
        done = balal_("pick", f"--out={tmp_path / 'out'}", *arguments)
        assert done.returncode == 2
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_is_no_error():
    for arguments in (["--help"], ["pick", "--help"], ["doctor"], ["--version"]):
        reads, writes = os.pipe()
        os.close(reads)
        command = [sys.executable, "-m", "balal", *arguments]
        done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, cwd=ROOT, timeout=300)
        os.close(writes)
        assert (done.returncode, done.stderr) == (0, b""), arguments


@pytest.mark.skipif(sys.platform != "linux", reason="file names in any bytes")
def test_file_names_reach_a_terminal_as_text(network, tmp_path, capsys):
    """Escape bytes, bytes that are no UTF-8, and formulas; and they come back as answers."""
    names = ["red\x1b[31m.png", "line\nbreak.png", os.fsdecode(b"latin-\xe4.png"), "=1+1.png"]
    folder, out = tmp_path / "photos", tmp_path / "out"
    photographs(folder, 5)
    for number, name in enumerate(names):
        (folder / f"{number:03}.png").rename(folder / name)
    arguments = (f"--data_dir={folder}", f"--cache={tmp_path / 'features'}")
    run("pick", network, out, *arguments, "--budget=5")
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "red\\x1b[31m.png" in printed
    printed.encode()
    lines = lines_of(out / "picks.csv")
    assert "'=1+1.png" in {line["file"] for line in lines}
    asked = [line["file"] for line in lines if line["file"] != "004.png"]
    label(out / "picks.csv", asked)
    run("pick", network, out, *arguments, "--budget=1", f"--answers={out / 'picks.csv'}")
    answers = json.loads((out / "results.json").read_text())["answers"]
    assert set(answers) == {*names[:2], "latin-\\xe4.png", names[3]}


def test_what_lies_beside_photographs_is_passed_over_and_counted(network, tmp_path, capsys):
    """System files, tables, and what the command itself wrote inside the folder."""
    folder = photographs(tmp_path / "photos", 6)
    out = folder / "results"
    (folder / "@eaDir").mkdir()
    (folder / "@eaDir" / "000.png").write_bytes(b"a thumbnail")
    for name in ("Thumbs.db", ".DS_Store", "labels.csv"):
        (folder / name).write_bytes(b"?")
    arguments = (f"--data_dir={folder}", "--budget=2", f"--cache={out / 'kept'}")
    run("pick", network, out, *arguments)
    printed = capsys.readouterr().out
    assert "2 of 6 images" in printed
    assert "Passed over, as no images (4): .DS_Store, @eaDir, Thumbs.db, labels.csv." in printed
    before = (out / "picks.csv").read_bytes()
    run("pick", network, out, *arguments)
    assert (out / "picks.csv").read_bytes() == before
    assert "2 of 6 images" in capsys.readouterr().out


def test_copies_of_a_photograph_are_asked_once(network, tmp_path, capsys):
    folder, out = photographs(tmp_path / "photos", 4), tmp_path / "out"
    for number in range(4, 9):
        shutil.copy(folder / "002.png", folder / f"{number:03}.png")
    arguments = (f"--data_dir={folder}", f"--cache={tmp_path / 'features'}")
    with pytest.raises(ValueError, match="only 4 of photos are not labelled, each photograph"):
        run("pick", network, out, *arguments, "--budget=5")
    run("pick", network, out, *arguments, "--budget=4")
    assert "Copies, which are not asked again (5): 004.png of 002.png, " in capsys.readouterr().out
    asked = [line["file"] for line in lines_of(out / "picks.csv")]
    assert sorted(asked) == ["000.png", "001.png", "002.png", "003.png"]
    # An answer for one of them is an answer for all.
    answers = tmp_path / "answers.csv"
    answers.write_text("file,label\n005.png,cat\n000.png,dog\n")
    run("pick", network, tmp_path / "o", *arguments, "--budget=2", f"--answers={answers}")
    asked = [line["file"] for line in lines_of(tmp_path / "o" / "picks.csv") if not line["label"]]
    assert sorted(asked) == ["001.png", "003.png"]
    answers.write_text("file,label\n005.png,cat\n002.png,dog\n")
    with pytest.raises(ValueError, match="are the same photograph and have different labels"):
        run("pick", network, tmp_path / "p", *arguments, "--budget=2", f"--answers={answers}")


def found(text: str, contents: dict[str, str], tmp_path: Path, **options) -> matching.Match:
    """What a table with the columns file, label and sha256 is about, among files with contents."""
    (tmp_path / "answers.csv").write_text("file,label,sha256\n" + text)
    path = tmp_path / "answers.csv"
    lines = answer_files.read(path)
    return matching.match(path, lines, list(contents), "photos", contents=contents, **options)


A, B, C, D = (letter * 64 for letter in "abcd")
WAS_A, WAS_B, WAS_C = (matching.digest(content) for content in (A, B, C))


def test_a_renamed_photograph_is_found_by_its_content(tmp_path):
    match = found(f"a.jpg,cat,{WAS_A}\nb.jpg,dog,{WAS_B}\n", {"new/a.jpg": A, "b.jpg": B}, tmp_path)
    assert match.labels == {"new/a.jpg": "cat", "b.jpg": "dog"}
    assert (match.moved, match.changed, match.gone) == ({"a.jpg": "new/a.jpg"}, [], [])


def test_content_decides_where_a_name_belongs_to_another_photograph_now(tmp_path):
    text = f"1.jpg,cat,{WAS_A}\n2.jpg,dog,{WAS_B}\n3.jpg,ape,{WAS_C}\n"
    match = found(text, {"2.jpg": A, "3.jpg": B, "1.jpg": C}, tmp_path)
    assert match.labels == {"2.jpg": "cat", "3.jpg": "dog", "1.jpg": "ape"}
    assert len(match.moved) == 3


def test_a_photograph_that_was_edited_keeps_its_label_and_is_named(tmp_path):
    match = found(f"a.jpg,cat,{WAS_A}\nb.jpg,dog,{WAS_B}\n", {"a.jpg": D, "b.jpg": B}, tmp_path)
    assert match.labels == {"a.jpg": "cat", "b.jpg": "dog"}
    assert (match.moved, match.changed) == ({}, ["a.jpg"])


def test_a_photograph_that_is_gone_is_named_and_the_others_count(tmp_path):
    match = found(f"a.jpg,cat,{WAS_A}\nb.jpg,dog,{WAS_B}\n", {"b.jpg": B}, tmp_path)
    assert (match.labels, match.gone) == ({"b.jpg": "dog"}, ["a.jpg"])
    assert match.files == {2: "a.jpg", 3: "b.jpg"}


def test_a_damaged_photograph_is_gone_even_where_its_content_was_not_known(tmp_path):
    match = found("a.jpg,cat,\nb.jpg,dog,\n", {"b.jpg": B}, tmp_path, damaged=["a.jpg"])
    assert match.gone == ["a.jpg"]


def test_a_name_that_nothing_says_was_there_is_refused_with_its_line(tmp_path):
    with pytest.raises(ValueError, match=r"not in photos: a\.jpgg \(line 3; there is a"):
        found(f"b.jpg,dog,{WAS_B}\na.jpgg,cat,\n", {"a.jpg": A, "b.jpg": B}, tmp_path)


def test_another_folder_is_not_one_from_which_everything_has_gone(tmp_path):
    text = f"a.jpg,cat,{WAS_A}\nb.jpg,dog,{WAS_B}\n"
    with pytest.raises(
        ValueError, match=r"no file that has a label .* \(a\.jpg, b\.jpg\): is it the"
    ):
        found(text, {"c.jpg": C}, tmp_path)


def test_of_copies_the_one_that_is_known_by_name_is_not_taken_for_a_moved_one(tmp_path):
    text = f"a.jpg,cat,{WAS_A}\nb.jpg,cat,{WAS_A}\n"
    match = found(text, {"b.jpg": A, "c.jpg": A}, tmp_path)
    assert match.moved == {"a.jpg": "c.jpg"}
    assert match.labels == {"c.jpg": "cat", "b.jpg": "cat"}
    # Where there are fewer files than lines, they share one, and their labels must be the same.
    assert found(text, {"d.jpg": A}, tmp_path).labels == {"d.jpg": "cat"}
    with pytest.raises(
        ValueError,
        match=r"for 'd\.jpg': 'cat' in line 2 \(a\.jpg\) and 'dog' in line 3 \(b\.jpg\); keep",
    ):
        found(text.replace("b.jpg,cat", "b.jpg,dog"), {"d.jpg": A}, tmp_path)


@pytest.mark.parametrize("cell", ["1.23E+15", "abc", "#NAME?", "aaaaaaaaaaaaaaag..."])
def test_a_cell_that_is_no_sha256_is_refused_with_its_line(cell, tmp_path):
    with pytest.raises(ValueError, match=r"line 2 of .* in its column sha256, which is not 16 to"):
        found(f"a.jpg,cat,{cell}\n", {"a.jpg": A}, tmp_path)


def test_a_whole_sha256_in_capitals_is_one_too(tmp_path):
    assert found(f"a.jpg,cat,{A.upper()}\n", {"z.jpg": A}, tmp_path).labels == {"z.jpg": "cat"}


def test_photographs_may_be_moved_edited_and_deleted_between_rounds(
    network, folder, tmp_path, capsys
):
    now, out = tmp_path / "photos", tmp_path / "out"
    shutil.copytree(folder, now)
    (now / "class").mkdir()
    (now / "000.png").rename(now / "class" / "x.png")
    shutil.copy(folder / "069.png", now / "001.png")
    (now / "069.png").unlink()
    (now / "002.png").unlink()
    digests = [
        matching.digest(hashlib.sha256((folder / f"00{row}.png").read_bytes()).hexdigest())
        for row in range(4)
    ]
    answers = tmp_path / "answers.csv"
    answers.write_text(
        "file,label,sha256,notes\n"
        + "".join(f"00{row}.png,cat,{digest},so\n" for row, digest in enumerate(digests))
    )
    arguments = (f"--data_dir={now}", "--budget=3", "--strategy=random")
    arguments += (f"--cache={tmp_path / 'features'}",)
    run("pick", network, out, *arguments, f"--answers={answers}")
    told = capsys.readouterr().out
    assert "after 3 answers" in told
    assert "Found by their content under another name (1): class/x.png (was 000.png)." in told
    assert "Changed since they were picked (1): 001.png. Their labels still count" in told
    assert "Labelled, but gone or damaged (1): 002.png. Their lines are kept" in told
    lines = lines_of(out / "picks.csv")
    carried, asked = lines[:4], lines[4:]
    assert [line["file"] for line in carried] == ["class/x.png", "001.png", "002.png", "003.png"]
    assert {line["notes"] for line in carried} == {"so"}
    assert [line["sha256"] for line in carried[::2]] == digests[::2]
    assert len(asked) == 3
    assert not {line["file"] for line in asked} & {line["file"] for line in carried}
    # What was told once is not told again, except for what is gone.
    seen, path = data.folder(now, labelled=False), out / "picks.csv"
    match = matching.match(
        path,
        answer_files.read(path),
        seen.ids,
        "photos",
        contents={file: each.hex() for file, each in zip(seen.ids, seen.contents, strict=True)},
    )
    assert (match.moved, match.changed, match.gone) == ({}, [], ["002.png"])


def test_a_strategy_that_asks_the_target_model_takes_what_it_predicts(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("features", 3), ("logits", 1)):
        np.save(tmp_path / f"{name}.npy", rng.normal(size=(12, size)).astype(np.float32))
    files = [f"--{name}={tmp_path / name}.npy" for name in ("features", "logits")]
    run("pick", None, tmp_path / "out", *files, "--strategy=badge", "--budget=2")
    assert len(lines_of(tmp_path / "out" / "picks.csv")) == 2
    for strategy in ("badge", "tail_first"):
        with pytest.raises(ValueError, match=r"asks the target model, and there is none yet: fit"):
            run("pick", None, tmp_path / "other", f"--strategy={strategy}", "--data_dir=photos")


def test_who_comes_second_to_a_folder_is_told_before_a_photograph_is_opened(
    network, folder, tmp_path, monkeypatch
):
    told = []

    def start(command, *arguments):
        own = ["--source=small", f"--weights={network}", f"--cache={tmp_path / 'cache'}"]
        flag_values = flags.FlagValues()
        main.COMMANDS[command].define_flags(flag_values)
        words = command_line.parse(flag_values, [*own, str(folder), *arguments], program="balal")
        main.COMMANDS[command].main(flag_values, words)

    def checked(*_, **__):
        # While the first one checks, which may take minutes.
        others = dict(pick=["--budget=2", f"--out={tmp_path / 'second'}"], extract=[])
        for command, arguments in others.items():
            with pytest.raises(ValueError, match=r"is in use by process \d+ on .*: wait") as error:
                start(command, *arguments)
            told.append(str(error.value))
        raise ValueError("that is all")

    monkeypatch.setattr(images.data, "folder", checked)
    with pytest.raises(ValueError, match="that is all"):
        start("pick", "--budget=2", f"--out={tmp_path / 'first'}")
    assert len(told) == 2
    assert all(text.endswith("name another --cache") and str(folder) in text for text in told)
    assert not list(tmp_path.rglob(".lock"))
