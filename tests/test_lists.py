"""A list of files and a table of labels: which images are meant, and what is told of the others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from small_network import photographs

from balal import data
from balal.cli import extract, image_options, images, inputs, matching, pick, remarks
from balal.cli.command_line import parse
from balal.data import folders


@pytest.fixture
def photos(tmp_path) -> Path:
    """Seven photographs, two of them in a directory, and one file that is damaged."""
    folder = photographs(tmp_path / "photos", 6)
    (folder / "more").mkdir()
    shutil.copy(folder / "003.png", folder / "more" / "a.png")
    (folder / "more" / "damaged.png").write_bytes(b"?")
    return folder


def read(photos: Path, *arguments: str, **options) -> data.Images:
    """The pool of a program with these flags."""
    flag_values = flags.FlagValues()
    image_options.define_flags(flag_values)
    parse(flag_values, [f"--data_dir={photos}", *arguments], program="balal")
    return images.read_pool(image_options.read_options(flag_values), **options)


def listed(photos: Path, text: str) -> str:
    (photos.parent / "list.txt").write_text(text)
    return f"--files={photos.parent / 'list.txt'}"


def table(photos: Path, text: str) -> str:
    (photos.parent / "table.csv").write_text(text)
    return f"--labels={photos.parent / 'table.csv'}"


def test_only_the_files_of_a_list_are_opened(photos):
    found = read(photos, listed(photos, "more/a.png\n\n001.png\n"), labelled=False)
    assert (found.ids, found.skipped) == (("001.png", "more/a.png"), ())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("001.png\n9.png\n", r"list\.txt names files that are not in photos: 9\.png \(line 2\); "),
        ("001\n", r"001 \(line 1; there is 001\.png\)"),
        ("\n001.PNG\n", r"001\.PNG \(line 2; there is 001\.png\)"),
        ("./photos/more/a.png\n", r"there is more/a\.png\)"),
        ("more\\\\a.png\n", r"there is more/a\.png\)"),
        ("001.png\n002.png\n001.png\n", "names '001.png' twice, in line 1 and in line 3: delete"),
        ("001.png\n001.png \n", "names '001.png' twice, in line 1 and in line 2"),
        ('"001.png"\n', r"there is 001\.png\)"),
        ("a" * 999 + "\n", r"photos: a{97}\.\.\. \(line 1\); write"),
        ("\n \n", "names no file: write one name a line"),
        ("file,label\n001.png,cat\n", r"file,label \(line 1\), 001\.png,cat \(line 2"),
    ],
)
def test_a_list_that_names_something_else_is_refused_with_its_line(photos, text, told):
    with pytest.raises(ValueError, match=told):
        read(photos, listed(photos, text), labelled=False)


def test_the_name_that_may_have_been_meant_is_the_only_one_that_is_near():
    near = matching._nearest(["1.png", "sub/1.png", "x/B.JPG", "a.tar.png"])
    assert near("sub\\1.png") == near("SUB/1") == "sub/1.png"
    assert near("./1.PNG") == near("1") == "1.png"
    assert near("elsewhere/b.jpeg") == near("b") == "x/B.JPG"
    assert near("a.tar.jpg") == "a.tar.png"
    for name in ("elsewhere/1.png", "", ".", "..", "/", "c"):
        assert near(name) is None, name


def test_a_table_gives_the_labels_and_what_has_none_is_left_out_or_unlabelled(photos):
    labels = table(photos, "file,label\n002.png,dog\nmore/a.png,cat\n000.png,\n")
    found = read(photos, labels, labelled=True)
    assert (found.ids, found.labels.tolist()) == (("002.png", "more/a.png"), [1, 0])
    assert found.class_names == ("cat", "dog")
    assert "as they have no label (6): 000.png, 001.png" in remarks.left_out(found)
    found = read(photos, labels, "--skip_damaged")
    assert (len(found), found.labels.tolist()) == (7, [-1, -1, 1, -1, -1, -1, 0])
    assert "Without a label (5): 000.png, 001.png" in remarks.left_out(found)


def test_a_table_and_a_list_go_together(photos):
    labels = table(photos, "image;class\n002.png;dog\n003.png;cat\n")
    names = ("--file_column=image", "--label_column=class")
    found = read(photos, labels, *names, listed(photos, "002.png\n001.png"), labelled=True)
    assert (found.ids, found.class_names, found.empty_classes) == (
        ("002.png",),
        ("cat", "dog"),
        ("cat",),
    )
    assert found.unlabelled == ("001.png",)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("file,label\n002,dog\n", r"002 \(line 2; there is 002\.png\); correct"),
        (
            "file,label\n002.png,dog\n002.png,cat\n",
            "different labels for '002.png': 'dog' in line 2",
        ),
        ("file,label\n002.png,dog\n001.png,Dog\n", "labels that look alike"),
        ("file,label\n002.png,\n", "has no label in its column label"),
        ("name,label\n002.png,dog\n", "must have the columns file and label"),
        (f"file,label,sha256\n1.png,a,{'a' * 64}\n0.png,b,{'b' * 64}\n", "is it the right folder"),
        (f"file,label,sha256\n001.png,a,\n0.png,b,{'b' * 64}\n", r"not in photos: 0\.png; delete"),
    ],
)
def test_a_table_that_does_not_fit_is_refused_with_its_line(photos, text, told):
    with pytest.raises(ValueError, match=told):
        read(photos, table(photos, text), labelled=True)


@pytest.mark.parametrize(
    ("arguments", "labelled", "told"),
    [
        (["--labels=t.csv", "--dataset=arrays"], True, "--labels gives labels to the images of a"),
        (["--labels=t.csv"], False, "--labels and --nolabelled contradict each other"),
        (["--labels=t.csv", "--dataset=cifar100"], True, "leave out --labels"),
        (["--files=t.csv", "--dataset=mit67"], True, "leave out --files"),
    ],
)
def test_what_has_labels_of_its_own_takes_no_table(photos, monkeypatch, arguments, labelled, told):
    monkeypatch.chdir(photos.parent)
    Path("t.csv").write_text("file,label\n001.png,cat\n")
    with pytest.raises(ValueError, match=told):
        read(photos, *arguments, labelled=labelled)


def test_the_test_images_take_neither_list_nor_table(network, photos):
    flag_values = flags.FlagValues()
    extract.define_flags(flag_values)
    given = ["--split=test", "--files=list.txt", "--source=small", f"--weights={network}"]
    parse(flag_values, [str(photos), *given], program="balal")
    with pytest.raises(ValueError, match="--files and --labels are about the pool"):
        extract.main(flag_values, [str(photos)])


def picked(network, photos: Path, *arguments: str) -> list[str]:
    """The files that a round of `balal pick` asks for."""
    flag_values = flags.FlagValues()
    pick.define_flags(flag_values)
    own = [f"--out={photos.parent / 'out'}", "--source=small", f"--weights={network}"]
    own += ["--batch_size=2", f"--cache={photos.parent / 'features'}", "--strategy=random"]
    words = parse(flag_values, [*own, f"--data_dir={photos}", *arguments], program="balal")
    pick.main(flag_values, words)
    lines = (photos.parent / "out" / "picks.csv").read_text().splitlines()[1:]
    return sorted(line.split(",")[1] for line in lines if line.split(",")[0])


def test_only_what_is_listed_is_asked_but_every_answer_counts(network, photos, monkeypatch, capsys):
    def first(name, pool, answers, *, budget, **_):
        """The first rows, which takes no compiling."""
        rows = [row for row in np.flatnonzero(pool.candidates) if row not in answers][:budget]
        return rows, ["the first"] * len(rows)

    monkeypatch.setattr(pick, "pick", first)
    names = listed(photos, "001.png\n004.png\nmore/a.png\n")
    (photos.parent / "answers.csv").write_text("file,label\n005.png,cat\n004.png,dog\n")
    answers = f"--answers={photos.parent / 'answers.csv'}"
    assert picked(network, photos, names, answers, "--budget=2") == ["001.png", "more/a.png"]
    assert "after 2 answers" in capsys.readouterr().out
    with pytest.raises(ValueError, match="only 2 of photos are not labelled"):
        picked(network, photos, names, answers, "--budget=3")


def test_a_listed_photograph_is_asked_unless_a_copy_of_it_is_answered():
    ids = ("a", "b", "c", "d")
    contents = (b"same", b"same", b"other", b"other")
    pictures = data.Images(
        "photos", ids, np.full(4, -1, np.int32), (), lambda row: row, "made up", contents=contents
    )
    choice = inputs.Choice("photos", ids, pictures, None, frozenset("bcd"))
    assert inputs.asked_once(choice, {}).tolist() == [False, True, True, False]
    assert inputs.asked_once(choice, {"a": "cat"}).tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--data_dir=empty"], "there are no images in empty"),
        (["--budget=9"], "--budget asks for 9 images, but only 8 of photos are not labelled"),
        (["--answers=a.csv"], r"not in photos: 001 \(line 2; there is 001\.png\); correct"),
        (["--source=nonsense"], "there is no source model 'nonsense'"),
        (["--weights=nowhere.pth"], r"there is no file of weights nowhere\.pth"),
        (["--strategy=nonsense"], "nonsense"),
        (["--out=a.csv"], r"a\.csv is a file: name a folder to write to"),
    ],
)
def test_what_needs_no_photograph_is_told_before_one_is_opened(
    network, photos, monkeypatch, arguments, told
):
    def opened(*_):
        raise AssertionError("a photograph was opened")

    monkeypatch.chdir(photos.parent)
    monkeypatch.setattr(folders, "_checked", opened)
    Path("a.csv").write_text("file,label\n001,cat\n")
    Path("empty").mkdir()
    with pytest.raises((ValueError, OSError), match=told):
        picked(network, photos, "--budget=1", *arguments)
