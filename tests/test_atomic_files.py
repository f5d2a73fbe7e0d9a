"""Files that are written whole or not at all, one or several; test_crashes.py has real kills."""

import os
import subprocess
import threading

import pytest

from balal.atomic_files import atomic_write, settle, together


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "answers.csv"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:  # noqa: PT012
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [found.name for found in tmp_path.iterdir()] == ["answers.csv"]


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    path = tmp_path / "answers.csv"

    def other():
        with atomic_write(path) as file:
            file.write(b"other")

    with atomic_write(path) as file:
        file.write(b"first, ")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert path.read_text() == "other"
        file.write(b"and whole")
    assert path.read_text() == "first, and whole"


def test_files_that_belong_together_appear_once_all_are_whole(tmp_path):
    with together(tmp_path, first="a") as staged:
        (staged / "a").write_text("a")
        (staged / "b").write_text("b")
        assert visible(tmp_path) == {}
    assert visible(tmp_path) == dict(a="a", b="b")
    with pytest.raises(KeyboardInterrupt), together(tmp_path, first="a") as staged:  # noqa: PT012
        (staged / "a").write_text("newer")
        raise KeyboardInterrupt
    assert visible(tmp_path) == dict(a="a", b="b")
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("replaced", [True, False])
def test_what_was_written_in_the_first_file_after_a_kill_is_never_lost(replaced, tmp_path):
    (tmp_path / ".together.ready").mkdir()
    (tmp_path / ".together.ready" / "page").write_text("new")
    (tmp_path / "page").write_text("old")
    (tmp_path / "picks").write_text("with labels")
    if not replaced:
        (tmp_path / ".together.ready" / "picks").write_text("without")
    settle(tmp_path, first="picks")
    assert visible(tmp_path) == dict(picks="with labels", page="new" if replaced else "old")
    assert len(list(tmp_path.iterdir())) == 2


def test_only_what_processes_that_have_ended_left_is_deleted(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f".a.{gone.pid}-1.unfinished", f".b.{os.getpid()}-1.unfinished", ".c.unfinished"]
    for name in names:
        (tmp_path / name).touch()
    settle(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == names[1:]


def visible(folder):
    return {
        path.name: path.read_text() for path in folder.iterdir() if not path.name.startswith(".")
    }
