"""Files that are written whole or not at all."""

import threading

import pytest

from balal.array_file import atomic_write


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
